package websocket

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"strconv"
	"sync/atomic"

	"github.com/sockeye-ws/websocket/internal/deflate"
	"github.com/sockeye-ws/websocket/internal/httpfield"
)

// Compression says how messages are compressed (permessage-deflate, RFC 7692).
// It is off unless Enable is set, as it costs processor time and memory, and may
// give away what it compresses: who can have a text of his own sent on a
// connection beside a secret, in one message or, with context takeover, in
// another, can find the secret by the sizes (the attacks called CRIME and
// BREACH). Send secrets by [MessageType.Plain], or leave it off.
//
// Compression is agreed on in the handshake: it is used if the peer can do it,
// and each side's wishes for less are honoured.
type Compression struct {
	Enable bool

	// Threshold is the size of the smallest message that is compressed, in
	// bytes: below it little is gained. 0: 512; negative: all are. What
	// [Conn.Writer] sends in more than one frame is compressed in any case.
	Threshold int

	// Better looks longer for repetitions: some percent less is sent, for
	// half as much processor time again and more.
	Better bool

	// With context takeover a message is compressed with the help of those
	// before it, which is what makes small messages small. For that both
	// sides keep a window of them: of 2^bits bytes, 8 to 15, for what the
	// server sends and for what the client sends. A sender keeps up to twice
	// that and 16 KiB more. 0: 12, or 15 without context takeover, where
	// nothing is kept; and if the client cannot limit its window it is asked
	// not to take over its context. Other values are insisted on: where they
	// cannot be had, there is no compression.
	ServerWindowBits int
	ClientWindowBits int

	// Without context takeover each message is compressed by itself, and a
	// connection keeps nothing between messages.
	ServerNoContextTakeover bool
	ClientNoContextTakeover bool
}

const (
	defaultThreshold  = 512
	defaultWindowBits = 12

	// deflateName is the extension (RFC 7692 §9.1), and these are its
	// parameters (§7.1).
	deflateName           = "permessage-deflate"
	paramServerNoTakeover = "server_no_context_takeover"
	paramClientNoTakeover = "client_no_context_takeover"
	paramServerBits       = "server_max_window_bits"
	paramClientBits       = "client_max_window_bits"
)

// check says what is wrong with c.
func (c *Compression) check() error {
	wrong := func(bits int) bool { return bits != 0 && (bits < deflate.MinBits || bits > deflate.MaxBits) }
	name, bits := "ServerWindowBits", c.ServerWindowBits
	if !wrong(bits) {
		name, bits = "ClientWindowBits", c.ClientWindowBits
	}
	if !wrong(bits) {
		return nil
	}
	return fmt.Errorf("Config.Compression.%s is %d, not %d to %d", name, bits, deflate.MinBits, deflate.MaxBits)
}

func (c *Compression) level() deflate.Level {
	if c.Better {
		return deflate.Better
	}
	return deflate.Fast
}

func (c *Compression) threshold() int { return cmp.Or(c.Threshold, defaultThreshold) }

// A deflation is what an offer of permessage-deflate asks for, or what the
// answer to it says.
type deflation struct {
	serverNoTakeover, clientNoTakeover bool
	serverBits, clientBits             int  // 0: not said
	clientLimits                       bool // client_max_window_bits is there, with or without a value
}

// parseDeflation reads the parameters of an offer or, with answer set, of the
// answer to one. It reports false for what RFC 7692 §7.1 does not define.
func parseDeflation(e httpfield.Element, answer bool) (d deflation, ok bool) {
	seen := make(map[string]bool)
	for _, p := range e.Params {
		if seen[p.Name] {
			return d, false
		}
		seen[p.Name] = true
		switch p.Name {
		case paramServerNoTakeover:
			d.serverNoTakeover, ok = true, !p.HasValue
		case paramClientNoTakeover:
			d.clientNoTakeover, ok = true, !p.HasValue
		case paramServerBits:
			d.serverBits, ok = windowBits(p.Value)
		case paramClientBits:
			d.clientLimits, ok = true, !p.HasValue && !answer
			if p.HasValue {
				d.clientBits, ok = windowBits(p.Value)
			}
		default:
			ok = false
		}
		if !ok {
			return d, false
		}
	}
	return d, true
}

