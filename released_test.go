package websocket_test

import (
	"context"
	"net"
	"net/http"
	"syscall"
	"testing"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/conformance"
)

// Whoever has been shown the net.Conn can use it as long as the connection
// lives: it is let go of only where nobody can have it, and where that was
// asked for.
func TestReleaseConns(t *testing.T) {
	parkedOnly(t)
	kept := make(chan net.Conn, 1)
	for _, tt := range []struct {
		name    string
		release bool
		server  func(s *http.Server)
		wrap    bool
		closed  bool
	}{
		{name: "asked for", release: true, closed: true},
		{name: "not asked for"},
		{name: "a server with ConnContext", release: true, server: func(s *http.Server) {
			s.ConnContext = func(ctx context.Context, _ net.Conn) context.Context { return ctx }
		}},
		{name: "a server with ConnState", release: true, server: func(s *http.Server) {
			s.ConnState = func(net.Conn, http.ConnState) {}
		}},
		{name: "a listener that wraps", release: true, wrap: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := &websocket.Upgrader{ReleaseConns: tt.release, Config: websocket.Config{PingInterval: -1}, Handler: func(c *websocket.Conn) error {
				c.Start(echoEvents{})
				return nil
			}}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			server := &http.Server{Handler: u}
			if tt.server != nil {
				tt.server(server)
			}
			served := async(func() error { return server.Serve(noting{l, kept, tt.wrap}) })
			nc, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			p := conformance.NewPeer(t, nc)
			p.Rule = tt.name
			p.Handshake()
			tcp := <-kept
			raw, err := tcp.(syscall.Conn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				p.WritePieces(masked(0x82, "hello"))
				p.WantBytes(binaryFrame("hello"))
				if !tt.wrap { // of which this package knows nothing, and a goroutine waits
					wantServing(t, 0)
				}
				if closed := raw.Control(func(uintptr) {}) != nil; closed != tt.closed {
					t.Errorf("the net.Conn is closed: %v", closed)
				}
			}
			tcp.Close() // as whoever has it may
			if tt.closed {
				p.WritePieces(masked(0x82, "hello"))
				p.WantBytes(binaryFrame("hello"))
			}
			p.Close()
			if err := u.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
			server.Close()
			<-served
		})
	}
}

// noting hands each connection out before net/http has it.
type noting struct {
	net.Listener
	kept chan net.Conn
	wrap bool
}

func (l noting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.kept <- c
	if l.wrap {
		return struct{ net.Conn }{c}, nil
	}
	return c, nil
}
