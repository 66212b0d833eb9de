package peer

import (
	"bytes"
	"net"
	"net/http"

	"github.com/coder/websocket"
)

var coderServer = &Server{
	Name:     "coder",
	Module:   "github.com/coder/websocket",
	Page:     "https://pkg.go.dev/github.com/coder/websocket#Conn",
	Settings: "Accept without options but for compression, the connection stays in its HTTP handler; Reader into a kept buffer, Write; SetReadLimit 32 MiB; fan-out by a channel for each connection; does not check UTF-8; compression by CompressionContextTakeover or CompressionNoContextTakeover",
	serve: func(ln net.Listener, w *work) error {
		var o *websocket.AcceptOptions
		switch w.mode {
		case Deflate:
			o = &websocket.AcceptOptions{CompressionMode: websocket.CompressionNoContextTakeover, CompressionThreshold: 1}
		case DeflateTakeover:
			o = &websocket.AcceptOptions{CompressionMode: websocket.CompressionContextTakeover, CompressionThreshold: 1}
		}
		return httpServer(ln, func(rw http.ResponseWriter, r *http.Request) {
			c, err := websocket.Accept(rw, r, o)
			if err != nil {
				return
			}
			defer c.CloseNow()
			c.SetReadLimit(readLimit)
			w.run(&coderConn{newQueue[[]byte](), c})
		})
	},
}

type coderConn struct {
	queue[[]byte]
	c *websocket.Conn
}

func (c *coderConn) Echo(idle bool) error {
	var buf []byte
	for {
		typ, r, err := c.c.Reader(background)
		if err != nil {
			return err
		}
		if buf, err = readAll(r, buf[:0]); err != nil {
			return err
		}
		if err := c.c.Write(background, typ, buf); err != nil {
			return err
		}
		if idle {
			buf = nil
		}
	}
}

func (c *coderConn) Stream() error {
	buf := make([]byte, copySize)
	for {
		typ, r, err := c.c.Reader(background)
		if err != nil {
			return err
		}
		w, err := c.c.Writer(background, typ)
		if err != nil {
			return err
		}
		if err := copyMessage(w, r, buf); err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
	}
}

func (c *coderConn) Receive(p []byte) ([]byte, error) {
	_, r, err := c.c.Reader(background)
	if err != nil {
		return nil, err
	}
	return readAll(r, p)
}

func (c *coderConn) Send(p []byte) error {
	return c.c.Write(background, websocket.MessageBinary, p)
}

func (c *coderConn) pump() { c.drain(c.Send) }

func (c *coderConn) fan(members []sender, p []byte) {
	p = bytes.Clone(p)
	for _, to := range members {
		to.(*coderConn).put(p)
	}
}
