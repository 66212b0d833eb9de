package websocket_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/conformance"
	"github.com/sockeye-ws/websocket/internal/memconn"
)

// A scene is a connection whose handler does what the test says.
type scene struct {
	*lab
	p      *conformance.Peer
	c      *websocket.Conn
	server *memconn.Conn
	leave  chan func() error // what the handler ends with
}

func inScene(t *testing.T, config websocket.Config, f func(t *testing.T, s *scene)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		config.Logger = slog.New(slog.DiscardHandler)
		s := &scene{lab: &lab{conns: make(chan *websocket.Conn)}, leave: make(chan func() error)}
		s.bench = inMemory(t, &websocket.Upgrader{Config: config, Handler: func(c *websocket.Conn) error {
			s.conns <- c
			select {
			case leave := <-s.leave:
				return leave()
			case <-c.Context().Done():
				return nil
			}
		}})
		defer func() {
			s.p.Close()
			s.c.CloseNow()
			s.stop()
		}()
		s.p, s.c, s.server = s.openServer(t.Name())
		f(t, s)
	})
}

var errCable = errors.New("the cable is cut")

// An end is a way in which a connection ends, and what is known then.
type end struct {
	name   string
	end    func(s *scene)
	code   websocket.StatusCode
	reason string
	remote bool
	asked  bool  // errors.Is(err, net.ErrClosed); a panic is neither asked for nor the peer's
	is     error // what it also is
}

// panics says whether the handler left in no regular way.
func (e end) panics() bool { return e.code == websocket.StatusInternalError && !e.asked }

// everyEnd are the kinds of end that there are.
var everyEnd = []end{
	{"Close", func(s *scene) { s.c.Close(4000, "done") }, 4000, "done", false, true, nil},
	{"Close that the peer answers", func(s *scene) { s.c.Close(4000, "done"); s.p.Write("88 82 z 03e8") }, 4000, "done", false, true, nil},
	{"Close that the peer cuts", func(s *scene) { s.c.Close(4000, "done"); s.p.Fin() }, 4000, "done", false, true, nil},
	{"CloseNow", func(s *scene) { s.c.CloseNow() }, 1006, "", false, true, nil},
	{"the peer's Close", func(s *scene) { s.p.Write("88 85 z 03e9 627965") }, 1001, "bye", true, false, nil},
	{"the peer's Close without a reason", func(s *scene) { s.p.Write("88 82 z 0fa0") }, 4000, "", true, false, nil},
	{"the peer's Close without a code", func(s *scene) { s.p.Write("88 80 z") }, 1005, "", true, false, nil},
	{"a violation", func(s *scene) { s.p.Write("c1 80 z") }, 1002, "*", false, false, nil},
	{"no UTF-8", func(s *scene) { s.p.Write("81 81 z ff") }, 1007, "*", false, false, nil},
	{"too big", func(s *scene) { s.p.Write("82 ff 0000000000200000 z") }, 1009, "*", false, false, nil},
	{"the end of the stream", func(s *scene) { s.p.Fin() }, 1006, "*", true, false, io.ErrUnexpectedEOF},
	{"the end of the stream in a frame", func(s *scene) { s.p.Write("81 82 z 68"); s.p.Fin() }, 1006, "*", true, false, io.ErrUnexpectedEOF},
	{"a reset", func(s *scene) { s.p.Conn().(*memconn.Conn).Reset() }, 1006, "*", true, false, syscall.ECONNRESET},
	{"a read that fails", func(s *scene) { s.server.FailReadAfter(0, errCable) }, 1006, "*", true, false, errCable},
	{"a write that fails", func(s *scene) {
		s.server.FailWriteAfter(0, errCable)
		s.c.Write(context.Background(), websocket.Text, nil)
	}, 1006, "*", true, false, errCable},
	{"the handler returns nil", func(s *scene) { s.leave <- func() error { return nil } }, 1000, "", false, true, nil},
	{"the handler returns an error", func(s *scene) { s.leave <- func() error { return errors.New("secret") } }, 1011, "", false, true, nil},
	{"the handler returns a CloseError", func(s *scene) {
		s.leave <- func() error { return fmt.Errorf("x: %w", &websocket.CloseError{Code: 4001, Reason: "out"}) }
	}, 4001, "out", false, true, nil},
	{"the handler panics", func(s *scene) { s.leave <- func() error { panic("secret") } }, 1011, "", false, false, nil},
	{"the handler panics with http.ErrAbortHandler", func(s *scene) { s.leave <- func() error { panic(http.ErrAbortHandler) } }, 1011, "", false, false, nil},
	{"runtime.Goexit", func(s *scene) { s.leave <- func() error { runtime.Goexit(); return nil } }, 1011, "", false, false, nil},
}

