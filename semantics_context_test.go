package websocket_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/conformance"
	"github.com/sockeye-ws/websocket/internal/memconn"
)

// A blocked call is one that waits until its ctx ends. after checks that the
// connection is as it was.
type blocked struct {
	name  string
	begin func(t *testing.T, p *conformance.Peer, c *websocket.Conn, server *memconn.Conn) (call func(context.Context) error, after func())
}

var blockedCalls = []blocked{
	{"Read", func(t *testing.T, p *conformance.Peer, c *websocket.Conn, _ *memconn.Conn) (func(context.Context) error, func()) {
		return func(ctx context.Context) error { return readOne(ctx, c).err }, func() {}
	}},
	{"ReadAppend inside a message", func(t *testing.T, p *conformance.Peer, c *websocket.Conn, _ *memconn.Conn) (func(context.Context) error, func()) {
		p.Write("01 82 z 6162 80 82 z 63")
		return func(ctx context.Context) error {
				return readAppended(t, ctx, c, []byte("dst")).err
			}, func() {
				p.Write("64")
				wantMessage(t, c, websocket.Text, "abcd")
			}
	}},
	{"Messages", func(t *testing.T, p *conformance.Peer, c *websocket.Conn, _ *memconn.Conn) (func(context.Context) error, func()) {
		return func(ctx context.Context) error {
			for _, err := range c.Messages(ctx) {
				if err != nil {
					return err
				}
			}
			return errSilent
		}, func() {}
	}},
	{"Reader", func(t *testing.T, p *conformance.Peer, c *websocket.Conn, _ *memconn.Conn) (func(context.Context) error, func()) {
		return func(ctx context.Context) error { return readStream(ctx, c).err }, func() {}
	}},
	{"the Read of a reader", func(t *testing.T, p *conformance.Peer, c *websocket.Conn, _ *memconn.Conn) (func(context.Context) error, func()) {
		p.Write("01 82 z 6162 80 82 z 63")
		return func(ctx context.Context) error { return readStream(ctx, c).err }, func() { p.Write("64") }
	}},
	{"Ping", func(t *testing.T, p *conformance.Peer, c *websocket.Conn, _ *memconn.Conn) (func(context.Context) error, func()) {
		return func(ctx context.Context) error { _, err := c.Ping(ctx); return err }, func() { p.Next() }
	}},
	{"Ping while another reads", func(t *testing.T, p *conformance.Peer, c *websocket.Conn, _ *memconn.Conn) (func(context.Context) error, func()) {
		read := async(func() message { return readOne(context.Background(), c) })
		return func(ctx context.Context) error { _, err := c.Ping(ctx); return err }, func() {
			p.Next()
			p.Write("81 80 z")
			if m := done(t, "Read", read); m.err != nil {
				t.Error(m.err)
			}
		}
	}},
	{"Write", func(t *testing.T, p *conformance.Peer, c *websocket.Conn, _ *memconn.Conn) (func(context.Context) error, func()) {
		written := stuck(t, c)
		return func(ctx context.Context) error { return c.Write(ctx, websocket.Text, make([]byte, tooMuch)) }, func() {
			wantStuck(p)
			if err := done(t, "Write", written); err != nil {
				t.Error(err)
			}
		}
	}},
	{"Writer", func(t *testing.T, p *conformance.Peer, c *websocket.Conn, _ *memconn.Conn) (func(context.Context) error, func()) {
		w, err := c.Writer(context.Background(), websocket.Text)
		if err != nil {
			t.Fatal(err)
		}
		return func(ctx context.Context) error { _, err := c.Writer(ctx, websocket.Text); return err }, func() {
			if err := w.Close(); err != nil {
				t.Error(err)
			}
			p.Want("81 00")
		}
	}},
	{"the first frame of a writer", func(t *testing.T, p *conformance.Peer, c *websocket.Conn, server *memconn.Conn) (func(context.Context) error, func()) {
		server.SetBuffer(130)
		if err := c.Write(context.Background(), websocket.Binary, make([]byte, 126)); err != nil {
			t.Fatal(err)
		}
		return func(ctx context.Context) error {
				w, err := c.Writer(ctx, websocket.Text)
				if err == nil {
					_, err = w.Write(make([]byte, tooMuch))
				}
				return err
			}, func() {
				p.Want("82 7e 007e rep(00,126)")
				p.WantNothing()
				server.SetBuffer(64 << 10)
			}
	}},
}

