package websocket_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"math/bits"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/conformance"
	"github.com/sockeye-ws/websocket/internal/memconn"
)

// inMirror calls f with a client in a bubble, and the peer that is its server.
func inMirror(t *testing.T, config websocket.Config, rule string, f func(p *conformance.Peer, c *websocket.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := clientsInMemory(t, config)
		defer b.stop()
		p, c := b.open(rule, "")
		defer p.Close()
		defer c.CloseNow()
		f(p, c)
	})
}

// whatever a client sends is masked, each frame with a key of its own.
// The peer refuses what is not.
func TestQ06EverythingIsMasked(t *testing.T) {
	inMirror(t, websocket.Config{}, "Q-06: all frames are masked", func(p *conformance.Peer, c *websocket.Conn) {
		ctx := context.Background()
		end := readingOn(c)
		send := func(what string, err error, want string) {
			t.Helper()
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
			p.Want(want)
		}
		send("Write", c.Write(ctx, websocket.Text, []byte("hi")), "81 02 6869")
		send("an empty Write", c.Write(ctx, websocket.Text, nil), "81 00")
		send("Send", c.Send(websocket.Binary, []byte("hi")), "82 02 6869")
		prepared, err := websocket.NewPrepared(websocket.Text, bytes.Repeat([]byte("x"), 300))
		if err != nil {
			t.Fatal(err)
		}
		send("SendPrepared", c.SendPrepared(prepared), "81 7e 012c rep(78,300)")
		var g websocket.Group
		g.Add(c)
		g.Send(prepared)
		p.Want("81 7e 012c rep(78,300)")
		w, err := c.Writer(ctx, websocket.Text)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(bytes.Repeat([]byte("x"), 10000))
		send("Writer", w.Close(), "01 7e 2710 rep(78,10000) 80 00")
		p.Write("89 02 6869")
		p.Want("8a 02 6869")
		pinged := async(func() error { _, err := c.Ping(ctx); return err })
		f, _ := p.Next()
		p.WritePieces(append([]byte{0x8a, 8}, f.Payload...))
		if err := done(t, "Ping", pinged); err != nil || f.Op != 9 {
			t.Errorf("Ping: %v, %v", f, err)
		}
		c.Close(websocket.StatusNormalClosure, "bye")
		p.Want("88 05 03e8 627965")
		p.Write("88 02 03e8")
		wantClosed(t, done(t, "Read", end), websocket.StatusNormalClosure, false)

		seen := map[[4]byte]bool{}
		for _, key := range p.Keys {
			if seen[key] {
				t.Errorf("Q-06: the key %x comes again", key)
			}
			seen[key] = true
		}
	})
}

// a masked frame from a server fails the connection.
func TestQ06MaskedFromServer(t *testing.T) {
	for _, frame := range []string{"81 82 z 6869", "81 80 z", "81 80", "89 80 z", "88 82 z 03e8", "82 fe", "8a ff"} {
		inMirror(t, websocket.Config{}, "Q-06: a server does not mask", func(p *conformance.Peer, c *websocket.Conn) {
			end := readingOn(c)
			p.Write(frame)
			p.WantFail(1002)
			wantClosed(t, done(t, "Read", end), websocket.StatusProtocolError, false)
		})
	}
}

// S-06: keys come from a cryptographic generator: no two the same, no bit and no
// byte preferred.
func TestS06Keys(t *testing.T) {
	const frames = 10000
	inMirror(t, websocket.Config{}, "S-06: keys cannot be guessed", func(p *conformance.Peer, c *websocket.Conn) {
		for range frames {
			if err := c.Write(context.Background(), websocket.Text, nil); err != nil {
				t.Fatal(err)
			}
			p.Want("81 00")
		}
		var ones [32]int
		seen := map[[4]byte]int{}
		for _, key := range p.Keys {
			seen[key]++
			word := uint32(key[0]) | uint32(key[1])<<8 | uint32(key[2])<<16 | uint32(key[3])<<24
			for ; word != 0; word &= word - 1 {
				ones[bits.TrailingZeros32(word)]++
			}
		}
		// Of so many random keys, 0.012 pairs are the same on average.
		if len(p.Keys) != frames || len(seen) < frames-3 {
			t.Errorf("S-06: %d keys, %d different", len(p.Keys), len(seen))
		}
		for bit, n := range ones { // within 8 standard deviations
			if n < frames/2-400 || n > frames/2+400 {
				t.Errorf("S-06: bit %d is set in %d of %d keys", bit, n, frames)
			}
		}
	})
}

