package conformance

import (
	"encoding/binary"
	"unicode/utf8"
)

// A Model is a second reading of the frame rules: it says what an echo server
// does with a byte stream, from the contract and with nothing in common with
// the implementation. It looks at all the input each time, keeps no state and
// has no speed.
//
// Every rule in it bears the id of the contract. Without switches one off: a
// server that follows such a model is wrong in one respect, and a suite that
// does not notice is worth nothing.
type Model struct {
	ReadLimit    uint64 // 0: none
	MaxFragments int    // 0: none
	Without      string
}

// ModelRules are the ids that Without knows.
var ModelRules = []string{
	"F-02", "F-03", "F-04", "F-05", "F-06", "F-07", "M-01", "M-02", "C-01", "C-02", "C-03", "C-05",
	"G-01", "G-03", "G-04", "G-07", "U-01", "U-04", "U-06", "U-07", "U-10", "K-01", "K-02", "K-04", "K-05", "K-06", "K-09", "X-06", "X-13", "X-15", "L-16",
}

// A Verdict is what a [Model] says about an input.
type Verdict struct {
	Out      []byte // everything that the server sends
	Messages []Message
	End      StepKind // Fail or Clean; Open as long as neither
	Code     int      // what the application sees at the end
	Reason   string   // of the peer's Close
	Taken    int      // bytes of input up to the last border of a frame
	InHeader bool     // the input ends inside a header that is legal so far
}

// modelMessage is the message in progress.
type modelMessage struct {
	open bool
	text bool
	data []byte
	size int // in frames
}

// Judge says what the server has done after reading in.
func (m Model) Judge(in []byte) (v Verdict) {
	v.End = Open
	var msg modelMessage
	for {
		rest := in[v.Taken:]
		n := m.frame(&v, &msg, rest)
		if v.End != Open || n == 0 {
			_, whole := headerDone(rest)
			v.InHeader = v.End == Open && len(rest) > 0 && !whole
			return v
		}
		v.Taken += n
	}
}

func (m Model) on(rule string) bool { return m.Without != rule }

func (v *Verdict) fail(code int) int {
	v.End, v.Code = Fail, code
	v.Out = append(v.Out, 0x88, 2, byte(code>>8), byte(code))
	return 0
}

// frame judges the frame at the front of b. It returns its length, 0 if it is
// not whole or has ended the connection.
func (m Model) frame(v *Verdict, msg *modelMessage, b []byte) int {
	if len(b) < 2 {
		return 0
	}
	fin, rsv, op := b[0]&0x80 != 0, b[0]&0x70, b[0]&15
	masked, short := b[1]&0x80 != 0, uint64(b[1]&127)
	isControl := op >= 8
	if !m.on("F-02") { // wait for the whole frame before judging it
		if size, ok := headerDone(b); ok && uint64(len(b)) < size+2 {
			return 0
		}
	}

	bad := false
	bad = bad || m.on("F-03") && rsv != 0
	bad = bad || m.on("F-04") && (op > 2 && op < 8 || op > 10)
	bad = bad || m.on("M-01") && !masked
	bad = bad || m.on("C-03") && isControl && !fin
	bad = bad || m.on("C-02") && isControl && short > 125
	bad = bad || m.on("G-03") && op == 0 && !msg.open
	bad = bad || m.on("G-04") && (op == 1 || op == 2) && msg.open
	if bad {
		return v.fail(1002)
	}

	head, size := 2, short
	switch short {
	case 126:
		if head = 4; len(b) < head {
			return 0
		}
		size = uint64(binary.BigEndian.Uint16(b[2:]))
		if m.on("F-05") && size < 126 {
			return v.fail(1002)
		}
	case 127:
		if head = 10; len(b) < head {
			return 0
		}
		size = binary.BigEndian.Uint64(b[2:])
		if m.on("F-06") && size < 1<<16 || m.on("F-07") && size>>63 == 1 {
			return v.fail(1002)
		}
	}
	if !isControl || !m.on("X-15") {
		sum := uint64(len(msg.data))
		if !m.on("X-13") {
			sum = 0
		}
		if m.on("X-06") && m.ReadLimit > 0 && (size > m.ReadLimit || sum > m.ReadLimit-size) {
			return v.fail(1009)
		}
	}
	if !isControl && m.on("L-16") && m.MaxFragments > 0 && msg.size >= m.MaxFragments {
		return v.fail(1009)
	}
	var key [4]byte
	if masked {
		if len(b) < head+4 {
			return 0
		}
		copy(key[:], b[head:])
		head += 4
	}
	available := min(uint64(len(b)-head), size)
	payload := make([]byte, available)
	for i := range payload {
		payload[i] = b[head+i]
		if m.on("M-02") || i < 4 {
			payload[i] ^= key[i%4]
		}
	}
	whole := available == size
	n := head + int(available)
	if isControl {
		if !whole {
			return 0
		}
		return m.control(v, op, payload, n)
	}
	return m.data(v, msg, op, fin, whole, payload, n)
}