// endedContexts are the ways in which a context ends, after a second.
var endedContexts = []struct {
	name string
	make func() (context.Context, context.CancelFunc)
}{
	{"cancel", func() (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(time.Second, cancel)
		return ctx, cancel
	}},
	{"cancel with a cause", func() (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancelCause(context.Background())
		time.AfterFunc(time.Second, func() { cancel(errors.New("because")) })
		return ctx, func() { cancel(nil) }
	}},
	{"deadline", func() (context.Context, context.CancelFunc) {
		return context.WithTimeout(context.Background(), time.Second)
	}},
	{"deadline with a cause", func() (context.Context, context.CancelFunc) {
		return context.WithTimeoutCause(context.Background(), time.Second, errors.New("because"))
	}},
	{"a cause from above", func() (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithTimeoutCause(context.Background(), time.Second, errors.New("because"))
		type key struct{}
		return context.WithValue(ctx, key{}, "value"), cancel
	}},
	{"a type that cannot be compared", func() (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithTimeoutCause(context.Background(), time.Second, errors.New("because"))
		return uncomparable{ctx}, cancel
	}},
	{"a type of its own", func() (context.Context, context.CancelFunc) {
		ctx := newCountingContext()
		time.AfterFunc(time.Second, ctx.cancel)
		return ctx, func() {}
	}},
}

// Contexts end the call, not the connection. The error then Is ctx.Err() and
// context.Cause(ctx), and is no CloseError.
func TestContextEndsCall(t *testing.T) {
	for _, call := range blockedCalls {
		for _, how := range endedContexts {
			t.Run(call.name+"/"+how.name, func(t *testing.T) {
				inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
					p, c, server := l.openServer("a context ends the call and not the connection")
					f, after := call.begin(t, p, c, server)
					ctx, cancel := how.make()
					defer cancel()
					start := time.Now()
					result := async(func() error { return f(ctx) })
					wantPending(t, call.name, result)
					err := <-result
					wantElapsed(t, start, time.Second)
					wantContextError(t, call.name, err, ctx)
					if how.name == "deadline" {
						var timeout interface{ Timeout() bool }
						if !errors.As(err, &timeout) || !timeout.Timeout() {
							t.Errorf("%v is no time-out", err)
						}
					}
					after()
					if !t.Failed() {
						wantOpen(t, p, c)
					}
				})
			})
		}
	}
}

// When the connection's end holds too, that wins, whichever came first.
func TestConnectionEndWins(t *testing.T) {
	for _, call := range blockedCalls {
		t.Run(call.name, func(t *testing.T) {
			inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
				p, c, server := l.openServer("the connection's end comes before that of ctx")
				f, _ := call.begin(t, p, c, server)
				// What ends with the connection is one of its contexts.
				ctx, cancel := context.WithCancel(c.Context())
				defer cancel()
				result := async(func() error { return f(ctx) })
				wantPending(t, call.name, result)
				c.CloseNow()
				cancel()
				wantClosed(t, done(t, call.name, result), 1006, false)
				wantClosed(t, done(t, call.name, async(func() error { return f(ctx) })), 1006, false)
				wantClosed(t, done(t, call.name, async(func() error { return f(c.Context()) })), 1006, false)
			})
		})
	}
}

