package await

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A manual context counts who is registered with it.
type manual struct {
	context.Context
	done chan struct{}

	mu         sync.Mutex
	err        error
	registered map[int]func()
	total      int
}

func newManual() *manual {
	return &manual{Context: context.Background(), done: make(chan struct{}), registered: map[int]func(){}}
}

func (m *manual) Done() <-chan struct{} { return m.done }

func (m *manual) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

func (m *manual) AfterFunc(f func()) func() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total++
	id := m.total
	if m.err != nil {
		go f()
	} else {
		m.registered[id] = f
	}
	return func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		_, ok := m.registered[id]
		delete(m.registered, id)
		return ok
	}
}

func (m *manual) cancel() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = context.Canceled
	close(m.done)
	for id, f := range m.registered {
		go f()
		delete(m.registered, id)
	}
}

func (m *manual) count() (now, total int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.registered), m.total
}

// A bell is interrupted I/O.
type bell struct {
	t    testing.TB
	open atomic.Bool // somebody waits
	rung atomic.Int32
	wake chan struct{}
}

func newBell(t testing.TB) *bell { return &bell{t: t, wake: make(chan struct{}, 1)} }

func (b *bell) Interrupt() {
	if !b.open.Load() {
		b.t.Error("interrupted though nobody waits")
	}
	b.rung.Add(1)
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// begin and end bracket a wait.
func (b *bell) begin(w *Watch, ctx context.Context) {
	b.open.Store(true)
	w.Begin(ctx, b)
}

func (b *bell) end(w *Watch, ctx context.Context) {
	w.End(ctx)
	b.open.Store(false)
}

func inBubble(t *testing.T, name string, f func(t *testing.T, w *Watch, b *bell)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { f(t, new(Watch), newBell(t)) })
	})
}

func TestWatch(t *testing.T) {
	want := func(t *testing.T, b *bell, n int32) {
		t.Helper()
		synctest.Wait()
		if got := b.rung.Load(); got != n {
			t.Errorf("interrupted %d times, want %d", got, n)
		}
	}
	inBubble(t, "the context ends during the wait", func(t *testing.T, w *Watch, b *bell) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		b.begin(w, ctx)
		<-b.wake
		b.end(w, ctx)
		if d := time.Since(start); d != time.Second {
			t.Errorf("interrupted after %v", d)
		}
		want(t, b, 1)
	})
	inBubble(t, "the context has ended before", func(t *testing.T, w *Watch, b *bell) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		b.begin(w, ctx)
		<-b.wake
		b.end(w, ctx)
		want(t, b, 1)
	})
	inBubble(t, "the context ends after the wait", func(t *testing.T, w *Watch, b *bell) {
		ctx, cancel := context.WithCancel(t.Context())
		b.begin(w, ctx)
		b.end(w, ctx)
		cancel()
		want(t, b, 0)
	})
	inBubble(t, "it ends between two waits under it", func(t *testing.T, w *Watch, b *bell) {
		ctx, cancel := context.WithCancel(t.Context())
		b.begin(w, ctx)
		b.end(w, ctx)
		cancel()
		synctest.Wait()
		b.begin(w, ctx)
		<-b.wake
		b.end(w, ctx)
		want(t, b, 1)
	})
	inBubble(t, "it ends between a wait under it and one under another", func(t *testing.T, w *Watch, b *bell) {
		first, cancel := context.WithCancel(t.Context())
		second, cancelSecond := context.WithCancel(t.Context())
		defer cancelSecond()
		b.begin(w, first)
		b.end(w, first)
		cancel()
		b.begin(w, second)
		want(t, b, 0)
		b.end(w, second)
	})
	inBubble(t, "it ends during a wait that nothing bounds", func(t *testing.T, w *Watch, b *bell) {
		ctx, cancel := context.WithCancel(t.Context())
		b.begin(w, ctx)
		b.end(w, ctx)
		b.begin(w, context.Background())
		cancel()
		want(t, b, 0)
		b.end(w, context.Background())
	})
	inBubble(t, "dropped", func(t *testing.T, w *Watch, b *bell) {
		ctx := newManual()
		b.begin(w, ctx)
		b.end(w, ctx)
		w.Drop()
		w.Drop()
		if now, _ := ctx.count(); now != 0 {
			t.Error("Drop leaves a registration behind")
		}
		ctx.cancel()
		want(t, b, 0)
	})
	inBubble(t, "used again after Drop", func(t *testing.T, w *Watch, b *bell) {
		ctx := newManual()
		b.begin(w, ctx)
		b.end(w, ctx)
		w.Drop()
		b.begin(w, ctx)
		ctx.cancel()
		<-b.wake
		b.end(w, ctx)
		want(t, b, 1)
	})
}

func TestWatchRegistersOnce(t *testing.T) {
	var w Watch
	b := newBell(t)
	ctx, other := newManual(), newManual()
	type key struct{}
	for range 3 {
		b.begin(&w, ctx)
		b.end(&w, ctx)
		same := context.WithValue(ctx, key{}, 1) // another context, the same Done
		b.begin(&w, same)
		b.end(&w, same)
		b.begin(&w, context.Background())
		b.end(&w, context.Background())
	}
	if now, total := ctx.count(); now != 1 || total != 1 {
		t.Errorf("%d registrations, %d of them there, want one", total, now)
	}
	b.begin(&w, other)
	b.end(&w, other)
	if now, _ := ctx.count(); now != 0 {
		t.Error("the registration with the context before is kept")
	}
	w.Drop()
	if now, total := other.count(); now != 0 || total != 1 {
		t.Errorf("other: %d registrations, %d there", total, now)
	}
	if n := testing.AllocsPerRun(100, func() { w.Begin(ctx, b); w.End(ctx) }); n != 0 {
		t.Errorf("a further wait under the same context allocates %v times", n)
	}
}

// uncomparable contexts must not be compared with ==.
type uncomparable struct {
	context.Context
	_ []int
}

func TestWatchComparesChannels(t *testing.T) {
	var w Watch
	b := newBell(t)
	ctx := uncomparable{Context: t.Context()}
	for range 2 {
		b.begin(&w, ctx)
		b.end(&w, ctx)
	}
	w.Drop()
}

// TestWatchRace: the end of a context during a wait is never lost, and never
// hits the next one. A lost one is a deadlock, which the bubble reports.
func TestWatchRace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w Watch
		for round := range 1000 {
			ctx, cancel := context.WithCancel(t.Context())
			b := newBell(t)
			go cancel()
			for range round % 4 { // waits that end by themselves
				b.begin(&w, ctx)
				b.end(&w, ctx)
			}
			b.begin(&w, ctx)
			<-b.wake
			b.end(&w, ctx)
			// The next call's wait, under a context that goes on.
			quiet := newBell(t)
			next, stop := context.WithCancel(t.Context())
			quiet.begin(&w, next)
			if round%10 == 0 {
				synctest.Wait()
			}
			if quiet.rung.Load() != 0 {
				t.Fatal("the end of a context hit the wait after its own")
			}
			quiet.end(&w, next)
			stop()
		}
		w.Drop()
	})
}
