// Package bufpool lends byte buffers by size class, so that a connection
// holds one only while bytes are in it.
package bufpool

import (
	"math/bits"
	"sync"
)

// Classes grow by four: a buffer that has to grow copies a third of what it
// ends up with at most, and above Min holds less than four times what is asked.
const (
	minShift = 9  // 512 B: a frame header and a control frame fit
	maxShift = 25 // 32 MiB: above it the garbage collector is the better pool
	step     = 2
	// From Block on, each has Slack besides its round size: blocks of that
	// size often come with a header.
	Block = 32 << 10
	Slack = 64
)

// Min and Max are the smallest and the largest size that is pooled.
const (
	Min = 1 << minShift
	Max = 1<<maxShift + Slack
)

var pools [(maxShift-minShift)/step + 1]sync.Pool

// A Buf is a borrowed buffer. B may be resliced; its capacity is what Get
// promised at least.
type Buf struct {
	B     []byte
	whole []byte
	class int
}

// Get lends a buffer with len(B) == cap(B) >= n. The content is arbitrary.
func Get(n int) *Buf {
	class := classOf(n)
	if class >= len(pools) {
		b := make([]byte, n)
		return &Buf{B: b, whole: b, class: class}
	}
	if v := pools[class].Get(); v != nil {
		b := v.(*Buf)
		b.B = b.whole
		return b
	}
	size := 1 << (minShift + class*step)
	if size >= Block {
		size += Slack
	}
	b := make([]byte, size)
	return &Buf{B: b, whole: b, class: class}
}

// Put takes a buffer back. The caller must not touch it, or a slice of it,
// afterwards. Put of nil does nothing.
func Put(b *Buf) {
	if b == nil {
		return
	}
	poison(b.whole)
	if b.class < len(pools) {
		b.B = nil
		pools[b.class].Put(b)
	}
}

func classOf(n int) int {
	if n <= Min {
		return 0
	}
	if n > Block {
		n -= Slack
	}
	return (bits.Len(uint(n-1)) - minShift + step - 1) / step
}
