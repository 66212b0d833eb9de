package peer

import (
	"net"

	"github.com/sockeye-ws/websocket"
)

var sockeyeServer = &Server{
	Name:     "sockeye",
	Module:   "github.com/sockeye-ws/websocket",
	Page:     "the package comment",
	Pings:    true,
	Settings: "Upgrader on net/http; ReadAppend and Write, Reader and Writer; fan-out by Group; ReadLimit 32 MiB; compression by Config.Compression: windows of 4 KiB with takeover, which are the default, and without",
	serve:    func(ln net.Listener, w *work) error { return serveSockeye(ln, w, websocket.Compression{}) },
}

// sockeyeWideServer is the same library with the windows that most others have.
var sockeyeWideServer = &Server{
	Name:     "sockeye-32K",
	Module:   sockeyeServer.Module,
	Page:     "Compression",
	Pings:    true,
	Only:     []Mode{Deflate, DeflateTakeover},
	Settings: "the same with ServerWindowBits and ClientWindowBits 15: windows of 32 KiB; takes part where there is compression only",
	serve: func(ln net.Listener, w *work) error {
		return serveSockeye(ln, w, websocket.Compression{ServerWindowBits: 15, ClientWindowBits: 15})
	},
}

// sockeyeBetterServer is the same library with its better search.
var sockeyeBetterServer = &Server{
	Name:     "sockeye-better",
	Module:   sockeyeServer.Module,
	Page:     "Compression",
	Pings:    true,
	Only:     []Mode{Deflate, DeflateTakeover},
	Settings: "the same with Better, and windows of 4 KiB; takes part where there is compression only",
	serve:    func(ln net.Listener, w *work) error { return serveSockeye(ln, w, websocket.Compression{Better: true}) },
}

func serveSockeye(ln net.Listener, w *work, z websocket.Compression) error {
	group := new(websocket.Group)
	u := &websocket.Upgrader{
		Handler: func(c *websocket.Conn) error {
			if w.idle {
				return sockeyeIdle(c)
			}
			if w.mode == Fanout {
				group.Add(c)
			}
			w.run(&sockeyeConn{c, group})
			return nil
		},
		Config: websocket.Config{ReadLimit: readLimit, PingInterval: w.ping, Compression: sockeyeCompression(w.mode, z)},
	}
	return httpServer(ln, u.ServeHTTP)
}

// sockeyeCompression adds to z what mode is about.
func sockeyeCompression(mode Mode, z websocket.Compression) websocket.Compression {
	z.Enable, z.Threshold = mode.deflates(), 1
	z.ServerNoContextTakeover, z.ClientNoContextTakeover = mode == Deflate, mode == Deflate
	return z
}

// sockeyeIdle is Echo with idle set, as a handler: what calls it is on the stack
// of each connection.
func sockeyeIdle(c *websocket.Conn) error {
	for {
		typ, p, err := c.Read(background)
		if err != nil {
			return err
		}
		if err := c.Write(background, typ, p); err != nil {
			return err
		}
	}
}

type sockeyeConn struct {
	c     *websocket.Conn
	group *websocket.Group
}

func (c *sockeyeConn) Echo(bool) error {
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

// fan sends p to every member, which are those of the group.
func (c *sockeyeConn) fan(_ []sender, p []byte) {
	if m, err := websocket.NewPrepared(websocket.Binary, p); err == nil {
		c.group.Send(m)
	}
}

// sockeyeEventsServer is the same library in event mode.
var sockeyeEventsServer = &Server{
	Name:     "sockeye-events",
	Module:   sockeyeServer.Module,
	Page:     "Conn.Start",
	Settings: "the same in event mode: Start, Write from Message, ReleaseConns",
	Pings:    true,
	Sockets:  true,
	Lacks:    map[Mode]string{Stream: "messages are told whole", Writers: "as sockeye", Fanout: "as sockeye"},
	serve: func(ln net.Listener, w *work) error {
		u := &websocket.Upgrader{
			Handler: func(c *websocket.Conn) error {
				c.Start(sockeyeEvents{})
				return nil
			},
			ReleaseConns: true,
			Config:       websocket.Config{ReadLimit: readLimit, PingInterval: w.ping, Compression: sockeyeCompression(w.mode, websocket.Compression{})},
		}
		return httpServer(ln, u.ServeHTTP)
	},
}

type sockeyeEvents struct{}

func (sockeyeEvents) Message(c *websocket.Conn, typ websocket.MessageType, p []byte) error {
	return c.Write(background, typ, p)
}

func (sockeyeEvents) Closed(*websocket.Conn, error) {}
