package websocket

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// A Trace is a set of functions that are told what happens on connections,
// for metrics and logs of the application's own ([net/http/httptrace] is the
// same for HTTP clients); see also [Upgrader.Stats], which counts without it.
// Any of them may be nil, and costs nothing then. They are called by whichever
// goroutine it happens on, those of different connections at once, and those of
// one connection too. What they do delays it: they should return at once, and
// must neither read c nor wait for its Ping. A panic is logged as that of a
// handler is, and changes nothing else.
type Trace struct {
	// Opened is called first of all: before the handler is, and before
	// anybody else can end the connection.
	Opened func(c *Conn)
	// Closed is called once, when all is over; after [Events].Closed, unless
	// Start was called when all was over.
	Closed func(c *Conn, end Closing)
	// Received is called for each data message that has come whole, with
	// the bytes of its content, before the application has the last of them.
	Received func(c *Conn, typ MessageType, size int64)
	// Sent is called for each data message that the connection has
	// accepted: Write, Send or the Close of a Writer is about to return nil.
	Sent func(c *Conn, typ MessageType, size int64)
	// Dropped is called when so many messages were dropped because the
	// peer takes them too slowly; see [Config.Overflow].
	Dropped func(c *Conn, messages int)
	// Pong is called when a ping was answered, of keepalive or of
	// [Conn.Ping], with the time it took.
	Pong func(c *Conn, rtt time.Duration)
}

// A Closing is how a connection ended.
type Closing struct {
	// Err is what every method returns: the code, the reason, who ended the
	// connection, and the cause.
	Err *CloseError
	// Clean is set if both sides have sent a Close frame (RFC 6455 §7.1.4).
	Clean bool
	// PeerCode is the code of the peer's Close frame,
	// [StatusNoStatusRcvd] if that had none, and 0 if there was no frame.
	PeerCode StatusCode
	// Open is how long the connection lived, from the 101 until all was over.
	Open time.Duration
	// Received and Sent are what came and went in that time.
	Received, Sent Traffic
}

// Traffic is how much has come or gone.
type Traffic struct {
	// Messages counts data messages: those that have come whole, and those
	// that the network has taken; one of a Writer counts with its first
	// frame. Those that share a system call are counted together, when the
	// last of them has been handled.
	Messages uint64
	// Bytes counts all bytes of frames, headers and control frames
	// included. What TLS adds is not counted.
	Bytes uint64
}

func (t *Traffic) add(u Traffic) {
	t.Messages += u.Messages
	t.Bytes += u.Bytes
}

// sent returns what has gone.
func (c *Conn) sent() Traffic {
	t := c.out.Sent()
	return Traffic{t.Messages, t.Bytes}
}

func (c *Conn) traceOpened() {
	if t := c.cfg.Trace; t != nil && t.Opened != nil {
		defer func() { c.logPanic(recover()) }()
		t.Opened(c)
	}
}

func (c *Conn) traceReceived(typ MessageType, size int64) {
	if t := c.cfg.Trace; t != nil && t.Received != nil {
		defer func() { c.logPanic(recover()) }()
		t.Received(c, typ, size)
	}
}

func (c *Conn) traceSent(typ MessageType, size int64) {
	if t := c.cfg.Trace; t != nil && t.Sent != nil {
		defer func() { c.logPanic(recover()) }()
		t.Sent(c, typ, size)
	}
}

func (c *Conn) tracePong(rtt time.Duration) {
	if t := c.cfg.Trace; t != nil && t.Pong != nil {
		defer func() { c.logPanic(recover()) }()
		t.Pong(c, rtt)
	}
}

func (c *Conn) traceDropped(messages int) {
	if t := c.cfg.Trace; t != nil && t.Dropped != nil {
		defer func() { c.logPanic(recover()) }()
		t.Dropped(c, messages)
	}
}

// dropped counts messages that gave way to others or found no room.
func (c *Conn) dropped(messages int) {
	if messages == 0 {
		return
	}
	if c.live != nil {
		c.live.count.dropped.Add(uint64(messages))
	}
	c.traceDropped(messages)
}

// closing says how c has ended, when all is over.
func (c *Conn) closing(end *Closing) {
	end.Err = c.end.Load().err
	end.Clean = c.peerCode != 0 && !c.out.Failed()
	end.PeerCode = c.peerCode
	end.Received, end.Sent = c.received.load(), c.sent()
	if c.live != nil {
		end.Open = c.live.clock() - c.born
	}
}

// tellsClosed reports whether traceClosed calls code of the application.
func (c *Conn) tellsClosed() bool {
	t := c.cfg.Trace
	return t != nil && t.Closed != nil || c.cfg.Logger.Enabled(context.Background(), slog.LevelDebug)
}

// traceClosed tells how c has ended; everyday endings are for the debug level.
func (c *Conn) traceClosed(end *Closing) {
	c.log(slog.LevelDebug, "websocket: closed",
		slog.Any("error", end.Err),
		slog.Bool("clean", end.Clean),
		slog.Duration("open", end.Open))
	if t := c.cfg.Trace; t != nil && t.Closed != nil {
		defer func() { c.logPanic(recover()) }()
		t.Closed(c, *end)
	}
}

// log writes a record about c.
func (c *Conn) log(level slog.Level, text string, attrs ...slog.Attr) {
	if c.cfg.Logger.Enabled(context.Background(), level) {
		c.logAttrs(level, text, attrs)
	}
}

// logAttrs is apart so that what is not logged takes no stack.
func (c *Conn) logAttrs(level slog.Level, text string, attrs []slog.Attr) {
	who := []slog.Attr{slog.String("remote", fmt.Sprint(c.RemoteAddr()))}
	if p := c.Subprotocol(); p != "" {
		who = append(who, slog.String("subprotocol", p))
	}
	c.cfg.Logger.LogAttrs(context.Background(), level, text, append(who, attrs...)...)
}
