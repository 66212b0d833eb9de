package load

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
)

// The key of every handshake. It is not random: nothing here is between the
// generator and the server that could take one answer for another.
const handshakeKey = "dGhlIHNhbXBsZSBub25jZQ=="

func handshakeRequest(host string) []byte {
	return fmt.Appendf(nil, "GET /ws HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n", host, handshakeKey)
}

var wantAccept = func() []byte {
	sum := sha1.Sum([]byte(handshakeKey + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return []byte(base64.StdEncoding.EncodeToString(sum[:]))
}()

// maxResponse is how much of a response to a handshake is read.
const maxResponse = 8 << 10

// checkResponse returns how long the response at the start of p is, or 0 if it
// has not come whole.
func checkResponse(p []byte) (int, error) {
	end := bytes.Index(p, []byte("\r\n\r\n"))
	if end < 0 {
		if len(p) > maxResponse {
			return 0, fmt.Errorf("handshake: an endless response")
		}
		return 0, nil
	}
	head := p[:end]
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 101")) {
		line, _, _ := bytes.Cut(head, []byte("\r\n"))
		return 0, fmt.Errorf("handshake: %q", line)
	}
	if !bytes.Contains(head, wantAccept) {
		return 0, fmt.Errorf("handshake: the accept value is wrong")
	}
	return end + 4, nil
}
