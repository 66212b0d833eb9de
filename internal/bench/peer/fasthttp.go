package peer

import (
	"errors"
	"io"
	"log"
	"net"
	"sync"

	"github.com/fasthttp/websocket"
	"github.com/valyala/fasthttp"
)

var fasthttpServer = &Server{
	Name:     "fasthttp",
	Module:   "github.com/fasthttp/websocket",
	Page:     "https://pkg.go.dev/github.com/fasthttp/websocket#FastHTTPUpgrader",
	Settings: "FastHTTPUpgrader with WriteBufferPool on fasthttp.Server; otherwise as gorilla, of which it is a fork, with klauspost/compress",
	Lacks:    map[Mode]string{DeflateTakeover: "it has no context takeover"},
	serve: func(ln net.Listener, w *work) error {
		err := newFasthttp(w).Serve(ln)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		return err
	},
}

func newFasthttp(w *work) *fasthttp.Server {
	u := websocket.FastHTTPUpgrader{WriteBufferPool: new(sync.Pool), EnableCompression: w.mode.deflates()}
	return &fasthttp.Server{
		Logger: log.New(io.Discard, "", 0),
		Handler: func(ctx *fasthttp.RequestCtx) {
			_ = u.Upgrade(ctx, func(c *websocket.Conn) {
				w.run(&gorillaConn[websocket.PreparedMessage]{
					c: c, queue: newQueue[*websocket.PreparedMessage](),
					prepare: websocket.NewPreparedMessage, writePrepared: c.WritePreparedMessage,
				})
			})
		},
	}
}
