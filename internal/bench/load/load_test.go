package load

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"unicode/utf8"
)

var testKey = [4]byte{0x37, 0xfa, 0x21, 0x3d}

// answer is what a correct server sends for the messages from to until.
func answer(m *message, from, until uint64) []byte {
	var b []byte
	for seq := from; seq < until; seq++ {
		if m.raw {
			b = m.appendTo(b, seq)
			continue
		}
		for i := range m.pongs {
			b = appendBare(b, finBit|opPong, pingPayload(i))
		}
		numbered := *m
		numbered.out, numbered.outSeq, numbered.key = m.want, m.wantSeq, m.wantKey
		b = appendBare(b, finBit|m.op, numbered.appendTo(nil, seq))
	}
	return b
}

// appendBare appends a frame without a mask, as servers send it.
func appendBare(b []byte, first byte, payload []byte) []byte {
	f := appendFrame(nil, first, [4]byte{}, payload)
	head := len(f) - len(payload)
	f[1] &^= maskBit
	b = append(b, f[:head-4]...)
	return append(b, payload...)
}

// RFC 6455 §5.7.
func TestFrame(t *testing.T) {
	got := appendFrame(nil, finBit|opText, testKey, []byte("Hello"))
	want := []byte{0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58}
	if !bytes.Equal(got, want) {
		t.Errorf("% x, want % x", got, want)
	}
}

func TestText(t *testing.T) {
	for size := range 200 {
		if b := text(size); len(b) != size || !utf8.Valid(b) {
			t.Errorf("text(%d) is %q", size, b)
		}
	}
}

var messages = map[string]*message{
	"empty":      newMessage(0, testKey, false),
	"unnumbered": newMessage(7, testKey, false),
	"small":      newMessage(16, testKey, false),
	"medium":     newMessage(126, testKey, false),
	"raw":        newMessage(126, testKey, true),
	"fragmented": newFragmented(300, 5, testKey, false),
	"raw pings":  newFragmented(300, 5, testKey, true),
}

// Answers are understood however they are cut.
func TestCuts(t *testing.T) {
	for name, m := range messages {
		whole := answer(m, 0, 3)
		for cut := range len(whole) {
			var d decoder
			a, err := d.feed(whole[:cut], m)
			if err != nil {
				t.Fatalf("%s, first %d bytes: %v", name, cut, err)
			}
			b, err := d.feed(whole[cut:], m)
			if err != nil || a+b != 3 {
				t.Fatalf("%s cut at %d: %d and %d messages, %v", name, cut, a, b, err)
			}
		}
		var d decoder
		done := 0
		for i := range whole {
			n, err := d.feed(whole[i:i+1], m)
			if err != nil {
				t.Fatalf("%s, byte %d: %v", name, i, err)
			}
			done += n
		}
		if done != 3 {
			t.Errorf("%s byte by byte: %d messages", name, done)
		}
	}
}

func TestLarge(t *testing.T) {
	m := newMessage(1<<20, testKey, false)
	if m.outSeq >= 0 {
		t.Error("a large message is numbered")
	}
	var d decoder
	if n, err := d.feed(answer(m, 0, 2), m); n != 2 || err != nil {
		t.Errorf("%d messages, %v", n, err)
	}
}

// A server may send a message in fragments.
func TestFragmentedAnswer(t *testing.T) {
	m := messages["medium"]
	whole := answer(m, 0, 1)[4:]
	b := appendBare(nil, opBinary, whole[:3])
	b = appendBare(b, opContinuation, nil)
	b = appendBare(b, opContinuation|finBit, whole[3:])
	var d decoder
	if n, err := d.feed(b, m); n != 1 || err != nil {
		t.Errorf("%d messages, %v", n, err)
	}
}

// A server may answer only the latest of several pings (RFC 6455 §5.5.3).
func TestCoalescedPongs(t *testing.T) {
	m := messages["fragmented"]
	var d decoder
	if n, err := d.feed(answer(m, 0, 1)[(m.pongs-1)*7:], m); n != 1 || err != nil {
		t.Errorf("%d messages, %v", n, err)
	}
}

func TestWrongAnswers(t *testing.T) {
	small, fragmented := messages["small"], messages["fragmented"]
	right := answer(small, 0, 1)
	changed := bytes.Clone(right)
	changed[len(changed)-1] ^= 1
	masked := bytes.Clone(right)
	masked[1] |= maskBit
	split := answer(fragmented, 0, 1)
	tests := []struct {
		name string
		m    *message
		b    []byte
		want string
	}{
		{"another byte", small, changed, "the payload differs"},
		{"another number", small, answer(small, 1, 2), "the payload differs"},
		{"twice the same", small, append(bytes.Clone(right), right...), "message 1, at byte 0: the payload differs"},
		{"another type", small, append([]byte{0x81}, right[1:]...), "the type has changed"},
		{"too short", small, appendBare(nil, finBit|opBinary, right[2:10]), "ends after 8 bytes"},
		{"too long", small, appendBare(nil, finBit|opBinary, append(right[2:], 0)), "the payload differs"},
		{"masked", small, masked, "masked"},
		{"reserved bit", small, append([]byte{0xc2}, right[1:]...), "first byte 0xc2"},
		{"stray continuation", small, []byte{0x80, 0x00}, "first byte 0x80"},
		{"fragmented ping", small, []byte{0x09, 0x00}, "first byte 0x9"},
		{"ping", small, []byte{0x89, 0x00}, "a ping"},
		{"unasked pong", small, []byte{0x8a, 0x00}, "a pong"},
		{"close", small, []byte{0x88, 0x00}, "closed the connection"},
		{"last pong missing", fragmented, append(bytes.Clone(split[:21]), bytes.Repeat(split[28:], 2)...), "first byte 0x81"},
		{"pongs exchanged", fragmented, append(bytes.Clone(split[7:14]), split[:7]...), "a pong"},
		{"raw, another byte", messages["raw"], bytes.Repeat([]byte{1}, 10), "the bytes differ"},
	}
	for _, tt := range tests {
		var d decoder
		_, err := d.feed(tt.b, tt.m)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestHandshakeResponse(t *testing.T) {
	const good = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
	if n, _, err := checkResponse([]byte(good+"\x81\x00"), NoDeflate); n != len(good) || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if n, _, err := checkResponse([]byte(good[:len(good)-1]), NoDeflate); n != 0 || err != nil {
		t.Errorf("an incomplete response: %d, %v", n, err)
	}
	for _, bad := range []string{
		strings.Replace(good, "101", "200", 1),
		strings.Replace(good, "s3p", "s3q", 1),
		strings.Repeat("x", maxResponse+1),
	} {
		if n, _, err := checkResponse([]byte(bad), NoDeflate); n != 0 || err == nil {
			t.Errorf("%.40q is accepted", bad)
		}
	}
}

func TestAnswerPing(t *testing.T) {
	pong, err := answerPing([]byte("\x89\x08abcdefgh"), binary.LittleEndian.Uint64(append(testKey[:], testKey[:]...)))
	want := appendFrame(nil, finBit|opPong, testKey, []byte("abcdefgh"))
	if err != nil || !bytes.Equal(pong[:], want) {
		t.Errorf("% x, %v, want % x", pong, err, want)
	}
	for _, bad := range []string{"\x8a\x08abcdefgh", "\x89\x07abcdefgh"} {
		if _, err := answerPing([]byte(bad), 0); err == nil {
			t.Errorf("%q is answered", bad)
		}
	}
}
