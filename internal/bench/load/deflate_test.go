package load

import (
	"bytes"
	"compress/flate"
	"strings"
	"testing"
)

// A packer answers as a server does that compresses.
type packer struct {
	buf bytes.Buffer
	w   *flate.Writer
	z   Deflate
}

func newPacker(z Deflate) *packer {
	p := &packer{z: z}
	p.w, _ = flate.NewWriter(&p.buf, 6)
	return p
}

func (p *packer) pack(plain []byte) []byte {
	p.buf.Reset()
	if p.z == NoTakeover {
		p.w.Reset(&p.buf)
	}
	_, _ = p.w.Write(plain)
	_ = p.w.Flush()
	return bytes.Clone(bytes.TrimSuffix(p.buf.Bytes(), []byte(deflateTail[:4])))
}

const packedText = finBit | rsv1Bit | opText

func mustPool(t *testing.T, size int, kind Deflate, raw bool) *message {
	t.Helper()
	m := newMessage(size, testKey, raw)
	var err error
	if m.pool, err = newPool(size, testKey, kind); err != nil {
		t.Fatal(err)
	}
	m.op = opText
	return m
}

// packedAnswers is what a right server sends on that connection.
func packedAnswers(m *message, z *inflater, n int) []byte {
	var b []byte
	p := newPacker(m.pool.kind)
	for seq := range n {
		b = appendBare(b, packedText, p.pack(m.pool.plain[z.index(uint64(seq))]))
	}
	return b
}

var full = agreement{serverBits: 15, clientBits: 15}

// Right answers are taken however they are cut, compressed or not, on connections
// that inflate all and on others, past the end of the pool.
func TestDeflatedAnswers(t *testing.T) {
	for _, kind := range []Deflate{NoTakeover, Takeover} {
		for _, size := range []int{64 << 10, 300} {
			m := mustPool(t, size, kind, false)
			for conn := range 2 {
				z := newInflater(m.pool, conn, 2, full)
				n := len(m.pool.plain) + 3
				b := packedAnswers(m, z, n)
				d := decoder{z: z}
				done := 0
				for i, step := 0, 0; i < len(b); i += step {
					step = min(len(b)-i, 1+i%977)
					got, err := d.feed(b[i:i+step], m)
					if err != nil {
						t.Fatalf("kind %d, %d bytes, connection %d: %v", kind, size, conn, err)
					}
					done += got
				}
				if done != n || z.plain != int64(n*size) || z.received >= z.plain*7/10 || z.received < z.plain/10 {
					t.Errorf("kind %d, %d bytes: %d of %d messages, %d bytes for %d", kind, size, done, n, z.received, z.plain)
				}
			}
		}
	}
	m := mustPool(t, 300, Takeover, false)
	z := newInflater(m.pool, 0, 1, full)
	p := newPacker(Takeover)
	var b []byte
	for seq := range 20 {
		plain := m.pool.plain[seq]
		if seq%3 == 1 { // and then it is not in the window
			b = appendBare(b, finBit|opText, plain)
			continue
		}
		packed := p.pack(plain)
		b = appendBare(b, rsv1Bit|opText, packed[:10])
		b = appendBare(b, opContinuation|finBit, packed[10:])
	}
	d := decoder{z: z}
	if n, err := d.feed(b, m); n != 20 || err != nil {
		t.Errorf("fragmented and uncompressed answers: %d, %v", n, err)
	}
}

// A server that knows no WebSocket sends what was sent.
func TestDeflatedRaw(t *testing.T) {
	m := mustPool(t, 300, NoTakeover, true)
	z := newInflater(m.pool, 1, 2, agreement{})
	var b []byte
	for seq := range uint64(5) {
		b = append(b, z.sent(seq)...)
	}
	d := decoder{z: z}
	if n, err := d.feed(b, m); n != 5 || err != nil || z.received == 0 || z.plain != 5*300 {
		t.Errorf("%d messages, %v, %d bytes for %d", n, err, z.received, z.plain)
	}
	b[len(z.sent(0))+20] ^= 1
	d = decoder{z: newInflater(m.pool, 1, 2, agreement{})}
	if n, err := d.feed(b, m); n != 1 || err == nil {
		t.Errorf("another byte: %d messages, %v", n, err)
	}
}

