package deflate

import "math/bits"

// An entry says what to do about the next bits: how many of them are used up,
// extra bits included, in the lowest 6 bits; how many are the code itself in
// bits 8 to 11; what they mean in the upper half: a byte, or what is to be added
// to the extra bits to get a length or a distance. Of the third code it is what is
// to be added to get how often a length comes, and 8 bits above that length; or one
// bit that says that it is the length before.
type entry uint32

const (
	isByte    entry = 1 << 15
	isSpecial entry = 1 << 14 // neither a byte nor a length or distance:

	isEnd     = isSpecial | 0<<16
	isLong    = isSpecial | 1<<16 // a code too long for the table
	isInvalid = isSpecial | 2<<16 // no code, or a symbol that must not occur

	isRepeat entry = 1 << 28
)

func (e entry) used() uint    { return uint(e & 63) }
func (e entry) codeLen() uint { return uint(e>>8) & 15 }
func (e entry) value() int    { return int(e >> 16) }

// with adds a code of n bits to an entry that has extra bits only.
func (e entry) with(n uint8) entry { return e + entry(n)*0x101 }

// number is the value with the extra bits, which are in acc behind the code.
func (e entry) number(acc uint64) int {
	return e.value() + int(acc&(1<<e.used()-1)>>e.codeLen())
}

// What the symbols of the alphabets mean.
var (
	litMeaning  [fixedLitSymbols]entry
	distMeaning [fixedDistSymbols]entry
	preMeaning  [preSymbols]entry
)

// A codebook is a code as it is read: for the codes up to some length a table of
// all bits that may come next, for longer ones, which are rare, how many there
// are of each length.
type codebook struct {
	count   [maxCodeLen + 1]uint16
	first   [maxCodeLen + 1]uint16  // code of each length, of those too long for the table
	index   [maxCodeLen + 1]uint16  // of its symbol
	symbols [fixedLitSymbols]uint16 // in the order of their codes
}

const (
	litBits  = 10
	distBits = 8
	preBits  = maxPreLen
)

// tally counts codes of the given lengths, a multiple of word.
func (c *codebook) tally(lens []uint8) {
	clear(c.count[:])
	for i := 0; i+word <= len(lens); i += word {
		n := (*[word]uint8)(lens[i:])
		if load64(n[:], 0) == 0 { // most are
			continue
		}
		for _, n := range n {
			c.count[n&maxCodeLen]++
		}
	}
}

// build makes c and its table for codes of the given lengths, which have been
// counted. It reports false if they are no code: if two would begin alike, or if
// some bits mean nothing. As an exception there may be a single code, of one bit,
// or none at all (§3.2.7): then what means nothing must not occur.
func (c *codebook) build(t []entry, lens []uint8, meaning []entry) bool {
	room := 1 << maxCodeLen
	next := uint16(0)
	for n := 1; n <= maxCodeLen; n++ {
		room -= int(c.count[n]) << (maxCodeLen - n)
		c.index[n] = next
		next += c.count[n]
	}
	total := next
	switch {
	case room < 0:
		return false
	case room > 0:
		if total > 1 || total == 1 && c.count[1] == 0 {
			return false
		}
		for i := range t {
			t[i] = isInvalid.with(1)
		}
	}
	at := c.index
	for i := 0; i+word <= len(lens); i += word {
		n := (*[word]uint8)(lens[i:])
		// A byte of them is not 0 if 127 more make it 128 or more.
		has := (load64(n[:], 0) + 0x7f7f7f7f7f7f7f7f) & 0x8080808080808080
		for ; has != 0; has &= has - 1 {
			k := bits.TrailingZeros64(has) >> 3 & (word - 1)
			l := n[k] & maxCodeLen
			c.symbols[at[l]] = uint16(i + k)
			at[l]++
		}
	}
	if room > 0 {
		if total == 1 {
			e := meaning[c.symbols[0]].with(1)
			for i := 0; i < len(t); i += 2 {
				t[i] = e
			}
		}
		return true
	}
	// The table of codes up to n bits is that of up to n-1 bits, twice, with
	// the codes of n bits put in. Codes have zeros behind them here, up to
	// 16 bits.
	most := bits.Len(uint(len(t))) - 1
	symbols := c.symbols[:]
	code, step, size := 0, 1<<16, 1
	for n := 1; n <= most; n++ {
		if code > 0 {
			copy(t[size:2*size], t[:size])
		}
		size *= 2
		step /= 2
		for _, s := range symbols[:c.count[n]] {
			t[bits.Reverse16(uint16(code))] = meaning[s].with(uint8(n))
			code += step
		}
		symbols = symbols[c.count[n]:]
	}
	for long := code; long < 1<<16; long += step {
		t[bits.Reverse16(uint16(long))] = isLong
	}
	next = uint16(2 * (code / step))
	for n := most + 1; n <= maxCodeLen; n++ {
		c.first[n] = next
		next = (next + c.count[n]) << 1
	}
	return true
}

