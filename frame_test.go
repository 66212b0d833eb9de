package websocket

import (
	"bytes"
	"fmt"
	"math"
	"testing"

	"github.com/sockeye-ws/websocket/internal/conformance"
)

// wire reads the byte notation of the conformance tables.
func wire(t testing.TB, notation string) []byte {
	t.Helper()
	b, err := conformance.Bytes(notation)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// wantCode fails the test unless v is a verdict with this code, or none if
// code is 0.
func wantCode(t testing.TB, v *CloseError, code StatusCode) {
	t.Helper()
	switch {
	case v == nil && code != 0:
		t.Errorf("accepted, want %v", code)
	case v != nil && v.Code != code:
		t.Errorf("%v, want %d", v, code)
	case v != nil && (v.Remote || v.Reason == "" || len(v.Reason) > maxReason):
		t.Errorf("%#v: a verdict is this side's and says why", v)
	}
}

// illegalPair is the predicate of F-01, clause by clause; defl says that
// permessage-deflate was agreed on.
func illegalPair(b0, b1 byte, inMsg, defl bool) bool {
	fin, op := b0>>7, b0&15
	rsv1, rsv2, rsv3 := b0>>6&1, b0>>5&1, b0>>4&1
	masked, length := b1>>7, b1&127
	return rsv2 == 1 || rsv3 == 1 ||
		rsv1 == 1 && !(defl && (op == 1 || op == 2)) ||
		op >= 3 && op <= 7 || op >= 11 ||
		masked == 0 ||
		op >= 8 && (fin == 0 || length > 125) ||
		op == 0 && !inMsg ||
		(op == 1 || op == 2) && inMsg
}

// judgePrefix is what a connection does with the first bytes of a frame.
func judgePrefix(b []byte, inMsg, defl bool) *CloseError {
	asm := assembler{limit: -1, maxFrames: -1}
	if inMsg {
		asm.typ = Text
	}
	h, _, v := parseHeader(b, true, defl)
	if v == nil && !h.op.control() {
		v = asm.order(h.op)
	}
	return v
}

func TestF01Exhaustive(t *testing.T) {
	for i := range 4 {
		inMsg, defl := i&1 == 1, i&2 == 2
		legal := 0
		for b0 := range 256 {
			first := judgePrefix([]byte{byte(b0)}, inMsg, defl)
			for b1 := range 256 {
				want := illegalPair(byte(b0), byte(b1), inMsg, defl)
				v := judgePrefix([]byte{byte(b0), byte(b1)}, inMsg, defl)
				if (v != nil) != want {
					t.Errorf("%02x %02x, in a message %v, deflate %v: verdict %v, want one: %v", b0, b1, inMsg, defl, v, want)
				}
				if v != nil && v.Code != StatusProtocolError {
					t.Errorf("%02x %02x, in a message %v, deflate %v: %v, want 1002", b0, b1, inMsg, defl, v)
				}
				if first != nil && v == nil {
					t.Errorf("%02x %02x, in a message %v, deflate %v: refused after the first byte (%v), accepted after the second", b0, b1, inMsg, defl, first)
				}
				if !want {
					legal++
				}
			}
		}
		// Data: fin or not, of one kind or two, any length; control: three, 0 to 125.
		kinds := 2
		if inMsg {
			kinds = 1
		} else if defl {
			kinds = 4 // compressed or not
		}
		if want := 2*kinds*128 + 3*126; legal != want {
			t.Errorf("in a message %v, deflate %v: %d pairs are legal, want %d", inMsg, defl, legal, want)
		}
	}
}

func TestF02FirstByte(t *testing.T) {
	// What no second byte can make legal is refused without waiting for it.
	for b0 := range 512 {
		hopeless, defl := true, b0 > 255
		for b1 := range 256 {
			hopeless = hopeless && illegalPair(byte(b0), byte(b1), false, defl)
		}
		if v := judgePrefix([]byte{byte(b0)}, false, defl); (v != nil) != hopeless {
			t.Errorf("%02x alone, deflate %v: verdict %v, want one: %v", byte(b0), defl, v, hopeless)
		}
	}
}

func TestHeaderPrefixes(t *testing.T) {
	tests := []struct {
		id, frame string
		verdict   int   // after how many bytes it is refused; 0: it is legal
		length    int64 // of a legal one
	}{
		{"F-03", "c1 80 z", 1, 0},
		{"F-03", "91 80 z", 1, 0},
		{"F-03", "a9 80 z", 1, 0},
		{"F-04", "83 80 z", 1, 0},
		{"F-04", "8b 80 z", 1, 0},
		{"F-04", "03 80 z", 1, 0},
		{"F-05", "82 fe 0000 z", 4, 0},
		{"F-05", "82 fe 0005 z", 4, 0},
		{"F-05", "82 fe 007d z", 4, 0},
		{"F-05", "82 fe 007e z", 0, 126},
		{"F-05", "82 fe 007f k", 0, 127},
		{"F-05", "82 fe ffff k", 0, 65535},
		{"F-06", "82 ff 0000000000000000 z", 10, 0},
		{"F-06", "82 ff 0000000000000005 z", 10, 0},
		{"F-06", "82 ff 000000000000007e z", 10, 0},
		{"F-06", "82 ff 000000000000ffff z", 10, 0},
		{"F-06", "82 ff 0000000000010000 z", 0, 65536},
		{"F-06", "82 ff 0000000000010001 k", 0, 65537},
		{"F-07", "82 ff 8000000000000000 z", 10, 0},
		{"F-07", "82 ff ffffffffffffffff z", 10, 0},
		{"F-07", "82 ff 8000000000000005 z", 10, 0},
		{"F-09", "81 80 k", 0, 0},
		{"F-09", "01 81 k", 0, 1},
		{"F-09", "82 fd k", 0, 125},
		{"F-16", "82 ff 7fffffffffffffff z", 0, math.MaxInt64},
		{"M-01", "81 05", 2, 0},
		{"M-01", "81 7e 0100", 2, 0},
		{"M-01", "88 00", 2, 0},
		{"C-02", "89 fe 007e z", 2, 0},
		{"C-02", "8a ff 000000000000007e z", 2, 0},
		{"C-03", "09 80 z", 1, 0},
	}
	for _, tt := range tests {
		b := wire(t, tt.frame)
		for k := range len(b) + 1 {
			t.Run(fmt.Sprintf("%s/%x", tt.id, b[:k]), func(t *testing.T) {
				h, n, v := parseHeader(b[:k:k], true, false)
				if tt.verdict > 0 && k >= tt.verdict {
					wantCode(t, v, StatusProtocolError)
					if n != 0 {
						t.Errorf("n = %d beside a verdict", n)
					}
					return
				}
				wantCode(t, v, 0)
				if k < len(b) {
					if n != 0 {
						t.Errorf("n = %d before the header is whole", n)
					}
					return
				}
				want := header{fin: b[0]&0x80 != 0, op: opcode(b[0] & 15), masked: true, length: tt.length}
				for i := range 4 {
					want.key |= maskKey(b[len(b)-4+i]) << (8 * i)
				}
				if n != len(b) || h != want {
					t.Errorf("got %d, %+v, want %d, %+v", n, h, len(b), want)
				}
				// What follows the header changes nothing.
				if h, n, v := parseHeader(append(bytes.Clone(b), 0xff, 0xff), true, false); h != want || n != len(b) || v != nil {
					t.Errorf("with more bytes: %d, %+v, %v", n, h, v)
				}
			})
		}
	}
}

func TestF16LimitBeforeAllocation(t *testing.T) {
	h, _, v := parseHeader(wire(t, "82 ff 7fffffffffffffff z"), true, false)
	wantCode(t, v, 0)
	asm := assembler{limit: defaultReadLimit, maxFrames: -1}
	wantCode(t, asm.begin(h), StatusMessageTooBig)
}

func TestF09HeaderRoundTrip(t *testing.T) {
	sizes := []struct {
		length int64
		bytes  string // of it, in a frame without a mask
	}{
		{0, "00"}, {1, "01"}, {125, "7d"},
		{126, "7e 007e"}, {127, "7e 007f"}, {128, "7e 0080"}, {65535, "7e ffff"},
		{65536, "7f 0000000000010000"}, {65537, "7f 0000000000010001"},
		{math.MaxInt32 + 1, "7f 0000000080000000"}, {1 << 32, "7f 0000000100000000"}, {math.MaxInt64, "7f 7fffffffffffffff"},
	}
	for _, op := range []opcode{opContinuation, opText, opBinary, opClose, opPing, opPong} {
		for _, fin := range []bool{false, true} {
			for _, size := range sizes {
				if op.control() && (!fin || size.length > maxControl) {
					continue
				}
				b0 := byte(op)
				if fin {
					b0 |= 0x80
				}
				h := header{fin: fin, op: op, length: size.length}
				plain := append([]byte{b0}, wire(t, size.bytes)...)
				if got := appendHeader([]byte("x"), h); !bytes.Equal(got, append([]byte("x"), plain...)) {
					t.Errorf("%+v: %x, want 78 %x", h, got, plain)
				}
				if _, _, v := parseHeader(plain, true, false); v == nil {
					t.Errorf("%x: a frame without a mask is accepted (M-01)", plain)
				}

				h.masked, h.key = true, 0x3d21fa37
				masked := append(bytes.Clone(plain), wire(t, "k")...)
				masked[1] |= 0x80
				if got := appendHeader(nil, h); !bytes.Equal(got, masked) {
					t.Errorf("%+v: %x, want %x", h, got, masked)
				}
				if len(masked) > maxHeader {
					t.Errorf("%+v: %d bytes, more than maxHeader", h, len(masked))
				}
				got, n, v := parseHeader(masked, true, false)
				if got != h || n != len(masked) || v != nil {
					t.Errorf("%x: parsed as %+v, %d, %v, want %+v", masked, got, n, v, h)
				}
			}
		}
	}
}
