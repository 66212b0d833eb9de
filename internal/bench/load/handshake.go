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

func handshakeRequest(host string, offer Deflate) []byte {
	extensions := ""
	if offer != NoDeflate {
		extensions = "Sec-WebSocket-Extensions: " + deflateOffer + "\r\n"
	}
	return fmt.Appendf(nil, "GET /ws HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n%s\r\n", host, handshakeKey, extensions)
}

var wantAccept = func() []byte {
	sum := sha1.Sum([]byte(handshakeKey + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return []byte(base64.StdEncoding.EncodeToString(sum[:]))
}()

// maxResponse is how much of a response to a handshake is read.
const maxResponse = 8 << 10

// checkResponse returns how long the response at the start of p is, or 0 if it
// has not come whole, and what was agreed on.
func checkResponse(p []byte, want Deflate) (int, agreement, error) {
	end := bytes.Index(p, []byte("\r\n\r\n"))
	if end < 0 {
		if len(p) > maxResponse {
			return 0, agreement{}, fmt.Errorf("handshake: an endless response")
		}
		return 0, agreement{}, nil
	}
	head := p[:end]
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 101")) {
		line, _, _ := bytes.Cut(head, []byte("\r\n"))
		return 0, agreement{}, fmt.Errorf("handshake: %q", line)
	}
	if !bytes.Contains(head, wantAccept) {
		return 0, agreement{}, fmt.Errorf("handshake: the accept value is wrong")
	}
	a, err := agreed(head, want)
	if err != nil {
		return 0, a, err
	}
	return end + 4, a, nil
}
