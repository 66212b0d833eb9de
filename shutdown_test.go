package websocket_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
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

// inHouse calls f in a bubble with a bench whose connections are read by their
// handlers, until they end.
func inHouse(t *testing.T, u *websocket.Upgrader, f func(t *testing.T, b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		if u.Handler == nil && u.Open == nil {
			u.Handler = func(c *websocket.Conn) error { return <-readingOn(c) }
		}
		u.Logger = slog.New(slog.DiscardHandler)
		b := inMemory(t, u)
		defer b.stop()
		f(t, b)
		synctest.Wait() // a peer sees the end a little before it is noted
		if n := count(u); n > 0 {
			t.Errorf("%d connections are left", n)
		}
	})
}

func count(u *websocket.Upgrader) (n int) {
	for range u.Conns() {
		n++
	}
	return n
}

// peers opens n connections.
func (b *bench) peers(n int, rule string) (peers []*conformance.Peer) {
	for range n {
		peers = append(peers, b.peer(rule))
	}
	synctest.Wait()
	return peers
}

// answers ends the closing handshake and the transport.
func answers(p *conformance.Peer) {
	p.Write("88 80 z")
	p.WantEOF()
	p.Close()
}

// shutdown calls Shutdown beside the test.
func shutdown(ctx context.Context, u *websocket.Upgrader) <-chan error {
	return async(func() error { return u.Shutdown(ctx) })
}

// wantCut checks the error of a Shutdown whose context has ended.
func wantCut(t *testing.T, err error, cut int, cause error) {
	t.Helper()
	var e *websocket.ShutdownError
	if !errors.As(err, &e) || e.Cut != cut || errors.Unwrap(e) != cause || !strings.Contains(err.Error(), fmt.Sprint(cut)) {
		t.Errorf("Shutdown: %v, want %d cut because of %v", err, cut, cause)
	}
}

// Everybody is told, at even distances over the window; Shutdown returns when
// the last has answered.
func TestX08ShutdownSpreads(t *testing.T) {
	const n = 10
	for _, test := range []struct {
		name     string
		upgrader *websocket.Upgrader
		patience time.Duration // of the context; 0: none
		step     time.Duration
		close    string
	}{
		{"by default over 1 s", &websocket.Upgrader{}, 0, 100 * time.Millisecond, "88 02 03e9"},
		{"over another window", &websocket.Upgrader{ShutdownWindow: time.Minute}, 0, 6 * time.Second, "88 02 03e9"},
		{"at once", &websocket.Upgrader{ShutdownWindow: -1}, 0, 0, "88 02 03e9"},
		{"over half of what is left", &websocket.Upgrader{}, time.Second, 50 * time.Millisecond, "88 02 03e9"},
		{"over the window, which is less than half of what is left", &websocket.Upgrader{}, time.Hour, 100 * time.Millisecond, "88 02 03e9"},
		{"with a code and a reason", &websocket.Upgrader{ShutdownCode: 1012, ShutdownReason: "deploy"}, 0, 100 * time.Millisecond, "88 08 03f4 6465706c6f79"},
		{"with a reason", &websocket.Upgrader{ShutdownReason: strings.Repeat("r", 123)}, 0, 100 * time.Millisecond, "88 7d 03e9 rep(72,123)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			u := test.upgrader
			inHouse(t, u, func(t *testing.T, b *bench) {
				var mu sync.Mutex
				var told []time.Duration
				var clients sync.WaitGroup
				start := time.Now()
				for _, p := range b.peers(n, "each is told in its turn: "+test.name) {
					clients.Go(func() {
						p.Want(test.close)
						mu.Lock()
						told = append(told, time.Since(start))
						mu.Unlock()
						answers(p)
					})
				}
				ctx := context.Background()
				if test.patience > 0 {
					var cancel func()
					ctx, cancel = context.WithTimeout(ctx, test.patience)
					defer cancel()
				}
				if err := u.Shutdown(ctx); err != nil {
					t.Errorf("Shutdown: %v", err)
				}
				wantElapsed(t, start, (n-1)*test.step)
				clients.Wait()
				slices.Sort(told)
				for i, at := range told {
					if at != time.Duration(i)*test.step {
						t.Errorf("number %d is told at %v, want %v", i, at, time.Duration(i)*test.step)
					}
				}
			})
		})
	}
}

