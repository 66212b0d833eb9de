package websocket_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/memconn"
)

// Close from any goroutine, while others read, write and wait, behind a peer
// that takes nothing: it returns at once, and so do those that wait; the
// connection is cut when WriteTimeout is over.
func TestCloseWhileStuck(t *testing.T) {
	for _, since := range []time.Duration{0, 3 * time.Second} {
		t.Run(fmt.Sprint("stuck since ", since), func(t *testing.T) {
			inScene(t, websocket.Config{WriteTimeout: 7 * time.Second}, func(t *testing.T, s *scene) {
				ctx := context.Background()
				written := stuck(t, s.c)
				waiting := map[string]<-chan error{
					"Read":          async(func() error { return readOne(ctx, s.c).err }),
					"Ping":          async(func() error { _, err := s.c.Ping(ctx); return err }),
					"another Write": async(func() error { return s.c.Write(ctx, websocket.Binary, make([]byte, tooMuch)) }),
				}
				synctest.Wait()
				waiting["a Writer"] = async(func() error { _, err := s.c.Writer(ctx, websocket.Text); return err })
				time.Sleep(since)
				start := time.Now()
				if err := s.c.Close(4000, "done"); err != nil {
					t.Errorf("Close: %v", err)
				}
				wantElapsed(t, start, 0)
				for name, result := range waiting {
					wantClosed(t, done(t, name, result), 4000, false)
				}
				<-s.c.Context().Done()
				if d := time.Since(start); d > 7*time.Second || d < 7*time.Second-since {
					t.Errorf("the connection was cut after %v, want %v less what has passed at most", d, 7*time.Second)
				}
				wantClosed(t, done(t, "the stuck Write", written), 4000, false)
				frames, _ := s.p.Rest()
				if len(frames) > 0 {
					t.Errorf("received %v", frames)
				}
			})
		})
	}
	t.Run("the Write in progress", func(t *testing.T) {
		inScene(t, websocket.Config{}, func(t *testing.T, s *scene) {
			data := bytes.Repeat([]byte("s"), tooMuch)
			written := async(func() error { return s.c.Write(context.Background(), websocket.Binary, data) })
			synctest.Wait()
			if err := s.c.Close(1000, ""); err != nil {
				t.Error(err)
			}
			synctest.Wait()
			select {
			case err := <-written:
				t.Errorf("the Write returned %v while the network was still taking its bytes", err)
			default: // its frame goes on, and the Close frame comes behind it
			}
			wantStuck(s.p)
			if err := done(t, "the Write in progress", written); err != nil {
				t.Error(err)
			}
			s.p.Want("88 02 03e8")
			s.p.Write("88 80 z")
			s.p.WantEOF()
		})
	})
}

// A hub that closes its members in a loop loses no time with those that are
// stuck.
func TestCloseManyStuck(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		const n = 1000
		data := make([]byte, 300<<10)
		conns := make([]*websocket.Conn, n)
		for i := range conns {
			var server *memconn.Conn
			_, conns[i], server = l.openServer("a hub is not wedged by slow peers")
			server.SetBuffer(1)
			go conns[i].Write(context.Background(), websocket.Binary, data)
		}
		synctest.Wait()
		start := time.Now()
		for _, c := range conns {
			if err := c.Close(1001, "shutting down"); err != nil {
				t.Error(err)
			}
		}
		wantElapsed(t, start, 0)
		for _, c := range conns {
			<-c.Context().Done()
		}
		wantElapsed(t, start, 10*time.Second)
	})
}

