package websocket_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/conformance"
	"github.com/sockeye-ws/websocket/internal/memconn"
)

// A pong is what Ping returns.
type pong struct {
	rtt time.Duration
	err error
}

func ping(ctx context.Context, c *websocket.Conn) <-chan pong {
	return async(func() pong {
		rtt, err := c.Ping(ctx)
		return pong{rtt, err}
	})
}

// wantPing receives a ping and returns the pong for it.
func wantPing(t *testing.T, p *conformance.Peer) (answer []byte) {
	t.Helper()
	f, ok := p.Next()
	if !ok || f.Op != 9 {
		t.Fatalf("received %v, want a ping", f)
	}
	return masked(0x8a, string(f.Payload))
}

// Ping takes the read turn when it is free, and then handles control frames.
func TestPingReads(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		p, c := l.open("Ping reads for itself")
		result := ping(context.Background(), c)
		answer := wantPing(t, p)
		time.Sleep(100 * time.Millisecond)
		p.Write("89 81 z 31 8a 81 z 32 8a 88 z rep(ff,8)")
		p.Want("8a 01 31")
		wantPending(t, "Ping", result)
		time.Sleep(150 * time.Millisecond)
		p.WritePieces(answer)
		if r := done(t, "Ping", result); r != (pong{250 * time.Millisecond, nil}) {
			t.Errorf("Ping: %v", r)
		}
		wantOpen(t, p, c)
	})
}

// Ping stops with a named error at a data frame that it would have to hold;
// the message is read later, whole.
func TestPingMeetsMessage(t *testing.T) {
	for _, test := range []struct {
		name, before, in, after string
		want                    []string
	}{
		{"a message", "", "81 82 z 6869", "", []string{"hi"}},
		{"an empty message", "", "81 80 z", "", []string{""}},
		{"the header of one", "", "81 82 z", "6869", []string{"hi"}},
		{"a message that was there before", "81 82 z 6869", "", "", []string{"hi"}},
		{"a fragment", "", "01 81 z 68 89 80 z", "80 81 z 69", []string{"hi"}},
		{"a fragment of a message that a Read has begun", "01 81 z 68", "00 81 z 69", "80 81 z 21", []string{"hi!"}},
		{"an unfinished payload that a Read has begun", "81 83 z 6869", "", "21", []string{"hi!"}},
		{"two messages", "", "81 82 z 6869 82 80 z", "", []string{"hi", ""}},
	} {
		t.Run(test.name, func(t *testing.T) {
			inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
				p, c := l.open("Ping leaves a message to the next Read")
				if test.before != "" {
					p.Write(test.before)
					if test.after != "" {
						wantNoneLeft(t, c)
					}
				}
				result := ping(context.Background(), c)
				answer := wantPing(t, p)
				if test.in != "" {
					wantPending(t, "Ping", result)
					p.Write(test.in)
				}
				if r := done(t, "Ping", result); !errors.Is(r.err, websocket.ErrUnreadMessage) {
					t.Errorf("Ping: %v", r)
				}
				if test.after != "" {
					p.Write(test.after)
				}
				p.WritePieces(answer) // too late, and ignored
				for _, want := range test.want {
					m := done(t, "Read", async(func() message { return readOne(context.Background(), c) }))
					if m.err != nil || m.data != want {
						t.Errorf("Read: %q, %v; want %q", m.data, m.err, want)
					}
				}
				if test.name == "a fragment" {
					p.Want("8a 00")
				}
				wantOpen(t, p, c)
			})
		})
	}
	t.Run("all Pings that wait", func(t *testing.T) {
		inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
			p, c := l.open("no Ping waits for a pong behind a message that nobody reads")
			var results []<-chan pong
			for range 5 {
				results = append(results, ping(context.Background(), c))
				wantPing(t, p)
			}
			p.Write("81 82 z 6869")
			for _, result := range results {
				if r := done(t, "Ping", result); !errors.Is(r.err, websocket.ErrUnreadMessage) {
					t.Errorf("Ping: %v", r)
				}
			}
			wantMessage(t, c, websocket.Text, "hi")
			wantOpen(t, p, c)
		})
	})
	t.Run("a reader that is not being read", func(t *testing.T) {
		inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
			p, c := l.open("Ping takes no byte of a message from its reader")
			p.Write("81 84 z 61626364")
			_, r, err := c.Reader(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if n, err := r.Read(make([]byte, 1)); n != 1 || err != nil {
				t.Fatal(n, err)
			}
			result := ping(context.Background(), c)
			wantPing(t, p)
			if r := done(t, "Ping", result); !errors.Is(r.err, websocket.ErrUnreadMessage) {
				t.Errorf("Ping: %v", r)
			}
			rest := make([]byte, 8)
			if n, err := r.Read(rest); string(rest[:n]) != "bcd" || err != nil {
				t.Errorf("the reader gives %q, %v", rest[:n], err)
			}
		})
	})
}