// From Shutdown on, requests are answered with 503, bad ones as ever, also
// when it has returned; and on an Upgrader that nobody has used before.
func TestShutdownRefuses(t *testing.T) {
	u := &websocket.Upgrader{ShutdownWindow: -1}
	inHouse(t, u, func(t *testing.T, b *bench) {
		p := b.peers(1, "the last one")[0]
		result := shutdown(context.Background(), u)
		wantPending(t, "Shutdown, while a peer has not answered", result)
		bad := hsRequest()
		bad.Method = "POST"
		wantAnswer(t, u, hsRequest(), 503)
		wantAnswer(t, u, bad, 405)
		p.Want("88 02 03e9")
		answers(p)
		for range 2 { // the second has nothing to wait for
			if err := done(t, "Shutdown", result); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
			wantAnswer(t, u, hsRequest(), 503)
			wantAnswer(t, u, bad, 405)
			result = shutdown(context.Background(), u)
		}
	})
	unused := &websocket.Upgrader{Handler: func(*websocket.Conn) error { return nil }, Config: websocket.Config{Logger: slog.New(slog.DiscardHandler)}}
	if err := unused.Shutdown(context.Background()); err != nil {
		t.Errorf("Shutdown of an unused Upgrader: %v", err)
	}
	wantAnswer(t, unused, hsRequest(), 503)
}

// wantAnswer checks the answer to a request, before which nothing is hijacked
// unless it is 101.
func wantAnswer(t *testing.T, u *websocket.Upgrader, r *http.Request, status int) *hsWriter {
	t.Helper()
	client, server := memconn.Pair()
	t.Cleanup(func() { client.Close() })
	w := newHSWriter(server)
	u.ServeHTTP(w, r)
	got := w.Code
	if client.Unread() > 0 {
		got = 101
	}
	if got != status {
		t.Errorf("the answer is %d %q, want %d", got, w.Body, status)
	}
	return w
}

// What has been queued goes out before the Close frame.
func TestShutdownSendsWhatIsQueued(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		p, c, server := l.openServer("queued messages, then the Close frame")
		u := l.server.Handler.(*websocket.Upgrader)
		server.StallWriteAfter(0)
		for _, s := range []string{"a", "b", "c"} {
			if err := c.Send(websocket.Text, []byte(s)); err != nil {
				t.Fatal(err)
			}
		}
		result := shutdown(context.Background(), u)
		time.Sleep(3 * time.Second)
		wantPending(t, "Shutdown", result)
		server.StallWriteAfter(-1)
		p.Want("81 01 61 81 01 62 81 01 63 88 02 03e9")
		answers(p)
		if err := done(t, "Shutdown", result); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
}

// Shutdown waits for handlers that go on after their connection has ended, and
// for what Events are told at last.
func TestShutdownWaitsForHandlers(t *testing.T) {
	linger := func() { time.Sleep(5 * time.Second) }
	for name, handler := range map[string]func(*websocket.Conn) error{
		"returns late": func(c *websocket.Conn) error { defer linger(); return <-readingOn(c) },
		"panics late":  func(c *websocket.Conn) error { <-readingOn(c); linger(); panic("late") },
		"Closed":       func(c *websocket.Conn) error { c.Start(lateEvents{linger}); return nil },
	} {
		u := &websocket.Upgrader{Handler: handler}
		inHouse(t, u, func(t *testing.T, b *bench) {
			p := b.peers(1, "Shutdown waits for the application: "+name)[0]
			start := time.Now()
			result := shutdown(context.Background(), u)
			p.Want("88 02 03e9")
			answers(p)
			at(start, 5*time.Second-1)
			wantPending(t, name+": Shutdown", result)
			at(start, 5*time.Second)
			if err := done(t, "Shutdown", result); err != nil {
				t.Errorf("%s: Shutdown: %v", name, err)
			}
		})
	}
}

type lateEvents struct{ closed func() }

func (lateEvents) Message(*websocket.Conn, websocket.MessageType, []byte) error { return nil }
func (e lateEvents) Closed(*websocket.Conn, error)                              { e.closed() }