// long is the entry for a code that begins with the lowest bits of acc and is
// too long for a table of so many bits. Bits that have not come may be zeros: if
// that matters, the entry uses more bits than have come.
func (c *codebook) long(acc uint64, tableBits uint, meaning []entry) entry {
	code := reverse(uint16(acc&(1<<tableBits-1)), uint8(tableBits))
	acc >>= tableBits
	for n := tableBits + 1; n <= maxCodeLen; n++ {
		code = code<<1 | uint16(acc&1)
		acc >>= 1
		if k := code - c.first[n]; k < c.count[n] {
			return meaning[c.symbols[c.index[n]+k]].with(uint8(n))
		}
	}
	return isInvalid.with(maxCodeLen) // not reached: the code is complete
}

// codes are the codes of a block.
type codes struct {
	lit       [1 << litBits]entry
	dist      [1 << distBits]entry
	litCodes  codebook
	distCodes codebook

	// While they are read: lengths of codes, those of the third code first.
	pre      [1 << preBits]entry
	lens     [fixedLitSymbols + fixedDistSymbols + word]uint8
	distLens [fixedDistSymbols]uint8
	nlit     int
	all      int // lengths to be read
	have     int // of them
	npre     int
}

var fixed codes

func init() {
	for s := range litMeaning {
		switch {
		case s < endOfBlock:
			litMeaning[s] = isByte | entry(s)<<16
		case s == endOfBlock:
			litMeaning[s] = isEnd
		case s < litSymbols:
			litMeaning[s] = entry(lengthBase[s-firstLength])<<16 | entry(lengthExtra[s-firstLength])
		default:
			litMeaning[s] = isInvalid
		}
	}
	for s := range distMeaning {
		if s < distSymbols {
			distMeaning[s] = entry(distBase[s])<<16 | entry(distExtra[s])
		} else {
			distMeaning[s] = isInvalid
		}
	}
	for s := range preMeaning {
		switch {
		case s <= maxCodeLen:
			preMeaning[s] = entry(s)<<24 | 1<<16
		case s == repeatLast:
			preMeaning[s] = isRepeat | 3<<16
		case s == repeatZero:
			preMeaning[s] = 3 << 16
		case s == repeatZeros:
			preMeaning[s] = 11 << 16
		}
		preMeaning[s] |= entry(runExtra[s])
	}

	var lens [fixedLitSymbols]uint8
	for s := range lens {
		lens[s] = fixedLen(s)
	}
	fixed.litCodes.tally(lens[:])
	fixed.litCodes.build(fixed.lit[:], lens[:], litMeaning[:])
	for s := range fixedDistSymbols {
		lens[s] = fixedDistLen
	}
	fixed.distCodes.tally(lens[:fixedDistSymbols])
	fixed.distCodes.build(fixed.dist[:], lens[:fixedDistSymbols], distMeaning[:])
}
