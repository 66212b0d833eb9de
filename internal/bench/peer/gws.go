package peer

import (
	"bytes"
	"net"
	"net/http"

	"github.com/lxzan/gws"
)

var gwsServer = &Server{
	Name:     "gws",
	Module:   "github.com/lxzan/gws",
	Page:     "https://github.com/lxzan/gws#best-practice",
	Settings: "Upgrader on net/http, ReadLoop in a goroutine, WriteMessage from OnMessage; no parallel handling, which gives up the order; ReadMaxPayloadSize and WriteMaxPayloadSize 32 MiB; fan-out by Broadcaster; UTF-8 is not checked by default; compression by PermessageDeflate, with ServerContextTakeover and ClientContextTakeover in windows of 4 KiB, which are the default, or without",
	Lacks:    map[Mode]string{Stream: "messages are read whole only"},
	serve: func(ln net.Listener, w *work) error {
		return httpServer(ln, gwsHandler(&gwsEvents{w: w}, w.mode))
	},
}

func gwsHandler(events gws.Event, mode Mode) http.HandlerFunc {
	u := gws.NewUpgrader(events, &gws.ServerOption{
		ReadMaxPayloadSize:  readLimit,
		WriteMaxPayloadSize: readLimit,
		PermessageDeflate: gws.PermessageDeflate{
			Enabled: mode.deflates(), Threshold: 1,
			ServerContextTakeover: mode == DeflateTakeover, ClientContextTakeover: mode == DeflateTakeover,
		},
	})
	return func(rw http.ResponseWriter, r *http.Request) {
		c, err := u.Upgrade(rw, r)
		if err != nil {
			return
		}
		go c.ReadLoop()
	}
}

type gwsEvents struct {
	gws.BuiltinEventHandler
	w *work
}

func (e *gwsEvents) OnOpen(c *gws.Conn) {
	if e.w.mode == Fanout {
		e.w.join(gwsConn{c})
	}
}

func (e *gwsEvents) OnClose(c *gws.Conn, _ error) {
	if e.w.mode == Fanout {
		e.w.leave(gwsConn{c})
	}
}

func (e *gwsEvents) OnPing(c *gws.Conn, p []byte) { _ = c.WritePong(p) }

func (e *gwsEvents) OnMessage(c *gws.Conn, m *gws.Message) {
	defer m.Close()
	switch e.w.mode {
	case Echo, Large, Upgrade, Deflate, DeflateTakeover:
		_ = c.WriteMessage(m.Opcode, m.Bytes())
	case Writers:
		go writers(gwsConn{c}, bytes.Clone(m.Bytes()))
	case Fanout:
		e.w.group.send(m.Bytes())
	}
}

type gwsConn struct{ c *gws.Conn }

func (c gwsConn) Send(p []byte) error { return c.c.WriteMessage(gws.OpcodeBinary, p) }

func (c gwsConn) fan(members []sender, p []byte) {
	b := gws.NewBroadcaster(gws.OpcodeBinary, bytes.Clone(p))
	defer b.Close()
	for _, to := range members {
		_ = b.Broadcast(to.(gwsConn).c)
	}
}
