package websocket

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"unicode/utf8"

	"github.com/sockeye-ws/websocket/internal/sendq"
)

// Close payloads (RFC 6455 §5.5.1).

const maxReason = maxControl - 2

// parseClose reads the payload of a peer's Close: the error that it ends the
// connection with, or the violation that it is.
func parseClose(p []byte) (closed, violation *CloseError) {
	if len(p) == 0 {
		return &CloseError{Code: StatusNoStatusRcvd, Remote: true}, nil
	}
	if len(p) == 1 {
		return nil, protocolError("close payload of one byte")
	}
	code := StatusCode(binary.BigEndian.Uint16(p))
	if !code.receivable() {
		return nil, protocolError("close code not allowed")
	}
	if !utf8.Valid(p[2:]) {
		return nil, &CloseError{Code: StatusInvalidFramePayloadData, Reason: "close reason is not UTF-8"}
	}
	return &CloseError{Code: code, Reason: string(p[2:]), Remote: true}, nil
}

// appendClose appends a Close frame. A reason that is too long is cut between
// two characters.
func appendClose(b []byte, code StatusCode, reason string) []byte {
	if code == StatusNoStatusRcvd {
		return appendHeader(b, header{fin: true, op: opClose})
	}
	reason = cutReason(reason)
	b = appendHeader(b, header{fin: true, op: opClose, length: int64(2 + len(reason))})
	b = binary.BigEndian.AppendUint16(b, uint16(code))
	return append(b, reason...)
}

