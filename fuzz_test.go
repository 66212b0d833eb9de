package websocket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/sockeye-ws/websocket/internal/conformance"
	"github.com/sockeye-ws/websocket/internal/sendq"
	"github.com/sockeye-ws/websocket/internal/transport"
)

// FuzzHeader: a verdict falls once and never changes with more bytes; a
// header that is whole is written back as the same bytes, so that nothing has
// two forms; and a header that is written is read as the same.
func FuzzHeader(f *testing.F) {
	for _, s := range []string{
		"", "81", "81 80 z", "81 05", "82 fe 007e k", "82 fe 007d z", "82 ff 0000000000010000 k", "82 ff 000000000000ffff z",
		"82 ff 8000000000000000 z", "82 ff 7fffffffffffffff z ff", "89 fe 007e z", "09 80 z", "c1 80 z", "83 80 z", "00 fd k 00",
	} {
		f.Add(wire(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:min(len(b), maxHeader+2)]
		last, size, verdict := parseHeader(b, true, false)
		for k := range b {
			h, n, v := parseHeader(b[:k:k], true, false)
			switch {
			case v != nil && (verdict == nil || *v != *verdict):
				t.Fatalf("%x: %v after %d bytes, then %v", b, v, k, verdict)
			case n > 0 && (n > k || n != size || h != last || verdict != nil):
				t.Fatalf("%x: %d, %+v after %d bytes, then %d, %+v, %v", b, n, h, k, size, last, verdict)
			}
		}
		naive := &naiveServer{in: b, limit: -1, maxFrames: -1, inMessage: true, anyOrder: true}
		h, length, whole := naive.header()
		if (verdict != nil) != (naive.code != 0) || (size > 0) != whole {
			t.Fatalf("%x: verdict %v, size %d; the naive reader has %d, whole %v", b, verdict, size, naive.code, whole)
		}
		if verdict != nil && verdict.Code != StatusProtocolError {
			t.Fatalf("%x: %v", b, verdict)
		}
		if size > 0 {
			if h.op != byte(last.op) || h.fin != last.fin || length.Cmp(big.NewInt(last.length)) != 0 || size != naive.pos {
				t.Fatalf("%x: %+v of %d bytes; the naive reader has %+v, %v of %d", b, last, size, h, length, naive.pos)
			}
			if back := appendHeader(nil, last); !bytes.Equal(back, b[:size]) {
				t.Fatalf("%x is written back as %x", b[:size], back)
			}
		} else if len(b) >= maxHeader && verdict == nil {
			t.Fatalf("%x: %d bytes, and more are needed", b, len(b))
		}

		// Backwards, from bits that say what the header is to be.
		if len(b) < 13 {
			return
		}
		ops := []opcode{opContinuation, opText, opBinary, opClose, opPing, opPong}
		want := header{fin: b[0]&1 != 0, op: ops[int(b[0]>>1)%len(ops)], masked: true}
		for _, c := range b[1:9] {
			want.length = want.length<<8 | int64(c)
		}
		want.length = (want.length &^ (-1 << 63)) >> (b[9] % 64)
		if want.op.control() {
			want.fin, want.length = true, want.length%(maxControl+1)
		}
		want.key = keyOf([4]byte(b[9:13]))
		form := appendHeader(nil, want)
		if got, n, v := parseHeader(form, true, false); got != want || n != len(form) || v != nil {
			t.Fatalf("%+v is written as %x and read as %+v, %d, %v", want, form, got, n, v)
		}
	})
}

