package deflate

import (
	"encoding/binary"
	"errors"
	"math"
	"sync"

	"github.com/sockeye-ws/websocket/internal/bufpool"
)

// A CorruptError says in what way a message is not what RFC 1951 and RFC 7692
// define. It holds nothing of the message.
type CorruptError string

func (e CorruptError) Error() string { return "deflate: " + string(e) }

const (
	errType     = CorruptError("no such type of block")
	errStored   = CorruptError("the length of a stored block and its complement differ")
	errCounts   = CorruptError("too many codes")
	errRepeat   = CorruptError("a repeated code length that does not fit")
	errCode     = CorruptError("a code with too many or too few code words")
	errNoEnd    = CorruptError("a code without an end of the block")
	errSymbol   = CorruptError("a code word without a meaning")
	errDistance = CorruptError("a reference to before the window")
	errEnd      = CorruptError("the message does not end with an empty block")
)

// ErrTooLong is returned by Append for a message that is longer than permitted.
var ErrTooLong = errors.New("deflate: message too long")

var errReleased = errors.New("deflate: released")

// A Decoder decompresses the messages of one direction of a connection. Init must
// be called first. It is not safe for use by several goroutines at once.
type Decoder struct {
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

// Init sets the size of the peer's window, 2^bits bytes, and whether messages may
// refer to earlier ones. It panics if bits is not within MinBits and MaxBits: that
// is for the handshake to check.
func (d *Decoder) Init(bits int, takeover bool) {
	checkBits(bits)
	*d = Decoder{bits: uint8(bits), takeover: takeover}
}

// Next reads the next part of a message. It returns what that decompresses to, no
// more than limit bytes, and how many bytes of src it took. With a limit of at
// least 1 it returns no output only if it took all of src and needs more to go on:
// so it is to be called, with what is left of src, until there is none. src may
// end anywhere. out is valid until the next call, and must not be changed.
//
// Together with an error comes what was good before it. After an error all calls
// return the same.
func (d *Decoder) Next(src []byte, limit int) (out []byte, n int, err error) {
	if d.err != nil {
		return nil, 0, d.err
	}
	if limit <= 0 || len(src) == 0 && d.nacc == 0 && d.left == 0 {
		return nil, 0, nil // without room, or with nothing to fill it
	}
	if d.pos == len(d.ring) {
		d.turn(len(src))
	}
	from, end := d.pos, len(d.ring)
	if end-from > limit {
		end = from + limit
	}
	d.in = src
	d.err = d.run(end)
	n = len(src) - len(d.in)
	d.in = nil
	if d.err != nil {
		d.returnCodes()
	}
	return d.ring[from:d.pos], n, d.err
}

// Append reads the next part of a message, all of src, and appends what it
// decompresses to. If that is more than limit bytes, it stops there with
// ErrTooLong, and the message cannot be gone on with.
func (d *Decoder) Append(dst, src []byte, limit int) ([]byte, error) {
	for {
		most := max(limit, 0)
		if most < math.MaxInt {
			most++ // to see whether there is more
		}
		out, n, err := d.Next(src, most)
		if len(out) > limit {
			d.err = ErrTooLong
			d.returnCodes()
			return dst, d.err
		}
		dst = append(dst, out...)
		limit -= len(out)
		if err != nil || len(out) == 0 {
			return dst, err
		}
		src = src[n:]
	}
}

// End ends a message, all output of which Next has returned. With the four bytes
// that the sender has left off it must end exactly where a block ends; and as
// these bytes are the length of an empty stored block, nothing else is accepted
// in which they might mean something.
func (d *Decoder) End() error {
	if d.err == nil && (d.state != atLength || d.nacc > 0) {
		d.err = errEnd
	}
	if d.err != nil {
		d.Release()
		return d.err
	}
	d.state = atBlock
	d.leave()
	d.returnCodes()
	if !d.takeover {
		d.forget()
	}
	return nil
}

// Release gives back what is borrowed, when the connection is at its end.
func (d *Decoder) Release() {
	d.returnCodes()
	d.forget()
	if d.err == nil {
		d.err = errReleased
	}
}

// forget empties the window.
func (d *Decoder) forget() {
	bufpool.Put(d.lent)
	d.lent, d.ring, d.pos, d.full = nil, nil, 0, false
}

const smallRing = 1 << MinBits

// turn makes room behind pos, which is the end of the ring: by making the ring
// larger, as long as it is smaller than the window, or by beginning at its start
// again. n is how much input there is. A ring that is kept should be no larger
// than needed; one that is lent for the time of a message only not be out of all
// proportion to what has come of that.
func (d *Decoder) turn(n int) {
	size := 1 << d.bits
	if len(d.ring) >= size {
		d.pos, d.full = 0, true
		return
	}
	if d.takeover {
		grown := max(2*len(d.ring), smallRing)
		for grown < 2*n && grown < size {
			grown *= 2
		}
		ring := make([]byte, min(grown, size))
		copy(ring, d.ring)
		d.ring = ring
		return
	}
	lent := bufpool.Get(min(max(4*len(d.ring), 16*min(n, size)), size))
	copy(lent.B, d.ring)
	bufpool.Put(d.lent)
	d.lent, d.ring = lent, lent.B
}

var ownCodes = sync.Pool{New: func() any { return new(codes) }}

func (d *Decoder) returnCodes() {
	if d.own != nil {
		ownCodes.Put(d.own)
		d.own = nil
	}
}

// run goes on until there is no more input or the ring is filled up to end.
func (d *Decoder) run(end int) error {
	for {
		switch d.state {
		case atBlock:
			if !d.need(headBits) {
				return nil
			}
			head := d.take(headBits)
			d.last = head&1 != 0
			switch head >> 1 {
			case typeStored:
				d.align()
				d.state = atLength
			case typeFixed:
				d.fixed, d.state = true, inBody
			case typeOwn:
				d.fixed, d.state = false, atCounts
			default:
				return errType
			}
		case atLength:
			if !d.need(32) {
				return nil
			}
			n, complement := d.take(16), d.take(16)
			if n != ^complement&0xffff {
				return errStored
			}
			d.left, d.state = int(n), inStored
		case inStored:
			d.stored(end)
			if d.left > 0 {
				return nil
			}
			d.leave()
		case inBody:
			ended, err := d.body(end)
			if err != nil || !ended {
				return err
			}
			d.leave()
		default:
			if ready, err := d.preamble(); err != nil || !ready {
				return err
			}
		}
	}
}

// leave ends a block.
func (d *Decoder) leave() {
	d.state = atBlock
	if d.last {
		// Whoever sends a last block and goes on (RFC 7692 §7.2.3.4)
		// begins with a whole byte, as the stream was over.
		d.align()
	}
	d.last = false
}

// need reports whether there are n bits in acc, at most 32, and takes more from
// the input.
func (d *Decoder) need(n uint8) bool {
	if d.nacc < n {
		d.fill()
	}
	return d.nacc >= n
}

// fill takes as much of the input as acc has room for.
func (d *Decoder) fill() {
	if len(d.in) >= 8 {
		d.acc |= binary.LittleEndian.Uint64(d.in) << (d.nacc & 63)
		d.in = d.in[(63-d.nacc)>>3:]
		d.nacc |= 56
		d.acc &= 1<<d.nacc - 1
		return
	}
	for d.nacc < 56 && len(d.in) > 0 {
		d.acc |= uint64(d.in[0]) << d.nacc
		d.in = d.in[1:]
		d.nacc += 8
	}
}

func (d *Decoder) take(n uint8) uint32 {
	v := uint32(d.acc & (1<<n - 1))
	d.acc >>= n
	d.nacc -= n
	return v
}

// align skips what is left of a byte.
func (d *Decoder) align() { d.take(d.nacc & 7) }

// stored copies what there is of a stored block.
func (d *Decoder) stored(end int) {
	for d.nacc > 0 && d.left > 0 && d.pos < end {
		d.ring[d.pos] = byte(d.take(8))
		d.pos++
		d.left--
	}
	if d.nacc == 0 {
		n := copy(d.ring[d.pos:end], d.in[:min(d.left, len(d.in))])
		d.in = d.in[n:]
		d.pos += n
		d.left -= n
	}
}

// preamble reads the codes of a block (RFC 1951 §3.2.7). It reports false if there
// is not enough input yet.
func (d *Decoder) preamble() (ready bool, err error) {
	if d.own == nil {
		d.own = ownCodes.Get().(*codes)
	}
	c := d.own
	if d.state == atCounts {
		if !d.need(14) {
			return false, nil
		}
		c.nlit = firstLength + int(d.take(5))
		ndist := 1 + int(d.take(5))
		c.npre = 4 + int(d.take(4))
		if c.nlit > litSymbols || ndist > distSymbols {
			return false, errCounts
		}
		c.all, c.have = c.nlit+ndist, 0
		clear(c.lens[:])
		d.state = inPre
	}
	if d.state == inPre {
		for ; c.have < c.npre; c.have++ {
			if !d.need(3) {
				return false, nil
			}
			c.lens[preOrder[c.have]] = uint8(d.take(3))
		}
		if !c.litCodes.read(c.pre[:], c.lens[:preSlots], preMeaning[:]) {
			return false, errCode
		}
		clear(c.lens[:preSymbols])
		c.have = 0
		d.state = inLengths
	}
	last := uint64(noLast)
	if c.have > 0 {
		last = uint64(c.lens[c.have-1])
	}
	for c.have < c.all {
		if d.nacc < maxPreLen+7 {
			d.fill()
		}
		// Bits that have not come are zeros here: where they matter, more
		// are used than have come.
		e := c.pre[d.acc&(1<<preBits-1)]
		if uint(d.nacc) < e.used() {
			return false, nil
		}
		if e&isSpecial != 0 {
			return false, errSymbol
		}
		// What it says is hard to guess, and so is not asked.
		n := e.number(d.acc)
		times := n & 0xff
		last = uint64(n>>8&maxCodeLen) | last&-uint64(n>>12)
		if last > maxCodeLen || times > c.all-c.have {
			return false, errRepeat
		}
		d.drop(e.used())
		// There are zeros, but for what this has written too much before.
		binary.LittleEndian.PutUint64(c.lens[c.have:c.have+word], last*0x0101010101010101)
		c.have += times
	}
	clear(c.distLens[:])
	copy(c.distLens[:], c.lens[c.nlit:c.all])
	clear(c.lens[c.nlit : c.all+word])
	lit, dist := c.lens[:fixedLitSymbols], c.distLens[:]
	if lit[endOfBlock] == 0 {
		return false, errNoEnd
	}
	if !c.litCodes.read(c.lit[:], lit, litMeaning[:]) || !c.distCodes.read(c.dist[:], dist, distMeaning[:]) {
		return false, errCode
	}
	d.state = inBody
	return true, nil
}

// noLast is not a length: there is none to repeat.
const noLast = maxCodeLen + 1
