package peer

import (
	"net"

	"github.com/sockeye-ws/websocket"
)

var sockeyeServer = &Server{
	Name:     "sockeye",
	Module:   "github.com/sockeye-ws/websocket",
	Page:     "the package comment",
	Settings: "Upgrader on net/http; ReadAppend and Write, Reader and Writer; ReadLimit 32 MiB",
	serve: func(ln net.Listener, w *work) error {
		u := &websocket.Upgrader{
			Handler: func(c *websocket.Conn) error {
				w.run(&sockeyeConn{c})
				return nil
			},
			Config: websocket.Config{ReadLimit: readLimit},
		}
		return httpServer(ln, u.ServeHTTP)
	},
}

type sockeyeConn struct{ c *websocket.Conn }

func (c *sockeyeConn) Echo() error {
	var buf []byte
	for {
		typ, p, err := c.c.ReadAppend(background, buf[:0])
		if err != nil {
			return err
		}
		if err := c.c.Write(background, typ, p); err != nil {
			return err
		}
		buf = p
	}
}

func (c *sockeyeConn) Stream() error {
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

func (c *sockeyeConn) Receive(p []byte) ([]byte, error) {
	_, p, err := c.c.ReadAppend(background, p)
	return p, err
}

func (c *sockeyeConn) Send(p []byte) error { return c.c.Write(background, websocket.Binary, p) }

// fan sends p to every member.
func (c *sockeyeConn) fan(members []sender, p []byte) { each(members, p) }
