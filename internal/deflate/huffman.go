package deflate

import (
	"math"
	"math/bits"
	"slices"
)

// A code is what is written for one symbol: the bits, lowest first, in the upper
// half, how many they are in the second byte, and how many they are together with
// the extra bits in the lowest.
type code uint32

func newCode(word uint16, n, extra uint8) code {
	return code(word)<<16 | code(n)*0x101 + code(extra)
}

func (c code) bits() uint64 { return uint64(c >> 16) }
func (c code) len() uint    { return uint(c >> 8 & 63) }
func (c code) total() uint  { return uint(c & 63) }

// with is the code with the extra bits of t.
func (c code) with(t token) uint64 { return c.bits() | uint64(t>>symbolBits)<<c.len() }

// A codeTable has the codes of all three alphabets.
type codeTable [allSymbols]code

// fixedCodes has the fixed ones, §3.2.6.
var fixedCodes = func() (codes codeTable) {
	var lens [allSymbols]uint8
	var lits, dists alphabet
	for s := range fixedLitSymbols {
		lens[s] = fixedLen(s)
		lits.count[lens[s]]++
		lits.used = append(lits.used, uint32(s))
	}
	for s := range fixedDistSymbols {
		lens[firstDist+s] = fixedDistLen
		dists.count[fixedDistLen]++
		dists.used = append(dists.used, uint32(firstDist+s))
	}
	lits.assign(&codes, &lens)
	dists.assign(&codes, &lens)
	return codes
}()

// An alphabet finds the lengths of a code.
type alphabet struct {
	used   []uint32          // symbols that occur, below how often they do
	count  [maxDepth + 1]int // how many codes there are of each length
	room   [fixedLitSymbols]uint32
	next   [rare + 1]uint16
	sorted [fixedLitSymbols]uint32
	leaves [fixedLitSymbols + 2]uint32 // weights
	inner  [fixedLitSymbols + 2]uint32
	first  [fixedLitSymbols]uint16 // inner node below each inner node, if there is one
}

const (
	// Symbols less frequent than rare are sorted by counting: most are.
	rare = 64
	// maxDepth is more than a tree of 2^16 occurrences can have.
	maxDepth = 31
	// together is how many frequencies are skipped at once if all are 0.
	together = 16
)

// take takes the frequencies of the symbols from first on: a multiple of together.
func (a *alphabet) take(freq []uint16, first int) {
	n := 0
	for s := 0; s+together <= len(freq); s += together {
		f := (*[together]uint16)(freq[s:])
		if f[0]|f[1]|f[2]|f[3]|f[4]|f[5]|f[6]|f[7]|f[8]|f[9]|f[10]|f[11]|f[12]|f[13]|f[14]|f[15] == 0 {
			continue
		}
		// Which symbols occur is hard to guess. Each is put down, and
		// stays if it occurs.
		for i, f := range f {
			a.room[n] = uint32(f)<<symbolBits | uint32(first+s+i)
			n += int((uint32(f) + 0xffff) >> 16)
		}
	}
	a.used = a.room[:n]
}

// sort sorts the symbols, the rarest first.
func (a *alphabet) sort() []uint32 {
	clear(a.next[:])
	most := uint32(0)
	for _, u := range a.used {
		f := min(u>>symbolBits, rare)
		a.next[f]++
		most = max(most, f)
	}
	sum, others := uint16(0), uint16(0)
	for f, n := range a.next[:most+1] {
		a.next[f] = sum
		others = sum
		sum += n
	}
	for _, u := range a.used {
		f := min(u>>symbolBits, rare)
		a.sorted[a.next[f]] = u
		a.next[f]++
	}
	sorted := a.sorted[:len(a.used)]
	if most == rare {
		slices.Sort(sorted[others:])
	}
	return sorted
}

