package load

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/sockeye-ws/websocket/internal/bench/corpus"
	"github.com/sockeye-ws/websocket/internal/deflate"
)

// A Deflate says which permessage-deflate (RFC 7692) is to be agreed on.
type Deflate uint8

const (
	NoDeflate  Deflate = iota // none is offered
	NoTakeover                // each message is compressed by itself, in either direction
	Takeover                  // with the help of those before it, in either direction
)

// rsv1Bit marks the first frame of a compressed message (RFC 7692 §6).
const rsv1Bit = 0x40

// deflateOffer is that of browsers. What is made of it is the server's choice.
const deflateOffer = "permessage-deflate; client_max_window_bits"

// An agreement is what a server has made of it.
type agreement struct {
	serverNoTakeover, clientNoTakeover bool
	serverBits, clientBits             int
}

// agreed reads the answer to deflateOffer in the head of a response. Anything but
// what is wanted is an error: figures must not be those of something else.
func agreed(head []byte, want Deflate) (a agreement, err error) {
	a = agreement{serverBits: 15, clientBits: 15}
	var answers []string
	for line := range strings.SplitSeq(string(head), "\r\n") {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.EqualFold(name, "Sec-WebSocket-Extensions") {
			answers = append(answers, value)
		}
	}
	if want == NoDeflate {
		if len(answers) > 0 {
			return a, fmt.Errorf("handshake: extensions %q, and none was offered", answers)
		}
		return a, nil
	}
	if len(answers) != 1 {
		return a, fmt.Errorf("handshake: %d answers to %q", len(answers), deflateOffer)
	}
	bad := fmt.Errorf("handshake: %q is agreed on", answers[0])
	params := strings.Split(answers[0], ";")
	if strings.TrimSpace(params[0]) != "permessage-deflate" {
		return a, bad
	}
	seen := make(map[string]bool)
	for _, p := range params[1:] {
		name, value, valued := strings.Cut(strings.TrimSpace(p), "=")
		if seen[name] {
			return a, bad
		}
		seen[name] = true
		bits, err := strconv.Atoi(value)
		limit := valued && err == nil && bits >= 8 && bits <= 15
		switch {
		case name == "server_no_context_takeover" && !valued:
			a.serverNoTakeover = true
		case name == "client_no_context_takeover" && !valued:
			a.clientNoTakeover = true
		case name == "server_max_window_bits" && limit:
			a.serverBits = bits
		case name == "client_max_window_bits" && limit:
			a.clientBits = bits
		default:
			return a, bad
		}
	}
	alone := want == NoTakeover
	if a.serverNoTakeover != alone || a.clientNoTakeover != alone {
		return a, fmt.Errorf("%w, which is another context takeover than is measured", bad)
	}
	if a.clientBits < corpus.WindowBits {
		return a, fmt.Errorf("%w, and messages are compressed for %d bits", bad, corpus.WindowBits)
	}
	return a, nil
}

// A pool is what goes out with compression: many different messages, compressed
// beforehand and each by itself, which every agreement permits.
type pool struct {
	plain  [][]byte
	sent   [][]byte // as on the wire
	packed []int    // payload bytes of sent
	kind   Deflate

	// What inflates, for one connection after the other.
	reader io.ReadCloser
	out    []byte
}

func newPool(size int, key [4]byte, kind Deflate) (*pool, error) {
	p := &pool{plain: corpus.Messages(size), kind: kind, reader: flate.NewReader(nil), out: make([]byte, size+1)}
	packed, err := corpus.Pack(p.plain)
	if err != nil {
		return nil, err
	}
	for _, b := range packed {
		p.sent = append(p.sent, appendFrame(nil, finBit|rsv1Bit|opText, key, b))
		p.packed = append(p.packed, len(b))
	}
	return p, nil
}

