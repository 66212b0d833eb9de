package websocket

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/sockeye-ws/websocket/internal/inbuf"
	"github.com/sockeye-ws/websocket/internal/transport"
)

// Events serve a connection in event mode; see [Conn.Start]. The methods are
// called by one goroutine at a time, those of different connections at once. A
// method that blocks holds up its own connection only. What the application
// knows about the connection lives in its own type.
type Events interface {
	// Message is called with each data message, in order. p is borrowed: it
	// must not be used after Message has returned. An error ends the
	// connection as that of a Handler does; nil goes on. Message must not
	// wait for [Conn.Ping]: the pong comes after its return.
	Message(c *Conn, typ MessageType, p []byte) error
	// Closed is called once, when all is over: no Message is called any
	// more, and err is what the methods of c return.
	Closed(c *Conn, err error)
}

// Start hands the reading over to e and returns at once: for very many
// connections that are silent most of the time. While nothing arrives, the
// connection has no goroutine and no buffer (on Linux, over TCP with or without
// TLS; elsewhere a goroutine waits). Pings, pongs and the peer's Close are
// handled without help.
//
// After Start, other reads return [ErrConcurrentRead]; one in progress comes to
// its end first, and what it left of a message is part of the first one for e.
// A handler may return nil then without closing the connection. A second Start,
// and one after [Conn.CloseRead], does nothing. With nil for e the connection is
// closed with 1011.
func (c *Conn) Start(e Events) {
	if c.readClosed.Swap(true) {
		return
	}
	if e == nil {
		c.log(slog.LevelError, "websocket: start: the Events are nil")
		c.failWith(&CloseError{Code: StatusInternalError, cause: net.ErrClosed})
		return
	}
	c.mu.Lock()
	c.events = e
	over := c.over
	c.mu.Unlock()
	if over {
		go c.tellClosed(e)
		return
	}
	go func() {
		if !c.takeFor(turnEvents) && c.claimTurn(context.Background(), turnEvents) != nil {
			return
		}
		c.stays = !c.canPark() || !c.t.Tries()
		c.serveEvents()
	}()
}

// started reports whether the connection is in event mode.
func (c *Conn) started() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.events != nil
}

// What partings marks besides.
const (
	told = 1 << (8 + iota) // the application has been told that all is over
	gone                   // it is no longer one of its live set; under the mu of that
)

// parted counts who leaves a connection that has ended, and reports whether the
// caller is the last.
func (c *Conn) parted() bool { return c.partings.Add(1)&^told == 2 }

// tellClosed is the last that e hears.
func (c *Conn) tellClosed(e Events) {
	if c.partings.Or(told)&told != 0 {
		return
	}
	defer func() { c.logPanic(recover()) }()
	e.Closed(c, c.ended())
}

// errQuiet says that nothing has come for a while, or right now.
var errQuiet = errors.New("websocket: nothing to read")

// woken goes on with a connection that has been parked.
func (c *Conn) woken() {
	// The poller may tell of a broken connection at any time; and one that
	// has ended gives its turn to nobody.
	if !c.parked.CompareAndSwap(true, false) {
		return
	}
	// Keepalive may have the turn for a moment.
	if !c.takeFor(turnEvents) && c.claimTurn(context.Background(), turnEvents) != nil {
		return
	}
	// One that is busy is worth a goroutine that waits: it costs less than
	// parking each time.
	if c.live.clock()-c.parkedAt < busy {
		c.streak++
	} else {
		c.streak = 0
	}
	c.stays = c.streak >= busyStreak || !c.t.Tries()
	c.serveEvents()
}

const (
	// busy is how soon a connection has to wake after it was parked, so
	// many times in a row, to be served by a goroutine that waits for its
	// input.
	busy       = 50 * time.Millisecond
	busyStreak = 3
	// quietTicks is after how many ticks without input that goroutine ends.
	quietTicks = 2
)

// How a goroutine waits for input in event mode.
const (
	lingers    uint32 = 1 + iota // until it is told to park
	toldToPark                   // it has been
)

