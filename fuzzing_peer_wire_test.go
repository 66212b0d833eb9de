package websocket_test

import (
	"bufio"
	"bytes"
	"compress/flate"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sockeye-ws/websocket/internal/conformance"
)

const peerPatience = time.Minute

// A wire is the peer's end, with compress/flate for its codec.
type wire struct {
	conn   net.Conn
	in     *bufio.Reader
	server bool // the peer is the server: it does not mask

	deflate    *peerDeflater // nil: nothing was agreed on
	inflate    *peerInflater
	compressed int // messages that have come

	*wireBuffers
}

// wireBuffers are for one wire after the other.
type wireBuffers struct {
	message, out, payload []byte
	w                     *flate.Writer
	r                     io.ReadCloser
}

func newWireBuffers(level int) *wireBuffers {
	w, err := flate.NewWriter(nil, level)
	if err != nil {
		panic(err)
	}
	return &wireBuffers{w: w, r: flate.NewReader(nil)}
}

// wireMask is a masking key, often enough for a payload in parts.
var wireMask = bytes.Repeat([]byte{0x37, 0xfa, 0x21, 0x3d}, 1024)

// xor masks src, or unmasks it, with keys like that.
func xor(dst, src, keys []byte) {
	for len(src) > 0 {
		n := subtle.XORBytes(dst, src, keys)
		dst, src = dst[n:], src[n:]
	}
}

func (w *wire) over(conn net.Conn) { w.conn, w.in = conn, bufio.NewReaderSize(conn, 64<<10) }

// upgrade asks for a connection and returns what was agreed on.
func (w *wire) upgrade(offer string) (agreed string, err error) {
	w.patience()
	request := "GET /ws HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
	if offer != "" {
		request += "Sec-WebSocket-Extensions: " + offer + "\r\n"
	}
	if _, err := io.WriteString(w.conn, request+"\r\n"); err != nil {
		return "", err
	}
	resp, err := http.ReadResponse(w.in, nil)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != 101 || resp.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		return "", fmt.Errorf("the handshake is answered by %s, %v", resp.Status, resp.Header)
	}
	return resp.Header.Get("Sec-WebSocket-Extensions"), nil
}

// agree makes the codecs that the field says, which has to fulfil the wish.
func (w *wire) agree(field string, want wish) error {
	if name, _, _ := strings.Cut(field, ";"); name != "permessage-deflate" {
		return fmt.Errorf("agreed: %q, want permessage-deflate", field)
	}
	theirs, own := conformance.NewInflater(field, !w.server), conformance.NewInflater(field, w.server)
	if want.alone && theirs.Takeover || want.bits > 0 && !strings.Contains(field, "_max_window_bits=") || want.bits > 0 && theirs.Bits > want.bits {
		return fmt.Errorf("agreed: %q, which does not fulfil the wish %+v", field, want)
	}
	w.deflate = &peerDeflater{w: w.w, takeover: own.Takeover, window: 1 << own.Bits}
	w.w.Reset(&w.deflate.out)
	w.inflate = &peerInflater{r: w.r, takeover: theirs.Takeover, window: 1 << theirs.Bits}
	if theirs.Bits < 15 {
		w.inflate.judge = theirs
	}
	return nil
}

func (w *wire) patience() { w.conn.SetDeadline(time.Now().Add(peerPatience)) }

