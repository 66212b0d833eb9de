package websocket

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"
)

func TestMessageTypeString(t *testing.T) {
	for typ, want := range map[MessageType]string{Text: "text", Binary: "binary", 0: "invalid message type", 8: "invalid message type"} {
		if got := typ.String(); got != want {
			t.Errorf("MessageType(%d).String() = %q, want %q", uint8(typ), got, want)
		}
	}
}

func TestG05TypeIsOpcode(t *testing.T) {
	// A message's type is its first frame's opcode, without a table between.
	if opcode(Text) != opText || opcode(Binary) != opBinary {
		t.Errorf("Text, Binary = %d, %d; the opcodes are %d, %d", Text, Binary, opText, opBinary)
	}
}

// A piece is a data frame as the assembler sees it.
type piece struct {
	op     opcode
	fin    bool
	length int64
}

// assemble passes frames to a, those that are accepted with payloads of no
// content, and returns the types of the messages that are complete.
func assemble(a *assembler, frames []piece) (types []MessageType, v *CloseError) {
	for _, f := range frames {
		if v = a.begin(header{fin: f.fin, op: f.op, masked: true, length: f.length}); v != nil {
			return types, v
		}
		if v = a.accept(nil, f.fin); v != nil {
			return types, v
		}
		if f.fin {
			types = append(types, a.end())
		}
	}
	return types, nil
}

func TestAssembler(t *testing.T) {
	const cont, text, bin = opContinuation, opText, opBinary
	many := func(n int, last bool) []piece {
		frames := []piece{{bin, false, 0}}
		for range n - 2 {
			frames = append(frames, piece{cont, false, 0})
		}
		return append(frames, piece{cont, last, 0})
	}
	tests := []struct {
		id        string
		limit     int64
		maxFrames int
		frames    []piece
		types     []MessageType
		code      StatusCode // for the last of frames
	}{
		{"G-01 text", 16, 16, []piece{{text, false, 3}, {cont, true, 2}}, []MessageType{Text}, 0},
		{"G-01 binary", 16, 16, []piece{{bin, false, 3}, {cont, false, 1}, {cont, true, 2}}, []MessageType{Binary}, 0},
		{"G-02 empty frames", 16, 16, []piece{{text, false, 0}, {cont, false, 0}, {cont, true, 0}}, []MessageType{Text}, 0},
		{"G-03 at the start", 16, 16, []piece{{cont, true, 0}}, nil, StatusProtocolError},
		{"G-03 at the start, not the last", 16, 16, []piece{{cont, false, 0}}, nil, StatusProtocolError},
		{"G-03 after a message", 16, 16, []piece{{text, true, 1}, {cont, true, 1}}, []MessageType{Text}, StatusProtocolError},
		{"G-03 after a fragmented message", 16, 16, []piece{{bin, false, 1}, {cont, true, 1}, {cont, true, 1}}, []MessageType{Binary}, StatusProtocolError},
		{"G-04 same type", 16, 16, []piece{{text, false, 1}, {text, true, 1}}, nil, StatusProtocolError},
		{"G-04 other type", 16, 16, []piece{{text, false, 1}, {bin, true, 0}}, nil, StatusProtocolError},
		{"G-04 other type, not the last", 16, 16, []piece{{bin, false, 1}, {text, false, 0}}, nil, StatusProtocolError},
		{"G-04 after empty frames", 16, 16, []piece{{bin, false, 0}, {cont, false, 0}, {bin, false, 0}}, nil, StatusProtocolError},
		{"G-05, G-07", 16, 16, []piece{{text, false, 1}, {cont, true, 1}, {bin, false, 1}, {cont, true, 1}}, []MessageType{Text, Binary}, 0},
		{"X-12", 16, 16, []piece{{bin, true, 17}}, nil, StatusMessageTooBig},
		{"X-12 at the limit", 16, 16, []piece{{bin, true, 16}}, []MessageType{Binary}, 0},
		{"X-13 at the limit", 16, 16, []piece{{bin, false, 10}, {cont, false, 6}, {cont, true, 0}}, []MessageType{Binary}, 0},
		{"X-13", 16, 16, []piece{{bin, false, 10}, {cont, true, 7}}, nil, StatusMessageTooBig},
		{"X-13 starts anew", 16, 16, []piece{{bin, false, 10}, {cont, true, 6}, {bin, true, 16}}, []MessageType{Binary, Binary}, 0},
		{"X-14", 16, 16, []piece{{bin, false, 1}, {cont, true, math.MaxInt64}}, nil, StatusMessageTooBig},
		{"X-14 at the limit", 16, 16, []piece{{bin, false, 16}, {cont, true, math.MaxInt64}}, nil, StatusMessageTooBig},
		{"X-14 highest limit", math.MaxInt64, 16, []piece{{bin, false, math.MaxInt64}, {cont, true, 1}}, nil, StatusMessageTooBig},
		{"X-14 highest limit, twice", math.MaxInt64, 16, []piece{{bin, false, math.MaxInt64}, {cont, true, math.MaxInt64}}, nil, StatusMessageTooBig},
		{"X-14 highest limit, reached", math.MaxInt64, 16, []piece{{bin, false, 1}, {cont, true, math.MaxInt64 - 1}}, []MessageType{Binary}, 0},
		{"X-16 nothing fits", 0, 16, []piece{{bin, true, 0}, {bin, true, 1}}, []MessageType{Binary}, StatusMessageTooBig},
		{"X-16 none", -1, 16, []piece{{bin, true, math.MaxInt64}}, []MessageType{Binary}, 0},
		{"X-16 none, no sum either", -1, 16, []piece{{bin, false, math.MaxInt64}, {cont, false, math.MaxInt64}, {cont, true, 2}}, []MessageType{Binary}, 0},
		{"F-08 the order counts before the size", 16, 16, []piece{{cont, true, 17}}, nil, StatusProtocolError},
		{"L-16 at the limit", 16, 8, many(8, true), []MessageType{Binary}, 0},
		{"L-16", 16, 8, many(9, true), nil, StatusMessageTooBig},
		{"L-16 endless", 16, 8, many(9, false), nil, StatusMessageTooBig},
		{"L-16 one frame", 16, 1, []piece{{bin, true, 1}, {text, true, 1}, {text, false, 1}, {cont, true, 1}}, []MessageType{Binary, Text}, StatusMessageTooBig},
		{"L-16 starts anew", 16, 8, append(many(8, true), many(8, true)...), []MessageType{Binary, Binary}, 0},
		{"L-16 none", 16, -1, many(1<<16, true), []MessageType{Binary}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.id, func(t *testing.T) {
			a := &assembler{limit: tt.limit, maxFrames: tt.maxFrames}
			types, v := assemble(a, tt.frames)
			wantCode(t, v, tt.code)
			if fmt.Sprint(types) != fmt.Sprint(tt.types) {
				t.Errorf("messages %v, want %v", types, tt.types)
			}
		})
	}
}

