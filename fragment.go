package websocket

import (
	"context"
	"math"
	"unicode/utf8"

	"github.com/sockeye-ws/websocket/internal/inbuf"
)

// An assembler judges the data frames of a connection, one after the other:
// their order, the size and the number of frames of a message, and that text
// is UTF-8 (RFC 6455 §5.4, §5.6, §8.1, §10.4). It holds no payload. Its zero
// value, with the limits set, stands before the first message.
type assembler struct {
	limit     int64 // of a message's payload; negative: none
	maxFrames int   // negative: none

	whole  uint32      // messages that have ended and not been counted
	typ    MessageType // of the message in progress, or 0
	size   int64       // as it comes
	frames int
	text   utf8Check

	deflated bool // the message in progress is compressed
}

// order says whether a data frame with this opcode may come now (§5.4).
func (a *assembler) order(op opcode) *CloseError {
	if a.typ == 0 && op == opContinuation {
		return protocolError("continuation without a message")
	}
	if a.typ != 0 && op != opContinuation {
		return protocolError("new message inside a fragmented one")
	}
	return nil
}

// begin judges the header of a data frame, before any of its payload.
func (a *assembler) begin(h header) *CloseError {
	if v := a.order(h.op); v != nil {
		return v
	}
	// Compared before it is added, so that no sum can overflow.
	deflated := a.deflated || h.rsv1
	limit := a.limit
	if deflated && limit >= 0 {
		// Something small may take a little more when it is compressed; how
		// large it becomes is seen while it is inflated.
		limit += min(limit/8+1<<10, math.MaxInt64-limit)
	}
	if limit >= 0 && h.length > limit-a.size {
		return messageTooBig("message too big")
	}
	a.size = min(a.size, math.MaxInt64-h.length) + h.length
	if a.maxFrames >= 0 && a.frames >= a.maxFrames {
		return messageTooBig("message of too many frames")
	}
	if a.typ == 0 {
		a.typ = MessageType(h.op)
		a.deflated = h.rsv1
	}
	a.frames++
	return nil
}

// accept judges the next unmasked bytes of the message; last is set for the
// last ones of its final frame, which may be none.
func (a *assembler) accept(p []byte, last bool) *CloseError {
	if a.typ == Text && (!a.text.write(p) || last && !a.text.complete()) {
		return &CloseError{Code: StatusInvalidFramePayloadData, Reason: "text is not UTF-8"}
	}
	return nil
}

// end closes the message in progress and returns its type.
func (a *assembler) end() MessageType {
	typ := a.typ
	a.typ, a.size, a.frames = 0, 0, 0
	a.whole++
	return typ
}

func messageTooBig(reason string) *CloseError {
	return &CloseError{Code: StatusMessageTooBig, Reason: reason}
}

// A utf8Check validates UTF-8 that comes in pieces, and fails with the first
// byte that cannot be part of it (RFC 3629).
type utf8Check struct {
	open [utf8.UTFMax]byte // the beginning of a character that goes on
	n    int
}

// write reports whether everything so far is a prefix of valid UTF-8.
func (u *utf8Check) write(p []byte) bool {
	for u.n > 0 && len(p) > 0 {
		u.open[u.n] = p[0]
		u.n++
		p = p[1:]
		if !utf8.FullRune(u.open[:u.n]) {
			continue
		}
		// FullRune is true as well for bytes that cannot become a
		// character any more.
		if !utf8.Valid(u.open[:u.n]) {
			return false
		}
		u.n = 0
	}
	end := len(p)
	for i := 1; i < utf8.UTFMax && i <= len(p); i++ {
		if utf8.RuneStart(p[len(p)-i]) {
			if !utf8.FullRune(p[len(p)-i:]) {
				end -= i
			}
			break
		}
	}
	if !utf8.Valid(p[:end]) {
		return false
	}
	if end < len(p) {
		u.n = copy(u.open[:], p[end:])
	}
	return true
}

// complete reports whether no character is open.
func (u *utf8Check) complete() bool { return u.n == 0 }

// Messages over frames. These run under the read turn; what they return is
// judged in receive and receivePart.

// nextMessage goes to the start of the next message, or to where the last
// Read of this one stopped.
func (c *Conn) nextMessage(ctx context.Context) error {
	if c.reader != nil {
		c.reader = discarded
		c.part.Release()
		if err := c.skipRest(ctx); err != nil {
			return err
		}
	}
	if c.asm.typ != 0 {
		return nil
	}
	return c.nextFrame(ctx)
}

// discarded stands for a Reader whose message is being skipped.
var discarded = new(messageReader)

