package inbuf

import "github.com/sockeye-ws/websocket/internal/bufpool"

// A Message is what has come of a message that is wanted whole. It outlives
// the call that wants it. Its memory grows with what has come: it is at most
// four times that, but for a few hundred bytes, whatever was announced.
type Message struct {
	buf   []byte
	lent  *bufpool.Buf // where buf lies, if that is borrowed
	atDst bool         // buf lies in the caller's dst
}

// Direct is from how many bytes on it pays to read past the Input. Most is as
// much as should be read at once: what has come is looked at again at once, and
// should still be in the processor's cache then.
const (
	Direct = 4 << 10
	Most   = 256 << 10
)

// Len returns how many bytes have come and not been read.
func (m *Message) Len() int { return len(m.buf) }

// At lets an empty message of the given size grow in place behind dst, if
// that has the room.
func (m *Message) At(dst []byte, size int64) {
	if len(m.buf) == 0 && size <= int64(cap(dst)-len(dst)) {
		m.buf, m.atDst = dst[len(dst):], true
	}
}

// Append adds p. left is how many bytes are to come after it, if that is
// known, else negative; own says that Take is to return memory of its own.
func (m *Message) Append(p []byte, left int64, own bool) {
	m.grow(len(p), left, own)
	m.buf = append(m.buf, p...)
}

// Room returns where up to left more bytes can be read to directly, or nil if
// it does not pay. last says that left is all there is to come.
func (m *Message) Room(left int64, last, own bool) []byte {
	if len(m.buf) == cap(m.buf) && len(m.buf) >= Direct {
		known := int64(-1)
		if last {
			known = left - 1
		}
		m.grow(1, known, own)
	}
	room := min(int64(cap(m.buf)-len(m.buf)), left, Most)
	if room < Direct {
		return nil
	}
	return m.buf[len(m.buf) : len(m.buf)+int(room)]
}

// Extend adds n bytes that were put into Room.
func (m *Message) Extend(n int) { m.buf = m.buf[:len(m.buf)+n] }

// grow makes room for n bytes more. When those that are left are few compared
// with what has come, the room made is the message's own for good.
func (m *Message) grow(n int, left int64, own bool) {
	need := len(m.buf) + n
	if need <= cap(m.buf) {
		return
	}
	if own && left >= 0 && left <= 3*int64(need) {
		b := make([]byte, len(m.buf), need+int(left))
		copy(b, m.buf)
		m.Release()
		m.buf = b
		return
	}
	if need > bufpool.Max {
		need = max(need, 2*cap(m.buf)) // above it the pool lends no more than it is asked for
	}
	lent := bufpool.Get(need)
	b := lent.B[:copy(lent.B, m.buf)]
	m.Release()
	m.buf, m.lent = b, lent
}

// Keep moves what has come out of the caller's dst.
func (m *Message) Keep() {
	if !m.atDst {
		return
	}
	b := m.buf
	*m = Message{}
	if len(b) > 0 {
		m.Append(b, -1, false)
	}
}

// Read takes bytes from the front.
func (m *Message) Read(p []byte) int {
	n := copy(p, m.buf)
	if m.buf = m.buf[n:]; len(m.buf) == 0 {
		m.Release()
	}
	return n
}

// Take appends the message to dst, unless it is there, and lets go of it.
func (m *Message) Take(dst []byte) []byte {
	switch {
	case m.atDst:
		dst = dst[:len(dst)+len(m.buf)]
	case m.lent == nil && dst == nil:
		dst = m.buf
	default:
		dst = append(dst, m.buf...)
	}
	m.Release()
	return dst
}

// Bytes returns what has come, until Release.
func (m *Message) Bytes() []byte { return m.buf }

// Release lets go of what has come.
func (m *Message) Release() {
	bufpool.Put(m.lent)
	*m = Message{}
}
