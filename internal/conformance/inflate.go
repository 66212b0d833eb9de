package conformance

import (
	"strconv"
	"strings"
)

// An Inflater inflates the messages of one direction in the plainest way, one bit
// at a time, with the window that was agreed on and no byte more: a reference to
// what lies before it is an error. It shares nothing with the implementation but
// RFC 1951.
type Inflater struct {
	Bits     int    // the window is of 2^Bits bytes
	Takeover bool   // messages may refer to those before
	Farthest int    // the longest distance so far
	Blocks   [4]int // how many there were of each type

	in  []byte
	bit int
	out []byte // of all messages, or of the last one
}

const maxWindowBits = 15

type inflateError string

func (e inflateError) Error() string { return string(e) }

const errMoreInput = inflateError("more input")

func (r *Inflater) get(n int) int {
	v := 0
	for i := range n {
		if r.bit == 8*len(r.in) {
			panic(errMoreInput)
		}
		v |= int(r.in[r.bit/8]>>(r.bit%8)&1) << i
		r.bit++
	}
	return v
}

// Message inflates the payload of a message, in all its frames, and what its
// sender has left off, of which every bit has to be needed (D-15, D-19). With an
// error it returns what was there before it.
func (r *Inflater) Message(p []byte) (out []byte, err error) {
	if len(p) == 0 {
		return nil, inflateError("D-19: a compressed message without a payload")
	}
	if !r.Takeover {
		r.out = r.out[:0]
	}
	if keep := 1 << maxWindowBits; len(r.out) > 16*keep { // what is far enough back is not referred to
		r.out = append(r.out[:0], r.out[len(r.out)-keep:]...)
	}
	from := len(r.out)
	r.in, r.bit = append(append([]byte(nil), p...), 0, 0, 0xff, 0xff), 0
	defer func() {
		if e := recover(); e != nil {
			bad, ok := e.(inflateError)
			if !ok {
				panic(e)
			}
			err = bad
		}
		out = append([]byte(nil), r.out[from:]...)
	}()
	size := 1 << r.Bits
	for r.bit < 8*len(r.in) {
		last := r.get(1) == 1
		kind := r.get(2)
		r.Blocks[kind]++
		switch kind {
		case 0:
			r.bit = (r.bit + 7) &^ 7
			if r.bit == 8*len(p) {
				return // what was left off, and nothing else
			}
			n, c := r.get(16), r.get(16)
			if n != 0xffff-c {
				panic(inflateError("stored length"))
			}
			for range n {
				r.out = append(r.out, byte(r.get(8)))
			}
		case 1:
			r.block(fixedLit, fixedDist, size)
		case 2:
			lit, dist := r.dynamic()
			r.block(lit, dist, size)
		default:
			panic(inflateError("type"))
		}
		if last {
			r.bit = (r.bit + 7) &^ 7
		}
	}
	panic(inflateError("no empty block at the end"))
}

var fixedLit, fixedDist = fixedCodes()

func fixedCodes() (*inflateCode, *inflateCode) {
	lit, dist := make([]int, 288), make([]int, 32)
	for s := range lit {
		lit[s] = 8
		if s >= 144 && s <= 255 {
			lit[s] = 9
		}
		if s >= 256 && s <= 279 {
			lit[s] = 7
		}
	}
	for s := range dist {
		dist[s] = 5
	}
	return newInflateCode(lit), newInflateCode(dist)
}

// An inflateCode is the symbols of each length of code, in order. Going through the
// lengths, the codes of each are numbers behind those that begin longer ones.
type inflateCode [16][]int

func newInflateCode(lens []int) *inflateCode {
	var c inflateCode
	used, room := 0, 1<<15
	for s, n := range lens {
		if n > 0 {
			c[n] = append(c[n], s)
			used++
			room -= 1 << (15 - n)
		}
	}
	if room < 0 {
		panic(inflateError("over-subscribed"))
	}
	if room > 0 && used > 0 && (used > 1 || len(c[1]) != 1) {
		panic(inflateError("incomplete"))
	}
	return &c
}

func (r *Inflater) symbol(c *inflateCode) int {
	code := 0
	for n := 1; n < len(c); n++ {
		code = code<<1 + r.get(1)
		if code < len(c[n]) {
			return c[n][code]
		}
		code -= len(c[n])
		if n == 1 && !c.longer() {
			break
		}
	}
	panic(inflateError("no such code"))
}

// longer reports whether there are codes of more than one bit.
func (c *inflateCode) longer() bool {
	for _, symbols := range c[2:] {
		if len(symbols) > 0 {
			return true
		}
	}
	return false
}

func (r *Inflater) dynamic() (lit, dist *inflateCode) {
	nlit, ndist, n := 257+r.get(5), 1+r.get(5), 4+r.get(4)
	if nlit > 286 || ndist > 30 {
		panic(inflateError("counts"))
	}
	pre := make([]int, 19)
	for _, s := range []int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}[:n] {
		pre[s] = r.get(3)
	}
	code := newInflateCode(pre)
	var lens []int
	for len(lens) < nlit+ndist {
		s, times, l := r.symbol(code), 1, 0
		switch s {
		case 16:
			if len(lens) == 0 {
				panic(inflateError("repeat"))
			}
			times, l = 3+r.get(2), lens[len(lens)-1]
		case 17:
			times = 3 + r.get(3)
		case 18:
			times = 11 + r.get(7)
		default:
			l = s
		}
		for range times {
			lens = append(lens, l)
		}
	}
	if len(lens) > nlit+ndist {
		panic(inflateError("repeat"))
	}
	if lens[256] == 0 {
		panic(inflateError("no end"))
	}
	return newInflateCode(lens[:nlit]), newInflateCode(lens[nlit:])
}

func (r *Inflater) block(lit, dist *inflateCode, size int) {
	for {
		s := r.symbol(lit)
		if s < 256 {
			r.out = append(r.out, byte(s))
			continue
		}
		if s == 256 {
			return
		}
		if s > 285 {
			panic(inflateError("length"))
		}
		n, extra := s-254, 0
		switch {
		case s == 285:
			n = 258
		case s >= 265:
			extra = (s - 261) / 4
			n = 3 + (4+(s-261)%4)<<extra + r.get(extra)
		}
		s = r.symbol(dist)
		if s > 29 {
			panic(inflateError("distance"))
		}
		d := s + 1
		if s >= 4 {
			extra = s/2 - 1
			d = 1 + (2+s%2)<<extra + r.get(extra)
		}
		if d > len(r.out) || d > size {
			panic(inflateError("too far"))
		}
		r.Farthest = max(r.Farthest, d)
		for range n {
			r.out = append(r.out, r.out[len(r.out)-d])
		}
	}
}

// NewInflater is for what a server sends, or a client, once the header field
// agreed says what was agreed on.
func NewInflater(agreed string, server bool) *Inflater {
	side := map[bool]string{true: "server", false: "client"}[server]
	r := &Inflater{Bits: maxWindowBits, Takeover: true}
	for param := range strings.SplitSeq(agreed, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(param), "=")
		switch name {
		case side + "_no_context_takeover":
			r.Takeover = false
		case side + "_max_window_bits":
			r.Bits, _ = strconv.Atoi(value)
		}
	}
	return r
}
