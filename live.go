package websocket

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sockeye-ws/websocket/internal/poll"
	"github.com/sockeye-ws/websocket/internal/wheel"
)

// live is the set of an Upgrader's connections, from before their 101 until
// they are over, and the clock that they share. Those of one DialOptions are
// such a set, too, and each end of a Pipe is one.
type live struct {
	wheel wheel.Wheel[*member]
	began time.Time // what its clock counts from
	ticks struct {  // of the settings, in ticks; 0: none
		pingInterval, pingTimeout, message, firstMessage uint32
	}
	count        counters
	partial      atomic.Int64 // bytes held of messages that have not come whole
	partialLimit int64        // of these; negative: none
	shutdown     struct {
		code   StatusCode
		reason string
		window time.Duration
	}

	mu        sync.Mutex
	down      bool                  // Shutdown has been called
	upgrading int                   // requests that are about to become connections
	open      int                   // connections
	handlers  int                   // goroutines that serve one
	poller    *poll.Poller[*member] // made for the first that parks
	unpolled  bool                  // there is none on this system
	added     uint64                // connections ever
	idle      chan struct{}         // closed when nothing of these is left; made by Shutdown
}

// tick is the unit of the clock, or a sixteenth of the shortest time that it
// has to measure.
const tick = 500 * time.Millisecond

func (l *live) init(u *Upgrader, cfg *terms) {
	l.partialLimit = cmp.Or(u.PartialLimit, defaultPartialLimit)
	l.shutdown.code = cmp.Or(u.ShutdownCode, StatusGoingAway)
	l.shutdown.reason = u.ShutdownReason
	l.shutdown.window = cmp.Or(u.ShutdownWindow, defaultShutdownWindow)
	l.initClock(cfg)
}

func (l *live) initClock(cfg *terms) {
	l.began = time.Now()
	unit := tick
	for _, d := range []time.Duration{cfg.MessageTimeout, cfg.FirstMessageTimeout, cfg.PingInterval} {
		if d > 0 {
			unit = min(unit, d/16)
		}
	}
	if cfg.PingInterval > 0 {
		unit = min(unit, cfg.PingTimeout/16)
	}
	l.wheel.Init(max(unit, time.Millisecond))
	if cfg.PingInterval > 0 {
		l.ticks.pingInterval = l.wheel.Ticks(cfg.PingInterval)
		l.ticks.pingTimeout = l.wheel.Ticks(cfg.PingTimeout)
	}
	l.ticks.message = l.wheel.Ticks(max(cfg.MessageTimeout, 0))
	l.ticks.firstMessage = l.wheel.Ticks(max(cfg.FirstMessageTimeout, 0))
}

// clock returns the time since the first connection was asked for.
func (l *live) clock() time.Duration { return time.Since(l.began) }

// reserve keeps a place for a connection that a request asks for, or says why
// there is none. It is followed by unreserve or add.
func (l *live) reserve(max int) *HandshakeError {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.down:
		return refuse(http.StatusServiceUnavailable, "the server is shutting down")
	case max > 0 && l.upgrading+l.open >= max:
		return refuse(http.StatusServiceUnavailable, "too many connections", "Retry-After", retryAfter)
	}
	l.upgrading++
	return nil
}

// retryAfter is when a client may try again that found too many connections,
// in seconds.
const retryAfter = "5"

// unreserve gives that place back.
func (l *live) unreserve() { l.change(func() { l.upgrading-- }) }

// add puts a connection in its place, before anybody else knows it.
func (l *live) add(c *Conn) {
	c.live = l
	l.mu.Lock()
	l.upgrading--
	l.open++
	n := l.added
	l.added++
	l.mu.Unlock()
	now := l.wheel.Now()
	c.lastInput.Store(now)
	c.born = l.clock()
	due := uint32(wheel.Never)
	if l.ticks.pingInterval > 0 {
		c.keepalive.interval = l.ticks.pingInterval - spread(uint32(n), l.ticks.pingInterval/4)
		due = now + c.keepalive.interval
	}
	if l.ticks.firstMessage > 0 {
		c.keepalive.born = now
		due = min(due, now+l.ticks.firstMessage+1)
	}
	c.traceOpened()
	l.mu.Lock()
	if c.partings.Load()&gone == 0 { // else Opened has ended it
		l.wheel.Add((*member)(c), due)
	}
	down := l.down
	l.mu.Unlock()
	if c.arriving.waits.Load() != 0 || c.lingering.Load() != 0 {
		// Who reads since Opened has asked for a look before it was there.
		l.wheel.Sooner((*member)(c), now+1)
	}
	if down { // Shutdown may have looked before it was there
		c.goAway()
	}
}

// join makes c one of l, where nothing is refused.
func (c *Conn) join(l *live) {
	_ = l.reserve(0)
	l.add(c)
}

// spread makes the intervals of connections differ by up to n ticks, so that
// those that came together do not ping together: the first has the whole one,
// and each falls into a gap between the others (multiples of the golden ratio).
func spread(i, n uint32) uint32 {
	return uint32(uint64(i*0x9e3779b1) * uint64(n+1) >> 32)
}