func cutReason(s string) string {
	for len(s) > maxReason {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}

// gotControl handles a control frame with its payload, unmasked. A Close is
// returned as the error it ends the connection with.
func (c *Conn) gotControl(op opcode, payload []byte) error {
	switch op {
	case opPing:
		var frame [shortHeader + maxControl]byte
		// A queue that is closed has its Close frame: no pong follows it.
		_ = c.out.Reply(c.appendControl(frame[:0], opPong, payload))
		c.owes = true
	case opPong:
		c.gotPong(payload)
	case opClose:
		closed, violation := parseClose(payload)
		if violation != nil {
			return violation
		}
		return closed
	}
	return nil
}

// How a connection ends.
//
//	open ── Close, handler returned nil ──► Close frame, wait for the peer's ─┐
//	     ── peer's Close ─────────────────► Close frame with its code ────────┤
//	     ── violation, handler's error ───► Close frame with our code ────────┤
//	     ── end of input without a Close ─► (no Close frame) ─────────────────┤
//	     ── lost, cut by CloseNow ──────────────────────────────► closed ◄────┴ half-close, read on
//
// The first of these is recorded, once, and is what every method returns from
// then on. What the record says goes out after what was accepted before it.
// All that takes time is done by one goroutine that starts with the record:
// nobody waits who does not ask to, and every step has a bound. Where nothing
// takes time, as nearly always when the connection was lost, whoever read that
// does it in place of giving up the turn; see finishIt.

// An ending is the record of how a connection ended.
type ending struct {
	err *CloseError
	// awaitPeer: the peer's Close is still to come (RFC 6455 §7.1.2).
	awaitPeer bool
	// cut: nothing is sent or read any more.
	cut bool
	// tooSlow: what the peer has not taken is dropped, the Close frame
	// excepted.
	tooSlow bool
}

// ended returns how the connection ended, or nil.
func (c *Conn) ended() error {
	if e := c.end.Load(); e != nil {
		return e.err
	}
	return nil
}

// outcome returns how the connection ended, or else err.
func (c *Conn) outcome(err error) error {
	if ended := c.ended(); ended != nil {
		return ended
	}
	return err
}

// shut records e, if it is the first, and starts what follows from it. frame
// is the Close frame to send, or nil.
func (c *Conn) shut(e *ending, frame []byte) bool {
	if !c.record(e, frame) {
		return false
	}
	go c.finish(e)
	return true
}

// record is shut without what takes time.
func (c *Conn) record(e *ending, frame []byte) bool {
	if !c.end.CompareAndSwap(nil, e) {
		return false
	}
	c.shutting.Set()
	frame = c.maskClose(frame)
	switch {
	case e.cut:
		if frame != nil {
			c.out.TryLast(frame)
		}
		c.out.Drop()
		_ = c.t.Abort() // which ends whatever waits
	case e.tooSlow:
		c.out.Cut(frame)
	default:
		c.out.Close(frame)
	}
	if !e.cut {
		c.t.In().Interrupt()
	}
	c.leaveGroups()
	return true
}

// settle ends the connection if err is a verdict on the peer or its loss, and
// returns what the caller of a method is told.
func (c *Conn) settle(err error) error {
	verdict, ok := err.(*CloseError)
	if !ok || err == c.ended() {
		return err
	}
	// What is read while another end has just been recorded is not the end
	// any more, but may be the Close that it waits for.
	c.heard = verdict.Code != StatusAbnormalClosure
	if c.heard && verdict.Remote {
		c.peerCode = verdict.Code
	}
	switch {
	case verdict.Code == StatusAbnormalClosure:
		// What was accepted still goes out to a peer that has only
		// ended its own direction; there is no Close frame (§7.1.5).
		e := &ending{err: verdict, cut: verdict.cause != io.ErrUnexpectedEOF}
		switch {
		case !c.record(e, nil):
		case c.takesNoTime(e):
			c.unfinished = e
		default:
			go c.finish(e)
		}
	case verdict.Remote: // the answer has the peer's code (§5.5.1)
		c.shut(&ending{err: verdict}, appendClose(nil, verdict.Code, ""))
	default:
		c.failWith(verdict)
	}
	return c.ended()
}

// lost is the loss of the connection by err, an error of reading or writing.
func lost(err error) *CloseError {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return &CloseError{Code: StatusAbnormalClosure, Remote: true, cause: err}
}

// writeFailed is told by the queue that a write failed.
func (c *Conn) writeFailed(err error) {
	e := lost(err)
	var torn *sendq.TornError
	if errors.As(err, &torn) {
		// This side's context cut a frame; the rest of it can never follow.
		e = &CloseError{Code: StatusAbnormalClosure, cause: contextEnded(torn.Context, "write inside a frame")}
	}
	c.shut(&ending{err: e, cut: true}, nil)
}

// abandon ends the connection over a message that was begun and given up for
// the reason why.
func (c *Conn) abandon(why error) {
	c.failWith(&CloseError{Code: StatusInternalError, Reason: "message abandoned", cause: asked{why}})
}

// asked is the cause of an end that this side wanted, with the reason why.
type asked struct{ why error }

// Error says why.
func (e asked) Error() string { return e.why.Error() }

// Is makes it one that this side asked for.
func (e asked) Is(target error) bool { return target == net.ErrClosed }

// Unwrap returns why.
func (e asked) Unwrap() error { return e.why }

// failWith ends the connection by this side's judgement: the peer is told,
// and not asked for its Close (§7.1.7).
func (c *Conn) failWith(e *CloseError) {
	c.shut(&ending{err: e}, appendClose(nil, e.Code, e.Reason))
}

// overflow ends the connection because a message found the queue full.
func (c *Conn) overflow() {
	bytes, messages := c.Queued()
	e := &CloseError{Code: StatusPolicyViolation, Reason: "messages are not taken fast enough", cause: asked{ErrQueueFull}}
	if c.shut(&ending{err: e, tooSlow: true}, appendClose(nil, e.Code, e.Reason)) {
		c.log(slog.LevelWarn, "websocket: peer disconnected, it does not take its messages fast enough",
			slog.Int("queued_bytes", bytes), slog.Int("queued_messages", messages))
	}
}

// Close ends the connection with a status code and a reason for the peer
// (RFC 6455 §7.1.2). It returns at once: the Close frame goes out after what
// has been accepted before it, then the peer has [Config.CloseTimeout] to
// answer, and at last the transport is closed; <-c.Context().Done() waits for
// that. A peer that takes nothing is cut after [Config.WriteTimeout].
//
// The code must be 1000 to 1003, 1007 to 1009, 1011 to 1014 or 3000 to 4999, a
// client's may also be 1010, and the reason UTF-8 of at most 123 bytes; otherwise Close returns an error
// and the connection stays open. On a connection that has ended already it
// does nothing and returns how it ended. Any goroutine may call it, also while
// others read or write: calls that wait return at once; a Write of which the
// network has begun to take bytes goes on, within its WriteTimeout.
func (c *Conn) Close(code StatusCode, reason string) error {
	if ended := c.ended(); ended != nil {
		return ended
	}
	if !c.maySend(code) {
		return fmt.Errorf("websocket: close: a %s cannot send code %d", c.role(), code)
	}
	if len(reason) > maxReason {
		return fmt.Errorf("websocket: close: reason of %d bytes, at most %d fit", len(reason), maxReason)
	}
	if !utf8.ValidString(reason) {
		return errors.New("websocket: close: reason is not UTF-8")
	}
	e := &CloseError{Code: code, Reason: reason, cause: net.ErrClosed}
	if !c.shut(&ending{err: e, awaitPeer: c.cfg.CloseTimeout >= 0}, appendClose(nil, code, reason)) {
		return c.ended()
	}
	return nil
}

// CloseNow cuts the connection: nothing that is queued is sent, no Close
// frame either, and the transport is closed at once. Use it when the peer
// need not know, and deferred, to be sure that a connection does not outlive
// its function. If the connection has ended already, it returns how; a
// closing handshake in progress is cut short.
func (c *Conn) CloseNow() error {
	e := &CloseError{Code: StatusAbnormalClosure, cause: net.ErrClosed}
	if c.shut(&ending{err: e, cut: true}, nil) {
		return nil
	}
	c.out.Drop()
	c.t.Abort()
	return c.ended()
}

// finish does what an ending asks for, and then closes the transport. It runs
// on a goroutine of its own and is the last to hold the read turn.
func (c *Conn) finish(e *ending) {
	if c.cfg.WriteTimeout < 0 {
		c.t.Out().Bound(defaultWriteTimeout)
	}
	delivering := c.takeOver()
	c.wrapUp(e)
	if !delivering || c.parted() {
		c.farewell()
	}
}

// takesNoTime reports whether whoever reads can do what e asks for itself: there
// is nobody to be waited for, and no code of the application to be called.
func (c *Conn) takesNoTime(e *ending) bool {
	if !e.cut {
		return false
	}
	select {
	case <-c.out.Drained():
		return !c.tellsClosed()
	default:
		return false
	}
}

// finishIt is finish for a holder of the turn, who keeps it for good.
func (c *Conn) finishIt() {
	e := c.unfinished
	c.unfinished = nil
	reader := c.turn.Holder()
	c.turn.Rename(reader, turnEnd)
	c.wrapUp(e)
	if reader != turnEvents && c.started() {
		go c.farewell() // the application is not to be called from within its call
		return
	}
	c.leave(reader == turnEvents)
}

// wrapUp is the part of finish in which the turn is held.
func (c *Conn) wrapUp(e *ending) {
	c.holdInflow()
	c.watch.Drop()
	c.t.In().Resume()
	c.part.Release()
	_ = c.charge(0)
	if !e.cut { // else it has been closed
		c.linger(e)
		c.t.Abort()
	}
	<-c.out.Drained() // a call that was cut has counted what was taken
	c.in.Release()
	if c.deflate != nil {
		c.deflate.dec.Release()
	}
	c.countMessages()
	c.mu.Lock()
	c.over = true
	l := c.life.Load()
	c.mu.Unlock()
	if l != nil {
		l.cancel(e.err)
	}
}

// takeOver takes the turn for good, from the application too if it has a
// message, and reports whether it did.
func (c *Conn) takeOver() (delivering bool) {
	for {
		freed := c.turn.Freed()
		if c.turn.Take(turnEnd) {
			return false
		}
		if c.turn.Rename(turnDelivers, turnEnd) {
			return true
		}
		<-freed
	}
}

// farewell is when all is over and the application has nothing of c any more.
func (c *Conn) farewell() { c.leave(c.started()) }

// leave takes c from the others, after its Events have been told if they are to
// be. After a Start that finds all over, they are told there.
func (c *Conn) leave(tell bool) {
	var end Closing
	c.closing(&end)
	c.dropInflow()
	if c.live != nil {
		defer c.live.remove(c, &end)
		if c.tellsClosed() {
			defer c.traceClosed(&end)
		}
	}
	if tell {
		c.tellClosed(c.events)
	}
}

// A life is the context of a connection, made when it is asked for.
type life struct {
	context.Context
	cancel context.CancelCauseFunc
}

// Context returns a context that is done when all is over: the closing
// handshake has ended and the transport is closed. Its [context.Cause] is what
// the methods of c return by then. Use it to stop what works for the
// connection; calls on c itself need no context for that.
//
// Under [Upgrader.Upgrade] it has the values of the request's context, which
// are valid until the HTTP handler returns; under ServeHTTP it has none.
func (c *Conn) Context() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.life.Load()
	if l == nil {
		base := context.Background()
		if c.rare != nil && c.rare.values != nil {
			base = c.rare.values
		}
		l = new(life)
		l.Context, l.cancel = context.WithCancelCause(base)
		if c.over {
			l.cancel(c.ended())
		}
		c.life.Store(l)
	}
	return l.Context
}
