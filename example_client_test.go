package websocket_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/sockeye-ws/websocket"
)

// An exampleClient is the other side of the examples: just enough of a client
// for short messages in one frame. It panics when something is not as expected.
type exampleClient struct {
	conn     net.Conn
	br       *bufio.Reader
	Response *http.Response
	hangUp   func() // what else ends with it
}

// serve serves one connection with handler and returns its client.
func serve(handler func(*websocket.Conn) error) *exampleClient {
	returned := make(chan struct{})
	srv := httptest.NewServer(&websocket.Upgrader{Handler: func(c *websocket.Conn) error {
		defer close(returned)
		return handler(c)
	}})
	client := dial(srv.URL)
	client.hangUp = func() {
		<-returned
		srv.Close()
	}
	return client
}

// dial sends a handshake with these header lines besides.
func dial(url string, header ...string) *exampleClient {
	host := strings.TrimPrefix(url, "http://")
	conn := must(net.Dial("tcp", host))
	lines := append([]string{
		"GET /ws HTTP/1.1", "Host: " + host, "Upgrade: websocket", "Connection: Upgrade",
		"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
	}, header...)
	must(io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\n\r\n"))
	br := bufio.NewReader(conn)
	resp := must(http.ReadResponse(br, nil))
	if resp.StatusCode != http.StatusSwitchingProtocols {
		conn.Close() // nothing follows, and nobody else would
	}
	return &exampleClient{conn: conn, br: br, Response: resp, hangUp: func() {}}
}

// Send sends a text message.
func (c *exampleClient) Send(text string) { c.frame(0x81, []byte(text)) }

// Receive returns the next message, joined from its frames. Pings are answered.
func (c *exampleClient) Receive() string {
	var message []byte
	for {
		first, payload := c.next()
		switch first & 0x0f {
		case 0x8:
			panic("Receive: the server has closed")
		case 0x9:
			c.frame(0x8a, payload)
			continue
		}
		message = append(message, payload...)
		if first&0x80 != 0 {
			return string(message)
		}
	}
}

// Close sends a Close frame and waits until the server has let go of the
// connection and the handler has returned.
func (c *exampleClient) Close(code uint16, reason string) {
	c.frame(0x88, append(binary.BigEndian.AppendUint16(nil, code), reason...))
	c.WaitClose()
}

// WaitClose answers pings and skips messages until the server closes, answers
// that, and returns the server's code and reason.
func (c *exampleClient) WaitClose() string {
	defer c.hangUp()
	defer c.conn.Close()
	for {
		first, payload := c.next()
		switch first & 0x0f {
		case 0x8:
			c.frame(0x88, payload)
			must(io.Copy(io.Discard, c.br))
			if len(payload) < 2 {
				return ""
			}
			return fmt.Sprintf("%d %s", binary.BigEndian.Uint16(payload), payload[2:])
		case 0x9:
			c.frame(0x8a, payload)
		}
	}
}

// next reads a frame of at most 125 bytes and returns its first byte as well.
func (c *exampleClient) next() (first byte, payload []byte) {
	var head [2]byte
	must(io.ReadFull(c.br, head[:]))
	payload = make([]byte, head[1])
	must(io.ReadFull(c.br, payload))
	return head[0], payload
}

// frame sends a frame with the masking key 00000000, which changes nothing.
func (c *exampleClient) frame(first byte, payload []byte) {
	head := []byte{first, 0x80 | byte(len(payload)), 0, 0, 0, 0}
	// The server may have cut the connection already; reading will show it.
	_, _ = c.conn.Write(append(head, payload...))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
