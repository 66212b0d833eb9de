package websocket_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/conformance"
	"github.com/sockeye-ws/websocket/internal/memconn"
)

// Connections that come in the same instant are not pinged in the same tick:
// spread evenly over the last quarter of PingInterval, and none after it.
func TestPingsAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, ticks = 1000, 16 // 22.5 s to 30 s, both included
		u := &websocket.Upgrader{Config: websocket.Config{Logger: slog.New(slog.DiscardHandler)}}
		start := time.Now()
		var mu sync.Mutex
		pinged := map[time.Duration]int{}
		var clients sync.WaitGroup
		for range n {
			client := idleConn(t, u)
			clients.Go(func() {
				defer client.Close()
				if _, err := io.ReadFull(client, make([]byte, 2+8)); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				pinged[time.Since(start)]++
			})
		}
		clients.Wait()
		for d, k := range pinged {
			if d < 22500*time.Millisecond || d > 30*time.Second || k < n/ticks-4 || k > n/ticks+4 {
				t.Errorf("%d of %d are pinged at %v, want about %d in each tick of the last quarter of 30 s", k, n, d, n/ticks)
			}
		}
		if len(pinged) != ticks {
			t.Errorf("pinged in %d ticks, want %d", len(pinged), ticks)
		}
		for c := range u.Conns() {
			c.CloseNow()
		}
	})
}

// idleConn makes a connection of u that nobody reads, and returns the client's
// end after the handshake.
func idleConn(t *testing.T, u *websocket.Upgrader) *memconn.Conn {
	t.Helper()
	client, server := memconn.Pair()
	if _, err := u.Upgrade(newHSWriter(server), hsRequest()); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(client, make([]byte, client.Unread())); err != nil {
		t.Fatal(err)
	}
	return client
}

// running is how many goroutines of this module there are in the bubble beside the
// caller. Those that a test before has left outside may end, or begin, meanwhile.
func running() int {
	synctest.Wait()
	return strings.Count(leftGoroutines(), ", synctest bubble ")
}

// clocks is how many of them tick.
func clocks() (n int) {
	synctest.Wait()
	for stack := range strings.SplitSeq(leftGoroutines(), "\n\n") {
		if strings.Contains(stack, ", synctest bubble ") && strings.Contains(stack, "wheel.(*Wheel[...]).run(") {
			n++
		}
	}
	return n
}

// All connections of an Upgrader share one goroutine, which is there while
// they are. Without keepalive there is none, and no ping, ever.
func TestOneClockForAll(t *testing.T) {
	for interval, want := range map[time.Duration]int{0: 1, time.Millisecond: 1, -1: 0, -time.Hour: 0} {
		synctest.Test(t, func(t *testing.T) {
			u := &websocket.Upgrader{Config: websocket.Config{PingInterval: interval, Logger: slog.New(slog.DiscardHandler)}}
			for range 3 { // it comes again
				before := running()
				var clients []*memconn.Conn
				for range 1000 {
					clients = append(clients, idleConn(t, u))
				}
				if n := running() - before; n != want || clocks() != want {
					t.Errorf("PingInterval %v: 1000 idle connections have %d goroutines, of which %d tick; want %d", interval, n, clocks(), want)
				}
				if interval < 0 {
					time.Sleep(24 * time.Hour)
				}
				for _, client := range clients {
					if interval < 0 && client.Unread() > 0 {
						t.Fatalf("PingInterval %v: %d bytes have been sent", interval, client.Unread())
					}
				}
				last := 0
				for c := range u.Conns() {
					if last++; last == 1000 && clocks() != want {
						t.Errorf("PingInterval %v: %d goroutines tick before the last one ends, want %d", interval, clocks(), want)
					}
					c.CloseNow()
				}
				if n := clocks(); n != 0 || last != 1000 {
					t.Errorf("PingInterval %v: after the last of %d connections %d goroutines tick", interval, last, n)
				}
			}
		})
	}
}

// A watched conn counts the deadlines that are set on it.
type watchedConn struct {
	net.Conn
	deadlines atomic.Int64
}

