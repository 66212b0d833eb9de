// Package sendq is the way out of a connection: it puts frames on the wire
// whole, in one order, from any number of goroutines.
//
// A frame that finds the connection quiet is written by its caller. One that
// finds a write in progress, or that others are about to follow, is copied
// into the backlog, and what has gathered there goes out with the next call:
// of a caller that comes by, or of the flusher, a goroutine that lives as long
// as there is something to write. A frame too large to copy waits for its turn
// and is then written from where it lies. No lock is held while bytes are
// written, and nothing is kept while nothing is queued.
package sendq

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sockeye-ws/websocket/internal/await"
	"github.com/sockeye-ws/websocket/internal/bufpool"
	"github.com/sockeye-ws/websocket/internal/transport"
)

// MaxReplies is how many bytes of replies may wait; beyond it only the newest
// is kept.
const MaxReplies = 4 << 10

var (
	// ErrClosed is returned for what comes after Close, Cut or Drop.
	ErrClosed = errors.New("sendq: closed")
	// ErrFull is returned by Post for a message that finds no room.
	ErrFull = errors.New("sendq: full")
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

// Options are what a Queue goes by. Many queues may share them.
type Options struct {
	// Limit is how many bytes are accepted and not yet taken by the
	// connection. A single frame may be larger.
	Limit int
	// Timeout is when an idle hold may be taken from its holder, if others
	// wait. Negative: never.
	Timeout time.Duration
	// DropOldest makes Post drop what was posted earlier to make room.
	DropOldest bool
	// Disconnect makes a message that finds no room the last that was
	// accepted, as a Cut is to follow: nothing may come after a gap.
	Disconnect bool
	// Mask, if not nil, is applied to what is written of each payload, in a
	// copy: to its pieces in order, the first with a key of the Owner, which
	// becomes the last four bytes of the head, the others with what the call
	// before returned. Control frames come as they are to be written.
	Mask func(key uint32, p []byte) (next uint32)
	// High is the most bytes that were ever queued.
	High atomic.Int64
}

// Traffic is what the connection has taken: bytes, and whole messages.
type Traffic struct{ Bytes, Messages uint64 }

// An Owner is who has a Queue.
type Owner interface {
	// Failed is called once, without locks, when a write failed.
	Failed(error)
	// Key returns a key for Options.Mask, a new one for each frame. One call
	// is made at a time, and it must not use the Queue.
	Key() uint32
}

// A Queue is the way out of one connection. Init must be called first.
type Queue struct {
	out   transport.Conn
	owner Owner
	opt   *Options

	pending atomic.Bool // back is not nil

	mu        sync.Mutex
	busy      bool // one goroutine is in, or about to make, a write call
	scheduled bool // the flusher has been started and has not begun
	stuck     bool // the socket is full, and the flusher waits for it or is about to
	closed    bool // nothing more is accepted
	dead      bool // nothing more is written
	guess     bool // something was left to the flusher by pace
	gap       bool // a message found no room, and the end is on its way
	pace      Pace // of writes on a quiet connection
	sent      Traffic
	*flow                // nil while nothing goes on
	drained   await.Once // closed, and all is out or never will be
}

// A flow is what a queue needs while something is going on that others may meet.
type flow struct {
	q       *Queue
	call    func()   // the flusher's, made once so that starting it allocates nothing
	back    *backlog // accepted and not in a call; nil if there is none
	urgent  *backlog // control frames that overtake it
	parked  *backlog // posted during a hold, for after it
	left    item     // what a call could not write of what it took
	parts   []item   // what a call has taken and has yet to encode
	inCall  count    // of what is being written from back, urgent and left
	queued  int      // bytes of all these
	replies int      // those of them that are replies
	newest  []byte   // the reply that found no room
	hold    *Hold    // other messages wait for it
	waiters []*waiter
	watch   await.Watch
}

var flows sync.Pool

// lock takes mu, and a flow if there is none; unlock gives back both.
func (q *Queue) lock() {
	q.mu.Lock()
	q.need()
}

func (q *Queue) unlock() {
	q.rest()
	q.mu.Unlock()
}

func (q *Queue) need() {
	if q.flow != nil {
		return
	}
	f, _ := flows.Get().(*flow)
	if f == nil {
		f = new(flow)
		f.call = func() { f.q.flush() }
	}
	f.q, q.flow = q, f
}

// rest gives the flow back, with mu held, if nothing goes on.
func (q *Queue) rest() {
	f := q.flow
	if f == nil || q.busy || q.scheduled || f.queued != 0 || f.something() || f.parked != nil || f.newest != nil || f.hold != nil || f.waiters != nil || !f.watch.Unused() {
		return
	}
	f.q, q.flow = nil, nil
	flows.Put(f)
}

// Rest gives up what is kept for the next call of Write.
func (q *Queue) Rest() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if f := q.flow; f != nil && !q.busy {
		f.watch.Drop()
		q.rest()
	}
}

