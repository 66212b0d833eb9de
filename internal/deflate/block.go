package deflate

import (
	"encoding/binary"
	"slices"
	"sync"
)

// A writer makes the blocks of a message out of tokens. It is borrowed, with all
// the room that this takes.
type writer struct {
	out   []byte
	acc   uint64 // bits that are not in out yet, fewer than 8
	nacc  uint
	open  bool // the last block has the fixed codes and has not been ended
	start int  // where in out this call began
	most  int  // bytes that it may put there, the end of the message included

	// The block that is being made.
	made   int // tokens of it
	tokens [maxTokens + spareTokens]token
	freq   [allSymbols]uint16
	lens   [allSymbols]uint8 // of the codes, if a symbol occurs
	codes  codeTable
	lits   alphabet
	dists  alphabet
	pre    preamble
}

var writers = sync.Pool{New: func() any { return new(writer) }}

// Slack is how much more room than a message takes the encoder wants to have,
// so that it does not have to look after each code whether there is any.
const Slack = 16

// The types of blocks, RFC 1951 §3.2.3.
const (
	typeStored = 0
	typeFixed  = 1
	typeOwn    = 2
)

const (
	headBits = 3
	// endBits end a block with the fixed codes.
	endBits = 7
	// flushBits begin the empty block at the end of a message.
	flushBits = headBits
	// worthwhile is how many tokens a block has before it is worth to
	// think of other codes than the fixed ones: their lengths take 40 bytes
	// and more.
	worthwhile = 100
)

// put writes the block, which holds src, in the shortest way there is. It reports
// false, and writes nothing, if the message would become too long.
func (w *writer) put(src []byte) bool {
	// What ends the block that is open has to be written sooner or later.
	closing := 0
	if w.open {
		closing = endBits
	}
	cost, kind := endBits, typeFixed
	long := w.made > worthwhile
	if long {
		cost += w.count()
	} else {
		for _, t := range w.tokens[:w.made] {
			cost += int(fixedCodes[t&symbolMask].total())
		}
	}
	if !w.open {
		cost += headBits
	}
	pad := -(int(w.nacc) + closing + headBits) & 7
	if stored := closing + headBits + pad + 32 + 8*len(src); stored < cost {
		cost, kind = stored, typeStored
	}
	// Where the fixed codes make it shorter, others nearly always do so more.
	if long && (kind == typeFixed || w.estimate() < cost) {
		if own := closing + headBits + w.plan(); own < cost {
			cost, kind = own, typeOwn
		}
	}
	if !w.fits(cost + flushBits) {
		return false
	}
	if n := cost/8 + Slack; cap(w.out)-len(w.out) < n {
		w.out = slices.Grow(w.out, n)
	}
	switch kind {
	case typeStored:
		w.putStored(src)
	case typeFixed:
		w.putFixed(src)
	case typeOwn:
		w.putOwn(src)
	}
	return true
}

// fits reports whether so many more bits are within what the message may take.
func (w *writer) fits(bits int) bool {
	return len(w.out)-w.start+(int(w.nacc)+bits+7)/8 <= w.most
}

// putBits appends up to 32 bits.
func (w *writer) putBits(bits uint64, n uint) {
	w.acc |= bits << (w.nacc & 63)
	for w.nacc += n; w.nacc >= 8; w.nacc -= 8 {
		w.out = append(w.out, byte(w.acc))
		w.acc >>= 8
	}
}

func (w *writer) putCode(c code) { w.putBits(c.bits(), c.len()) }

// close ends the block that is open, if one is.
func (w *writer) close() {
	if w.open {
		w.putCode(fixedCodes[endOfBlock])
		w.open = false
	}
}

func (w *writer) putStored(src []byte) {
	w.close()
	w.putBits(typeStored<<1, headBits)
	w.align()
	w.out = binary.LittleEndian.AppendUint16(w.out, uint16(len(src)))
	w.out = binary.LittleEndian.AppendUint16(w.out, ^uint16(len(src)))
	w.out = append(w.out, src...)
}