func (w *watchedConn) note(at time.Time) {
	if !at.IsZero() {
		w.deadlines.Add(1)
	}
}

func (w *watchedConn) SetDeadline(at time.Time) error { w.note(at); return w.Conn.SetDeadline(at) }
func (w *watchedConn) SetReadDeadline(at time.Time) error {
	w.note(at)
	return w.Conn.SetReadDeadline(at)
}

// A connection that waits has no deadline for reading, and so no timer.
func TestNoTimerOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &websocket.Upgrader{Config: websocket.Config{Logger: slog.New(slog.DiscardHandler)}}
		client, server := memconn.Pair()
		w := &watchedConn{Conn: server}
		c, err := u.Upgrade(newHSWriter(w), hsRequest())
		if err != nil {
			t.Fatal(err)
		}
		w.deadlines.Store(0) // those of the handshake
		end := readingOn(c)
		time.Sleep(50*time.Second - 1)
		if n := w.deadlines.Load(); n > 0 {
			t.Errorf("%d deadlines have been set", n)
		}
		time.Sleep(time.Nanosecond)
		wantTimeout(t, done(t, "Read", end))
		client.Close()
		if !errors.Is(wantOver(t, c), os.ErrDeadlineExceeded) {
			t.Error("the end is not a time-out")
		}
	})
}

// A hasty bench pings after 100 ms and waits as long, on real sockets.
type hasty struct {
	*bench
	conns  chan *websocket.Conn
	opened chan func(*websocket.Conn) // what comes before the clock looks at the next one
}

// inHaste calls f with such a bench over TCP and over TLS.
func inHaste(t *testing.T, size int, f func(t *testing.T, b hasty, secure bool)) {
	for name, secure := range map[string]bool{"TCP": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			const soon = 100 * time.Millisecond
			b := hasty{conns: make(chan *websocket.Conn, 1), opened: make(chan func(*websocket.Conn), 1)}
			b.bench = loopback(t, &websocket.Upgrader{
				Config: websocket.Config{PingInterval: soon, PingTimeout: soon, WriteTimeout: -1, Logger: slog.New(slog.DiscardHandler),
					Trace: &websocket.Trace{Opened: func(c *websocket.Conn) {
						select {
						case f := <-b.opened:
							f(c)
						default:
						}
					}}},
				Handler: func(c *websocket.Conn) error {
					b.conns <- c
					<-c.Context().Done()
					return nil
				},
			}, secure, size)
			defer b.stop()
			f(t, b, secure)
		})
	}
}

// open opens a connection and returns both of its ends.
func (b hasty) open(rule string) (*conformance.Peer, *websocket.Conn) {
	b.t.Helper()
	p := b.peer(rule)
	return p, <-b.conns
}

// openWith is open, and f has come to its end before the clock looks at the
// connection, so that on a slow machine it is not lost before that.
func (b hasty) openWith(rule string, f func(p *conformance.Peer, c *websocket.Conn)) (*conformance.Peer, *websocket.Conn) {
	b.t.Helper()
	conns, ready := make(chan *websocket.Conn), make(chan bool)
	b.opened <- func(c *websocket.Conn) {
		conns <- c
		<-ready
	}
	p := b.peer(rule)
	func() {
		defer close(ready)
		f(p, <-conns)
	}()
	return p, <-b.conns
}

// outlive returns when other connections, one after the other, have been
// opened, pinged and lost to silence: long after this one would have been.
func (b hasty) outlive() {
	b.t.Helper()
	for range 3 {
		p, c := b.open("a silent peer is lost")
		readingOn(c)
		<-c.Context().Done()
		p.Close()
	}
}

// wantTold receives the loss: on TCP, where one try costs no wait, a Close
// frame says why.
func (b hasty) wantTold(p *conformance.Peer, c *websocket.Conn, secure bool) {
	b.t.Helper()
	if !secure {
		if reason := p.WantFail(1011); reason != "ping timeout" {
			p.Errorf("the reason is %q", reason)
		}
	} else if f, err := p.Rest(); len(f) > 0 || err == nil {
		p.Errorf("received %v and %v, want the end of the stream", f, err)
	}
	<-c.Context().Done()
	wantTimeout(b.t.(*testing.T), context.Cause(c.Context()))
}

