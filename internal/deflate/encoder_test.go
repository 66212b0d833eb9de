package deflate

import (
	"bytes"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/sockeye-ws/websocket/internal/conformance"
)

// eachSetup runs a test for every window, with and without takeover, and at each
// level.
func eachSetup(t *testing.T, f func(t *testing.T, bits int, takeover bool, level Level)) {
	for bits := MinBits; bits <= MaxBits; bits++ {
		for _, takeover := range []bool{true, false} {
			for _, level := range []Level{Fast, Better} {
				f(t, bits, takeover, level)
			}
		}
	}
}

// A witness reads what an Encoder writes in three ways: with a Decoder that has
// exactly its window, with compress/flate, and with the reference, which sees how
// far references reach.
type witness struct {
	takeover bool
	own      *Decoder
	std      standard
	ref      conformance.Inflater
}

func newWitness(bits int, takeover bool) *witness {
	return &witness{takeover: takeover, own: newDecoder(bits, takeover), ref: conformance.Inflater{Bits: bits, Takeover: takeover}}
}

func (w *witness) want(t *testing.T, compressed, want []byte) {
	t.Helper()
	if len(compressed) == 0 {
		t.Fatal("a message without a byte")
	}
	wantMessage(t, w.own, compressed, want)
	if got, err := w.std.message(compressed, w.takeover); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("compress/flate: %d bytes, %v; want %d", len(got), err, len(want))
	}
	if got, err := w.ref.Message(compressed); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("the reference: %d bytes, %v; want %d", len(got), err, len(want))
	}
}

func TestRoundTrip(t *testing.T) {
	eachSetup(t, func(t *testing.T, bits int, takeover bool, level Level) {
		rng := newRand(uint64(bits))
		e, w := newEncoder(bits, takeover, level), newWitness(bits, takeover)
		for n := range 25 {
			size := rng.IntN(1 << rng.IntN(14))
			if n == 12 {
				size = 70_000
			}
			var p []byte
			switch n % 5 {
			case 0:
				p = random(rng, size)
			case 1:
				p = make([]byte, size)
			default:
				p = jsonLike(rng, size)
			}
			var c []byte
			if rng.IntN(3) == 0 {
				for rest := p; len(rest) > 0; {
					k := 1 + rng.IntN(len(rest))
					c = e.Write(c, rest[:k])
					rest = rest[k:]
				}
				c = e.Finish(c)
			} else {
				c = e.always(p)
			}
			w.want(t, c, p)
		}
		if takeover && w.ref.Farthest < 1<<bits/4 {
			t.Errorf("%d bits: no reference reaches further than %d", bits, w.ref.Farthest)
		}
		for kind := range 3 {
			if w.ref.Blocks[kind] == 0 {
				t.Errorf("%d bits: no block of type %d", bits, kind)
			}
		}
	})
}

// Repetitions of every length and at every power of two, one more and one less.
func TestRepetitions(t *testing.T) {
	eachSetup(t, func(t *testing.T, bits int, takeover bool, level Level) {
		e, w := newEncoder(bits, takeover, level), newWitness(bits, takeover)
		noise := random(newRand(5), 1<<bits+600)
		for n := 4; n < 530; n += 1 + n/20*7 {
			w.want(t, e.always(append(bytes.Clone(noise[:300]), noise[100:100+min(n, 200)]...)), append(bytes.Clone(noise[:300]), noise[100:100+min(n, 200)]...))
			run := bytes.Repeat([]byte{7}, n)
			w.want(t, e.always(run), run)
		}
		for d := 1; d <= 1<<bits; d *= 2 {
			for _, d := range []int{d - 1, d, d + 1} {
				p := make([]byte, d, d+40) // zeros leave the table alone
				copy(p, noise[:40])
				p = append(p, noise[:min(d, 40)]...)
				w.want(t, e.always(p), p)
			}
		}
		if takeover && w.ref.Farthest != 1<<bits {
			t.Errorf("%d bits, level %d: the farthest reference reaches %d bytes back", bits, level, w.ref.Farthest)
		}
	})
}