// send sends a message in frames of at most so many bytes, if that is not 0, and
// all of it in writes of so many.
func (w *wire) send(op byte, message []byte, frame, piece int) error {
	w.patience()
	if w.deflate != nil && op < 8 {
		op |= 0x40
		message = w.deflate.message(message)
	}
	w.out = w.out[:0]
	for begun := false; !begun || len(message) > 0; begun = true {
		n := len(message)
		if frame > 0 {
			n = min(n, frame)
		}
		b0 := op
		if begun {
			b0 = 0
		}
		if n == len(message) {
			b0 |= 0x80
		}
		w.frame(b0, message[:n])
		message = message[n:]
	}
	for b := w.out; len(b) > 0; {
		n := len(b)
		if piece > 0 {
			n = min(n, piece)
		}
		if _, err := w.conn.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// frame appends a frame to what goes out.
func (w *wire) frame(b0 byte, payload []byte) {
	mask := byte(0x80)
	if w.server {
		mask = 0
	}
	switch n := len(payload); {
	case n < 126:
		w.out = append(w.out, b0, mask|byte(n))
	case n < 1<<16:
		w.out = binary.BigEndian.AppendUint16(append(w.out, b0, mask|126), uint16(n))
	default:
		w.out = binary.BigEndian.AppendUint64(append(w.out, b0, mask|127), uint64(n))
	}
	if w.server {
		w.out = append(w.out, payload...)
		return
	}
	w.out = append(w.out, wireMask[:4]...)
	at := len(w.out)
	w.out = append(w.out, payload...)
	xor(w.out[at:], payload, wireMask)
}

// want receives a message.
func (w *wire) want(op byte, message []byte) error {
	got, payload, rsv1, err := w.next()
	if err != nil {
		return err
	}
	if rsv1 {
		w.compressed++
		if payload, err = w.inflate.message(payload); err != nil {
			return err
		}
	}
	if got != op || !bytes.Equal(payload, message) {
		return fmt.Errorf("received opcode %d, %d bytes; sent opcode %d, %d bytes", got, len(payload), op, len(message))
	}
	return nil
}

// next receives the frames of a message, or a control frame.
func (w *wire) next() (op byte, payload []byte, rsv1 bool, err error) {
	w.payload = w.payload[:0]
	for begun := false; ; begun = true {
		var head [14]byte
		n := 2
		if _, err := io.ReadFull(w.in, head[:n]); err != nil {
			return 0, nil, false, err
		}
		size := uint64(head[1] & 0x7f)
		switch size {
		case 126:
			n = 4
		case 127:
			n = 10
		}
		masks := head[1]&0x80 != 0
		if masks {
			n += 4
		}
		if masks != w.server || head[0]&0x30 != 0 || head[0]&0x40 != 0 && (begun || w.inflate == nil) || begun != (head[0]&15 == 0) {
			return 0, nil, false, fmt.Errorf("received a frame that begins with %x, of a message: %v", head[:2], begun)
		}
		if _, err := io.ReadFull(w.in, head[2:n]); err != nil {
			return 0, nil, false, err
		}
		switch size {
		case 126:
			size = uint64(binary.BigEndian.Uint16(head[2:]))
		case 127:
			size = binary.BigEndian.Uint64(head[2:])
		}
		if size > 32<<20 {
			return 0, nil, false, fmt.Errorf("received a frame of %d bytes", size)
		}
		at := len(w.payload)
		w.payload = slices.Grow(w.payload, int(size))[:at+int(size)]
		if _, err := io.ReadFull(w.in, w.payload[at:]); err != nil {
			return 0, nil, false, err
		}
		if masks {
			xor(w.payload[at:], w.payload[at:], bytes.Repeat(head[n-4:n], 1024))
		}
		if !begun {
			op, rsv1 = head[0]&15, head[0]&0x40 != 0
		}
		if head[0]&0x80 != 0 {
			return op, w.payload, rsv1, nil
		}
	}
}

// close closes with 1000 and wants the same back.
func (w *wire) close() error {
	if err := w.send(8, []byte(code(1000)), 0, 0); err != nil {
		return err
	}
	op, payload, _, err := w.next()
	if err != nil {
		return fmt.Errorf("waiting for the answer to Close: %w", err)
	}
	if op != 8 || string(payload) != code(1000) {
		return fmt.Errorf("Close 1000 is answered by opcode %d, %x", op, payload)
	}
	if w.server { // who ends the transport
		return nil
	}
	if b, err := w.in.ReadByte(); err != io.EOF {
		return fmt.Errorf("received %x, %v behind the Close", b, err)
	}
	return nil
}

// A peerDeflater compresses messages with compress/flate. Its window is always the
// largest, so where a smaller one was agreed on it begins anew before it could
// refer to what is further back.
type peerDeflater struct {
	w        *flate.Writer
	out      bytes.Buffer
	takeover bool
	window   int
	used     int // since it began
}

func (d *peerDeflater) message(p []byte) []byte {
	d.out.Reset()
	begin := func() { d.w.Reset(&d.out); d.used = 0 }
	if !d.takeover {
		begin()
	}
	for {
		n := len(p)
		if d.window < 1<<15 {
			n = min(n, d.window-d.used)
		}
		d.w.Write(p[:n])
		d.w.Flush() // ends with 0000ffff, at a byte
		d.used += n
		if p = p[n:]; len(p) == 0 {
			return bytes.TrimSuffix(d.out.Bytes(), []byte("\x00\x00\xff\xff"))
		}
		begin()
	}
}

// A peerInflater inflates messages with compress/flate. That takes references to
// all that it has seen in a message, so where a smaller window was agreed on there
// is a judge beside it for a while: it is slow.
type peerInflater struct {
	r        io.ReadCloser
	dict     []byte // the window
	takeover bool
	window   int
	judge    *conformance.Inflater
	judged   int
}

func (f *peerInflater) message(p []byte) ([]byte, error) {
	// What its sender has left off, and the end that flate waits for.
	in := bytes.NewReader(append(bytes.Clone(p), "\x00\x00\xff\xff\x01\x00\x00\xff\xff"...))
	if err := f.r.(flate.Resetter).Reset(in, f.dict); err != nil {
		return nil, err
	}
	message, err := io.ReadAll(f.r)
	if err != nil {
		return nil, fmt.Errorf("inflating %d bytes: %w", len(p), err)
	}
	if in.Len() > 0 {
		return nil, errors.New("inflating: the message ends before its payload")
	}
	if f.takeover {
		f.dict = append(f.dict, message...)
		f.dict = f.dict[max(0, len(f.dict)-f.window):]
	}
	if f.judge != nil {
		if again, err := f.judge.Message(p); err != nil || !bytes.Equal(again, message) {
			return nil, fmt.Errorf("in a window of %d bytes: %v, %d bytes", f.window, err, len(again))
		}
		if f.judged += len(message); f.judged > 1<<20 {
			f.judge = nil
		}
	}
	return message, nil
}
