package websocket

import (
	"context"

	"github.com/sockeye-ws/websocket/internal/sendq"
)

// Sending without waiting.

// Send sends one message without ever waiting: for those who have many
// connections to write to, or something better to do. Text has to be UTF-8.
//
// When Send returns nil, the message has been taken by the network, or copied
// to be sent without any further call; p may be used again. If more than
// [Config.WriteQueue] would wait for a peer that takes it slowly, Send does
// what [Config.Overflow] says: it ends the connection and returns how, or it
// drops this message and returns [ErrQueueFull], or it drops earlier ones that
// were sent by Send. While somebody writes a message by [Conn.Writer], others
// queue up behind it. Any number of goroutines may call Send. A message whose
// Send or Write has returned goes out before those that are sent from then on.
func (c *Conn) Send(typ MessageType, p []byte) error {
	if ended := c.ended(); ended != nil {
		return ended
	}
	if err := checkMessage("send", typ, p); err != nil {
		return err
	}
	var head [maxHeader]byte
	h := header{fin: true, rsv1: c.compresses(typ, len(p)), op: typ.opcode(), length: int64(len(p))}
	if err := c.posted(c.out.Post(c.appendHeader(head[:0], h), p, false)); err != nil {
		return err
	}
	c.traceSent(typ.bare(), int64(len(p)))
	c.flushSent()
	return nil
}

// SendPrepared is Send for a message that has been prepared for many
// connections. It costs neither a copy nor another encoding, but on a client's
// side, where it costs what Send does: each frame has a masking key of its own.
func (c *Conn) SendPrepared(p *Prepared) error {
	if ended := c.ended(); ended != nil {
		return ended
	}
	if !p.made() {
		return errUnprepared
	}
	if err := c.posted(c.postPrepared(p)); err != nil {
		return err
	}
	c.traceSent(p.typ.bare(), int64(len(p.data())))
	c.flushSent()
	return nil
}

// flushSent sees to it that what has been posted goes out.
func (c *Conn) flushSent() {
	if c.more.Load() {
		c.out.Attend()
	} else {
		c.out.Paced()
	}
}

// posted is what follows from the answer of the queue to a message.
func (c *Conn) posted(dropped int, err error) error {
	c.dropped(dropped)
	switch {
	case err == nil:
		return nil
	case err != sendq.ErrFull:
		return c.sendError(context.Background(), "send", err)
	}
	if c.cfg.Overflow == Disconnect {
		// First: others that the queue has refused meanwhile wait for it,
		// and so would a hook that sends.
		c.overflow()
		err = c.ended()
	} else {
		err = ErrQueueFull
	}
	c.dropped(1)
	return err
}

// Queued returns how much has been accepted by Write, Send and the like and
// not been taken by the network: the bytes, and the messages these belong to.
// Frames of [Conn.Writer] count for one message by their first.
func (c *Conn) Queued() (bytes, messages int) { return c.out.Queued() }

// postPrepared queues p, for whoever calls to flush, as this side sends it.
func (c *Conn) postPrepared(p *Prepared) (dropped int, err error) {
	compresses := c.compresses(p.typ, len(p.data()))
	if c.isClient() {
		var buf [maxHeader]byte
		h := header{fin: true, rsv1: compresses, op: p.typ.opcode(), length: int64(len(p.data()))}
		return c.out.Post(c.appendHeader(buf[:0], h), p.data(), false)
	}
	if compresses {
		if s := p.compressed(int(c.deflate.bits)); s != nil {
			return c.out.PostShared(s)
		}
	}
	return c.out.Post(nil, p.frame, true)
}