// Repetitions at the end of a message, behind as many other bytes as may be, and
// nothing behind them.
func TestRepetitionAtEnd(t *testing.T) {
	noise := random(newRand(6), 100)
	for _, level := range []Level{Fast, Better} {
		for n := 8; n < len(noise); n++ {
			for _, length := range []int{4, 5, 6, 7, 8, 9, 17} {
				e, w := newEncoder(15, false, level), newWitness(15, false)
				p := slices.Clip(append(bytes.Clone(noise[:n]), noise[5:min(5+length, n)]...))
				w.want(t, e.always(p), p)
			}
		}
	}
}

// Small messages cut in two at every place, and byte by byte: what is sent before
// is part of what is sent in the end.
func TestEveryCut(t *testing.T) {
	rng := newRand(3)
	eachSetup(t, func(t *testing.T, bits int, takeover bool, level Level) {
		e, w := newEncoder(bits, takeover, level), newWitness(bits, takeover)
		for _, p := range [][]byte{[]byte("a"), []byte("Hello"), jsonLike(rng, 60), random(rng, 20), jsonLike(rng, 700)} {
			step := 1 + len(p)/15
			for cut := 0; cut <= len(p); cut += step {
				first := e.Write(nil, p[:cut])
				all := e.Write(bytes.Clone(first), p[cut:])
				all = e.Finish(all)
				if !bytes.HasPrefix(all, first) {
					t.Fatal("what was written has changed")
				}
				w.want(t, all, p)
			}
			var all []byte
			for i := range p {
				all = e.Write(all, p[i:i+1])
			}
			all = e.Finish(all)
			w.want(t, all, p)
			if len(all) > 2*len(p)+8 {
				t.Errorf("%d bytes, one at a time, become %d", len(p), len(all))
			}
		}
	})
}

// A message that refers to nothing before it can be read by anybody; whoever
// sends it goes on as if it had made it itself.
func TestAloneAndEnter(t *testing.T) {
	eachSetup(t, func(t *testing.T, bits int, takeover bool, level Level) {
		rng := newRand(9)
		e, w := newEncoder(bits, takeover, level), newWitness(bits, takeover)
		for range 12 {
			p, q := jsonLike(rng, 100+rng.IntN(5000)), jsonLike(rng, 200+rng.IntN(300))
			for range rng.IntN(3) {
				w.want(t, e.always(q), q)
			}
			shared, ok := Alone([]byte("x"), p, bits, level)
			if !ok || shared[0] != 'x' {
				t.Fatal("does not compress")
			}
			newWitness(bits, false).want(t, shared[1:], p)
			e.Enter(p)
			w.want(t, shared[1:], p)
			c := e.always(p)
			if takeover && len(p) < 1<<bits && len(c) > len(p)/20+20 {
				t.Errorf("%d bits, level %d: %d bytes that were entered take %d", bits, level, len(p), len(c))
			}
			w.want(t, c, p)
		}
		e.Enter(nil)
	})
	if out, ok := Alone([]byte("x"), random(newRand(1), 1000), 15, Fast); ok || string(out) != "x" {
		t.Error("Alone makes noise longer")
	}
}

func TestEnterBeforeAnything(t *testing.T) {
	e, w := newEncoder(12, true, Fast), newWitness(12, true)
	p := jsonLike(newRand(1), 500)
	shared, _ := Alone(nil, p, 12, Fast)
	e.Enter(p)
	w.want(t, shared, p)
	w.want(t, e.always(p), p)
	// As Reset is for whoever does not want to enter what it sends.
	e.Reset()
	w.want(t, shared, p)
	w.want(t, e.always(p), p)
}

