package hist

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestBuckets(t *testing.T) {
	values := []uint64{0, 1, sub - 1, sub, 2*sub - 1, 2 * sub, 2*sub + 1, 1000, 1e6, 1e9, 3600e9, math.MaxInt64}
	last := -1
	for _, v := range values {
		i := bucket(v)
		if i <= last && v != 0 && v != 2*sub+1 {
			t.Errorf("bucket(%d) = %d is not above %d", v, i, last)
		}
		last = i
		if i >= buckets {
			t.Fatalf("bucket(%d) = %d is out of range", v, i)
		}
		up := uint64(upper(i))
		if up < v || float64(up-v) > float64(v)/100 {
			t.Errorf("%d counts as up to %d", v, up)
		}
		if bucket(up) != i || bucket(up+1) == i {
			t.Errorf("%d is not the last of bucket %d", up, i)
		}
	}
}

func TestQuantiles(t *testing.T) {
	var h, other Histogram
	rnd := rand.New(rand.NewPCG(1, 2))
	var all []time.Duration
	for i := range 20_000 {
		d := time.Duration(math.Exp(rnd.Float64() * 20))
		all = append(all, d)
		if i%3 == 0 {
			other.Add(d, 1)
		} else {
			h.Add(d, 1)
		}
	}
	h.Merge(&other)
	slices.Sort(all)
	if h.Count() != uint64(len(all)) {
		t.Errorf("count is %d", h.Count())
	}
	for _, q := range []float64{0, 0.001, 0.5, 0.99, 0.999, 1} {
		want := all[max(int(q*float64(len(all)))-1, 0)]
		got := h.Quantile(q)
		if got < want || float64(got-want) > float64(want)/100 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
}

func TestEmpty(t *testing.T) {
	var h Histogram
	if q := h.Quantile(0.5); q != 0 {
		t.Errorf("quantile of nothing is %v", q)
	}
	h.Add(-time.Second, 3)
	if q := h.Quantile(1); q != 0 || h.Count() != 3 {
		t.Errorf("a negative duration counts as %v, %d times", q, h.Count())
	}
}
