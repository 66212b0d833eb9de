package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/memconn"
)

// inServer runs f in a bubble with a chat server that listens in memory. stop
// ends the server and returns what serve returned.
func inServer(t *testing.T, origins []string, f func(t *testing.T, ln *memconn.Listener, stop func() error)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		ln := memconn.Listen()
		ended := make(chan struct{})
		var err error
		go func() {
			defer close(ended)
			err = serve(ctx, ln, origins)
		}()
		stop := func() error {
			cancel()
			<-ended
			return err
		}
		defer stop()
		f(t, ln, stop)
	})
}

// client is a page without the page.
type client struct {
	t      *testing.T
	nc     *memconn.Conn
	br     *bufio.Reader
	silent bool // answers neither pings nor a close
}

// dial makes the request and returns the answer, and the client if it is a 101.
func dial(t *testing.T, ln *memconn.Listener, origin string) (*client, *http.Response) {
	t.Helper()
	nc, err := ln.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	io.WriteString(nc, "GET /ws HTTP/1.1\r\nHost: chat.example\r\nOrigin: "+origin+"\r\nUpgrade: websocket\r\n"+
		"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	br := bufio.NewReader(nc)
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &client{t: t, nc: nc, br: br}, res
}

func open(t *testing.T, ln *memconn.Listener) *client {
	t.Helper()
	c, res := dial(t, ln, "http://chat.example")
	if res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("handshake: %s", res.Status)
	}
	return c
}

// attach returns a connection as the server has it, and the page at its other end.
// It has to be called in a bubble.
func attach(t *testing.T) (*websocket.Conn, *client) {
	t.Helper()
	conns := make(chan *websocket.Conn, 1)
	srv := &http.Server{Handler: &websocket.Upgrader{
		Handler: func(c *websocket.Conn) error {
			conns <- c
			c.CloseRead()
			<-c.Context().Done()
			return nil
		},
		Config: websocket.Config{WriteQueue: maxBehind},
	}}
	ln := memconn.Listen()
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close() })
	page := open(t, ln)
	return <-conns, page
}

// enter opens a connection, joins the room "tea", and takes the welcome.
func enter(t *testing.T, ln *memconn.Listener, name string) (*client, event) {
	t.Helper()
	c := open(t, ln)
	c.ask(joinAs(name, "tea"))
	return c, c.want("welcome")
}

func joinAs(name, room string) request {
	return request{Type: "join", Name: name, Room: room, Session: "the session of " + name}
}

func (c *client) ask(r request) {
	p, _ := json.Marshal(r)
	c.frame(0x81, p)
}

// frame sends one frame, masked with zeros.
func (c *client) frame(b0 byte, p []byte) {
	c.t.Helper()
	b := []byte{b0}
	switch {
	case len(p) < 126:
		b = append(b, 0x80|byte(len(p)))
	case len(p) < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(len(p)))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(len(p)))
	}
	b = append(b, 0, 0, 0, 0)
	if _, err := c.nc.Write(append(b, p...)); err != nil {
		c.t.Errorf("client: %v", err)
	}
}

// next returns the next frame besides pings, which it answers.
func (c *client) next() (b0 byte, p []byte, err error) {
	for {
		var head [2]byte
		if _, err := io.ReadFull(c.br, head[:]); err != nil {
			return 0, nil, err
		}
		n := uint64(head[1])
		if more := map[uint64]int{126: 2, 127: 8}[n]; more > 0 {
			var long [8]byte
			if _, err := io.ReadFull(c.br, long[8-more:]); err != nil {
				return 0, nil, err
			}
			n = binary.BigEndian.Uint64(long[:])
		}
		p := make([]byte, n)
		if _, err := io.ReadFull(c.br, p); err != nil {
			return 0, nil, err
		}
		if head[0] != 0x89 {
			return head[0], p, nil
		}
		if !c.silent {
			c.frame(0x8a, p)
		}
	}
}

// event returns the next event.
func (c *client) event() (e event) {
	c.t.Helper()
	b0, p, err := c.next()
	if err != nil || b0 != 0x81 {
		c.t.Fatalf("want an event, got frame %x %q, %v", b0, p, err)
	}
	if err := json.Unmarshal(p, &e); err != nil {
		c.t.Fatalf("%s: %v", p, err)
	}
	return e
}

// pending returns the events that have come and were not taken yet.
func (c *client) pending() (all []event) {
	c.t.Helper()
	for synctest.Wait(); c.br.Buffered() > 0 || c.nc.Unread() > 0; synctest.Wait() {
		all = append(all, c.event())
	}
	return all
}

// want returns the next event, which must be of that type.
func (c *client) want(typ string) event {
	c.t.Helper()
	e := c.event()
	if e.Type != typ {
		c.t.Fatalf("want %q, got %+v", typ, e)
	}
	return e
}

// wantClose skips events up to the server's close, checks its code, and returns
// how many it skipped and the reason.
func (c *client) wantClose(code websocket.StatusCode) (skipped int, reason string) {
	c.t.Helper()
	for {
		b0, p, err := c.next()
		if err != nil {
			c.t.Fatalf("want close %d, got %v", code, err)
		}
		if b0 == 0x81 {
			skipped++
			continue
		}
		if b0 != 0x88 || len(p) < 2 || websocket.StatusCode(binary.BigEndian.Uint16(p)) != code {
			c.t.Fatalf("want close %d, got frame %x %q", code, b0, p)
		}
		if !c.silent {
			c.frame(0x88, p[:2])
		}
		return skipped, string(p[2:])
	}
}

// wantEnd also waits for the server to end its side first, as browsers do
// (RFC 6455 §7.1.1), and then ends this one.
func (c *client) wantEnd(code websocket.StatusCode) {
	c.t.Helper()
	c.wantClose(code)
	if b0, p, err := c.next(); err != io.EOF && !c.silent {
		c.t.Errorf("after the close: frame %x %q, %v", b0, p, err)
	}
	c.nc.Close()
}