// windowBits reads 8 to 15 in decimal without leading zeros (§7.1.2).
func windowBits(s string) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= deflate.MinBits && n <= deflate.MaxBits && strconv.Itoa(n) == s
}

// String returns the element of the header.
func (d *deflation) String() string {
	s := deflateName
	if d.serverNoTakeover {
		s += "; " + paramServerNoTakeover
	}
	if d.clientNoTakeover {
		s += "; " + paramClientNoTakeover
	}
	if d.serverBits != 0 {
		s += "; " + paramServerBits + "=" + strconv.Itoa(d.serverBits)
	}
	if d.clientBits != 0 {
		s += "; " + paramClientBits + "=" + strconv.Itoa(d.clientBits)
	} else if d.clientLimits {
		s += "; " + paramClientBits
	}
	return s
}

// accept answers the first of the offers that can be had (RFC 7692 §5, §7), or
// nil if there is none. A bad offer is declined, as if it were not there.
func (c *Compression) accept(offers []httpfield.Element) *deflation {
	if !c.Enable {
		return nil
	}
	for _, e := range offers {
		if e.Name != deflateName {
			continue
		}
		if offer, ok := parseDeflation(e, false); ok {
			if answer, ok := c.answer(offer); ok {
				return &answer
			}
		}
	}
	return nil
}

// answer is the answer to an offer, if it is acceptable.
func (c *Compression) answer(offer deflation) (deflation, bool) {
	a := deflation{
		serverNoTakeover: offer.serverNoTakeover || c.ServerNoContextTakeover,
		clientNoTakeover: offer.clientNoTakeover || c.ClientNoContextTakeover,
	}
	own := limited(c.ServerWindowBits, a.serverNoTakeover, offer.serverBits)
	if offer.serverBits != 0 || own < deflate.MaxBits {
		a.serverBits = own
	}
	switch {
	case offer.clientLimits:
		a.clientBits = limited(c.ClientWindowBits, a.clientNoTakeover, offer.clientBits)
		a.clientLimits = true
	case c.ClientWindowBits == 0:
		// A window of 2^15 bytes is too much to keep.
		a.clientNoTakeover = true
	case c.ClientWindowBits < deflate.MaxBits:
		return a, false // the answer may not have a parameter that was not offered
	}
	return a, true
}

// limited is the smaller of what this side wants, or 0 for what is best, and what
// the peer allows, or 0 for anything.
func limited(want int, noTakeover bool, allowed int) int {
	switch {
	case want == 0 && noTakeover:
		want = deflate.MaxBits
	case want == 0:
		want = defaultWindowBits
	}
	if allowed != 0 {
		want = min(want, allowed)
	}
	return want
}

// offers are what a client asks for, what it likes best first.
func (c *Compression) offers() []deflation {
	if !c.Enable {
		return nil
	}
	offer := deflation{
		serverNoTakeover: c.ServerNoContextTakeover,
		clientNoTakeover: c.ClientNoContextTakeover,
		serverBits:       limited(c.ServerWindowBits, c.ServerNoContextTakeover, 0),
		clientBits:       c.ClientWindowBits,
		clientLimits:     true,
	}
	if c.ServerWindowBits != 0 {
		return []deflation{offer}
	}
	if offer.serverBits == deflate.MaxBits { // as anyway
		offer.serverBits = 0
		return []deflation{offer}
	}
	// Many servers cannot limit their window.
	any := offer
	any.serverBits = 0
	return []deflation{offer, any}
}

// agreed judges the extensions that a server has agreed to: none, or one of the
// offers on its terms (RFC 6455 §4.1, RFC 7692 §5.1).
func (c *Compression) agreed(answers []httpfield.Element) (*deflation, bool) {
	if len(answers) == 0 {
		return nil, true
	}
	if len(answers) > 1 || answers[0].Name != deflateName {
		return nil, false
	}
	a, ok := parseDeflation(answers[0], true)
	if ok {
		for _, offer := range c.offers() {
			if a.keeps(offer) {
				return &a, true
			}
		}
	}
	return nil, false
}

