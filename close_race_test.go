package websocket_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/memconn"
)

// K-13: the peer's Close may be consumed by the Read that is in progress when
// Close is called; linger then waits CloseTimeout for it although it has come.
func TestK13CloseAnsweredWhileARead(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			conns := make(chan *websocket.Conn, 1)
			ln := memconn.Listen()
			srv := &http.Server{Handler: &websocket.Upgrader{Handler: func(c *websocket.Conn) error {
				conns <- c
				_, _, err := c.Read(context.Background())
				return err
			}}}
			go srv.Serve(slowListener{ln})
			defer srv.Close()
			nc, _ := ln.Dial()
			io.WriteString(nc, "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
			br := bufio.NewReader(nc)
			http.ReadResponse(br, nil)
			c := <-conns
			go func() {
				var p [4]byte
				io.ReadFull(br, p[:])
				nc.Write([]byte{0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8})
				io.ReadAll(br) // like a browser: the server closes first
				nc.Close()
			}()
			synctest.Wait()
			start := time.Now()
			c.Close(1000, "")
			<-c.Context().Done()
			if d := time.Since(start); d > time.Second {
				t.Errorf("the ending took %v", d)
			}
		})
	}
}

// slowConn is slow to set a read deadline, so that the peer has time to answer.
type slowListener struct{ net.Listener }

func (l slowListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return slowConn{c}, err
}

type slowConn struct{ net.Conn }

func (c slowConn) SetReadDeadline(t time.Time) error {
	time.Sleep(time.Millisecond) // what any scheduler may do
	return c.Conn.SetReadDeadline(t)
}

func (c slowConn) CloseWrite() error { return c.Conn.(interface{ CloseWrite() error }).CloseWrite() }
