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

// A stack that the application has grown by something deep does not stay with a
// connection that waits: the collector halves a stack of which less than a
// quarter is in use, and what waits is as shallow as that takes.
func TestStacksShrink(t *testing.T) {
	for _, release := range []bool{false, true} {
		stacksShrink(t, release)
	}
}

func stacksShrink(t *testing.T, release bool) {
	const conns, most = 500, 4 << 10
	u := &websocket.Upgrader{ReleaseConns: release, Handler: func(c *websocket.Conn) error {
		var buf []byte
		for {
			typ, p, err := c.ReadAppend(context.Background(), buf[:0])
			if err != nil {
				return err
			}
			deepen(60)
			if err := c.Write(context.Background(), typ, p); err != nil {
				return err
			}
			buf = p
		}
	}}
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
	peers := openMany(b, "it waits after it has been deep", conns)
	for _, p := range peers {
		p.WritePieces(masked(0x82, "hello"))
		p.WantBytes(binaryFrame("hello"))
	}
	each := (stacks() - none) / conns
	// Nothing is left for what is measured next.
	for _, p := range peers {
		p.Close()
	}
	if err := u.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	// The allowance is for what else there is, and for stacks kept for reuse.
	if each > most+most/4 && !underRace() {
		t.Errorf("%d bytes of stack for a connection that waits, want %d", each, most)
	} else {
		t.Logf("%d bytes of stack for a connection that waits", each)
	}
}
