package sendq

import (
	"runtime"
	"sync"
)

// A Pace decides whether who has something to write on a quiet connection
// makes the call, or leaves it to another goroutine because more is about to
// come and can share it. Nothing tells beforehand, so it tries: now and then
// it lets one be left, and if nothing came to it, it waits twice as long until
// it tries again. Somebody who writes in a loop is soon served by large calls,
// and somebody who writes once in a while by calls of his own.
type Pace struct{ left, wait uint8 }

const (
	firstWait = 16  // calls until it tries
	longest   = 255 // calls between two tries
	worth     = 4   // messages for which a call was worth leaving
)

// NewPace returns one that has seen nothing.
func NewPace() Pace { return Pace{firstWait, firstWait} }

// Now reports whether to make the call now.
func (p *Pace) Now() bool {
	if p.left == 0 {
		return false
	}
	p.left--
	return true
}

// Gathered says how many messages a call had that was left.
func (p *Pace) Gathered(n int) {
	if n >= worth {
		p.wait = 0
	} else {
		p.wait = uint8(min(2*int(p.wait)+1, longest))
	}
	p.left = p.wait
}

const (
	looks    = 4  // without anything new, until nothing is waited for
	patience = 32 // times that something new is waited for
)

// LetGather is for who was started to make a call for others, perhaps on
// another processor while these still prepare what is to share it: it lets them
// go on as long as what gathered tells changes, and not 0 from the start. It
// does not wait for time to pass. It is called with mu held, and so is gathered.
func LetGather(mu *sync.Mutex, gathered func() int) {
	was := 0
	for range patience {
		now := was
		for range looks {
			if now = gathered(); now != was || now == 0 {
				break
			}
			mu.Unlock()
			runtime.Gosched()
			mu.Lock()
		}
		if now == was || now == 0 {
			return
		}
		was = now
	}
}