// FuzzMask: in whatever pieces and at whatever place, the result is that of
// the formula, what lies beside is left alone, and masking twice is nothing.
func FuzzMask(f *testing.F) {
	f.Add([]byte("Hello"), uint32(0x3d21fa37), uint64(0), uint8(0))
	f.Add(bytes.Repeat([]byte("0123456789"), 30), uint32(0x04030201), uint64(0x123456789abcdef), uint8(3))
	f.Fuzz(func(t *testing.T, p []byte, key uint32, cuts uint64, align uint8) {
		memory := slices.Concat(bytes.Repeat([]byte{0xa5}, int(align%16)), p, []byte{0xa5, 0xa5})
		b := memory[align%16 : int(align%16)+len(p)]
		var k [4]byte
		for i := range k {
			k[i] = byte(key >> (8 * i))
		}
		inPieces := func() (next maskKey) {
			next = maskKey(key)
			rest := b
			for c := cuts; len(rest) > 0; c = c>>5 | c<<59 {
				n := min(int(c%32)*int(c%7), len(rest))
				if c == 0 {
					n = len(rest)
				}
				if n == 0 && c&31 == 0 {
					n = 1
				}
				next = mask(next, rest[:n])
				rest = rest[n:]
			}
			return next
		}
		next := inPieces()
		if !bytes.Equal(b, bytewise(k, p)) {
			t.Fatalf("key %x, %x: %x", k, p, b)
		}
		after := []byte{0, 0, 0, 0}
		mask(next, after)
		if want := bytewise(k, make([]byte, len(p)+4))[len(p):]; !bytes.Equal(after, want) {
			t.Fatalf("key %x: after %d bytes the next are masked with %x, want %x", k, len(p), after, want)
		}
		inPieces()
		if want := slices.Concat(bytes.Repeat([]byte{0xa5}, int(align%16)), p, []byte{0xa5, 0xa5}); !bytes.Equal(memory, want) {
			t.Fatalf("key %x: twice masked: %x, want %x", k, memory, want)
		}
	})
}

// continuations are ways to go on from within any character.
var continuations = [][]byte{
	{}, {0x80}, {0xa0}, {0x90}, {0x80, 0x80}, {0xa0, 0x80}, {0x90, 0x80}, {0x80, 0x80, 0x80}, {0x90, 0x80, 0x80}, {0xbf, 0xbf, 0xbf},
}

// extends reports whether some text begins with prefix, the beginning of one
// character.
func extends(prefix []byte) bool {
	var b [2 * utf8.UTFMax]byte
	return slices.ContainsFunc(continuations, func(c []byte) bool {
		return utf8.Valid(append(append(b[:0], prefix...), c...))
	})
}

// FuzzUTF8: however text is cut, a utf8Check finds what utf8.Valid finds, and
// with the first byte with which it can be found: what precedes that byte can
// still become text, what includes it never.
func FuzzUTF8(f *testing.F) {
	for _, s := range []string{"", "κόσμε", "\xf0\x90\x80\x80", "\xf4\x90", "\xed\xa0\x80", "\xe2\x82", "a\xc0\xaf", "\xef\xbb\xbfa", "\xff", "\xf4\x8f\xbf\xbf€é"} {
		f.Add([]byte(s), uint64(0))
		f.Add([]byte(s), uint64(0xdb6d5))
	}
	f.Fuzz(func(t *testing.T, p []byte, pattern uint64) {
		p = p[:min(len(p), 1<<10)]
		var pieces [][]byte
		start := 0
		for i := range p {
			if pattern>>(i%64)&1 != 0 {
				pieces = append(pieces, p[start:i])
				start = i
			}
		}
		checkPieces(t, append(pieces, p[start:]))

		var u utf8Check
		good := 0
		for good < len(p) && u.write(p[good:good+1]) {
			good++
		}
		if valid := good == len(p) && u.complete(); valid != utf8.Valid(p) {
			t.Fatalf("%x: valid is %v", p, valid)
		}
		start = charStart(p, good)
		if !utf8.Valid(p[:start]) || !extends(p[start:good]) {
			t.Fatalf("%x: the first %d bytes are taken, and are no beginning of text", p, good)
		}
		if u.complete() {
			start = good
		}
		if good < len(p) && extends(p[start:good+1]) {
			t.Fatalf("%x: refused at byte %d, which can be part of text", p, good)
		}
	})
}

