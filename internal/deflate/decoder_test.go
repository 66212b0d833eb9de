package deflate

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"math"
	"reflect"
	"testing"

	"github.com/sockeye-ws/websocket/internal/bufpool"
	"github.com/sockeye-ws/websocket/internal/conformance"
)

// deflated makes a message with compress/flate.
func deflated(level int, p []byte) []byte {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, level)
	w.Write(p)
	w.Flush()
	return b.Bytes()[:b.Len()-4]
}

// read inflates what comes in pieces of n bytes, by at most max at a time.
func (d *Decoder) read(t *testing.T, p []byte, n, max int) (out []byte, err error) {
	t.Helper()
	for len(p) > 0 {
		piece := bytes.Clone(p[:min(n, len(p))])
		p = p[len(piece):]
		for {
			got, k, err := d.Next(piece, max)
			if len(got) > max || k > len(piece) || len(got) == 0 && k < len(piece) && err == nil {
				t.Fatalf("Next returns %d bytes of %d, takes %d of %d", len(got), max, k, len(piece))
			}
			out = append(out, got...)
			clear(piece[:k]) // what was taken is not looked at again
			piece = piece[k:]
			if err != nil {
				return out, err
			}
			if len(got) == 0 {
				break
			}
		}
	}
	return out, d.End()
}

// Every window, cut of the input and bound of the output.
func TestDecodeCuts(t *testing.T) {
	rng := newRand(11)
	messages := [][]byte{
		[]byte("Hello"), jsonLike(rng, 200), random(rng, 100), make([]byte, 3000), jsonLike(rng, 3000),
		append(random(rng, 300), jsonLike(rng, 2000)...),
	}
	for bits := MinBits; bits <= MaxBits; bits++ {
		for _, takeover := range []bool{true, false} {
			e := newEncoder(bits, takeover, Better)
			var compressed [][]byte
			for _, p := range messages {
				compressed = append(compressed, e.always(p))
			}
			for _, n := range []int{1, 2, 3, 7, 8, 9, 10_000} {
				for _, max := range []int{1, 2, 257, 258, 259, math.MaxInt} {
					d := newDecoder(bits, takeover)
					for i, c := range compressed {
						got, err := d.read(t, c, n, max)
						if err != nil || !bytes.Equal(got, messages[i]) {
							t.Fatalf("%d bits, takeover %v, by %d to %d: %d bytes, %v; want %d", bits, takeover, n, max, len(got), err, len(messages[i]))
						}
					}
				}
			}
		}
	}
}

// Cut in two at every place, and ended there: that is no message.
func TestDecodeEveryCut(t *testing.T) {
	rng := newRand(12)
	for _, p := range [][]byte{[]byte("Hello"), jsonLike(rng, 900), random(rng, 40)} {
		for _, c := range [][]byte{deflated(9, p), deflated(1, p), deflated(0, p), deflated(-2, p)} {
			for cut := range c {
				d := newDecoder(15, false)
				out, err := d.Append(nil, c[:cut], len(p))
				if err == nil {
					out, err = d.Append(out, c[cut:], len(p)-len(out))
				}
				if err == nil {
					err = d.End()
				}
				if err != nil || !bytes.Equal(out, p) {
					t.Fatalf("cut at %d of %d: %d bytes, %v; want %d", cut, len(c), len(out), err, len(p))
				}
				// The first byte of a stored block alone is an empty message.
				if out, err := newDecoder(15, false).inflate(c[:cut]); err == nil && (cut != 1 || c[0] != 0) {
					t.Fatalf("ended at %d of %d: %d bytes and no error", cut, len(c), len(out))
				}
				if out, err := newDecoder(15, false).inflate(append(bytes.Clone(c), c[:cut]...)); err == nil && cut > 0 && (cut != 1 || c[0] != 0) {
					t.Fatalf("with %d bytes more: %d bytes and no error", cut, len(out))
				}
			}
		}
	}
}

