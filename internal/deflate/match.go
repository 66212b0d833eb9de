package deflate

import (
	"encoding/binary"
	"math"
	"math/bits"
)

const (
	// hashed is how many bytes are looked up at once, with which a word is
	// loaded. That they are one more than must be the same makes what is
	// found longer on the whole.
	hashed = 5
	word   = 8
	// found is the shortest repetition that is taken.
	found = 4
	// maxBlock and maxTokens bound what one block holds.
	maxBlock  = 32 << 10
	maxTokens = 16<<10 - spareTokens
	// spareTokens is how many more there may be at once: the most that a
	// repetition takes, and a few that are written and not counted.
	spareTokens = 2*maxBlock/longest + 10
	// patience is after how many bytes without a repetition, 2^patience, the fast
	// search takes longer steps; and eager after how many it leaves some out, if
	// the message refers to nothing before it.
	patience = 7
	eager    = 256
)

// A table remembers at which position bytes of some hash stood last. It is never
// cleared, and never told that something was taken back: positions count on from
// message to message and wrap, so that most of what is out of date is too far
// away, and whatever a table says is compared with what is there.
type table []uint16

func (t table) shift() uint { return uint(65 - bits.Len(uint(len(t)))) }

// hash depends on the lowest bytes of a word.
func hash(x uint64, shift uint) uint {
	return uint(x << (8 * (word - hashed)) * 0x9e3779b97f4a7c15 >> (shift & 63))
}

func load32(b []byte, i int) uint32 { return binary.LittleEndian.Uint32(b[i : i+4]) }
func load64(b []byte, i int) uint64 { return binary.LittleEndian.Uint64(b[i : i+8]) }

// A source is what repetitions are looked for in: bytes that the peer has, and
// behind them those that it is to get. Nothing before the first is referred to.
type source struct {
	bytes []byte
	base  uint16 // the position of the first
	size  int    // of the window
}

// enter puts the bytes from..to into the table, for fast, without looking anything
// up.
func (t table) enter(s source, from, to int) {
	shift := t.shift()
	for i := from; i+word <= to; i++ {
		t[hash(load64(s.bytes, i), shift)] = s.base + uint16(i)
	}
}

// same is how many bytes at i and at j are the same, i being the later, before
// the end of b.
func same(b []byte, i, j int) int {
	start := i
	for i+16 <= len(b) {
		// Whether the first eight are the same is hard to guess, and
		// few are as long as both.
		x, y := load64(b, i)^load64(b, j), load64(b, i+8)^load64(b, j+8)
		n := 0
		if x == 0 {
			x, n = y, 8
		}
		if x != 0 {
			return i + n - start + bits.TrailingZeros64(x)>>3
		}
		i += 16
		j += 16
	}
	for i < len(b) && b[i] == b[j] {
		i++
		j++
	}
	return i - start
}

// repeat adds to the block the bytes from..to of b, and then a repetition, which
// may have any length. It reports false, and adds nothing, if that is too much for
// one block. Eight bytes behind the position to are in b.
func (w *writer) repeat(b []byte, from, to, length, distance int) bool {
	n := w.made
	if to-from > maxTokens-n {
		return false
	}
	for i := from; ; i += 8 {
		// How many there are is hard to guess: those that are too many
		// are written over.
		x := load64(b, i)
		k := n + i - from
		t := (*[8]token)(w.tokens[k : k+8])
		t[0], t[1], t[2], t[3] = token(x&0xff), token(x>>8&0xff), token(x>>16&0xff), token(x>>24&0xff)
		t[4], t[5], t[6], t[7] = token(x>>32&0xff), token(x>>40&0xff), token(x>>48&0xff), token(x>>56)
		if i+8 >= to {
			break
		}
	}
	n += to - from
	dist := distToken(distance)
	for length > longest {
		k := longest
		if length < longest+shortest {
			k = length - shortest // so that what is left is not too short
		}
		w.tokens[n], w.tokens[n+1] = lengthTokens[k-shortest], dist
		n += 2
		length -= k
	}
	w.tokens[n], w.tokens[n+1] = lengthTokens[uint8(length-shortest)], dist
	w.made = n + 2
	return true
}

// rest adds as many of the bytes as there is room for in the block, and returns
// how many.
func (w *writer) rest(plain []byte) int {
	tokens := w.tokens[w.made:]
	plain = plain[:min(len(plain), len(tokens))]
	tokens = tokens[:len(plain)] // so that no index needs a check
	for i, c := range plain {
		tokens[i] = token(c)
	}
	w.made += len(plain)
	return len(plain)
}

