package conformance

import (
	"fmt"
	"strings"
)

// Mirrored is the row for the other side: what a client is sent by a server. The
// frames of each C> lose their mask, and those that have none get one, so that
// each breaks the same rule as before. What the implementation has to send stays
// as it is written, without a mask; a [Peer] that is the server unmasks what
// comes. Where both have sent their Close, it is the server that ends the
// transport.
func (r Row) Mirrored() Row {
	var trace strings.Builder
	var m mirror
	for _, step := range r.Steps() {
		switch step.Kind {
		case Send:
			trace.WriteString("C> " + inNotation(m.turn(step.Bytes)))
		case Want:
			trace.WriteString("S> " + inNotation(step.Bytes))
		case Nothing:
			trace.WriteString("nothing ")
		case Fin:
			trace.WriteString("FIN ")
		case Open:
			trace.WriteString("OPEN")
		case Fail:
			fmt.Fprintf(&trace, "FAIL(%d)", step.Code)
		case Clean:
			fmt.Fprintf(&trace, "CLEAN(%x)", step.Bytes)
		case Drop:
			trace.WriteString("DROP")
		case End:
			trace.WriteString("EOF")
		}
	}
	r.Trace = trace.String()
	return r
}

// ForServers says that a row is about what servers alone do, or, of a handler,
// what ends its connection.
func (r Row) ForServers() bool {
	switch r.Handler {
	case Echo, Closes:
		return r.ID == "B-08"
	}
	return true
}

// inNotation writes bytes for [Bytes] to read.
func inNotation(b []byte) string {
	const long = 32 // what is worth the word
	var s strings.Builder
	for len(b) > 0 {
		n := 1
		for n < len(b) && b[n] == b[0] {
			n++
		}
		if n >= long {
			fmt.Fprintf(&s, " rep(%02x,%d) ", b[0], n)
		} else {
			fmt.Fprintf(&s, "%x", b[:n])
		}
		b = b[n:]
	}
	return s.String() + " "
}

// A mirror turns a stream of frames of one side into that of the other, byte by
// byte, whatever they are.
type mirror struct {
	head []byte
	left uint64 // of the payload
	at   int    // in it
	key  [4]byte
	owes bool // a key is to follow, if anything does
}

func (m *mirror) turn(b []byte) (turned []byte) {
	for _, x := range b {
		if m.owes {
			m.owes = false
			turned = append(turned, 0, 0, 0, 0)
		}
		if m.left > 0 {
			turned = append(turned, x^m.key[m.at%4])
			m.left--
			m.at++
			continue
		}
		m.head = append(m.head, x)
		size, whole := headerDone(m.head)
		masked := len(m.head) > 1 && m.head[1]&0x80 != 0
		keyAt := 2
		if len(m.head) > 1 {
			keyAt += map[byte]int{126: 2, 127: 8}[m.head[1]&0x7f]
		}
		switch i := len(m.head) - 1; {
		case i == 1:
			turned = append(turned, x^0x80)
		case i < keyAt:
			turned = append(turned, x)
		}
		if whole {
			m.left, m.at, m.key = size, 0, [4]byte{}
			if masked {
				copy(m.key[:], m.head[keyAt:])
			}
			m.owes = !masked
			m.head = m.head[:0]
		}
	}
	return turned
}

// hangUp is what a server does once both have sent their Close: it ends the
// transport, for which the client has waited. A client does not.
func (p *Peer) hangUp() {
	p.t.Helper()
	if p.Server && !p.ended {
		p.WantNothing()
		p.Fin()
	}
}