// What others write: large messages of all kinds and levels.
func TestDecodeOthers(t *testing.T) {
	rng := newRand(13)
	for _, size := range []int{0, 1, 1000, 1<<15 + 1, 100_000} {
		for _, p := range [][]byte{jsonLike(rng, size), random(rng, size), make([]byte, size)} {
			d := newDecoder(15, true)
			for _, level := range []int{0, 1, 6, 9, -2} {
				wantMessage(t, d, deflated(level, p), p)
			}
		}
	}
}

// A bitWriter writes blocks by hand.
type bitWriter struct {
	b []byte
	n int
}

func (w *bitWriter) bits(v, n int) *bitWriter {
	for i := range n {
		if w.n%8 == 0 {
			w.b = append(w.b, 0)
		}
		w.b[w.n/8] |= byte(v>>i&1) << (w.n % 8)
		w.n++
	}
	return w
}

// code writes a code word, from its highest bit on.
func (w *bitWriter) code(word, n int) *bitWriter {
	for i := n - 1; i >= 0; i-- {
		w.bits(word>>i&1, 1)
	}
	return w
}

func (w *bitWriter) align() *bitWriter {
	w.n = len(w.b) * 8
	return w
}

// own begins a block with codes of its own, with the lengths of the third code.
func (w *bitWriter) own(nlit, ndist int, pre map[int]int) *bitWriter {
	w.bits(0, 1).bits(typeOwn, 2).bits(nlit-257, 5).bits(ndist-1, 5).bits(19-4, 4)
	for _, s := range preOrder {
		w.bits(pre[int(s)], 3)
	}
	return w
}

// flush ends the message.
func (w *bitWriter) flush() []byte { return w.bits(typeStored<<1, headBits).align().b }

