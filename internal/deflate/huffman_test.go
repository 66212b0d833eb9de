package deflate

import (
	"bytes"
	"slices"
	"testing"
)

// frequencies are of n symbols, of which some do not occur, in the manner of a kind.
func frequencies(seed uint64, n, kind int) []uint16 {
	rng := newRand(seed)
	freq := make([]uint16, n)
	for s := range freq {
		switch {
		case rng.IntN(3) == 0:
		case kind == 0:
			freq[s] = 1
		case kind == 1:
			freq[s] = uint16(rng.IntN(rare))
		case kind == 2:
			freq[s] = uint16(rng.IntN(1 << rng.IntN(7)))
		default:
			freq[s] = uint16(1 << min(s, 11))
		}
	}
	return freq
}

// optimal is what an optimal code takes: the sum of what is put together as long
// as the two rarest are.
func optimal(freq []uint16) (bits int) {
	var nodes []int
	for _, f := range freq {
		if f > 0 {
			nodes = append(nodes, int(f))
		}
	}
	for len(nodes) > 1 {
		slices.Sort(nodes)
		nodes[1] += nodes[0]
		bits += nodes[1]
		nodes = nodes[1:]
	}
	return bits
}

// Codes are complete and within their bound, take what is said, and are optimal
// where the bound does not matter.
func TestCodeLengths(t *testing.T) {
	for seed := range uint64(400) {
		n := []int{16, 32, 128, firstDist}[seed%4]
		freq := frequencies(seed, n, int(seed/4%4))
		var a alphabet
		var lens [allSymbols]uint8
		a.take(freq, 0)
		for _, most := range []int{maxCodeLen, 9} {
			got := a.lengths(most, &lens)
			want, extra, room, deepest, used := 0, 0, 1<<most, 0, 0
			for s, f := range freq {
				if f == 0 {
					continue
				}
				used++
				if lens[s] < 1 || int(lens[s]) > most {
					t.Fatalf("%d: symbol %d has %d bits", seed, s, lens[s])
				}
				deepest = max(deepest, int(lens[s]))
				room -= 1 << (most - int(lens[s]))
				want += int(f) * int(lens[s])
				extra += int(f) * int(extraBits[s])
			}
			if used != len(a.used) || used > 1 && room != 0 {
				t.Fatalf("%d: %d of %d symbols, and room for %d more", seed, len(a.used), used, room)
			}
			if got != want+extra {
				t.Fatalf("%d: said to take %d bits, and takes %d", seed, got, want+extra)
			}
			if best := optimal(freq); deepest < most && used > 1 && want != best {
				t.Fatalf("%d: takes %d bits instead of %d", seed, want, best)
			}
		}
	}
}

// Code lengths are told as they are, and with no more symbols than it takes if
// each run is told by itself: zeros by as few as may be, others by one, and by one
// for each six more of which there are three.
func TestTell(t *testing.T) {
	shortest := func(lens []uint8) (symbols int) {
		for len(lens) > 0 {
			n := 1
			for n < len(lens) && lens[n] == lens[0] {
				n++
			}
			rest := n
			if lens[0] > 0 {
				symbols++
				rest--
			}
			most := 6
			if lens[0] == 0 {
				most = 138
			}
			symbols += rest / most
			if rest %= most; rest >= 3 {
				rest = 1
			}
			symbols += rest
			lens = lens[n:]
		}
		return symbols
	}
	rng := newRand(1)
	for range 2000 {
		var lens [allSymbols]uint8
		var a alphabet
		n := 1 + rng.IntN(litSymbols)
		for s := 0; s < n; {
			l := uint8(1+rng.IntN(3)) * uint8(rng.IntN(2))
			for range 1 + rng.IntN(1<<rng.IntN(9)) {
				if s < n {
					lens[s] = l
					s++
				}
			}
		}
		for s, l := range lens[:n] {
			if l > 0 {
				a.used = append(a.used, uint32(s))
			}
		}
		var p preamble
		p.zeros(n - p.tell(&a, &lens, 0))
		var told []uint8
		for _, r := range p.runs[:p.told] {
			extra := int(r >> symbolBits)
			switch s := int(r&symbolMask) - firstPre; s {
			case repeatLast:
				told = append(told, slices.Repeat(told[len(told)-1:], 3+extra)...)
			case repeatZero:
				told = append(told, make([]uint8, 3+extra)...)
			case repeatZeros:
				told = append(told, make([]uint8, 11+extra)...)
			default:
				told = append(told, uint8(s))
			}
		}
		if !slices.Equal(told, lens[:n]) {
			t.Fatalf("told %d, want %d", told, lens[:n])
		}
		if want := shortest(lens[:n]); p.told != want {
			t.Fatalf("%d symbols instead of %d tell %d", p.told, want, lens[:n])
		}
	}
}

// What is looked up about lengths and distances is what RFC 1951 §3.2.5 says.
func TestTokens(t *testing.T) {
	symbol := func(base []int, first, n int) token {
		s := len(base) - 1
		for base[s] > n {
			s--
		}
		return newToken(first+s, n-base[s])
	}
	lengths := []int{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	distances := []int{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	for n := shortest; n <= longest; n++ {
		if got, want := lengthTokens[n-shortest], symbol(lengths, firstLength, n); got != want {
			t.Errorf("length %d: %x instead of %x", n, got, want)
		}
	}
	for n := 1; n <= 1<<MaxBits; n++ {
		if got, want := distToken(n), symbol(distances, firstDist, n); got != want {
			t.Errorf("distance %d: %x instead of %x", n, got, want)
		}
	}
}

// Tokens are written bit by bit as they are, with codes and extra bits of any
// length, behind any number of bits.
func TestPutTokens(t *testing.T) {
	rng := newRand(4)
	for round := range 300 {
		var codes codeTable
		var words, lens [allSymbols]int
		for s := range codes {
			lens[s] = 1 + rng.IntN(maxCodeLen)
			if round%3 == 0 {
				lens[s] = maxCodeLen - rng.IntN(3)
			}
			words[s] = rng.IntN(1 << lens[s])
			codes[s] = newCode(uint16(words[s]), uint8(lens[s]), extraBits[s])
		}
		var tokens []token
		for range rng.IntN(40) {
			if rng.IntN(2) == 0 {
				tokens = append(tokens, token(rng.IntN(256)))
				continue
			}
			tokens = append(tokens, lengthTokens[rng.IntN(len(lengthTokens))], distToken(1+rng.IntN(1<<MaxBits)))
		}
		var w writer
		var want bitWriter
		before := rng.IntN(8)
		w.putBits(0x55&(1<<before-1), uint(before))
		want.bits(0x55, before)
		for _, x := range tokens {
			s := x & symbolMask
			want.bits(words[s], lens[s]).bits(int(x>>symbolBits), int(extraBits[s]))
		}
		w.out = make([]byte, 0, len(want.b)+8)
		w.putTokens(tokens, &codes)
		if w.align(); !bytes.Equal(w.out, want.b) {
			t.Fatalf("%x\nwant %x", w.out, want.b)
		}
	}
}
