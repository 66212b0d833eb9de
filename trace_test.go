package websocket_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/conformance"
	"github.com/sockeye-ws/websocket/internal/memconn"
)

// A diary is what the hooks of a Trace were told, in order.
type diary struct {
	mu    sync.Mutex
	lines []string
	ends  []websocket.Closing
	also  func(what string) // what each hook does
}

func (d *diary) note(c *websocket.Conn, format string, args ...any) {
	d.mu.Lock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
	d.mu.Unlock()
	if d.also != nil {
		what, _, _ := strings.Cut(format, " ")
		d.also(what)
	}
}

func (d *diary) trace() *websocket.Trace {
	return &websocket.Trace{
		Opened: func(c *websocket.Conn) { d.note(c, "opened") },
		Closed: func(c *websocket.Conn, end websocket.Closing) {
			d.mu.Lock()
			d.ends = append(d.ends, end)
			d.mu.Unlock()
			d.note(c, "closed %d", uint16(end.Err.Code))
		},
		Received: func(c *websocket.Conn, typ websocket.MessageType, size int64) { d.note(c, "received %v %d", typ, size) },
		Sent:     func(c *websocket.Conn, typ websocket.MessageType, size int64) { d.note(c, "sent %v %d", typ, size) },
		Dropped:  func(c *websocket.Conn, messages int) { d.note(c, "dropped %d", messages) },
		Pong:     func(c *websocket.Conn, rtt time.Duration) { d.note(c, "pong %v", rtt) },
	}
}

// want checks what has been told since the last time.
func (d *diary) want(t *testing.T, lines ...string) {
	t.Helper()
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.lines, lines) {
		t.Errorf("told %q, want %q", d.lines, lines)
	}
	d.lines = nil
}

// Every hook is called once for what it is for, with what it is about.
func TestTraceHooks(t *testing.T) {
	for _, how := range readings {
		t.Run(how.name, func(t *testing.T) {
			d := new(diary)
			u := &websocket.Upgrader{Config: websocket.Config{Trace: d.trace(), WriteQueue: 1000, Overflow: websocket.DropNewest, PingInterval: 30 * time.Second}}
			inSight(t, u, func(t *testing.T, l *lab) {
				start := time.Now()
				p, c, server := l.openServer("hooks")
				d.want(t, "opened")
				end := async(func() error {
					return how.all(c, func(typ websocket.MessageType, p []byte) error {
						d.note(nil, "read %v %d", typ, len(p))
						return nil
					})
				})
				p.Write("81 82 z 6869 82 80 z")
				d.want(t, "received text 2", "read text 2", "received binary 0", "read binary 0")
				p.Write("01 81 z 61 89 80 z 00 80 z")
				p.Want("8a 00")
				d.want(t)
				p.Write("80 82 z 6262")
				d.want(t, "received text 3", "read text 3")
				p.Write("82 fe 2000 z rep(61,8191)")
				d.want(t)
				p.Write("61 8a 80 z")
				d.want(t, "received binary 8192", "read binary 8192")

				ctx := context.Background()
				if err := errors.Join(c.Write(ctx, websocket.Text, []byte("héllo")), c.Send(websocket.Binary, nil), c.SendPrepared(prepared([]byte("abc")))); err != nil {
					t.Fatal(err)
				}
				d.want(t, "sent text 6", "sent binary 0", "sent binary 3")
				var g websocket.Group
				g.Add(c)
				g.Send(prepared([]byte("abcd")))
				d.want(t, "sent binary 4")
				w, err := c.Writer(ctx, websocket.Text)
				if err != nil {
					t.Fatal(err)
				}
				io.WriteString(w, strings.Repeat("a", 10_000))
				d.want(t)
				w.Close()
				d.want(t, "sent text 10000")
				w, _ = c.Writer(ctx, websocket.Text)
				w.Close()
				d.want(t, "sent text 0")
				for range 7 {
					p.Next()
				}
				// What is refused has not been sent.
				if c.Write(ctx, websocket.Text, []byte{0xff}) == nil || c.Send(websocket.Text, []byte{0xff}) == nil || c.Send(9, nil) == nil {
					t.Error("no error")
				}
				d.want(t)
				if how.name != "Start" {
					pinging := ping(ctx, c)
					f, _ := p.Next()
					time.Sleep(3 * time.Millisecond)
					p.WritePieces(masked(0x8a, string(f.Payload)), masked(0x8a, string(f.Payload)))
					<-pinging
					d.want(t, "pong 3ms")
				}
				answer := wantPing(t, p) // of keepalive
				time.Sleep(70 * time.Millisecond)
				p.WritePieces(answer, answer)
				d.want(t, "pong 70ms")

				server.StallWriteAfter(0)
				for range 5 {
					c.Send(websocket.Binary, make([]byte, 298))
				}
				d.want(t, "sent binary 298", "sent binary 298", "sent binary 298", "dropped 1", "dropped 1")
				g.Send(prepared(make([]byte, 500)))
				d.want(t, "dropped 1")
				server.StallWriteAfter(-1)
				for range 3 {
					p.Next()
				}
				c.Close(1001, "")
				d.want(t)
				p.Want("88 02 03e9")
				p.Write("82 80 z")
				open := time.Since(start)
				p.Write("88 80 z")
				p.WantEOF()
				p.Close()
				done(t, "the loop", end)
				d.want(t, "closed 1001")
				if got := d.ends[0].Open; got != open {
					t.Errorf("open for %v, want %v", got, open)
				}
			})
		})
	}
}