// Init prepares a queue that writes to out.
func (q *Queue) Init(out transport.Conn, owner Owner, opt *Options) {
	q.out, q.owner, q.opt, q.pace = out, owner, opt, NewPace()
}

// A Frame is one frame to write.
type Frame struct {
	Payload []byte
	// Within is the Hold that it belongs to, or nil for a message of its own.
	Within *Hold
	// More says that other frames are about to follow, with which it should
	// share a call.
	More bool
	// The header is the first Header bytes of Head.
	Header uint8
	Head   [MaxHeader]byte
}

// MaxHeader is the longest header of a frame.
const MaxHeader = 14

func (f *Frame) header() []byte { return f.Head[:f.Header] }
func (f *Frame) size() int      { return int(f.Header) + len(f.Payload) }
func (f *Frame) marked() bool   { return f.Head[0]&Marked != 0 }

// Write sends one frame. With Options.Mask its key is written into f.Head. When it returns nil, the frame has been taken by
// the connection, or is in the queue and will be without further calls. When
// ctx ends before the first byte was taken, nothing is sent and the error is
// ctx.Err(); when it ends later, the error is a *TornError, and the connection is
// of no more use.
//
// A goroutine that does nothing but read and write small messages fits into the
// smallest stack there is, as long as nothing here takes much of it.
func (q *Queue) Write(ctx context.Context, f *Frame) error {
	if !q.beginAlone(f) {
		return q.writeAmong(ctx, f)
	}
	b, _ := q.firstPiece(f) // all of it
	n, err := q.out.TryWrite(b.B)
	if err != nil || n < len(b.B) {
		return q.finishAlone(ctx, f, b, remainder{}, n, err, kept)
	}
	bufpool.Put(b)
	q.mu.Lock()
	q.sent.Bytes += uint64(n)
	q.sent.Messages++
	q.done()
	q.unlock()
	return nil
}

// beginAlone makes the caller busy with f if nothing else goes on, as is most
// often so.
func (q *Queue) beginAlone(f *Frame) bool {
	if f.Within != nil || f.More || f.size() > small {
		return false
	}
	q.mu.Lock()
	alone := q.flow == nil && !q.busy && !q.closed && !q.gap && q.pace.Now()
	if alone {
		q.busy = true
		q.seal(f.header())
	}
	q.mu.Unlock()
	return alone
}

// seal puts a new key into a head, with mu held.
func (q *Queue) seal(head []byte) {
	if q.opt.Mask != nil {
		binary.LittleEndian.PutUint32(head[len(head)-4:], q.owner.Key())
	}
}

// writeAmong is Write where other frames may be.
func (q *Queue) writeAmong(ctx context.Context, f *Frame) error {
	within, size := f.Within, f.size()
	q.lock()
	q.seal(f.header())
	if within != nil {
		within.writing = true
		defer q.wrote(within)
	}
	if q.gap && within == nil {
		q.unlock()
		return ErrClosed
	}
	if err := q.enter(ctx, within, size); err != nil {
		q.unlock()
		return err
	}
	began := false // the message that within is for, by this frame
	if within != nil {
		began = !within.begun
		within.begun, within.whole = true, within.final
	}
	k := kept
	if within != nil && !began {
		k = part
	}
	if size <= small {
		quiet := !q.busy && !q.something()
		if !quiet || f.More || !q.pace.Now() {
			q.guess = q.guess || quiet && !f.More
			if q.back == nil && (f.More || q.guess) {
				q.back = newBacklog()
				q.back.start = several
				q.pending.Store(true)
			}
			q.append(f.header(), f.Payload, k)
			_ = q.attend(!f.More && !q.guess)
			q.unlock()
			return nil
		}
		q.busy = true
	}
	q.mu.Unlock()
	err := q.writeAlone(ctx, f, k)
	if within != nil && err != nil && err == ctx.Err() { // nothing of it has left
		q.mu.Lock()
		within.begun, within.whole = !began, false
		q.mu.Unlock()
	}
	return err
}

