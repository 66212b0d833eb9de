package websocket

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket/internal/memconn"
)

// Between the record of an end and its Close frame, a Writer that notices the
// end must not let others into its message.
func TestWriterNoticesTheEndEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		peer, here := memconn.Pair()
		c := newConn(here, nil, on(Config{PingInterval: -1}), "", nil)
		here.SetBuffer(1 << 20)
		w, err := c.Writer(context.Background(), Binary)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, 100<<10)); err != nil {
			t.Fatal(err)
		}
		if err := c.Send(Binary, []byte("other")); err != nil {
			t.Fatal(err)
		}
		// As far as shut has come when it is interrupted.
		e := &ending{err: &CloseError{Code: 1000, cause: net.ErrClosed}}
		c.end.CompareAndSwap(nil, e)
		c.shutting.Set()
		go func() { w.Write([]byte("x")); c.out.Flush() }()
		peer.SetReadDeadline(time.Now().Add(300 * time.Millisecond)) // when nobody does anything more
		var all []byte
		buf := make([]byte, 64<<10)
		for {
			n, err := peer.Read(buf)
			all = append(all, buf[:n]...)
			if err != nil {
				break
			}
		}
		if n := len(all); n >= 7 && string(all[n-5:]) == "other" {
			t.Errorf("% x comes inside of a message that is not complete", all[n-7:])
		}
	})
}