// S-07: what the caller hands over is not changed, and what it does to it
// afterwards does not matter.
func TestS07PayloadStaysAsItIs(t *testing.T) {
	for _, size := range []int{1, 125, 126, 4096, 32 << 10, 32<<10 + 64, 64 << 10, 128 << 10, 128<<10 + 1, 300_000, 1 << 20} {
		original := make([]byte, size)
		rand.Read(original)
		shared := bytes.Clone(original)
		prepared, err := websocket.NewPrepared(websocket.Binary, original)
		if err != nil {
			t.Fatal(err)
		}
		b := clientsOnLoopback(t, websocket.Config{WriteQueue: 4 << 20}, false)
		p, c := b.open("S-07: the payload is copied", "")
		for what, send := range map[string]func() error{
			"Write":        func() error { return c.Write(context.Background(), websocket.Binary, shared) },
			"Send":         func() error { return c.Send(websocket.Binary, shared) },
			"SendPrepared": func() error { return c.SendPrepared(prepared) },
			"Writer": func() error {
				w, err := c.Writer(context.Background(), websocket.Binary)
				if err != nil {
					return err
				}
				_, err = w.Write(shared)
				return errors.Join(err, w.Close())
			},
		} {
			read := func() (whole []byte) {
				for {
					f, ok := p.Next()
					if whole = append(whole, f.Payload...); f.Fin || !ok {
						return whole
					}
				}
			}
			var received <-chan []byte
			if what != "Send" {
				received = async(read)
			}
			if err := send(); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if !bytes.Equal(shared, original) {
				t.Fatalf("S-07: %s of %d bytes changes them", what, size)
			}
			clear(shared) // ours again
			if what == "Send" {
				received = async(read)
			}
			if !bytes.Equal(<-received, original) {
				t.Errorf("S-07: %s of %d bytes arrives changed", what, size)
			}
			copy(shared, original)
		}
		c.CloseNow()
		p.Close()
		b.stop()
	}
}

// L-17: from many goroutines at once, the frames of a client are whole, too.
func TestL17ClientWriters(t *testing.T) {
	const writers, each = 20, 50
	b := clientsOnLoopback(t, websocket.Config{}, false)
	defer b.stop()
	p, c := b.open("L-17: frames do not mix", "")
	defer p.Close()
	defer c.CloseNow()
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for n := range each {
				size := []int{10, 5000, 40000, 200000}[(i+n)%4]
				if err := c.Write(context.Background(), websocket.Binary, bytes.Repeat([]byte{byte(i)}, size)); err != nil {
					t.Error(err)
				}
				if n%10 == 0 {
					if err := c.Send(websocket.Binary, []byte{byte(i)}); err != nil && err != websocket.ErrQueueFull {
						t.Error(err)
					}
				}
			}
		})
	}
	for range writers * (each + each/10) {
		f, ok := p.Next()
		if !ok {
			break
		}
		if bytes.Count(f.Payload, f.Payload[:1]) != len(f.Payload) {
			t.Error("L-17: a frame of several writers")
			break
		}
	}
	p.Conn().Close()
	wg.Wait()
}

// once both sides have sent their Close, the client leaves it to the server
// to end the transport, for CloseTimeout.
func TestQ08ServerEndsTheTransport(t *testing.T) {
	const timeout = 3 * time.Second
	shake := map[string]func(p *conformance.Peer, c *websocket.Conn){
		"the client closes": func(p *conformance.Peer, c *websocket.Conn) {
			c.Close(websocket.StatusNormalClosure, "")
			p.Want("88 02 03e8")
			p.Write("88 02 03e8")
		},
		"the server closes": func(p *conformance.Peer, c *websocket.Conn) {
			p.Write("88 02 03e9")
			p.Want("88 02 03e9")
		},
		"the server closes without a code": func(p *conformance.Peer, c *websocket.Conn) {
			p.Write("88 00")
			p.Want("88 00")
		},
		"both close": func(p *conformance.Peer, c *websocket.Conn) {
			c.Close(websocket.StatusNormalClosure, "")
			p.Write("88 02 03e9")
			p.Want("88 02 03e8")
		},
	}
	for name, shake := range shake {
		for _, reading := range []bool{false, true} {
			play := func(config websocket.Config, f func(p *conformance.Peer, c *websocket.Conn, start time.Time)) {
				t.Helper()
				inMirror(t, config, "Q-08: "+name, func(p *conformance.Peer, c *websocket.Conn) {
					if reading || name == "the server closes" || name == "the server closes without a code" {
						c.CloseRead()
					}
					shake(p, c)
					f(p, c, time.Now())
				})
			}
			play(websocket.Config{CloseTimeout: timeout}, func(p *conformance.Peer, c *websocket.Conn, start time.Time) {
				time.Sleep(timeout - 1)
				p.WantNothing()
				p.Fin()
				p.WantEOF()
				wantOver(t, c)
				if d := time.Since(start); d > timeout {
					t.Errorf("took %v", d)
				}
			})
			play(websocket.Config{CloseTimeout: timeout}, func(p *conformance.Peer, c *websocket.Conn, start time.Time) {
				p.WantEOF() // the server never ends it
				wantElapsed(t, start, timeout)
				<-c.Context().Done()
				wantElapsed(t, start, timeout+time.Second) // in which input is still read
			})
			play(websocket.Config{CloseTimeout: -1}, func(p *conformance.Peer, c *websocket.Conn, start time.Time) {
				p.WantEOF()
				wantElapsed(t, start, 0)
			})
			play(websocket.Config{CloseTimeout: timeout}, func(p *conformance.Peer, c *websocket.Conn, start time.Time) {
				c.CloseNow() // which waits for nothing
				wantOver(t, c)
				wantElapsed(t, start, 0)
			})
			play(websocket.Config{CloseTimeout: timeout}, func(p *conformance.Peer, c *websocket.Conn, start time.Time) {
				p.Write("rep(ff,100000)") // what comes does not prolong it
				p.WantEOF()
				wantElapsed(t, start, timeout)
			})
		}
	}
}

