package memconn

import (
	"sync"
	"time"
)

// stream is one direction of a connection: what its writer has written and its reader has not read. The mutex of
// the connection guards it.
type stream struct {
	cond *sync.Cond // told of every change that either side may wait for
	ring ring[byte]

	// the writer's
	writing       bool // a Write has its turn
	fin           bool // nothing will follow
	size          int
	limit         int
	written       int64
	stall         int64 // negative: none
	writeFault    fault
	writeDeadline deadline

	// the reader's
	gone         bool // it is closed
	keep         bool
	segments     ring[int] // if keep: lengths that sum up to what is unread
	read         int64
	readFault    fault
	readDeadline deadline

	reset bool // both get ECONNRESET
}

func newStream(mu *sync.Mutex) *stream {
	return &stream{cond: sync.NewCond(mu), size: 64 << 10, stall: -1}
}

// room says how many of n bytes can be put now.
func (s *stream) room(n int) int {
	n = min(n, s.size-s.ring.n)
	if s.limit > 0 {
		n = min(n, s.limit)
	}
	if s.stall >= 0 {
		n = int(min(int64(n), s.stall-s.written))
	}
	return max(s.writeFault.allow(n, s.written), 0)
}

// put appends p. Without fresh it belongs to the Write before it.
func (s *stream) put(p []byte, fresh bool) {
	s.ring.put(p)
	s.written += int64(len(p))
	if s.keep {
		if fresh || s.segments.n == 0 {
			s.segments.put([]int{0})
		}
		*s.segments.at(s.segments.n - 1) += len(p)
	}
	s.cond.Broadcast()
}

// take reads what is there into p.
func (s *stream) take(p []byte) int {
	n := s.readFault.allow(min(len(p), s.ring.n), s.read)
	if s.keep {
		first := s.segments.at(0)
		n = min(n, *first)
		if *first -= n; *first == 0 {
			s.segments.drop(1)
		}
	}
	s.ring.take(p[:n])
	s.read += int64(n)
	s.cond.Broadcast()
	return n
}

func (s *stream) keepSegments(keep bool) {
	if keep == s.keep {
		return
	}
	s.keep, s.segments = keep, ring[int]{}
	if keep && s.ring.n > 0 {
		s.segments.put([]int{s.ring.n})
	}
}

// cut loses what is unread and fails both sides. A reset that comes after the end of the stream was read, or could
// have been, takes nothing away.
func (s *stream) cut() {
	if s.fin && s.ring.n == 0 {
		return
	}
	s.reset = true
	s.ring, s.segments = ring[byte]{}, ring[int]{}
	s.cond.Broadcast()
}

// fault is an error that comes after so many bytes.
type fault struct {
	after int64
	err   error // nil: there is no fault
}

func (f fault) due(done int64) bool { return f.err != nil && done >= f.after }

// allow returns how many of n bytes can pass before the fault.
func (f fault) allow(n int, done int64) int {
	if f.err == nil {
		return n
	}
	return int(min(int64(n), f.after-done))
}

// deadline is guarded by the mutex of the connection, as is what its timer does.
type deadline struct {
	at    time.Time
	timer *time.Timer // nil: there is no deadline, or it had passed when it was set
	fired bool        // needed beside at, as the wall clock may be set back
}

// passed looks at the clock too: a call that begins at the very moment must not depend on whether the timer ran first.
func (d *deadline) passed() bool {
	return d.fired || !d.at.IsZero() && time.Until(d.at) <= 0
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
	}
	*d = deadline{}
}

func (d *deadline) set(t time.Time, cond *sync.Cond) {
	d.stop()
	if t.IsZero() {
		return
	}
	d.at = t
	wait := time.Until(t)
	if wait <= 0 {
		cond.Broadcast()
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(wait, func() {
		cond.L.Lock()
		defer cond.L.Unlock()
		if d.timer == timer { // else it was moved while this timer fired
			d.fired = true
			cond.Broadcast()
		}
	})
	d.timer = timer
}

// ring is a queue. It grows to what was in it at one time, at most doubled, and is used again and again.
type ring[T any] struct {
	buf  []T
	head int // index of the first
	n    int // how many are in it; they go on at buf[0] behind the end of buf
}

func (r *ring[T]) at(i int) *T { return &r.buf[(r.head+i)%len(r.buf)] }

func (r *ring[T]) put(p []T) {
	if need := r.n + len(p); need > len(r.buf) {
		buf, n := make([]T, max(need, 2*len(r.buf))), r.n
		r.take(buf[:n])
		*r = ring[T]{buf: buf, n: n}
	}
	tail := (r.head + r.n) % len(r.buf)
	copy(r.buf, p[copy(r.buf[tail:], p):])
	r.n += len(p)
}

// take moves the first of the queue to p, which must not be longer than the queue.
func (r *ring[T]) take(p []T) {
	copy(p[copy(p, r.buf[r.head:]):], r.buf)
	r.drop(len(p))
}

func (r *ring[T]) drop(n int) {
	if r.n -= n; r.n == 0 {
		r.head = 0
	} else {
		r.head = (r.head + n) % len(r.buf)
	}
}