func TestAssemblerRefusesWithoutATrace(t *testing.T) {
	// A verdict is given again for the same header, whatever it is: nothing
	// of a refused frame is counted.
	for _, h := range []header{
		{op: opContinuation, fin: true},
		{op: opBinary, length: 17},
		{op: opBinary, length: math.MaxInt64},
	} {
		a := assembler{limit: 16, maxFrames: 1}
		before := a
		first, second := a.begin(h), a.begin(h)
		if first == nil || second == nil || first.Code != second.Code || a != before {
			t.Errorf("%+v: %v, then %v, the state %+v", h, first, second, a)
		}
	}
}

func TestU09StateOfMessages(t *testing.T) {
	a := &assembler{limit: -1, maxFrames: -1}
	say := func(op opcode, fin bool, p string) *CloseError {
		t.Helper()
		if v := a.begin(header{op: op, fin: fin, length: int64(len(p))}); v != nil {
			t.Fatal(v)
		}
		v := a.accept([]byte(p), fin)
		if fin && v == nil {
			a.end()
		}
		return v
	}
	for _, step := range []struct {
		op   opcode
		fin  bool
		p    string
		code StatusCode
	}{
		{opText, false, "\xe2\x82", 0},
		{opContinuation, false, "", 0},
		{opContinuation, true, "\xac", 0}, // U-05
		{opBinary, false, "\xe2\x82", 0},  // U-10
		{opContinuation, true, "\xff", 0},
		{opText, true, "\xc3\xa9", 0},                                 // U-09: clean
		{opText, true, "", 0},                                         // F-13
		{opText, false, "a\xf0\x9f", 0},                               //
		{opContinuation, true, "", StatusInvalidFramePayloadData},     // U-04: open at the end
		{opContinuation, true, "\xff", StatusInvalidFramePayloadData}, // still the same message
	} {
		wantCode(t, say(step.op, step.fin, step.p), step.code)
	}
}