// fast makes the tokens for the bytes from..to, or as many of them as fit into a
// block, and returns before which it stops. It takes the first repetition that
// the table knows, looks at every other position, and at fewer and fewer where
// there is none; those in between it only remembers. The last few bytes it finds
// only at the end of one.
func (w *writer) fast(t table, s source, from, to int) (end int) {
	b, base, farthest := s.bytes[:to], s.base, s.size-1
	shift := t.shift()
	done := from               // what the tokens hold so far
	last := len(b) - word - 1  // so that there is a word at i+1, too
	for i := max(from, 1); ; { // before the first there is nothing
		// What the table says is out of date, too far away, other bytes
		// with the same hash, or a repetition: that is hard to guess, and
		// so nothing is asked but whether one of two is a repetition.
		// Instead of what is too far away, the bytes are compared with
		// those that are as far away as may be.
		var j int
		for ; ; i += 4 + (i-done)>>patience {
			if i > last {
				return done + w.rest(b[done:])
			}
			x := load64(b, i)
			h, h2 := hash(x, shift), hash(x>>16, shift)
			at := base + uint16(i)
			// Distances less 1.
			d, d2 := at-1-t[h], at+1-t[h2]
			t[h], t[h2] = at, at+2
			t[hash(x>>8, shift)] = at + 1
			t[hash(x>>24, shift)] = at + 3
			far := min(i-1, farthest)
			nearer, nearer2 := int(d)-far, int(d2)-far
			j = i - 1 - far - nearer&(nearer>>31)
			k := i + 1 - far - nearer2&(nearer2>>31)
			diff := load32(b, int(uint32(j))) ^ uint32(x)
			diff2 := load32(b, int(uint32(k))) ^ uint32(x>>16)
			if uint64(diff)*uint64(diff2) == 0 {
				second := int((uint64(diff) + math.MaxUint32) >> 32) // 1, or 0 if it is the first
				i += 2 * second
				j += (k - j) & -second
				break
			}
		}
		end := i + found + same(b, i+found, j+found)
		n := before(b, i, j, done)
		if !w.repeat(b, done, i-n, end-i+n, i-j) {
			return done + w.rest(b[done:])
		}
		i, done = end, end
		if i <= last {
			t[hash(load64(b, i-2), shift)] = base + uint16(i-2)
		}
	}
}

// fastAlone is fast for the first block of a message that refers to nothing before
// it, and to all of that block. All that the table has are positions in b, as it was
// clear at first: so there is less to ask.
func (w *writer) fastAlone(t *loneTable, b []byte) (end int) {
	const shift = 64 - loneBits
	done := 0
	last := len(b) - word - 1
	for i := 1; ; {
		var j int
		limit := min(last, i+eager)
		for ; ; i += 4 {
			if i > limit {
				i += (i - done) / 16
				if i > last {
					return done + w.rest(b[done:])
				}
				limit = min(last, i+eager/8)
			}
			x := load64(b, i)
			h, h2 := hash(x, shift), hash(x>>16, shift)
			j = int(t[h])
			k := int(t[h2])
			t[h], t[h2] = uint16(i), uint16(i+2)
			t[hash(x>>8, shift)] = uint16(i + 1)
			t[hash(x>>24, shift)] = uint16(i + 3)
			if load32(b, j) == uint32(x) {
				break
			}
			if load32(b, k) == uint32(x>>16) {
				i += 2
				j = k
				break
			}
		}
		end, from := i+found, j+found
		if end+16 <= len(b) {
			// As in same, without a call.
			if x := load64(b, end) ^ load64(b, from); x != 0 {
				end += bits.TrailingZeros64(x) >> 3
			} else if x := load64(b, end+8) ^ load64(b, from+8); x != 0 {
				end += 8 + bits.TrailingZeros64(x)>>3
			} else {
				end += 16 + same(b, end+16, from+16)
			}
		} else {
			end += same(b, end, from)
		}
		n := 0
		if j >= 8 {
			n = min(bits.LeadingZeros64(load64(b, i-8)^load64(b, j-8))>>3, i-done)
		}
		if !w.repeat(b, done, i-n, end-i+n, i-j) {
			return done + w.rest(b[done:])
		}
		i, done = end, end
		if i <= last {
			t[hash(load64(b, i-2), shift)] = uint16(i - 2)
		}
	}
}

// before is how many bytes before i and before j are the same, i being the later,
// of those from start on before i.
func before(b []byte, i, j, start int) int {
	if j < 8 {
		n := 0
		for n < j && i-n > start && b[i-n-1] == b[j-n-1] {
			n++
		}
		return n
	}
	x := load64(b, i-8) ^ load64(b, j-8)
	return min(bits.LeadingZeros64(x)>>3, i-start)
}

// ways is how many positions of one hash the better search remembers.
const ways = 4

// enterWays is enter for the better search.
func (t table) enterWays(s source, from, to int) {
	shift := t.shift() + 2
	for i := from; i+word <= to; i++ {
		t.remember(hash(load64(s.bytes, i), shift), s.base+uint16(i))
	}
}

// bucket is where positions of a hash are, the latest first.
func (t table) bucket(h uint) *[ways]uint16 {
	return (*[ways]uint16)(t[h*ways:])
}

func (t table) remember(h uint, at uint16) {
	p := t.bucket(h)
	p[3], p[2], p[1], p[0] = p[2], p[1], p[0], at
}

// better is fast with several candidates for each position, a look at whether
// the next position has a longer repetition, and no position left out.
func (w *writer) better(t table, s source, from, to int) (end int) {
	const enough = 64 // a repetition not to look further for
	b := s.bytes[:to]
	shift := t.shift() + 2
	done := from
	find := func(i int) (length, distance int) {
		x := load64(b, i)
		h := hash(x, shift)
		at := s.base + uint16(i)
		for _, p := range t.bucket(h) {
			d := int(at - p)
			if uint(d-1) >= uint(min(s.size, i)) || load32(b, i-d) != uint32(x) {
				continue
			}
			if n := same(b, i, i-d); n > length {
				length, distance = n, d
			}
		}
		t.remember(h, at)
		return length, distance
	}
	for i := from; i+word <= len(b); {
		n, d := find(i)
		i++
		if n == 0 {
			continue
		}
		for n < enough && i+word <= len(b) {
			next, dist := find(i)
			if next <= n {
				break
			}
			n, d = next, dist
			i++
		}
		i--
		if !w.repeat(b, done, i, n, d) {
			break
		}
		done = i + n
		// Position i, and perhaps i+1, has been entered: twice does no harm.
		t.enterWays(source{b, s.base, s.size}, i+1, min(done+word-1, len(b)))
		i = done
	}
	return done + w.rest(b[done:])
}
