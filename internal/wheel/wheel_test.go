package wheel

import (
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Len is how many members there are.
func (w *Wheel[M]) Len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.size
}

const second = time.Second // the tick of these tests

// A hand is a member that does what it is told when it is called back.
type hand struct {
	id    int
	place Place[*hand]
	tick  func(now uint32) uint32
}

func (h *hand) Place() *Place[*hand]   { return &h.place }
func (h *hand) Tick(now uint32) uint32 { return h.tick(now) }

// clocks is how many wheels tick.
func clocks() int {
	synctest.Wait()
	buf := make([]byte, 1<<20)
	return strings.Count(string(buf[:runtime.Stack(buf, true)]), "wheel.(*Wheel[...]).run(")
}

// ticking is 1 if the wheel says that it ticks.
func ticking(w *Wheel[*hand]) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stop != nil {
		return 1
	}
	return 0
}

// inBubble runs f with a wheel that ticks each second.
func inBubble(t *testing.T, f func(t *testing.T, w *Wheel[*hand])) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := new(Wheel[*hand])
		w.Init(second)
		f(t, w)
		for _, h := range w.Snapshot() {
			w.Remove(h)
		}
		if n := clocks(); n != 0 || w.Len() != 0 {
			t.Errorf("an empty wheel has %d goroutines and %d members", n, w.Len())
		}
	})
}

// pause lets n ticks and a half pass, so that nothing happens at this moment.
func pause(n int) {
	time.Sleep(time.Duration(n)*second + second/2)
	synctest.Wait()
}

// A member is called back at exactly the tick it is due at, however far away
// that is.
func TestDueAtItsTick(t *testing.T) {
	for _, due := range []uint32{1, 2, slots - 1, slots, slots + 1, 2*slots - 1, 2 * slots, 10*slots + 7, 10_000} {
		inBubble(t, func(t *testing.T, w *Wheel[*hand]) {
			start := time.Now()
			var called []time.Duration
			h := &hand{}
			h.tick = func(now uint32) uint32 {
				called = append(called, time.Since(start))
				if now != due*uint32(len(called)) || now != w.Now() {
					t.Errorf("call %d, due at a multiple of %d, is told tick %d, and Now is %d", len(called), due, now, w.Now())
				}
				return now + due
			}
			w.Add(h, due)
			pause(int(3 * due))
			each := time.Duration(due) * second
			if want := []time.Duration{each, 2 * each, 3 * each}; !slices.Equal(called, want) {
				t.Errorf("called at %v, want %v", called, want)
			}
		})
	}
}

// Who says that it is due now or earlier is due at the next tick.
func TestDueNowIsNextTick(t *testing.T) {
	inBubble(t, func(t *testing.T, w *Wheel[*hand]) {
		var called []uint32
		h := &hand{}
		h.tick = func(now uint32) uint32 {
			called = append(called, now)
			return []uint32{now, 0, now - 1, now + 2}[len(called)-1]
		}
		w.Add(h, 5)
		pause(9)
		if want := []uint32{5, 6, 7, 8}; !slices.Equal(called, want) {
			t.Errorf("called at %v, want %v", called, want)
		}
	})
}

// Ticks rounds up.
func TestTicks(t *testing.T) {
	var w Wheel[*hand]
	w.Init(second)
	for d, want := range map[time.Duration]uint32{
		0: 0, 1: 1, second - 1: 1, second: 1, second + 1: 2, time.Hour: 3600, 100 * 365 * 24 * time.Hour: 1<<31 - 1,
	} {
		if got := w.Ticks(d); got != want {
			t.Errorf("%v are %d ticks, want %d", d, got, want)
		}
	}
}