// The wait for the peer's Close is bounded to the moment, wherever the peer
// stalls and whatever it sends instead.
func TestCloseTimeout(t *testing.T) {
	for _, test := range []struct {
		name, in string
		every    time.Duration
		early    bool // the header of a Close may do for one
	}{
		{"nothing comes", "", 0, false},
		{"it stalls in the header", "88", 0, false},
		{"it stalls in the key", "88 82 0000", 0, false},
		{"it stalls in the payload", "88 82 z 03", 0, true},
		{"it stalls in a message", "81 85 z 68", 0, false},
		{"it stalls in a long header", "82 ff 00000000", 0, false},
		{"it trickles", "82 fe 4000 z rep(00,1000)", 10 * time.Millisecond, false},
		{"it trickles its Close", "88 fd z 03e8 rep(61,123)", 100 * time.Millisecond, true},
	} {
		for _, timeout := range []time.Duration{0, 3 * time.Second} {
			t.Run(fmt.Sprintf("%s/%v", test.name, timeout), func(t *testing.T) {
				inScene(t, websocket.Config{CloseTimeout: timeout}, func(t *testing.T, s *scene) {
					want := timeout
					if want == 0 {
						want = 5 * time.Second
					}
					start := time.Now()
					if err := s.c.Close(1000, ""); err != nil {
						t.Error(err)
					}
					wantElapsed(t, start, 0)
					s.p.Want("88 02 03e8")
					var sending sync.WaitGroup
					defer sending.Wait()
					sending.Go(func() {
						for _, b := range notation(test.in) {
							if _, err := s.p.Conn().Write([]byte{b}); err != nil {
								return
							}
							time.Sleep(test.every)
						}
					})
					s.p.WantEOF()
					if test.early {
						want = min(want, time.Since(start))
					}
					wantElapsed(t, start, want)
					<-s.c.Context().Done()
					if d := time.Since(start); d < want || d > want+time.Second {
						t.Errorf("all was over after %v, want %v and the second of L-08", d, want)
					}
					wantClosed(t, context.Cause(s.c.Context()), 1000, false)
				})
			})
		}
	}
}

// CloseTimeout negative: the peer's Close is not waited for, but what was
// accepted still goes out.
func TestCloseTimeoutNone(t *testing.T) {
	inScene(t, websocket.Config{CloseTimeout: -1}, func(t *testing.T, s *scene) {
		written := stuck(t, s.c)
		start := time.Now()
		if err := s.c.Close(1000, ""); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Second)
		wantStuck(s.p)
		s.p.Want("88 02 03e8")
		s.p.WantEOF()
		wantElapsed(t, start, 2*time.Second)
		<-s.c.Context().Done()
		if d := time.Since(start); d > 3*time.Second {
			t.Errorf("all was over after %v", d)
		}
		<-written
	})
}

// WriteTimeout negative: only closing is bounded.
func TestWriteTimeoutNoneCloses(t *testing.T) {
	inScene(t, websocket.Config{WriteTimeout: -1}, func(t *testing.T, s *scene) {
		written := stuck(t, s.c)
		time.Sleep(time.Hour)
		wantPending(t, "Write", written)
		start := time.Now()
		if err := s.c.Close(1000, ""); err != nil {
			t.Error(err)
		}
		wantElapsed(t, start, 0)
		select {
		case <-s.c.Context().Done():
		case <-time.After(time.Hour):
			t.Fatal("closing is not bounded")
		}
		if d := time.Since(start); d > 15*time.Second {
			t.Errorf("all was over after %v", d)
		}
		wantClosed(t, <-written, 1000, false)
	})
}

// Whatever ends the connection behind a stuck peer: the reader knows at once,
// and all is over when WriteTimeout is.
func TestEndsWhileStuck(t *testing.T) {
	for _, how := range everyEnd {
		switch how.name {
		case "a write that fails": // needs a Write of its own
			continue
		}
		t.Run(how.name, func(t *testing.T) {
			inScene(t, websocket.Config{WriteTimeout: 7 * time.Second}, func(t *testing.T, s *scene) {
				written := stuck(t, s.c)
				end := readingOn(s.c)
				synctest.Wait()
				start := time.Now()
				how.end(s)
				if err := done(t, "Read", end); err != nil {
					wantClosed(t, err, how.code, how.remote)
				}
				wantElapsed(t, start, 0)
				<-s.c.Context().Done()
				if d := time.Since(start); d > 7*time.Second {
					t.Errorf("all was over after %v", d)
				}
				wantClosed(t, done(t, "Write", written), how.code, how.remote)
			})
		})
	}
}

