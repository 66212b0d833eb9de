package deflate

import (
	"encoding/binary"
	"sync"

	"github.com/sockeye-ws/websocket/internal/bufpool"
)

// A reader takes the blocks of messages apart. With context takeover a connection
// keeps one, as it has the window; otherwise it is borrowed for the time of a
// message.
type reader struct {
	in  []byte // during a call: what is left of its input
	acc uint64 // bits taken from the input, the next one lowest
	err error

	// The ring holds the last bytes of output. As long as it is not full it
	// may be smaller than the window, and grows; the last one that is lent may
	// be larger.
	ring []byte
	pos  int // where the next byte goes
	full bool
	lent *bufpool.Buf // the ring lies in it
	own  *codes       // of the block, borrowed for the time of a message

	left     int // bytes to come of a stored block, or of a repetition
	distance int // of that repetition
	state    state
	last     bool // the block has the bit of a last one
	fixed    bool // it has the fixed codes
	takeover bool
	bits     uint8
	nacc     uint8
}

// A state is what the next bits are.
type state uint8

const (
	atBlock   state = iota // a block, or nothing more
	atLength               // of a stored block
	inStored               // its bytes
	atCounts               // of the codes of a block
	inPre                  // lengths of the code in which code lengths are written
	inLengths              // of the codes
	inBody                 // of a block with codes
)

var readers = sync.Pool{New: func() any { return new(reader) }}

func borrowReader(bits uint8, takeover bool) *reader {
	r := readers.Get().(*reader)
	r.bits, r.takeover = bits, takeover
	return r
}

func returnReader(r *reader) {
	r.returnCodes()
	r.forget()
	*r = reader{}
	readers.Put(r)
}

// next is Decoder.Next.
func (r *reader) next(src []byte, limit int) (out []byte, n int, err error) {
	if r.err != nil {
		return nil, 0, r.err
	}
	if limit <= 0 || len(src) == 0 && r.nacc == 0 && r.left == 0 {
		return nil, 0, nil // without room, or with nothing to fill it
	}
	if r.pos == len(r.ring) {
		r.turn(len(src))
	}
	from, end := r.pos, len(r.ring)
	if end-from > limit {
		end = from + limit
	}
	r.in = src
	err = r.run(end)
	n = len(src) - len(r.in)
	r.in = nil
	if err != nil {
		_ = r.fail(err)
	}
	return r.ring[from:r.pos], n, err
}

// fail makes err what all calls return from now on.
func (r *reader) fail(err error) error {
	r.err = err
	r.returnCodes()
	return err
}

// end is Decoder.End.
func (r *reader) end() error {
	if r.err == nil && (r.state != atLength || r.nacc > 0) {
		r.err = errEnd
	}
	r.returnCodes()
	if r.err != nil {
		r.forget()
		return r.err
	}
	r.state = atBlock
	r.leave()
	return nil
}

// forget empties the window.
func (r *reader) forget() {
	bufpool.Put(r.lent)
	r.lent, r.ring, r.pos, r.full = nil, nil, 0, false
}

const smallRing = 1 << MinBits

// turn makes room behind pos, which is the end of the ring: by making the ring
// larger, as long as it is smaller than the window, or by beginning at its start
// again. n is how much input there is. A ring that is kept should be no larger
// than needed; one that is lent for the time of a message only not be out of all
// proportion to what has come of that.
func (r *reader) turn(n int) {
	size := 1 << r.bits
	if len(r.ring) >= size {
		r.pos, r.full = 0, true
		return
	}
	if r.takeover {
		grown := max(2*len(r.ring), smallRing)
		for grown < 2*n && grown < size {
			grown *= 2
		}
		ring := make([]byte, min(grown, size))
		copy(ring, r.ring)
		r.ring = ring
		return
	}
	lent := bufpool.Get(min(max(4*len(r.ring), 16*min(n, size)), size))
	copy(lent.B, r.ring)
	bufpool.Put(r.lent)
	r.lent, r.ring = lent, lent.B
}

var ownCodes = sync.Pool{New: func() any { return new(codes) }}

func (r *reader) returnCodes() {
	if r.own != nil {
		ownCodes.Put(r.own)
		r.own = nil
	}
}

// run goes on until there is no more input or the ring is filled up to end.
func (r *reader) run(end int) error {
	for {
		switch r.state {
		case atBlock:
			if !r.need(headBits) {
				return nil
			}
			head := r.take(headBits)
			r.last = head&1 != 0
			switch head >> 1 {
			case typeStored:
				r.align()
				r.state = atLength
			case typeFixed:
				r.fixed, r.state = true, inBody
			case typeOwn:
				r.fixed, r.state = false, atCounts
			default:
				return errType
			}
		case atLength:
			if !r.need(32) {
				return nil
			}
			n, complement := r.take(16), r.take(16)
			if n != ^complement&0xffff {
				return errStored
			}
			r.left, r.state = int(n), inStored
		case inStored:
			r.stored(end)
			if r.left > 0 {
				return nil
			}
			r.leave()
		case inBody:
			ended, err := r.body(end)
			if err != nil || !ended {
				return err
			}
			r.leave()
		default:
			if ready, err := r.preamble(); err != nil || !ready {
				return err
			}
		}
	}
}