// K-16: what is illegal in the wait for the server's Close ends it at once.
func TestQ08K16IllegalInTheWait(t *testing.T) {
	for _, frame := range []string{"c1 00", "81 80", "88 01 03", "88 02 03ed", "88 03 03e8ff"} {
		inMirror(t, websocket.Config{}, "K-16: no Close can follow", func(p *conformance.Peer, c *websocket.Conn) {
			c.Close(websocket.StatusNormalClosure, "")
			p.Want("88 02 03e8")
			start := time.Now()
			p.Write(frame)
			p.WantEOF()
			wantElapsed(t, start, 0)
		})
	}
}

// K-14: the server's Close is waited for as long as that of a client.
func TestK14ClientCloseTimeout(t *testing.T) {
	inMirror(t, websocket.Config{CloseTimeout: 2 * time.Second}, "K-14: the wait is bounded", func(p *conformance.Peer, c *websocket.Conn) {
		start := time.Now()
		c.Close(websocket.StatusNormalClosure, "")
		p.Want("88 02 03e8")
		p.WantEOF()
		wantElapsed(t, start, 2*time.Second)
	})
}

// K-19: a client may send 1010, a server may not; all else is the same.
func TestK19ClientCodes(t *testing.T) {
	for _, code := range []websocket.StatusCode{0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000} {
		inMirror(t, websocket.Config{}, "K-19: never sent", func(p *conformance.Peer, c *websocket.Conn) {
			if err := c.Close(code, ""); err == nil || errors.As(err, new(*websocket.CloseError)) ||
				err.Error() != "websocket: close: a client cannot send code "+code.String() && code.String()[0] == '9' {
				t.Errorf("K-19: Close(%d): %v", code, err)
			}
			p.WantNothing()
		})
	}
	for _, code := range []websocket.StatusCode{1000, 1001, 1010, 1011, 3000, 4999} {
		inMirror(t, websocket.Config{}, "K-19: sent", func(p *conformance.Peer, c *websocket.Conn) {
			if err := c.Close(code, ""); err != nil {
				t.Errorf("K-19: Close(%d): %v", code, err)
			}
			p.WantBytes([]byte{0x88, 2, byte(code >> 8), byte(code)})
		})
	}
}

// An error of event mode's Message ends a client's connection with its code.
func TestClientEventErrors(t *testing.T) {
	for _, tt := range []struct {
		err  error
		code int
	}{
		{&websocket.CloseError{Code: websocket.StatusMandatoryExtension, Reason: "need it"}, 1010},
		{&websocket.CloseError{Code: 4001}, 4001},
		{errors.New("secret"), 1011},
	} {
		inMirror(t, websocket.Config{}, "an error of Message", func(p *conformance.Peer, c *websocket.Conn) {
			e := &listener{each: func(websocket.MessageType, []byte) error { return tt.err }, closed: make(chan error, 1)}
			c.Start(e)
			p.Write("81 00")
			p.WantFail(tt.code)
			p.Fin()
			done(t, "Closed", e.closed)
		})
	}
}

// keepalive is for servers that have gone, too.
func TestX09ClientKeepalive(t *testing.T) {
	config := websocket.Config{PingInterval: 10 * time.Second, PingTimeout: 5 * time.Second}
	inMirror(t, config, "X-09: a silent server is pinged", func(p *conformance.Peer, c *websocket.Conn) {
		p.Patience = time.Hour
		end := readingOn(c)
		start := time.Now()
		f, _ := p.Next()
		if f.Op != 9 {
			t.Errorf("%v, want a ping", f)
		}
		if d := time.Since(start); d < 9*time.Second || d > 11*time.Second {
			t.Errorf("pinged after %v", d)
		}
		time.Sleep(time.Second)
		p.WritePieces(append([]byte{0x8a, 8}, f.Payload...))
		synctest.Wait()
		if c.RTT() != time.Second {
			t.Errorf("RTT is %v", c.RTT())
		}
		start = time.Now()
		if f, _ = p.Next(); f.Op != 9 {
			t.Errorf("%v, want a ping", f)
		}
		wantTimeout(t, <-end)
		if d := time.Since(start); d < 14*time.Second || d > 17*time.Second {
			t.Errorf("given up after %v", d)
		}
	})
}