// lengths fills in lens the lengths of an optimal code, or nearly so where one
// would be longer than most, and returns what all symbols take with it, extra
// bits included. A single symbol gets a code of one bit.
func (a *alphabet) lengths(most int, lens *[allSymbols]uint8) (bits int) {
	clear(a.count[:])
	if len(a.used) < 2 {
		for _, u := range a.used {
			s := u & symbolMask
			lens[s] = 1
			a.count[1] = 1
			bits = int(u>>symbolBits) * int(1+extraBits[s])
		}
		return bits
	}
	sorted := a.sort()
	n := len(sorted)
	for i, u := range sorted {
		a.leaves[i] = u >> symbolBits
	}
	// The two lightest nodes get a parent until one is left. Parents come
	// out in order of their weight, so that both kinds are queues; at the
	// end of each stands what is heavier than all. Which of the kinds the
	// two are of is hard to guess, so that it is calculated.
	const end = math.MaxInt32
	a.leaves[n], a.leaves[n+1] = end, end
	a.inner[0], a.inner[1] = end, end
	leaf, inner := 0, 0
	for made := range n - 1 {
		l0, l1 := a.leaves[leaf], a.leaves[leaf+1]
		i0, i1 := a.inner[inner], a.inner[inner+1]
		a.inner[made] = min(l0+l1, l0+i0, i0+i1)
		a.inner[made+2] = end
		a.first[made] = uint16(inner)
		// One inner node is among the two if it is lighter than the
		// second leaf, and another if it is lighter than the first.
		inners := int((i0-l1)>>31) + int((i1-l0)>>31)
		inner += inners
		leaf += 2 - inners
	}
	// The nodes at one depth stand together, those below them before them. Of
	// the two places below each inner node, those that are not taken by inner
	// nodes are leaves.
	inners, from, deepest := 1, n-2, 0
	for d := 1; inners > 0; d++ {
		deepest = d
		below := from - int(a.first[from])
		a.count[d] = 2*inners - below
		from -= below
		inners = below
	}
	if deepest > most {
		shorten(&a.count, most)
	}
	i := 0
	for d := most; d > 0; d-- {
		for _, u := range sorted[i : i+a.count[d]] {
			s := u & symbolMask
			lens[s] = uint8(d)
			bits += int(u>>symbolBits) * (d + int(extraBits[s]))
		}
		i += a.count[d]
	}
	return bits
}

// assign makes the codes of the given lengths for the symbols that occur, §3.2.2.
func (a *alphabet) assign(codes *codeTable, lens *[allSymbols]uint8) {
	// The next code of each length, with zeros behind it up to 16 bits: the
	// first one of a length comes behind all shorter ones.
	var next [maxCodeLen + 1]uint16
	first := 0
	for n := 1; n <= maxCodeLen; n++ {
		next[n] = uint16(first)
		first += a.count[n] << (16 - n)
	}
	for _, u := range a.used {
		s := u & symbolMask
		n := lens[s] & maxCodeLen
		codes[s] = newCode(bits.Reverse16(next[n]), n, extraBits[s])
		next[n] += uint16(uint32(1<<16) >> n)
	}
}

// fixedBits is what the symbols take with the fixed code, extra bits included.
func (a *alphabet) fixedBits() (sum int) {
	for _, u := range a.used {
		sum += int(u>>symbolBits) * int(fixedCodes[u&symbolMask].total())
	}
	return sum
}

// estimate is about what the symbols take with the best code, extra bits included.
func (a *alphabet) estimate() (bits int) {
	sum, total := 0, 0
	for _, u := range a.used {
		f := int(u >> symbolBits)
		total += f
		sum += f * log2(f)
		bits += f * int(extraBits[u&symbolMask])
	}
	return bits + (total*log2(total)-sum)/64
}

// lg is the logarithm to base 2, in 64ths.
var lg = func() (t [256]uint16) {
	for i := range t[1:] {
		t[i+1] = uint16(64*math.Log2(float64(i+1)) + 0.5)
	}
	return t
}()

func log2(n int) int {
	shift := 0
	for n >= len(lg) {
		n >>= 1
		shift += 64
	}
	return shift + int(lg[n])
}

// shorten turns the numbers of codes of each length into those of a complete
// code without any of more than most bits.
func shorten(count *[maxDepth + 1]int, most int) {
	for d := most + 1; d < len(count); d++ {
		count[most] += count[d]
		count[d] = 0
	}
	room := 1 << most // in codes of most bits
	for d := 1; d <= most; d++ {
		room -= count[d] << (most - d)
	}
	for room < 0 {
		// A shorter code becomes two of one more bit, for itself and one
		// of the longest: that saves the place of the latter.
		count[most]--
		d := most - 1
		for count[d] == 0 {
			d--
		}
		count[d]--
		count[d+1] += 2
		room++
	}
}