// Codes, §3.2.7: what is a code, and what is none.
func TestDecodeCodes(t *testing.T) {
	// In the third code 0 is 0, 1 is 10, 16 is 110, 18 is 111.
	pre := map[int]int{0: 1, 1: 2, 18: 3, 16: 3}
	begin := func(nlit, ndist int) *bitWriter { return new(bitWriter).own(nlit, ndist, pre) }
	zeros := func(w *bitWriter, n int) *bitWriter {
		for n > 0 {
			if k := min(n, 138); k >= 11 {
				w.code(7, 3).bits(k-11, 7)
				n -= k
			} else {
				w.code(0, 1)
				n--
			}
		}
		return w
	}
	one := func(w *bitWriter) *bitWriter { return w.code(2, 2) }
	// ab is a code with 'a' and the end of the block, before its distances.
	ab := func(w *bitWriter) *bitWriter { return one(zeros(one(zeros(w, 'a')), 256-'a'-1)) }

	for _, c := range []struct {
		name string
		p    []byte
		want string
		err  error
	}{
		{"no distances", one(zeros(one(zeros(begin(257, 1), 'a')), 256-'a'-1)).code(0, 1).code(0, 1).code(0, 1).code(1, 1).flush(), "aa", nil},
		{"only an end", one(zeros(begin(257, 1), 256)).code(0, 1).code(0, 1).flush(), "", nil},
		{"only an end, and the other bit", one(zeros(begin(257, 1), 256)).code(0, 1).code(1, 1).flush(), "", errSymbol},
		{"one distance", one(ab(begin(257, 1))).code(0, 1).code(1, 1).flush(), "a", nil},
		{"no end", zeros(one(zeros(begin(257, 1), 'a')), 256-'a').code(0, 1).flush(), "", errNoEnd},
		{"three of one bit", one(one(ab(begin(258, 1)))).code(0, 1).flush(), "", errCode},
		{"three distances of one bit", one(one(one(ab(begin(257, 3))))).code(0, 1).flush(), "", errCode},
		{"a repetition of nothing", begin(257, 1).code(6, 3).bits(0, 2).flush(), "", errRepeat},
		{"a repetition that is too long", zeros(begin(257, 1), 250).code(7, 3).bits(0, 7).flush(), "", errRepeat},
		{"a repetition that is too long by one", zeros(begin(257, 1), 248).code(7, 3).bits(0, 7).flush(), "", errRepeat},
		{"a repetition into the distances", zeros(one(zeros(one(zeros(begin(257, 20), 'a')), 256-'a'-1)), 20).code(0, 1).code(1, 1).flush(), "a", nil},
		{"287 symbols", begin(287, 1).flush(), "", errCounts},
		{"31 distances", begin(257, 31).flush(), "", errCounts},
		{"third code with too much", new(bitWriter).own(257, 1, map[int]int{0: 1, 1: 1, 2: 1}).flush(), "", errCode},
		{"third code with too little", new(bitWriter).own(257, 1, map[int]int{0: 2, 1: 2, 2: 2}).flush(), "", errCode},
		{"third code with one of two bits", new(bitWriter).own(257, 1, map[int]int{18: 2}).flush(), "", errCode},
		{"third code without any", zeros(new(bitWriter).own(257, 1, nil), 300).flush(), "", errSymbol},
		{"fixed, symbol 286", new(bitWriter).bits(typeFixed<<1, 3).code(0xc6, 8).flush(), "", errSymbol},
		{"fixed, symbol 287", new(bitWriter).bits(typeFixed<<1, 3).code(0xc7, 8).flush(), "", errSymbol},
		{"fixed, distance 30", new(bitWriter).bits(typeFixed<<1, 3).code(0x30+'a', 8).code(1, 7).code(30, 5).flush(), "a", errSymbol},
		{"fixed, distance 31", new(bitWriter).bits(typeFixed<<1, 3).code(0x30+'a', 8).code(1, 7).code(31, 5).flush(), "a", errSymbol},
		{"fixed, distance 1", new(bitWriter).bits(typeFixed<<1, 3).code(0x30+'a', 8).code(1, 7).code(0, 5).code(0, 7).flush(), "aaaa", nil},
		{"fixed, distance 2 of 1", new(bitWriter).bits(typeFixed<<1, 3).code(0x30+'a', 8).code(1, 7).code(1, 5).code(0, 7).flush(), "a", errDistance},
		{"length 258 by symbol 284", new(bitWriter).bits(typeFixed<<1, 3).code(0x30+'a', 8).code(0xc4, 8).bits(31, 5).code(0, 5).code(0, 7).flush(),
			string(bytes.Repeat([]byte("a"), 259)), nil},
		{"type 3", new(bitWriter).bits(3<<1, 3).flush(), "", errType},
		{"stored, empty, last", append(new(bitWriter).bits(1, 3).align().b, 0, 0, 0xff, 0xff, 0), "", nil},
		{"ends with a last empty block", []byte{1}, "", nil},
	} {
		for _, n := range []int{1, 1000} {
			got, err := newDecoder(15, true).read(t, c.p, n, 1000)
			if string(got) != c.want || !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
				t.Errorf("%s, by %d: %q, %v; want %q, %v", c.name, n, got, err, c.want, c.err)
			}
		}
		ref := conformance.Inflater{Bits: MaxBits}
		if got, err := ref.Message(c.p); (err == nil) != (c.err == nil) || err == nil && string(got) != c.want {
			t.Errorf("%s: the reference finds %q, %v", c.name, got, err)
		}
	}
}

// Codes of all lengths up to 15 bits, which are not in the table.
func TestDecodeLongCodes(t *testing.T) {
	// Frequencies that double make each code one bit longer than the last.
	var p []byte
	for s := range 15 {
		p = append(p, bytes.Repeat([]byte{byte('A' + s)}, 1<<s)...)
	}
	newRand(1).Shuffle(len(p), func(i, j int) { p[i], p[j] = p[j], p[i] })
	c := deflated(-2, p)
	for _, n := range []int{1, 5, len(c)} {
		got, err := newDecoder(15, true).read(t, c, n, 1000)
		if err != nil || !bytes.Equal(got, p) {
			t.Errorf("by %d: %d bytes, %v; want %d", n, len(got), err, len(p))
		}
	}
	// An encoder that bounds its codes gets by with them.
	e, w := newEncoder(15, true, Fast), newWitness(15, true)
	w.want(t, e.always(p), p)
}

