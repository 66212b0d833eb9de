package peer

import (
	"slices"
	"sync"
)

// A sender can send a binary message, for any number of goroutines at once.
type sender interface{ Send(p []byte) error }

// A group is the connections of a fan-out. How one message gets to all is each
// library's own business: the first member brings the way.
type group struct {
	mu      sync.Mutex
	members []sender
	fan     func(members []sender, p []byte)
}

// A fanner knows how to send one message to many connections of its kind. The
// message must have been copied or sent when it returns.
type fanner interface {
	fan(members []sender, p []byte)
}

// A pumped conn has a queue and a goroutine that empties it.
type pumped interface {
	pump()
	stop()
}

func (w *work) join(c sender) {
	g := &w.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fan == nil {
		g.fan = each
		if f, ok := c.(fanner); ok {
			g.fan = f.fan
		}
	}
	if p, ok := c.(pumped); ok {
		go p.pump()
	}
	g.members = append(g.members, c)
	w.stats.Members.Add(1)
}

func (w *work) leave(c sender) {
	g := &w.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.members, c); i >= 0 {
		g.members = slices.Delete(g.members, i, i+1)
	}
	if p, ok := c.(pumped); ok {
		p.stop()
	}
	w.stats.Members.Add(-1)
}

// send holds the lock: nobody joins or leaves while it is measured.
func (g *group) send(p []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fan(g.members, p)
}

// each sends p to one member after the other.
func each(members []sender, p []byte) {
	for _, c := range members {
		_ = c.Send(p)
	}
}

// A queue is how most libraries are told to fan out: a channel for each
// connection and a goroutine that writes what comes from it. T is what is made
// once of each message.
type queue[T any] struct {
	messages chan T
	stopped  chan struct{}
}

// queueLength is above what any scenario has in flight, so that nobody is
// dropped or waited for.
const queueLength = 64

func newQueue[T any]() queue[T] {
	return queue[T]{make(chan T, queueLength), make(chan struct{})}
}

func (q queue[T]) put(m T) {
	select {
	case q.messages <- m:
	case <-q.stopped:
	}
}

// drain hands what is put to write. After an error it goes on and discards, so
// that put, which holds up everybody, never waits for one that is leaving.
func (q queue[T]) drain(write func(T) error) {
	var err error
	for {
		select {
		case m := <-q.messages:
			if err == nil {
				err = write(m)
			}
		case <-q.stopped:
			return
		}
	}
}

func (q queue[T]) stop() { close(q.stopped) }