// A lost peer that is there after all is told why, in one try.
func TestX09LossIsTold(t *testing.T) {
	inHaste(t, 0, func(t *testing.T, b hasty, secure bool) {
		for name, read := range map[string]func(c *websocket.Conn){
			"Read":   func(c *websocket.Conn) { readingOn(c) },
			"Start":  func(c *websocket.Conn) { c.Start(&listener{closed: make(chan error, 1)}) },
			"nobody": func(c *websocket.Conn) {}, // a socket tells that nothing waits
		} {
			p, c := b.open("a silent peer is pinged, lost, and told so; who reads: " + name)
			read(c)
			wantPing(t, p)
			b.wantTold(p, c, secure)
			p.Close()
		}
	})
}

// While the application does not read, what waits in the socket or has been
// read ahead is life. Judgement comes when it has been taken.
func TestUnreadInputIsLife(t *testing.T) {
	inHaste(t, 0, func(t *testing.T, b hasty, secure bool) {
		for name, ahead := range map[string]bool{"in the socket": false, "read ahead": true} {
			frames := masked(0x81, "hi")
			if ahead {
				frames = append(masked(0x81, "first"), frames...)
			}
			p, c := b.openWith("what waits to be read is life: "+name, func(p *conformance.Peer, _ *websocket.Conn) { p.WritePieces(frames) })
			if ahead {
				if m := readOne(context.Background(), c); m.data != "first" {
					t.Fatalf("Read: %v", m)
				}
			}
			wantPing(t, p)
			b.outlive()
			if isDone(c) {
				t.Fatalf("%s: the connection has ended: %v", name, context.Cause(c.Context()))
			}
			if m := readOne(context.Background(), c); m != (message{websocket.Text, "hi", nil}) {
				t.Errorf("%s: Read: %v", name, m)
			}
			if !ahead {
				wantPing(t, p) // it has come just now
			}
			b.wantTold(p, c, secure) // though nobody reads
			p.Close()
		}
	})
}

// In event mode the application that is busy with a message does not read
// either.
func TestUnreadInputIsLifeForEvents(t *testing.T) {
	inHaste(t, 0, func(t *testing.T, b hasty, secure bool) {
		first, proceed, got := make(chan bool), make(chan bool), make(chan string, 2)
		p, c := b.openWith("what waits behind the message in hand is life", func(p *conformance.Peer, c *websocket.Conn) {
			c.Start(&listener{closed: make(chan error, 1), each: func(_ websocket.MessageType, data []byte) error {
				if string(data) == "first" {
					close(first)
					<-proceed
				}
				got <- string(data)
				return nil
			}})
			p.WritePieces(masked(0x81, "first"))
			<-first
			p.WritePieces(masked(0x81, "hi"))
		})
		wantPing(t, p)
		b.outlive()
		over := isDone(c)
		close(proceed)
		if over {
			t.Fatalf("the connection has ended: %v", context.Cause(c.Context()))
		}
		if a, b := <-got, <-got; a != "first" || b != "hi" {
			t.Errorf("received %q and %q", a, b)
		}
		wantPing(t, p)
		b.wantTold(p, c, secure)
		p.Close()
	})
}

// A peer whose socket is full is lost in time, and costs the clock nothing:
// others are pinged and lost meanwhile.
func TestFullSocketIsLost(t *testing.T) {
	inHaste(t, 4<<10, func(t *testing.T, b hasty, secure bool) {
		p, c := b.openWith("a peer that neither sends nor takes anything is lost", func(_ *conformance.Peer, c *websocket.Conn) {
			for bytes := 0; bytes == 0; bytes, _ = c.Queued() {
				if err := c.Send(websocket.Binary, make([]byte, 32<<10)); err != nil {
					t.Fatalf("Send: %v", err)
				}
			}
		})
		b.outlive()
		<-c.Context().Done()
		wantTimeout(t, context.Cause(c.Context()))
		p.Close()
	})
}