// A message in pieces that is given up has not been there.
func TestAbandon(t *testing.T) {
	eachSetup(t, func(t *testing.T, bits int, takeover bool, level Level) {
		rng := newRand(2)
		e, w := newEncoder(bits, takeover, level), newWitness(bits, takeover)
		for range 30 {
			p := jsonLike(rng, 1+rng.IntN(400))
			w.want(t, e.always(p), p)
			before := ""
			if takeover {
				before = bytesOf(e)
			}
			size := rng.IntN(1 << rng.IntN(17))
			for range 1 + rng.IntN(3) {
				e.Write(nil, random(rng, size/3))
			}
			e.Abandon()
			if takeover && size < spare(1<<bits)-int(e.win.size)/8 && len(e.win.buf) > 1<<bits && bytesOf(e) != before {
				t.Error("the window has changed")
			}
			w.want(t, e.always(p), p)
		}
		e.Abandon()
	})
}

func TestReset(t *testing.T) {
	eachSetup(t, func(t *testing.T, bits int, takeover bool, level Level) {
		e, w := newEncoder(bits, takeover, level), newWitness(bits, false)
		p := jsonLike(newRand(8), 300)
		for range 3 {
			w.want(t, e.always(p), p)
			e.Write(nil, p)
			e.Reset()
		}
	})
}

// What it says about misuse is so.
func TestEncoderMisuse(t *testing.T) {
	e, d := newEncoder(15, true, Fast), newDecoder(15, true)
	p := jsonLike(newRand(8), 300)
	c := e.Write(nil, p)
	if out, ok := e.Append([]byte("x"), p); ok || string(out) != "x" {
		t.Errorf("Append inside a message: %d bytes, %v", len(out), ok)
	}
	wantPanic(t, func() { e.Enter(p) })
	wantMessage(t, d, e.Finish(c), p)
	for _, bits := range []int{-1, 0, 7, 16, 256 + 8} {
		wantPanic(t, func() { newEncoder(bits, true, Fast) })
		wantPanic(t, func() { newDecoder(bits, true) })
		wantPanic(t, func() { Alone(nil, p, bits, Fast) })
	}
}

func wantPanic(t *testing.T, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	f()
}

// Append needs no more room than it says, reports what it says, and leaves alone
// what is not its own.
func TestAppendRoom(t *testing.T) {
	eachSetup(t, func(t *testing.T, bits int, takeover bool, level Level) {
		rng := newRand(4)
		e, w := newEncoder(bits, takeover, level), newWitness(bits, takeover)
		for range 30 {
			n := rng.IntN(1 << rng.IntN(17))
			p := jsonLike(rng, n)
			copy(p[rng.IntN(n+1):], random(rng, rng.IntN(n+1)))
			room := make([]byte, 5, 5+n+Slack)
			out, ok := e.Append(room, p)
			if cap(out) != cap(room) || &out[0] != &room[0] {
				t.Fatalf("%d bytes: dst has grown", n)
			}
			if ok == (len(out) == 5) || ok && len(out)-5 >= n {
				t.Fatalf("%d bytes become %d, %v", n, len(out)-5, ok)
			}
			if ok {
				w.want(t, out[5:], p)
			}
		}
	})
}

// A block is in the shortest form there is, counted to the bit, and a message goes
// out compressed if that makes it shorter, counted to the byte.
func TestShortest(t *testing.T) {
	rng := newRand(7)
	for n := 2; n < 120; n++ {
		for kind := range 20 {
			p := random(rng, n)
			bits := 3 + 7 + 3
			for i := range p {
				switch {
				case kind < 7:
					p[i] |= 0x90 // these have a code of 9 bits
				case kind < 14:
					p[i] &= 0x7f // of 8
				default:
					copy(p[i:], p[:min(n-i, i, kind-9)]) // perhaps a repetition
				}
			}
			for _, c := range p {
				bits += int(fixedLen(int(c)))
			}
			e := newEncoder(15, false, Better)
			got := e.Finish(e.Write(nil, p))
			want := min((bits+7)/8, 1+4+n+1)
			if len(got) > want || kind < 7 && n < 40 && len(got) != want {
				t.Errorf("%d bytes of kind %d take %d, want %d", n, kind, len(got), want)
			}
			out, ok := e.Append(nil, p)
			if ok != (len(got) < n) || ok && !bytes.Equal(out, got) {
				t.Errorf("%d bytes of kind %d that take %d: Append makes %d, %v", n, kind, len(got), len(out), ok)
			}
			e = newEncoder(15, true, Better)
			if _, same := e.Append(nil, p); same != ok {
				t.Errorf("%d bytes of kind %d that take %d: Append with takeover: %v", n, kind, len(got), same)
			}
		}
	}
}