// Without a hook nothing happens.
func TestTraceNilHooks(t *testing.T) {
	u := &websocket.Upgrader{Config: websocket.Config{Trace: new(websocket.Trace), WriteQueue: 100, Overflow: websocket.DropOldest, PingInterval: 30 * time.Second}}
	inSight(t, u, func(t *testing.T, l *lab) {
		p, c, server := l.openServer("no hooks")
		end := readingOn(c)
		p.Write("81 80 z")
		c.Send(websocket.Text, nil)
		p.Want("81 00")
		p.WritePieces(wantPing(t, p))
		server.StallWriteAfter(0)
		for range 5 {
			c.Send(websocket.Binary, make([]byte, 60))
		}
		c.CloseNow()
		done(t, "Read", end)
	})
}

// K-13 to K-16, K-23: how a connection ended: what the methods return, whether
// both have sent a Close frame, and the peer's code.
func TestTraceClosing(t *testing.T) {
	type end struct {
		name     string
		f        func(t *testing.T, l *lab, p *conformance.Peer, c *websocket.Conn)
		code     websocket.StatusCode
		remote   bool
		clean    bool
		peerCode websocket.StatusCode
		open     time.Duration // from the start
	}
	rests := func(p *conformance.Peer) {
		p.Rest()
		p.Close()
	}
	for _, test := range []end{
		{"K-13 the peer answers", func(t *testing.T, l *lab, p *conformance.Peer, c *websocket.Conn) {
			c.Close(1001, "bye")
			time.Sleep(2 * time.Second)
			p.Write("81 82 z 6869 88 82 z 03e9")
			rests(p)
		}, 1001, false, true, 1001, 2 * time.Second},
		{"K-13 the peer answers without a code", func(t *testing.T, l *lab, p *conformance.Peer, c *websocket.Conn) {
			c.Close(4000, "")
			p.Write("88 80 z")
			rests(p)
		}, 4000, false, true, 1005, 0},
		{"K-14 the peer does not answer", func(t *testing.T, l *lab, p *conformance.Peer, c *websocket.Conn) {
			c.Close(1000, "")
			rests(p)
		}, 1000, false, false, 0, 5 * time.Second},
		{"K-14 the peer ends the stream", func(t *testing.T, l *lab, p *conformance.Peer, c *websocket.Conn) {
			c.Close(1000, "")
			synctest.Wait()
			p.Close()
		}, 1000, false, false, 0, 0},
		{"K-15 both at once", func(t *testing.T, l *lab, p *conformance.Peer, c *websocket.Conn) {
			c.Close(1001, "")
			// The peer has not read that when it closes.
			p.Conn().Write(notation("88 82 z 03e8"))
			rests(p)
		}, 1001, false, true, 1000, 0},
		{"K-16 an illegal frame in place of the answer", func(t *testing.T, l *lab, p *conformance.Peer, c *websocket.Conn) {
			c.Close(1001, "")
			p.Write("c1 80 z")
			rests(p)
		}, 1001, false, false, 0, 0},
		{"K-16 an illegal Close in place of the answer", func(t *testing.T, l *lab, p *conformance.Peer, c *websocket.Conn) {
			c.Close(1001, "")
			p.Write("88 82 z 03ed")
			rests(p)
		}, 1001, false, false, 0, 0},
		{"the peer closes", func(t *testing.T, l *lab, p *conformance.Peer, c *websocket.Conn) {
			time.Sleep(time.Second)
			p.Write("88 85 z 0fa0 627965")
			rests(p)
		}, 4000, true, true, 4000, time.Second},
		{"the peer closes without a code", func(t *testing.T, l *lab, p *conformance.Peer, c *websocket.Conn) {
			p.Write("88 80 z")
			rests(p)
		}, 1005, true, true, 1005, 0},
		{"the peer closes and this side cuts then", func(t *testing.T, l *lab, p *conformance.Peer, c *websocket.Conn) {
			p.Write("88 82 z 03e8")
			p.Want("88 02 03e8")
			synctest.Wait() // the peer has the Close frame before this side has noted that
			c.CloseNow()
			p.Close()
		}, 1000, true, true, 1000, 0},
		{"a violation", func(t *testing.T, l *lab, p *conformance.Peer, c *websocket.Conn) {
			p.Write("c1 80 z")
			rests(p)
		}, 1002, false, false, 0, 0},
		{"a Close that is a violation", func(t *testing.T, l *lab, p *conformance.Peer, c *websocket.Conn) {
			p.Write("88 81 z 61")
			rests(p)
		}, 1002, false, false, 0, 0},
		{"loss", func(t *testing.T, l *lab, p *conformance.Peer, c *websocket.Conn) {
			time.Sleep(time.Minute)
			p.Close()
		}, 1006, true, false, 0, time.Minute},
		{"CloseNow", func(t *testing.T, l *lab, p *conformance.Peer, c *websocket.Conn) {
			c.CloseNow()
			rests(p)
		}, 1006, false, false, 0, 0},
		{"CloseNow behind Close", func(t *testing.T, l *lab, p *conformance.Peer, c *websocket.Conn) {
			c.Close(1000, "")
			c.CloseNow()
			rests(p)
		}, 1000, false, false, 0, 0},
		{"Shutdown", func(t *testing.T, l *lab, p *conformance.Peer, c *websocket.Conn) {
			u := l.server.Handler.(*websocket.Upgrader)
			down := shutdown(context.Background(), u)
			p.Want("88 02 03e9")
			p.Write("88 82 z 03e9")
			rests(p)
			<-down
		}, 1001, false, true, 1001, 0},
		{"keepalive", func(t *testing.T, l *lab, p *conformance.Peer, c *websocket.Conn) {
			rests(p)
		}, 1006, true, false, 0, 2 * time.Hour},
		{"too slow", func(t *testing.T, l *lab, p *conformance.Peer, c *websocket.Conn) {
			p.Write("81 82 z 68")
			rests(p)
		}, 1008, false, false, 0, time.Minute + half},
	} {
		for _, events := range []bool{false, true} {
			t.Run(test.name, func(t *testing.T) {
				d, log := new(diary), new(logBook)
				u := &websocket.Upgrader{Config: websocket.Config{Trace: d.trace(), Logger: slog.New(log), PingInterval: time.Hour, PingTimeout: time.Hour}}
				u.Subprotocols = []string{"chat"}
				inSight(t, u, func(t *testing.T, l *lab) {
					start := time.Now()
					p, c := l.open(test.name)
					p.Patience = 10 * time.Hour
					h := newHearer(t, nil)
					h.after = func() { d.note(c, "Closed") }
					var read <-chan error
					if events {
						c.Start(h)
					} else {
						read = readingOn(c)
					}
					synctest.Wait()
					test.f(t, l, p, c)
					d.mu.Lock()
					d.lines = slices.DeleteFunc(d.lines, func(s string) bool { return strings.HasPrefix(s, "opened") })
					d.mu.Unlock()
					closed := fmt.Sprintf("closed %d", uint16(test.code))
					if events {
						d.want(t, "Closed", closed)
					} else {
						d.want(t, closed)
						wantClosed(t, done(t, "Read", read), test.code, test.remote)
					}
					got := d.ends[0]
					if got.Err != wantOver(t, c) || got.Err.Code != test.code || got.Err.Remote != test.remote {
						t.Errorf("the error is %#v", got.Err)
					}
					if got.Clean != test.clean || got.PeerCode != test.peerCode {
						t.Errorf("clean %v, peer's code %d; want %v, %d", got.Clean, got.PeerCode, test.clean, test.peerCode)
					}
					if got.Open != test.open || time.Since(start) != test.open {
						t.Errorf("open for %v of %v, want %v", got.Open, time.Since(start), test.open)
					}
					if s := u.Stats(); s.Received != got.Received || s.Sent != got.Sent {
						t.Errorf("%+v, of %+v", got, s)
					}
					// One record, for those who want to know everything.
					if all := log.from(slog.LevelDebug + 1); len(all) > 0 {
						t.Errorf("an everyday end is logged: %q", all)
					}
					want := fmt.Sprintf("DEBUG websocket: closed remote=%v error=%v clean=%v open=%v", c.RemoteAddr(), got.Err, got.Clean, got.Open)
					if all := log.from(slog.LevelDebug); len(all) != 1 || all[0] != want {
						t.Errorf("the log has %q, want %q", all, want)
					}
				})
			})
		}
	}
}

