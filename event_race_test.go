package websocket_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sockeye-ws/websocket"
)

// ticking makes the clock of a server tick in this time, and pings nobody.
func ticking(tick time.Duration) websocket.Config {
	return websocket.Config{PingInterval: time.Hour, PingTimeout: 16 * tick, Logger: slog.New(slog.DiscardHandler)}
}

// overSockets calls f with a bench of TCP and one of TLS, whose connections
// are in event mode by events.
func overSockets(t *testing.T, config websocket.Config, events func(c *websocket.Conn) websocket.Events, f func(t *testing.T, b *bench, u *websocket.Upgrader)) {
	for _, name := range []string{"TCP", "TCP without a net.Conn", "TLS"} {
		t.Run(name, func(t *testing.T) {
			u := &websocket.Upgrader{Config: config, Handler: func(c *websocket.Conn) error {
				c.Start(events(c))
				return nil
			}}
			u.ReleaseConns = name == "TCP without a net.Conn"
			b := loopback(t, u, name == "TLS", 0)
			defer b.stop()
			f(t, b, u)
		})
	}
}

// echoing answers each message.
var echoing = func(*websocket.Conn) websocket.Events { return echoEvents{} }

type echoEvents struct{}

func (echoEvents) Message(c *websocket.Conn, typ websocket.MessageType, p []byte) error {
	if len(p)%2 == 0 {
		return c.Send(typ, p)
	}
	return c.Write(context.Background(), typ, p)
}

func (echoEvents) Closed(*websocket.Conn, error) {}

// serving are the goroutines that serve a connection in event mode, as the
// heads of their stacks: "goroutine 12".
func serving() []string { return servingIn("") }

// servingIn are those of them that are in this state, as stacks say it.
func servingIn(state string) (names []string) {
	buf := make([]byte, 4<<20)
	for _, stack := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(stack, "(*Conn).serveEvents(") {
			name, rest, _ := strings.Cut(stack, " [")
			if strings.HasPrefix(rest, state) {
				names = append(names, name)
			}
		}
	}
	return names
}

// wantServing waits until n goroutines serve.
func wantServing(t *testing.T, n int) {
	t.Helper()
	if settled(func() string { return strings.Repeat("x", abs(len(serving())-n)) }) != "" {
		t.Fatalf("%d goroutines serve connections, want %d: %v", len(serving()), n, serving())
	}
}

func abs(n int) int { return max(n, -n) }

// No wake is lost, wherever a message meets the parking of its connection.
func TestEventsWakesAreNotLost(t *testing.T) {
	conns, rounds := 200, 25
	if testing.Short() {
		conns, rounds = 50, 10
	}
	overSockets(t, ticking(time.Millisecond), echoing, func(t *testing.T, b *bench, _ *websocket.Upgrader) {
		var wg sync.WaitGroup
		for i := range conns {
			p := b.peer("each message is answered")
			p.Patience = 20 * time.Second
			rng := rand.New(rand.NewPCG(uint64(i), 1))
			wg.Go(func() {
				defer p.Close()
				for round := range rounds {
					data := fmt.Sprint(i, round, strings.Repeat("x", rng.IntN(2)))
					frame := masked(0x82, data)
					if cut := rng.IntN(2 * len(frame)); cut < len(frame) {
						p.WritePieces(frame[:cut])
						runtime.Gosched()
						p.WritePieces(frame[cut:])
					} else {
						p.WritePieces(frame)
					}
					p.WantBytes(binaryFrame(data))
					if p.Failed() {
						return
					}
					// Now and then long enough to be parked, now and then
					// about as long as that takes.
					for range rng.IntN(4) * rng.IntN(50) {
						runtime.Gosched()
					}
					if rng.IntN(8) == 0 {
						<-time.After(time.Duration(rng.IntN(4000)) * time.Microsecond)
					}
				}
			})
		}
		wg.Wait()
	})
}

