// Package sendq is the way out of a connection: it puts frames on the wire
// whole, in one order, from any number of goroutines.
//
// A frame that finds the connection quiet is written by its caller. One that
// finds a write in progress is copied behind it, and what has gathered goes
// out with the next call, made by a goroutine that lives as long as there is
// something to write. A frame too large to copy waits for its turn and is
// then written from where it lies. No lock is held while bytes are written,
// and nothing is kept while nothing is queued.
package sendq

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sockeye-ws/websocket/internal/await"
	"github.com/sockeye-ws/websocket/internal/bufpool"
	"github.com/sockeye-ws/websocket/internal/transport"
)

const (
	// small is the size up to which a frame is copied.
	small = 16 << 10
	// MaxReplies is how many bytes of replies may wait; beyond it only
	// the newest is kept.
	MaxReplies = 4 << 10
)

var (
	// ErrClosed is returned for what comes after Close or Drop.
	ErrClosed = errors.New("sendq: closed")
	// ErrAbandoned is returned to those who waited for a Hold that has
	// begun to write and then did nothing for the timeout: the queue
	// cannot go on.
	ErrAbandoned = errors.New("sendq: hold abandoned")
	// ErrRevoked is returned to the holder that lost its Hold.
	ErrRevoked = errors.New("sendq: hold revoked")
)

// A TornError is returned when the end of a context cut a frame that was
// partly on the wire.
type TornError struct{ Context context.Context }

func (e *TornError) Error() string { return "sendq: frame cut: " + e.Context.Err().Error() }

// Unwrap returns the error of the context.
func (e *TornError) Unwrap() error { return e.Context.Err() }

// A Queue is the way out of one connection. Init must be called first.
type Queue struct {
	out     transport.Conn
	limit   int           // of queued
	timeout time.Duration // until an idle hold may be taken from its holder; negative: never
	failed  func(error)   // called once, without locks, when a write failed

	mu      sync.Mutex
	busy    bool      // one goroutine is in, or about to make, a write call
	closed  bool      // nothing more is accepted
	dead    bool      // nothing more is written
	pending []*chunk  // empty unless busy
	queued  int       // bytes in pending and in the call being made from it
	replies int       // those of them that are replies
	newest  []byte    // the reply that found no room
	hold    *Hold     // other messages wait for it
	waiters []*waiter // first come, first served
	watch   await.Watch
	drained await.Once // closed, and all is out or never will be
}

// A chunk is a run of whole frames that goes out with one call.
type chunk struct {
	*bufpool.Buf
	replies int
}

// Init prepares a queue that writes to out and accepts up to limit bytes
// ahead of it. failed is told when a write fails.
func (q *Queue) Init(out transport.Conn, limit int, timeout time.Duration, failed func(error)) {
	q.out, q.limit, q.timeout, q.failed = out, limit, timeout, failed
}

// Write sends one frame. When it returns nil, the frame has been taken by
// the connection, or is in the queue and will be without further calls. When
// ctx ends before the first byte was taken, nothing is sent and the error is
// ctx.Err(); when it ends later, the error is a *TornError, and the connection
// is of no more use. within is the Hold that the frame belongs
// to, or nil for a message of its own.
func (q *Queue) Write(ctx context.Context, head, payload []byte, within *Hold) error {
	size := len(head) + len(payload)
	q.mu.Lock()
	if within != nil {
		within.writing = true
		defer q.wrote(within)
	}
	if err := q.enter(ctx, within, size); err != nil {
		q.mu.Unlock()
		return err
	}
	began := false // the message that within is for, by this frame
	if within != nil && !within.begun {
		within.begun, began = true, true
	}
	if q.busy {
		q.append(head, payload, false)
		q.mu.Unlock()
		return nil
	}
	q.busy = true
	q.mu.Unlock()

	n, err := q.writeNow(ctx, head, payload)

	q.mu.Lock()
	if err == nil {
		q.done()
		q.mu.Unlock()
		return nil
	}
	if n == 0 && ctx.Err() != nil && !q.dead {
		if began {
			within.begun = false
		}
		q.done()
		q.mu.Unlock()
		return ctx.Err()
	}
	if ctx.Err() != nil {
		err = &TornError{ctx}
	}
	q.die()
	q.mu.Unlock()
	q.failed(err)
	return err
}

// Control queues a frame that no other frame keeps out, without waiting. A
// reply is dropped in favour of a newer one when too many wait.
func (q *Queue) Control(frame []byte, reply bool) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return ErrClosed
	}
	if reply && (q.newest != nil || q.replies+len(frame) > MaxReplies) {
		q.newest = append(q.newest[:0], frame...)
		return nil
	}
	if q.busy {
		q.append(frame, nil, reply)
		return nil
	}
	q.busy = true
	q.mu.Unlock()
	n, err := q.out.TryWrite(frame)
	q.mu.Lock()
	if err != nil {
		q.die()
		q.mu.Unlock()
		q.failed(err)
		q.mu.Lock()
		return err
	}
	if n < len(frame) && !q.dead {
		// The rest goes before what has been queued meanwhile.
		queued := q.pending
		q.pending = nil
		q.append(frame[n:], nil, reply)
		q.pending = append(q.pending, queued...)
	}
	q.done()
	return nil
}