// A Close frame that did not get out was not sent: the peer's own code is known,
// and the end is not clean.
func TestTraceClosingUnanswered(t *testing.T) {
	d := new(diary)
	inSight(t, &websocket.Upgrader{Config: websocket.Config{Trace: d.trace()}}, func(t *testing.T, l *lab) {
		p, c, server := l.openServer("the answer does not get out")
		server.StallWriteAfter(0)
		end := readingOn(c)
		p.Write("88 82 z 0fa1")
		wantClosed(t, done(t, "Read", end), 4001, true)
		c.CloseNow()
		p.Close()
		synctest.Wait()
		if e := d.ends[0]; e.Clean || e.PeerCode != 4001 {
			t.Errorf("%+v", e)
		}
	})
}

// What the server's owner should know is above the debug level, and says whose
// connection it is.
func TestTraceRecords(t *testing.T) {
	for name, test := range map[string]struct {
		handler func(c *websocket.Conn) error
		code    websocket.StatusCode
		want    string
	}{
		"handler failed":   {func(*websocket.Conn) error { return errors.New("broken") }, 1011, "ERROR websocket: handler failed remote=%v error=broken"},
		"handler panicked": {func(*websocket.Conn) error { panic("broken") }, 1011, "ERROR websocket: handler panicked remote=%v panic=broken"},
		"nil":              {func(*websocket.Conn) error { return nil }, 1000, ""},
		"a code":           {func(*websocket.Conn) error { return &websocket.CloseError{Code: 4001} }, 4001, ""},
		"overflow": {func(c *websocket.Conn) error {
			return c.Send(websocket.Binary, make([]byte, 600))
		}, 1008, "WARN websocket: peer disconnected, it does not take its messages fast enough remote=%v queued_bytes=602 queued_messages=1"},
	} {
		t.Run(name, func(t *testing.T) {
			d, log := new(diary), new(logBook)
			var conn *websocket.Conn
			var ready chan bool
			u := &websocket.Upgrader{Config: websocket.Config{Trace: d.trace(), Logger: slog.New(log), WriteQueue: 1000}}
			u.Handler = func(c *websocket.Conn) error {
				conn = c
				<-ready
				if name == "overflow" {
					c.Send(websocket.Binary, make([]byte, 598))
				}
				return test.handler(c)
			}
			inSight(t, u, func(t *testing.T, l *lab) {
				var server *memconn.Conn
				ready = make(chan bool)
				l.tune = func(c *memconn.Conn) { server = c }
				p := l.peer(name)
				synctest.Wait()
				if name == "overflow" {
					server.StallWriteAfter(0)
				}
				close(ready)
				synctest.Wait()
				server.StallWriteAfter(-1)
				p.Write("88 80 z")
				p.Rest()
				p.Close()
				synctest.Wait()
				if len(d.ends) != 1 || d.ends[0].Err.Code != test.code {
					t.Fatalf("%+v", d.ends)
				}
				var want []string
				if test.want != "" {
					want = []string{fmt.Sprintf(test.want, conn.RemoteAddr())}
				}
				got := log.from(slog.LevelInfo)
				for i, s := range got {
					s, _, _ = strings.Cut(s, " stack=")
					got[i] = s
				}
				if !slices.Equal(got, want) {
					t.Errorf("logged %q, want %q", got, want)
				}
			})
		})
	}
}