// If another goroutine reads, it finds the pong.
func TestPingWhileAnotherReads(t *testing.T) {
	ctx := context.Background()
	for _, test := range []struct {
		name string
		read func(p *conformance.Peer, c *websocket.Conn)
	}{
		{"Read", func(p *conformance.Peer, c *websocket.Conn) { go c.Read(ctx) }},
		{"Reader", func(p *conformance.Peer, c *websocket.Conn) { go c.Reader(ctx) }},
		{"the Read of a reader", func(p *conformance.Peer, c *websocket.Conn) {
			p.Write("01 80 z")
			go readStream(ctx, c)
		}},
		{"a Read inside a message", func(p *conformance.Peer, c *websocket.Conn) {
			p.Write("01 81 z 61")
			go c.Read(ctx)
		}},
		{"Messages", func(p *conformance.Peer, c *websocket.Conn) {
			go func() {
				for range c.Messages(ctx) {
				}
			}()
		}},
		{"CloseRead", func(p *conformance.Peer, c *websocket.Conn) { c.CloseRead() }},
	} {
		t.Run(test.name, func(t *testing.T) {
			inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
				p, c := l.open("whoever reads finds the pong")
				test.read(p, c)
				synctest.Wait()
				result := ping(ctx, c)
				answer := wantPing(t, p)
				time.Sleep(time.Second)
				p.Write("89 80 z")
				p.Want("8a 00")
				wantPending(t, "Ping", result)
				p.WritePieces(answer)
				if r := done(t, "Ping", result); r != (pong{time.Second, nil}) {
					t.Errorf("Ping: %v", r)
				}
			})
		})
	}
	t.Run("Read ends first", func(t *testing.T) {
		inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
			p, c := l.open("when the other one has its message, Ping reads itself")
			read := async(func() message { return readOne(ctx, c) })
			synctest.Wait()
			result := ping(ctx, c)
			answer := wantPing(t, p)
			p.Write("81 82 z 6869")
			if m := done(t, "Read", read); m != (message{websocket.Text, "hi", nil}) {
				t.Errorf("Read: %v", m)
			}
			wantPending(t, "Ping", result)
			time.Sleep(time.Second)
			p.WritePieces(answer)
			if r := done(t, "Ping", result); r != (pong{time.Second, nil}) {
				t.Errorf("Ping: %v", r)
			}
			wantOpen(t, p, c)
		})
	})
	t.Run("Read is cancelled", func(t *testing.T) {
		inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
			p, c := l.open("when the other one gives up, Ping reads itself")
			short, cancel := context.WithCancel(ctx)
			read := async(func() message { return readOne(short, c) })
			synctest.Wait()
			result := ping(ctx, c)
			answer := wantPing(t, p)
			cancel()
			wantContextError(t, "Read", done(t, "Read", read).err, short)
			wantPending(t, "Ping", result)
			p.WritePieces(answer)
			if r := done(t, "Ping", result); r.err != nil {
				t.Errorf("Ping: %v", r)
			}
			wantOpen(t, p, c)
		})
	})
}