// skipRest discards what a Reader has left of its message.
func (c *Conn) skipRest(ctx context.Context) error {
	for {
		if c.endMessage(); c.asm.typ == 0 {
			c.reader = nil
			return nil
		}
		var err error
		switch b := c.in.Unread(); {
		case c.asm.deflated: // later messages may refer to it
			_, err = c.inflate(ctx, inbuf.Most)
		case c.left == 0:
			err = c.nextFrame(ctx)
		case len(b) > 0:
			_, err = c.payload(int64(len(b)))
		default:
			err = c.fill(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// endMessage ends the message in progress if all of it has been consumed, and
// returns its type then.
func (c *Conn) endMessage() MessageType {
	if c.asm.typ == 0 || !c.fin || c.left > 0 || c.asm.deflated {
		return 0
	}
	size := c.asm.size
	typ := c.asm.end()
	c.arrived()
	c.traceReceived(typ, size)
	return typ
}

// atOnce returns the next message if it can be had in one step, where it lies;
// else no type. It waits for input if there is none.
func (c *Conn) atOnce(ctx context.Context) (MessageType, []byte, error) {
	if c.asm.typ != 0 || c.reader != nil {
		return 0, nil, nil
	}
	if c.in.Empty() {
		if err := c.fill(ctx); err != nil {
			return 0, nil, err
		}
	}
	return c.wholeFrame()
}

// wholeFrame consumes the next message if it is a single frame and has come
// whole, as nearly every message does, and returns its payload; else it leaves
// all as it is and returns no type. The rules are the same as frame by frame,
// asked in a row.
func (c *Conn) wholeFrame() (MessageType, []byte, error) {
	b := c.in.Unread()
	h, n, v := parseHeader(b, c.peerMasks(), c.deflate != nil)
	if v != nil || n == 0 || h.rsv1 || !h.fin || h.op.control() || h.length > int64(len(b)-n) {
		return 0, nil, nil
	}
	if v := c.asm.begin(h); v != nil {
		return 0, nil, v
	}
	if v := c.countMessage(); v != nil {
		return 0, nil, v
	}
	p := b[n : n+int(h.length)]
	c.in.Consume(n + len(p))
	mask(h.key, p)
	if v := c.asm.accept(p, true); v != nil {
		return 0, nil, v
	}
	typ := c.asm.end()
	c.arrived()
	c.traceReceived(typ, h.length)
	return typ, p, nil
}

// maxWhole keeps sums of lengths of a message in memory from overflowing an
// int of 32 bits.
const maxWhole = math.MaxInt / 8

// wholeMessage reads the next message, appended to dst.
func (c *Conn) wholeMessage(ctx context.Context, dst []byte) (MessageType, []byte, error) {
	if typ, p, err := c.atOnce(ctx); typ != 0 || err != nil {
		return typ, append(dst, p...), err
	}
	typ, err := c.assemble(ctx, dst, dst == nil)
	if err != nil {
		return 0, nil, err
	}
	return typ, c.part.Take(dst), nil
}

// assemble gathers the next message in part, which may lie behind dst, or where
// it can be kept if it is to be its own.
func (c *Conn) assemble(ctx context.Context, dst []byte, own bool) (MessageType, error) {
	if err := c.nextMessage(ctx); err != nil {
		return 0, err
	}
	if c.asm.deflated {
		return c.assembleInflated(ctx, own)
	}
	for {
		if c.fin {
			c.part.At(dst, c.left)
		}
		for c.left > 0 {
			if err := c.collect(ctx, own); err != nil {
				return 0, err
			}
		}
		if c.fin {
			return c.endMessage(), nil
		}
		if err := c.nextFrame(ctx); err != nil {
			return 0, err
		}
	}
}

// assembleInflated is assemble for a compressed message.
func (c *Conn) assembleInflated(ctx context.Context, own bool) (MessageType, error) {
	typ := c.asm.typ
	for {
		b, err := c.inflate(ctx, inbuf.Most)
		if err != nil {
			return 0, err
		}
		if len(b) == 0 {
			return typ, nil
		}
		if c.part.Len() > maxWhole {
			return 0, messageTooBig("message too big")
		}
		c.part.Append(b, -1, own)
		if v := c.charge(c.part.Len()); v != nil {
			return 0, v
		}
	}
}

// collect adds some of the current frame's payload to the message. own says
// that the message is to be returned in memory of its own.
func (c *Conn) collect(ctx context.Context, own bool) error {
	if c.part.Len() > maxWhole {
		return messageTooBig("message too big")
	}
	if b := c.in.Unread(); len(b) > 0 {
		p, err := c.payload(int64(len(b)))
		if err != nil {
			return err
		}
		known := int64(-1) // bytes to come of the message
		if c.fin {
			known = c.left
		}
		c.part.Append(p, known, own)
		if v := c.charge(c.part.Len()); v != nil {
			return v
		}
		return nil
	}
	room := c.part.Room(c.left, c.fin, own)
	if room == nil {
		return c.fill(ctx)
	}
	n, err := c.readPayload(ctx, room)
	if err != nil {
		return err
	}
	c.part.Extend(n)
	if v := c.charge(c.part.Len()); v != nil {
		return v
	}
	return nil
}

// readSome reads some bytes of the message in progress into p: none only if p
// is empty or the message has ended.
func (c *Conn) readSome(ctx context.Context, p []byte) (int, error) {
	if c.part.Len() > 0 { // of a Read that was cancelled
		return c.part.Read(p), nil
	}
	for len(p) > 0 {
		if c.endMessage(); c.asm.typ == 0 {
			break
		}
		var n int
		var err error
		switch room := min(int64(len(p)), c.left); {
		case c.asm.deflated:
			var b []byte
			b, err = c.inflate(ctx, len(p))
			n = copy(p, b)
		case c.left == 0:
			err = c.nextFrame(ctx)
		case !c.in.Empty():
			var b []byte
			b, err = c.payload(int64(len(p)))
			n = copy(p, b)
		case room >= inbuf.Direct:
			n, err = c.readPayload(ctx, p[:min(room, inbuf.Most)])
		default:
			err = c.fill(ctx)
		}
		if err != nil {
			return 0, err
		}
		if n > 0 {
			c.endMessage()
			return n, nil
		}
	}
	return 0, nil
}