// The most bits that a byte, a length and a distance can take, at every place in
// a byte.
func TestDecodeLongestSymbols(t *testing.T) {
	noise := random(newRand(1), 1<<15)
	w := new(bitWriter).bits(0, 3).align()
	w.b = append(w.b, 0, 0x80, 0xff, 0x7f)
	w.b = append(w.b, noise...)
	// In the third code, all lengths of 4 bits. In both others, a code of
	// each length, and a second one of 15.
	pre := map[int]int{}
	for n := range 16 {
		pre[n] = 4
	}
	w.align().own(286, 30, pre)
	lit := map[int]int{'a': 10, endOfBlock: 14, 284: 15, 283: 15}
	for s, n := 'b', 1; n < 14; s, n = s+1, n+1 {
		if n != 10 {
			lit[int(s)] = n
		}
	}
	for s := range 286 {
		w.code(lit[s], 4)
	}
	for s := range 30 {
		switch {
		case s < 14:
			w.code(s+1, 4)
		case s >= 28:
			w.code(15, 4)
		default:
			w.code(0, 4)
		}
	}
	want := bytes.Clone(noise)
	for range 64 {
		// The codes of a length are ones and a zero; the last has no zero.
		w.code(1<<10-2, 10).code(1<<15-1, 15).bits(30, 5).code(1<<15-1, 15).bits(1<<13-1, 13)
		want = append(want, 'a')
		want = append(want, want[len(want)-1<<15:][:257]...)
	}
	p := w.code(1<<14-2, 14).flush()
	for _, n := range []int{1, 8, len(p)} {
		for _, most := range []int{1000, math.MaxInt} {
			if got, err := newDecoder(15, true).read(t, p, n, most); err != nil || !bytes.Equal(got, want) {
				t.Errorf("by %d to %d: %d bytes, %v; want %d", n, most, len(got), err, len(want))
			}
		}
	}
}

// Symbols that take the most bits in every order: the longest codes that the tables
// have, one that is longer, and all extra bits.
func TestDecodeFullest(t *testing.T) {
	rng := newRand(2)
	noise := random(rng, 1<<15)
	w := new(bitWriter).bits(0, 3).align()
	w.b = append(w.b, 0, 0x80, 0xff, 0x7f)
	w.b = append(w.b, noise...)
	pre := map[int]int{}
	for n := range 16 {
		pre[n] = 4
	}
	w.align().own(286, 30, pre)
	lit := map[int]int{'A': litBits, 'a': litBits, 284: litBits, 'b': 15, endOfBlock: 15}
	for s, n := 'c', 1; n < 15; n++ {
		if n != 9 && n != litBits {
			lit[int(s)] = n
			s++
		}
	}
	for s := range 286 {
		w.code(lit[s], 4)
	}
	for s := range 30 {
		switch {
		case s < distBits:
			w.code(s+1, 4)
		case s == 29:
			w.code(distBits, 4)
		default:
			w.code(0, 4)
		}
	}
	want := bytes.Clone(noise)
	for range 5000 {
		switch rng.IntN(5) {
		case 0:
			w.code(0, 1)
			want = append(want, 'c')
		case 1:
			w.code(1<<litBits-4, litBits)
			want = append(want, 'A')
		case 2:
			w.code(1<<litBits-3, litBits)
			want = append(want, 'a')
		case 3:
			w.code(1<<15-2, 15)
			want = append(want, 'b')
		case 4:
			w.code(1<<litBits-2, litBits).bits(30, 5).code(1<<distBits-1, distBits).bits(1<<13-1, 13)
			want = append(want, want[len(want)-1<<15:][:257]...)
		}
	}
	p := w.code(1<<15-1, 15).flush()
	for _, n := range []int{1, 8, 1000, len(p)} {
		for _, most := range []int{1000, math.MaxInt} {
			if got, err := newDecoder(15, true).read(t, p, n, most); err != nil || !bytes.Equal(got, want) {
				t.Errorf("by %d to %d: %d bytes, %v; want %d", n, most, len(got), err, len(want))
			}
		}
	}
}

