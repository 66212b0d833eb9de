// Package hist counts durations in buckets that grow with them, so that any
// quantile is known to within 1 % whatever the range, in constant memory.
package hist

import (
	"math/bits"
	"time"
)

const (
	subBits = 7 // each power of two is cut into 1<<subBits buckets
	sub     = 1 << subBits
	buckets = (64 - subBits) * sub
)

// A Histogram counts durations. The zero value is empty and ready for use, by
// one goroutine at a time.
type Histogram struct {
	counts [buckets]uint64
	total  uint64
	max    time.Duration
}

// Add counts d n times. What is below zero counts as zero.
func (h *Histogram) Add(d time.Duration, n uint64) {
	d = max(d, 0)
	h.counts[bucket(uint64(d))] += n
	h.total += n
	h.max = max(h.max, d)
}

// Merge adds all of o.
func (h *Histogram) Merge(o *Histogram) {
	for i, n := range o.counts {
		h.counts[i] += n
	}
	h.total += o.total
	h.max = max(h.max, o.max)
}

// Count is how many durations were added.
func (h *Histogram) Count() uint64 { return h.total }

// Quantile returns the duration that a share q of all does not exceed; 0 if
// there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.total == 0 {
		return 0
	}
	rank := uint64(q * float64(h.total))
	rank = min(max(rank, 1), h.total)
	var seen uint64
	for i, n := range h.counts {
		if seen += n; seen >= rank {
			return min(upper(i), h.max)
		}
	}
	return h.max
}

// bucket is exact below sub, and keeps the subBits+1 leading bits above it.
func bucket(v uint64) int {
	if v < sub {
		return int(v)
	}
	shift := bits.Len64(v) - subBits - 1
	return shift*sub + int(v>>shift)
}

// upper is the largest value that bucket i stands for.
func upper(i int) time.Duration {
	if i < 2*sub {
		return time.Duration(i)
	}
	shift := i/sub - 1
	return time.Duration(uint64(i-shift*sub+1)<<shift - 1)
}