// A hook that panics is logged, and nothing else comes of it.
func TestTraceHooksPanic(t *testing.T) {
	for _, events := range []bool{false, true} {
		d, log := new(diary), new(logBook)
		u := &websocket.Upgrader{Config: websocket.Config{Trace: d.trace(), Logger: slog.New(log), PingInterval: 30 * time.Second, WriteQueue: 100, Overflow: websocket.DropNewest}}
		d.also = func(what string) { panic("hook " + what) }
		inSight(t, u, func(t *testing.T, l *lab) {
			p, c, server := l.openServer("panics")
			h := newHearer(t, nil)
			var end <-chan error
			if events {
				c.Start(h)
			} else {
				end = readingOn(c)
			}
			p.Write("81 82 z 6869")
			p.Write("01 81 z 61 80 81 z 62")
			synctest.Wait()
			if err := c.Send(websocket.Text, nil); err != nil {
				t.Error(err)
			}
			p.Want("81 00")
			var g websocket.Group
			g.Add(c)
			g.Send(prepared([]byte("abcd")))
			p.Want("82 04 61626364")
			p.WritePieces(wantPing(t, p))
			synctest.Wait()
			server.StallWriteAfter(0)
			c.Send(websocket.Binary, make([]byte, 60))
			c.Send(websocket.Binary, make([]byte, 60))
			server.StallWriteAfter(-1)
			p.Next()
			p.Write("88 82 z 03e8")
			p.WantClean("03e8")
			p.Close()
			synctest.Wait()
			if !events {
				wantClosed(t, done(t, "Read", end), 1000, true)
			}
			if s := u.Stats(); s.Open != 0 || s.Closed[1000].Remote != 1 {
				t.Errorf("%+v", s)
			}
			d.want(t, "opened", "received text 2", "received text 2", "sent text 0", "sent binary 4", "pong 0s", "sent binary 60", "dropped 1", "closed 1000")
			if all := log.from(slog.LevelError); len(all) != 9 || !strings.Contains(all[0], "panic=hook opened") {
				t.Errorf("logged %d: %q", len(all), all)
			}
		})
	}
}

