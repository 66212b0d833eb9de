package websocket

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sockeye-ws/websocket/internal/await"
	"github.com/sockeye-ws/websocket/internal/poll"
	"github.com/sockeye-ws/websocket/internal/sendq"
	"github.com/sockeye-ws/websocket/internal/transport"
	"github.com/sockeye-ws/websocket/internal/wheel"
)

// A Conn is one WebSocket connection. It is made by [Upgrader], by [Dial], or by
// [Pipe].
//
// Reading: one goroutine at a time; a second one gets [ErrConcurrentRead].
// Somebody has to read, since pings, pongs and the peer's Close are handled
// while reading: the application, or [Conn.CloseRead] for it.
//
// Writing, pinging and closing: any number of goroutines, at any time.
//
// A context given to a method bounds that call, not the connection. The
// call's error then Is ctx.Err() and context.Cause(ctx). When the connection
// has ended, every method returns the same [*CloseError].
type Conn struct {
	t   transport.Conn
	cfg *terms

	// The way in. After readClosed, reads are refused. What is known of the
	// input belongs to the holder of turn. more says that whoever reads has
	// another message to handle before it waits, so that what is written now
	// may share a call with what is written then.
	readClosed atomic.Bool
	more       atomic.Bool
	turn       await.Turn
	*inflow

	// The way out.
	out sendq.Queue

	// How it ends; see control.go.
	end      atomic.Pointer[ending]
	shutting await.Once // end has been recorded
	life     atomic.Pointer[life]

	// Its place among the others, and what keepalive knows; see live.go and
	// ping.go.
	live      *live // nil in tests of a connection alone
	place     wheel.Place[*member]
	keepalive keepalive
	arriving  arriving
	received  traffic       // what has come; what has gone is known to out
	born      time.Duration // by the clock of live

	// Event mode; see event.go. The holder of turn has these, but for the
	// atomics.
	token     poll.Token
	parkedAt  time.Duration // by the clock of live
	parkable  uint8
	streak    uint8         // wakes in a row soon after parking
	stays     bool          // wait for input, do not park at once
	over      bool          // all is done, the transport closed; under mu
	parked    atomic.Bool   // the poller waits for input
	lingering atomic.Uint32 // whether a goroutine waits that may be told to park
	partings  atomic.Int32  // of finish and of who delivers: the second says farewell; and what has been done
	lastInput atomic.Uint32 // the tick in which something came
	began     atomic.Uint32 // the tick in which somebody came to read

	deflate *compressor // nil: messages are not compressed

	mu     sync.Mutex // over and the fields below; never held across I/O
	events Events     // since Start
	rare   *rare
}

// What only some connections have.
type rare struct {
	subprotocol string
	values      context.Context // of the request; nil: none
	pings       []*ping
	groups      []*Group // that it is a member of
	rates       rates
}

// rarely returns what only some connections have, for a change, with mu held.
func (c *Conn) rarely() *rare {
	if c.rare == nil {
		c.rare = new(rare)
	}
	return c.rare
}

var (
	// ErrConcurrentRead is returned by a call that reads while another one
	// does, or after [Conn.CloseRead]. The connection stays as it is.
	ErrConcurrentRead = errors.New("websocket: read: another call is reading")

	// ErrQueueFull is returned by [Conn.Send] for a message that was dropped
	// because the peer has not taken those before it.
	ErrQueueFull = errors.New("websocket: send: the queue is full")
)

// newConn makes the connection for nc, on which early bytes have been read
// already.
func newConn(nc net.Conn, early []byte, cfg *terms, subprotocol string, values context.Context) *Conn {
	c := &Conn{cfg: cfg}
	if subprotocol != "" || values != nil || cfg.limitsRates() {
		c.rare = &rare{subprotocol: subprotocol, values: values}
	}
	c.t = transport.New(nc, cfg.WriteTimeout)
	if len(early) > 0 {
		c.holdInflow()
		c.in.Put(early)
		c.received.bytes.Store(uint64(len(early)))
	}
	owner := sendq.Owner((*member)(c))
	if c.isClient() {
		owner = &keyed{member: (*member)(c)}
	}
	c.out.Init(c.t, owner, &cfg.queue)
	return c
}

// Subprotocol returns the subprotocol that was agreed, or "" for none.
func (c *Conn) Subprotocol() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rare == nil {
		return ""
	}
	return c.rare.subprotocol
}

// RemoteAddr returns the peer's network address.
func (c *Conn) RemoteAddr() net.Addr { return c.t.RemoteAddr() }

// LocalAddr returns this side's network address.
func (c *Conn) LocalAddr() net.Addr { return c.t.LocalAddr() }