// A cancel between two calls does not poison the next, neither one with
// another ctx nor one with none.
func TestCancelBetweenCalls(t *testing.T) {
	nexts := []func() context.Context{
		context.Background,
		func() context.Context { return context.WithoutCancel(context.Background()) },
		func() context.Context { return uncomparable{newCountingContext()} },
		func() context.Context { return newCountingContext() },
	}
	for i, next := range nexts {
		for _, wait := range []bool{false, true} {
			t.Run(fmt.Sprint(i, wait), func(t *testing.T) {
				inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
					p, c := l.open("a cancel between two calls does not poison the next")
					for range 10 {
						ctx, cancel := context.WithCancel(context.Background())
						p.WritePieces(masked(0x81, "a"))
						if m := readOne(ctx, c); m.err != nil {
							t.Fatal(m.err)
						}
						if err := c.Write(ctx, websocket.Text, []byte("w")); err != nil {
							t.Fatal(err)
						}
						p.Want("81 01 77")
						cancel()
						if wait {
							synctest.Wait()
						}
						result := async(func() message { return readOne(next(), c) })
						wantPending(t, "Read", result)
						p.WritePieces(masked(0x82, "b"))
						if m := done(t, "Read", result); m != (message{websocket.Binary, "b", nil}) {
							t.Fatal(m)
						}
						if err := c.Write(next(), websocket.Text, []byte("x")); err != nil {
							t.Fatal(err)
						}
						p.Want("81 01 78")
					}
				})
			})
		}
	}
	t.Run("at the very moment", func(t *testing.T) {
		inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
			p, c := l.open("a message and a cancel at the same time")
			lost := 0
			for i := range 500 {
				ctx, cancel := context.WithCancel(context.Background())
				result := async(func() message { return readOne(ctx, c) })
				if i%2 == 0 {
					synctest.Wait()
				}
				go cancel()
				p.WritePieces(masked(0x81, fmt.Sprint(i)))
				m := <-result
				if m.err != nil {
					wantContextError(t, "Read", m.err, ctx)
					lost++
					m = readOne(context.Background(), c)
				}
				if m != (message{websocket.Text, fmt.Sprint(i), nil}) {
					t.Fatalf("message %d: %v", i, m)
				}
				cancel()
			}
			t.Log(lost, "of 500 were cancelled")
		})
	})
}

// The same Done channel registers once, whatever the contexts around it;
// Background and c.Context() register nothing; and what is registered is
// dropped when the connection ends.
func TestRegistersOnce(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		p, c := l.open("one registration for one Done channel")
		counting := newCountingContext()
		for i := range 100 {
			var ctx context.Context = counting
			switch i % 3 {
			case 1:
				ctx = uncomparable{counting}
			case 2:
				ctx = countingValue{counting, i}
			}
			if i%2 == 0 {
				p.WritePieces(masked(0x81, "a"))
				if m := readOne(ctx, c); m.err != nil {
					t.Fatal(m.err)
				}
				continue
			}
			result := async(func() message { return readOne(ctx, c) })
			wantPending(t, "Read", result)
			p.WritePieces(masked(0x81, "a"))
			if m := done(t, "Read", result); m.err != nil {
				t.Fatal(m.err)
			}
		}
		if registered, active := counting.counts(); registered != 1 || active > 1 {
			t.Errorf("registered %d times, %d still are", registered, active)
		}
		// It must still work.
		result := async(func() message { return readOne(counting, c) })
		wantPending(t, "Read", result)
		counting.cancel()
		wantContextError(t, "Read", done(t, "Read", result).err, counting)
		wantOpen(t, p, c)
	})
	for _, how := range ends {
		inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
			p, c := l.open("a registration ends with the connection")
			counting := newCountingContext()
			p.WritePieces(masked(0x81, "a"))
			if m := readOne(counting, c); m.err != nil {
				t.Fatal(m.err)
			}
			if err := c.Write(counting, websocket.Text, nil); err != nil {
				t.Fatal(err)
			}
			p.Want("81 00")
			w, err := c.Writer(counting, websocket.Binary)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			waiting := async(func() error { return c.Write(counting, websocket.Text, nil) })
			result := async(func() message { return readOne(counting, c) })
			pinging := ping(counting, c)
			wantPing(t, p)
			wantPending(t, "Read", result)
			how.end(p, c)
			done(t, "Read", result)
			done(t, "Ping", pinging)
			done(t, "Write", waiting)
			p.Close()
			wantOver(t, c)
			if _, active := counting.counts(); active > 0 {
				t.Errorf("%s: %d registrations are left", how.name, active)
			}
		})
	}
	t.Run("the connection's own", func(t *testing.T) {
		if underRace() {
			t.Skip("the race detector makes pools forget")
		}
		defer debug.SetGCPercent(debug.SetGCPercent(-1))
		settled(leftGoroutines) // who would allocate, or fill the pools, meanwhile
		const n = 20
		// first counts the allocations of the first calls of a connection.
		first := func(own bool) float64 {
			var conns []*websocket.Conn
			var contexts []context.Context
			for range n + 1 {
				c := upgraded(t, newMill(masked(0x82, "a")))
				conns, contexts = append(conns, c), append(contexts, c.Context())
				if !own {
					contexts[len(contexts)-1] = context.Background()
				}
			}
			i, dst := 0, make([]byte, 0, 10)
			return testing.AllocsPerRun(n, func() {
				c, ctx := conns[i], contexts[i]
				i++
				if _, _, err := c.ReadAppend(ctx, dst); err != nil {
					t.Error(err)
				}
				if err := c.Write(ctx, websocket.Text, nil); err != nil {
					t.Error(err)
				}
				w, err := c.Writer(ctx, websocket.Text)
				if err == nil {
					err = w.Close()
				}
				if err != nil {
					t.Error(err)
				}
				// More has come than was read, so that another goroutine
				// writes; what it borrows is back when it is done.
				for queued := 1; queued > 0; queued, _ = c.Queued() {
					runtime.Gosched()
				}
				runtime.Gosched()
			})
		}
		first(false) // fills the pools
		if none, own := first(false), first(true); own != none {
			t.Errorf("%v allocations with c.Context(), %v with Background", own, none)
		}
	})
}