func (m Model) control(v *Verdict, op byte, payload []byte, n int) int {
	switch op {
	case opPing:
		if m.on("C-05") || len(v.Out) == 0 || v.Out[0] != 0x8a {
			v.Out = appendHead(v.Out, 0x8a, 0, len(payload))
			if m.on("C-01") {
				v.Out = append(v.Out, payload...)
			} else {
				v.Out = append(v.Out, make([]byte, len(payload))...)
			}
		}
		return n
	case opPong:
		return n
	case opClose:
	default:
		return n // reserved, in a model without F-04
	}
	if len(payload) == 0 {
		v.End, v.Code = Clean, 1005
		v.Out = append(v.Out, 0x88, 0)
		if !m.on("K-02") {
			v.Out = append(v.Out[:len(v.Out)-1], 2, 0x03, 0xe8)
		}
		return 0
	}
	if len(payload) == 1 {
		if m.on("K-05") {
			return v.fail(1002)
		}
		return n
	}
	code := int(binary.BigEndian.Uint16(payload))
	switch {
	case m.on("K-04") && (code < 1000 || code > 1003 && code < 1007 || code > 1014 && code < 3000 || code > 4999):
		return v.fail(1002)
	case m.on("K-06") && !utf8.Valid(payload[2:]):
		return v.fail(1007)
	}
	if !m.on("K-09") { // go on after the Close
		return n
	}
	v.End, v.Code, v.Reason = Clean, code, string(payload[2:])
	v.Out = append(v.Out, 0x88, 2, payload[0], payload[1])
	if !m.on("K-01") {
		v.Out = append(v.Out[:len(v.Out)-3], byte(len(payload)))
		v.Out = append(v.Out, payload...)
	}
	return 0
}

func (m Model) data(v *Verdict, msg *modelMessage, op byte, fin, whole bool, payload []byte, n int) int {
	if op != opContinuation {
		msg.open, msg.text = true, op == opText
	}
	data := append(msg.data, payload...)
	last := fin && whole
	if m.on("U-01") && (msg.text || !m.on("U-10")) {
		invalid := !utf8.Valid(data)
		switch {
		case last && invalid && (m.on("U-04") || beyondRepair(data)),
			!last && whole && m.on("U-06") && beyondRepair(data),
			!whole && m.on("U-06") && m.on("U-07") && beyondRepair(data):
			return v.fail(1007)
		}
	}
	if !whole {
		return 0
	}
	msg.data = data
	msg.size++
	if last || !m.on("G-01") {
		msg.open = !fin
		v.Messages = append(v.Messages, Message{msg.text, string(data)})
		b0 := byte(0x80 | opBinary)
		if msg.text {
			b0 = 0x80 | opText
		}
		v.Out = append(appendHead(v.Out, b0, 0, len(data)), data...)
		msg.size = 0
		if m.on("G-07") {
			msg.data = nil
		}
	}
	return n
}

// beyondRepair says whether no continuation can make b valid UTF-8.
func beyondRepair(b []byte) bool {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			return utf8.FullRune(b)
		}
		b = b[n:]
	}
	return false
}