// L-05: a server that takes nothing is cut.
func TestL05ClientWriteTimeout(t *testing.T) {
	inMirror(t, websocket.Config{WriteTimeout: 3 * time.Second}, "L-05: the server takes nothing", func(p *conformance.Peer, c *websocket.Conn) {
		start := time.Now()
		err := c.Write(context.Background(), websocket.Binary, make([]byte, 1<<20))
		wantTimeout(t, err)
		wantElapsed(t, start, 3*time.Second)
	})
	// A context ends a Write that has begun, and with it the connection.
	inMirror(t, websocket.Config{}, "a cut frame", func(p *conformance.Peer, c *websocket.Conn) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		err := c.Write(ctx, websocket.Binary, make([]byte, 1<<20))
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		wantOver(t, c)
	})
}

// Overflow says what Send does on a client's side, too.
func TestClientOverflow(t *testing.T) {
	for _, overflow := range []websocket.Overflow{websocket.Disconnect, websocket.DropNewest, websocket.DropOldest} {
		config := websocket.Config{WriteQueue: 1000, Overflow: overflow}
		inMirror(t, config, "the queue is full", func(p *conformance.Peer, c *websocket.Conn) {
			p.Conn().(*memconn.Conn).SetReadDeadline(time.Time{})
			c.Write(context.Background(), websocket.Binary, bytes.Repeat([]byte{'x'}, 64<<10-100)) // the socket is nearly full
			var sent []byte
			var last error
			for i := range byte(10) {
				message := bytes.Repeat([]byte{i}, 300)
				if last = c.Send(websocket.Binary, message); last == nil {
					sent = append(sent, i)
				}
				synctest.Wait()
			}
			if overflow == websocket.Disconnect {
				wantClosed(t, last, websocket.StatusPolicyViolation, false)
				frames, err := p.Rest()
				if n := len(frames); err == nil || n == 0 || frames[n-1].Op != 8 || !bytes.HasPrefix(frames[n-1].Payload, []byte{0x03, 0xf0}) {
					t.Errorf("%v, %v", frames, err)
				}
				return
			}
			p.Next()
			var got []byte
			p.Patience = time.Second
			for range len(sent) {
				f, ok := p.Next()
				if !ok || len(f.Payload) != 300 || bytes.Count(f.Payload, f.Payload[:1]) != 300 {
					t.Fatalf("%v", f)
				}
				if got = append(got, f.Payload[0]); overflow == websocket.DropOldest && f.Payload[0] == 9 {
					break
				}
			}
			if overflow == websocket.DropNewest && (!slices.Equal(got, sent) || last != websocket.ErrQueueFull) {
				t.Errorf("sent %v, received %v, %v", sent, got, last)
			}
			if overflow == websocket.DropOldest && (got[len(got)-1] != 9 || len(got) == 10 || last != nil || !slices.IsSorted(got)) {
				t.Errorf("received %v, %v", got, last)
			}
		})
	}
}

// The ends of a client's connection are those of a server's.
func TestClientEnds(t *testing.T) {
	inMirror(t, websocket.Config{}, "end of the stream", func(p *conformance.Peer, c *websocket.Conn) {
		end := readingOn(c)
		p.Fin()
		p.WantDrop()
		wantClosed(t, done(t, "Read", end), websocket.StatusAbnormalClosure, true)
	})
	inMirror(t, websocket.Config{}, "CloseNow", func(p *conformance.Peer, c *websocket.Conn) {
		if err := c.CloseNow(); err != nil {
			t.Error(err)
		}
		p.Rest()
		if closed := wantOver(t, c); !errors.Is(closed, net.ErrClosed) {
			t.Errorf("%v", closed)
		}
	})
	inMirror(t, websocket.Config{}, "a read with a time-out", func(p *conformance.Peer, c *websocket.Conn) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		p.Write("81 05 6865")
		m := readOne(ctx, c)
		wantContextError(t, "Read", m.err, ctx)
		p.Write("6c6c6f")
		wantMessage(t, c, websocket.Text, "hello")
	})
	if _, _, err := websocket.Dial(context.Background(), "ws://example.com/", &websocket.DialOptions{Config: websocket.Config{WriteQueue: -1}}); errors.Is(err, os.ErrDeadlineExceeded) || err == nil {
		t.Errorf("%v", err)
	}
}
