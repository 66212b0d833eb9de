package conformance

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// T is what a [Peer] needs of a test.
type T interface {
	Helper()
	Errorf(format string, args ...any)
}

// A Peer is the raw other end of a connection: it sends the bytes it is told
// to, cut as it is told to, and holds every frame that comes back against the
// rules for a server's frames (F-15, M-06), the order of fragments (G-06) and
// the finality of a Close frame (K-08, K-12).
//
// The first expectation that is not met is reported with the rule and the
// conversation so far; everything after it does nothing, so that one mistake
// is one failure.
type Peer struct {
	Rule     string        // the sentence that a failure quotes
	Patience time.Duration // the bound of every single wait

	// Server makes it the other end of a client: what it sends by itself is
	// not masked, and what comes has to be. See [Row.Mirrored].
	Server bool
	Keys   [][4]byte // with which what came was masked, in order

	// Settle returns when the implementation has consumed all it was sent and
	// is waiting. It is synctest.Wait in a bubble and nil elsewhere; there a
	// Ping takes its place where one can stand.
	Settle func()

	// Offer is what it offers, or the answer if it is the server: the value
	// of Sec-WebSocket-Extensions. If that is agreed on, what comes may be
	// compressed, and is inflated with the window that was agreed on: a
	// compressed message is one frame for all methods.
	Offer    string
	Inflater *Inflater // nil: nothing was agreed on
	Inflated int       // compressed messages that have come

	t         T
	conn      net.Conn
	in        []byte // received and not yet taken as a frame
	log       []string
	failed    bool
	sent      cursor
	inMessage bool   // between the fragments of a message from the server
	deflated  *Frame // what has come of a compressed one
	closed    bool   // a Close frame has come
	ended     bool   // by Fin
}

// NewPeer returns a peer on conn that reports to t.
func NewPeer(t T, conn net.Conn) *Peer {
	return &Peer{t: t, conn: conn, Patience: time.Minute}
}

// Conn is the connection of the peer.
func (p *Peer) Conn() net.Conn { return p.conn }

// Failed says whether an expectation was not met.
func (p *Peer) Failed() bool { return p.failed }

// Close cuts the connection from the peer's side.
func (p *Peer) Close() { p.conn.Close() }

func (p *Peer) note(format string, args ...any) {
	const most = 60
	if len(p.log) == most {
		p.log = append(p.log[:0], p.log[most/2:]...)
	}
	p.log = append(p.log, fmt.Sprintf(format, args...))
}

// Errorf reports a failure with the rule and the conversation.
func (p *Peer) Errorf(format string, args ...any) {
	p.t.Helper()
	if p.failed {
		return
	}
	p.failed = true
	p.t.Errorf("%s\n\tthe rule: %s\n\t%s", fmt.Sprintf(format, args...), p.Rule, strings.Join(p.log, "\n\t"))
}

// upgrade is the BASE request of CONTRACT.md, section 0.
const upgrade = "GET /ws HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"

// Handshake opens the connection with the BASE request and further header
// lines.
func (p *Peer) Handshake(lines ...string) {
	p.t.Helper()
	p.conn.SetDeadline(time.Now().Add(p.Patience))
	if p.Offer != "" {
		lines = append(lines, "Sec-WebSocket-Extensions: "+p.Offer)
	}
	request := upgrade + strings.Join(append(lines, "", ""), "\r\n")
	if _, err := io.WriteString(p.conn, request); err != nil {
		p.Errorf("handshake: %v", err)
		return
	}
	end := -1
	for end < 0 {
		if err := p.fill(); err != nil {
			p.Errorf("handshake: %v after %q", err, p.in)
			return
		}
		end = bytes.Index(p.in, []byte("\r\n\r\n"))
	}
	if !bytes.HasPrefix(p.in, []byte("HTTP/1.1 101 ")) {
		p.Errorf("handshake: %q", p.in)
		return
	}
	if agreed := extension.FindSubmatch(p.in[:end+2]); agreed != nil {
		p.Agree(string(agreed[1]))
	} else if p.Offer != "" {
		p.Errorf("handshake: no compression was agreed on: %q", p.in)
	}
	p.in = append(p.in[:0], p.in[end+4:]...)
}

// extension finds what was agreed on.
var extension = regexp.MustCompile(`(?i)\r\nsec-websocket-extensions: *([^\r]*)\r\n`)

// Agree says what was agreed on.
func (p *Peer) Agree(agreed string) {
	p.note("agreed: %s", agreed)
	p.Inflater = NewInflater(agreed, !p.Server)
}

// requestKey finds the key in what [Peer.Accept] reads.
var requestKey = regexp.MustCompile(`(?i)\r\nsec-websocket-key: *([^\r]*)\r\n`)

