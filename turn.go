package websocket

import (
	"context"
	"errors"
	"sync"

	"github.com/sockeye-ws/websocket/internal/await"
	"github.com/sockeye-ws/websocket/internal/inbuf"
)

// Who reads. One goroutine at a time has the turn, and what is known of the
// input is its own.

// Who holds the read turn.
const (
	turnRead     int32 = 1 + iota // a call that reads data
	turnPing                      // Ping, which gives it up for a read
	turnClose                     // CloseRead
	turnEvents                    // event mode
	turnDelivers                  // while the application has a message; finish may take it
	turnLook                      // keepalive, for a moment
	turnEnd                       // finish, for good
)

// An inflow is what has been read of a connection and not been handed over, and
// what is known of it.
type inflow struct {
	watch      await.Watch // for the context of who waits for input
	in         inbuf.Input
	asm        assembler
	left       int64          // payload bytes of the current data frame not yet consumed
	key        maskKey        // for the next of them
	fin        bool           // the current data frame is its message's last
	part       inbuf.Message  // what has come of the message, if it is wanted whole
	reader     *messageReader // who streams the message in progress, or nil
	heard      bool           // the peer's Close, or what rules one out, has been read
	peerCode   StatusCode     // of the peer's Close; 0: none was read
	charged    int            // of part, for the limit of all connections
	owes       bool           // a pong has been queued, to share a call with what follows
	unfinished *ending        // which whoever has the turn is to finish, in place of giving it up
}

var inflows = sync.Pool{New: func() any { return new(inflow) }}

// holdInflow sees to it that the holder of the turn has an inflow.
func (c *Conn) holdInflow() {
	if c.inflow == nil {
		c.inflow = inflows.Get().(*inflow)
		c.asm.limit, c.asm.maxFrames = c.cfg.ReadLimit, c.cfg.MaxFragments
	}
}

// knows reports whether f tells anything that a new one would not. Pongs that are
// owed have been flushed before any wait.
func (f *inflow) knows() bool {
	return f.asm.typ != 0 || !f.in.Empty() || f.part.Len() != 0 || f.charged != 0 || f.reader != nil || f.heard || f.unfinished != nil
}

// letInflow gives the inflow back if nothing is known of the input, so that a
// connection that waits for some does without.
func (c *Conn) letInflow() {
	f := c.inflow
	if f == nil || f.knows() || !f.watch.Unused() {
		return
	}
	f.in.Rest()
	c.inflow = nil
	*f = inflow{}
	inflows.Put(f)
}

// dropInflow gives the inflow back for good: nobody reads any more.
func (c *Conn) dropInflow() {
	f := c.inflow
	c.inflow = nil
	if f.watch.Drop() { // else a callback may still have it
		*f = inflow{}
		inflows.Put(f)
	}
}

// takeFor takes the turn, if it is free and the connection has not ended, and what
// goes with it. Who comes after the end must not wait for input: the interrupt that
// came with the end may have been for whoever had the turn before.
func (c *Conn) takeFor(who int32) bool {
	if c.live != nil {
		// Before, so that keepalive knows of whomever it meets.
		if now := c.live.wheel.Now(); now != c.began.Load() {
			c.began.Store(now)
		}
	}
	if !c.turn.Take(who) {
		return false
	}
	if c.ended() != nil {
		c.turn.Give()
		return false
	}
	c.holdInflow()
	return true
}

// takeTurn makes the caller the one who reads. A Ping that does so gives way.
func (c *Conn) takeTurn(ctx context.Context) error {
	if err := c.usable(ctx, "read"); err != nil {
		return err
	}
	if c.readClosed.Load() {
		return ErrConcurrentRead
	}
	if c.takeFor(turnRead) {
		return nil
	}
	if c.turn.Holder() == turnRead {
		return c.outcome(ErrConcurrentRead)
	}
	return c.claimTurn(ctx, turnRead)
}

// claimTurn waits to be the next who reads.
func (c *Conn) claimTurn(ctx context.Context, as int32) error {
	claim := c.turn.Claim(as)
	for claim == nil { // a read that has been waiting comes first
		if as == turnRead {
			return c.outcome(ErrConcurrentRead)
		}
		if err := c.waitFor(ctx, "read", nil, c.turn.Freed()); err != nil {
			return err
		}
		claim = c.turn.Claim(as)
	}
	// Whoever holds the turn from here on passes it to the claim. Only a
	// Ping may be disturbed: finish has the turn for good.
	if c.turn.Holder() == turnPing {
		c.t.In().Interrupt()
	}
	if err := c.waitFor(ctx, "read", claim.Granted, nil); err != nil {
		c.turn.Drop(claim)
		return err
	}
	if ended := c.ended(); ended != nil { // as in takeFor
		c.turn.Give()
		return ended
	}
	c.holdInflow()
	return nil
}

// errYield stops a Ping that reads when a read wants the turn, or when
// its pong has come.
var errYield = errors.New("websocket: ping: a read takes over")

// giveTurn lets the next one read. A connection that nobody has bytes from
// holds no buffer. Pongs that were to share a call go out with what is written
// next, or by themselves.
func (c *Conn) giveTurn() {
	if c.unfinished != nil {
		c.finishIt()
		return
	}
	c.in.Rest()
	if c.charged > 0 {
		_ = c.charge(c.part.Len())
	}
	c.beforeWait()
	c.turn.Give()
}

// beforeWait prepares for a time in which nobody may come back to read.
func (c *Conn) beforeWait() {
	more := completeFrame(c.in.Unread(), c.peerMasks())
	if more != c.more.Load() {
		c.more.Store(more)
	}
	if !more {
		c.countMessages()
	}
	if c.owes {
		c.owes = false
		c.out.Attend()
	}
}
