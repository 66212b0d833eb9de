package deflate

import "encoding/binary"

// body decompresses a block with codes until it ends, there is no more input, or
// the ring is filled up to end. What it looks at is a whole symbol, and a length
// together with its distance: of neither is there ever a half.
func (d *Decoder) body(end int) (ended bool, err error) {
	c := d.own
	if d.fixed {
		c = &fixed
	}
	if d.left > 0 {
		d.pos, d.left = d.repeat(d.pos, end, d.left, d.distance)
	}
	for d.pos < end {
		if len(d.in) >= 8 && end-d.pos >= mostAtOnce {
			d.hurry(c, end)
		}
		d.fill()
		e := c.lit[d.acc&(1<<litBits-1)]
		if e == isLong {
			e = c.litCodes.long(d.acc, litBits, litMeaning[:])
		}
		have := uint(d.nacc)
		switch {
		case e.used() > have:
			return false, nil
		case e&isByte != 0:
			d.drop(e.used())
			d.ring[d.pos] = byte(e.value())
			d.pos++
			continue
		case e&isSpecial != 0:
			if e.value() != isEnd.value() {
				return false, errSymbol
			}
			d.drop(e.used())
			return true, nil
		}
		rest := d.acc >> e.used()
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
		length, distance := e.number(d.acc), f.number(rest)
		if distance > d.pos && !(d.full && distance <= len(d.ring)) {
			return false, errDistance
		}
		d.drop(e.used() + f.used())
		if d.pos, length = d.repeat(d.pos, end, length, distance); length > 0 {
			d.left, d.distance = length, distance
		}
	}
	return false, nil
}

func (d *Decoder) drop(n uint) {
	d.acc >>= n & 63
	d.nacc -= uint8(n)
}

// mostAtOnce is how much hurry puts out before it asks again whether there is
// room: a byte and a repetition, or three bytes.
const mostAtOnce = 1 + longest

// hurry does the same as body where that needs the fewest questions: as long as
// there is input and room for whatever comes. The end of the block, and errors, it
// leaves to body.
func (d *Decoder) hurry(c *codes, end int) {
	in, i := d.in, 0
	ring, pos := d.ring[:end], d.pos
	acc, nacc := d.acc, uint(d.nacc)
	for len(in)-i >= 8 && len(ring)-pos >= mostAtOnce {
		// Bits above nacc are those of the next byte, the same that
		// come again.
		acc |= binary.LittleEndian.Uint64(in[i:]) << (nacc & 63)
		i += int(63-nacc) >> 3
		nacc |= 56
		e := c.lit[acc&(1<<litBits-1)]
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
				}
				continue
			}
			// A byte took 10 bits of 56, and a length and its distance
			// may take 48, but 43 if the code of the length is short.
			if e == isLong {
				continue
			}
		}
		if e&isSpecial != 0 {
			if e != isLong {
				break
			}
			e = c.litCodes.long(acc, litBits, litMeaning[:])
			if e&isByte != 0 {
				acc >>= e.used()
				nacc -= e.used()
				ring[pos] = byte(e.value())
				pos++
				continue
			}
			if e&isSpecial != 0 {
				break
			}
		}
		rest := acc >> e.used()
		f := c.dist[rest&(1<<distBits-1)]
		if f&isSpecial != 0 {
			if f == isLong {
				f = c.distCodes.long(rest, distBits, distMeaning[:])
			}
			if f&isSpecial != 0 {
				break
			}
		}
		distance := f.number(rest)
		if distance > pos && !(d.full && distance <= len(d.ring)) {
			break
		}
		length := e.number(acc)
		acc = rest >> f.used()
		nacc -= e.used() + f.used()
		if distance < length || distance > pos {
			pos, _ = d.repeat(pos, end, length, distance)
			continue
		}
		to, from := ring[pos:pos+length], ring[pos-distance:pos]
		switch {
		case length > 16:
			copy(to, from)
		case length >= 8:
			x, y := load64(from, 0), load64(from, length-8)
			binary.LittleEndian.PutUint64(to, x)
			binary.LittleEndian.PutUint64(to[length-8:], y)
		case length >= 4:
			x, y := load32(from, 0), load32(from, length-4)
			binary.LittleEndian.PutUint32(to, x)
			binary.LittleEndian.PutUint32(to[length-4:], y)
		default:
			to[0], to[1], to[2] = from[0], from[1], from[2]
		}
		pos += length
	}
	d.pos, d.in = pos, in[i:]
	d.acc, d.nacc = acc&(1<<nacc-1), uint8(nacc)
}

// repeat copies length bytes from distance before pos, up to end, and returns
// where it got and how many are missing.
func (d *Decoder) repeat(pos, end, length, distance int) (newPos, missing int) {
	n := min(length, end-pos)
	missing = length - n
	from := pos - distance
	if from < 0 {
		// They begin at the end of the ring. These lie behind pos, so
		// that those copied first are not those to copy later.
		from += len(d.ring)
		k := min(n, len(d.ring)-from)
		copy(d.ring[pos:pos+k], d.ring[from:])
		pos += k
		n -= k
		from = 0
	}
	// Where the bytes overlap, each round has twice as many to copy from.
	for n > 0 {
		k := copy(d.ring[pos:pos+n], d.ring[from:pos])
		pos += k
		n -= k
	}
	return pos, missing
}
