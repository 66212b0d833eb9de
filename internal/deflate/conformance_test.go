package deflate

import (
	"errors"
	"testing"

	"github.com/sockeye-ws/websocket/internal/conformance"
)

// The bytes of section 12 of the wire contract. A message that is to be refused
// has no output that counts.
func TestConformanceVectors(t *testing.T) {
	const refused = "\x00refused"
	type message struct{ bytes, want string }
	for _, c := range []struct {
		id       string
		messages []message
		fresh    bool // without context takeover
	}{
		{id: "D-01", messages: []message{{"f248cdc9c90700", "Hello"}}},
		{id: "D-07", messages: []message{{"f248cdc9c90700", "Hello"}, {"f200110000", "Hello"}}},
		{id: "D-09", fresh: true, messages: []message{{"f248cdc9c90700", "Hello"}, {"f200110000", refused}}},
		{id: "D-10", messages: []message{{"00 0500faff 48656c6c6f 00", "Hello"}}},
		{id: "D-10", messages: []message{{"f24805000000ffffcac9c90700", "Hello"}}},
		{id: "D-10", messages: []message{{"f348cdc9c9070000", "Hello"}}},
		{id: "D-11", messages: []message{{"f348cdc9c90700f248cdc9c90700", "HelloHello"}}},
		{id: "D-11", messages: []message{{"f348cdc9c9070000", "Hello"}, {"f248cdc9c90700", "Hello"}}},
		{id: "D-11", messages: []message{{"f348cdc9c9070000", "Hello"}, {"f200110000", "Hello"}}},
		{id: "D-12", messages: []message{{"00", ""}, {"f248cdc9c90700", "Hello"}}},
		{id: "D-12", messages: []message{{"0200", ""}, {"f248cdc9c90700", "Hello"}}},
		{id: "D-12", messages: []message{{"030000", ""}, {"f248cdc9c90700", "Hello"}}},
		{id: "D-13", messages: []message{{"000100feffff00", "\xff"}}},
		{id: "D-13", messages: []message{{"000300fcffe282ac00", "\u20ac"}}},
		{id: "D-14", messages: []message{{"0600", refused}}},
		{id: "D-14", messages: []message{{"ffffffff", refused}}},
		{id: "D-14", messages: []message{{"0005000000 48656c6c6f 00", refused}}},
		{id: "D-14", messages: []message{{"f200110000", refused}}},
		{id: "D-15", messages: []message{{"f248cdc9c907", refused}}},
		{id: "D-15", messages: []message{{"f248cdc9c907000000ffff", refused}}},
		{id: "D-15", messages: []message{{"f348cdc9c90700", refused}}},
		{id: "D-15", messages: []message{{"", refused}}},
		// What is left off may not be the content of a stored block.
		{id: "D-15", messages: []message{{"00 0400fbff", refused}}},
	} {
		for bits := MinBits; bits <= MaxBits; bits++ {
			ref := conformance.Inflater{Bits: bits, Takeover: !c.fresh}
			// Whole, and every byte by itself.
			for _, piece := range []int{1000, 1} {
				d := newDecoder(bits, !c.fresh)
				for _, m := range c.messages {
					var out []byte
					var err error
					for p := unhex(m.bytes); len(p) > 0 && err == nil; {
						n := min(piece, len(p))
						out, err = d.Append(out, p[:n], 100)
						p = p[n:]
					}
					if err == nil {
						err = d.End()
					}
					var corrupt CorruptError
					switch {
					case m.want == refused && !errors.As(err, &corrupt):
						t.Errorf("%s, %d bits, %s by %d: %q, %v; want a CorruptError", c.id, bits, m.bytes, piece, out, err)
					case m.want != refused && (err != nil || string(out) != m.want):
						t.Errorf("%s, %d bits, %s by %d: %q, %v; want %q", c.id, bits, m.bytes, piece, out, err, m.want)
					}
					if piece == 1 {
						continue
					}
					if out, err := ref.Message(unhex(m.bytes)); (err != nil) != (m.want == refused) || err == nil && string(out) != m.want {
						t.Errorf("%s: the reference finds %q, %v in %s", c.id, out, err, m.bytes)
					}
				}
			}
		}
	}
}

// D-19: the last four bytes are left off, and never all.
func TestD19EmptyMessage(t *testing.T) {
	for _, takeover := range []bool{true, false} {
		e := newEncoder(15, takeover, Fast)
		for range 2 {
			if got := e.Finish(nil); string(got) != "\x00" {
				t.Errorf("an empty message is %x", got)
			}
			if got := e.Finish(e.Write(e.Write(nil, nil), nil)); string(got) != "\x00" {
				t.Errorf("an empty message in pieces is %x", got)
			}
			if got, ok := e.Append([]byte("x"), nil); ok || string(got) != "x" {
				t.Errorf("Append of an empty message: %q, %v", got, ok)
			}
		}
	}
}

// D-22: no reference reaches further than the window, over messages too.
func TestD22Window(t *testing.T) {
	for _, level := range []Level{Fast, Better} {
		rng := newRand(1)
		a, b := random(rng, 512), random(rng, 512)
		for bits, whole := range map[int][]byte{9: nil, 15: nil} {
			whole = append(append(append(whole, a...), b...), a...)
			one := newEncoder(bits, true, level).always(whole)
			e, d := newEncoder(bits, true, level), newDecoder(bits, true)
			several := 0
			for _, p := range [][]byte{a, b, a} {
				c := e.always(p)
				wantMessage(t, d, c, p)
				several += len(c)
			}
			wantMessage(t, newDecoder(bits, true), one, whole)
			for _, n := range []int{len(one), several} {
				if bits == 9 && n <= 1500 || bits == 15 && n >= 1150 {
					t.Errorf("level %d, %d bits: %d bytes", level, bits, n)
				}
			}
		}
	}
}

// D-24: a message that is sent as it is has not entered the window.
func TestD24TakenBack(t *testing.T) {
	for _, level := range []Level{Fast, Better} {
		for bits := MinBits; bits <= MaxBits; bits++ {
			for _, size := range []int{100, 1 << 10, spare(1 << bits), spare(1<<bits) + 1, 1<<bits + 1, 70_000} {
				rng := newRand(uint64(size))
				e, d := newEncoder(bits, true, level), newDecoder(bits, true)
				noise, text := random(rng, size), jsonLike(rng, 3000)
				wantMessage(t, d, e.always(text), text)
				for range 2 {
					before := bytesOf(e)
					dst := []byte("before")
					out, ok := e.Append(dst, noise)
					if ok || string(out) != "before" {
						t.Fatalf("%d bytes of noise become %d, %v", size, len(out), ok)
					}
					if after := bytesOf(e); after != before {
						t.Errorf("level %d, %d bits, %d bytes taken back: the window has changed", level, bits, size)
					}
					wantMessage(t, d, e.always(text), text)
				}
			}
		}
	}
}

// bytesOf is what references may reach.
func bytesOf(e *Encoder) string {
	b := e.win.buf
	return string(b[max(0, len(b)-1<<e.bits):])
}