// Post accepts one message without waiting, or returns ErrFull. It goes out
// after Flush or Attend. With Options.Mask its key is written into head. The frame
// is copied, unless it is shared, in which case payload is all of it, not to be
// masked, and nobody may change it any more. dropped is how many earlier messages had to give way.
func (q *Queue) Post(head, payload []byte, shared bool) (dropped int, err error) {
	return q.post(head, payload, shared, nil)
}

// PostShared is Post for a frame that was encoded for many connections.
func (q *Queue) PostShared(s *Shared) (dropped int, err error) {
	return q.post(nil, s.Frame, true, s)
}

func (q *Queue) post(head, payload []byte, shared bool, s *Shared) (dropped int, err error) {
	size := len(head) + len(payload)
	q.lock()
	defer q.unlock()
	if q.closed || q.gap {
		return 0, ErrClosed
	}
	need := size
	if len(q.waiters) > 0 && q.waiters[0].forRoom {
		need += q.waiters[0].size // who waits for room is not overtaken
	}
	if !q.room(need, q.queued) {
		dropped = q.makeRoom(need)
		if !q.room(need, q.queued) {
			q.gap = q.opt.Disconnect
			return dropped, ErrFull
		}
	}
	to := &q.back
	if q.hold != nil {
		to = &q.parked
		q.watchHold()
	}
	if *to == nil {
		*to = newBacklog()
		q.pending.Store(q.back != nil)
	}
	if shared && (s != nil || size > tiny) {
		(*to).share(payload, loose, s)
	} else {
		if !shared {
			q.seal(head)
		}
		q.mask(head, (*to).copy(head, payload, loose, q.opt.DropOldest))
	}
	q.add(size)
	return dropped, nil
}

// makeRoom drops what was posted, the oldest first, with mu held.
func (q *Queue) makeRoom(size int) (dropped int) {
	gainable := 0
	for _, l := range []*backlog{q.back, q.parked} {
		if l != nil && q.opt.DropOldest {
			gainable += l.total.loose
		}
	}
	if gainable == 0 || !q.room(size, q.queued-gainable) {
		return 0
	}
	for _, l := range []*backlog{q.back, q.parked} {
		if l == nil || q.room(size, q.queued) {
			continue
		}
		var ahead int // of who waits to be alone
		if l == q.back && len(q.waiters) > 0 && q.waiters[0].first {
			ahead = q.waiters[0].ahead
		}
		gone, before := l.drop(q.queued+size-q.opt.Limit, ahead)
		q.queued -= gone.bytes
		q.pass(before)
		dropped += gone.messages
	}
	q.tidy()
	return dropped
}

// Control sends a control frame, which no data keeps out, without waiting.
func (q *Queue) Control(frame []byte) error {
	q.lock()
	defer q.unlock()
	if q.closed {
		return ErrClosed
	}
	q.putControl(frame, control)
	return q.attend(true)
}

// Reply queues a control frame that answers the peer. It goes out after Flush
// or Attend. When too many wait, it is dropped in favour of a newer one.
func (q *Queue) Reply(frame []byte) error {
	q.lock()
	defer q.unlock()
	if q.closed {
		return ErrClosed
	}
	if q.newest == nil && q.replies+len(frame) > MaxReplies {
		// They may wait only because nobody has tried yet.
		if err := q.attend(true); err != nil {
			return err
		}
		if q.closed {
			return ErrClosed
		}
	}
	if q.newest != nil || q.replies+len(frame) > MaxReplies {
		q.newest = append(q.newest[:0], frame...)
		return nil
	}
	q.putControl(frame, reply)
	return nil
}

