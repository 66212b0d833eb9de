package websocket_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
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

// Who reads a connection that is lost does itself what is left to do, so that no
// goroutine has to be woken for it; but nothing that belongs to the application,
// which may hold what that wants.
func TestReaderEndsLostConnection(t *testing.T) {
	reads := map[string]func(c *websocket.Conn) error{
		"Read":   func(c *websocket.Conn) error { _, _, err := c.Read(context.Background()); return err },
		"Reader": func(c *websocket.Conn) error { _, _, err := c.Reader(context.Background()); return err },
		"Ping":   func(c *websocket.Conn) error { _, err := c.Ping(context.Background()); return err },
	}
	for name, read := range reads {
		t.Run(name, func(t *testing.T) {
			u := &websocket.Upgrader{}
			inSight(t, u, func(t *testing.T, l *lab) {
				p, c := l.open("")
				ended := async(func() bool {
					wantClosed(t, read(c), 1006, true)
					select {
					case <-c.Context().Done():
						return true
					default:
						return false
					}
				})
				synctest.Wait()
				p.Conn().(*memconn.Conn).Reset()
				if !done(t, name, ended) {
					t.Error("all was not over when the call returned")
				}
				wantGone(t, u)
			})
		})
		t.Run(name+", Closed wants the reader's lock", func(t *testing.T) {
			var mu sync.Mutex
			told := make(chan websocket.StatusCode, 1)
			u := &websocket.Upgrader{Config: websocket.Config{Trace: &websocket.Trace{Closed: func(_ *websocket.Conn, end websocket.Closing) {
				mu.Lock()
				defer mu.Unlock()
				told <- end.Err.Code
			}}}}
			inSight(t, u, func(t *testing.T, l *lab) {
				p, c := l.open("")
				returned := async(func() error {
					mu.Lock()
					defer mu.Unlock()
					return read(c)
				})
				synctest.Wait()
				p.Conn().(*memconn.Conn).Reset()
				wantClosed(t, done(t, name, returned), 1006, true)
				if code := done(t, "Closed", told); code != 1006 {
					t.Errorf("told of %v", code)
				}
				wantGone(t, u)
			})
		})
	}
	t.Run("Events want the reader's lock", func(t *testing.T) {
		var mu sync.Mutex
		u := &websocket.Upgrader{}
		inSight(t, u, func(t *testing.T, l *lab) {
			p, c := l.open("")
			returned := async(func() error {
				mu.Lock()
				defer mu.Unlock()
				return reads["Read"](c)
			})
			synctest.Wait()
			h := newHearer(t, nil)
			h.after = func() { mu.Lock(); defer mu.Unlock() }
			c.Start(h)
			p.Conn().(*memconn.Conn).Reset()
			wantClosed(t, done(t, "Read", returned), 1006, true)
			h.wantClosed(t, c, 1006, true)
			wantGone(t, u)
		})
	})
	t.Run("a Write is in progress", func(t *testing.T) {
		u := &websocket.Upgrader{}
		inSight(t, u, func(t *testing.T, l *lab) {
			p, c := l.open("")
			written := async(func() error {
				return c.Write(context.Background(), websocket.Binary, make([]byte, 8<<20))
			})
			synctest.Wait()
			returned := async(func() error { return reads["Read"](c) })
			synctest.Wait()
			p.Conn().(*memconn.Conn).Reset()
			wantClosed(t, done(t, "Read", returned), 1006, true)
			wantClosed(t, done(t, "Write", written), 1006, true)
			wantGone(t, u)
		})
	})
}