// leave ends a block.
func (r *reader) leave() {
	r.state = atBlock
	if r.last {
		// Whoever sends a last block and goes on (RFC 7692 §7.2.3.4)
		// begins with a whole byte, as the stream was over.
		r.align()
	}
	r.last = false
}

// need reports whether there are n bits in acc, at most 32, and takes more from
// the input.
func (r *reader) need(n uint8) bool {
	if r.nacc < n {
		r.fill()
	}
	return r.nacc >= n
}

// fill takes as much of the input as acc has room for.
func (r *reader) fill() {
	if len(r.in) >= 8 {
		r.acc |= binary.LittleEndian.Uint64(r.in) << (r.nacc & 63)
		r.in = r.in[(63-r.nacc)>>3:]
		r.nacc |= 56
		r.acc &= 1<<r.nacc - 1
		return
	}
	for r.nacc < 56 && len(r.in) > 0 {
		r.acc |= uint64(r.in[0]) << r.nacc
		r.in = r.in[1:]
		r.nacc += 8
	}
}

func (r *reader) take(n uint8) uint32 {
	v := uint32(r.acc & (1<<n - 1))
	r.acc >>= n
	r.nacc -= n
	return v
}

// align skips what is left of a byte.
func (r *reader) align() { r.take(r.nacc & 7) }

// stored copies what there is of a stored block.
func (r *reader) stored(end int) {
	for r.nacc > 0 && r.left > 0 && r.pos < end {
		r.ring[r.pos] = byte(r.take(8))
		r.pos++
		r.left--
	}
	if r.nacc == 0 {
		n := copy(r.ring[r.pos:end], r.in[:min(r.left, len(r.in))])
		r.in = r.in[n:]
		r.pos += n
		r.left -= n
	}
}

// preamble reads the codes of a block (RFC 1951 §3.2.7). It reports false if there
// is not enough input yet.
func (r *reader) preamble() (ready bool, err error) {
	if r.own == nil {
		r.own = ownCodes.Get().(*codes)
	}
	c := r.own
	if r.state == atCounts {
		if !r.need(14) {
			return false, nil
		}
		c.nlit = firstLength + int(r.take(5))
		ndist := 1 + int(r.take(5))
		c.npre = 4 + int(r.take(4))
		if c.nlit > litSymbols || ndist > distSymbols {
			return false, errCounts
		}
		c.all, c.have = c.nlit+ndist, 0
		clear(c.lens[:])
		r.state = inPre
	}
	if r.state == inPre {
		for ; c.have < c.npre; c.have++ {
			if !r.need(3) {
				return false, nil
			}
			c.lens[preOrder[c.have]] = uint8(r.take(3))
		}
		c.litCodes.tally(c.lens[:preSlots])
		if !c.litCodes.build(c.pre[:], c.lens[:preSlots], preMeaning[:]) {
			return false, errCode
		}
		clear(c.litCodes.count[:])
		clear(c.lens[:preSymbols])
		c.have = 0
		r.state = inLengths
	}
	if ready, err := r.lengths(c); err != nil || !ready {
		return false, err
	}
	clear(c.distLens[:])
	copy(c.distLens[:], c.lens[c.nlit:c.all])
	clear(c.lens[c.nlit : c.all+word])
	lit, dist := c.lens[:fixedLitSymbols], c.distLens[:]
	if lit[endOfBlock] == 0 {
		return false, errNoEnd
	}
	c.distCodes.tally(dist)
	for n, of := range c.distCodes.count {
		c.litCodes.count[n] -= of
	}
	if !c.litCodes.build(c.lit[:], lit, litMeaning[:]) || !c.distCodes.build(c.dist[:], dist, distMeaning[:]) {
		return false, errCode
	}
	r.state = inBody
	return true, nil
}

// lengths reads and counts the lengths of the codes, of both as if they were one.
func (r *reader) lengths(c *codes) (ready bool, err error) {
	in, acc, nacc := r.in, r.acc, uint(r.nacc)
	have, last := c.have, uint64(noLast)
	if have > 0 {
		last = uint64(c.lens[have-1])
	}
	for have < c.all {
		if nacc < maxPreLen+7 {
			if len(in) >= 8 {
				acc |= load64(in, 0) << (nacc & 63)
				in = in[(63-nacc)>>3:]
				nacc |= 56
			} else {
				for ; len(in) > 0 && nacc < 56; nacc += 8 {
					acc |= uint64(in[0]) << nacc
					in = in[1:]
				}
			}
		}
		e := c.pre[acc&(1<<preBits-1)]
		if nacc < e.used() {
			break
		}
		if e&isSpecial != 0 {
			err = errSymbol
			break
		}
		// What it says is hard to guess, and so is not asked.
		n := e.number(acc)
		times := n & 0xff
		last = uint64(n>>8&maxCodeLen) | last&-uint64(n>>12)
		if last > maxCodeLen || times > c.all-have {
			err = errRepeat
			break
		}
		acc >>= e.used()
		nacc -= e.used()
		c.litCodes.count[last] += uint16(times)
		// There are zeros, but for what this has written too much before.
		binary.LittleEndian.PutUint64(c.lens[have:have+word], last*0x0101010101010101)
		have += times
	}
	r.in, r.acc, r.nacc = in, acc&(1<<nacc-1), uint8(nacc)
	c.have = have
	return have == c.all, err
}

// noLast is not a length: there is none to repeat.
const noLast = maxCodeLen + 1
