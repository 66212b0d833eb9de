package deflate

// A preamble is how a block tells the codes that it uses (RFC 1951 §3.2.7): the
// lengths of all codes, with runs of the same length put together, in a third
// code, of which the lengths come first.
type preamble struct {
	alphabet
	runs  [litSymbols + distSymbols + 8]token
	told  int // of runs
	nlit  int // how many lengths of each code are told
	ndist int
	npre  int
}

const (
	repeatLast  = 16 // the length before, 3 to 6 times
	repeatZero  = 17 // zero, 3 to 10 times
	repeatZeros = 18 // zero, 11 to 138 times
)

var runExtra = [preSymbols]uint8{repeatLast: 2, repeatZero: 3, repeatZeros: 7}

// plan finds the best codes for what count has counted, and returns how many
// bits the block takes with them, besides its first three.
func (w *writer) plan() (bits int) {
	bits = w.lits.lengths(maxCodeLen, &w.lens) + w.dists.lengths(maxCodeLen, &w.lens)
	p := &w.pre
	p.nlit = w.lits.last(endOfBlock) + 1
	p.ndist = w.dists.last(firstDist) + 1 - firstDist
	p.told = 0
	// The two are told as if they were one.
	next := p.tell(&w.lits, &w.lens, 0)
	next = p.tell(&w.dists, &w.lens, firstDist-p.nlit+next)
	p.zeros(firstDist + p.ndist - next)
	for _, r := range p.runs[:p.told] {
		w.freq[r&symbolMask]++
	}

	clear(w.lens[firstPre : firstPre+preSymbols])
	p.alphabet.take(w.freq[firstPre:firstPre+preSlots], firstPre)
	bits += p.alphabet.lengths(maxPreLen, &w.lens)
	for p.npre = preSymbols; p.npre > 4 && w.lens[firstPre+int(preOrder[p.npre-1])] == 0; {
		p.npre--
	}
	return bits + 5 + 5 + 4 + 3*p.npre
}

// last is the last symbol that occurs, at least s.
func (a *alphabet) last(s int) int {
	if n := len(a.used); n > 0 {
		return max(s, int(a.used[n-1]&symbolMask))
	}
	return s
}

// tell adds the lengths of a code, if those of the symbols before next are told,
// and returns before which they are told then: zeros at the end are not.
func (p *preamble) tell(a *alphabet, lens *[allSymbols]uint8, next int) int {
	last, same := uint8(0), 0
	for _, u := range a.used {
		s := int(u & symbolMask)
		gap := s - next
		next = s + 1
		if gap >= len(fewZeros) {
			p.zeros(gap)
		} else {
			// How many, if any, is hard to guess.
			z := &fewZeros[gap]
			p.runs[p.told], p.runs[p.told+1] = z.runs[0], z.runs[1]
			p.told += z.n
		}
		// same is how often the last length has been repeated. It is 0 if
		// this is another one, or not the next, and one more if it is.
		l := lens[s]
		same = (same + 1) & (((gap | int(l^last)) - 1) >> 31)
		last = l
		p.add(int(l), 0)
		if same >= 3 {
			p.told--
			if same == 3 {
				p.told -= 2
				p.add(repeatLast, 0)
			} else {
				p.runs[p.told-1] += newToken(0, 1)
			}
			if same == 6 {
				same = 0
			}
		}
	}
	return next
}

// fewZeros has, for as many lengths of 0, how they are told.
var fewZeros = func() (t [11]struct {
	runs [2]token
	n    int
}) {
	for gap := range t {
		var p preamble
		p.zeros(gap)
		copy(t[gap].runs[:], p.runs[:p.told])
		t[gap].n = p.told
	}
	return t
}()

// zeros adds n lengths of 0.
func (p *preamble) zeros(n int) {
	for n >= 11 {
		k := min(n, 138)
		p.add(repeatZeros, k-11)
		n -= k
	}
	if n >= 3 {
		p.add(repeatZero, n-3)
		return
	}
	for range n {
		p.add(0, 0)
	}
}

func (p *preamble) add(symbol int, extra int) {
	p.runs[p.told] = newToken(firstPre+symbol, extra)
	p.told++
}

func (p *preamble) write(w *writer) {
	w.putBits(uint64(p.nlit-firstLength)|uint64(p.ndist-1)<<5|uint64(p.npre-4)<<10, 5+5+4)
	lens := uint64(0)
	for i, s := range preOrder {
		lens |= uint64(w.lens[firstPre+int(s)]) << (3 * i)
	}
	half := min(3*uint(p.npre), 32)
	w.putBits(lens&(1<<half-1), half)
	w.putBits(lens>>half, 3*uint(p.npre)-half)
	p.assign(&w.codes, &w.lens)
	w.putTokens(p.runs[:p.told], &w.codes)
}

// count counts the symbols of the block, and returns what they take with the fixed
// codes, without the end of the block.
func (w *writer) count() (bits int) {
	clear(w.freq[:])
	for _, t := range w.tokens[:w.made] {
		w.freq[t&symbolMask]++
	}
	w.freq[endOfBlock] = 1
	w.lits.take(w.freq[:firstDist], 0)
	w.dists.take(w.freq[firstDist:firstPre], firstDist)
	return w.lits.fixedBits() + w.dists.fixedBits() - endBits
}

// estimate is about how many bits the block takes with codes of its own, found
// without making them: what the symbols are worth by their frequency, and some
// bits to tell each of the codes.
func (w *writer) estimate() int {
	const (
		begin  = 60
		symbol = 3
	)
	return begin + symbol*(len(w.lits.used)+len(w.dists.used)) + w.lits.estimate() + w.dists.estimate()
}
