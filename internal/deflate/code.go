package deflate

import "math/bits"

// The alphabets of RFC 1951 §3.2.5. Symbols of the first one are bytes, the end
// of the block, and lengths of repetitions; those of the second are distances.
const (
	endOfBlock  = 256
	firstLength = 257
	litSymbols  = 286
	distSymbols = 30
	preSymbols  = 19 // of the code in which code lengths are written, §3.2.7
	shortest    = 3
	longest     = 258
	maxCodeLen  = 15
	maxPreLen   = 7
)

// preOrder is the order in which the lengths of the third code are written.
var preOrder = [preSymbols]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// Of lengths and of distances, the least that each symbol stands for, and how many
// extra bits say how much more it is. The first four lengths, or two distances,
// have none; then each four, or two, take one bit more than those before them.
var (
	lengthBase, lengthExtra = lengthRanges()
	distBase, distExtra     = ranges(1, 2, distSymbols)
)

func lengthRanges() (base []uint16, extra []uint8) {
	base, extra = ranges(shortest, 4, litSymbols-firstLength)
	// The longest length has a symbol of its own.
	last := len(base) - 1
	base[last], extra[last] = longest, 0
	return base, extra
}

func ranges(next, each, symbols int) (base []uint16, extra []uint8) {
	for s := range symbols {
		n := max(s/each-1, 0)
		base, extra = append(base, uint16(next)), append(extra, uint8(n))
		next += 1 << n
	}
	return base, extra
}

// fixedLen is the length of a byte's or length's code in the fixed code, §3.2.6.
// The last two symbols have a code and must not occur.
func fixedLen(symbol int) uint8 {
	switch {
	case symbol < 144:
		return 8
	case symbol < 256:
		return 9
	case symbol < 280:
		return 7
	}
	return 8
}

const (
	fixedLitSymbols  = litSymbols + 2
	fixedDistSymbols = distSymbols + 2
	fixedDistLen     = 5
)

// reverse turns a code of n bits around: codes are defined from their highest
// bit on, and all else goes into the stream from the lowest.
func reverse(code uint16, n uint8) uint16 { return bits.Reverse16(code) >> ((16 - n) & 15) }