// countingValue has the Done channel of a counting context, and is another.
type countingValue struct {
	*countingContext
	id int
}

// A context that lives on does not keep a connection that has ended.
func TestContextKeepsNothing(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		var conns []weak.Pointer[websocket.Conn]
		for range 10 {
			p, c := l.open("a connection that has ended is forgotten")
			p.WritePieces(masked(0x81, "a"))
			if m := readOne(ctx, c); m.err != nil {
				t.Fatal(m.err)
			}
			if err := c.Write(ctx, websocket.Text, nil); err != nil {
				t.Fatal(err)
			}
			c.Close(1000, "")
			p.Close()
			wantOver(t, c)
			conns = append(conns, weak.Make(c))
		}
		l.given, l.peers = nil, nil
		synctest.Wait()
		wantCollected(t, conns...)
		runtime.KeepAlive(ctx)
	})
}

// wantCollected checks that the garbage collector takes all of these.
func wantCollected[T any](t *testing.T, all ...weak.Pointer[T]) {
	t.Helper()
	alive := 0
	for range 10 { // what goes into a sync.Pool needs two
		runtime.GC()
		synctest.Wait()
		alive = 0
		for _, p := range all {
			if p.Value() != nil {
				alive++
			}
		}
		if alive == 0 {
			return
		}
	}
	t.Errorf("%d of %d %T are kept alive", alive, len(all), *new(T))
}

