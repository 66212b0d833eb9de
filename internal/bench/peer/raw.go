package peer

import (
	"bytes"
	"io"
	"net"
)

var rawServer = &Server{
	Name:     "raw",
	Page:     "https://pkg.go.dev/net#Conn",
	Settings: "no WebSocket: bytes are echoed, repeated or spread as they come, through one buffer of 4 KiB, or 32 KiB for large messages, and a goroutine for each connection; a handshake, where one is measured, gets a constant answer; pings are bare calls on descriptors and an epoll of its own",
	Raw:      true,
	Pings:    true,
	serve: func(ln net.Listener, w *work) error {
		if w.mode == Keepalive {
			return rawPings(ln, w.ping)
		}
		return acceptLoop(ln, func(nc net.Conn) {
			c := &rawConn{c: nc, buf: make([]byte, rawBuffer)}
			if w.mode == Large || w.mode == Stream {
				c.buf = make([]byte, copySize)
			}
			if w.mode == Upgrade && c.upgrade() != nil {
				return
			}
			w.run(c)
		})
	},
}

const rawBuffer = 4 << 10

type rawConn struct {
	c   net.Conn
	buf []byte
}

func (c *rawConn) Echo(bool) error {
	for {
		n, err := c.c.Read(c.buf)
		if err != nil {
			return err
		}
		if _, err := c.c.Write(c.buf[:n]); err != nil {
			return err
		}
	}
}

func (c *rawConn) Stream() error { return c.Echo(false) }

func (c *rawConn) Receive([]byte) ([]byte, error) {
	n, err := c.c.Read(c.buf)
	return c.buf[:n], err
}

func (c *rawConn) Send(p []byte) error {
	_, err := c.c.Write(p)
	return err
}

// The answer to the key that RFC 6455 §1.3 has as its example.
const rawResponse = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"

func (c *rawConn) upgrade() error {
	for have := 0; !bytes.HasSuffix(c.buf[:have], []byte("\r\n\r\n")); {
		n, err := c.c.Read(c.buf[have:])
		if err != nil {
			return err
		}
		if have += n; have == len(c.buf) {
			return io.ErrShortBuffer
		}
	}
	_, err := io.WriteString(c.c, rawResponse)
	return err
}
