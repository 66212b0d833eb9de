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
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/sockeye-ws/websocket"
)

// A logBook is a log for a test to read.
type logBook struct {
	mu      sync.Mutex
	records []slog.Record
}

func (b *logBook) Enabled(context.Context, slog.Level) bool { return true }
func (b *logBook) WithAttrs([]slog.Attr) slog.Handler       { return b }
func (b *logBook) WithGroup(string) slog.Handler            { return b }

func (b *logBook) Handle(_ context.Context, r slog.Record) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.records = append(b.records, r.Clone())
	return nil
}

// from returns the records of at least this level, as text.
func (b *logBook) from(level slog.Level) (all []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.records {
		if r.Level < level {
			continue
		}
		text := r.Level.String() + " " + r.Message
		r.Attrs(func(a slog.Attr) bool {
			text += " " + a.String()
			return true
		})
		all = append(all, text)
	}
	return all
}

// ServeHTTP keeps nothing of the request or net/http alive while the
// connection lives: not the request, its header, its context's values, the
// response nor the buffers.
func TestServeHTTPKeepsNothing(t *testing.T) {
	type value [64]byte
	type key struct{}
	synctest.Test(t, func(t *testing.T) {
		var requests []weak.Pointer[http.Request]
		var headers []weak.Pointer[string]
		var values []weak.Pointer[value]
		var writers []weak.Pointer[hijackSpy]
		var buffers []weak.Pointer[bufio.ReadWriter]
		var ins []weak.Pointer[bufio.Reader]
		var outs []weak.Pointer[bufio.Writer]
		conns := make(chan *websocket.Conn)
		u := &websocket.Upgrader{
			Subprotocols: []string{"chat"},
			Handler: func(c *websocket.Conn) error {
				conns <- c
				_, _, err := c.Read(context.Background())
				return err
			},
		}
		b := inMemory(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			v := &value{}
			r = r.WithContext(context.WithValue(r.Context(), key{}, v))
			probe := []string{strings.Repeat("x", 100)}
			r.Header["X-Probe"] = probe
			spy := &hijackSpy{w, func(_ net.Conn, rw *bufio.ReadWriter) {
				buffers = append(buffers, weak.Make(rw))
				ins, outs = append(ins, weak.Make(rw.Reader)), append(outs, weak.Make(rw.Writer))
			}}
			requests, headers = append(requests, weak.Make(r)), append(headers, weak.Make(&probe[0]))
			values, writers = append(values, weak.Make(v)), append(writers, weak.Make(spy))
			u.ServeHTTP(spy, r)
		}))
		defer b.stop()
		const n = 10
		for range n {
			p := b.peer("nothing of net/http is kept")
			defer p.Close()
			c := <-conns
			defer c.CloseNow()
			if err := c.Write(context.Background(), websocket.Text, nil); err != nil {
				t.Error(err)
			}
			p.Want("81 00")
		}
		synctest.Wait()
		if len(requests) != n || len(buffers) != n {
			t.Fatalf("%d requests, %d hijacked", len(requests), len(buffers))
		}
		wantCollected(t, requests...)
		wantCollected(t, headers...)
		wantCollected(t, values...)
		wantCollected(t, writers...)
		wantCollected(t, buffers...)
		wantCollected(t, ins...)
		wantCollected(t, outs...)
	})
}

// Context values: none under ServeHTTP, those of the request under Upgrade.
func TestContextValues(t *testing.T) {
	type key struct{}
	for _, upgrade := range []bool{false, true} {
		t.Run(fmt.Sprint("Upgrade ", upgrade), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				seen := make(chan [2]any, 1)
				look := func(c *websocket.Conn) error {
					ctx := c.Context()
					seen <- [2]any{ctx.Value(key{}), ctx.Value(http.ServerContextKey)}
					return nil
				}
				u := &websocket.Upgrader{Handler: look}
				b := inMemory(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					ctx, cancel := context.WithCancel(context.WithValue(r.Context(), key{}, "mine"))
					defer cancel()
					r = r.WithContext(ctx)
					if !upgrade {
						u.ServeHTTP(w, r)
						return
					}
					c, err := u.Upgrade(w, r)
					if err != nil {
						t.Error(err)
						return
					}
					look(c)
					// The end of the request's context is not the connection's.
					cancel()
					synctest.Wait()
					if err := c.Context().Err(); err != nil {
						t.Errorf("the Context has ended with that of the request: %v", err)
					}
					c.Close(1000, "")
				}))
				defer b.stop()
				p := b.peer("where Context has its values from")
				p.Want("88 02 03e8")
				p.Close()
				got := <-seen
				if upgrade && (got[0] != "mine" || got[1] == nil) || !upgrade && (got[0] != nil || got[1] != nil) {
					t.Errorf("the Context has the values %v", got)
				}
			})
		})
	}
}