// A 101 that is being written when Shutdown is called is waited for, and its
// connection is closed like all others. A request that is in Open still is
// not: it gets 503.
func TestShutdownDuringHandshake(t *testing.T) {
	u := &websocket.Upgrader{}
	inHouse(t, u, func(t *testing.T, b *bench) {
		var server *memconn.Conn
		b.tune = func(c *memconn.Conn) { server = c; c.StallWriteAfter(20) }
		opened := async(func() *conformance.Peer { return b.peer("a 101 on its way when Shutdown comes") })
		synctest.Wait()
		result := shutdown(context.Background(), u)
		time.Sleep(5 * time.Second)
		wantPending(t, "the handshake", opened)
		wantPending(t, "Shutdown", result)
		server.StallWriteAfter(-1)
		p := done(t, "the handshake", opened)
		p.Want("88 02 03e9")
		answers(p)
		if err := done(t, "Shutdown", result); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
	deciding, decide := make(chan bool), make(chan bool)
	slow := &websocket.Upgrader{Config: websocket.Config{Logger: slog.New(slog.DiscardHandler)}}
	slow.Open = func(*http.Request, http.Header) (func(*websocket.Conn) error, error) {
		close(deciding)
		<-decide
		return func(*websocket.Conn) error { return nil }, nil
	}
	var request sync.WaitGroup
	request.Go(func() { wantAnswer(t, slow, hsRequest(), 503) })
	<-deciding
	if err := slow.Shutdown(context.Background()); err != nil {
		t.Errorf("Shutdown during Open: %v", err)
	}
	close(decide)
	request.Wait()
}

// When the context ends, what is left is cut, and counted.
func TestShutdownCuts(t *testing.T) {
	u := &websocket.Upgrader{Config: websocket.Config{CloseTimeout: time.Hour, WriteTimeout: time.Hour}}
	inHouse(t, u, func(t *testing.T, b *bench) {
		peers := b.peers(3, "who answers, and who does not")
		b.tune = func(c *memconn.Conn) {
			server := c
			time.AfterFunc(time.Nanosecond, func() { server.StallWriteAfter(0) })
		}
		stuck := b.peer("who takes nothing")
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		start := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		result := shutdown(ctx, u)
		for i, p := range peers {
			p.Want("88 02 03e9")
			if i == 0 {
				answers(p)
			}
		}
		at(start, 2*time.Second-1)
		wantPending(t, "Shutdown", result)
		at(start, 2*time.Second)
		wantCut(t, done(t, "Shutdown", result), 3, context.DeadlineExceeded)
		for _, p := range append(peers[1:], stuck) {
			p.WantEOF()
		}
	})
}

// Without an end of the context, the time-outs of the Config end it.
func TestShutdownIsBounded(t *testing.T) {
	u := &websocket.Upgrader{ShutdownWindow: -1}
	inHouse(t, u, func(t *testing.T, b *bench) {
		b.peers(1, "a peer that does not answer for 5 s, and is drained for 1 s")
		start := time.Now()
		if err := u.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		wantElapsed(t, start, 6*time.Second)
	})
}

// A context that has ended before cuts at once: nobody is told. Handlers are
// not waited for. Cut is 0 if it was only for them.
func TestShutdownWithEndedContext(t *testing.T) {
	cause := errors.New("a reason")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	release := make(chan bool)
	u := &websocket.Upgrader{Handler: func(c *websocket.Conn) error { <-release; return nil }}
	synctest.Test(t, func(t *testing.T) {
		if err := new(websocket.Upgrader).Shutdown(ctx); err != nil {
			t.Errorf("with nothing to end: %v", err)
		}
		ends := make(chan error, 1)
		other := &websocket.Upgrader{Handler: func(c *websocket.Conn) error { ends <- <-readingOn(c); return nil }}
		alone := inMemory(t, other)
		defer alone.stop()
		p := alone.peers(1, "cut without a word")[0]
		wantCut(t, other.Shutdown(ctx), 1, cause)
		p.WantDrop()
		wantClosed(t, done(t, "the handler", ends), 1006, false)

		release = make(chan bool)
		u.Logger = slog.New(slog.DiscardHandler)
		b := inMemory(t, u)
		defer b.stop()
		peers := b.peers(5, "cut while another Shutdown has told the first alone")
		start := time.Now()
		first := shutdown(context.Background(), u) // takes a second
		time.Sleep(time.Millisecond)
		wantCut(t, u.Shutdown(ctx), 5, cause)
		synctest.Wait()
		wantCut(t, u.Shutdown(ctx), 0, cause)
		wantElapsed(t, start, time.Millisecond)
		for i, p := range peers {
			if frames, err := p.Rest(); err != io.EOF || len(frames) > 1 || len(frames) == 1 && i > 0 && frames[0].Op != 8 {
				t.Errorf("received %v and %v", frames, err)
			}
		}
		wantPending(t, "the first Shutdown, which has handlers to wait for", first)
		close(release)
		time.Sleep(time.Second)
		if err := done(t, "the first Shutdown", first); err != nil {
			t.Errorf("the first Shutdown: %v", err)
		}
	})
}

// Any number of goroutines may call Shutdown: all return at the end.
func TestShutdownTogether(t *testing.T) {
	u := &websocket.Upgrader{}
	inHouse(t, u, func(t *testing.T, b *bench) {
		peers := b.peers(4, "closed once, however often Shutdown is called")
		start := time.Now()
		var results []<-chan error
		for range 5 {
			results = append(results, shutdown(context.Background(), u))
		}
		time.Sleep(200 * time.Millisecond)
		results = append(results, shutdown(context.Background(), u))
		at(start, 2*time.Second)
		for i, p := range peers {
			wantPending(t, "a Shutdown", results[i])
			p.Want("88 02 03e9")
			answers(p)
		}
		for _, result := range results {
			if err := done(t, "a Shutdown", result); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
		}
	})
}