// putControl queues a control frame, with mu held. It overtakes what is stuck
// behind a full socket, but no other control frame.
func (q *Queue) putControl(frame []byte, k kind) {
	if q.stuck && (q.back == nil || q.back.total.controls == 0) {
		if q.urgent == nil {
			q.urgent = newBacklog()
		}
		q.urgent.copy(frame, nil, k, false)
		q.add(len(frame))
	} else {
		q.append(frame, nil, k)
	}
	if k == reply {
		q.replies += len(frame)
	}
}

// Flush has what is queued written by the caller as far as the connection
// takes it, and sees to it that the rest is. It does not wait.
func (q *Queue) Flush() {
	if q.pending.Load() {
		q.lock()
		_ = q.attend(true)
		q.unlock()
	}
}

// Attend sees to it that what is queued is written soon, with what comes
// meanwhile.
func (q *Queue) Attend() {
	if q.pending.Load() {
		q.lock()
		_ = q.attend(false)
		q.unlock()
	}
}

// Paced is Flush or Attend, whichever seems to be worth it.
func (q *Queue) Paced() {
	if !q.pending.Load() {
		return
	}
	q.lock()
	now := q.busy || q.pace.Now()
	q.guess = q.guess || !now
	_ = q.attend(now)
	q.unlock()
}

// Close queues the last frame, if any, and accepts nothing more. Those who
// wait get ErrClosed. It does not wait.
func (q *Queue) Close(last []byte) { q.close(last, false) }

// Cut is like Close, and forgets what is queued and has not begun to be
// written.
func (q *Queue) Cut(last []byte) { q.close(last, true) }

func (q *Queue) close(last []byte, cut bool) {
	q.lock()
	defer q.unlock()
	if q.closed {
		return
	}
	q.closed = true
	if h := q.hold; q.parked != nil && (cut || h != nil && h.begun && !h.whole) {
		q.discard(&q.parked) // nothing may stand inside the cut message
	}
	q.unpark()
	if cut {
		q.discard(&q.back)
		q.discard(&q.urgent)
		q.newest = nil
	}
	if q.newest != nil {
		q.append(q.newest, nil, reply)
		q.replies += len(q.newest)
		q.newest = nil
	}
	if len(last) > 0 {
		q.append(last, nil, control)
	}
	q.wakeAll()
	if q.back == nil && q.left.b == nil && !q.busy {
		q.over()
		return
	}
	_ = q.attend(true)
}

// TryLast has one try to write a frame as the last one, if nothing is on its
// way, and does not care if it fails. It is followed by Drop.
func (q *Queue) TryLast(frame []byte) {
	q.lock()
	defer q.unlock()
	if q.closed || q.busy || q.left.b != nil || !q.out.Tries() {
		return
	}
	q.closed, q.busy = true, true
	q.mu.Unlock()
	n, _ := q.out.TryWrite(frame)
	q.mu.Lock()
	q.sent.Bytes += uint64(n)
	q.busy = false
}

// Drop forgets what is queued and accepts nothing more. The call that is
// being made is not interrupted.
func (q *Queue) Drop() {
	q.lock()
	defer q.unlock()
	if !q.closed || q.busy || q.queued > 0 || q.newest != nil {
		q.kill()
	}
	q.closed = true
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

// Queued returns how many bytes have been accepted and not been taken by the
// connection, and how many messages these belong to.
func (q *Queue) Queued() (bytes, messages int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	f := q.flow
	if f == nil {
		return 0, 0
	}
	messages = f.inCall.messages
	for _, l := range []*backlog{f.back, f.parked} {
		if l != nil {
			messages += l.total.messages
		}
	}
	return f.queued, messages
}

// Sent returns what the connection has taken so far.
func (q *Queue) Sent() Traffic {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.sent
}

// append copies a frame to the end of the backlog, with mu held.
func (q *Queue) append(head, payload []byte, k kind) {
	if q.back == nil {
		q.back = newBacklog()
		q.pending.Store(true)
	}
	q.mask(head, q.back.copy(head, payload, k, q.opt.DropOldest))
	q.add(len(head) + len(payload))
}

// add counts bytes that are queued, with mu held.
func (q *Queue) add(n int) {
	q.queued += n
	for high := q.opt.High.Load(); int64(q.queued) > high; high = q.opt.High.Load() {
		q.opt.High.CompareAndSwap(high, int64(q.queued))
	}
}
