package load

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// Opcodes (RFC 6455 §5.2) and the bits beside them.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xa

	finBit  = 0x80
	maskBit = 0x80
)

// A message is what goes out, and what has to come back for it.
type message struct {
	out    []byte // whole frames as on the wire, or raw bytes
	outSeq int    // where in out the sequence number goes; -1: there is none
	key    uint64 // mask of the sequence number

	want    []byte // the payload expected
	wantSeq int
	wantKey uint64
	op      byte
	pongs   int  // pongs expected before the message is complete
	raw     bool // no frames come back, only want

	pool *pool // with compression, the messages in place of this one
}

// maxNumbered is up to which size messages carry a sequence number, so that a
// lost, repeated or exchanged message is noticed. Larger ones are sent from
// where they are, without a copy.
const maxNumbered = 64 << 10

// newMessage makes a binary message of size payload bytes, in one frame masked
// with key, or bare.
func newMessage(size int, key [4]byte, raw bool) *message {
	payload := pattern(size)
	m := &message{out: appendFrame(nil, finBit|opBinary, key, payload), want: payload, op: opBinary, outSeq: -1, wantSeq: -1}
	head := len(m.out) - size
	numbered := size >= 8 && size <= maxNumbered
	if numbered {
		m.outSeq, m.wantSeq = head, 0
		m.key = binary.LittleEndian.Uint64(append(key[:], key[:]...))
	}
	if raw {
		m.unframed()
	}
	return m
}

// newFragmented makes a text message of size bytes in frames fragments, with a
// ping between each two. Fragments end inside of characters, too.
func newFragmented(size, frames int, key [4]byte, raw bool) *message {
	m := &message{want: text(size), op: opText, pongs: frames - 1, outSeq: -1, wantSeq: -1}
	for i := range frames {
		first := byte(opContinuation)
		if i == 0 {
			first = opText
		} else {
			m.out = appendFrame(m.out, finBit|opPing, key, pingPayload(i-1))
		}
		if i == frames-1 {
			first |= finBit
		}
		m.out = appendFrame(m.out, first, key, m.want[i*size/frames:(i+1)*size/frames])
	}
	if raw {
		m.unframed()
	}
	return m
}

// unframed makes of m what a server echoes that knows nothing of frames.
func (m *message) unframed() {
	m.raw, m.want, m.wantSeq, m.wantKey, m.pongs = true, m.out, m.outSeq, m.key, 0
}

// appendTo appends m as the message number seq.
func (m *message) appendTo(b []byte, seq uint64) []byte {
	start := len(b)
	b = append(b, m.out...)
	if m.outSeq >= 0 {
		binary.LittleEndian.PutUint64(b[start+m.outSeq:], seq^m.key)
	}
	return b
}

// matches reports whether p is what has to stand at off in the answer to
// message number seq.
func (m *message) matches(off int, p []byte, seq uint64) bool {
	if off+len(p) > len(m.want) {
		return false
	}
	want := m.want[off : off+len(p)]
	if m.wantSeq < 0 || off >= m.wantSeq+8 || off+len(p) <= m.wantSeq {
		return bytes.Equal(p, want)
	}
	var number [8]byte
	binary.LittleEndian.PutUint64(number[:], seq^m.wantKey)
	from := max(m.wantSeq-off, 0)
	to := min(m.wantSeq+8-off, len(p))
	return bytes.Equal(p[:from], want[:from]) &&
		bytes.Equal(p[from:to], number[from+off-m.wantSeq:to+off-m.wantSeq]) &&
		bytes.Equal(p[to:], want[to:])
}

func pattern(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// text returns size bytes of UTF-8 with characters of every length.
func text(size int) []byte {
	const sample = "Sockeye, nerka, червоний лосось, 紅鮭, 🐟. "
	b := bytes.Repeat([]byte(sample), size/len(sample)+1)[:size]
	for !utf8.Valid(b) {
		b = b[:len(b)-1]
	}
	return append(b, bytes.Repeat([]byte{'.'}, size-len(b))...)
}

func pingPayload(i int) []byte {
	return []byte{'p', 'i', 'n', 'g', byte('a' + i)}
}

// appendFrame appends a masked frame (RFC 6455 §5.2, §5.3).
func appendFrame(b []byte, first byte, key [4]byte, payload []byte) []byte {
	b = append(b, first)
	switch n := len(payload); {
	case n <= 125:
		b = append(b, maskBit|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, maskBit|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, maskBit|127), uint64(n))
	}
	b = append(b, key[:]...)
	at := len(b)
	b = append(b, payload...)
	for i := range payload {
		b[at+i] ^= key[i%4]
	}
	return b
}

// pingSize is that of the pings of all servers: with eight bytes of payload.
const pingSize = 2 + 8

// answerPing returns the pong for a ping.
func answerPing(ping []byte, mask uint64) (pong [4 + pingSize]byte, err error) {
	if ping[0] != finBit|opPing || ping[1] != pingSize-2 {
		return pong, fmt.Errorf("% x is no ping", ping)
	}
	pong[0], pong[1] = finBit|opPong, maskBit|(pingSize-2)
	binary.LittleEndian.PutUint32(pong[2:], uint32(mask))
	binary.LittleEndian.PutUint64(pong[6:], binary.LittleEndian.Uint64(ping[2:])^mask)
	return pong, nil
}