// A Read that is called while Ping reads takes over; Ping still gets its pong.
func TestReadTakesOverFromPing(t *testing.T) {
	for _, how := range wholeReads {
		t.Run(how.name, func(t *testing.T) {
			inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
				p, c := l.open("Read takes the turn of a Ping")
				result := ping(context.Background(), c)
				answer := wantPing(t, p)
				// Between two bytes of a control frame, so that the frame
				// changes hands.
				p.WritePieces(answer[:3])
				synctest.Wait()
				read := async(func() message { return how.read(t, context.Background(), c) })
				wantPending(t, "the read", read)
				wantPending(t, "Ping", result)
				if m := readOne(context.Background(), c); !errors.Is(m.err, websocket.ErrConcurrentRead) {
					t.Errorf("a second read: %v", m.err)
				}
				p.WritePieces(answer[3:])
				if r := done(t, "Ping", result); r.err != nil {
					t.Errorf("Ping: %v", r)
				}
				wantPending(t, "the read", read)
				p.Write("81 82 z 6869")
				if m := done(t, "the read", read); m != (message{websocket.Text, "hi", nil}) {
					t.Errorf("the read: %v, %q, %v", m.typ, m.data, m.err)
				}
				wantOpen(t, p, c)
			})
		})
	}
	t.Run("message first", func(t *testing.T) {
		inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
			p, c := l.open("the reader's message is none that Ping would have to hold")
			result := ping(context.Background(), c)
			answer := wantPing(t, p)
			read := async(func() message { return readOne(context.Background(), c) })
			synctest.Wait()
			p.Write("81 82 z 6869")
			if m := done(t, "Read", read); m != (message{websocket.Text, "hi", nil}) {
				t.Errorf("Read: %v", m)
			}
			wantPending(t, "Ping", result)
			p.WritePieces(answer)
			if r := done(t, "Ping", result); r.err != nil {
				t.Errorf("Ping: %v", r)
			}
			wantOpen(t, p, c)
		})
	})
	t.Run("CloseRead", func(t *testing.T) {
		inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
			p, c := l.open("CloseRead takes the turn of a Ping")
			result := ping(context.Background(), c)
			answer := wantPing(t, p)
			c.CloseRead()
			wantPending(t, "Ping", result)
			p.WritePieces(answer)
			if r := done(t, "Ping", result); r.err != nil {
				t.Errorf("Ping: %v", r)
			}
			p.WantOpen()
			p.Write("81 80 z")
			p.WantFail(1003)
		})
	})
	t.Run("cancelled Reads", func(t *testing.T) {
		inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
			p, c := l.open("the turn comes back to the Ping")
			result := ping(context.Background(), c)
			answer := wantPing(t, p)
			for i := range answer {
				wantNoneLeft(t, c)
				wantPending(t, "Ping", result)
				p.WritePieces(answer[i : i+1])
			}
			if r := done(t, "Ping", result); r.err != nil {
				t.Errorf("Ping: %v", r)
			}
			wantOpen(t, p, c)
		})
	})
}

