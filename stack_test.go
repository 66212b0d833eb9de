package websocket_test

import (
	"context"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/sockeye-ws/websocket"
)

// deepen makes the stack of its goroutine as large as n KiB.
//
//go:noinline
func deepen(n int) byte {
	var b [1 << 10]byte
	if n > 0 {
		b[n] = deepen(n - 1)
	}
	return b[n]
}

// A connection that waits has a stack of the smallest size there is if its handler
// does nothing deep, and one of twice that if it has done so: the collector halves
// a stack of which less than a quarter is in use, and what waits is as shallow as
// that takes.
func TestStacks(t *testing.T) {
	ctx := context.Background()
	appends := func(deep int) func(c *websocket.Conn) error {
		return func(c *websocket.Conn) error {
			var buf []byte
			for {
				typ, p, err := c.ReadAppend(ctx, buf[:0])
				if err != nil {
					return err
				}
				if deep > 0 {
					deepen(deep)
				}
				if err := c.Write(ctx, typ, p); err != nil {
					return err
				}
				buf = p
			}
		}
	}
	// A new stack is as large as those have been on average that the collector
	// has seen last: without these, the size of the test's own would count. They
	// also fill the gaps between stacks that there are.
	small := make(chan struct{})
	defer close(small)
	for range 2000 {
		go func() { <-small }()
	}
	for _, tt := range []struct {
		name    string
		handler func(*websocket.Conn) error
		release bool
		most    int
	}{
		{"ReadAppend", appends(0), false, 2 << 10},
		{"Read", func(c *websocket.Conn) error {
			for {
				typ, p, err := c.Read(ctx)
				if err != nil {
					return err
				}
				if err := c.Write(ctx, typ, p); err != nil {
					return err
				}
			}
		}, false, 2 << 10},
		{"Messages", func(c *websocket.Conn) error {
			for m, err := range c.Messages(ctx) {
				if err != nil {
					return err
				}
				if err := c.Write(ctx, m.Type, m.Data); err != nil {
					return err
				}
			}
			return nil
		}, false, 2 << 10},
		{"after something deep", appends(60), false, 4 << 10},
		{"after something deep, with ReleaseConns", appends(60), true, 4 << 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := &websocket.Upgrader{ReleaseConns: tt.release, Handler: tt.handler}
			each := stackOfWaiting(t, u, 500)
			// The allowance is for what else there is: stacks that are kept for
			// reuse, and those of which the runtime has taken some to refill
			// its own stores while they were in use.
			if each > tt.most+tt.most/4 && !underRace() {
				t.Errorf("%d bytes of stack for a connection that waits, want %d", each, tt.most)
			} else {
				t.Logf("%d bytes of stack for a connection that waits", each)
			}
		})
	}
}

// stackOfWaiting returns the bytes of stack for each of n connections that wait
// after an echo.
func stackOfWaiting(t *testing.T, u *websocket.Upgrader, n int) int {
	b := loopback(t, u, false, 0)
	defer b.stop()
	stacks := func() int {
		for range 8 { // each halves a stack at most
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.StackInuse)
	}
	none := stacks()
	peers := openMany(b, "it waits", n)
	for _, p := range peers {
		p.WritePieces(masked(0x82, "hello"))
		p.WantBytes(binaryFrame("hello"))
	}
	each := (stacks() - none) / n
	// Nothing is left for what is measured next.
	for _, p := range peers {
		p.Close()
	}
	if err := u.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	return each
}

// With compression, too, as long as messages are rare: what takes a deep stack is
// done on another, which is gone by then.
func TestStacksWithCompression(t *testing.T) {
	ctx := context.Background()
	small := make(chan struct{})
	defer close(small)
	for range 2000 { // as in TestStacks
		go func() { <-small }()
	}
	cfg := websocket.Config{Compression: websocket.Compression{Enable: true, ServerNoContextTakeover: true, ClientNoContextTakeover: true}}
	u := &websocket.Upgrader{Config: cfg, Handler: func(c *websocket.Conn) error {
		for {
			typ, p, err := c.Read(ctx)
			if err != nil {
				return err
			}
			if err := c.Write(ctx, typ, p); err != nil {
				return err
			}
		}
	}}
	b := loopback(t, u, false, 0)
	defer b.stop()
	const n = 500
	o := &websocket.DialOptions{Config: cfg, Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return b.dial() }}}
	stacks := func() int {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.StackInuse)
	}
	var clients []*websocket.Conn
	for range n {
		c, _, err := websocket.Dial(ctx, "ws://example.com", o)
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
	}
	before := stacks()
	text := []byte(strings.Repeat("compressed ", 100))
	for _, c := range clients {
		if err := c.Write(ctx, websocket.Text, text); err != nil {
			t.Fatal(err)
		}
		if _, p, err := c.Read(ctx); err != nil || string(p) != string(text) {
			t.Fatal(len(p), err)
		}
	}
	if more := (stacks() - before) / n; more > 512 && !underRace() {
		t.Errorf("%d bytes of stack more for a connection after an echo", more)
	}
	for _, c := range clients {
		c.CloseNow()
	}
	if err := u.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}