// align fills the last byte up.
func (w *writer) align() {
	if w.nacc > 0 {
		w.putBits(0, 8-w.nacc)
	}
}

// putFixed leaves the block open: what comes next may go on in it.
func (w *writer) putFixed(src []byte) {
	if !w.open {
		w.putBits(typeFixed<<1, headBits)
		w.open = true
	}
	w.body(src, &fixedCodes)
}

func (w *writer) putOwn(src []byte) {
	w.close()
	w.putBits(typeOwn<<1, headBits)
	w.pre.write(w)
	w.lits.assign(&w.codes, &w.lens)
	w.dists.assign(&w.codes, &w.lens)
	w.body(src, &w.codes)
	w.putCode(w.codes[endOfBlock])
}

// body writes what a block holds.
func (w *writer) body(src []byte, codes *codeTable) {
	if w.made == len(src) {
		w.putPlain(src, codes) // there is no repetition
	} else {
		w.putTokens(w.tokens[:w.made], codes)
	}
}

// putPlain is putTokens for bytes, which have no extra bits.
func (w *writer) putPlain(src []byte, codes *codeTable) {
	out, at := w.out[:cap(w.out)], len(w.out)
	acc, nacc := w.acc, w.nacc
	for ; len(src) >= 4; src = src[4:] {
		c, d := codes[src[0]], codes[src[1]]
		x, n := c.bits()|d.bits()<<c.total(), c.total()+d.total()
		c, d = codes[src[2]], codes[src[3]]
		y, m := c.bits()|d.bits()<<c.total(), c.total()+d.total()
		acc |= x << (nacc & 63)
		if n+m > 56 {
			at, acc, nacc = spill(out, at, acc, nacc+n)
			n = 0
		}
		nacc += n
		acc |= y << (nacc & 63)
		at, acc, nacc = spill(out, at, acc, nacc+m)
	}
	w.out = out[:at]
	w.acc, w.nacc = acc, nacc
	for _, c := range src {
		w.putCode(codes[c])
	}
}

// putTokens writes tokens, of which no two together take more than 56 bits: a
// distance, which takes up to 28, does not follow another. There is room for them
// and for 8 bytes more.
func (w *writer) putTokens(tokens []token, codes *codeTable) {
	out, at := w.out[:cap(w.out)], len(w.out)
	acc, nacc := w.acc, w.nacc
	i := 0
	for ; i+4 <= len(tokens); i += 4 {
		// What is put behind acc has to wait for what was put there
		// before: so it is put together first. Four take more than 56
		// bits where there are two repetitions, at most.
		t := (*[4]token)(tokens[i : i+4])
		c, d := codes[t[0]&symbolMask], codes[t[1]&symbolMask]
		x, n := c.with(t[0])|d.with(t[1])<<c.total(), (c + d).total()
		c, d = codes[t[2]&symbolMask], codes[t[3]&symbolMask]
		y, m := c.with(t[2])|d.with(t[3])<<c.total(), (c + d).total()
		acc |= x << (nacc & 63)
		if n+m > 56 {
			at, acc, nacc = spill(out, at, acc, nacc+n)
			n = 0
		}
		nacc += n
		acc |= y << (nacc & 63)
		at, acc, nacc = spill(out, at, acc, nacc+m)
	}
	for _, t := range tokens[i:] {
		c := codes[t&symbolMask]
		acc |= c.with(t) << (nacc & 63)
		at, acc, nacc = spill(out, at, acc, nacc+c.total())
	}
	w.out = out[:at]
	w.acc, w.nacc = acc, nacc
}

// spill puts the whole bytes of acc at out[at:], and leaves less than one.
func spill(out []byte, at int, acc uint64, nacc uint) (int, uint64, uint) {
	binary.LittleEndian.PutUint64(out[at:at+8], acc)
	return at + int(nacc>>3), acc >> (nacc & 56), nacc & 7
}

// finish ends the message: an empty stored block, of which only the first byte
// is sent (RFC 7692 §7.2.1).
func (w *writer) finish() {
	w.close()
	w.putBits(typeStored<<1, headBits)
	w.align()
}