// Hooks may call what does not read: they hold no lock, and Opened and Closed
// are the first and the last.
func TestTraceHooksMayCall(t *testing.T) {
	var g websocket.Group
	var u *websocket.Upgrader
	d := new(diary)
	tr := d.trace()
	dropped := tr.Dropped
	tr.Dropped = func(c *websocket.Conn, n int) {
		dropped(c, n)
		g.Send(prepared([]byte("somebody is slow")), c)
		u.Stats()
		c.Close(4000, "slow")
	}
	received := tr.Received
	tr.Received = func(c *websocket.Conn, typ websocket.MessageType, n int64) {
		received(c, typ, n)
		c.Send(typ, nil)
		c.Queued()
		c.RTT()
	}
	u = &websocket.Upgrader{Config: websocket.Config{Trace: tr, WriteQueue: 100, Overflow: websocket.DropNewest}}
	inSight(t, u, func(t *testing.T, l *lab) {
		p, c, server := l.openServer("slow")
		q, other := l.open("told")
		readingOn(c)
		g.Add(c)
		g.Add(other)
		p.Write("81 81 z 61")
		p.Want("81 00")
		server.StallWriteAfter(0)
		g.Send(prepared(make([]byte, 60)))
		q.Next()
		synctest.Wait() // what it has is not in its queue any more
		sent := async(func() error { g.Send(prepared(make([]byte, 60))); return nil })
		done(t, "Group.Send", sent)
		q.Next()
		if f, _ := q.Next(); string(f.Payload) != "somebody is slow" {
			t.Errorf("received %v", f)
		}
		server.StallWriteAfter(-1)
		p.Next()
		p.Want("88 06 0fa0 736c6f77")
	})

	for _, how := range []string{"Close", "CloseNow", "nothing"} {
		d := new(diary)
		tr := d.trace()
		tr.Opened = func(c *websocket.Conn) {
			switch how {
			case "Close":
				c.Close(4000, "")
			case "CloseNow":
				c.CloseNow()
			}
			time.Sleep(time.Minute)
			d.note(c, "opened")
		}
		u = &websocket.Upgrader{Config: websocket.Config{Trace: tr}}
		var handled *websocket.Conn
		u.Handler = func(c *websocket.Conn) error { handled = c; return <-readingOn(c) }
		inSight(t, u, func(t *testing.T, l *lab) {
			p := l.peer("Opened takes its time")
			synctest.Wait()
			if how == "nothing" { // nobody else has the connection
				down := shutdown(context.Background(), u)
				synctest.Wait()
				if n := count(u); n != 0 || u.Stats().Open != 1 {
					t.Errorf("%d connections, %d open", n, u.Stats().Open)
				}
				time.Sleep(time.Minute)
				p.Want("88 02 03e9")
				answers(p)
				<-down
				d.want(t, "opened", "closed 1001")
			} else {
				p.Close()
				time.Sleep(2 * time.Minute)
				synctest.Wait()
			}
			if handled == nil || !isDone(handled) || count(u) != 0 || u.Stats().Open != 0 {
				t.Errorf("%s: %d connections are left, %+v", how, count(u), u.Stats())
			}
		})
	}
}