// serveEvents delivers messages until the connection is quiet or has ended. It
// has the turn, and gives it up: while the application has a message, only the
// end of the connection can take it.
func (c *Conn) serveEvents() {
	for {
		typ, p, err := c.borrow()
		switch {
		case err == errQuiet:
			if c.park() {
				return
			}
			c.stays = true
			continue
		case err != nil:
			_ = c.settle(err)
			c.giveTurn()
			return
		}
		part := c.part // p may lie in it
		c.part = inbuf.Message{}
		if c.charged > 0 {
			_ = c.charge(0)
		}
		if part.Len() == 0 && len(p) <= inbuf.Direct && c.in.Empty() {
			// The application may block, on very many connections at
			// once: it shall not hold what is much larger than p.
			part.Append(p, 0, false)
			p = part.Bytes()
			c.in.Release()
		}
		c.in.Pin()
		c.beforeWait()
		c.turn.Rename(turnEvents, turnDelivers)
		if !c.deliver(typ, p, part) {
			return
		}
	}
}

// delivered is what follows a message, however the application's call ended. It
// reports whether more can follow.
func (c *Conn) delivered(part inbuf.Message) bool {
	part.Release()
	if !c.turn.Rename(turnDelivers, turnEvents) {
		// The connection is ending or has ended meanwhile.
		if c.parted() {
			c.farewell()
		}
		return false
	}
	c.in.Unpin()
	if c.ended() != nil {
		c.giveTurn()
		return false
	}
	return true
}

// deliver calls the application, and reports what delivered does.
func (c *Conn) deliver(typ MessageType, p []byte, part inbuf.Message) (on bool) {
	returned := false
	defer func() { on = c.delivered(part) }()
	defer func() {
		if !returned { // a panic, or runtime.Goexit
			c.logPanic(recover())
			c.failWith(&CloseError{Code: StatusInternalError, cause: net.ErrClosed})
		}
	}()
	c.failed(c.events.Message(c, typ, p))
	returned = true
	return
}

// borrow returns the next message where it lies.
func (c *Conn) borrow() (MessageType, []byte, error) {
	if typ, p, err := c.atOnce(context.Background()); typ != 0 || err != nil {
		return typ, p, err
	}
	typ, err := c.assemble(context.Background(), nil, false)
	return typ, c.part.Bytes(), err
}

// tryFill adds what is there to the input.
func (c *Conn) tryFill() error {
	for {
		err := c.in.TryFill(c.t)
		switch {
		case err == nil:
			c.gotInput(c.in.Last())
			return nil
		case c.ended() != nil:
			return c.ended()
		case err == transport.ErrNotReady:
			return errQuiet
		}
		if err = c.interruptedBy(context.Background(), err); err != nil {
			return err
		}
	}
}

// mayLinger marks a wait of a goroutine that is to end if the wait is long.
func (c *Conn) mayLinger() {
	if c.live != nil && c.canPark() {
		c.lingering.Store(lingers)
		c.live.wheel.Sooner((*member)(c), c.live.wheel.Now()+quietTicks)
	}
}

// canPark reports whether the poller can take the connection, and has it know
// it the first time.
func (c *Conn) canPark() bool {
	if c.parkable == unknown {
		c.parkable = no
		if raw := c.t.Raw(); raw != nil && c.live != nil {
			if p := c.live.park(); p != nil {
				if t, err := p.Add(raw, (*member)(c)); err == nil {
					c.token, c.parkable = t, yes
				}
			}
		}
	}
	return c.parkable == yes
}

// What canPark knows.
const (
	unknown = iota
	no
	yes
)

// park leaves a quiet connection to the poller, and the turn to whoever wants
// it. It reports false, with the turn, where that cannot be.
func (c *Conn) park() bool {
	if !c.canPark() {
		return false
	}
	c.in.Rest()
	if f := c.inflow; !f.knows() {
		if f.watch.Drop() {
			c.letInflow()
		}
		c.inflow = nil // a callback may still have it
	}
	if c.more.Load() {
		c.more.Store(false)
	}
	c.out.Rest()
	c.t.Detach((*member)(c))
	raw, p := c.t.Raw(), c.live.park()
	token := c.token
	c.parkedAt = c.live.clock()
	c.turn.Give()
	c.parked.Store(true)
	// From here on another goroutine may have it.
	_ = p.Arm(raw, token) // or it has been closed
	return true
}
