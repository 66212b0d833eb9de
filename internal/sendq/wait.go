package sendq

import (
	"context"
	"time"
)

// Who may write when: frames that find no room or no quiet connection wait in
// line, and all but its own wait for a message that is written frame by frame.

// A waiter is told when it is first in line and something has changed.
type waiter struct {
	wake    chan struct{}
	within  *Hold // what may be held for it to go on
	size    int   // of its frame; 0: it wants a hold
	forRoom bool  // room is all that it waits for
	// A frame that is not copied needs the connection for itself, after
	// what was accepted before it became the first in line.
	alone   bool
	first   bool
	ahead   int  // bytes of the backlog that were there then, and still are
	granted bool // it is busy now
}

// A Hold keeps other messages out between the frames of one message.
type Hold struct {
	ctx     context.Context
	stop    func() bool // no longer watch ctx
	lost    func(error) // told when the message was cut
	last    time.Time   // when its holder last did something
	writing bool        // its holder is in Write
	begun   bool        // a frame of it has been accepted
	final   bool        // the next frame is the last
	whole   bool        // that has been accepted
	revoked bool
	parked  time.Time   // since when posted messages wait for its end
	timer   *time.Timer // looks whether they wait for nothing
}

// Final says that the holder's next frame is the last of its message: what was
// posted meanwhile may follow it, whatever happens.
func (h *Hold) Final() { h.final = true }

// wrote ends a holder's Write.
func (q *Queue) wrote(h *Hold) {
	q.lock()
	h.writing, h.last = false, time.Now()
	q.unlock()
	if h.ctx.Err() != nil {
		q.expire(h)
	}
}

// room reports whether a frame fits beside so many bytes.
func (q *Queue) room(size, queued int) bool {
	return queued == 0 || size <= q.opt.Limit-queued
}

// enter waits, with mu held, until a frame of the given size may be written
// or queued. For one that is not copied, the caller is busy then.
func (q *Queue) enter(ctx context.Context, within *Hold, size int) error {
	first := !q.closed && q.hold == within && (len(q.waiters) == 0 || within != nil) && (within == nil || !within.revoked)
	switch {
	case !first:
	case size <= small && q.room(size, q.queued):
		return nil
	case size > small && !q.busy && !q.something():
		q.busy = true
		return nil
	}
	w := &waiter{within: within, size: size, alone: size > small}
	if within != nil && within.revoked {
		return ErrRevoked
	}
	if !q.scheduled {
		_ = q.attend(true) // or nobody may be about to make room
	}
	// A frame inside a hold goes before those who wait for the hold.
	if !q.closed && (len(q.waiters) == 0 || within != nil) && q.ready(w) {
		return nil
	}
	return q.wait(ctx, w)
}

// ready reports, with mu held, whether w may go on, and makes it busy if it is
// to be alone.
func (q *Queue) ready(w *waiter) bool {
	switch {
	case q.hold != w.within:
		return false
	case w.size == 0 || w.granted:
		return true
	case w.alone:
		if q.busy || !q.before(w) {
			return false
		}
		q.busy = true
		return true
	}
	w.forRoom = !q.room(w.size, q.released())
	return !w.forRoom
}

// released is what is queued and waits for no hold.
func (q *Queue) released() int {
	if q.parked == nil {
		return q.queued
	}
	return q.queued - q.parked.total.bytes
}

// before reports whether all that was accepted before w, which is the first in
// line, has been written. What is posted from then on comes after it.
func (q *Queue) before(w *waiter) bool {
	if !w.first {
		w.first = true
		if q.back != nil {
			w.ahead = q.back.total.bytes
		}
	}
	return q.left.b == nil && w.ahead <= 0
}

// pass says, with mu held, that so many bytes have left the front of the
// backlog.
func (q *Queue) pass(n int) {
	for _, w := range q.waiters {
		if !w.first {
			break // only who has been first in line has looked
		}
		w.ahead -= n
	}
}

// handOn hands the connection on to a frame that is not copied, if one is first
// in line. The caller is busy, with mu held, and is not any more then.
func (q *Queue) handOn() bool {
	if len(q.waiters) == 0 || q.closed {
		return false
	}
	w := q.waiters[0]
	if !w.alone || w.granted || q.hold != w.within || !q.before(w) {
		return false
	}
	w.granted = true
	w.signal()
	return true
}