// utf8Forms is the ABNF of RFC 3629 §4, a row for each way to write a
// character, as the ranges of its bytes.
var utf8Forms = [][][2]byte{
	{{0x00, 0x7f}},
	{{0xc2, 0xdf}, {0x80, 0xbf}},
	{{0xe0, 0xe0}, {0xa0, 0xbf}, {0x80, 0xbf}},
	{{0xe1, 0xec}, {0x80, 0xbf}, {0x80, 0xbf}},
	{{0xed, 0xed}, {0x80, 0x9f}, {0x80, 0xbf}},
	{{0xee, 0xef}, {0x80, 0xbf}, {0x80, 0xbf}},
	{{0xf0, 0xf0}, {0x90, 0xbf}, {0x80, 0xbf}, {0x80, 0xbf}},
	{{0xf1, 0xf3}, {0x80, 0xbf}, {0x80, 0xbf}, {0x80, 0xbf}},
	{{0xf4, 0xf4}, {0x80, 0x8f}, {0x80, 0xbf}, {0x80, 0xbf}},
}

// textPrefix says by the grammar alone how many bytes of p are the beginning
// of some valid text, and whether they are whole characters.
func textPrefix(p []byte) (n int, whole bool) {
	for n < len(p) {
		best, done := 0, false
		for _, form := range utf8Forms {
			k := 0
			for k < len(form) && n+k < len(p) && form[k][0] <= p[n+k] && p[n+k] <= form[k][1] {
				k++
			}
			best, done = max(best, k), done || k == len(form)
		}
		n += best
		if !done {
			return n, best == 0
		}
	}
	return n, true
}

// charStart returns where the character begins that p[:end] ends with, if
// p[:end] is the beginning of some valid text.
func charStart(p []byte, end int) int {
	for i := end - 1; i > 0; i-- {
		if utf8.RuneStart(p[i]) {
			return i
		}
	}
	return 0
}

// cuts calls f with every way to cut p in pieces, for short p; for longer
// ones with one byte at a time and every cut in two and in three.
func cuts(p []byte, f func(pieces [][]byte)) {
	if len(p) <= 10 {
		for pattern := range 1 << max(len(p)-1, 0) {
			var pieces [][]byte
			start := 0
			for i := 1; i <= len(p); i++ {
				if i == len(p) || pattern>>(i-1)&1 == 1 {
					pieces = append(pieces, p[start:i])
					start = i
				}
			}
			f(pieces)
		}
		return
	}
	var single [][]byte
	for i := range p {
		single = append(single, p[i:i+1])
	}
	f(single)
	for i := range len(p) + 1 {
		for j := i; j <= len(p); j++ {
			f([][]byte{p[:i], p[i:j], p[j:]})
		}
	}
}

// checkPieces compares a utf8Check that is fed with pieces to the grammar.
func checkPieces(t *testing.T, pieces [][]byte) {
	t.Helper()
	all := bytes.Join(pieces, nil)
	good, _ := textPrefix(all)
	var u utf8Check
	fed := 0
	for _, p := range pieces {
		fed += len(p)
		before := bytes.Clone(p)
		ok := u.write(p)
		if want := fed <= good; ok != want {
			t.Fatalf("%x in %x: write reports %v after %d bytes, %d of which are text", all, pieces, ok, fed, good)
		}
		if !bytes.Equal(p, before) {
			t.Fatalf("%x: write changes its input", before)
		}
		if !ok {
			return
		}
		if _, whole := textPrefix(all[charStart(all, fed):fed]); u.complete() != whole {
			t.Fatalf("%x in %x: complete() = %v after %d bytes", all, pieces, u.complete(), fed)
		}
	}
}