// Any number of goroutines may call Ping. Each has a payload of its own; a pong
// answers the pings before its own, too, as a peer may leave those out
// (RFC 6455 §5.5.3).
func TestPingsAtOnce(t *testing.T) {
	const n = 20
	for _, latest := range []bool{false, true} {
		for _, reading := range []bool{false, true} {
			t.Run(fmt.Sprintf("only the latest is answered %v, another reads %v", latest, reading), func(t *testing.T) {
				inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
					p, c := l.open("each Ping has its own pong")
					if reading {
						readingOn(c)
					}
					results, answers := make([]<-chan pong, n), make([][]byte, n)
					for i := range n {
						results[i] = ping(context.Background(), c)
						answers[i] = wantPing(t, p)
					}
					for i := range n {
						wantPending(t, "Ping", results[i])
						time.Sleep(time.Second)
						if !latest || i == n-1 {
							p.WritePieces(answers[i])
						}
						if latest {
							continue
						}
						if r := done(t, "Ping", results[i]); r != (pong{time.Duration(i+1) * time.Second, nil}) {
							t.Errorf("Ping %d: %v", i, r)
						}
					}
					for i := range n {
						if !latest {
							break
						}
						if r := done(t, "Ping", results[i]); r != (pong{n * time.Second, nil}) {
							t.Errorf("Ping %d: %v", i, r)
						}
					}
				})
			})
		}
	}
	t.Run("the one that reads is cancelled", func(t *testing.T) {
		inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
			p, c := l.open("the turn goes to the next Ping")
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			first := ping(ctx, c)
			wantPing(t, p)
			second := ping(context.Background(), c)
			answer := wantPing(t, p)
			wantContextError(t, "the first Ping", (<-first).err, ctx)
			wantPending(t, "the second Ping", second)
			p.WritePieces(answer)
			if r := done(t, "the second Ping", second); r != (pong{time.Second, nil}) {
				t.Errorf("the second Ping: %v", r)
			}
			wantOpen(t, p, c)
		})
	})
}

// Pings and pongs stand between the frames of a Writer, and do not wait for a
// message to end.
func TestPingInsideMessage(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		p, c := l.open("control frames may stand between fragments")
		w, err := c.Writer(context.Background(), websocket.Binary)
		if err != nil {
			t.Fatal(err)
		}
		result := ping(context.Background(), c)
		p.WritePieces(wantPing(t, p), masked(0x89, "1"))
		if r := done(t, "Ping", result); r.err != nil {
			t.Errorf("Ping: %v", r)
		}
		readingOn(c)
		p.Want("8a 01 31")
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		p.Want("82 00")
	})
}

