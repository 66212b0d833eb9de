package websocket

import (
	"encoding/binary"
	"math"
)

// An opcode says what a frame is (RFC 6455 §5.2).
type opcode uint8

const (
	opContinuation opcode = 0x0
	opText         opcode = 0x1
	opBinary       opcode = 0x2
	opClose        opcode = 0x8
	opPing         opcode = 0x9
	opPong         opcode = 0xa
)

// control reports whether frames with this opcode are control frames.
func (op opcode) control() bool { return op&0x8 != 0 }

const (
	bitFin  = 0x80
	bitRSV1 = 0x40
	bitsRSV = 0x70
	bitMask = 0x80

	// maxControl is the longest payload of a control frame (§5.5).
	maxControl = 125
	// maxHeader is the longest header: two bytes, 64 bits of length, key.
	maxHeader = 2 + 8 + 4
)

// A header is what precedes the payload of a frame (RFC 6455 §5.2).
type header struct {
	fin    bool
	rsv1   bool // the message is compressed (RFC 7692 §6)
	op     opcode
	masked bool
	key    maskKey
	length int64
}

// parseHeader reads a frame header from the start of b; masked says which side
// it has to be from: clients mask, servers do not (§5.1); deflate, that
// messages may be compressed. It judges every byte
// as soon as it is there: the error does not wait for the rest (§7.1.7). n is
// the header's size; it is 0 while more bytes are needed, and then only fin and
// op are valid, if b is not empty.
func parseHeader(b []byte, masked, deflate bool) (h header, n int, _ *CloseError) {
	if len(b) < 1 {
		return h, 0, nil
	}
	h.fin = b[0]&bitFin != 0
	h.op = opcode(b[0] & 0x0f)
	h.rsv1 = b[0]&bitRSV1 != 0
	switch {
	case b[0]&bitsRSV != 0 && (!deflate || b[0]&bitsRSV != bitRSV1 || h.op != opText && h.op != opBinary):
		// §5.2. That a message is compressed says its first frame (RFC 7692 §6.1).
		return h, 0, protocolError("reserved bit set")
	case h.op > opBinary && h.op < opClose || h.op > opPong:
		return h, 0, protocolError("reserved opcode")
	case h.op.control() && !h.fin: // §5.5
		return h, 0, protocolError("fragmented control frame")
	}
	if len(b) < 2 {
		return h, 0, nil
	}
	length := b[1] &^ bitMask
	switch {
	case masked && b[1]&bitMask == 0: // §5.1
		return h, 0, protocolError("unmasked frame")
	case !masked && b[1]&bitMask != 0:
		return h, 0, protocolError("masked frame")
	case h.op.control() && length > maxControl: // §5.5
		return h, 0, protocolError("control frame longer than 125 bytes")
	}
	n = 2
	h.length = int64(length)
	// "The minimal number of bytes MUST be used to encode the length" and
	// "the most significant bit MUST be 0" (§5.2).
	switch length {
	case 126:
		if len(b) < 4 {
			return h, 0, nil
		}
		n = 4
		h.length = int64(binary.BigEndian.Uint16(b[2:]))
		if h.length < 126 {
			return h, 0, protocolError("length not minimally encoded")
		}
	case 127:
		if len(b) < 10 {
			return h, 0, nil
		}
		n = 10
		v := binary.BigEndian.Uint64(b[2:])
		if v > math.MaxInt64 {
			return h, 0, protocolError("length of 64 bits")
		}
		if v <= math.MaxUint16 {
			return h, 0, protocolError("length not minimally encoded")
		}
		h.length = int64(v)
	}
	if !masked {
		return h, n, nil
	}
	if len(b) < n+4 {
		return h, 0, nil
	}
	h.masked = true
	h.key = maskKey(binary.LittleEndian.Uint32(b[n:]))
	return h, n + 4, nil
}

// completeFrame reports whether b begins with a whole frame, as far as its
// lengths tell.
func completeFrame(b []byte, masked bool) bool {
	short := 2
	if masked {
		short += 4
	}
	if len(b) < short {
		return false
	}
	if length := int(b[1] &^ bitMask); length < 126 {
		return len(b) >= short+length
	}
	h, n, _ := parseHeader(b, masked, true)
	return n > 0 && int64(len(b)-n) >= h.length
}

// ownHeader reads a header that this side has made.
func ownHeader(b []byte) (h header, n int) {
	marked := b[0] & bitRSV1
	b0 := b[0] &^ bitRSV1 // continuations may be marked here, too
	masked := b[1]&bitMask != 0
	var head [maxHeader]byte
	copy(head[:], b)
	head[0] = b0
	h, n, _ = parseHeader(head[:], masked, true)
	h.rsv1 = marked != 0
	return h, n
}

// appendHeader appends h as it goes on the wire.
func appendHeader(b []byte, h header) []byte {
	b0 := byte(h.op)
	if h.fin {
		b0 |= bitFin
	}
	if h.rsv1 {
		b0 |= bitRSV1
	}
	var b1 byte
	if h.masked {
		b1 = bitMask
	}
	switch {
	case h.length <= maxControl:
		b = append(b, b0, b1|byte(h.length))
	case h.length <= math.MaxUint16:
		b = append(b, b0, b1|126)
		b = binary.BigEndian.AppendUint16(b, uint16(h.length))
	default:
		b = append(b, b0, b1|127)
		b = binary.BigEndian.AppendUint64(b, uint64(h.length))
	}
	if h.masked {
		b = binary.LittleEndian.AppendUint32(b, uint32(h.key))
	}
	return b
}

// protocolError is the verdict on a violation of RFC 6455 (§7.4.1).
func protocolError(reason string) *CloseError {
	return &CloseError{Code: StatusProtocolError, Reason: reason}
}
