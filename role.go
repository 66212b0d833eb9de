package websocket

import (
	"crypto/rand"
	mathrand "math/rand/v2"
	"sync"
)

// The client's role in a connection: it masks what it sends, the server does
// not (RFC 6455 §5.1). All else is the same for both.

// setClient makes t those of a client.
func (t *terms) setClient(c Config) {
	t.set(c)
	t.newKey, t.newKeys = randomKey, randomKeys
	t.queue.Mask = func(key uint32, p []byte) uint32 { return uint32(mask(maskKey(key), p)) }
}

func (c *Conn) isClient() bool { return c.cfg.newKey != nil }

// peerMasks reports whether the frames that come have to be masked.
func (c *Conn) peerMasks() bool { return c.cfg.newKey == nil }

func (c *Conn) role() string {
	if c.isClient() {
		return "client"
	}
	return "server"
}

// maySend reports whether this side may send code by its own choice: 1010 is
// for clients, to which a server has not granted an extension (§7.4.1).
func (c *Conn) maySend(code StatusCode) bool {
	return code.sendable() || c.isClient() && code == StatusMandatoryExtension
}

// appendHeader appends the header of a data frame to send. A client's has room for
// the key, which is made when the frame is queued or sent; see keyed.
func (c *Conn) appendHeader(b []byte, h header) []byte {
	h.masked = c.isClient()
	return appendHeader(b, h)
}

// shortHeader is the longest header of a control frame.
const shortHeader = 2 + 4

// appendControl appends a control frame to send.
func (c *Conn) appendControl(b []byte, op opcode, payload []byte) []byte {
	h := header{fin: true, op: op, length: int64(len(payload))}
	if c.isClient() {
		h.masked, h.key = true, c.cfg.newKey()
	}
	b = append(appendHeader(b, h), payload...)
	mask(h.key, b[len(b)-len(payload):])
	return b
}

// maskClose makes a Close frame, if there is one, what this side sends.
func (c *Conn) maskClose(frame []byte) []byte {
	if frame == nil || !c.isClient() {
		return frame
	}
	return c.appendControl(nil, opClose, frame[2:])
}

// awaitServer waits, once both sides have sent their Close, for the server to
// close the transport first (§7.1.1), so that it and not the client's port has
// to rest.
func (c *Conn) awaitServer() {
	if !c.isClient() || c.peerCode == 0 || c.cfg.CloseTimeout < 0 {
		return
	}
	c.discard(c.cfg.CloseTimeout, 0)
}

// Masking keys must not be predictable (§5.3). A system call for each would
// cost more than the frame, so they come from generators that are as strong and
// have drawn their seed from the system.
var keySources = sync.Pool{New: func() any {
	var seed [32]byte
	rand.Read(seed[:])
	return mathrand.NewChaCha8(seed)
}}

// randomKey returns a new masking key.
func randomKey() maskKey {
	source := keySources.Get().(*mathrand.ChaCha8)
	key := maskKey(source.Uint64())
	keySources.Put(source)
	return key
}

// randomKeys makes new masking keys of all of dst, and returns how many.
func randomKeys(dst []maskKey) int {
	source := keySources.Get().(*mathrand.ChaCha8)
	for i := range dst {
		dst[i] = maskKey(source.Uint64())
	}
	keySources.Put(source)
	return len(dst)
}

// A keyed is a client's Conn as its queue knows it, with keys in stock for the
// frames of data.
type keyed struct {
	*member
	stock    [16]maskKey
	from, to uint8 // what is left of it
}

// Key implements sendq.Owner.
func (k *keyed) Key() uint32 {
	if k.from == k.to {
		k.from, k.to = 0, uint8(k.cfg.newKeys(k.stock[:]))
	}
	key := k.stock[k.from%uint8(len(k.stock))]
	k.from++
	return uint32(key)
}