// A Ping behind a full socket ends with its ctx, and nothing else does.
func TestPingWhileStuck(t *testing.T) {
	inLab(t, websocket.Config{WriteTimeout: -1}, func(t *testing.T, l *lab) {
		p, c := l.open("Ping never ends a connection")
		const size = 1 << 20
		written := async(func() error { return c.Write(context.Background(), websocket.Binary, make([]byte, size)) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute-1)
		defer cancel()
		wantContextError(t, "Ping", (<-ping(ctx, c)).err, ctx)
		f, _ := p.Next()
		for f.Op == 9 {
			f, _ = p.Next()
		}
		if len(f.Payload) != size {
			t.Errorf("received %v", f)
		}
		if err := done(t, "Write", written); err != nil {
			t.Error(err)
		}
	})
}

// CloseRead: pings, pongs and the peer's Close are handled; data is refused
// with 1003; the Context tells the end. Other reads are refused, and a read in
// progress is not disturbed.
func TestCloseRead(t *testing.T) {
	ctx := context.Background()
	t.Run("twice, and other reads", func(t *testing.T) {
		inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
			p, c := l.open("CloseRead takes the reading over")
			c.CloseRead()
			c.CloseRead()
			for _, how := range wholeReads {
				for range 2 {
					if m := done(t, how.name, async(func() message { return how.read(t, ctx, c) })); !errors.Is(m.err, websocket.ErrConcurrentRead) {
						t.Errorf("%s: %v", how.name, m.err)
					}
				}
			}
			if m := done(t, "Reader", async(func() message { return readStream(ctx, c) })); !errors.Is(m.err, websocket.ErrConcurrentRead) {
				t.Errorf("Reader: %v", m.err)
			}
			p.WantOpen()
			p.Write("88 82 z 03e9")
			p.WantClean("03e9")
			p.Close()
			if closed := wantOver(t, c); closed.Code != 1001 || !closed.Remote {
				t.Errorf("the end is %v", closed)
			}
			for _, how := range wholeReads[:3] {
				wantClosed(t, how.read(t, ctx, c).err, 1001, true)
			}
		})
	})
	t.Run("a message that is there already", func(t *testing.T) {
		inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
			p, c := l.open("a message that nobody has read is refused, too")
			p.Write("89 81 z 31 81 82 z 6869")
			synctest.Wait()
			c.CloseRead()
			p.Want("8a 01 31")
			p.WantFail(1003)
			p.Close()
			if closed := wantOver(t, c); closed.Code != 1003 || closed.Remote {
				t.Errorf("the end is %v", closed)
			}
		})
	})
	t.Run("the stream is lost", func(t *testing.T) {
		inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
			p, c := l.open("CloseRead sees a loss")
			c.CloseRead()
			p.Conn().(*memconn.Conn).Reset()
			if closed := wantOver(t, c); closed.Code != 1006 || !closed.Remote {
				t.Errorf("the end is %v", closed)
			}
		})
	})
	t.Run("a Read in progress", func(t *testing.T) {
		inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
			p, c := l.open("CloseRead does not disturb a Read")
			p.Write("01 81 z 68")
			read := async(func() message { return readOne(ctx, c) })
			synctest.Wait()
			c.CloseRead()
			wantPending(t, "Read", read)
			p.Write("80 81 z 69")
			if m := done(t, "Read", read); m != (message{websocket.Text, "hi", nil}) {
				t.Errorf("Read: %v, %q, %v", m.typ, m.data, m.err)
			}
			if m := done(t, "Read", async(func() message { return readOne(ctx, c) })); !errors.Is(m.err, websocket.ErrConcurrentRead) {
				t.Errorf("the Read after it: %v", m.err)
			}
			p.WantOpen()
			p.Write("81 82 z 6869")
			p.WantFail(1003)
		})
	})
	t.Run("a Read in progress is cancelled", func(t *testing.T) {
		inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
			p, c := l.open("CloseRead goes on when the Read has ended")
			short, cancel := context.WithCancel(ctx)
			read := async(func() message { return readOne(short, c) })
			synctest.Wait()
			c.CloseRead()
			cancel()
			wantContextError(t, "Read", done(t, "Read", read).err, short)
			p.WantOpen()
			p.Write("81 82 z 6869")
			p.WantFail(1003)
		})
	})
	t.Run("Ping works meanwhile", func(t *testing.T) {
		inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
			p, c := l.open("CloseRead finds pongs")
			c.CloseRead()
			for range 3 {
				result := ping(ctx, c)
				answer := wantPing(t, p)
				time.Sleep(time.Second)
				p.WritePieces(answer)
				if r := done(t, "Ping", result); r != (pong{time.Second, nil}) {
					t.Errorf("Ping: %v", r)
				}
			}
			waiting := ping(ctx, c)
			wantPing(t, p)
			wantPending(t, "Ping", waiting) // it does not find the message before CloseRead
			p.Write("82 80 z")
			wantClosed(t, done(t, "Ping", waiting).err, 1003, false)
		})
	})
	t.Run("a message while a Ping reads", func(t *testing.T) {
		inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
			p, c := l.open("with CloseRead somebody reads, so Ping does not stop at a message")
			result := ping(ctx, c)
			wantPing(t, p)
			synctest.Wait()
			c.CloseRead()
			synctest.Wait()
			p.Write("81 82 z 6869")
			p.WantFail(1003)
			wantClosed(t, done(t, "Ping", result).err, 1003, false)
		})
	})
	t.Run("an open reader", func(t *testing.T) {
		inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
			p, c := l.open("CloseRead is the end of a reader, too")
			p.Write("01 81 z 61")
			_, r, err := c.Reader(ctx)
			if err != nil {
				t.Fatal(err)
			}
			c.CloseRead()
			if n, err := r.Read(make([]byte, 1)); n != 0 || err == nil || err == io.EOF {
				t.Errorf("the reader gives %d, %v", n, err)
			}
			p.Write("80 81 z 62")
			p.WantFail(1003)
		})
	})
	t.Run("after the end", func(t *testing.T) {
		inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
			_, c := l.open("CloseRead does nothing when all is over")
			c.CloseNow()
			c.CloseRead()
			wantOver(t, c)
			wantClosed(t, readOne(ctx, c).err, 1006, false)
		})
	})
}
