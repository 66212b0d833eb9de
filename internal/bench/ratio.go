package main

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/sockeye-ws/websocket/internal/bench/peer"
)

// median of xs, which it sorts; 0 if there are none.
func median[T float64 | time.Duration](xs []T) T {
	if len(xs) == 0 {
		return 0
	}
	slices.Sort(xs)
	return (xs[(len(xs)-1)/2] + xs[len(xs)/2]) / 2
}

func medianOf[T float64 | time.Duration](o *outcome, field func(sample) T) T {
	var xs []T
	for _, s := range o.Samples {
		xs = append(xs, field(s))
	}
	return median(xs)
}

func value(s sample) float64 { return s.Value }

// A ratio compares two servers round by round, so that what both suffered
// from in the same round does not count. Above 1 is better.
type ratio struct {
	median, least, most float64
	rounds              int
}

// paired compares the rounds that both have.
func paired(a, b *outcome, of func(sample) float64, lessIsBetter bool) ratio {
	var rs []float64
	for _, x := range a.Samples {
		i := slices.IndexFunc(b.Samples, func(y sample) bool { return y.Round == x.Round })
		if i < 0 {
			continue
		}
		over, under := of(x), of(b.Samples[i])
		if lessIsBetter {
			over, under = under, over
		}
		if over > 0 && under > 0 {
			rs = append(rs, over/under)
		}
	}
	if len(rs) == 0 {
		return ratio{}
	}
	return ratio{median(rs), slices.Min(rs), slices.Max(rs), len(rs)}
}

func (r ratio) String() string {
	switch r.rounds {
	case 0:
		return "–"
	case 1, 2:
		return fmt.Sprintf("%.2f", r.median)
	}
	return fmt.Sprintf("%.2f (%.2f–%.2f)", r.median, r.least, r.most)
}

// find returns the outcome of the named server, or an empty one.
func (r *result) find(name string) *outcome {
	for _, o := range r.Outcomes {
		if o.Server == name {
			return o
		}
	}
	return &outcome{Server: name}
}

// The two that are no peers.
func own() string { return peer.All[0].Name }
func raw() string { return peer.All[1].Name }

// bestPeer is the peer with the best median; an empty outcome if there is
// none.
func (r *result) bestPeer() *outcome {
	best := &outcome{}
	for _, o := range r.Outcomes {
		if o.Server == own() || o.Server == raw() || len(o.Samples) == 0 {
			continue
		}
		a, b := medianOf(o, value), medianOf(best, value)
		if r.scenario.lessIsBetter() {
			a, b = b, a
		}
		if len(best.Samples) == 0 || a > b {
			best = o
		}
	}
	return best
}

func (r *result) toRaw(o *outcome) ratio {
	return paired(o, r.find(raw()), value, r.scenario.lessIsBetter())
}

func (r *result) toBest(o *outcome) ratio {
	return paired(o, r.bestPeer(), value, r.scenario.lessIsBetter())
}

// number has three significant digits or all before the point, grouped.
func number(x float64) string {
	switch {
	case x < 10:
		return strconv.FormatFloat(x, 'f', 2, 64)
	case x < 100:
		return strconv.FormatFloat(x, 'f', 1, 64)
	}
	s := strconv.FormatFloat(x, 'f', 0, 64)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// micros is d in microseconds.
func micros(d time.Duration) string {
	if d == 0 {
		return "–"
	}
	return number(float64(d) / float64(time.Microsecond))
}