// FuzzClosePayload: what is received and what is sent follow the same rules.
func FuzzClosePayload(f *testing.F) {
	for _, s := range []string{"", "03", "03e8", "03e8 627965", "03e8 ff", "03ed", "0bb8 e282ac", "03f2 61", "03f3 rep(e2,3)", "03f3 rep(61,122) c3a9"} {
		f.Add(wire(f, s))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		want := naiveClose(p)
		closed, violation := parseClose(p)
		switch {
		case want != 0:
			if closed != nil || violation == nil || violation.Code != want || violation.Remote {
				t.Fatalf("%x: %v, %v, want %d", p, closed, violation, want)
			}
		case violation != nil || closed == nil || !closed.Remote || closed.cause != nil:
			t.Fatalf("%x: %v, %v", p, closed, violation)
		case len(p) == 0:
			if closed.Code != StatusNoStatusRcvd || closed.Reason != "" || !bytes.Equal(appendClose(nil, closed.Code, ""), []byte{0x88, 0}) {
				t.Fatalf("an empty payload: %#v", closed)
			}
		case len(p) <= maxControl:
			if back := appendClose(nil, closed.Code, closed.Reason); !bytes.Equal(back[2:], p) || back[0] != 0x88 || int(back[1]) != len(p) {
				t.Fatalf("%x is written back as %x", p, back)
			}
		}
		if closed != nil && strings.ContainsFunc(closed.Error(), func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Fatalf("%x: %q is not escaped", p, closed.Error())
		}
		reason := strings.ToValidUTF8(string(p), "\ufffd")
		sent := appendClose(nil, StatusInternalError, reason)
		cut := string(sent[4:])
		if len(sent) > 2+maxControl || int(sent[1]) != len(sent)-2 || !utf8.ValidString(cut) || !strings.HasPrefix(reason, cut) {
			t.Fatalf("reason %q: %x", reason, sent)
		}
		if rest := reason[len(cut):]; rest != "" {
			if _, size := utf8.DecodeRuneInString(rest); len(cut)+size <= maxReason {
				t.Fatalf("reason %q is cut to %d bytes", reason, len(cut))
			}
		}
	})
}

// naiveServer reads frames from the contract alone, a byte at a time, without
// speed and without anything of the implementation. It sends back no message.
type naiveServer struct {
	in        []byte
	pos       int
	limit     int64 // negative: none
	maxFrames int   // negative: none
	anyOrder  bool  // F-01 without inMsg

	events    []Message
	begun     int    // messages whose first header was accepted
	pongs     []byte // what it sends before the Close frame
	code      StatusCode
	reason    string
	remote    bool
	echo      []byte // the Close frame, if it is the answer to one
	inMessage bool
	message   Message // in progress
	frames    int
	char      []byte // the character that is open
}

type naiveHeader struct {
	fin bool
	op  byte
	key [4]byte
}

func (s *naiveServer) fail(code StatusCode) bool {
	s.code = code
	return false
}

// take returns the next n bytes, or false where there are no more: nothing
// can be said then.
func (s *naiveServer) take(n int) ([]byte, bool) {
	if len(s.in)-s.pos < n {
		s.pos = len(s.in)
		return nil, false
	}
	s.pos += n
	return s.in[s.pos-n : s.pos], true
}

// header reads a header; it reports false for one that is cut or illegal.
func (s *naiveServer) header() (h naiveHeader, length *big.Int, ok bool) {
	b, ok := s.take(1)
	if !ok {
		return
	}
	h.fin, h.op = b[0] >= 128, b[0]%16
	data := strings.IndexByte("\x00\x01\x02", h.op) >= 0
	if b[0]/16%8 != 0 || !data && strings.IndexByte("\x08\x09\x0a", h.op) < 0 || !data && !h.fin ||
		data && !s.anyOrder && (h.op == 0) != s.inMessage {
		return h, nil, s.fail(1002)
	}
	if b, ok = s.take(1); !ok {
		return
	}
	if b[0] < 128 || !data && b[0] > 128+125 {
		return h, nil, s.fail(1002)
	}
	length = big.NewInt(int64(b[0] - 128))
	long := map[byte]int{128 + 126: 2, 128 + 127: 8}[b[0]]
	if long > 0 {
		if b, ok = s.take(long); !ok {
			return
		}
		length.SetBytes(b)
		least := map[int]int64{2: 126, 8: 65536}[long]
		if length.Cmp(big.NewInt(least)) < 0 || length.BitLen() > 63 {
			return h, nil, s.fail(1002)
		}
	}
	if b, ok = s.take(4); !ok {
		return
	}
	h.key = [4]byte(b)
	return h, length, true
}

// naiveClose returns the code of the violation that a payload is, or 0.
func naiveClose(p []byte) StatusCode {
	if len(p) == 0 {
		return 0
	}
	if len(p) == 1 || !receivableCode(int(p[0])*256+int(p[1])) {
		return 1002
	}
	if n, whole := textPrefix(p[2:]); n < len(p)-2 || !whole {
		return 1007
	}
	return 0
}

// run reads all the input, or as far as it is needed for the verdict: pos is
// then how far that is.
func (s *naiveServer) run() {
	for s.frame() {
	}
	if s.code == 0 { // the end of the input
		s.code, s.remote = 1006, true
	}
}

