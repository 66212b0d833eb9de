package sendq

import (
	"context"
	"encoding/binary"

	"github.com/sockeye-ws/websocket/internal/bufpool"
)

// Frames that their writer puts on the wire itself.

// writeAlone writes one frame from the caller's goroutine, which is busy, and
// ends that. The error is as for Write.
func (q *Queue) writeAlone(ctx context.Context, f *Frame, k kind) error {
	b, rest := q.firstPiece(f)
	n, err := q.out.TryWrite(b.B)
	return q.finishAlone(ctx, f, b, rest, n, err, k)
}

// finishAlone is what follows the first try to write the first piece of a frame,
// b, of which n bytes were taken.
func (q *Queue) finishAlone(ctx context.Context, f *Frame, b *bufpool.Buf, rest remainder, n int, err error, k kind) error {
	all := err == nil && n == len(b.B) && len(rest.payload) == 0
	if all || err != nil {
		bufpool.Put(b)
	} else {
		n, all, err = q.writeRest(ctx, f, b, n, rest, k)
	}
	q.mu.Lock()
	q.sent.Bytes += uint64(n)
	if err != nil {
		return q.notWritten(ctx, n, err)
	}
	if all && k != part {
		q.sent.Messages++
	}
	q.done()
	q.unlock()
	return nil
}

// notWritten settles what happened to a frame of which n bytes were written, with
// mu held and let go.
func (q *Queue) notWritten(ctx context.Context, n int, err error) error {
	if n == 0 && ctx.Err() != nil && !q.dead {
		q.done()
		q.unlock()
		return ctx.Err()
	}
	if ctx.Err() != nil {
		err = &TornError{ctx}
	}
	q.die()
	q.unlock()
	q.owner.Failed(err)
	return err
}

// A remainder is what of a payload has not been copied, and the key to mask it.
type remainder struct {
	payload []byte
	key     uint32
}

// firstPiece returns the head with as much of the payload as is worth copying, as
// they are sent.
func (q *Queue) firstPiece(f *Frame) (*bufpool.Buf, remainder) {
	head := f.header()
	buf := bufpool.Get(len(head) + min(len(f.Payload), small))
	first := append(buf.B[:0], head...)
	taken := min(len(f.Payload), cap(first)-len(first))
	buf.B = append(first, f.Payload[:taken]...)
	key := q.mask(head, buf.B[len(head):])
	if f.marked() {
		raw := buf
		buf = bufpool.Get(len(raw.B) + encodeSlack)
		buf.B = q.owner.(Encoder).Encode(buf.B[:0], raw.B)
		bufpool.Put(raw)
	}
	return buf, remainder{f.Payload[taken:], key}
}

// writeRest goes on with a frame of whose first piece n bytes have been written.
func (q *Queue) writeRest(ctx context.Context, f *Frame, first *bufpool.Buf, n int, rest remainder, k kind) (_ int, all bool, err error) {
	if q.out.Tries() && len(rest.payload) == 0 {
		// The socket is full. The rest need not keep the caller.
		q.lock()
		defer q.unlock()
		if q.dead {
			bufpool.Put(first)
			return n, false, nil
		}
		b := first.B[n:]
		q.keep(item{b: b, buf: first, count: frameCount(len(b), k)})
		return n, false, nil
	}
	defer bufpool.Put(first)
	defer func() {
		if n == 0 && err != nil && f.marked() {
			q.owner.(Encoder).Undo()
		}
	}()
	if ctx.Done() != nil {
		q.lock()
		watch := &q.flow.watch // which stays: the caller is busy
		q.unlock()
		watch.Begin(ctx, q.out.Out())
		defer func() {
			watch.End(ctx)
			q.out.Out().Resume()
		}()
		if ctx.Err() != nil {
			return n, false, ctx.Err()
		}
	}
	m, err := q.out.Write(first.B[n:])
	n += m
	if err != nil {
		return n, false, err
	}
	if q.opt.Mask == nil || len(rest.payload) == 0 {
		m, err = q.out.Write(rest.payload)
		return n + m, err == nil, err
	}
	m, err = q.writeMasked(rest.key, rest.payload)
	return n + m, err == nil, err
}

// mask applies Mask to the first piece of the copy of a payload, and returns
// the key for the next.
func (q *Queue) mask(head, p []byte) (next uint32) {
	if q.opt.Mask == nil || len(p) == 0 || head[0]&Marked != 0 {
		return 0
	}
	return q.opt.Mask(binary.LittleEndian.Uint32(head[len(head)-4:]), p)
}

// writeMasked writes p by way of a buffer that is large enough for few calls and
// small enough to stay in the processor's cache.
func (q *Queue) writeMasked(key uint32, p []byte) (n int, err error) {
	buf := bufpool.Get(min(len(p), maskAtOnce))
	defer bufpool.Put(buf)
	for n < len(p) && err == nil {
		piece := buf.B[:copy(buf.B[:min(len(buf.B), maskAtOnce)], p[n:])]
		key = q.opt.Mask(key, piece)
		var m int
		m, err = q.out.Write(piece)
		n += m
	}
	return n, err
}

// maskAtOnce is how much of a large payload is copied and masked for one call.
const maskAtOnce = 128 << 10