func TestUTF8Cuts(t *testing.T) {
	const whole, open, invalid = "whole", "open", "invalid"
	tests := []struct{ id, what, texts string }{
		{"U-02", whole, "00 7f c280 dfbf e0a080 ed9fbf ee8080 efbfbd efbfbe efbfbf f0908080 f48fbfbf f09fbfbe efbbbf61 cebae1bdb9cf83cebcceb5"},
		{"U-03", invalid, "80 bf 80bf fe ff f5 c0 c1 c0af c080 c1bf e080af e09fbf f08080af f08fbfbf f888808080 fc8480808080 " +
			"f4908080 f7bfbfbf eda080 edadbf edae80 edafbf edb080 edbfbf eda080edb080 c320 e28261"},
		{"U-04", open, "e282 c3 f09f98"},
		{"U-08", invalid, "f490 f5 eda0 e080 f080 c0"},
		{"U-08", open, "f4 f48f ed9f e0a0"},
		{"U-01", invalid, "cebae1bdb9cf83cebcceb5eda080656469746564"},
		{"U-06", invalid, "cebae1bdb9cf83cebcceb5f4908080"},
		{"U-07", invalid, "cebae1bdb9cf83cebcceb5f490"},
	}
	for _, tt := range tests {
		for _, text := range strings.Fields(tt.texts) {
			b := wire(t, text)
			n, complete := textPrefix(b)
			if got := map[bool]string{true: whole, false: open}[complete]; n == len(b) && got != tt.what || n < len(b) && tt.what != invalid {
				t.Errorf("%s: the grammar of the test takes %s for something else than %s", tt.id, text, tt.what)
			}
			t.Run(tt.id+"/"+text, func(t *testing.T) {
				for _, around := range []struct{ before, after string }{{"", ""}, {"a", ""}, {"", "a"}, {"é", "é"}} {
					cuts([]byte(around.before+string(b)+around.after), func(pieces [][]byte) {
						checkPieces(t, pieces)
						checkPieces(t, append([][]byte{{}}, pieces...))
						checkPieces(t, append(pieces[:len(pieces):len(pieces)], nil))
					})
				}
			})
		}
	}
}

func TestU08EarliestByte(t *testing.T) {
	// All pairs of bytes, and behind those that leave a character open all
	// borders of ranges, one byte at a time and at once.
	borders := []byte{0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc2, 0xf4, 0xff}
	p := make([]byte, 4)
	for first := range 256 {
		for second := range 256 {
			p[0], p[1] = byte(first), byte(second)
			behind := borders
			if n, whole := textPrefix(p[:2]); n < 2 || whole {
				behind = borders[:1]
			}
			for _, p[2] = range behind {
				for _, p[3] = range behind {
					good, _ := textPrefix(p)
					var one, all utf8Check
					fed := 0
					for fed < len(p) && one.write(p[fed:fed+1]) {
						fed++
					}
					if fed != good {
						t.Fatalf("%x: refused after %d bytes, want %d", p, fed, good)
					}
					if all.write(p) != (good == len(p)) || good == len(p) && all.complete() != utf8.Valid(p) {
						t.Fatalf("%x: at once %+v, %d bytes are text", p, all, good)
					}
				}
			}
		}
	}
}

func TestWriterUsedByTwo(t *testing.T) {
	// A Writer is for one goroutine: a call inside of another one is told so
	// and does nothing.
	c, s := play(&Config{WriteTimeout: time.Second}, nil)
	w, err := c.Writer(t.Context(), Text)
	if err != nil {
		t.Fatal(err)
	}
	used := w.(*messageWriter)
	used.used.Store(true)
	if n, err := w.Write([]byte("x")); n != 0 || err != errWriterUsed {
		t.Errorf("Write: %d, %v", n, err)
	}
	if err := w.Close(); err != errWriterUsed {
		t.Errorf("Close: %v", err)
	}
	used.used.Store(false)
	if _, err := w.Write([]byte("hi")); err != nil {
		t.Error(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if want := wire(t, "81 02 6869"); !bytes.Equal(s.out, want) {
		t.Errorf("sent %x, want %x", s.out, want)
	}
	c.CloseNow()
	<-c.Context().Done()
}

func TestWriterOnABrokenConnection(t *testing.T) {
	big := make([]byte, 3*frameSize)
	tests := []struct {
		name string
		last func(w io.WriteCloser) error
	}{
		{"Close", func(w io.WriteCloser) error { return w.Close() }},
		{"a large Write", func(w io.WriteCloser) error { _, err := w.Write(big); return err }},
		{"a Write that fills a frame", func(w io.WriteCloser) error {
			_, err := w.Write(big[:1])
			for err == nil {
				_, err = w.Write(big[:100])
			}
			return err
		}},
	}
	for _, tt := range tests {
		c, s := play(&Config{WriteTimeout: time.Second}, nil)
		w, err := c.Writer(t.Context(), Binary)
		if err != nil {
			t.Fatal(err)
		}
		s.mu.Lock()
		s.broken = syscall.EPIPE
		s.mu.Unlock()
		if err := tt.last(w); !errors.Is(err, syscall.EPIPE) || err != c.ended() {
			t.Errorf("%s: %v, ended by %v", tt.name, err, c.ended())
		}
		if _, err := w.Write(big); err != c.ended() {
			t.Errorf("%s: a later Write: %v", tt.name, err)
		}
		if err := w.Close(); err != c.ended() {
			t.Errorf("%s: a later Close: %v", tt.name, err)
		}
		<-c.Context().Done()
	}
}