func (s *naiveServer) frame() bool {
	h, length, ok := s.header()
	if !ok {
		return false
	}
	if h.op >= 8 {
		p, ok := s.take(int(length.Int64()))
		return ok && s.control(h, bytewise(h.key, p))
	}
	total := new(big.Int).Add(length, big.NewInt(int64(len(s.message.Data))))
	if s.limit >= 0 && total.Cmp(big.NewInt(s.limit)) > 0 || s.maxFrames >= 0 && s.frames+1 > s.maxFrames {
		return s.fail(1009)
	}
	if !s.inMessage {
		s.message = Message{Type: MessageType(h.op)}
		s.begun++
	}
	s.inMessage = true
	s.frames++
	for i := range 4 * len(s.in) { // more than there are
		if big.NewInt(int64(i)).Cmp(length) == 0 {
			break
		}
		b, ok := s.take(1)
		if !ok {
			return false
		}
		if c := b[0] ^ h.key[i%4]; !s.data(c) {
			return s.fail(1007)
		}
	}
	if h.fin {
		if len(s.char) > 0 {
			return s.fail(1007)
		}
		s.events = append(s.events, s.message)
		s.message, s.inMessage, s.frames = Message{}, false, 0
	}
	return true
}

func (s *naiveServer) data(c byte) bool {
	if s.message.Type == Text {
		s.char = append(s.char, c)
		n, whole := textPrefix(s.char)
		if n < len(s.char) {
			return false
		}
		if whole {
			s.char = nil
		}
	}
	s.message.Data = append(s.message.Data, c)
	return true
}

func (s *naiveServer) control(h naiveHeader, p []byte) bool {
	switch h.op {
	case 9:
		s.pongs = append(append(s.pongs, 0x8a, byte(len(p))), p...)
	case 8:
		if code := naiveClose(p); code != 0 {
			return s.fail(code)
		}
		s.code, s.remote, s.echo = 1005, true, []byte{0x88, 0}
		if len(p) > 0 {
			s.code, s.reason = StatusCode(p[0])<<8|StatusCode(p[1]), string(p[2:])
			s.echo = []byte{0x88, 2, p[0], p[1]}
		}
		return false
	}
	return true
}

// A script is a connection whose peer sends given pieces and then ends its
// side. It takes all that is written at once, and never waits, so that what
// happens on it does not depend on how goroutines are scheduled.
type script struct {
	c      *Conn
	atCut  func() // called at each cut
	mu     sync.Mutex
	pieces [][]byte
	late   bool // the read deadline has passed
	cut    bool // atCut has been called at this one
	taken  int  // bytes read before the end of the connection
	out    []byte
	broken error // what Write returns, if not nil
	ended  bool  // by CloseWrite or Close
	wrong  error
}

func (s *script) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := s.c.ended() == nil
	if limit := max(32<<10, 4*s.taken); open && len(p) > limit {
		s.wrong = fmt.Errorf("room for %d bytes, after %d", len(p), s.taken) // invariant 1
	}
	if open && s.atCut != nil && !s.cut {
		s.cut = true
		s.mu.Unlock()
		s.atCut()
		s.mu.Lock()
	}
	if s.late {
		return 0, os.ErrDeadlineExceeded
	}
	if len(s.pieces) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.pieces[0])
	if s.pieces[0] = s.pieces[0][n:]; len(s.pieces[0]) == 0 {
		s.pieces, s.cut = s.pieces[1:], false
	}
	if open {
		s.taken += n
	}
	return n, nil
}

func (s *script) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		s.wrong = errors.New("written after the end")
		return 0, net.ErrClosed
	}
	if s.broken != nil {
		return 0, s.broken
	}
	s.out = append(s.out, p...)
	return len(p), nil
}

func (s *script) SetReadDeadline(at time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.late = !at.IsZero() && at.Year() < 2000 // those to come never come
	return nil
}

func (s *script) CloseWrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	return nil
}

func (s *script) Close() error                     { return s.CloseWrite() }
func (s *script) SetWriteDeadline(time.Time) error { return nil }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) LocalAddr() net.Addr              { return nil }
func (s *script) RemoteAddr() net.Addr             { return nil }

// eager takes at once what is written without waiting, as a socket does.
type eager struct {
	transport.Conn
	s *script
}

func (e eager) Tries() bool                    { return true }
func (e eager) TryWrite(p []byte) (int, error) { return e.s.Write(p) }

