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

// happened is that of a Once.
var happened = &closed

// A Turn is held by one goroutine at a time, under a name that others can
// see. Taking and giving back an uncontended turn is one atomic operation
// each. The zero value is free.
type Turn struct {
	state atomic.Int32 // 0: free, else the holder's name, plus awaited

	mu      sync.Mutex
	waiters *waiters // nil: nobody waits
}

// waiters are those who wait for a turn.
type waiters struct {
	claim *Claim        // who gets the turn next, if not nil
	freed chan struct{} // closed when the turn becomes free, for those who compete for it then
}

// get returns the claim and the channel of those who wait, with mu held.
func (t *Turn) get() waiters {
	if t.waiters == nil {
		return waiters{}
	}
	return *t.waiters
}

// set changes who waits, with mu held.
func (t *Turn) set(w waiters) {
	if w == (waiters{}) {
		t.waiters = nil
	} else {
		t.waiters = &w
	}
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

// Rename changes the name of the holder, if it is from, and reports whether it
// was: the holder itself does so, or somebody who takes the turn from one whose
// name allows that. Those who wait for the turn may look again.
func (t *Turn) Rename(from, to int32) bool {
	if t.state.CompareAndSwap(from, to) {
		return true
	}
	if t.Holder() != from {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.get()
	for {
		s := t.state.Load()
		if s&^awaited != from {
			return false
		}
		next := to
		if w.claim != nil {
			next |= awaited
		}
		if t.state.CompareAndSwap(s, next) {
			break
		}
	}
	if w.freed != nil {
		close(w.freed)
		t.set(waiters{claim: w.claim})
	}
	return true
}

// Claim makes the caller the one whom the holder's Give passes the turn to;
// when it is free, it is granted at once. It returns nil if somebody else has
// a claim. A claim that has been granted, or is not dropped, must be followed
// by Give.
func (t *Turn) Claim(as int32) *Claim {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.get()
	if w.claim != nil {
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
			t.set(waiters{c, w.freed})
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
	return t.get().claim != nil
}

// Drop gives up a claim, or the turn if it has been granted meanwhile.
func (t *Turn) Drop(c *Claim) {
	t.mu.Lock()
	if w := t.get(); w.claim == c {
		t.set(waiters{freed: w.freed})
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
			w := t.get()
			if w.freed == nil {
				w.freed = make(chan struct{})
				t.set(w)
			}
			return w.freed
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
	w := t.get()
	if c := w.claim; c != nil {
		t.set(waiters{freed: w.freed})
		s := c.as
		if w.freed != nil {
			s |= awaited
		}
		t.state.Store(s)
		close(c.Granted)
		return
	}
	t.state.Store(0)
	if w.freed != nil {
		close(w.freed)
		t.set(waiters{})
	}
}

// A Once is an event that happens once. Its channel is made only when
// somebody waits. The zero value has not happened.
type Once struct{ c atomic.Pointer[chan struct{}] }

// Set makes it happen. Further calls do nothing.
func (o *Once) Set() {
	if c := o.c.Swap(happened); c != nil && c != happened {
		close(*c)
	}
}

// Done returns a channel that is closed once it has happened.
func (o *Once) Done() <-chan struct{} {
	c := o.c.Load()
	if c == nil {
		made := make(chan struct{})
		if o.c.CompareAndSwap(nil, &made) {
			return made
		}
		c = o.c.Load()
	}
	return *c
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
	late    bool // a callback could not be stopped, and may be yet to run
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
	if w.stop != nil && !w.stop() {
		w.late = true
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

// Unused reports whether there is no registration to keep for the next call.
func (w *Watch) Unused() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stop == nil && !w.late
}

// Drop ends the registration with a context. It reports false if a callback may
// still use w.
func (w *Watch) Drop() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.forget()
	return !w.late
}

func (w *Watch) forget() {
	if w.stop != nil && !w.stop() {
		w.late = true
	}
	w.stop, w.done = nil, nil
}
