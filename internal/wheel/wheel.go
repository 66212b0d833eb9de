// Package wheel keeps a set of members and calls each back when its time has
// come, with one timer for all: a member costs three words, and nothing while
// it waits. Time is counted in ticks.
package wheel

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Never is a tick that does not come.
const Never = math.MaxUint32

// A Member is in at most one Wheel, by a Place that it holds.
type Member[M any] interface {
	comparable
	Place() *Place[M]
	// Tick is called when the member is due, on the wheel's goroutine,
	// which must not be kept waiting, and returns when it is due next.
	Tick(now uint32) (due uint32)
}

// A Place is where a member stands. The zero value is outside of all wheels.
type Place[M any] struct {
	prev, next M
	due        uint32
	again      uint32 // what Move asked for while ticking; 0: nothing
	in         bool
	ticking    bool // it is being called back
}

// slots is how many lists there are; a member that is due later than that many
// ticks from now is passed over in between.
const slots = 128

// A Wheel is used after Init. It ticks, on a goroutine of its own, while there
// are members that are due at some time.
type Wheel[M Member[M]] struct {
	tick time.Duration
	now  atomic.Uint32

	mu    sync.Mutex
	first [slots + 1]M // the last list is of those that are never due
	size  int
	due   int           // of them that are due at some time
	past  uint32        // the last tick whose list has been gone through
	stop  chan struct{} // closed to end the goroutine; nil: there is none
}

// Init sets the length of a tick.
func (w *Wheel[M]) Init(tick time.Duration) { w.tick = tick }

// Now returns how many ticks there have been; it stands still while nobody is
// due. After Never-1 it is at an end, which
// takes 68 years at half a second.
func (w *Wheel[M]) Now() uint32 { return w.now.Load() }

// Ticks returns how many ticks d takes, rounded up.
func (w *Wheel[M]) Ticks(d time.Duration) uint32 {
	n := int64(d / w.tick)
	if d%w.tick > 0 {
		n++
	}
	return uint32(min(n, math.MaxInt32))
}

// Add adds m, which is not in a wheel, to be called back at tick due.
func (w *Wheel[M]) Add(m M, due uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := m.Place()
	p.in, p.due = true, max(due, w.past+1)
	w.size++
	w.link(m, p)
	w.startOrStop()
}

// startOrStop has the ticks go on as long as somebody is due, with mu held.
func (w *Wheel[M]) startOrStop() {
	if w.due > 0 && w.stop == nil {
		w.stop = make(chan struct{})
		go w.run(w.stop)
	} else if w.due == 0 && w.stop != nil {
		close(w.stop)
		w.stop = nil
	}
}

// Sooner has m called back at tick due, if it is not due before that; Tick then
// tells when it is due next, and has to know of all that it was to be called
// for. It does nothing if m is not in the wheel; while m is being called back,
// the earlier of this and what Tick returns holds.
func (w *Wheel[M]) Sooner(m M, due uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := m.Place()
	due = max(due, w.past+1)
	if p.ticking {
		if p.again == 0 || due < p.again {
			p.again = due
		}
	}
	if !p.in || p.ticking || p.due <= due {
		return
	}
	w.unlink(m, p)
	p.due = due
	w.link(m, p)
	w.startOrStop()
}

// Remove takes m out, if it is in. It may be in Tick still.
func (w *Wheel[M]) Remove(m M) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := m.Place()
	if !p.in {
		return
	}
	p.in = false
	w.size--
	if !p.ticking {
		w.unlink(m, p)
		w.startOrStop()
	}
}

// Snapshot returns the members.
func (w *Wheel[M]) Snapshot() []M {
	w.mu.Lock()
	defer w.mu.Unlock()
	var none M
	all := make([]M, 0, w.size)
	for i := range w.first {
		for m := w.first[i]; m != none; m = m.Place().next {
			if m.Place().in { // not just being called back for the last time
				all = append(all, m)
			}
		}
	}
	return all
}

func (w *Wheel[M]) list(due uint32) *M {
	if due == Never {
		return &w.first[slots]
	}
	return &w.first[due%slots]
}

func (w *Wheel[M]) link(m M, p *Place[M]) {
	var none M
	if p.due != Never {
		w.due++
	}
	first := w.list(p.due)
	p.prev, p.next = none, *first
	if p.next != none {
		p.next.Place().prev = m
	}
	*first = m
}

func (w *Wheel[M]) unlink(m M, p *Place[M]) {
	var none M
	if p.due != Never {
		w.due--
	}
	if p.prev != none {
		p.prev.Place().next = p.next
	} else {
		*w.list(p.due) = p.next
	}
	if p.next != none {
		p.next.Place().prev = p.prev
	}
	p.prev, p.next = none, none
}

func (w *Wheel[M]) run(stop chan struct{}) {
	ticker := time.NewTicker(w.tick)
	defer ticker.Stop()
	var due []M
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
		}
		due = w.turn(w.now.Add(1), due[:0])
	}
}

// turn calls those back that are due.
func (w *Wheel[M]) turn(now uint32, due []M) []M {
	w.mu.Lock()
	w.past = now
	var none M
	for m := *w.list(now); m != none; {
		p := m.Place()
		next := p.next
		if p.due <= now {
			p.ticking = true
			due = append(due, m)
		}
		m = next
	}
	w.mu.Unlock()
	for _, m := range due {
		at := m.Tick(now)
		w.mu.Lock()
		p := m.Place()
		if p.again > 0 {
			at = min(at, p.again)
		}
		p.ticking, p.again = false, 0
		w.unlink(m, p)
		if p.in {
			p.due = max(at, w.past+1)
			w.link(m, p)
		}
		w.startOrStop()
		w.mu.Unlock()
	}
	clear(due)
	return due
}