// keeps reports whether an answer is one to this offer.
func (a *deflation) keeps(offer deflation) bool {
	switch {
	case offer.serverNoTakeover && !a.serverNoTakeover:
		return false
	case offer.serverBits != 0 && (a.serverBits == 0 || a.serverBits > offer.serverBits):
		return false
	case a.clientBits != 0 && offer.clientBits != 0 && a.clientBits > offer.clientBits:
		return false
	}
	return true
}

// A compressor is what a connection needs that compresses.
type compressor struct {
	enc       deflate.Encoder // belongs to who makes a call of out
	dec       deflate.Decoder // belongs to the holder of the turn
	bits      uint8           // of the window of what is sent
	inMessage bool            // a message in pieces is being compressed

	read, wrote lull

	// Of what comes: bytes of the input that have been unmasked and not yet
	// been decompressed, and bytes of the message that have come out.
	ahead    int
	inflated int64
}

// compressing makes c compress what it sends, and understand what is compressed,
// as was agreed.
func (c *Conn) compressing(d *deflation) {
	if d == nil {
		return
	}
	s := new(compressor)
	server, client := cmp.Or(d.serverBits, deflate.MaxBits), cmp.Or(d.clientBits, deflate.MaxBits)
	s.bits = uint8(server)
	if c.isClient() {
		// A smaller window than was agreed on is always right.
		cfg := &c.cfg.Compression
		alone := d.clientNoTakeover || cfg.ClientNoContextTakeover
		s.enc.Init(min(client, limited(cfg.ClientWindowBits, alone, 0)), !alone, cfg.level())
		s.dec.Init(server, !d.serverNoTakeover)
	} else {
		s.enc.Init(server, !d.serverNoTakeover, c.cfg.Compression.level())
		s.dec.Init(client, !d.clientNoTakeover)
	}
	c.deflate = s
}

// compresses reports whether a message of this type and size is compressed; size
// is negative if it is not known.
func (c *Conn) compresses(typ MessageType, size int) bool {
	return c.deflate != nil && !typ.isPlain() && (size < 0 || size >= c.cfg.Compression.threshold())
}

// Encode implements sendq.Encoder: what it gets are frames with their headers as
// they would go out uncompressed, those to compress marked.
func (m *member) Encode(dst, b []byte) []byte {
	c := (*Conn)(m)
	for len(b) > 0 {
		h, n := ownHeader(b)
		end := n + int(h.length)
		if h.rsv1 {
			dst = c.deflate.encode(dst, h, b[n:end])
		} else {
			dst = append(dst, b[:end]...)
		}
		b = b[end:]
	}
	return dst
}

// Entered implements sendq.Encoder.
func (m *member) Entered(p []byte) { (*Conn)(m).deflate.enc.Enter(p) }

// Undo implements sendq.Encoder. What the peer has is still the end of what this
// side takes it to have, once that is nothing.
func (m *member) Undo() {
	s := (*Conn)(m).deflate
	s.enc.Reset()
	s.inMessage = false
}

// encode appends a frame of p: a whole message, or a piece of one. A message
// that does not become shorter goes out as it is.
func (s *compressor) encode(dst []byte, h header, p []byte) []byte {
	start := len(dst)
	var room [maxHeader]byte
	dst = append(dst, room[:]...) // for the header, whose size is not known
	whole := h.fin && !s.inMessage
	if whole {
		dst, h.rsv1 = s.enc.Append(dst, p)
		if !h.rsv1 {
			dst = append(dst, p...)
		}
	} else {
		h.rsv1 = !s.inMessage // only on the first (RFC 7692 §6.1)
		dst = s.enc.Write(dst, p)
		if h.fin {
			dst = s.enc.Finish(dst)
		}
		s.inMessage = !h.fin
	}
	body := dst[start+maxHeader:]
	h.length = int64(len(body))
	dst = appendHeader(dst[:start], h)
	dst = append(dst, body...) // it moves down to its header
	mask(h.key, dst[len(dst)-len(body):])
	return dst
}

