package deflate

import (
	"math"

	"github.com/sockeye-ws/websocket/internal/bufpool"
)

// MinBits and MaxBits are the smallest and the largest window: its size is 2 to
// the power of it.
const (
	MinBits = 8
	MaxBits = 15
)

// A Level says how hard an Encoder looks for repetitions.
type Level uint8

const (
	Fast   Level = iota // the first that is found
	Better              // the best of a few: smaller by some percent, in two to four times the time
)

// An Encoder compresses the messages of one direction of a connection, in the
// order in which they are sent. Init must be called first. It is not safe for
// use by several goroutines at once.
//
// A message that does not become shorter by compression is better sent as it is,
// and then must not have entered the window: Append takes it back by itself. A
// message made by Write and Finish is sent in any case, or taken back whole by
// Abandon, as long as nothing of it has been sent.
type Encoder struct {
	win      *window // nil: nothing is in it, or each message has its own
	takeover bool
	bits     uint8
	level    Level

	// A message in pieces.
	begun bool
	open  bool  // as in writer
	acc   uint8 // bits that did not fill a byte, to go on with
	nacc  uint8
}

// Init sets how far back references reach at most, 2^bits bytes, and whether they
// may reach into earlier messages. It panics if bits is not within MinBits and
// MaxBits: that is for the handshake to check.
func (e *Encoder) Init(bits int, takeover bool, level Level) {
	checkBits(bits)
	*e = Encoder{takeover: takeover, bits: uint8(bits), level: level}
}

func checkBits(bits int) {
	if bits < MinBits || bits > MaxBits {
		panic("deflate: no such window")
	}
}

// Append appends p to dst as one compressed message. If that is not shorter than
// p, it reports false and returns dst: p is to be sent as it is, and the next
// message is encoded as if there had been no such call. dst does not grow if it
// has room for len(p)+Slack bytes. Between Write and Finish Append does nothing
// and reports false.
func (e *Encoder) Append(dst, p []byte) ([]byte, bool) {
	if e.begun || len(p) < 2 {
		return dst, false
	}
	if !e.takeover {
		return Alone(dst, p, int(e.bits), e.level)
	}
	if e.win == nil {
		e.win = newWindow(e.bits, e.level)
	}
	w := writers.Get().(*writer)
	w.begin(dst, len(p)-1)
	ok := w.follow(e.win, p, e.level)
	if ok {
		w.finish()
	}
	return w.end(dst, ok), ok
}

// Alone appends p to dst as one compressed message that refers to nothing before
// it and no further back than 2^bits bytes: every peer with such a window or a
// larger one can read it. A connection that sends it has to Enter p. If it is not
// shorter than p, Alone reports false and returns dst.
func Alone(dst, p []byte, bits int, level Level) ([]byte, bool) {
	checkBits(bits)
	if len(p) < 2 {
		return dst, false
	}
	w := writers.Get().(*writer)
	w.begin(dst, len(p)-1)
	ok := w.alone(p, 1<<bits, level)
	if ok {
		w.finish()
	}
	return w.end(dst, ok), ok
}

// Write appends the next piece of a message to dst, which may be less than all
// of it: some bits wait for the next piece.
func (e *Encoder) Write(dst, p []byte) []byte {
	e.begun = true
	if len(p) == 0 {
		return dst
	}
	if e.win == nil {
		if e.takeover {
			e.win = newWindow(e.bits, e.level)
		} else {
			e.win = borrowWindow(e.bits)
		}
	}
	w := writers.Get().(*writer)
	w.begin(dst, math.MaxInt)
	w.acc, w.nacc, w.open = uint64(e.acc), uint(e.nacc), e.open
	w.follow(e.win, p, e.level)
	e.acc, e.nacc, e.open = uint8(w.acc), uint8(w.nacc), w.open
	e.win.unsent = min(e.win.unsent+len(p), 2<<MaxBits) // a window with what is spare is less
	return w.end(dst, true)
}

// Finish appends what ends the message. Without Write before it, that is an empty
// message.
func (e *Encoder) Finish(dst []byte) []byte {
	w := writers.Get().(*writer)
	w.begin(dst, math.MaxInt)
	w.acc, w.nacc, w.open = uint64(e.acc), uint(e.nacc), e.open
	w.finish()
	e.over()
	return w.end(dst, true)
}