// CloseNow drops what is queued, sends no Close frame and waits for nobody.
func TestCloseNow(t *testing.T) {
	t.Run("while stuck", func(t *testing.T) {
		inScene(t, websocket.Config{}, func(t *testing.T, s *scene) {
			ctx := context.Background()
			results := []<-chan error{stuck(t, s.c)}
			results = append(results,
				async(func() error { return s.c.Write(ctx, websocket.Binary, make([]byte, tooMuch)) }),
				async(func() error { return readOne(ctx, s.c).err }),
				async(func() error { _, err := s.c.Ping(ctx); return err }))
			synctest.Wait()
			accepted := async(func() error { return s.c.Write(ctx, websocket.Text, []byte("queued")) })
			synctest.Wait()
			start := time.Now()
			if err := s.c.CloseNow(); err != nil {
				t.Errorf("CloseNow: %v", err)
			}
			for _, result := range results {
				err := done(t, "a call", result)
				wantClosed(t, err, 1006, false)
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("%v is not net.ErrClosed", err)
				}
			}
			done(t, "the queued Write", accepted)
			wantOver(t, s.c)
			wantElapsed(t, start, 0)
			if frames, _ := s.p.Rest(); len(frames) > 0 {
				t.Errorf("received %v", frames)
			}
		})
	})
	t.Run("during the closing handshake", func(t *testing.T) {
		inScene(t, websocket.Config{}, func(t *testing.T, s *scene) {
			start := time.Now()
			if err := s.c.Close(4000, "done"); err != nil {
				t.Error(err)
			}
			s.p.Want("88 06 0fa0 646f6e65")
			if isDone(s.c) {
				t.Error("all is over before the peer has answered")
			}
			wantClosed(t, s.c.CloseNow(), 4000, false)
			wantClosed(t, wantOver(t, s.c), 4000, false)
			wantElapsed(t, start, 0)
			s.p.WantEOF()
		})
	})
	t.Run("during the second of L-08", func(t *testing.T) {
		inScene(t, websocket.Config{}, func(t *testing.T, s *scene) {
			end := readingOn(s.c)
			start := time.Now()
			s.p.Write("88 82 z 03e8")
			wantClosed(t, <-end, 1000, true)
			s.p.WantClean("03e8")
			wantClosed(t, s.c.CloseNow(), 1000, true)
			wantOver(t, s.c)
			wantElapsed(t, start, 0)
		})
	})
}

// The close frame goes last, after all that was accepted before it, and
// nobody needs to call anything for that.
func TestCloseFrameIsLast(t *testing.T) {
	inScene(t, websocket.Config{}, func(t *testing.T, s *scene) {
		s.server.SetBuffer(10)
		const n = 50
		var accepted []byte
		for i := range n {
			result := async(func() error {
				return s.c.Write(context.Background(), websocket.Binary, bytes.Repeat([]byte{byte(i)}, 100))
			})
			synctest.Wait()
			select {
			case err := <-result:
				if err != nil {
					t.Error(err)
				}
				accepted = append(accepted, byte(i))
			default:
			}
		}
		if err := s.c.Close(1000, "bye"); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		var got []byte
		for {
			f, ok := s.p.Next()
			if !ok {
				return
			}
			if f.Op == 8 {
				break
			}
			got = append(got, f.Payload[0])
		}
		for _, i := range accepted {
			if bytes.Count(got, []byte{i}) != 1 {
				t.Errorf("message %d was accepted, and came %d times", i, bytes.Count(got, []byte{i}))
			}
		}
		if len(accepted) == 0 {
			t.Error("no Write was accepted ahead of the peer")
		}
		s.p.Write("88 80 z")
		s.p.WantEOF()
	})
}

// An unfinished message of a Writer does not hold the close frame up, nor is
// it made to look whole.
func TestCloseInsideWriter(t *testing.T) {
	for i, stage := range writerStages {
		t.Run(stage.name, func(t *testing.T) {
			inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
				p, c, w, _ := begin(t, l, context.Background(), i)
				waiting := other(c)
				synctest.Wait()
				start := time.Now()
				if err := c.Close(4000, "done"); err != nil {
					t.Error(err)
				}
				wantClosed(t, done(t, "the other Write", waiting), 4000, false)
				_, err := w.Write([]byte("late"))
				wantClosed(t, err, 4000, false)
				wantClosed(t, w.Close(), 4000, false)
				f, ok := p.Next()
				for ok && f.Op < 8 {
					if f.Fin {
						t.Errorf("the message looks whole: %v", f)
					}
					f, ok = p.Next()
				}
				if ok && (f.Op != 8 || string(f.Payload) != "\x0f\xa0done") {
					t.Errorf("received %v", f)
				}
				p.Write("88 80 z")
				p.WantEOF()
				wantElapsed(t, start, 0)
			})
		})
	}
}

// The closing handshake goes on in the background: nobody reads, and the
// handler's return has nothing to add to it.
func TestCloseInTheBackground(t *testing.T) {
	inScene(t, websocket.Config{}, func(t *testing.T, s *scene) {
		s.p.Write("81 82 z 6869 01 81 z 61") // unread, and discarded
		synctest.Wait()
		if err := s.c.Close(4000, "done"); err != nil {
			t.Error(err)
		}
		s.leave <- func() error { return errors.New("of no importance any more") }
		s.p.Want("88 06 0fa0 646f6e65")
		time.Sleep(time.Second)
		if isDone(s.c) {
			t.Error("all is over before the peer has answered")
		}
		s.p.Write("80 81 z 62 88 80 z")
		s.p.WantEOF()
		s.p.Close()
		wantClosed(t, wantOver(t, s.c), 4000, false)
	})
}

