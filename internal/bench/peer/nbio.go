package peer

import (
	"errors"
	"net"
	"net/http"

	"github.com/lesismal/nbio/logging"
	"github.com/lesismal/nbio/nbhttp"
	"github.com/lesismal/nbio/nbhttp/websocket"
)

var nbioServer = &Server{
	Name:     "nbio",
	Module:   "github.com/lesismal/nbio",
	Page:     "https://github.com/lesismal/nbio#different-iomod",
	Settings: "Upgrader on nbhttp.Engine with IOModNonBlocking and ReleaseWebsocketPayload, WriteMessage from OnMessage; MessageLengthLimit 32 MiB; fan-out by WriteMessage to each, which queues what the connection does not take; compression by EnableCompression, without takeover",
	Lacks: map[Mode]string{
		DeflateTakeover: "it has no context takeover",
		Stream:          "frames are read whole only",
		Writers:         "a write never waits: what the connection does not take piles up in memory",
	},
	Plain:   "its engine takes the TLS of a fork of crypto/tls only",
	Sockets: true,
	serve:   serveNbio,
}

func serveNbio(ln net.Listener, w *work) error {
	// It would log to the standard output.
	logging.SetLevel(logging.LevelNone)
	u := websocket.NewUpgrader()
	u.MessageLengthLimit = readLimit
	u.EnableCompression(w.mode.deflates())
	u.OnOpen(func(c *websocket.Conn) {
		if w.mode == Fanout {
			w.join(nbioConn{c})
		}
	})
	u.OnClose(func(c *websocket.Conn, _ error) {
		if w.mode == Fanout {
			w.leave(nbioConn{c})
		}
	})
	u.OnMessage(func(c *websocket.Conn, typ websocket.MessageType, p []byte) {
		if w.mode == Fanout {
			w.group.send(p)
			return
		}
		_ = c.WriteMessage(typ, p)
	})
	engine := nbhttp.NewEngine(nbhttp.Config{
		Network: "tcp",
		Addrs:   []string{ln.Addr().String()},
		Listen:  func(string, string) (net.Listener, error) { return ln, nil },
		IOMod:   nbhttp.IOModNonBlocking,

		ReleaseWebsocketPayload: true,
		Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			_, _ = u.Upgrade(rw, r, nil)
		}),
	})
	failed := make(chan error, 1)
	engine.OnAcceptError(func(err error) {
		select {
		case failed <- err:
		default:
		}
	})
	if err := engine.Start(); err != nil {
		return err
	}
	defer engine.Stop()
	if err := <-failed; !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

type nbioConn struct{ c *websocket.Conn }

func (c nbioConn) Send(p []byte) error { return c.c.WriteMessage(websocket.BinaryMessage, p) }