// References to before the window, at the edge of each.
func TestDecodeDistance(t *testing.T) {
	noise := random(newRand(1), 1<<15+10)
	for bits := MinBits; bits <= MaxBits; bits++ {
		for _, have := range []int{1, 100, 1<<bits - 1, 1 << bits, 1<<bits + 1, 1<<bits + 9} {
			if have > len(noise) {
				continue
			}
			for _, back := range []int{have - 1, have, have + 1, 1<<bits - 1, 1 << bits, 1<<bits + 1} {
				if back < 1 || back > 1<<15 {
					continue
				}
				w := new(bitWriter)
				for rest := noise[:have]; len(rest) > 0; {
					k := min(len(rest), 0xffff)
					w.bits(0, 3).align()
					w.b = binary.LittleEndian.AppendUint16(w.b, uint16(k))
					w.b = binary.LittleEndian.AppendUint16(w.b, ^uint16(k))
					w.b = append(w.b, rest[:k]...)
					w.align()
					rest = rest[k:]
				}
				s := int(distToken(back)&symbolMask) - firstDist
				w.bits(typeFixed<<1, 3).code(1, 7).code(s, 5).bits(back-int(distBase[s]), int(distExtra[s]))
				for range 20 { // so that it is not the end of the input
					w.code(0x30+'a', 8)
				}
				p := w.code(0, 7).flush()
				for _, n := range []int{1, 100_000} {
					got, err := newDecoder(bits, true).read(t, p, n, 1000)
					if good := back <= have && back <= 1<<bits; good {
						want := append(bytes.Clone(noise[:have]), noise[have-back])
						if err != nil || len(got) != have+3+20 || !bytes.HasPrefix(got, want) {
							t.Errorf("%d bits, %d bytes, distance %d: %d bytes, %v", bits, have, back, len(got), err)
						}
					} else if err != errDistance || len(got) != have {
						t.Errorf("%d bits, %d bytes, distance %d: %d bytes, %v", bits, have, back, len(got), err)
					}
				}
			}
		}
	}
}

// D-16: a bomb is stopped at the limit, and the rest is not inflated.
func TestD16Bomb(t *testing.T) {
	const limit = 1 << 20
	for _, c := range []struct {
		size int
		err  error
	}{{10 << 20, ErrTooLong}, {limit + 1, ErrTooLong}, {limit, nil}} {
		bomb := deflated(9, make([]byte, c.size))
		for _, piece := range []int{7, 1000, len(bomb)} {
			d := newDecoder(15, true)
			dst := make([]byte, 0, limit)
			out, err := dst, error(nil)
			for p := bomb; len(p) > 0 && err == nil; {
				n := min(piece, len(p))
				out, err = d.Append(out, p[:n], limit-len(out))
				p = p[n:]
			}
			if err == nil {
				err = d.End()
			}
			if err != c.err || len(out) > limit || c.err == nil && len(out) != limit {
				t.Errorf("%d bytes by %d: %d bytes, %v", c.size, piece, len(out), err)
			}
			if &out[0] != &dst[:1][0] {
				t.Error("dst has grown beyond the limit")
			}
			if c.err != nil {
				if _, err := d.Append(nil, []byte{0}, limit); err != ErrTooLong {
					t.Errorf("goes on with %v", err)
				}
			}
		}
	}
	// Nothing is inflated ahead of what is asked for.
	d := newDecoder(15, true)
	bomb := deflated(9, make([]byte, 10<<20))
	taken := 0
	for range 1000 {
		out, n, err := d.Next(bomb[taken:], 1)
		if err != nil || len(out) != 1 {
			t.Fatal(len(out), err)
		}
		taken += n
	}
	if taken > 100 {
		t.Errorf("takes %d bytes of input for 1000 of output", taken)
	}
	if out, n, err := d.Next(bomb[taken:], 0); len(out) != 0 || n != 0 || err != nil {
		t.Error("Next returns something for nothing")
	}
	// A limit that has been passed already.
	for _, limit := range []int{0, -1, math.MinInt} {
		if out, err := newDecoder(15, true).Append([]byte("x"), deflated(1, []byte("Hello")), limit); string(out) != "x" || err != ErrTooLong {
			t.Errorf("limit %d: %q, %v", limit, out, err)
		}
	}
	d = newDecoder(15, true)
	if out, err := d.Append(nil, []byte{0}, 0); len(out) > 0 || err != nil || d.End() != nil {
		t.Errorf("an empty message, limit 0: %q, %v", out, err)
	}
	// No limit at all.
	if _, err := newDecoder(15, true).Append(nil, bomb, math.MaxInt); err != nil {
		t.Error(err)
	}
}