// A connection of Upgrade is not closed when the HTTP handler returns.
func TestUpgradeOutlivesHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conns := make(chan *websocket.Conn, 1)
		b := inMemory(t, http101(func(c *websocket.Conn) { conns <- c }))
		defer b.stop()
		p := b.peer("a connection of Upgrade is the caller's to close")
		synctest.Wait() // the handler has returned
		c := <-conns
		time.Sleep(time.Hour)
		wantOpen(t, p, c)
		c.CloseNow()
		p.WantDrop()
		p.Close()
	})
}

// http.Server counts the connection as hijacked, and its Shutdown neither
// closes it nor waits for it.
func TestServerShutdown(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		var mu sync.Mutex
		var states []http.ConnState
		l.server.ConnState = func(_ net.Conn, s http.ConnState) {
			mu.Lock()
			defer mu.Unlock()
			states = append(states, s)
		}
		p, c := l.open("http.Server is done with the connection")
		synctest.Wait()
		mu.Lock()
		if want := []http.ConnState{http.StateNew, http.StateActive, http.StateHijacked}; !slices.Equal(states, want) {
			t.Errorf("the connection was %v, want %v", states, want)
		}
		mu.Unlock()
		start := time.Now()
		if err := l.server.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		wantElapsed(t, start, 0)
		wantOpen(t, p, c)
		l.server.Close()
		wantOpen(t, p, c)
	})
}

// What the handler ends with: a panic is logged as net/http does, with its
// stack, http.ErrAbortHandler silently, an error with its text; the peer is
// told none of it. Everyday ends are no news.
func TestHandlerEnds(t *testing.T) {
	for _, test := range []struct {
		name   string
		end    func() error
		code   int
		reason string
		logged []string // in one record of level Error
	}{
		{"nil", func() error { return nil }, 1000, "", nil},
		{"an error", func() error { return errors.New("secret 1") }, 1011, "", []string{"secret 1"}},
		{"a wrapped error", func() error { return fmt.Errorf("more: %w", io.ErrNoProgress) }, 1011, "", []string{"more: ", io.ErrNoProgress.Error()}},
		{"a CloseError", func() error { return &websocket.CloseError{Code: 4001, Reason: "out"} }, 4001, "out", nil},
		{"a panic", secretPanic, 1011, "", []string{"secret 2", "secretPanic", "goroutine "}},
		{"a panic with an error", func() error { panic(errors.New("secret 3")) }, 1011, "", []string{"secret 3", "TestHandlerEnds", "goroutine "}},
		{"a panic of the runtime", func() error { return make([]error, 0)[len(os.Args)] }, 1011, "", []string{"index out of range", "TestHandlerEnds"}},
		{"http.ErrAbortHandler", func() error { panic(http.ErrAbortHandler) }, 1011, "", nil},
		{"runtime.Goexit", func() error { runtime.Goexit(); return nil }, 1011, "", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				book := &logBook{}
				var printed bytes.Buffer
				conns := make(chan *websocket.Conn, 2)
				b := inMemory(t, &websocket.Upgrader{
					Config: websocket.Config{Logger: slog.New(book)},
					Handler: func(c *websocket.Conn) error {
						conns <- c
						if _, _, err := c.Read(context.Background()); err != nil {
							return err
						}
						return test.end()
					},
				})
				b.server.ErrorLog.SetOutput(&printed)
				defer b.stop()
				other := b.peer("one handler's end is not another's")
				<-conns
				p := b.peer("how a handler ends")
				c := <-conns
				p.Write("81 80 z")
				reason := p.WantFail(test.code)
				p.Close()
				if reason != test.reason || strings.Contains(reason, "secret") {
					t.Errorf("the peer is told %q", reason)
				}
				closed := wantOver(t, c)
				if int(closed.Code) != test.code || closed.Remote {
					t.Errorf("the end is %v", closed)
				}
				records := book.from(slog.LevelInfo)
				if test.logged == nil && len(records) > 0 && test.name != "runtime.Goexit" || test.logged != nil && len(records) != 1 {
					t.Errorf("logged %q", records)
				}
				for _, want := range test.logged {
					if len(records) > 0 && (!strings.Contains(records[0], want) || !strings.HasPrefix(records[0], "ERROR")) {
						t.Errorf("logged %q, without %q", records[0], want)
					}
				}
				if printed.Len() > 0 {
					t.Errorf("net/http has logged %q", &printed)
				}
				// The other one's peer leaves, and its handler returns that.
				other.Write("88 82 z 03e9")
				other.WantClean("03e9")
				other.Close()
				synctest.Wait()
				if more := book.from(slog.LevelInfo); len(more) != len(records) {
					t.Errorf("an everyday end is logged: %q", more)
				}
			})
		})
	}
}