// play makes a connection on a script.
func play(cfg *Config, pieces [][]byte) (*Conn, *script) {
	s := &script{pieces: pieces}
	quiet := *cfg
	quiet.Logger = slog.New(slog.DiscardHandler)
	c := newConn(s, nil, &terms{Config: quiet, queue: sendq.Options{Limit: defaultWriteQueue, Timeout: cfg.WriteTimeout}}, "", nil)
	c.t = eager{c.t, s}
	c.out.Init(c.t, (*member)(c), &c.cfg.queue)
	s.c = c
	return c, s
}

// A reading is a way to read a connection to its end. It returns the messages
// that came whole, and how much came of the one that did not.
type reading struct {
	name string
	run  func(c *Conn, s *script, size int) (events []Message, part []byte, err error)
}

var readings = []reading{
	{"Read", func(c *Conn, s *script, _ int) (events []Message, _ []byte, err error) {
		for {
			typ, p, err := c.Read(context.Background())
			if err != nil {
				return events, nil, err
			}
			events = append(events, Message{typ, p})
		}
	}},
	{"ReadAppend", func(c *Conn, s *script, size int) (events []Message, _ []byte, err error) {
		for {
			dst := append(make([]byte, 0, size), "dst"...)
			typ, p, err := c.ReadAppend(context.Background(), dst)
			if !bytes.HasPrefix(p, []byte("dst")) {
				return nil, nil, fmt.Errorf("ReadAppend returns %q", p)
			}
			if err != nil {
				if len(p) != 3 {
					err = fmt.Errorf("ReadAppend returns %q with %w", p, err)
				}
				return events, nil, err
			}
			events = append(events, Message{typ, p[3:]})
		}
	}},
	{"Reader", func(c *Conn, s *script, size int) (events []Message, _ []byte, err error) {
		for {
			typ, r, err := c.Reader(context.Background())
			if err != nil {
				return events, nil, err
			}
			m := Message{Type: typ}
			for b := make([]byte, size); ; {
				n, err := r.Read(b)
				m.Data = append(m.Data, b[:n]...)
				if err == io.EOF {
					break
				}
				if err != nil {
					return events, m.Data, err
				}
			}
			events = append(events, m)
		}
	}},
	{"Reader, left half-way", func(c *Conn, s *script, size int) (_ []Message, _ []byte, err error) {
		var b [3]byte
		for {
			_, r, err := c.Reader(context.Background())
			if err != nil {
				return nil, nil, err
			}
			if size%2 == 0 {
				if n, err := r.Read(b[:]); err != nil && err != io.EOF {
					return nil, b[:n], err
				}
			}
		}
	}},
	{"Read, cancelled at each cut", func(c *Conn, s *script, _ int) (events []Message, _ []byte, err error) {
		// Invariant 7: nothing is lost by it. The interrupt does not wait
		// for the goroutine that the end of a context starts.
		var stop context.CancelFunc
		s.atCut = func() {
			stop()
			c.t.In().Interrupt()
		}
		for {
			ctx, cancel := context.WithCancel(context.Background())
			stop = cancel
			typ, p, err := c.Read(ctx)
			cancel()
			switch {
			case err == nil:
				events = append(events, Message{typ, p})
			case !errors.Is(err, context.Canceled):
				return events, nil, err
			}
		}
	}},
}

