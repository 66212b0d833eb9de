package websocket

import (
	"context"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A connection that Opened ends is counted once all the same, whoever looks, and
// is not among the others any more.
func TestOpenedEndsIt(t *testing.T) {
	u := &Upgrader{Config: Config{Logger: slog.New(slog.DiscardHandler)}}
	const conns, size = 100, 7
	var looks sync.WaitGroup
	u.Trace = &Trace{Opened: func(c *Conn) {
		_ = c.CloseNow()
		for u.Stats().Open > 0 {
			<-c.Context().Done()
		}
		// Who comes to ask for the connection's state has to wait.
		c.mu.Lock()
		looks.Go(func() {
			defer c.mu.Unlock()
			for range 100 {
				if s := u.Stats(); s.Received.Bytes != s.Upgraded*size {
					t.Errorf("%d bytes of %d connections", s.Received.Bytes, s.Upgraded)
					break
				}
				runtime.Gosched()
			}
		})
	}}
	for range conns {
		_, peer := attachWith(t, u, "\x81\x85\x00\x00\x00\x00a")
		peer.Close()
		looks.Wait()
	}
	if n := len(u.live.wheel.Snapshot()); n != 0 {
		t.Errorf("%d are there still", n)
	}
	if s := u.Stats(); s.Upgraded != conns || s.Received.Bytes != conns*size {
		t.Errorf("%d connections, %d bytes", s.Upgraded, s.Received.Bytes)
	}
}

// What begins to read in Opened is under the clock as if it had begun later.
func TestOpenedReads(t *testing.T) {
	const limit = 8 * time.Second
	reads := map[string]func(c *Conn){
		"Start":     func(c *Conn) { c.Start(closer{make(chan struct{})}) },
		"CloseRead": func(c *Conn) { c.CloseRead() },
		"Read":      func(c *Conn) { go c.Read(context.Background()) },
	}
	for name, read := range reads {
		synctest.Test(t, func(t *testing.T) {
			u := &Upgrader{Config: Config{PingInterval: -1, MessageTimeout: limit, CloseTimeout: -1, Logger: slog.New(slog.DiscardHandler)}}
			u.Trace = &Trace{Opened: func(c *Conn) {
				read(c)
				synctest.Wait()
			}}
			began := time.Now()
			c, peer := attachWith(t, u, "\x81")
			defer peer.Close()
			defer c.CloseNow()
			select {
			case <-c.shutting.Done():
			case <-time.After(time.Hour):
				t.Fatalf("%s: an hour, and MessageTimeout has not ended it", name)
			}
			const tick = limit / 16
			if took := time.Since(began); took <= limit || took > limit+2*tick {
				t.Errorf("%s: MessageTimeout has ended it after %v", name, took)
			}
			if e := c.ended().(*CloseError); e.Code != StatusPolicyViolation {
				t.Errorf("%s: %v", name, e)
			}
		})
	}
}

// A connection that is over, but for a Closed that has not returned, is one of
// those that Shutdown waits for, and none that it cuts.
func TestConnsWhileClosedIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &Upgrader{Config: Config{CloseTimeout: -1, Logger: slog.New(slog.DiscardHandler)}}
		c, peer := attachWith(t, u, "")
		defer peer.Close()
		told, release := make(chan struct{}), make(chan struct{})
		c.Start(slowToClose{told, release})
		_ = c.CloseNow()
		<-told
		if !slices.Contains(slices.Collect(u.Conns()), c) {
			t.Error("Conns does not have it")
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		err := u.Shutdown(ctx)
		if e, ok := err.(*ShutdownError); !ok || e.Cut != 0 {
			t.Errorf("Shutdown: %v", err)
		}
		close(release)
		if err := u.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

type slowToClose struct{ told, release chan struct{} }

func (slowToClose) Message(*Conn, MessageType, []byte) error { return nil }
func (e slowToClose) Closed(*Conn, error)                    { close(e.told); <-e.release }
