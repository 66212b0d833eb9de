package sendq

import (
	"context"
	"time"
)

// Who may write when: frames that find no room or no quiet connection wait in
// line, and all but its own wait for a message that is written frame by frame.

// A waiter is told when it is first in line and something has changed.
type waiter struct{ wake chan struct{} }

// A Hold keeps other messages out between the frames of one message.
type Hold struct {
	ctx     context.Context
	stop    func() bool // no longer watch ctx
	lost    func()      // told when the message was cut by ctx
	last    time.Time   // when its holder last did something
	writing bool        // its holder is in Write
	begun   bool        // a frame of it has been accepted
	revoked bool
}

// wrote ends a holder's Write.
func (q *Queue) wrote(h *Hold) {
	q.mu.Lock()
	h.writing, h.last = false, time.Now()
	q.mu.Unlock()
	if h.ctx.Err() != nil {
		q.expire(h)
	}
}

// enter waits, with mu held, until a frame of the given size may be written
// or queued.
func (q *Queue) enter(ctx context.Context, within *Hold, size int) error {
	ready := func() bool {
		if q.hold != within {
			return false
		}
		if size > small {
			return !q.busy
		}
		return !q.busy || q.queued+size <= q.limit
	}
	// A frame inside a hold goes before those who wait for the hold.
	if within != nil && within.revoked {
		return ErrRevoked
	}
	if !q.closed && (len(q.waiters) == 0 || within != nil) && ready() {
		return nil
	}
	return q.wait(ctx, within, ready)
}

// wait queues up, with mu held, until ready; it is left with mu held.
func (q *Queue) wait(ctx context.Context, within *Hold, ready func() bool) error {
	if q.closed {
		return ErrClosed
	}
	w := &waiter{wake: make(chan struct{}, 1)}
	if within != nil {
		q.waiters = append([]*waiter{w}, q.waiters...)
	} else {
		q.waiters = append(q.waiters, w)
	}
	defer func() {
		for i, o := range q.waiters {
			if o == w {
				q.waiters = append(q.waiters[:i:i], q.waiters[i+1:]...)
				break
			}
		}
		if len(q.waiters) == 0 {
			q.waiters = nil
		}
		q.wakeFirst()
	}()
	began := time.Now()
	for {
		var lost <-chan time.Time
		var timer *time.Timer
		if h := q.hold; h != nil && h != within && q.timeout > 0 {
			left := q.timeout // while it writes, which has a bound of its own
			if !h.writing {
				left = time.Until(latest(h.last, began).Add(q.timeout))
			}
			if left <= 0 {
				h.revoked = true
				if h.begun {
					return ErrAbandoned // the hold stays: nothing may follow
				}
				q.release()
				continue
			}
			timer = time.NewTimer(left)
			lost = timer.C
		}
		q.mu.Unlock()
		var err error
		select {
		case <-w.wake:
		case <-lost:
		case <-ctx.Done():
			err = ctx.Err()
		}
		if timer != nil {
			timer.Stop()
		}
		q.mu.Lock()
		switch {
		case q.closed:
			return ErrClosed
		case within != nil && within.revoked:
			return ErrRevoked
		case err != nil:
			return err
		case q.waiters[0] == w && ready():
			return nil
		}
	}
}

// Begin waits until no message is being written frame by frame and keeps the
// others out from then on, until End. When ctx ends while the holder is not in
// Write, the hold is revoked; if a frame was accepted by then, the message is
// cut, the others stay out, and lost is called.
func (q *Queue) Begin(ctx context.Context, lost func()) (*Hold, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	free := func() bool { return q.hold == nil }
	if q.closed || len(q.waiters) > 0 || !free() {
		if err := q.wait(ctx, nil, free); err != nil {
			return nil, err
		}
	}
	h := &Hold{ctx: ctx, lost: lost, last: time.Now()}
	if ctx.Done() != nil {
		h.stop = context.AfterFunc(ctx, func() { q.expire(h) })
	}
	q.hold = h
	return h, nil
}

// expire revokes a hold whose context has ended. Within Write, the context
// ends that.
func (q *Queue) expire(h *Hold) {
	q.mu.Lock()
	cut := false
	if q.hold == h && !h.writing && !h.revoked && !q.closed {
		h.revoked = true
		if cut = h.begun; !cut {
			q.release()
		}
	}
	q.mu.Unlock()
	if cut {
		h.lost()
	}
}

// Touch says that the holder is alive, though it has nothing to write yet.
// It reports ErrRevoked when the hold is lost.
func (q *Queue) Touch(h *Hold) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if h.revoked {
		return ErrRevoked
	}
	h.last = time.Now()
	return nil
}

// End lets the others in again.
func (q *Queue) End(h *Hold) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.hold == h {
		q.release()
	}
}

// release takes the hold from its holder, with mu held.
func (q *Queue) release() {
	if q.hold != nil && q.hold.stop != nil {
		q.hold.stop()
	}
	q.hold = nil
	q.wakeFirst()
}

func (q *Queue) wakeFirst() {
	if len(q.waiters) > 0 {
		q.waiters[0].signal()
	}
}

func (q *Queue) wakeAll() {
	for _, w := range q.waiters {
		w.signal()
	}
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

func (w *waiter) signal() {
	select {
	case w.wake <- struct{}{}:
	default: // it has been told already
	}
}