func secretPanic() error { panic("secret 2") }

// The zero Logger is slog.Default, as it is when something is to be said.
func TestDefaultLogger(t *testing.T) {
	book := &logBook{}
	defer slog.SetDefault(slog.Default())
	synctest.Test(t, func(t *testing.T) {
		b := inMemory(t, &websocket.Upgrader{Handler: func(*websocket.Conn) error { return errors.New("for the log") }})
		defer b.stop()
		slog.SetDefault(slog.New(book))
		p := b.peer("a handler's error is logged")
		p.WantFail(1011)
		p.Close()
	})
	if records := book.from(slog.LevelError); len(records) != 1 || !strings.Contains(records[0], "for the log") {
		t.Errorf("logged %q", records)
	}
}

// After the handler's return nobody waits: neither net/http nor the peer's
// answer keeps its goroutine.
func TestHandlerGoroutineEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		returned := make(chan *websocket.Conn, 1)
		b := inMemory(t, &websocket.Upgrader{Handler: func(c *websocket.Conn) error {
			returned <- c
			return nil
		}})
		defer b.stop()
		start := time.Now()
		p := b.peer("the return of the handler is a Close")
		c := <-returned
		p.Want("88 02 03e8")
		wantElapsed(t, start, 0)
		if err := c.Write(context.Background(), websocket.Text, nil); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Write after the handler's return: %v", err)
		}
		p.WantEOF()
		wantElapsed(t, start, 5*time.Second)
		p.Close()
		wantClosed(t, wantOver(t, c), 1000, false)
	})
}

const fipsVariable = "SOCKEYE_TEST_FIPS"

// SHA-1 in the handshake is no cryptography (S-12), and is not refused where
// only approved algorithms are allowed.
func TestFIPS140Only(t *testing.T) {
	if os.Getenv(fipsVariable) == "" {
		exe, err := os.Executable()
		if err != nil {
			t.Skip(err)
		}
		cmd := exec.Command(exe, "-test.run=^TestFIPS140Only$", "-test.v")
		cmd.Env = append(os.Environ(), "GODEBUG=fips140=only", fipsVariable+"=1")
		out, err := cmd.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("--- PASS: TestFIPS140Only")) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	conns := make(chan *websocket.Conn, 1)
	b := overTCP(t, &websocket.Upgrader{Handler: func(c *websocket.Conn) error {
		conns <- c
		_, _, err := c.Read(context.Background())
		return err
	}})
	defer b.stop()
	conn, err := b.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r, err := http.NewRequest("GET", "http://example.com/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	r.Header.Set("Sec-WebSocket-Version", "13")
	r.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	if err := r.Write(conn); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), r)
	if err != nil || answer.StatusCode != http.StatusSwitchingProtocols || answer.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("%v, %v", answer, err)
	}
	(<-conns).CloseNow()
}