// An inflater is what one connection knows of the pool, and checks what comes
// back. Inflating everything would take the generator as long as the server needs
// to deflate it. So the first messages of each connection are inflated before the
// window opens; in the window one connection inflates all, the others without
// takeover now and then, and of what they do not inflate the frames are checked.
// Messages that come uncompressed are compared always.
type inflater struct {
	pool    *pool
	first   int // the pool's message that the connection begins with
	all     bool
	window  int // bytes that the server may refer back
	history []byte
	strict  deflate.Decoder // where all is inflated
	packed  bool            // the message in progress is compressed
	in      []byte          // and this is what came of it, if it is inflated

	// Payload bytes of the messages that have come whole, and what they
	// stand for.
	received, plain int64
}

const (
	inflatedFirst  = warmMessages // on each connection
	inflatedRarely = 61           // one in so many, where it can be had alone
)

func newInflater(p *pool, conn, conns int, a agreement) *inflater {
	z := &inflater{pool: p, first: conn * len(p.plain) / max(conns, 1), all: conn == 0, window: 1 << a.serverBits}
	if z.all && a.serverBits > 0 {
		z.strict.Init(a.serverBits, p.kind == Takeover)
	}
	return z
}

func (z *inflater) index(seq uint64) int {
	return int((uint64(z.first) + seq) % uint64(len(z.pool.plain)))
}

// sent is what went out as message number seq.
func (z *inflater) sent(seq uint64) []byte { return z.pool.sent[z.index(seq)] }

// echoed counts a message that has come back as it went out.
func (z *inflater) echoed(seq uint64) {
	i := z.index(seq)
	z.received += int64(z.pool.packed[i])
	z.plain += int64(len(z.pool.plain[i]))
}

// inflates reports whether message number seq is inflated.
func (z *inflater) inflates(seq uint64) bool {
	return z.all || seq < inflatedFirst || z.pool.kind == NoTakeover && (seq+uint64(z.first))%inflatedRarely == 0
}

// begin is told the first byte of a message.
func (z *inflater) begin(first byte) {
	z.packed, z.in = first&rsv1Bit != 0, z.in[:0]
}

// payload takes the bytes at offset off of message number seq.
func (z *inflater) payload(seq uint64, off int, p []byte) error {
	switch want := z.pool.plain[z.index(seq)]; {
	case !z.packed && (off+len(p) > len(want) || !bytes.Equal(p, want[off:off+len(p)])):
		return fmt.Errorf("the payload differs")
	case z.packed && z.inflates(seq):
		z.in = append(z.in, p...)
	}
	return nil
}

// inWindow judges how far back the references of a message go, which compress/flate
// does not where they are within the message. The library's own decoder does.
func (z *inflater) inWindow() error {
	_, err := z.strict.Append(z.pool.out[:0], z.in, len(z.pool.out))
	if err == nil {
		err = z.strict.End()
	}
	if err != nil {
		return fmt.Errorf("inflating: %w", err)
	}
	return nil
}

// deflateTail is what the sender has left off, and an empty last block.
const deflateTail = "\x00\x00\xff\xff\x01\x00\x00\xff\xff"

// end judges message number seq, of which size bytes have come.
func (z *inflater) end(seq uint64, size int) error {
	want := z.pool.plain[z.index(seq)]
	z.received += int64(size)
	z.plain += int64(len(want))
	switch {
	case !z.packed && size != len(want):
		return fmt.Errorf("it ends after %d bytes", size)
	case !z.packed || !z.inflates(seq):
		return nil
	}
	if z.all {
		if err := z.inWindow(); err != nil {
			return err
		}
	}
	z.in = append(z.in, deflateTail...)
	src := bytes.NewReader(z.in)
	if err := z.pool.reader.(flate.Resetter).Reset(src, z.history); err != nil {
		return err
	}
	out := z.pool.out // with room for a byte too many
	n, err := io.ReadFull(z.pool.reader, out)
	switch {
	case err != io.ErrUnexpectedEOF && err != nil:
		return fmt.Errorf("inflating: %w", err)
	case !bytes.Equal(out[:n], want):
		return fmt.Errorf("what is inflated differs")
	case src.Len() > 0:
		return fmt.Errorf("its last block comes before its end")
	}
	if z.pool.kind == Takeover {
		z.history = append(z.history, want...)
		if over := len(z.history) - z.window; over > 0 {
			z.history = z.history[:copy(z.history, z.history[over:])]
		}
	}
	return nil
}
