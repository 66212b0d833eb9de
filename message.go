package websocket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"unicode/utf8"

	"github.com/sockeye-ws/websocket/internal/bufpool"
	"github.com/sockeye-ws/websocket/internal/sendq"
)

// A MessageType says what a data message holds (RFC 6455 §5.6).
type MessageType uint8

const (
	// Text is UTF-8, checked in both directions.
	Text MessageType = 1
	// Binary is any bytes.
	Binary MessageType = 2
)

// Plain returns t for a message that is not to be compressed, whatever
// [Compression] says: for secrets, and for what is compressed already. It is for
// those who send; messages that come are Text or Binary.
func (t MessageType) Plain() MessageType { return t | uncompressed }

// uncompressed marks a message that is not to be compressed.
const uncompressed MessageType = 0x80

func (t MessageType) isPlain() bool     { return t&uncompressed != 0 }
func (t MessageType) bare() MessageType { return t &^ uncompressed }
func (t MessageType) opcode() opcode    { return opcode(t.bare()) }

// String returns "text" or "binary".
func (t MessageType) String() string {
	switch t.bare() {
	case Text:
		return "text"
	case Binary:
		return "binary"
	}
	return "invalid message type"
}

// check refuses what is no type of a data message.
func (t MessageType) check(op string) error {
	if t.bare() != Text && t.bare() != Binary {
		return fmt.Errorf("websocket: %s: message type %d is neither Text nor Binary", op, uint8(t))
	}
	return nil
}

// checkMessage refuses what no message to send may be.
func checkMessage(op string, typ MessageType, p []byte) error {
	if err := typ.check(op); err != nil {
		return err
	}
	if typ.bare() == Text && !utf8.Valid(p) {
		return ErrInvalidUTF8
	}
	return nil
}

// A Message is one data message, whole.
type Message struct {
	Type MessageType
	Data []byte
}

var (
	// ErrInvalidUTF8 is returned for text that this side was to send and
	// that is not UTF-8. None of the message has been sent, unless parts of
	// it had left through [Conn.Writer] before: then the connection ends.
	ErrInvalidUTF8 = errors.New("websocket: text to be sent is not UTF-8")
	// ErrStaleReader is returned by a Reader of [Conn.Reader] after a later
	// call of Read, ReadAppend, Reader or Messages.
	ErrStaleReader = errors.New("websocket: read: a later call reads the connection")
	// ErrWriterClosed is returned by a writer of [Conn.Writer] that was
	// closed, or that lost its place because it did nothing for
	// [Config.WriteTimeout] while other messages waited.
	ErrWriterClosed = errors.New("websocket: write: the writer is closed")
)

// A messageReader streams one message.
type messageReader struct {
	c    *Conn
	ctx  context.Context
	typ  MessageType
	err  error // what it returns for ever
	read bool  // whole: the message has ended
}

// Read implements io.Reader.
func (r *messageReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if r.read {
		return 0, io.EOF
	}
	n, err := r.c.receivePart(r, p)
	if err != nil && err != ErrConcurrentRead {
		r.err = err
	}
	return n, err
}

// A messageWriter sends one message, in as many frames as it takes.
type messageWriter struct {
	c    *Conn
	ctx  context.Context
	typ  MessageType
	hold *sendq.Hold

	used    atomic.Bool  // a call is in progress
	buf     *bufpool.Buf // what is not yet a frame
	text    utf8Check    // of Text
	size    int64        // of what has been sent
	deflate bool         // the message is compressed
	sent    bool         // a frame has been sent
	err     error        // what it returns for ever
}

// errWriterUsed is for a writer that two goroutines use at once.
var errWriterUsed = errors.New("websocket: write: another call uses the writer")

// frameSize is what a Writer gathers for a frame.
const frameSize = 8 << 10

// Write implements io.Writer. The bytes are sent in frames as they add up;
// what is less than a frame waits for more, or for Close.
func (w *messageWriter) Write(p []byte) (int, error) {
	if !w.used.CompareAndSwap(false, true) {
		return 0, errWriterUsed
	}
	defer w.used.Store(false)
	if err := w.check(); err != nil {
		return 0, err
	}
	if w.typ.bare() == Text && !w.text.write(p) {
		return 0, w.abort(ErrInvalidUTF8)
	}
	for n := 0; n < len(p); {
		if w.buf == nil {
			w.buf = bufpool.Get(frameSize)
			w.buf.B = w.buf.B[:0]
		}
		if len(w.buf.B) == 0 && len(p)-n >= frameSize {
			piece := p[n:]
			if w.deflate {
				piece = piece[:min(len(piece), sendq.MaxMarked-maxHeader)]
			}
			if err := w.frame(piece, false); err != nil {
				return n, err
			}
			n += len(piece)
			continue
		}
		m := min(len(p)-n, frameSize-len(w.buf.B))
		w.buf.B = append(w.buf.B, p[n:n+m]...)
		if n += m; len(w.buf.B) == frameSize {
			if err := w.frame(w.buf.B, false); err != nil {
				return n, err
			}
			w.buf.B = w.buf.B[:0]
		}
	}
	return len(p), nil
}

// Close sends the end of the message.
func (w *messageWriter) Close() error {
	if !w.used.CompareAndSwap(false, true) {
		return errWriterUsed
	}
	defer w.used.Store(false)
	if err := w.check(); err != nil {
		return err
	}
	if w.typ.bare() == Text && !w.text.complete() {
		return w.abort(ErrInvalidUTF8)
	}
	var rest []byte
	if w.buf != nil {
		rest = w.buf.B
	}
	if err := w.frame(rest, true); err != nil {
		return err
	}
	w.err = ErrWriterClosed
	w.release()
	w.c.out.End(w.hold)
	w.c.traceSent(w.typ.bare(), w.size)
	return nil
}

func (w *messageWriter) check() error {
	if w.err != nil {
		return w.err
	}
	if err := w.c.usable(w.ctx, "write"); err != nil {
		return w.abort(err)
	}
	if w.c.out.Touch(w.hold) != nil {
		return w.abort(ErrWriterClosed)
	}
	return nil
}

// frame sends one frame of the message.
func (w *messageWriter) frame(p []byte, fin bool) error {
	op := opContinuation
	if !w.sent {
		op = w.typ.opcode()
	}
	if fin {
		w.hold.Final()
		if !w.sent { // it is whole, and its size is known
			w.deflate = w.c.compresses(w.typ, len(p))
		}
	}
	f := sendq.Frame{Payload: p, Within: w.hold, More: w.c.more.Load()}
	w.c.setHeader(&f, header{fin: fin, rsv1: w.deflate, op: op})
	if err := w.c.out.Write(w.c.outer(w.ctx), &f); err != nil {
		return w.abort(w.c.sendError(w.ctx, "write", err))
	}
	w.sent = true
	w.size += int64(len(p))
	return nil
}

// abort gives the message up. If some of it has been sent, the connection
// ends: a cut message must never look whole.
func (w *messageWriter) abort(err error) error {
	w.err = err
	w.release()
	if !w.sent {
		w.c.out.End(w.hold)
		return w.err
	}
	// The others stay out for good: nothing may stand inside a message, and
	// the queue may not have been closed yet.
	w.c.abandon(err)
	w.err = w.c.outcome(err)
	return w.err
}

func (w *messageWriter) release() {
	bufpool.Put(w.buf)
	w.buf = nil
}
