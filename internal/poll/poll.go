// Package poll tells when descriptors can be read, for so many of them that a
// goroutine for each would be too much. One goroutine serves all; it waits in
// Go's own poller, so that no thread is blocked.
//
// It exists for Linux so far. Elsewhere New returns an error, and who would
// park a connection here keeps a goroutine for it.
package poll

import (
	"errors"
	"sync"
)

// ErrUnsupported is returned by New where there is no poller.
var ErrUnsupported = errors.New("poll: not on this system")

// A Waker is told, on a goroutine that must not be kept waiting, that its
// descriptor can be read, or has come to its end.
type Waker interface {
	comparable
	Wake()
}

// A Descriptor lends the number of an open file, which stays open during f:
// syscall.RawConn, say.
type Descriptor interface {
	Control(f func(fd uintptr)) error
}

// A Token is what a Poller knows a descriptor by. It is not used again for
// another one before a great many others, so that a wake which comes late
// reaches nobody else.
type Token struct{ slot, turn int32 }

// table finds the Waker of a token.
type table[W Waker] struct {
	mu    sync.Mutex
	slots []slot[W]
	free  int32 // the first free slot, plus 1
	used  int
}

type slot[W Waker] struct {
	w    W
	turn int32 // goes up with each use
	next int32 // free slot after this one, plus 1
}

func (t *table[W]) add(w W) Token {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.used++
	if t.free == 0 {
		t.slots = append(t.slots, slot[W]{w: w})
		return Token{int32(len(t.slots) - 1), 0}
	}
	i := t.free - 1
	s := &t.slots[i]
	t.free, s.next = s.next, 0
	s.w = w
	return Token{i, s.turn}
}

func (t *table[W]) find(k Token) (w W) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if int(k.slot) < len(t.slots) && t.slots[k.slot].turn == k.turn {
		return t.slots[k.slot].w
	}
	return w
}

func (t *table[W]) remove(k Token) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var none W
	s := &t.slots[k.slot]
	if s.turn != k.turn || s.w == none {
		return
	}
	s.w = none
	s.turn++
	s.next, t.free = t.free, k.slot+1
	t.used--
}