// The wheel ticks while somebody is due: the goroutine comes with the first
// and goes with the last, and Now stands still in between.
func TestTicksWhileSomebodyIsDue(t *testing.T) {
	inBubble(t, func(t *testing.T, w *Wheel[*hand]) {
		calls := 0
		once := func(uint32) uint32 { calls++; return Never }
		step := func(what string, clock int, now uint32) {
			t.Helper()
			if got := clocks(); got != clock || w.Now() != now {
				t.Errorf("%s: %d goroutines tick, at %d; want %d at %d", what, got, w.Now(), clock, now)
			}
		}
		idle, a, b := &hand{tick: once}, &hand{tick: once}, &hand{tick: once}
		step("before all", 0, 0)
		w.Add(idle, Never)
		pause(1000)
		step("only who is never due", 0, 0)
		w.Add(a, 3)
		w.Add(b, 6)
		step("the first", 1, 0)
		pause(3)
		step("one of two has been called", 1, 3)
		w.Remove(b)
		step("the other is taken out", 0, 3)
		pause(1000)
		step("long after", 0, 3)
		w.Sooner(a, w.Now()+2) // a new clock: full ticks from here
		step("one is due again", 1, 3)
		w.Sooner(a, Never)
		step("it is still", 1, 3)
		w.Remove(a)
		w.Add(a, Never)
		step("and not any more", 0, 3)
		w.Sooner(idle, w.Now()+2)
		pause(2)
		step("who was never due has been called", 0, 5)
		w.Add(b, w.Now()+1)
		w.Remove(b)
		w.Remove(b)
		step("taken out twice", 0, 5)
		w.Sooner(b, w.Now()+1)
		pause(2)
		step("moved after it was taken out", 0, 5)
		if calls != 2 || w.Len() != 2 {
			t.Errorf("%d calls and %d members, want 2 and 2", calls, w.Len())
		}
	})
}

// A member may be taken out while it is called back, by itself or another: its
// answer counts for nothing then. When it is moved while it is called, the
// earlier of that and its answer holds.
func TestInsideTick(t *testing.T) {
	inBubble(t, func(t *testing.T, w *Wheel[*hand]) {
		var log []int
		said := func(id int, f func(now uint32) uint32) *hand {
			h := &hand{id: id}
			h.tick = func(now uint32) uint32 { log = append(log, id); return f(now) }
			return h
		}
		var leaves, moves, other *hand
		leaves = said(1, func(now uint32) uint32 { w.Remove(leaves); return now + 1 })
		moves = said(2, func(now uint32) uint32 {
			if now > 2 {
				return Never
			}
			w.Sooner(moves, now+2)
			w.Sooner(moves, now+1)
			w.Sooner(moves, now+2)
			return now + 3
		})
		other = said(3, func(now uint32) uint32 { return now + 1 })
		takes := said(4, func(now uint32) uint32 {
			w.Remove(other)
			w.Sooner(moves, Never)
			w.Add(said(5, func(uint32) uint32 { return Never }), now+1)
			return Never
		})
		w.Add(leaves, 1)
		w.Add(moves, 2)
		w.Add(other, 4)
		w.Add(takes, 3)
		pause(10)
		if want := []int{1, 2, 2, 4, 5}; !slices.Equal(log, want) {
			t.Errorf("called %v, want %v", log, want)
		}
		if n := w.Len(); n != 3 {
			t.Errorf("%d members, want 3", n)
		}
	})
}

// All yields those who were there when the loop began, once each, and may be
// left early; who is taken out while it is called is not among them.
func TestAll(t *testing.T) {
	inBubble(t, func(t *testing.T, w *Wheel[*hand]) {
		in := map[*hand]bool{}
		for i := range 100 {
			h := &hand{id: i, tick: func(uint32) uint32 { return Never }}
			in[h] = true
			w.Add(h, []uint32{Never, 1, uint32(i + 1), 1000}[i%4])
		}
		var got []*hand
		for _, h := range w.Snapshot() {
			got = append(got, h)
			w.Remove(h)
			w.Add(&hand{id: -1}, Never) // not seen by this loop
		}
		if len(got) != 100 {
			t.Errorf("%d members, want 100", len(got))
		}
		for _, h := range got {
			if !in[h] {
				t.Errorf("member %d is not one that was there", h.id)
			}
			delete(in, h)
		}
		n := 0
		for range w.Snapshot() {
			if n++; n == 7 {
				break
			}
		}
		self := &hand{}
		self.tick = func(uint32) uint32 {
			w.Remove(self)
			if slices.Contains(w.Snapshot(), self) {
				t.Error("a member that has been taken out is in the snapshot")
			}
			return Never
		}
		w.Add(self, w.Now()+1)
		pause(1)
		if n != 7 || w.Len() != 100 {
			t.Errorf("left after %d of %d, want 7 of 100", n, w.Len())
		}
	})
}

// Whatever is done in whatever order, a wheel is what a map from members to
// ticks is: who is in it, and who is called back when.
func TestAgainstModel(t *testing.T) {
	for range 20 {
		seed := rand.Uint64()
		inBubble(t, func(t *testing.T, w *Wheel[*hand]) { againstModel(t, w, rand.New(rand.NewPCG(seed, 0))) })
		if t.Failed() {
			t.Fatalf("seed %#x", seed)
		}
	}
}