// A large message whose rest comes just as its connection was to be parked
// does not end it.
func TestEventsLargeMessagesInTwoParts(t *testing.T) {
	const conns, rounds = 50, 12
	payload := strings.Repeat("x", 100<<10)
	frame := masked(0x82, payload)
	answer := func(*websocket.Conn) websocket.Events {
		return newHearer(t, func(c *websocket.Conn, typ websocket.MessageType, p []byte) error {
			return c.Send(typ, p[:1])
		})
	}
	overSockets(t, ticking(time.Millisecond), answer, func(t *testing.T, b *bench, _ *websocket.Upgrader) {
		var wg sync.WaitGroup
		for i := range conns {
			p := b.peer("the message is answered")
			p.Patience = 20 * time.Second
			wg.Go(func() {
				defer p.Close()
				for k := 0; k < rounds && !p.Failed(); k++ {
					p.WritePieces(frame[:50<<10])
					<-time.After(time.Millisecond + time.Duration((k*37+i*11)%200)*10*time.Microsecond)
					p.WritePieces(frame[50<<10:])
					p.WantBytes(binaryFrame("x"))
				}
			})
		}
		wg.Wait()
	})
}

// A Ping that is in progress as Start is called does not end the connection,
// nor does it keep messages from being heard.
func TestEventsStartMeetsPings(t *testing.T) {
	conns := make(chan *websocket.Conn, 1)
	b := overTCP(t, http101(func(c *websocket.Conn) { conns <- c }))
	defer b.stop()
	for i := range 80 {
		p := b.peer("a message is heard")
		c := <-conns
		var pinging sync.WaitGroup
		for range 2 {
			pinging.Go(func() {
				for c.Context().Err() == nil {
					c.Ping(c.Context())
				}
			})
		}
		answered := make(chan struct{})
		h := newHearer(t, nil)
		go func() {
			defer close(answered)
			for k := 0; ; k++ {
				f, ok := p.Next()
				if !ok || f.Op != 9 {
					return // closed by now
				}
				p.WritePieces(masked(0x8a, string(f.Payload)))
				if k == i%20 {
					go c.Start(h)
				}
				if k == i%20+20 {
					p.WritePieces(masked(0x81, "a"))
				}
			}
		}()
		select {
		case <-h.heard:
		case err := <-h.closed:
			t.Errorf("closed with %v", err)
		case <-time.After(20 * time.Second):
			t.Error("the message is not heard")
		}
		c.Close(1000, "")
		<-answered
		p.Close()
		pinging.Wait()
		if t.Failed() {
			break
		}
	}
}

// Messages come in order and one at a time, whatever else goes on: writes of
// others, pings of both sides, and parking. (A hearer fails for two at once.)
func TestEventsInOrder(t *testing.T) {
	const conns, messages = 20, 300
	config := ticking(time.Millisecond)
	config.PingInterval = 16 * time.Millisecond
	config.PingTimeout = 20 * time.Second
	config.WriteQueue = 64 << 20
	var mu sync.Mutex
	hearers := map[string]*hearer{}
	events := func(c *websocket.Conn) websocket.Events {
		next := uint32(0)
		h := newHearer(t, func(c *websocket.Conn, _ websocket.MessageType, p []byte) error {
			if n := binary.BigEndian.Uint32(p); n != next {
				t.Errorf("message %d comes after %d", n, next-1)
			}
			if next++; next == messages {
				return &websocket.CloseError{Code: 4000}
			}
			return nil
		})
		go func() {
			for c.Context().Err() == nil {
				c.Send(websocket.Binary, []byte("s"))
				c.Write(c.Context(), websocket.Binary, []byte("w"))
				c.Ping(c.Context())
			}
		}()
		mu.Lock()
		defer mu.Unlock()
		hearers[c.RemoteAddr().String()] = h
		return h
	}
	overSockets(t, config, events, func(t *testing.T, b *bench, _ *websocket.Upgrader) {
		var wg sync.WaitGroup
		for i := range conns {
			p := b.peer("in order, one at a time")
			p.Patience = 20 * time.Second
			rng := rand.New(rand.NewPCG(uint64(i), 2))
			pongs := make(chan []byte, 10_000)
			wg.Go(func() {
				for n := uint32(0); n < messages && !p.Failed(); n++ {
					frame := masked(0x82, string(binary.BigEndian.AppendUint32(nil, n))+strings.Repeat("x", rng.IntN(300)))
					select {
					case pong := <-pongs:
						frame = append(frame, masked(0x8a, string(pong))...)
					default:
					}
					if n%16 == 0 {
						<-time.After(time.Duration(rng.IntN(3000)) * time.Microsecond)
						frame = append(frame, masked(0x89, "?")...)
					}
					p.Conn().Write(frame)
				}
			})
			wg.Go(func() {
				defer p.Close()
				for {
					f, ok := p.Next()
					if ok && f.Op == 9 {
						pongs <- f.Payload
					}
					if !ok || f.Op == 8 {
						if ok && !bytes.Equal(f.Payload, []byte{0x0f, 0xa0}) {
							t.Errorf("closed with %x", f.Payload)
						}
						return
					}
				}
			})
		}
		wg.Wait()
	})
	for _, h := range hearers {
		if err := <-h.closed; !errors.As(err, new(*websocket.CloseError)) || err.(*websocket.CloseError).Code != 4000 {
			t.Errorf("closed with %v", err)
		}
	}
}

