package deflate

import (
	"encoding/binary"
	"math/bits"
)

// body decompresses a block with codes until it ends, there is no more input, or
// the ring is filled up to end. What it looks at is a whole symbol, and a length
// together with its distance: of neither is there ever a half.
func (r *reader) body(end int) (ended bool, err error) {
	c := r.own
	if r.fixed {
		c = &fixed
	}
	if r.left > 0 {
		r.pos, r.left = r.repeat(r.pos, end, r.left, r.distance)
	}
	for r.pos < end {
		if len(r.in) >= 8 && end-r.pos >= mostAtOnce {
			r.hurry(c, end)
		}
		r.fill()
		e := c.lit[r.acc&(1<<litBits-1)]
		if e == isLong {
			e = c.litCodes.long(r.acc, litBits, litMeaning[:])
		}
		have := uint(r.nacc)
		switch {
		case e.used() > have:
			return false, nil
		case e&isByte != 0:
			r.drop(e.used())
			r.ring[r.pos] = byte(e.value())
			r.pos++
			continue
		case e&isSpecial != 0:
			if e.value() != isEnd.value() {
				return false, errSymbol
			}
			r.drop(e.used())
			return true, nil
		}
		rest := r.acc >> e.used()
		f := c.dist[rest&(1<<distBits-1)]
		if f == isLong {
			f = c.distCodes.long(rest, distBits, distMeaning[:])
		}
		if e.used()+f.used() > have {
			return false, nil
		}
		if f&isSpecial != 0 {
			return false, errSymbol
		}
		length, distance := e.number(r.acc), f.number(rest)
		if distance > r.pos && !r.full || distance > 1<<r.bits {
			return false, errDistance
		}
		r.drop(e.used() + f.used())
		if r.pos, length = r.repeat(r.pos, end, length, distance); length > 0 {
			r.left, r.distance = length, distance
		}
	}
	return false, nil
}

func (r *reader) drop(n uint) {
	r.acc >>= n & 63
	r.nacc -= uint8(n)
}

// mostAtOnce is how much hurry puts out before it asks again whether there is
// room: two bytes and a repetition, and a chunk behind it, which stays as it was.
const (
	mostAtOnce = 2 + longest + chunk
	chunk      = 16
)

// hurry does the same as body where that needs the fewest questions: as long as
// there is input and room for whatever comes. What is rare, such as the end of the
// block, a repetition of what is near, and an error, it leaves to body. It calls
// nothing, so that what it goes by stays in registers. What it waits for is one
// table after the other: so the next symbol is looked up as early as can be, before
// more bits are taken in and before bytes are copied.
func (r *reader) hurry(c *codes, end int) {
	in, ring, pos := r.in, r.ring, r.pos
	acc, nacc := r.acc, uint(r.nacc)
	// A reference reaches as far as there is output, or as the window does.
	size, before := 1<<r.bits, 0
	if r.full {
		before = size
	}
	at := 0
	acc |= load64(in, at) << (nacc & 63)
	at += int(63-nacc) >> 3
	nacc |= 56
	e := c.lit[acc&(1<<litBits-1)]
	for at+8 <= len(in) && end-pos >= mostAtOnce && nacc >= litBits {
		// Bits above nacc are those of the next byte, the same that
		// come again.
		acc |= load64(in, at) << (nacc & 63)
		at += int(63-nacc) >> 3
		nacc |= 56
		if e&isByte != 0 {
			acc >>= e.used()
			nacc -= e.used()
			ring[pos] = byte(e.value())
			pos++
			e = c.lit[acc&(1<<litBits-1)]
			if e&isByte != 0 {
				acc >>= e.used()
				nacc -= e.used()
				ring[pos] = byte(e.value())
				pos++
				e = c.lit[acc&(1<<litBits-1)]
				if e&isByte != 0 {
					acc >>= e.used()
					nacc -= e.used()
					ring[pos] = byte(e.value())
					pos++
					e = c.lit[acc&(1<<litBits-1)]
					if e&isByte != 0 {
						acc >>= e.used()
						nacc -= e.used()
						ring[pos] = byte(e.value())
						pos++
						e = c.lit[acc&(1<<litBits-1)]
					}
					continue
				}
			}
		}
		// Two bytes took 20 bits of 56. A length and its distance take 36 at
		// most, if both codes are in the tables.
		rest := acc >> e.used()
		f := c.dist[rest&(1<<distBits-1)]
		length, distance := e.number(acc), f.number(rest)
		from := pos - distance
		from += len(ring) & (from >> (bits.UintSize - 1)) // it may begin at the end of the ring
		if (e|f)&isSpecial != 0 || distance > min(pos+before, size) || distance < chunk || len(ring)-from < length+chunk {
			if e != isLong {
				break
			}
			// As codebook.long does it, which is not called.
			e = isInvalid
			code := bits.Reverse16(uint16(acc)) >> (16 - litBits)
			for n := litBits + 1; n <= maxCodeLen; n++ {
				code = code<<1 | uint16(acc>>(n-1)&1)
				if k := code - c.litCodes.first[n]; k < c.litCodes.count[n] {
					e = litMeaning[c.litCodes.symbols[c.litCodes.index[n]+k]].with(uint8(n))
					break
				}
			}
			if e&isByte != 0 {
				acc >>= e.used()
				nacc -= e.used()
				ring[pos] = byte(e.value())
				pos++
				e = c.lit[acc&(1<<litBits-1)]
			}
			continue
		}
		acc = rest >> f.used()
		nacc -= e.used() + f.used()
		e = c.lit[acc&(1<<litBits-1)]
		for ; length > chunk; length -= chunk {
			x, y := load64(ring, from), load64(ring, from+8)
			store64(ring, pos, x)
			store64(ring, pos+8, y)
			from += chunk
			pos += chunk
		}
		x, y := load64(ring, from), load64(ring, from+8)
		if before == 0 {
			store64(ring, pos, x)
			store64(ring, pos+8, y)
			pos += length
			continue
		}
		// How much is left is hard to guess: a whole chunk is copied, and
		// what it has written over, which may be in the window, is put back.
		behind := pos + length
		v, w := load64(ring, behind), load64(ring, behind+8)
		store64(ring, pos, x)
		store64(ring, pos+8, y)
		store64(ring, behind, v)
		store64(ring, behind+8, w)
		pos = behind
	}
	r.in, r.pos = in[at:], pos
	r.acc, r.nacc = acc&(1<<nacc-1), uint8(nacc)
}

func store64(b []byte, i int, x uint64) { binary.LittleEndian.PutUint64(b[i:i+8], x) }

// repeat copies length bytes from distance before pos, up to end, and returns
// where it got and how many are missing.
func (r *reader) repeat(pos, end, length, distance int) (newPos, missing int) {
	n := min(length, end-pos)
	missing = length - n
	from := pos - distance
	if from < 0 {
		// They begin at the end of the ring. These lie behind pos, so
		// that those copied first are not those to copy later.
		from += len(r.ring)
		k := min(n, len(r.ring)-from)
		copy(r.ring[pos:pos+k], r.ring[from:])
		pos += k
		n -= k
		from = 0
	}
	// Where the bytes overlap, each round has twice as many to copy from.
	for n > 0 {
		k := copy(r.ring[pos:pos+n], r.ring[from:pos])
		pos += k
		n -= k
	}
	return pos, missing
}
