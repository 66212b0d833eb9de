package websocket

import (
	"sync/atomic"
	"time"

	"github.com/sockeye-ws/websocket/internal/wheel"
)

// What a peer may ask for, in time and in number (RFC 6455 §10.4); the sizes
// are limited where they are found, in fragment.go.

// arriving is what the clock knows of a message that is on its way. The holder
// of the read turn writes it.
type arriving struct {
	// How many ticks it has been waited for so far, and, in the lower half,
	// the tick in which the wait of right now began, one more each; 0:
	// nothing is on its way, nobody waits.
	waits atomic.Uint64
	got   atomic.Uint32 // KiB of it that have come
	first atomic.Bool   // the first message of the connection has begun
}

// awaitRest marks a wait inside a message, or inside a frame before it.
func (c *Conn) awaitRest() {
	l := c.live
	if l == nil {
		return
	}
	if b := c.in.Unread(); l.ticks.firstMessage > 0 && len(b) > 0 && !opcode(b[0]&0x0f).control() {
		c.arriving.first.Store(true)
	}
	if l.ticks.message == 0 {
		return
	}
	a := &c.arriving
	a.got.Store(uint32(min(c.asm.size-c.left, 1<<40) >> 10))
	w := a.waits.Load()
	if uint32(w) != 0 {
		return // the poller has waited
	}
	now := l.wheel.Now()
	a.waits.Store(max(w, 1<<32) | uint64(now+1))
	if w == 0 {
		l.wheel.Sooner((*member)(c), now+l.ticks.message+1)
	}
}

// restCame ends that, unless the poller is to wait in its place.
func (c *Conn) restCame(err *error) {
	w := c.arriving.waits.Load()
	if from := uint32(w); from != 0 && *err != errQuiet {
		c.arriving.waits.Store(w>>32<<32 + uint64(c.live.wheel.Now()+1-from)<<32)
	}
}

// arrived forgets what is no longer on its way.
func (c *Conn) arrived() {
	if c.arriving.waits.Load() != 0 {
		c.arriving.waits.Store(0)
	}
}

// lateMessage ends a connection whose peer takes too long to finish a message,
// and returns when to look again. Only time in which somebody waits for it
// counts: an application that does not read keeps its peer from sending.
func (c *Conn) lateMessage(now uint32) uint32 {
	a, l := &c.arriving, c.live
	w := a.waits.Load()
	if w == 0 {
		return wheel.Never
	}
	waited, from := w>>32-1, uint32(w)
	if from != 0 {
		waited += uint64(now + 1 - from)
	}
	most := uint64(l.ticks.message) + uint64(l.wheel.Ticks(time.Duration(a.got.Load())*time.Second))
	switch {
	case waited <= most: // so that it cannot be late before
		return uint32(min(uint64(now)+most-waited+1, wheel.Never-1))
	case from == 0, w != a.waits.Load():
		return now + 1
	}
	c.failWith(&CloseError{Code: StatusPolicyViolation, Reason: "the message takes too long"})
	return wheel.Never
}

// noMessage ends a connection whose peer has not sent its first message in
// time, and returns when to look again.
func (c *Conn) noMessage(now uint32) uint32 {
	l := c.live
	if l.ticks.firstMessage == 0 || c.arriving.first.Load() {
		return wheel.Never
	}
	if due := c.keepalive.born + l.ticks.firstMessage + 1; now < due {
		return due
	}
	if c.mayHoldInput(now, &c.keepalive.granted) {
		return now + 1 // it may have come, and nobody has read it
	}
	c.failWith(&CloseError{Code: StatusPolicyViolation, Reason: "no message came in time"})
	return wheel.Never
}

// rates are those of what has come; the holder of the read turn has them.
type rates struct{ control, message rate }

// A rate knows when what has come would have come at the speed allowed (the
// generic cell rate algorithm).
type rate struct{ next time.Time }

// over counts one more, and reports whether that is more than limit in a
// second.
func (r *rate) over(limit int) bool {
	now := time.Now()
	if r.next.Before(now) {
		r.next = now
	}
	r.next = r.next.Add(time.Second / time.Duration(limit))
	return r.next.Sub(now) > time.Second
}

// limitsRates reports whether a connection needs rates.
func (t *terms) limitsRates() bool { return t.ControlRate > 0 || t.MessageRate > 0 }

// countControl and countMessage judge the rate of what has come: whole control
// frames, and messages that begin.
func (c *Conn) countControl() *CloseError {
	if limit := c.cfg.ControlRate; limit > 0 && c.rare.rates.control.over(limit) {
		return &CloseError{Code: StatusPolicyViolation, Reason: "too many control frames"}
	}
	return nil
}

func (c *Conn) countMessage() *CloseError {
	if c.cfg.FirstMessageTimeout > 0 && !c.arriving.first.Load() {
		c.arriving.first.Store(true)
	}
	if limit := c.cfg.MessageRate; limit > 0 && c.rare.rates.message.over(limit) {
		return &CloseError{Code: StatusPolicyViolation, Reason: "too many messages"}
	}
	return nil
}

// charge counts the bytes that are held of a message that has not come whole,
// in steps, against what all connections may hold of such.
func (c *Conn) charge(held int) *CloseError {
	if c.live == nil {
		return nil
	}
	step := (held + chargeStep - 1) / chargeStep * chargeStep
	if step == c.charged {
		return nil
	}
	all := c.live.partial.Add(int64(step - c.charged))
	more := step > c.charged
	c.charged = step
	if limit := c.live.partialLimit; more && limit > 0 && all > limit {
		return &CloseError{Code: StatusTryAgainLater, Reason: "too much is being received"}
	}
	return nil
}

const chargeStep = 4 << 10