// checkConn plays the pieces to a connection and compares all that can be
// seen from outside with what the naive server makes of them.
func checkConn(t *testing.T, want *naiveServer, pieces [][]byte, how reading, size int) {
	t.Helper()
	cfg := &Config{ReadLimit: want.limit, MaxFragments: want.maxFrames, WriteTimeout: time.Second, CloseTimeout: time.Second}
	c, s := play(cfg, slices.Clone(pieces))
	events, part, err := how.run(c, s, size)
	<-c.Context().Done()
	s.mu.Lock()
	defer s.mu.Unlock()
	bad := func(format string, args ...any) {
		t.Helper()
		t.Fatalf("%s, in pieces of %x: %s", how.name, pieces, fmt.Sprintf(format, args...))
	}
	if s.wrong != nil {
		bad("%v", s.wrong)
	}
	if how.name != "Reader, left half-way" {
		if !slices.EqualFunc(events, want.events, func(a, b Message) bool { return a.Type == b.Type && bytes.Equal(a.Data, b.Data) }) {
			bad("messages %v, want %v", events, want.events)
		}
		if !bytes.HasPrefix(want.message.Data, part) {
			bad("%x came of a message, of which %x is good", part, want.message.Data)
		}
	}
	end, ok := err.(*CloseError)
	if !ok {
		bad("%v", err)
	}
	if end.Code != want.code || end.Remote != want.remote || want.remote && end.Reason != want.reason || (end.cause == io.ErrUnexpectedEOF) != (want.code == 1006 && want.echo == nil) {
		bad("%#v, want %d %q, remote %v", end, want.code, want.reason, want.remote)
	}
	if context.Cause(c.Context()) != error(end) {
		bad("Context tells of %v, Read of %v", context.Cause(c.Context()), end)
	}
	// The verdict falls with the byte that shows it, or with what came along.
	piece, after := 0, 0
	for after < want.pos {
		after += len(pieces[piece])
		piece++
	}
	if s.taken < want.pos || s.taken > after {
		bad("ended after %d bytes, want %d, and what came with them, %d in all", s.taken, want.pos, after)
	}
	closing, ok := bytes.CutPrefix(s.out, want.pongs)
	switch {
	case !ok:
		bad("sent %x, which does not begin with %x", s.out, want.pongs)
	case want.echo != nil || want.code == 1006:
		if !bytes.Equal(closing, want.echo) {
			bad("sent %x in the end, want %x", closing, want.echo)
		}
	case len(closing) < 4 || closing[0] != 0x88 || int(closing[1]) != len(closing)-2 || len(closing) > 2+maxControl ||
		StatusCode(closing[2])<<8|StatusCode(closing[3]) != want.code || string(closing[4:]) != end.Reason || !utf8.Valid(closing[4:]):
		bad("sent %x in the end, want a Close with %d", closing, want.code)
	}
}

// inPieces cuts b by the lengths in cuts, again and again; none: whole.
func inPieces(b, cuts []byte) (pieces [][]byte) {
	for i := 0; len(b) > 0; i++ {
		n := len(b)
		if len(cuts) > 0 {
			n = min(n, 1+int(cuts[i%len(cuts)]))
		}
		pieces = append(pieces, b[:n:n])
		b = b[n:]
	}
	return pieces
}

// FuzzConn: whatever a peer sends, however it is cut, and however it is read,
// the messages, the answers, the code and the moment of the verdict are those
// of the naive server.
func FuzzConn(f *testing.F) {
	for i, row := range conformance.Rows() {
		var b []byte
		for _, step := range row.Steps() {
			if step.Kind == conformance.Send {
				b = append(b, step.Bytes...)
			}
		}
		if len(b) <= 300 {
			f.Add(b, []byte{byte(i % 7), 3}, uint16(300+i<<9), uint8(i))
		}
	}
	f.Fuzz(func(t *testing.T, b, cuts []byte, limits uint16, mode uint8) {
		b = b[:min(len(b), 1<<12)]
		want := &naiveServer{in: b, limit: int64(limits % 512), maxFrames: int(limits/512) - 1}
		if limits%512 == 511 {
			want.limit = -1
		}
		want.run()
		size := 1 + int(mode)%61
		a, z := int(mode)%len(readings), int(mode/8)%len(readings)
		checkConn(t, want, inPieces(b, cuts), readings[a], size)
		checkConn(t, want, inPieces(b, nil), readings[z], size)
	})
}

// TestConnRows plays the inputs of the conformance rows byte by byte, if they
// are short, in every way to read, and in other pieces and with a lower limit in one of them.
func TestConnRows(t *testing.T) {
	for i, row := range conformance.Rows() {
		var b []byte
		for _, step := range row.Steps() {
			if step.Kind == conformance.Send {
				b = append(b, step.Bytes...)
			}
		}
		if len(b) > 1000 {
			continue
		}
		want := &naiveServer{in: b, limit: -1, maxFrames: 100}
		want.run()
		for _, how := range readings {
			// Each piece is a fill; a thousand of them take their time.
			checkConn(t, want, inPieces(b, []byte{byte(len(b) / 64)}), how, 64)
		}
		low := &naiveServer{in: b, limit: 16, maxFrames: 3}
		low.run()
		checkConn(t, want, inPieces(b, nil), readings[i%len(readings)], 1000)
		checkConn(t, low, inPieces(b, []byte{6, 0, 2, byte(len(b) / 32)}), readings[i%len(readings)], 3)
	}
}