// Read returns the next data message, whole. The bytes are the caller's.
// Messages are limited by [Config.ReadLimit]; see [Conn.Reader] for those
// that should not be held in memory.
//
// When ctx ends before the message is complete, the error Is ctx.Err();
// nothing is lost: the next Read goes on where this one stopped. Over TLS 1.3 a
// peer may ask for new keys, which the read that finds this has to announce
// (RFC 8446 §4.6.3). Where the peer does not take that, Read returns a second
// after ctx has ended, or when a write that is in progress has (see
// [Config.WriteTimeout]), and the connection cannot be used any more.
func (c *Conn) Read(ctx context.Context) (MessageType, []byte, error) {
	if err := c.await(ctx); err != nil {
		return 0, nil, err
	}
	typ, p, err := c.receive(ctx, nil)
	if err == nil && p == nil {
		p = []byte{}
	}
	return typ, p, err
}

// ReadAppend is like [Conn.Read], and appends the message to dst, which
// spares an allocation where dst has the room for it. On an error it returns
// dst as it was; bytes between its length and its capacity may have changed.
func (c *Conn) ReadAppend(ctx context.Context, dst []byte) (MessageType, []byte, error) {
	if err := c.await(ctx); err != nil {
		return 0, dst, err
	}
	if dst == nil {
		dst = []byte{}
	}
	return c.receive(ctx, dst)
}

// Messages returns the messages that follow, as by [Conn.Read], for use in a
// for statement. It ends without an error when the peer closes with 1000,
// 1001 or no code, the everyday ends; any other end, and that of ctx, is
// yielded as the last element.
func (c *Conn) Messages(ctx context.Context) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		for {
			typ, p, err := c.Read(ctx)
			if err != nil {
				var e *CloseError
				if errors.As(err, &e) && e.Remote {
					switch e.Code {
					case StatusNormalClosure, StatusGoingAway, StatusNoStatusRcvd:
						return
					}
				}
				yield(Message{}, err)
				return
			}
			if !yield(Message{typ, p}, nil) {
				return
			}
		}
	}
}

// Reader returns the next data message as a stream, which ends with io.EOF
// when the message has ended as it should. The message is still limited by
// [Config.ReadLimit], but never held whole. Text is checked as it comes: what
// precedes an invalid byte may have been read when the error comes.
//
// ctx bounds the whole message: once it has ended, the reader returns an
// error for ever. What has not been read when the next message is asked for,
// by any method, is discarded, and the reader then returns [ErrStaleReader].
func (c *Conn) Reader(ctx context.Context) (MessageType, io.Reader, error) {
	if err := c.takeTurn(ctx); err != nil {
		return 0, nil, err
	}
	defer c.giveTurn()
	r := &messageReader{c: c, ctx: ctx}
	err := c.nextMessage(ctx)
	if err != nil {
		return 0, nil, c.settle(err)
	}
	r.typ = c.asm.typ
	c.reader = r
	return r.typ, r, nil
}

// CloseRead starts to read in the background, for applications that only
// write: pings, pongs and the peer's Close are handled, and a data message
// closes the connection with 1003, also one that was being read. From then on
// other reads return [ErrConcurrentRead]; one in progress is not disturbed.
// [Conn.Context] tells when the connection has ended.
func (c *Conn) CloseRead() {
	if c.readClosed.Swap(true) {
		return
	}
	go func() {
		if c.claimTurn(context.Background(), turnClose) != nil {
			return
		}
		defer c.giveTurn()
		_, _, err := c.nextData(context.Background(), nil)
		if err == nil {
			err = &CloseError{Code: StatusUnsupportedData, Reason: "no messages are expected"}
		}
		_ = c.settle(err)
	}()
}

// Write sends one message. Text has to be UTF-8, else [ErrInvalidUTF8] is
// returned and nothing is sent.
//
// When Write returns nil, the message has been taken by the network, or
// copied to be sent without any further call; p may be used again. It says
// nothing about delivery; if the connection fails later, every later call and
// [Conn.Context] tell. Messages written one after the other arrive in that
// order. While more than [Config.WriteQueue] waits for a peer that takes it
// slowly, Write waits; [Conn.Send] does not. When the peer takes nothing for
// [Config.WriteTimeout], the connection ends.
//
// What is written is on its way at once. Messages that are written while one
// is on its way, or before the next Read has to wait, share a system call.
//
// When ctx ends before any of the message was sent, none is, the error Is
// ctx.Err() and the connection stays as it was. When part of it is on the
// wire already, the connection ends, since a cut frame cannot be mended.
func (c *Conn) Write(ctx context.Context, typ MessageType, p []byte) error {
	if err := c.usable(ctx, "write"); err != nil {
		return err
	}
	if err := checkMessage("write", typ, p); err != nil {
		return err
	}
	compressed := c.compresses(typ, len(p))
	if compressed {
		switch {
		case len(p) > sendq.MaxMarked-maxHeader:
			return c.writePieces(ctx, typ, p)
		case c.afterLull(&c.deflate.wrote) && c.turn.Holder() != turnDelivers:
			return c.writeAside(ctx, typ, p)
		}
	}
	f := sendq.Frame{Payload: p, More: c.more.Load()}
	c.setHeader(&f, header{fin: true, rsv1: compressed, op: typ.opcode()})
	if err := c.out.Write(c.outer(ctx), &f); err != nil {
		return c.sendError(ctx, "write", err)
	}
	c.traceSent(typ.bare(), int64(len(p)))
	return nil
}