// Context: made when asked for, the same each time; Done only when all is
// over; its Cause is what the methods return.
func TestContext(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		p, c := l.open("Context is done when all is over")
		ctx := c.Context()
		if c.Context() != ctx || ctx.Err() != nil || context.Cause(ctx) != nil {
			t.Errorf("Context: %v, %v", ctx.Err(), context.Cause(ctx))
		}
		if _, ok := ctx.Deadline(); ok {
			t.Error("Context has a deadline")
		}
		start := time.Now()
		c.Close(4000, "done")
		p.Want("88 06 0fa0 646f6e65")
		ended := readOne(context.Background(), c).err
		time.Sleep(5*time.Second - 1)
		synctest.Wait()
		if ctx.Err() != nil || context.Cause(ctx) != nil {
			t.Errorf("Context is done during the closing handshake: %v", context.Cause(ctx))
		}
		p.WantEOF()
		wantElapsed(t, start, 5*time.Second)
		p.Close()
		synctest.Wait()
		if ctx.Err() == nil || context.Cause(ctx) != ended || c.Context() != ctx {
			t.Errorf("Context: %v, %v; the methods return %v", ctx.Err(), context.Cause(ctx), ended)
		}
	})
	t.Run("asked for late", func(t *testing.T) {
		for _, how := range ends {
			for _, over := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					conns := make(chan *websocket.Conn)
					b := inMemory(t, http101(func(c *websocket.Conn) { conns <- c }))
					defer b.stop()
					p := b.peer("Context is asked for when all is over")
					c := <-conns
					end := readingOn(c)
					how.end(p, c)
					ended := <-end
					if over {
						p.Close()
						synctest.Wait()
					}
					ctx := c.Context()
					if !over {
						p.Close()
						synctest.Wait()
					}
					if ctx.Err() == nil || context.Cause(ctx) != ended {
						t.Errorf("%s, over %v: Context: %v, %v; Read: %v", how.name, over, ctx.Err(), context.Cause(ctx), ended)
					}
					wantClosed(t, context.Cause(ctx), how.code, how.remote)
				})
			}
		}
	})
	t.Run("made when asked for", func(t *testing.T) {
		const n = 50
		var fresh []*websocket.Conn
		for range n + 1 {
			fresh = append(fresh, upgraded(t, newMill(masked(0x82, ""))))
		}
		i := 0
		if first := testing.AllocsPerRun(n, func() { fresh[i].Context(); i++ }); first < 1 {
			t.Errorf("the first call makes %v allocations: it was made before", first)
		}
		if again := testing.AllocsPerRun(n, func() { fresh[0].Context() }); again > 0 {
			t.Errorf("a later call makes %v allocations", again)
		}
	})
}

// No call allocates, whatever ctx it has: none, the connection's own, one
// with the same Done channel as the call before. What Read returns is one
// allocation.
func TestAllocations(t *testing.T) {
	if underRace() {
		t.Skip("the race detector makes pools forget")
	}
	kinds := []struct {
		name string
		make func(c *websocket.Conn) (context.Context, func())
	}{
		{"Background", func(*websocket.Conn) (context.Context, func()) { return context.Background(), func() {} }},
		{"c.Context", func(c *websocket.Conn) (context.Context, func()) { return c.Context(), func() {} }},
		{"WithCancel", func(*websocket.Conn) (context.Context, func()) {
			ctx, cancel := context.WithCancel(context.Background())
			return ctx, cancel
		}},
		{"not comparable", func(*websocket.Conn) (context.Context, func()) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
			return uncomparable{ctx}, cancel
		}},
	}
	for _, size := range []int{125, 1 << 10, 64 << 10, 1 << 20} {
		for _, kind := range kinds {
			t.Run(fmt.Sprintf("%d/%s", size, kind.name), func(t *testing.T) {
				data := make([]byte, size)
				c := upgraded(t, newMill(masked(0x82, string(data))))
				ctx, cancel := kind.make(c)
				defer cancel()
				dst := make([]byte, 0, size)
				messages := c.Messages(ctx)
				var err error
				yield := func(_ websocket.Message, e error) bool {
					err = e
					return false
				}
				defer debug.SetGCPercent(debug.SetGCPercent(-1)) // it empties the pools
				settled(leftGoroutines)                          // connections before this one, which allocate as they end
				runs := 100
				if size > 64<<10 {
					runs = 20
				}
				for _, call := range []struct {
					name string
					want float64
					call func() error
				}{
					{"ReadAppend", 0, func() error {
						_, p, err := c.ReadAppend(ctx, dst)
						if len(p) != size {
							t.Errorf("read %d bytes", len(p))
						}
						return err
					}},
					{"Write", 0, func() error { return c.Write(ctx, websocket.Binary, data) }},
					{"Read", 1, func() error { _, _, err := c.Read(ctx); return err }},
					{"Messages", 1, func() error { messages(yield); return err }},
				} {
					f := func() {
						if err := call.call(); err != nil {
							t.Error(err)
						}
					}
					f()
					if got := testing.AllocsPerRun(runs, f); got != call.want {
						t.Errorf("%s: %v allocations a message, want %v", call.name, got, call.want)
					}
				}
			})
		}
	}
}