// remove takes out a connection that is over.
func (l *live) remove(c *Conn, end *Closing) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wheel.Remove((*member)(c))
	c.partings.Or(gone)
	l.countEnd(end)
	if l.poller != nil && c.parkable == yes {
		l.poller.Remove(c.token)
	}
	if l.open--; l.open == 0 && l.poller != nil {
		go l.poller.Close()
		l.poller = nil
	}
	l.noticeEmpty()
}

// park returns the poller of parked connections, or nil if there is none. It is
// there as long as there are connections.
func (l *live) park() *poll.Poller[*member] {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.poller == nil && !l.unpolled {
		var err error
		if l.poller, err = poll.New[*member](); err != nil {
			l.poller, l.unpolled = nil, err == poll.ErrUnsupported
		}
	}
	return l.poller
}

// moved tells the poller that c has another descriptor.
func (l *live) moved(c *Conn, from, to int) error {
	l.mu.Lock()
	p := l.poller
	l.mu.Unlock()
	if p == nil {
		return poll.ErrUnsupported
	}
	return p.Moved(from, to, c.token)
}

// change changes the set, and tells Shutdown when it has become empty.
func (l *live) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	l.noticeEmpty()
}

// noticeEmpty is change without a change, with mu held.
func (l *live) noticeEmpty() {
	if l.idle != nil && l.upgrading+l.open+l.handlers == 0 {
		close(l.idle)
		l.idle = nil
	}
}

// served says that the goroutine of a handler has ended.
func (l *live) served() { l.change(func() { l.handlers-- }) }

// Conns returns the connections that there are as the loop begins, in no order. A
// connection is one of them until it is over and [Events.Closed] and [Trace.Closed],
// if there are any, have returned.
func (u *Upgrader) Conns() iter.Seq[*Conn] {
	return func(yield func(*Conn) bool) {
		for _, m := range u.live.wheel.Snapshot() {
			if !yield((*Conn)(m)) {
				return
			}
		}
	}
}

// A ShutdownError is returned by [Upgrader.Shutdown] when its context ended
// first.
type ShutdownError struct {
	Cut      int // connections that were cut
	Handlers int // of these, and of connections that had ended; they go on

	cause error
}

// Error says how many connections were cut.
func (e *ShutdownError) Error() string {
	noun := "connections"
	if e.Cut == 1 {
		noun = "connection"
	}
	handlers := ""
	if e.Cut == 0 && e.Handlers > 0 { // else that says it
		handlers = fmt.Sprintf(", handlers still running: %d", e.Handlers)
	}
	return fmt.Sprintf("websocket: shutdown: %d %s cut%s: %v", e.Cut, noun, handlers, e.cause)
}

// Unwrap returns the cause of the context's end.
func (e *ShutdownError) Unwrap() error { return e.cause }

// Shutdown ends all connections as they should end, for a server that goes
// down. From now on handshakes are answered with 503. Every connection is
// closed with [Upgrader.ShutdownCode], not all at once but spread over
// [Upgrader.ShutdownWindow], after what has been queued for it. Shutdown waits
// until all are over and their handlers have returned; it cannot wait for
// callers of [Upgrader.Upgrade]. When ctx ends it cuts what is left and returns
// a [*ShutdownError], without waiting for handlers.
//
// [http.Server.Shutdown] neither closes nor waits for these connections, and
// what is registered by RegisterOnShutdown is not waited for. So:
//
//	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
//	defer cancel()
//	stopped := make(chan error, 1)
//	go func() { stopped <- server.Shutdown(ctx) }()
//	err := errors.Join(upgrader.Shutdown(ctx), <-stopped)
//
// Any number of goroutines may call it, also after it has returned.
func (u *Upgrader) Shutdown(ctx context.Context) error {
	_, _ = u.settings()
	l := &u.live
	l.mu.Lock()
	l.down = true
	empty := l.upgrading+l.open+l.handlers == 0
	if l.idle == nil && !empty {
		l.idle = make(chan struct{})
	}
	idle := l.idle
	l.mu.Unlock()
	if empty {
		return nil
	}
	if ctx.Err() == nil {
		u.closeAll(ctx, idle)
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	e := &ShutdownError{Handlers: l.handlers, cause: context.Cause(ctx)}
	l.mu.Unlock()
	for c := range u.Conns() {
		c.mu.Lock()
		over := c.over // and Closed has not returned
		c.mu.Unlock()
		if !over {
			_ = c.CloseNow()
			e.Cut++
		}
	}
	return e
}

// closeAll closes all connections, at even distances over the window, or over
// half of what is left of ctx if that is less.
func (u *Upgrader) closeAll(ctx context.Context, idle <-chan struct{}) {
	window := max(u.live.shutdown.window, 0)
	if end, ok := ctx.Deadline(); ok {
		window = min(window, time.Until(end)/2)
	}
	members := u.live.wheel.Snapshot()
	began := time.Now()
	for i, m := range members {
		at := began.Add(window * time.Duration(i) / time.Duration(len(members)))
		if wait := time.Until(at); wait >= shortest {
			select {
			case <-time.After(wait):
			case <-idle:
				return
			case <-ctx.Done():
				return
			}
		}
		(*Conn)(m).goAway()
	}
}

// shortest is the least that is worth waiting for between two.
const shortest = time.Millisecond

// goAway closes c because its server goes down.
func (c *Conn) goAway() {
	f := &c.live.shutdown
	_ = c.Close(f.code, f.reason)
}