// setHeader completes h, and makes it that of f.
func (c *Conn) setHeader(f *sendq.Frame, h header) {
	h.length = int64(len(f.Payload))
	f.Header = uint8(len(c.appendHeader(f.Head[:0], h)))
}

// writePieces writes a message that is compressed, in frames: nothing of its size
// has to be held.
func (c *Conn) writePieces(ctx context.Context, typ MessageType, p []byte) error {
	w, err := c.Writer(ctx, typ)
	if err != nil {
		return err
	}
	if _, err = w.Write(p); err == nil {
		err = w.Close()
	}
	return err
}

// Writer returns a writer for one message of unknown size, which is sent in
// frames while it is written and complete when the writer is closed. Other
// messages wait meanwhile, pings and pongs do not. The writer is for one
// goroutine, which has to close it before it writes anything else: Write, or a
// second Writer, would wait for this one.
//
// ctx bounds the whole message. When it ends, or the writer does nothing for
// [Config.WriteTimeout] while others wait to write, the message is given up:
// if none of it was sent, the connection goes on without it; otherwise the
// connection is closed with 1011, as a cut message must not look whole.
func (c *Conn) Writer(ctx context.Context, typ MessageType) (io.WriteCloser, error) {
	if err := c.usable(ctx, "write"); err != nil {
		return nil, err
	}
	if err := typ.check("write"); err != nil {
		return nil, err
	}
	hold, err := c.out.Begin(c.outer(ctx), func(why error) {
		if why == sendq.ErrAbandoned {
			c.abandon(ErrWriterClosed)
		} else {
			c.abandon(contextEnded(ctx, "write"))
		}
	})
	if err != nil {
		return nil, c.sendError(ctx, "write", err)
	}
	return &messageWriter{c: c, ctx: ctx, typ: typ, deflate: c.compresses(typ, -1), hold: hold}, nil
}

// sendError is what a caller is told about an error of the queue.
func (c *Conn) sendError(ctx context.Context, op string, err error) error {
	switch {
	case c.ended() != nil:
		return c.ended()
	case err == sendq.ErrClosed:
		// A write has failed just now; its record is about to be made.
		<-c.shutting.Done()
		return c.ended()
	case err == sendq.ErrAbandoned:
		c.abandon(ErrWriterClosed)
		return c.ended()
	case err == sendq.ErrRevoked:
		return ErrWriterClosed
	}
	return contextEnded(ctx, op)
}

// usable reports why a call cannot begin.
func (c *Conn) usable(ctx context.Context, op string) error {
	if ended := c.ended(); ended != nil {
		return ended
	}
	if ctx.Err() != nil {
		return contextEnded(ctx, op)
	}
	return nil
}

// waitFor waits for a or b, the end of ctx, or that of the connection.
func (c *Conn) waitFor(ctx context.Context, op string, a, b <-chan struct{}) error {
	select {
	case <-a:
		return nil
	case <-b:
		return nil
	case <-c.shutting.Done():
		return c.ended()
	case <-ctx.Done():
		return c.outcome(contextEnded(ctx, op))
	}
}

// outer returns ctx, or one that never ends if ctx ends with the connection,
// which needs no watching.
func (c *Conn) outer(ctx context.Context) context.Context {
	if l := c.life.Load(); l != nil && ctx.Done() == l.Done() {
		return context.Background()
	}
	return ctx
}

// receive reads one message, appended to dst, for the holder of the turn, and
// gives that up. Its error, and that of await before it, are the only ones that
// end the connection over something that was read.
func (c *Conn) receive(ctx context.Context, dst []byte) (MessageType, []byte, error) {
	if c.deflate != nil && c.compressedAtFront() && c.afterLull(&c.deflate.read) {
		return c.receiveAside(ctx, dst)
	}
	typ, p, err := c.wholeMessage(ctx, dst)
	if err != nil {
		c.part.Keep()
		p, err = dst, c.settle(err)
	}
	c.giveTurn()
	return typ, p, err
}

// receivePart reads some of the message that r streams.
func (c *Conn) receivePart(r *messageReader, p []byte) (int, error) {
	if err := c.takeTurn(r.ctx); err != nil {
		return 0, err
	}
	defer c.giveTurn()
	if c.reader != r {
		return 0, ErrStaleReader
	}
	n, err := c.readSome(r.ctx, p)
	if err != nil {
		return n, c.settle(err)
	}
	if c.asm.typ == 0 {
		c.reader, r.read = nil, true
		if n == 0 {
			return 0, io.EOF
		}
	}
	return n, nil
}

// contextEnded is the error of a call whose context ended.
func contextEnded(ctx context.Context, op string) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if cause == nil || errors.Is(cause, err) {
		return fmt.Errorf("websocket: %s: %w", op, cmp.Or(cause, err))
	}
	return fmt.Errorf("websocket: %s: %w: %w", op, err, cause)
}
