package peer

import (
	"bytes"
	"net"

	"golang.org/x/net/websocket"
)

var xnetServer = &Server{
	Name:     "xnet",
	Module:   "golang.org/x/net",
	Page:     "https://pkg.go.dev/golang.org/x/net/websocket#Codec",
	Settings: "Server on net/http without a check of the origin; a Codec that keeps the type, Receive and Send; fan-out by a channel for each connection; does not check UTF-8",
	Lacks:    map[Mode]string{Stream: "a message is sent in one frame only", Deflate: "it has no extensions", DeflateTakeover: "it has no extensions"},
	Splits:   "each fragment is received as a message",
	serve: func(ln net.Listener, w *work) error {
		s := websocket.Server{Handler: func(c *websocket.Conn) { w.run(&xnetConn{newQueue[[]byte](), c}) }}
		return httpServer(ln, s.ServeHTTP)
	},
}

type xnetConn struct {
	queue[[]byte]
	c *websocket.Conn
}

type xnetMessage struct {
	typ byte
	p   []byte
}

var xnetCodec = websocket.Codec{
	Marshal: func(v any) ([]byte, byte, error) {
		m := v.(*xnetMessage)
		return m.p, m.typ, nil
	},
	Unmarshal: func(p []byte, typ byte, v any) error {
		*v.(*xnetMessage) = xnetMessage{typ, p}
		return nil
	},
}

func (c *xnetConn) Echo(idle bool) error {
	var m xnetMessage
	for {
		if err := xnetCodec.Receive(c.c, &m); err != nil {
			return err
		}
		if err := xnetCodec.Send(c.c, &m); err != nil {
			return err
		}
		if idle {
			m = xnetMessage{}
		}
	}
}

func (c *xnetConn) Stream() error { return c.Echo(false) }

func (c *xnetConn) Receive([]byte) ([]byte, error) {
	var m xnetMessage
	err := xnetCodec.Receive(c.c, &m)
	return m.p, err
}

func (c *xnetConn) Send(p []byte) error {
	return xnetCodec.Send(c.c, &xnetMessage{websocket.BinaryFrame, p})
}

func (c *xnetConn) pump() { c.drain(c.Send) }

func (c *xnetConn) fan(members []sender, p []byte) {
	p = bytes.Clone(p)
	for _, to := range members {
		to.(*xnetConn).put(p)
	}
}
