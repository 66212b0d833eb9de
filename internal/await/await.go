// Package await has the three ways in which a call on a connection waits for
// something: for its turn, for an event that happens once, and on I/O that
// the end of a context has to interrupt. None of them costs an idle
// connection a channel, a goroutine or a timer.
package await

import (
	"context"
	"sync"
	"sync/atomic"
)

// closed is what waiting for something that has happened yields.
var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// A Turn is held by one goroutine at a time, under a name that others can
// see. Taking and giving back an uncontended turn is one atomic operation
// each. The zero value is free.
type Turn struct {
	state atomic.Int32 // 0: free, else the holder's name, plus awaited

	mu    sync.Mutex
	claim *Claim        // who gets the turn next
	freed chan struct{} // closed when the turn becomes free; made when somebody waits
}

// A Claim is the right to hold a turn next. Granted is closed when the turn
// has been passed on.
type Claim struct {
	Granted chan struct{}
	as      int32
}

// awaited marks a turn for whose end somebody waits.
const awaited = 1 << 16

// Take takes the turn under the name as (1 … 65535) if it is free.
func (t *Turn) Take(as int32) bool {
	return t.state.CompareAndSwap(0, as)
}

// Holder is the name of who has the turn, or 0.
func (t *Turn) Holder() int32 {
	return t.state.Load() &^ awaited
}

// Claim makes the caller the one whom the holder's Give passes the turn to;
// when it is free, it is granted at once. It returns nil if somebody else has
// a claim. A claim that has been granted, or is not dropped, must be followed
// by Give.
func (t *Turn) Claim(as int32) *Claim {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.claim != nil {
		return nil
	}
	c := &Claim{Granted: make(chan struct{}), as: as}
	for {
		s := t.state.Load()
		if s == 0 && t.state.CompareAndSwap(0, as) {
			close(c.Granted)
			return c
		}
		if s != 0 && t.state.CompareAndSwap(s, s|awaited) {
			t.claim = c
			return c
		}
	}
}

// Claimed reports whether somebody waits for the turn by a claim.
func (t *Turn) Claimed() bool {
	if t.state.Load()&awaited == 0 {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.claim != nil
}

// Drop gives up a claim, or the turn if it has been granted meanwhile.
func (t *Turn) Drop(c *Claim) {
	t.mu.Lock()
	if t.claim == c {
		t.claim = nil
		t.mu.Unlock()
		return
	}
	t.mu.Unlock()
	t.Give()
}

// Freed returns a channel that is closed when the turn is next free, or has
// been closed when it is free now. Whoever wakes up must compete for the turn
// again.
func (t *Turn) Freed() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		s := t.state.Load()
		if s == 0 {
			return closed
		}
		if t.state.CompareAndSwap(s, s|awaited) {
			if t.freed == nil {
				t.freed = make(chan struct{})
			}
			return t.freed
		}
	}
}

// Give gives the turn back. Only its holder may call it.
func (t *Turn) Give() {
	if s := t.state.Load(); s&awaited == 0 && t.state.CompareAndSwap(s, 0) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.claim; c != nil {
		t.claim = nil
		s := c.as
		if t.freed != nil {
			s |= awaited
		}
		t.state.Store(s)
		close(c.Granted)
		return
	}
	t.state.Store(0)
	if t.freed != nil {
		close(t.freed)
		t.freed = nil
	}
}

// A Once is an event that happens once. Its channel is made only when
// somebody waits. The zero value has not happened.
type Once struct {
	mu   sync.Mutex
	c    chan struct{}
	done bool
}

// Set makes it happen. Further calls do nothing.
func (o *Once) Set() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.done {
		return
	}
	o.done = true
	if o.c != nil {
		close(o.c)
	}
}

// Done returns a channel that is closed once it has happened.
func (o *Once) Done() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.done {
		return closed
	}
	if o.c == nil {
		o.c = make(chan struct{})
	}
	return o.c
}

// An Interrupter makes a call that waits on it return.
type Interrupter interface{ Interrupt() }

// A Watch interrupts blocking I/O when the context of the call that waits on
// it ends. It is used by one call at a time. The registration with a context
// is kept for the next call, so that a loop over one context registers once;
// contexts are told apart by their Done channel, since comparing two values
// of an interface panics when their type is not comparable.
type Watch struct {
	mu      sync.Mutex
	done    <-chan struct{} // of the context that stop belongs to
	stop    func() bool
	waiting bool
}

// Begin arms the watch for a wait under ctx: when ctx ends before End,
// io is interrupted, from another goroutine; not any more once End returns.
func (w *Watch) Begin(ctx context.Context, io Interrupter) {
	done := ctx.Done()
	if done == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = true
	if done == w.done {
		if ctx.Err() == nil {
			return
		}
		// The context ended while nobody waited, so that its callback
		// had nobody to interrupt, or it is about to run.
		w.forget()
	}
	if w.stop != nil {
		w.stop()
	}
	w.done = done
	w.stop = context.AfterFunc(ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		// A callback that comes late must not hit the next call's wait.
		if w.waiting && w.done == done {
			io.Interrupt()
		}
	})
}

// End disarms the watch after a wait.
func (w *Watch) End(ctx context.Context) {
	if ctx.Done() == nil {
		return
	}
	w.mu.Lock()
	w.waiting = false
	w.mu.Unlock()
}

// Drop ends the registration with a context.
func (w *Watch) Drop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.forget()
}

func (w *Watch) forget() {
	if w.stop != nil {
		w.stop()
	}
	w.stop, w.done = nil, nil
}