// wait queues up, with mu held, until w is ready; it is left with mu held.
func (q *Queue) wait(ctx context.Context, w *waiter) (err error) {
	if q.closed {
		return ErrClosed
	}
	w.wake = make(chan struct{}, 1)
	if w.within != nil {
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
		if w.granted && err != nil {
			q.done()
		}
		q.wakeFirst()
	}()
	began := time.Now()
	for {
		var lost <-chan time.Time
		var timer *time.Timer
		if h := q.hold; h != nil && h != w.within && q.opt.Timeout > 0 {
			left := q.patience(h, began)
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
		var ended error
		select {
		case <-w.wake:
		case <-lost:
		case <-ctx.Done():
			ended = ctx.Err()
		}
		if timer != nil {
			timer.Stop()
		}
		q.mu.Lock()
		switch {
		case q.closed:
			return ErrClosed
		case w.within != nil && w.within.revoked:
			return ErrRevoked
		case ended != nil:
			return ended
		case q.waiters[0] == w && q.ready(w):
			return nil
		}
	}
}

// patience is how much longer an idle hold may keep somebody waiting who has
// waited since then.
func (q *Queue) patience(h *Hold, since time.Time) time.Duration {
	if h.writing { // which has a bound of its own
		return q.opt.Timeout
	}
	return time.Until(latest(h.last, since).Add(q.opt.Timeout))
}

// Begin waits until no message is being written frame by frame and keeps the
// others out from then on, until End. When ctx ends while the holder is not in
// Write, or others have waited for the timeout while it did nothing, the hold
// is revoked; if a frame was accepted by then, the message is cut, the others
// stay out, and lost is called, with ErrAbandoned for the latter, or those who
// wait get that.
func (q *Queue) Begin(ctx context.Context, lost func(error)) (*Hold, error) {
	q.lock()
	defer q.unlock()
	if q.closed || len(q.waiters) > 0 || q.hold != nil {
		if err := q.wait(ctx, new(waiter)); err != nil {
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
	q.lock()
	cut := q.hold == h && !h.writing && !h.revoked && !q.closed && q.revoke(h)
	q.unlock()
	if cut {
		h.lost(h.ctx.Err())
	}
}

// revoke takes a hold from its holder, with mu held, and reports whether its
// message is cut.
func (q *Queue) revoke(h *Hold) (cut bool) {
	h.revoked = true
	if !h.begun {
		q.release()
	}
	return h.begun
}

// watchHold sees to it, with mu held, that what has been posted does not wait
// for ever for a holder that does nothing: nobody waits for it who would look.
func (q *Queue) watchHold() {
	h := q.hold
	if h.timer != nil || q.opt.Timeout <= 0 {
		return
	}
	h.parked = time.Now()
	h.timer = time.AfterFunc(q.opt.Timeout, func() {
		q.lock()
		cut := false
		if q.hold == h && !h.revoked && !q.closed {
			if left := q.patience(h, h.parked); left > 0 {
				h.timer.Reset(left)
			} else {
				cut = q.revoke(h)
			}
		}
		q.unlock()
		if cut {
			h.lost(ErrAbandoned)
		}
	})
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
	q.lock()
	defer q.unlock()
	if q.hold == h {
		q.release()
	}
}

// release takes the hold from its holder, with mu held.
func (q *Queue) release() {
	if h := q.hold; h != nil {
		if h.stop != nil {
			h.stop()
		}
		if h.timer != nil {
			h.timer.Stop()
		}
	}
	q.hold = nil
	q.unpark()
	q.wakeFirst()
}

// unpark lets what was posted during a hold follow it.
func (q *Queue) unpark() {
	if q.parked == nil {
		return
	}
	if q.back == nil {
		q.back, q.parked = q.parked, nil
		q.pending.Store(true)
	} else {
		q.back.append(q.parked)
		q.parked.free()
		q.parked = nil
	}
	if !q.busy && !q.stuck {
		q.schedule()
	}
}

// wakeFirst tells the first in line to look. Who waits for room is not told
// until half of the queue is free: he can write many messages then before he,
// or the next, has to wait again, where one by one each would cost a wait.
func (q *Queue) wakeFirst() {
	if len(q.waiters) == 0 {
		return
	}
	if w := q.waiters[0]; !w.forRoom || q.released() <= q.opt.Limit/2 {
		w.signal()
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
