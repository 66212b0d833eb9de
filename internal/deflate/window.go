package deflate

import "sync"

// A window is what the peer's window holds, as far as this side knows it, and
// where to find repetitions in it.
type window struct {
	table table
	buf   []byte // the bytes, oldest first: size of them, and up to spare older ones
	base  uint16 // the position of buf[0]
	size  int
	// unsent is how many of the bytes, as far as it matters, are of a message in
	// pieces, which may be taken back.
	unsent int
}

// spare is how much goes behind a window before the oldest bytes of it are moved
// out of the way: messages up to this length are encoded in place.
func spare(size int) int { return min(size, max(size/4, 4<<10)) }

// tableSize is how many positions are remembered for a window: as many as it has
// bytes, as long as that is little. With a quarter of them a window of 4 KiB finds
// 3 % less.
func tableSize(size int, level Level) int {
	n := min(size, 8<<10)
	if level == Better {
		n = max(n, size/2)
	}
	return max(n, 512)
}

// source is the window with nothing behind it.
func (w *window) source() source { return source{w.buf, w.base, w.size} }

// push puts bytes at the end of the window. Up to spare of them push nothing out
// that they could refer to.
func (w *window) push(p []byte) {
	if n := len(p) - w.size; n > 0 {
		w.base += uint16(len(w.buf) + n)
		w.buf = w.buf[:0]
		p = p[n:]
	}
	if len(w.buf)+len(p) > cap(w.buf) {
		w.makeRoom(len(p))
	}
	w.buf = append(w.buf, p...)
}

// makeRoom makes room for n more bytes, at most size. What is allocated grows
// with what there is to keep.
func (w *window) makeRoom(n int) {
	most := w.size + spare(w.size)
	keep := min(len(w.buf), w.size)
	if keep+n > most {
		keep = w.size - n
	}
	kept := w.buf[len(w.buf)-keep:]
	w.base += uint16(len(w.buf) - keep)
	if keep+n > cap(w.buf) {
		grown := make([]byte, 0, min(most, max(2*cap(w.buf), keep+n, 1<<10)))
		w.buf = append(grown, kept...)
		return
	}
	w.buf = w.buf[:copy(w.buf[:keep], kept)]
}

// drop takes the last n bytes back. Bytes that they have pushed out stay away.
func (w *window) drop(n int) { w.buf = w.buf[:max(len(w.buf)-n, 0)] }

// forget empties the window.
func (w *window) forget() {
	w.base += uint16(len(w.buf))
	w.buf = w.buf[:0]
}

func newWindow(bits uint8, level Level) *window {
	size := 1 << bits
	return &window{table: make(table, tableSize(size, level)), size: size}
}

// windows lends windows for the time of a message in pieces, by the bits of
// their size; tables is for messages that need no window.
var (
	windows [MaxBits + 1]sync.Pool
	tables  = sync.Pool{New: func() any { return new(loneTable) }}
)

func borrowWindow(bits uint8) *window {
	if v := windows[bits].Get(); v != nil {
		return v.(*window)
	}
	return newWindow(bits, Better)
}

func returnWindow(bits uint8, w *window) {
	w.forget()
	windows[bits].Put(w)
}

// A loneTable is a table for a message that needs no window. It is an array so
// that what has loneBits needs no check.
type loneTable [1 << loneBits]uint16

const loneBits = 13
