// Package inbuf has the two places that input lies in: Input, between the
// transport and the parser, and Message, what has come of a message that is
// wanted whole. Both borrow their memory, and hold it only while bytes are in
// it.
package inbuf

import (
	"github.com/sockeye-ws/websocket/internal/bufpool"
	"github.com/sockeye-ws/websocket/internal/transport"
)

// An Input is what has been read and not yet consumed. The zero value is
// empty.
type Input struct {
	buf    *bufpool.Buf // nil while empty
	r, w   int          // the unread bytes in it
	next   *bufpool.Buf // what the read in progress goes to
	filled bool         // the last read took all the room there was
	pinned bool         // somebody has a slice of buf
	last   int          // how much the last read brought
}

const (
	roomWaiting = 8 << 10  // for a read that has to hold its room while it waits
	roomReady   = 32 << 10 // for one that knows that bytes are there
)

// Unread returns the bytes, which are valid until the next call of another
// method than Consume.
func (in *Input) Unread() []byte {
	if in.buf == nil {
		return nil
	}
	return in.buf.B[in.r:in.w]
}

// Consume takes n of the unread bytes.
func (in *Input) Consume(n int) { in.r += n }

// Skip consumes up to *n unread bytes and counts them down.
func (in *Input) Skip(n *int64) {
	m := min(*n, int64(in.w-in.r))
	in.r += int(m)
	*n -= m
}

// Put starts an empty input with bytes that were read before.
func (in *Input) Put(early []byte) {
	if len(early) > 0 {
		in.buf = bufpool.Get(len(early))
		in.w = copy(in.buf.B, early)
	}
}

// Fill waits for input and reads once from t, behind what is unread.
func (in *Input) Fill(t transport.Conn) error {
	in.Rest()
	n, err := t.Fill(in, false)
	in.Took(n)
	return err
}

// Took makes what a read has filled, n bytes, the input. It is for who has
// handed on Open and Drop to a transport.
func (in *Input) Took(n int) {
	in.last = n
	if n == 0 {
		return
	}
	unread := in.w - in.r
	in.filled = n == len(in.next.B)-unread
	next := in.next
	in.Release()
	in.buf, in.w, in.next = next, unread+n, nil
}

// Last returns how many bytes the last read has brought.
func (in *Input) Last() int { return in.last }

// TryFill is like Fill, and does not wait.
func (in *Input) TryFill(t transport.Conn) error {
	in.Rest()
	n, err := t.TryFill(in)
	in.Took(n)
	return err
}

// Pin keeps what has been consumed where it is, for who uses it still, until
// Unpin. Others may go on meanwhile.
func (in *Input) Pin() { in.pinned = in.buf != nil }

// Unpin ends that.
func (in *Input) Unpin() { in.pinned = false }

// Open implements transport.Room. What is unread comes along.
func (in *Input) Open(held bool) []byte {
	size := roomReady
	if held && !in.filled {
		size = roomWaiting
	}
	in.next = bufpool.Get(size)
	return in.next.B[copy(in.next.B, in.Unread()):]
}

// Drop implements transport.Room.
func (in *Input) Drop() {
	bufpool.Put(in.next)
	in.next = nil
}

// Rest makes the input hold no more than it must: nothing when all is read,
// a small buffer for the start of a header or a control frame.
func (in *Input) Rest() {
	b := in.Unread()
	switch {
	case len(b) == 0:
		in.Release()
	case len(b) <= bufpool.Min && len(in.buf.B) > bufpool.Min:
		small := bufpool.Get(len(b))
		n := copy(small.B, b)
		in.Release()
		in.buf, in.w = small, n
	}
}

// Release discards what is unread.
func (in *Input) Release() {
	if !in.pinned { // else the garbage collector has it
		bufpool.Put(in.buf)
	}
	in.buf, in.r, in.w, in.pinned = nil, 0, 0, false
}

// Empty reports whether nothing is unread and so no memory held.
func (in *Input) Empty() bool { return in.r == in.w }
