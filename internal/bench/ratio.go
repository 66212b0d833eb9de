package main

import (
	"fmt"
	"iter"
	"slices"
	"strconv"
	"time"

	"github.com/sockeye-ws/websocket/internal/bench/load"
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

// What is compared of samples. Of CPU time and latency, less is better.
func value(s sample) float64  { return s.Value }
func cpu(s sample) float64    { return float64(s.CPU) }
func p99(s sample) float64    { return float64(s.P99) }
func packed(s sample) float64 { return s.Ratio }
func allocs(s sample) float64 { return s.Allocs }

// A ratio compares two servers round by round, so that what both suffered
// from in the same round does not count.
type ratio struct {
	median, least, most float64
	rounds              int
}

// paired compares the rounds that both have.
func paired(a, b *outcome, of func(sample) float64, lessIsBetter bool) ratio {
	var rs []float64
	for x, y := range inBoth(a, b) {
		over, under := of(x), of(y)
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

// inBoth yields the samples of the rounds that both have.
func inBoth(a, b *outcome) iter.Seq2[sample, sample] {
	return func(yield func(sample, sample) bool) {
		for _, x := range a.Samples {
			i := slices.IndexFunc(b.Samples, func(y sample) bool { return y.Round == x.Round })
			if i >= 0 && !yield(x, b.Samples[i]) {
				return
			}
		}
	}
}

// more is by how much one exceeds the other, as the median of the rounds.
func more(a, b *outcome, of func(sample) float64) float64 {
	var ds []float64
	for x, y := range inBoth(a, b) {
		ds = append(ds, of(x)-of(y))
	}
	return median(ds)
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

// The three that are no peers.
func own() string    { return peer.All[0].Name }
func raw() string    { return peer.All[1].Name }
func hijack() string { return peer.All[2].Name }

// isPeer is false for these, and for the library used in another way.
func isPeer(name string) bool {
	return name != raw() && name != hijack() && peer.ByName(name).Module != peer.All[0].Module
}

// best is the peer with the best median of one measure, among those that have
// it; an empty outcome if there is none.
func (r *result) best(of func(sample) float64, lessIsBetter bool) *outcome {
	best := &outcome{}
	for _, o := range r.Outcomes {
		if !isPeer(o.Server) || medianOf(o, of) <= 0 {
			continue
		}
		a, b := medianOf(o, of), medianOf(best, of)
		if lessIsBetter {
			a, b = b, a
		}
		if len(best.Samples) == 0 || a > b {
			best = o
		}
	}
	return best
}

// bestPeer is the best by what the scenario counts.
func (r *result) bestPeer() *outcome { return r.best(value, r.scenario.lessIsBetter()) }

// Above 1 is better of toRaw and toBest.
func (r *result) toRaw(o *outcome) ratio {
	return paired(o, r.find(raw()), value, r.scenario.lessIsBetter())
}

func (r *result) toBest(o *outcome) ratio {
	return paired(o, r.bestPeer(), value, r.scenario.lessIsBetter())
}

// cpuToRaw is the CPU time of a message; below 1 is better.
func (r *result) cpuToRaw(o *outcome) ratio { return paired(o, r.find(raw()), cpu, false) }

// inTurn finds the same fan-out with one message in flight, for one that has
// more. There the raw server writes each message once to each member; with more
// in flight it writes together what has come together.
func (r *result) inTurn(results []*result) *result {
	if r.scenario.kind != load.Fanout || r.scenario.outstanding == 1 {
		return nil
	}
	for _, x := range results {
		if x.Scenario == fanout(r.scenario.conns, 1).Name {
			return x
		}
	}
	return nil
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
