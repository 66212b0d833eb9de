package sendq

import "github.com/sockeye-ws/websocket/internal/bufpool"

// Frames that are encoded when their time has come, as only then it is certain in
// which order they are sent, and that they are.

// Marked in the first byte of a frame says that it is encoded when its time has
// come, by the Owner, which has to be an Encoder. Such a frame is at most
// MaxMarked long, unless it is posted.
const (
	Marked    = 0x40
	MaxMarked = small
)

// An Encoder makes what goes on the wire of what was written, in the order of the
// wire. One call is made at a time, without locks. What is dropped or cancelled
// before its time has come is never seen by it.
type Encoder interface {
	// Encode appends to dst what is to be sent for the frames in b, which are
	// whole, and marked or not.
	Encode(dst, b []byte) []byte
	// Entered says that a shared frame is sent which stands for p.
	Entered(p []byte)
	// Undo says that what the last call has encoded is not sent.
	Undo()
}

// A Shared is a frame for many connections, which was encoded already and stands
// for Plain.
type Shared struct{ Frame, Plain []byte }

// takeParts is take for what has yet to be encoded: the items of one call are
// appended to parts, and what they count is returned.
func (l *backlog) takeParts(parts []item) (item, []item) {
	var all item
	for size := 0; !l.empty(); {
		it := l.items[l.first]
		if len(parts) > 0 && size+len(it.b) > chunk {
			break
		}
		l.pop()
		parts = append(parts, it)
		all.add(it.count)
		size += len(it.b)
	}
	return all, parts
}

// encode puts together what is sent for parts.
func encode(it item, parts []item, enc Encoder) item {
	if len(parts) == 1 && parts[0].sent != nil {
		it.b = parts[0].b // as it is, however large
		enc.Entered(parts[0].sent.Plain)
		return it
	}
	size := encodeSlack
	for _, p := range parts {
		size += len(p.b)
	}
	it.buf = bufpool.Get(size)
	it.b = it.buf.B[:0]
	for _, p := range parts {
		switch {
		case p.sent != nil:
			it.b = append(it.b, p.b...)
			enc.Entered(p.sent.Plain)
		case p.marked:
			it.b = enc.Encode(it.b, p.b)
		default:
			it.b = append(it.b, p.b...)
		}
		bufpool.Put(p.buf)
	}
	return it
}

// encodeSlack is how much more room the frames of a call have than they took
// before they were encoded: a piece of a message may grow by a few bytes.
const encodeSlack = 256

// encoded returns what take has taken, as it is sent, without mu. The caller is
// busy, and so the flow stays.
func (q *Queue) encoded(it item) item {
	f := q.flow
	if len(f.parts) == 0 {
		return it
	}
	it = encode(it, f.parts, q.owner.(Encoder))
	clear(f.parts)
	f.parts = f.parts[:0]
	if cap(f.parts) > 64 {
		f.parts = nil
	}
	return it
}
