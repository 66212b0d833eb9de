package websocket

import (
	"context"
	"errors"
	"os"
)

// Frames as they come, and the wait for them. All of it runs under the read
// turn.

// nextFrame goes to the payload of the next data frame.
func (c *Conn) nextFrame(ctx context.Context) error {
	h, n, err := c.nextData(ctx, nil)
	if err != nil {
		return err
	}
	begins := c.asm.typ == 0
	if v := c.asm.begin(h); v != nil {
		return v
	}
	if begins {
		if v := c.countMessage(); v != nil {
			return v
		}
	}
	c.in.Consume(n)
	c.left, c.key, c.fin = h.length, h.key, h.fin
	if h.length == 0 && !c.asm.deflated {
		return c.judge(nil)
	}
	return nil
}

// nextData handles control frames until the header of a data frame is at the
// front, and returns it without consuming it; or, with a ping, until that has
// been answered. Inside a message of which the last frame has begun it stands
// before more data, or before an end that has yet to be told.
func (c *Conn) nextData(ctx context.Context, until *ping) (header, int, error) {
	for c.left == 0 && !(c.asm.typ != 0 && c.fin) {
		if until.isAnswered() {
			return header{}, 0, errYield
		}
		b := c.in.Unread()
		h, n, v := parseHeader(b, c.peerMasks(), c.deflate != nil)
		if v == nil && len(b) > 0 && !h.op.control() {
			v = c.asm.order(h.op)
		}
		switch {
		case v != nil:
			return header{}, 0, v
		case n > 0 && !h.op.control():
			return h, n, nil
		case n > 0 && len(b) >= n+int(h.length):
			// Whole, so that a read that is cancelled leaves it whole.
			p := b[n : n+int(h.length)]
			c.in.Consume(n + len(p))
			if c.asm.typ == 0 {
				c.arrived()
			}
			mask(h.key, p)
			if v := c.countControl(); v != nil && h.op != opClose {
				return header{}, 0, v
			}
			if err := c.gotControl(h.op, p); err != nil {
				return header{}, 0, err
			}
		default:
			if err := c.fill(ctx); err != nil {
				return header{}, 0, err
			}
		}
	}
	return header{}, 0, nil
}

// payload consumes up to n buffered bytes of the current frame, unmasked and
// judged. They are valid until the input is next read or released.
func (c *Conn) payload(n int64) ([]byte, error) {
	b := c.in.Unread()
	b = b[:min(int64(len(b)), c.left, n)]
	c.in.Consume(len(b))
	return b, c.judge(b)
}

// readPayload reads payload of the current frame into p, past the buffer.
func (c *Conn) readPayload(ctx context.Context, p []byte) (int, error) {
	n, err := c.readInto(ctx, p)
	if err != nil {
		return 0, err
	}
	return n, c.judge(p[:n])
}

// judge unmasks and checks bytes that have come of the current frame.
func (c *Conn) judge(b []byte) error {
	c.key = mask(c.key, b)
	c.left -= int64(len(b))
	if v := c.asm.accept(b, c.fin && c.left == 0); v != nil {
		return v
	}
	return nil
}

// countMessages counts those that have come since the last time.
func (c *Conn) countMessages() {
	if n := c.asm.whole; n > 0 {
		c.asm.whole = 0
		c.received.messages.Add(uint64(n))
	}
}

// await takes the turn and, if nothing has come of a message, waits for one to
// begin. Here is where most connections are most of the time: the less lies on the
// stack, the smaller that stays. With an error it has not got the turn.
func (c *Conn) await(ctx context.Context) error {
	if err := c.takeTurn(ctx); err != nil {
		return err
	}
	if !c.in.Empty() || c.asm.typ != 0 || c.reader != nil || c.outer(ctx).Done() != nil {
		return nil
	}
	c.out.Flush()
	c.countMessages()
	c.letInflow()
	n, err := c.t.Fill((*intake)(c), true)
	c.holdInflow()
	c.in.Took(n)
	if err == nil {
		c.gotInput(n)
		return nil
	}
	if err = c.interruptedBy(ctx, err); err != nil {
		err = c.settle(err)
		c.giveTurn()
	}
	return err
}

// An intake is a Conn as the transport knows it: the room for what comes, and for
// what is known of it, is there when something does.
type intake Conn

// Open implements transport.Room.
func (i *intake) Open(held bool) []byte {
	(*Conn)(i).holdInflow()
	return i.in.Open(held)
}

// Drop implements transport.Room.
func (i *intake) Drop() {
	i.in.Drop()
	(*Conn)(i).letInflow()
}

// takeIn waits for input, behind what is there. Who is idle waits as in await, which
// does not call this, so that less lies on the stack.
func (c *Conn) takeIn(idle bool) error {
	if !idle {
		return c.in.Fill(c.t)
	}
	c.letInflow()
	n, err := c.t.Fill((*intake)(c), true)
	c.holdInflow()
	c.in.Took(n)
	return err
}

// fill adds to the input.
func (c *Conn) fill(ctx context.Context) (err error) {
	idle := c.in.Empty() && c.left == 0
	c.out.Flush() // what waits for company does not get any before the wait
	c.countMessages()
	if !idle || c.asm.typ != 0 {
		c.awaitRest()
		defer c.restCame(&err)
	}
	if c.turn.Holder() == turnEvents {
		if !c.stays {
			return c.tryFill()
		}
		c.mayLinger()
		defer c.lingering.Store(0)
	}
	if c.outer(ctx).Done() == nil {
		// Nothing but the end of the connection ends this wait, as a rule.
		err := c.takeIn(idle)
		if err == nil {
			c.gotInput(c.in.Last())
			return nil
		}
		if err = c.interruptedBy(ctx, err); err != nil {
			return err
		}
	}
	_, err = c.untilInput(ctx, func() (int, error) {
		if err := c.takeIn(idle); err != nil {
			return 0, err
		}
		return c.in.Last(), nil
	})
	return err
}

// readInto reads into p.
func (c *Conn) readInto(ctx context.Context, p []byte) (n int, err error) {
	c.out.Flush()
	c.awaitRest()
	defer c.restCame(&err)
	if c.turn.Holder() == turnEvents {
		c.mayLinger()
		defer c.lingering.Store(0)
	}
	return c.untilInput(ctx, func() (int, error) { return c.t.Read(p) })
}

// untilInput runs a call that waits for input, until it succeeds, the connection
// has ended, ctx has, or a read wants the turn from a Ping.
func (c *Conn) untilInput(ctx context.Context, read func() (int, error)) (int, error) {
	ctx = c.outer(ctx)
	for {
		c.watch.Begin(ctx, c.t.In())
		n, err := read()
		c.watch.End(ctx)
		if n > 0 {
			c.gotInput(n)
			return n, nil
		}
		if err = c.interruptedBy(ctx, err); err != nil {
			return 0, err
		}
	}
}

// interruptedBy returns the error of a call that has waited for input and got
// err, or nil if it is to wait on.
func (c *Conn) interruptedBy(ctx context.Context, err error) error {
	interrupted := isTimeout(err) && c.t.In().Resume()
	switch {
	case c.ended() != nil:
		return c.ended()
	case !interrupted: // a deadline that is not ours included
		return lost(err)
	case ctx.Err() != nil:
		return contextEnded(ctx, "read")
	case c.turn.Holder() == turnPing && c.turn.Claimed():
		return errYield
	case c.lingering.Load() == toldToPark:
		c.stays, c.streak = false, 0
		return errQuiet
	}
	return nil
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