// inflate returns the next bytes of the compressed message in progress, at most
// so many, or none when it has ended. They are valid until the next call.
func (c *Conn) inflate(ctx context.Context, most int) ([]byte, error) {
	s := c.deflate
	for {
		b := c.in.Unread()
		b = b[:min(int64(len(b)), c.left)]
		c.key = mask(c.key, b[min(s.ahead, len(b)):])
		out, n, err := s.dec.Next(b, most)
		s.ahead = len(b) - n
		c.in.Consume(n)
		c.left -= int64(n)
		if len(out) > 0 {
			if limit := c.cfg.ReadLimit; limit >= 0 && int64(len(out)) > limit-s.inflated {
				return nil, messageTooBig("message too big")
			}
			s.inflated += int64(len(out))
			if v := c.asm.accept(out, false); v != nil {
				return nil, v
			}
			return out, nil
		}
		switch {
		case err != nil:
			return nil, badDeflate()
		case c.left > 0:
			err = c.fill(ctx)
		case c.fin:
			return nil, c.inflated()
		default:
			err = c.nextFrame(ctx)
		}
		if err != nil {
			return nil, err
		}
	}
}

// inflated ends a compressed message.
func (c *Conn) inflated() error {
	s := c.deflate
	if s.dec.End() != nil {
		return badDeflate()
	}
	if v := c.asm.accept(nil, true); v != nil {
		return v
	}
	c.asm.size, s.inflated = s.inflated, 0
	c.asm.deflated = false
	c.endMessage()
	return nil
}

// badDeflate is the verdict on what does not decompress (RFC 7692 §7.2.2).
func badDeflate() error {
	return &CloseError{Code: StatusInvalidFramePayloadData, Reason: "compressed data is corrupt"}
}

// Compression takes more stack than all else that a connection does, and a stack that
// has grown stays so while its goroutine waits for the next message. If there was
// none for a while, as there may be none for a while again, a message is therefore
// compressed and decompressed by a goroutine that ends with it.

// A lull is known by when the last message was.
type lull struct{ used atomic.Uint32 } // the tick, one more; 0: never

// afterLull notes a message, and reports whether the last one was more than a tick
// before: not when it is asked again for the same one.
func (c *Conn) afterLull(l *lull) bool {
	if c.live == nil {
		return false
	}
	now, was := c.live.wheel.Now()+1, l.used.Load()
	if now == was {
		return false
	}
	l.used.Store(now)
	return was == 0 || now-was > 1
}

// compressedAtFront reports whether the next frame has come whole and is compressed,
// so that to receive it takes no wait.
func (c *Conn) compressedAtFront() bool {
	b := c.in.Unread()
	return len(b) > 0 && b[0]&(bitFin|bitRSV1) == bitFin|bitRSV1 && completeFrame(b, c.peerMasks())
}

// receiveAside is receive after a lull.
func (c *Conn) receiveAside(ctx context.Context, dst []byte) (typ MessageType, p []byte, err error) {
	aside(func() { typ, p, err = c.receive(ctx, dst) })
	return typ, p, err
}

// writeAside is Write after a lull.
func (c *Conn) writeAside(ctx context.Context, typ MessageType, p []byte) (err error) {
	aside(func() { err = c.Write(ctx, typ, p) })
	return err
}

// aside runs f on another goroutine, and returns or panics as f does.
func aside(f func()) {
	type end struct {
		returned bool
		panicked any
	}
	ended := make(chan end, 1)
	go func() {
		var e end
		defer func() {
			e.panicked = recover()
			ended <- e
		}()
		f()
		e.returned = true
	}()
	if e := <-ended; e.panicked != nil {
		panic(e.panicked)
	} else if !e.returned {
		runtime.Goexit()
	}
}