// An error is final, and the same for every later call.
func TestDecoderErrorIsFinal(t *testing.T) {
	good := deflated(1, []byte("Hello"))
	for _, takeover := range []bool{true, false} {
		d := newDecoder(15, takeover)
		out, n, err := d.Next(append([]byte{0, 1, 0, 0xfe, 0xff, 'x'}, 6, 7, 8), 100)
		if string(out) != "x" || n > 9 || err != errType {
			t.Errorf("%q, %d, %v", out, n, err)
		}
		for range 2 {
			if out, n, err := d.Next(good, 100); len(out) > 0 || n > 0 || err != errType {
				t.Errorf("%q, %d, %v", out, n, err)
			}
			if err := d.End(); err != errType {
				t.Error(err)
			}
		}
		d = newDecoder(15, takeover)
		wantMessage(t, d, good, []byte("Hello"))
		d.Release()
		if out, n, err := d.Next(good, 100); len(out) > 0 || n > 0 || err == nil {
			t.Errorf("after Release: %q, %d, %v", out, n, err)
		}
		d.Release()
	}
	if CorruptError("x").Error() != "deflate: x" {
		t.Error("text")
	}
}

// A Decoder keeps its window between messages, less while less was seen, and
// without takeover nothing.
func TestDecoderState(t *testing.T) {
	for bits := MinBits; bits <= MaxBits; bits++ {
		for _, takeover := range []bool{true, false} {
			d := newDecoder(bits, takeover)
			self := footprint(reflect.ValueOf(*d))
			if self > 16 {
				t.Errorf("%d bytes without anything", self)
			}
			seen, e := 0, newEncoder(bits, takeover, Fast)
			for _, n := range []int{0, 10, 300, 1000, 5000, 100_000} {
				p := jsonLike(newRand(1), n)
				wantMessage(t, d, e.Finish(e.Write(nil, p)), p)
				seen += n
				kept := footprint(reflect.ValueOf(*d)) - self
				if takeover {
					kept -= int(reflect.TypeFor[reader]().Size())
				}
				if most := min(1<<bits, max(smallRing, 2*seen)); takeover && kept > most || !takeover && kept != 0 {
					t.Errorf("%d bits, takeover %v: keeps %d bytes after %d", bits, takeover, kept, seen)
				}
				if takeover && d.r.in != nil {
					t.Error("keeps the input")
				}
			}
		}
	}
}

// In the middle of a message a Decoder holds what is in proportion to what has come
// of it, or out of it, and nothing for what has only been announced.
func TestDecoderHoldsWhatHasCome(t *testing.T) {
	for bits := MinBits; bits <= MaxBits; bits++ {
		for _, takeover := range []bool{true, false} {
			for _, step := range []int{1, 10, 1000} {
				d := newDecoder(bits, takeover)
				if out, n, err := d.Next(nil, 1<<20); len(out) != 0 || n != 0 || err != nil || d.r != nil {
					t.Errorf("%d bits, takeover %v: before anything: %d, %d, %v, %+v", bits, takeover, len(out), n, err, d.r)
				}
				p := newEncoder(bits, takeover, Fast).Write(nil, jsonLike(newRand(1), 100_000))
				in, out := 0, 0
				for in < len(p) {
					piece := p[in:min(in+step, len(p))]
					for {
						got, n, err := d.Next(piece, math.MaxInt)
						if err != nil {
							t.Fatal(err)
						}
						in, out, piece = in+n, out+len(got), piece[n:]
						if len(got) == 0 {
							break
						}
					}
					// The classes that are lent grow by four.
					if most := max(bufpool.Min, 64*in, 16*out); len(d.r.ring) > most {
						t.Fatalf("%d bits, takeover %v: a ring of %d bytes for %d that were %d", bits, takeover, len(d.r.ring), out, in)
					}
				}
				if out != 100_000 {
					t.Errorf("%d bytes have come out", out)
				}
			}
		}
	}
}