// Hooks cost nothing that the garbage collector has to clean up, whether they
// are set or not.
func TestTraceAllocations(t *testing.T) {
	if underRace() {
		t.Skip("the race detector makes pools forget")
	}
	var messages, bytes int64
	for name, trace := range map[string]*websocket.Trace{
		"no Trace": nil, "no hooks": {},
		"hooks": {
			Opened:   func(*websocket.Conn) {},
			Closed:   func(*websocket.Conn, websocket.Closing) {},
			Received: func(_ *websocket.Conn, _ websocket.MessageType, n int64) { messages++; bytes += n },
			Sent:     func(_ *websocket.Conn, _ websocket.MessageType, n int64) { messages++; bytes += n },
			Dropped:  func(*websocket.Conn, int) {},
			Pong:     func(*websocket.Conn, time.Duration) {},
		},
	} {
		u := &websocket.Upgrader{Config: websocket.Config{Logger: slog.New(slog.DiscardHandler), PingInterval: -1, Trace: trace,
			MessageRate: 1e9, ControlRate: 1e9, FirstMessageTimeout: time.Hour}}
		for frame, data := range map[string][]byte{"one frame": masked(0x82, "hello"), "fragments": append(append(masked(0x02, "he"), masked(0x89, "")...), masked(0x80, "llo")...)} {
			var nc net.Conn = newMill(data)
			c, err := u.Upgrade(newHSWriter(nc), hsRequest())
			if err != nil {
				t.Fatal(err)
			}
			ctx, dst := context.Background(), make([]byte, 0, 100)
			defer debug.SetGCPercent(debug.SetGCPercent(-1))
			for what, f := range map[string]func(){
				"ReadAppend": func() { c.ReadAppend(ctx, dst) },
				"Write":      func() { c.Write(ctx, websocket.Binary, dst[:5]) },
			} {
				f()
				if n := testing.AllocsPerRun(200, f); n != 0 {
					t.Errorf("%s, %s, %s: %v allocations", name, frame, what, n)
				}
			}
			c.CloseNow()
			<-c.Context().Done()
		}
	}
	if messages == 0 || bytes != 5*messages {
		t.Errorf("%d messages of %d bytes", messages, bytes)
	}
}