func TestWrongDeflatedAnswers(t *testing.T) {
	one := func(p []byte) []byte { return appendBare(nil, packedText, p) }
	alone, takeover := mustPool(t, 300, NoTakeover, false), mustPool(t, 300, Takeover, false)
	plain := alone.pool.plain
	packed := newPacker(NoTakeover).pack(plain[0])
	changed := bytes.Clone(plain[0])
	changed[200] ^= 1
	last := new(bytes.Buffer)
	w, _ := flate.NewWriter(last, 6)
	_, _ = w.Write(plain[0])
	_ = w.Close()
	p := newPacker(Takeover)
	inTurn := append(one(p.pack(plain[0])), one(p.pack(plain[1]))...)
	skipped := newPacker(Takeover)
	skipped.pack(plain[5])
	// Within a message of 250 bytes nothing is too far for a window of 256, but
	// in the messages before it.
	wide := mustPool(t, 4<<10, NoTakeover, false)
	long, far := mustPool(t, 250, Takeover, false), newPacker(Takeover)
	var beyond []byte
	for _, p := range long.pool.plain[:9] {
		beyond = append(beyond, one(far.pack(p))...)
	}
	tests := []struct {
		name string
		m    *message
		bits int
		b    []byte
		want string
	}{
		{"another message", alone, 15, one(newPacker(NoTakeover).pack(plain[1])), "what is inflated differs"},
		{"too far within a message", wide, 8, one(newPacker(NoTakeover).pack(wide.pool.plain[0])), "before the window"},
		{"another byte", alone, 15, one(newPacker(NoTakeover).pack(changed)), "what is inflated differs"},
		{"too short", alone, 15, one(newPacker(NoTakeover).pack(plain[0][:299])), "what is inflated differs"},
		{"too long", alone, 15, one(newPacker(NoTakeover).pack(append(bytes.Clone(plain[0]), ' '))), "what is inflated differs"},
		{"far too long", alone, 15, one(newPacker(NoTakeover).pack(append(bytes.Clone(plain[0]), plain[0]...))), "inflating"},
		{"corrupt", alone, 15, one(bytes.Repeat([]byte{0xff}, 20)), "inflating"},
		{"cut off", alone, 15, one(packed[:len(packed)-9]), "message 0"},
		{"nothing", alone, 15, one(nil), "message 0"},
		{"ended", alone, 15, one(last.Bytes()), "message 0"},
		{"the tail left on", alone, 15, one(append(bytes.Clone(packed), deflateTail[:4]...)), "inflating"},
		{"uncompressed, another byte", alone, 15, appendBare(nil, finBit|opText, changed), "the payload differs"},
		{"uncompressed, too short", alone, 15, appendBare(nil, finBit|opText, plain[0][:299]), "ends after 299 bytes"},
		{"uncompressed, too long", alone, 15, appendBare(nil, finBit|opText, append(bytes.Clone(plain[0]), ' ')), "the payload differs"},
		{"compressed and not marked", alone, 15, appendBare(nil, finBit|opText, packed), "the payload differs"},
		{"uncompressed and marked", alone, 15, one(plain[0]), "message 0"},
		{"binary", alone, 15, appendBare(nil, finBit|rsv1Bit|opBinary, packed), "the type has changed"},
		{"takeover where there is none", alone, 15, inTurn, "message 1"},
		{"a message lost", takeover, 15, one(skipped.pack(plain[0])), "message 0"},
		{"marked continuation", alone, 15, append(appendBare(nil, rsv1Bit|opText, packed[:9]), 0xc0, 0), "first byte 0xc0"},
		{"marked pong", alone, 15, []byte{0xca, 0}, "first byte 0xca"},
		{"another reserved bit", alone, 15, []byte{0xe1, 0}, "first byte 0xe1"},
		{"a message within another", alone, 15, append(appendBare(nil, rsv1Bit|opText, packed[:9]), 0xc1, 0), "first byte 0xc1"},
		{"beyond the window", long, 8, beyond, "inflating"},
	}
	for _, tt := range tests {
		d := decoder{z: newInflater(tt.m.pool, 0, 1, agreement{serverBits: tt.bits})}
		_, err := d.feed(tt.b, tt.m)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	// Where nothing was agreed on, nothing may be marked.
	d := decoder{}
	if _, err := d.feed(appendBare(nil, packedText, packed), messages["small"]); err == nil || !strings.Contains(err.Error(), "first byte 0xc1") {
		t.Errorf("compression without agreement: %v", err)
	}
}

// What is not inflated is not: the connections other than the first would
// otherwise cost the generator too much. And what is to be inflated is.
func TestWhatIsInflated(t *testing.T) {
	for kind, want := range map[Deflate]int{NoTakeover: inflatedFirst + 2, Takeover: inflatedFirst} {
		m := mustPool(t, 300, kind, false)
		z, n := newInflater(m.pool, 1, 64, full), 0
		for seq := range uint64(2 * inflatedRarely) {
			if z.inflates(seq) {
				n++
			}
		}
		if n < want || n > want+1 {
			t.Errorf("kind %d: %d messages, want %d", kind, n, want)
		}
		// A wrong one among the first is noticed there, too.
		d := decoder{z: newInflater(m.pool, 1, 64, full)}
		if _, err := d.feed(appendBare(nil, packedText, newPacker(kind).pack(m.pool.plain[0])), m); err == nil {
			t.Errorf("kind %d: another message is accepted", kind)
		}
	}
}

func TestAgreed(t *testing.T) {
	const name = "permessage-deflate"
	const both = "; server_no_context_takeover; client_no_context_takeover"
	head := func(values ...string) []byte {
		b := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
		for _, v := range values {
			b += "\r\nsec-websocket-extensions: " + v
		}
		return []byte(b + "\r\n\r\n")
	}
	for _, tt := range []struct {
		want Deflate
		head []byte
		got  agreement
	}{
		{NoDeflate, head(), full},
		{Takeover, head(name), full},
		{Takeover, head(name + ";server_max_window_bits=9;  client_max_window_bits=12"), agreement{serverBits: 9, clientBits: 12}},
		{NoTakeover, head(name + both), agreement{true, true, 15, 15}},
	} {
		n, got, err := checkResponse(tt.head, tt.want)
		if n != len(tt.head) || err != nil || got != tt.got {
			t.Errorf("%q: %+v, %v", tt.head, got, err)
		}
	}
	for _, tt := range []struct {
		want Deflate
		head []byte
	}{
		{NoDeflate, head(name)}, {NoDeflate, head("")},
		{Takeover, head()}, {Takeover, head("")}, {Takeover, head("x-" + name)}, {Takeover, head(name, name)}, {Takeover, head(name + ", " + name)},
		{Takeover, head(name + both)}, {NoTakeover, head(name)},
		{Takeover, head(name + "; server_no_context_takeover")}, {Takeover, head(name + "; client_no_context_takeover")},
		{NoTakeover, head(name + "; server_no_context_takeover")}, {NoTakeover, head(name + "; client_no_context_takeover")},
		{NoTakeover, head(name + both + "; client_no_context_takeover")},
		{NoTakeover, head(name + both + "=1")},
		{NoTakeover, head(name + both + "; client_max_window_bits")}, {NoTakeover, head(name + both + "; server_max_window_bits")},
		{Takeover, head(name + "; server_max_window_bits=7")}, {Takeover, head(name + "; server_max_window_bits=16")},
		{Takeover, head(name + "; client_max_window_bits=11")}, {Takeover, head(name + "; unknown")},
	} {
		if n, _, err := checkResponse(tt.head, tt.want); n != 0 || err == nil {
			t.Errorf("%q is accepted for %d", tt.head, tt.want)
		}
	}
	if r := string(handshakeRequest("h", Takeover)); !strings.Contains(r, "\r\nSec-WebSocket-Extensions: "+deflateOffer+"\r\n\r\n") {
		t.Errorf("the offer is missing in %q", r)
	}
	if r := string(handshakeRequest("h", NoDeflate)); strings.Contains(r, "Extensions") {
		t.Errorf("an offer in %q", r)
	}
}
