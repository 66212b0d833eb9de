package sendq

import (
	"context"
	"encoding/binary"

	"github.com/sockeye-ws/websocket/internal/bufpool"
)

// Frames that their writer puts on the wire itself.

// writeAlone writes one frame from the caller's goroutine, which is busy, and
// ends that. The error is as for Write.
func (q *Queue) writeAlone(ctx context.Context, head, payload []byte, k kind) error {
	n, all, err := q.writeNow(ctx, head, payload, k)
	q.mu.Lock()
	q.sent.Bytes += uint64(n)
	if all && k != part {
		q.sent.Messages++
	}
	if err == nil {
		q.done()
		q.unlock()
		return nil
	}
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

// writeNow writes one frame from the caller's goroutine, which is busy.
func (q *Queue) writeNow(ctx context.Context, head, payload []byte, k kind) (n int, all bool, err error) {
	// The head goes out with as much of the payload as is worth copying.
	buf := bufpool.Get(len(head) + min(len(payload), small))
	first := append(buf.B[:0], head...)
	taken := min(len(payload), cap(first)-len(first))
	first = append(first, payload[:taken]...)
	key := q.mask(head, first[len(head):])
	marked := head[0]&Marked != 0
	if marked {
		raw := buf
		buf = bufpool.Get(len(first) + encodeSlack)
		first = q.owner.(Encoder).Encode(buf.B[:0], first)
		bufpool.Put(raw)
	}

	n, err = q.out.TryWrite(first)
	if err != nil || n == len(first) && taken == len(payload) {
		bufpool.Put(buf)
		return n, err == nil, err
	}
	if q.out.Tries() && taken == len(payload) {
		// The socket is full. The rest need not keep the caller.
		q.lock()
		defer q.unlock()
		if q.dead {
			bufpool.Put(buf)
			return n, false, nil
		}
		q.keep(item{b: first[n:], buf: buf, count: frameCount(len(first)-n, k)})
		return n, false, nil
	}
	defer bufpool.Put(buf)
	defer func() {
		if marked && n == 0 && err != nil {
			q.owner.(Encoder).Undo()
		}
	}()
	if ctx.Done() != nil {
		q.lock()
		f := q.flow // which stays: the caller is busy
		q.unlock()
		f.watch.Begin(ctx, q.out.Out())
		defer func() {
			f.watch.End(ctx)
			q.out.Out().Resume()
		}()
		if ctx.Err() != nil {
			return n, false, ctx.Err()
		}
	}
	m, err := q.out.Write(first[n:])
	n += m
	if err != nil {
		return n, false, err
	}
	if q.opt.Mask == nil || taken == len(payload) {
		m, err = q.out.Write(payload[taken:])
		return n + m, err == nil, err
	}
	m, err = q.writeMasked(key, payload[taken:])
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