// A descriptor that is closed and used again at once brings nobody the wakes of
// another: each connection hears what was sent on it.
func TestEventsDescriptorsAreUsedAgain(t *testing.T) {
	rounds := 300
	if testing.Short() {
		rounds = 60
	}
	var open, closed atomic.Int32
	events := func(c *websocket.Conn) websocket.Events {
		open.Add(1)
		me := c.RemoteAddr().String()
		h := newHearer(t, func(c *websocket.Conn, typ websocket.MessageType, p []byte) error {
			if string(p) != me {
				t.Errorf("%s hears what %s was sent", me, p)
			}
			return c.Send(typ, p)
		})
		h.after = func() { closed.Add(1) }
		return h
	}
	overSockets(t, ticking(time.Millisecond), events, func(t *testing.T, b *bench, u *websocket.Upgrader) {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for i := range rounds / 8 {
					p := b.peer("its own messages, and no others")
					me := p.Conn().LocalAddr().String()
					for range 1 + i%3 {
						p.WritePieces(masked(0x82, me))
						p.WantBytes(binaryFrame(me))
					}
					switch i % 4 {
					case 0:
						p.WritePieces(masked(0x82, me)) // wakes it, and is gone
					case 1:
						if tcp, ok := p.Conn().(*net.TCPConn); ok {
							tcp.SetLinger(0)
						}
					case 2:
						for c := range u.Conns() {
							if c.RemoteAddr().String() == me {
								c.CloseNow()
							}
						}
					}
					p.Close()
				}
			})
		}
		wg.Wait()
		untilGone(t, u)
		if o, c := open.Load(), closed.Load(); o != c {
			t.Errorf("%d connections were opened, %d were told of their end", o, c)
		}
	})
}

// A connection that ends while its messages are delivered is told once, after
// the last of them.
func TestEventsEndMeetsDelivery(t *testing.T) {
	for round := range 100 {
		h := newHearer(t, func(*websocket.Conn, websocket.MessageType, []byte) error { runtime.Gosched(); return nil })
		conns := make(chan *websocket.Conn, 1)
		b := overTCP(t, http101(func(c *websocket.Conn) { c.Start(h); conns <- c }))
		p := b.peer("the end comes once")
		c := <-conns
		go func() {
			for range 50 + round {
				runtime.Gosched()
			}
			if round%2 == 0 {
				c.CloseNow()
			} else {
				c.Close(4000, "")
			}
		}()
		frame := masked(0x82, "x")
		for range 200 {
			if _, err := p.Conn().Write(frame); err != nil {
				break
			}
		}
		p.Close()
		err := <-h.closed
		if e, ok := err.(*websocket.CloseError); !ok || err != c.CloseNow() || e.Code != 4000 && e.Code != 1006 {
			t.Errorf("closed with %v", err)
		}
		b.stop()
	}
}

// The context of a Read may be cancelled when that has returned, as is usual:
// its callback, which runs then, meets nothing that has become another's.
func TestEventsStartAfterAContextWasCancelled(t *testing.T) {
	conns := make(chan *websocket.Conn, 1)
	b := overTCP(t, http101(func(c *websocket.Conn) { conns <- c }))
	defer b.stop()
	for range 300 {
		p := b.peer("a greeting by Read, the rest by Start")
		c := <-conns
		h := newHearer(t, nil)
		ctx, cancel := context.WithCancel(context.Background())
		greeting := async(func() error { _, _, err := c.Read(ctx); return err })
		p.WritePieces(masked(0x81, "greeting"))
		if err := <-greeting; err != nil {
			t.Fatal(err)
		}
		cancel()
		c.Start(h)
		p.WritePieces(masked(0x81, "a"))
		<-h.heard
		p.Close()
		<-h.closed
	}
}