// methodsAfter are all calls that an ended connection may get.
func methodsAfter(t *testing.T, s *scene, ctx context.Context, r io.Reader, w io.WriteCloser) map[string]func() error {
	c := s.c
	m := map[string]func() error{
		"Reader": func() error { _, _, err := c.Reader(ctx); return err },
		"Write":  func() error { return c.Write(ctx, websocket.Text, []byte("late")) },
		"Writer": func() error { _, err := c.Writer(ctx, websocket.Binary); return err },
		"Ping":   func() error { _, err := c.Ping(ctx); return err },
		"Send":   func() error { return c.Send(websocket.Text, []byte("late")) },
		// What is wrong with an argument is not asked any more.
		"Write of no UTF-8": func() error { return c.Write(ctx, websocket.Text, []byte("\xff")) },
		"Write of no type":  func() error { return c.Write(ctx, 9, nil) },
		"Writer of no type": func() error { _, err := c.Writer(ctx, 9); return err },
		"Send of no UTF-8":  func() error { return c.Send(websocket.Text, []byte("\xff")) },
		"Send of no type":   func() error { return c.Send(9, nil) },
		"SendPrepared":      func() error { return c.SendPrepared(nil) },
		"Close":             func() error { return c.Close(1000, "again") },
		"CloseNow":          c.CloseNow,
	}
	if r != nil {
		m["the reader's Read"] = func() error { _, err := r.Read(make([]byte, 10)); return err }
	}
	if w != nil {
		m["the writer's Write"] = func() error { _, err := w.Write(make([]byte, 10)); return err }
		m["the writer's Close"] = w.Close
	}
	for _, how := range wholeReads {
		m[how.name] = func() error { return how.read(t, ctx, c).err }
	}
	return m
}

// From the end on every method returns the same error, also to calls that
// wait at that moment, also after all is over, whatever ctx says; it Is
// net.ErrClosed only for an end that this side asked for.
func TestEveryMethodAfterEveryEnd(t *testing.T) {
	for _, how := range everyEnd {
		for _, streaming := range []bool{false, true} {
			switch how.name { // which are in the way of a message that has begun
			case "a write that fails", "no UTF-8", "too big", "the end of the stream in a frame":
				if streaming {
					continue
				}
			}
			t.Run(fmt.Sprintf("%s/streaming=%v", how.name, streaming), func(t *testing.T) {
				inScene(t, websocket.Config{}, func(t *testing.T, s *scene) {
					ctx := context.Background()
					pending := map[string]<-chan error{}
					var r io.Reader
					var w io.WriteCloser
					if streaming {
						s.p.Write("02 81 z 61")
						var err error
						if _, r, err = s.c.Reader(ctx); err != nil {
							t.Fatal(err)
						}
						if w, err = s.c.Writer(ctx, websocket.Binary); err != nil {
							t.Fatal(err)
						}
						pending["a waiting Write"] = async(func() error { return s.c.Write(ctx, websocket.Text, nil) })
						pending["a waiting Writer"] = async(func() error { _, err := s.c.Writer(ctx, websocket.Text); return err })
						pending["a waiting reader"] = async(func() error { _, err := io.ReadAll(r); return err })
					} else {
						pending["a waiting Read"] = async(func() error { return readOne(ctx, s.c).err })
					}
					synctest.Wait() // a Ping must not read first
					pending["a waiting Ping"] = async(func() error { _, err := s.c.Ping(ctx); return err })
					synctest.Wait()
					start := time.Now()
					how.end(s)

					var first *websocket.CloseError
					check := func(name string, err error) {
						t.Helper()
						var closed *websocket.CloseError
						if !errors.As(err, &closed) {
							if err == errSilent && closed == nil && how.remote && (how.code == 1001 || how.code == 1005) {
								return
							}
							t.Errorf("%s: %v, not a CloseError", name, err)
							return
						}
						if first == nil {
							first = closed
						}
						if closed != first || err != error(first) {
							t.Errorf("%s: %v; before, it was %v", name, err, first)
						}
					}
					for name, result := range pending {
						check(name, done(t, name, result))
					}
					ended, cancel := context.WithCancelCause(ctx)
					cancel(errors.New("not the reason"))
					for range 2 {
						for name, call := range methodsAfter(t, s, ctx, r, w) {
							check(name, done(t, name, async(call)))
						}
						for name, call := range methodsAfter(t, s, ended, r, w) {
							check(name+" with a ctx that has ended", done(t, name, async(call)))
						}
					}
					wantElapsed(t, start, 0)

					if first == nil {
						return
					}
					if first.Code != how.code || first.Remote != how.remote || how.reason != "*" && first.Reason != how.reason {
						t.Errorf("the end is %#v; want %d %q, remote %v", first, how.code, how.reason, how.remote)
					}
					if got := errors.Is(first, net.ErrClosed); got != how.asked && !how.panics() {
						t.Errorf("errors.Is(%v, net.ErrClosed) is %v", first, got)
					}
					if how.is != nil && !errors.Is(first, how.is) {
						t.Errorf("errors.Is(%v, %v) is false", first, how.is)
					}
					if how.is == nil && !how.asked && !how.panics() && errors.Unwrap(first) != nil {
						t.Errorf("there is a cause: %v", errors.Unwrap(first))
					}
					s.p.Close()
					if wantOver(t, s.c) != first || context.Cause(s.c.Context()) != error(first) {
						t.Errorf("the Cause of the Context is %v", context.Cause(s.c.Context()))
					}
					for name, call := range methodsAfter(t, s, ctx, r, w) {
						check(name+" when all is over", done(t, name, async(call)))
					}
				})
			})
		}
	}
}