// Abandon takes back a message of which nothing has been, or will be, sent. What
// it has pushed out of the window is no longer referred to.
func (e *Encoder) Abandon() {
	if e.begun && e.takeover && e.win != nil {
		e.win.drop(e.win.unsent)
	}
	e.over()
}

// over leaves the message in pieces.
func (e *Encoder) over() {
	if e.win != nil {
		e.win.unsent = 0
		if !e.takeover {
			returnWindow(e.bits, e.win)
			e.win = nil
		}
	}
	e.begun, e.open, e.acc, e.nacc = false, false, 0, 0
}

// Enter tells that p is sent as a message that was compressed elsewhere, by
// Alone: it enters the window of the peer, and so it does here. It must not be
// called between Write and Finish, where no message can be sent.
func (e *Encoder) Enter(p []byte) {
	if e.begun {
		panic("deflate: a message inside another")
	}
	if !e.takeover || len(p) == 0 {
		return
	}
	if e.win == nil {
		e.win = newWindow(e.bits, e.level)
	}
	e.win.push(p)
	// The bytes before may only now be followed by enough to be looked up.
	n := len(e.win.buf)
	from := max(n-len(p)-word+1, 0)
	e.win.table.note(e.win.source(), from, n, e.level)
}

// Reset gives up what is in the window, and what was written of a message since
// the last Finish. No later message refers to it.
func (e *Encoder) Reset() {
	e.over()
	if e.win != nil {
		e.win.forget()
	}
}

func (t table) note(s source, from, to int, level Level) {
	if level == Fast {
		t.enter(s, from, to)
	} else {
		t.enterWays(s, from, to)
	}
}

// begin lets w append to dst, at most so many bytes.
func (w *writer) begin(dst []byte, most int) {
	w.out, w.start, w.most = dst, len(dst), most
	w.acc, w.nacc, w.open = 0, 0, false
}

// end gives w back, and returns dst with what was appended to it, or without.
func (w *writer) end(dst []byte, ok bool) []byte {
	if ok {
		dst = w.out
	}
	w.out = nil
	writers.Put(w)
	return dst
}

// alone encodes p on its own.
func (w *writer) alone(p []byte, size int, level Level) bool {
	t := tables.Get().(*loneTable)
	clear(t[:])
	first, ok := 0, true
	if n := min(len(p), maxBlock); level == Fast && n <= size {
		w.made = 0
		first = w.fastAlone(t, p[:n])
		ok = w.put(p[:first])
	}
	ok = ok && w.encode(t[:], source{p, 0, size}, first, len(p), level)
	tables.Put(t)
	return ok
}

// follow encodes p behind what is in win, and puts it there; if it does not fit,
// win is as before.
func (w *writer) follow(win *window, p []byte, level Level) bool {
	if len(p) <= spare(win.size) {
		win.push(p)
		ok := w.encode(win.table, win.source(), len(win.buf)-len(p), len(win.buf), level)
		if !ok {
			win.drop(len(p))
		}
		return ok
	}
	// What is larger is encoded elsewhere, so that it can be taken back: its
	// first bytes behind a copy of the window, and those that the window
	// is out of sight of where they are.
	s := win.source()
	before := s.bytes[max(0, len(s.bytes)-s.size):]
	s.base += uint16(len(s.bytes) - len(before))
	first := min(len(p), s.size)
	lent := bufpool.Get(len(before) + first)
	s.bytes = append(append(lent.B[:0], before...), p[:first]...)
	ok := w.encode(win.table, s, len(before), len(s.bytes), level)
	bufpool.Put(lent)
	if ok && first < len(p) {
		s.base += uint16(len(before))
		s.bytes = p
		ok = w.encode(win.table, s, first, len(p), level)
	}
	if ok {
		win.push(p)
	}
	return ok
}

// encode writes the bytes from..to of s, in as many blocks as it takes.
func (w *writer) encode(t table, s source, from, to int, level Level) bool {
	for from < to {
		next := min(to, from+maxBlock)
		w.made = 0
		if level == Fast {
			next = w.fast(t, s, from, next)
		} else {
			next = w.better(t, s, from, next)
		}
		if !w.put(s.bytes[from:next]) {
			return false
		}
		from = next
	}
	return true
}
