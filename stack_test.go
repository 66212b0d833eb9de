package websocket_test

import (
	"context"
	"runtime"
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