// Close queues the last frame, if any, and accepts nothing more. Those who
// wait get ErrClosed. It does not wait.
func (q *Queue) Close(last []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	q.closed = true
	if q.newest != nil {
		q.append(q.newest, nil, true)
		q.newest = nil
	}
	if len(last) > 0 {
		q.append(last, nil, false)
	}
	q.wakeAll()
	q.next()
}

// Drop forgets what is queued and accepts nothing more. The call that is
// being made is not interrupted.
func (q *Queue) Drop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.kill()
	q.wakeAll()
	if !q.busy {
		q.over()
	}
}

// Drained is closed when the queue has been closed and everything is out, or
// it has failed or been dropped, and no call is in progress any more.
func (q *Queue) Drained() <-chan struct{} { return q.drained.Done() }

// Failed reports whether something accepted was not written.
func (q *Queue) Failed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dead
}

// writeNow writes one frame from the caller's goroutine, which is busy.
func (q *Queue) writeNow(ctx context.Context, head, payload []byte) (n int, err error) {
	// The head goes out with as much of the payload as is worth copying.
	buf := bufpool.Get(len(head) + min(len(payload), small))
	defer bufpool.Put(buf)
	first := append(buf.B[:0], head...)
	taken := min(len(payload), cap(first)-len(first))
	first = append(first, payload[:taken]...)

	n, err = q.out.TryWrite(first)
	if err != nil || n == len(first) && taken == len(payload) {
		return n, err
	}
	if ctx.Done() != nil {
		q.watch.Begin(ctx, q.out.Out())
		defer func() {
			q.watch.End(ctx)
			q.out.Out().Resume()
		}()
		if ctx.Err() != nil {
			return n, ctx.Err()
		}
	}
	m, err := q.out.Write(first[n:])
	n += m
	if err != nil {
		return n, err
	}
	m, err = q.out.Write(payload[taken:])
	return n + m, err
}

// append copies a frame into the last chunk, with mu held.
func (q *Queue) append(head, payload []byte, reply bool) {
	size := len(head) + len(payload)
	q.queued += size
	var c *chunk
	if n := len(q.pending); n > 0 {
		c = q.pending[n-1]
	}
	if c == nil || len(c.B)+size > transport.Piece {
		c = &chunk{Buf: bufpool.Get(size)}
		c.B = c.B[:0]
		q.pending = append(q.pending, c)
	}
	if len(c.B)+size > cap(c.B) {
		grown := bufpool.Get(len(c.B) + size)
		grown.B = grown.B[:copy(grown.B, c.B)]
		bufpool.Put(c.Buf)
		c.Buf = grown
	}
	c.B = append(append(c.B, head...), payload...)
	if reply {
		q.replies += size
		c.replies += size
	}
}

// next makes sure, with mu held, that what is pending is being written.
func (q *Queue) next() {
	switch {
	case q.busy:
	case len(q.pending) > 0:
		q.busy = true
		go q.flush()
	case q.closed:
		q.over()
	}
}

// over says, with mu held, that nothing more will be written.
func (q *Queue) over() {
	q.watch.Drop()
	q.release()
	q.drained.Set()
}

// done ends a call of writeNow, with mu held.
func (q *Queue) done() {
	q.busy = false
	if q.dead {
		q.over()
		return
	}
	q.next()
	q.wakeFirst()
}

// flush writes what is pending, and what comes meanwhile. The caller has set
// busy for it.
func (q *Queue) flush() {
	q.mu.Lock()
	for !q.dead && len(q.pending) > 0 {
		c := q.pending[0]
		q.pending[0] = nil
		if q.pending = q.pending[1:]; len(q.pending) == 0 {
			q.pending = nil
		}
		q.mu.Unlock()
		size := len(c.B)
		_, err := q.out.Write(c.B)
		bufpool.Put(c.Buf)
		q.mu.Lock()
		q.queued -= size
		q.replies -= c.replies
		if err != nil {
			q.die()
			q.mu.Unlock()
			q.failed(err)
			return
		}
		if q.newest != nil && len(q.pending) == 0 {
			q.append(q.newest, nil, true)
			q.newest = nil
		}
		q.wakeFirst()
	}
	q.done()
	q.mu.Unlock()
}

// die ends the queue after a failed call, with mu held.
func (q *Queue) die() {
	q.busy, q.closed = false, true
	q.kill()
	q.wakeAll()
	q.over()
}

// kill forgets what is queued, with mu held.
func (q *Queue) kill() {
	q.dead = true
	for _, c := range q.pending {
		q.queued -= len(c.B)
		q.replies -= c.replies
		bufpool.Put(c.Buf)
	}
	q.pending, q.newest = nil, nil
}