func againstModel(t *testing.T, w *Wheel[*hand], rng *rand.Rand) {
	var mu sync.Mutex           // for the goroutine that ticks
	model := map[*hand]uint32{} // due when
	var called map[*hand]bool   // in this tick, or not to be touched before it is over
	draw := func() uint32 {
		switch rng.IntN(6) {
		case 0:
			return Never
		case 1:
			return w.Now() + 1
		case 2:
			return w.Now() + slots
		case 3:
			return w.Now() + 1 + rng.Uint32N(4*slots)
		}
		return w.Now() + 1 + rng.Uint32N(20)
	}
	pick := func() *hand {
		members := slices.SortedFunc(maps.Keys(model), func(a, b *hand) int { return a.id - b.id })
		if len(members) == 0 {
			return nil
		}
		return members[rng.IntN(len(members))]
	}
	id := 0
	var tick func(h *hand, now uint32) uint32
	change := func() {
		h := pick()
		switch op := rng.IntN(4); {
		case h == nil || op == 0 && len(model) < 100:
			id++
			h := &hand{id: id}
			h.tick = func(now uint32) uint32 { return tick(h, now) }
			model[h] = draw()
			w.Add(h, model[h])
		case called[h]:
		case op == 1:
			w.Remove(h)
			delete(model, h)
		default:
			due := draw()
			w.Sooner(h, due)
			model[h] = min(model[h], due)
		}
	}
	// What a member does when it is called: it changes others that are not
	// due at this moment.
	tick = func(h *hand, now uint32) uint32 {
		mu.Lock()
		defer mu.Unlock()
		due, in := model[h]
		if !in || due != now || now != w.Now() {
			t.Errorf("tick %d: member %d is called; in: %v, due at %d, now %d", now, h.id, in, due, w.Now())
		}
		if called == nil {
			called = map[*hand]bool{}
			for o, due := range model {
				called[o] = due == now
			}
		}
		for range rng.IntN(3) {
			change()
		}
		if rng.IntN(4) == 0 {
			w.Remove(h)
			delete(model, h)
			return draw() // which is ignored
		}
		model[h] = draw()
		return model[h]
	}
	for range 300 {
		mu.Lock()
		called = nil
		for range rng.IntN(4) {
			change()
		}
		due := 0
		for _, at := range model {
			if at != Never {
				due++
			}
		}
		if n := ticking(w); n != min(due, 1) {
			t.Errorf("%d members are due at some time, and %d goroutines tick", due, n)
		}
		before := w.Now()
		mu.Unlock()
		time.Sleep(second)
		synctest.Wait()
		mu.Lock()
		if now := w.Now(); now != before+uint32(min(due, 1)) {
			t.Errorf("in one tick Now has gone from %d to %d, with %d members due", before, now, due)
		}
		for h, at := range model {
			if at <= w.Now() {
				t.Errorf("tick %d: member %d, due at %d, has not been called", w.Now(), h.id, at)
			}
		}
		all := map[*hand]bool{}
		for _, h := range w.Snapshot() {
			all[h] = true
			if _, in := model[h]; !in {
				t.Errorf("member %d is in the wheel still", h.id)
			}
		}
		if len(all) != len(model) || w.Len() != len(model) {
			t.Errorf("%d members and a length of %d, want %d", len(all), w.Len(), len(model))
		}
		mu.Unlock()
		if t.Failed() {
			return
		}
	}
}

// Any number of goroutines may use a wheel; nobody is called who has been
// taken out before its tick began.
func TestConcurrentUse(t *testing.T) {
	inBubble(t, func(t *testing.T, w *Wheel[*hand]) {
		var calls atomic.Int64
		var users sync.WaitGroup
		for user := range 8 {
			users.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(user), 0))
				for range 100 {
					var out atomic.Bool
					h := &hand{}
					h.tick = func(now uint32) uint32 {
						calls.Add(1)
						if out.Load() {
							t.Error("called after it was taken out")
						}
						return now + 1
					}
					w.Add(h, w.Now()+1)
					for range rng.IntN(5) {
						time.Sleep(time.Duration(rng.Int64N(int64(2 * second))))
						w.Sooner(h, w.Now()+1+rng.Uint32N(3))
						for range w.Snapshot() {
							break
						}
					}
					time.Sleep(2*second + time.Duration(rng.Int64N(int64(second))))
					w.Remove(h)
					time.Sleep(time.Millisecond) // its last call is over
					out.Store(true)
				}
			})
		}
		users.Wait()
		if calls.Load() < 800 {
			t.Errorf("%d calls of 800 members", calls.Load())
		}
	})
}