// Accept is Handshake for a peer that is the server: it reads the request and
// answers it, with further header lines. What is to come right behind the answer
// is given in notation.
func (p *Peer) Accept(behind string, lines ...string) (request string) {
	p.t.Helper()
	end := -1
	for end < 0 {
		if err := p.fill(); err != nil {
			p.Errorf("handshake: %v after %q", err, p.in)
			return ""
		}
		end = bytes.Index(p.in, []byte("\r\n\r\n"))
	}
	request = string(p.in[:end+4])
	key := requestKey.FindStringSubmatch(request)
	if key == nil || len(p.in) != end+4 {
		p.Errorf("handshake: %q", p.in)
		return request
	}
	p.in = p.in[:0]
	if p.Offer != "" {
		lines = append(lines, "Sec-WebSocket-Extensions: "+p.Offer)
		p.Agree(p.Offer)
	}
	sum := sha1.Sum([]byte(key[1] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	answer := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: " + base64.StdEncoding.EncodeToString(sum[:]) + "\r\n" + strings.Join(append(lines, "", ""), "\r\n")
	if _, err := p.conn.Write(append([]byte(answer), mustBytes(behind)...)); err != nil {
		p.Errorf("handshake: %v", err)
	}
	return request
}

// Write sends bytes given in notation.
func (p *Peer) Write(notation string) {
	p.t.Helper()
	p.WritePieces(mustBytes(notation))
}

// WritePieces sends bytes in several writes and lets the implementation
// consume each before the next.
func (p *Peer) WritePieces(pieces ...[]byte) {
	p.t.Helper()
	for i, piece := range pieces {
		if p.failed {
			return
		}
		if i > 0 && p.Settle != nil {
			p.Settle()
		}
		p.note("C> %s", show(piece))
		p.sent.feed(piece, nil)
		p.conn.SetWriteDeadline(time.Now().Add(p.Patience))
		if _, err := p.conn.Write(piece); err != nil {
			p.Errorf("sending: %v", err)
		}
	}
}

// Fin ends the peer's side of the transport and goes on reading.
func (p *Peer) Fin() {
	p.t.Helper()
	if p.failed {
		return
	}
	p.note("C> end of stream")
	p.ended = true
	half, ok := p.conn.(interface{ CloseWrite() error })
	if !ok {
		p.Errorf("%T has no CloseWrite", p.conn)
		return
	}
	if err := half.CloseWrite(); err != nil {
		p.Errorf("ending the stream: %v", err)
	}
}

// fill reads once, with patience.
func (p *Peer) fill() error {
	p.conn.SetReadDeadline(time.Now().Add(p.Patience))
	return p.read()
}

func (p *Peer) read() error {
	p.in = slices.Grow(p.in, 4096)
	n, err := p.conn.Read(p.in[len(p.in):cap(p.in)])
	p.in = p.in[:len(p.in)+n]
	if n > 0 {
		return nil // what has come counts first; the error comes again
	}
	return err
}

// next returns the next frame. With ok false the stream has ended with err,
// or the frame was one that no server may send and that has been reported.
func (p *Peer) next() (f Frame, ok bool, err error) {
	p.t.Helper()
	for {
		f, key, n, bad := parseFrame(p.in, p.Server, p.Inflater != nil)
		if bad != nil {
			p.Errorf("received %s: %v", show(p.in), bad)
			return Frame{}, false, nil
		}
		if n > 0 {
			f.Payload = bytes.Clone(f.Payload)
			p.in = p.in[n:]
			if p.Server {
				p.Keys = append(p.Keys, key)
			}
			p.note("S> %v", f)
			p.order(f)
			if f.RSV1 || p.deflated != nil && f.Op == opContinuation {
				if f = p.inflate(f); !f.Fin && !p.failed {
					continue
				}
			}
			return f, !p.failed, nil
		}
		if err := p.fill(); err != nil {
			p.note("S> %v", err)
			return Frame{}, false, err
		}
	}
}

// inflate adds a frame to the compressed message in progress, and returns that.
func (p *Peer) inflate(f Frame) Frame {
	p.t.Helper()
	if f.RSV1 {
		p.deflated = &Frame{Op: f.Op, RSV1: true}
	}
	whole := p.deflated
	whole.Payload = append(whole.Payload, f.Payload...)
	if !f.Fin {
		return *whole
	}
	p.deflated = nil
	data, err := p.Inflater.Message(whole.Payload)
	if err != nil {
		p.Errorf("D-19, D-21, D-22: received %v, which does not inflate: %v, after %s", *whole, err, show(data))
	}
	p.Inflated++
	p.note("S> inflated: %s", show(data))
	return Frame{Fin: true, Op: whole.Op, RSV1: true, Payload: data}
}

// order checks what the sequence of frames must fulfil.
func (p *Peer) order(f Frame) {
	p.t.Helper()
	switch {
	case p.closed:
		p.Errorf("K-12: the frame %v comes after a Close frame", f)
	case f.Op == opContinuation && !p.inMessage:
		p.Errorf("G-06: %v continues no message", f)
	case (f.Op == opText || f.Op == opBinary) && p.inMessage:
		p.Errorf("G-06: %v begins a message inside another one", f)
	case f.Op < opClose:
		p.inMessage = !f.Fin
	case f.Op == opClose:
		p.closed = true
	}
}

// Next returns the next frame; there must be one.
func (p *Peer) Next() (f Frame, ok bool) {
	p.t.Helper()
	if p.failed {
		return Frame{}, false
	}
	f, ok, err := p.next()
	if err != nil {
		p.Errorf("expected a frame: %v", describe(err))
	}
	return f, ok
}

// Rest returns what comes until the stream ends, in whichever way it does:
// the frames that are whole, and the error of the transport.
func (p *Peer) Rest() (frames []Frame, err error) {
	p.t.Helper()
	for !p.failed {
		f, ok, err := p.next()
		if err != nil {
			return frames, err
		}
		if ok {
			frames = append(frames, f)
		}
	}
	return frames, nil
}

// Want receives exactly the frames given in notation.
func (p *Peer) Want(notation string) {
	p.t.Helper()
	p.WantBytes(mustBytes(notation))
}

// WantBytes receives exactly these frames.
func (p *Peer) WantBytes(want []byte) {
	p.t.Helper()
	for len(want) > 0 && !p.failed {
		f, n, err := parseServerFrame(want)
		if n == 0 {
			p.Errorf("the test expects %s, which is no frame of a server: %v", show(want), err)
			return
		}
		want = want[n:]
		p.wantFrame(f)
	}
}

func (p *Peer) wantFrame(want Frame) {
	p.t.Helper()
	if p.failed {
		return
	}
	got, ok, err := p.next()
	switch {
	case err != nil:
		p.Errorf("expected %v: %v", want, describe(err))
	case ok && (got.Fin != want.Fin || got.Op != want.Op || !bytes.Equal(got.Payload, want.Payload)):
		p.Errorf("expected %v, received %v", want, got)
	}
}

// WantEOF receives the end of the stream, not a reset and no byte before it.
func (p *Peer) WantEOF() {
	p.t.Helper()
	if p.failed {
		return
	}
	f, ok, err := p.next()
	switch {
	case ok:
		p.Errorf("expected the end of the stream, received %v", f)
	case p.failed:
	case len(p.in) > 0:
		p.Errorf("the stream ends inside a frame: %s", show(p.in))
	case err != io.EOF:
		p.Errorf("expected the end of the stream: %v", describe(err))
	}
}

// WantFail is FAIL(code). It returns the reason that the Close frame gave.
func (p *Peer) WantFail(code int) (reason string) {
	p.t.Helper()
	if p.failed {
		return ""
	}
	f, ok, err := p.next()
	switch {
	case err != nil:
		p.Errorf("expected a Close frame with code %d: %v", code, describe(err))
	case !ok:
	case f.Op != opClose:
		p.Errorf("expected a Close frame with code %d, received %v", code, f)
	case len(f.Payload) < 2 || int(binary.BigEndian.Uint16(f.Payload)) != code:
		p.Errorf("expected a Close frame with code %d (%04x), received %v", code, code, f)
	case !utf8.Valid(f.Payload[2:]):
		p.Errorf("the reason of the Close frame is not UTF-8: %v", f)
	default:
		p.WantEOF()
		return string(f.Payload[2:])
	}
	return ""
}

// WantClean is CLEAN(payload), the payload in notation.
func (p *Peer) WantClean(payload string) {
	p.t.Helper()
	p.wantFrame(Frame{Fin: true, Op: opClose, Payload: mustBytes(payload)})
	p.WantEOF()
}

// WantDrop is DROP: the end of the stream without a Close frame.
func (p *Peer) WantDrop() {
	p.t.Helper()
	if p.closed {
		p.Errorf("expected the stream to end without a Close frame, but one had come")
	}
	p.WantEOF()
}

// WantOpen is OPEN: a Ping is answered.
func (p *Peer) WantOpen() {
	p.t.Helper()
	p.frame(0x89, "")
	p.Want("8a 00")
}

// frame sends a short frame as its side does.
func (p *Peer) frame(b0 byte, payload string) {
	p.t.Helper()
	if p.Server {
		p.WritePieces(append([]byte{b0, byte(len(payload))}, payload...))
		return
	}
	p.WritePieces(MaskedFrame(b0, [4]byte{}, []byte(payload)))
}

// WantNothing says that all was consumed and nothing has come back. Outside a
// bubble the proof is a Ping whose Pong comes first; where a Ping cannot
// stand, inside a frame or after a Close, nothing is checked there.
func (p *Peer) WantNothing() {
	p.t.Helper()
	if p.failed {
		return
	}
	if p.Settle == nil {
		if p.sent.between() && !p.closed {
			p.frame(0x89, "???")
			p.Want("8a 03 3f3f3f")
		}
		return
	}
	p.Settle()
	if len(p.in) == 0 {
		p.conn.SetReadDeadline(time.Now().Add(time.Nanosecond))
		if err := p.read(); err != nil && !isTimeout(err) {
			p.Errorf("expected nothing so far: %v", describe(err))
		}
	}
	if len(p.in) > 0 {
		p.Errorf("expected nothing so far, received %s", show(p.in))
	}
}

// describe says what an error of the transport means for the rule.
func describe(err error) error {
	switch {
	case err == io.EOF:
		return errors.New("the stream ended")
	case isTimeout(err):
		return errors.New("nothing came")
	default:
		return fmt.Errorf("the transport failed: %w", err)
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