// Concurrent ends make one: all callers get the same error.
func TestEndsAtOnce(t *testing.T) {
	for range 20 {
		inScene(t, websocket.Config{}, func(t *testing.T, s *scene) {
			end := readingOn(s.c)
			var wg sync.WaitGroup
			for i := range 10 {
				wg.Go(func() { s.c.Close(websocket.StatusCode(4000+i), "") })
				wg.Go(func() { s.c.Write(context.Background(), websocket.Text, nil) })
			}
			wg.Go(func() { s.p.Conn().Write(masked(0x88, "\x03\xe8")) })
			wg.Go(func() { s.leave <- func() error { return nil } })
			wg.Wait()
			err := <-end
			s.p.Close()
			if wantOver(t, s.c) != err || s.c.Close(1000, "") != err || s.c.CloseNow() != err {
				t.Errorf("Read: %v, Context: %v", err, context.Cause(s.c.Context()))
			}
		})
	}
}

// stuckOver opens a connection over a real socket and fills that.
func stuckOver(t *testing.T, over func(testing.TB, http.Handler) *bench, config websocket.Config) (c *websocket.Conn, server net.Conn, written <-chan error) {
	t.Helper()
	config.Logger = slog.New(slog.DiscardHandler)
	conns := make(chan *websocket.Conn, 1)
	u := &websocket.Upgrader{Config: config, Handler: func(c *websocket.Conn) error {
		conns <- c
		<-c.Context().Done()
		return nil
	}}
	b := over(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.ServeHTTP(&hijackSpy{w, func(c net.Conn, _ *bufio.ReadWriter) { server = c }}, r)
	}))
	t.Cleanup(b.stop)
	p := b.peer("a peer that takes nothing")
	t.Cleanup(p.Close)
	c = <-conns
	written = async(func() error { return c.Write(context.Background(), websocket.Binary, make([]byte, 16<<20)) })
	if _, err := io.ReadFull(p.Conn(), make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	return c, server, written
}

// Over real sockets: neither Close nor CloseNow waits for a peer that takes
// nothing, and the descriptor is free when all is over.
func TestCloseStuckSocket(t *testing.T) {
	for _, transport := range []struct {
		name string
		over func(testing.TB, http.Handler) *bench
	}{{"TCP", overTCP}, {"TLS", overTLS}} {
		for _, end := range []struct {
			name    string
			timeout time.Duration // WriteTimeout
			end     func(*websocket.Conn) error
		}{
			{"Close", time.Minute, func(c *websocket.Conn) error { return c.Close(1000, "") }},
			{"CloseNow", time.Minute, (*websocket.Conn).CloseNow},
			{"WriteTimeout", time.Second, func(c *websocket.Conn) error {
				err := c.Close(1000, "")
				var closed *websocket.CloseError
				if errors.As(err, &closed) && closed.Timeout() { // before this call, on a slow machine
					return nil
				}
				return err
			}},
		} {
			t.Run(transport.name+"/"+end.name, func(t *testing.T) {
				c, server, written := stuckOver(t, transport.over, websocket.Config{WriteTimeout: end.timeout})
				passed, stop := sandglass()
				defer stop()
				start := time.Now()
				if err := end.end(c); err != nil {
					t.Error(err)
				}
				if d := time.Since(start); d > 20*time.Second { // who waits for the peer takes a minute
					t.Errorf("%s took %v", end.name, d)
				}
				if end.name == "Close" {
					c.CloseNow()
				}
				wantEnd(t, c)
				// crypto/tls spends 5 s on its close_notify.
				if d := passed(); d > 3*time.Second {
					t.Errorf("the connection was cut after %v", d)
				}
				err := <-written
				var closed *websocket.CloseError
				if !errors.As(err, &closed) || !errors.Is(err, net.ErrClosed) && (end.timeout == time.Minute || !closed.Timeout()) {
					t.Errorf("Write: %v", err)
				}
				if secure, ok := server.(interface{ NetConn() net.Conn }); ok {
					server = secure.NetConn()
				}
				raw, err := server.(*net.TCPConn).SyscallConn()
				if err == nil {
					err = raw.Control(func(uintptr) {})
				}
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("the descriptor is still open: %v", err)
				}
			})
		}
	}
}
