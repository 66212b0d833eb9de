package conformance

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// The opcodes of RFC 6455 §5.2.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xa
)

// A Frame is one frame that the implementation under test has sent.
type Frame struct {
	Fin     bool
	Op      byte
	Payload []byte
	RSV1    bool // it came compressed
}

func (f Frame) String() string {
	head := f.Append(nil)
	head = head[:len(head)-len(f.Payload)]
	if len(head) > 2 {
		return fmt.Sprintf("%x %x %s", head[:2], head[2:], show(f.Payload))
	}
	if len(f.Payload) == 0 {
		return fmt.Sprintf("%x", head)
	}
	return fmt.Sprintf("%x %s", head, show(f.Payload))
}

// Append appends the frame as a server sends it.
func (f Frame) Append(b []byte) []byte {
	b0 := f.Op
	if f.Fin {
		b0 |= 0x80
	}
	return append(appendHead(b, b0, 0, len(f.Payload)), f.Payload...)
}

// appendHead appends the two first bytes and the extended length of a frame;
// mask is 0x80 or 0.
func appendHead(b []byte, b0, mask byte, n int) []byte {
	switch {
	case n < 126:
		return append(b, b0, mask|byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, b0, mask|126), uint16(n))
	default:
		return binary.BigEndian.AppendUint64(append(b, b0, mask|127), uint64(n))
	}
}

// MaskedFrame encodes a frame from the client.
func MaskedFrame(b0 byte, key [4]byte, payload []byte) []byte {
	b := appendHead(nil, b0, 0x80, len(payload))
	b = append(b, key[:]...)
	for i, x := range payload {
		b = append(b, x^key[i%4])
	}
	return b
}

// parseServerFrame takes one frame from the front of b, which must be what a
// server without extensions may send (F-15, M-06) and encoded in the shortest
// way (F-09). It returns n = 0 while the frame is incomplete.
func parseServerFrame(b []byte) (f Frame, n int, err error) {
	f, _, n, err = parseFrame(b, false, false)
	return f, n, err
}

// parseFrame does so for either side: a client masks. The payload is
// unmasked, in a copy. With deflate, messages may be compressed (D-20).
func parseFrame(b []byte, masked, deflate bool) (f Frame, key [4]byte, n int, err error) {
	if len(b) < 2 {
		return f, key, 0, nil
	}
	f.Fin, f.Op = b[0]&0x80 != 0, b[0]&15
	f.RSV1 = deflate && b[0]&0x70 == 0x40 && (f.Op == opText || f.Op == opBinary)
	switch {
	case b[0]&0x70 != 0 && !f.RSV1:
		return f, key, 0, fmt.Errorf("F-15: reserved bits set in %02x", b[0])
	case f.Op > opBinary && f.Op < opClose || f.Op > opPong:
		return f, key, 0, fmt.Errorf("F-15: opcode %x", f.Op)
	case !masked && b[1]&0x80 != 0:
		return f, key, 0, fmt.Errorf("M-06: a masked frame, %02x%02x", b[0], b[1])
	case masked && b[1]&0x80 == 0:
		return f, key, 0, fmt.Errorf("Q-06: an unmasked frame, %02x%02x", b[0], b[1])
	case f.Op >= opClose && (!f.Fin || b[1]&0x7f > 125):
		return f, key, 0, fmt.Errorf("a control frame is fragmented or too long: %02x%02x", b[0], b[1])
	}
	size := uint64(b[1] & 0x7f)
	head, least := 2, uint64(0)
	switch size {
	case 126:
		if head = 4; len(b) < head {
			return f, key, 0, nil
		}
		size, least = uint64(binary.BigEndian.Uint16(b[2:])), 126
	case 127:
		if head = 10; len(b) < head {
			return f, key, 0, nil
		}
		size, least = binary.BigEndian.Uint64(b[2:]), 1<<16
	}
	if size < least {
		return f, key, 0, fmt.Errorf("F-09: length %d is not minimally encoded", size)
	}
	if masked {
		if len(b) < head+4 {
			return f, key, 0, nil
		}
		copy(key[:], b[head:])
		head += 4
	}
	if uint64(len(b)-head) < size {
		return f, key, 0, nil
	}
	f.Payload = b[head : head+int(size)]
	if masked {
		f.Payload = bytes.Clone(f.Payload)
		for i := range f.Payload {
			f.Payload[i] ^= key[i%4]
		}
	}
	return f, key, head + int(size), nil
}

// A cursor follows a byte stream of client frames and knows where it stands:
// inside a header, inside a payload, or between two frames.
type cursor struct {
	head []byte
	left uint64
}

// feed takes b and calls at, if not nil, with each offset in b at which a
// header or a payload ends.
func (c *cursor) feed(b []byte, at func(int)) {
	for i := 0; i < len(b); {
		if c.left > 0 {
			step := min(c.left, uint64(len(b)-i))
			c.left -= step
			i += int(step)
			if c.left == 0 && at != nil {
				at(i)
			}
			continue
		}
		c.head = append(c.head, b[i])
		i++
		if size, ok := headerDone(c.head); ok {
			c.head, c.left = c.head[:0], size
			if at != nil {
				at(i)
			}
		}
	}
}

func (c *cursor) between() bool { return len(c.head) == 0 && c.left == 0 }

// headerDone returns the payload length once head is a whole header.
func headerDone(head []byte) (size uint64, ok bool) {
	if len(head) < 2 {
		return 0, false
	}
	need := 2
	switch head[1] & 127 {
	case 126:
		need += 2
	case 127:
		need += 8
	}
	extended := need
	if head[1]&0x80 != 0 {
		need += 4
	}
	if len(head) < need {
		return 0, false
	}
	switch extended {
	case 4:
		return uint64(binary.BigEndian.Uint16(head[2:])), true
	case 10:
		return binary.BigEndian.Uint64(head[2:]), true
	default:
		return uint64(head[1] & 127), true
	}
}
