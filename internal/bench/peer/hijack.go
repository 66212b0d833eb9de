package peer

import (
	"io"
	"net"
	"net/http"
)

// hijackServer shows what net/http costs whoever takes a connection from it:
// the least that a library mounted there can need for a handshake.
var hijackServer = &Server{
	Name:     "hijack",
	Page:     "https://pkg.go.dev/net/http#Hijacker",
	Settings: "no WebSocket: a handler on net/http hijacks, writes a constant answer and reads until the end; takes part in upgrades only",
	Raw:      true,
	Only:     []Mode{Upgrade},
	serve: func(ln net.Listener, w *work) error {
		return httpServer(ln, func(rw http.ResponseWriter, _ *http.Request) {
			nc, _, err := rw.(http.Hijacker).Hijack()
			if err != nil {
				return
			}
			defer nc.Close()
			if _, err := io.WriteString(nc, rawResponse); err != nil {
				return
			}
			var b [1]byte
			for err == nil {
				_, err = nc.Read(b[:])
			}
		})
	},
}