// footprint is what a value takes with all that it refers to.
func footprint(v reflect.Value) int {
	n := int(v.Type().Size())
	var more func(v reflect.Value)
	more = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer:
			if !v.IsNil() {
				n += int(v.Type().Elem().Size())
				more(v.Elem())
			}
		case reflect.Slice:
			n += v.Cap() * int(v.Type().Elem().Size())
		case reflect.Struct:
			for i := range v.NumField() {
				more(v.Field(i))
			}
		}
	}
	more(v)
	return n
}

// What an Encoder keeps is bounded, and it keeps nothing without takeover.
func TestEncoderState(t *testing.T) {
	eachSetup(t, func(t *testing.T, bits int, takeover bool, level Level) {
		rng := newRand(6)
		e := newEncoder(bits, takeover, level)
		most := 0
		for range 30 {
			p := jsonLike(rng, rng.IntN(1<<rng.IntN(17)+1))
			switch rng.IntN(4) {
			case 0:
				e.Finish(e.Write(e.Write(nil, p[:len(p)/2]), p[len(p)/2:]))
			case 1:
				e.Enter(p)
			default:
				e.Append(nil, p)
			}
			most = max(most, footprint(reflect.ValueOf(*e)))
		}
		size := 1 << bits
		switch {
		case takeover && most > 2*size+16<<10:
			t.Errorf("%d bits: %d bytes", bits, most)
		case takeover && most < size:
			t.Errorf("%d bits: %d bytes are not all", bits, most)
		case !takeover && most > 64:
			t.Errorf("%d bits, without takeover: %d bytes", bits, most)
		}
		if takeover && level == Fast {
			t.Logf("%d bits: %d bytes", bits, most)
		}
	})
}

func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool drop items at random")
	}
	eachSetup(t, func(t *testing.T, bits int, takeover bool, level Level) {
		rng := newRand(6)
		small, large, noise := jsonLike(rng, 300), jsonLike(rng, 50_000), random(rng, 3000)
		e, d := newEncoder(bits, takeover, level), newDecoder(bits, takeover)
		dst := make([]byte, 0, len(large)+Slack)
		plain := make([]byte, 0, len(large))
		run := func() {
			for _, p := range [][]byte{small, large} {
				c, _ := e.Append(dst, p)
				if _, err := d.Append(plain, c, len(p)); err != nil || d.End() != nil {
					t.Fatal(err)
				}
			}
			e.Append(dst, noise)
			c := e.Write(dst, small)
			c = e.Write(c, noise)
			c = e.Finish(c)
			if _, err := d.Append(plain, c, len(large)); err != nil || d.End() != nil {
				t.Fatal(err)
			}
			Alone(dst, small, bits, level)
		}
		run()
		if n := testing.AllocsPerRun(10, run); n >= 1 {
			t.Errorf("%d bits, takeover %v, level %d: %v allocations", bits, takeover, level, n)
		}
	})
}

// Many connections share what is borrowed.
func TestConcurrent(t *testing.T) {
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			rng := newRand(uint64(i))
			e, d := newEncoder(8+i, i%2 == 0, Level(i/2%2)), newDecoder(8+i, i%2 == 0)
			for range 40 {
				p := jsonLike(rng, rng.IntN(20_000))
				got, err := d.inflate(e.always(p))
				if err != nil || !bytes.Equal(got, p) {
					t.Errorf("%d bytes, %v; want %d", len(got), err, len(p))
				}
			}
		})
	}
	wg.Wait()
}
