package websocket

import (
	"bytes"
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket/internal/memconn"
)

// A message waits for an hour, and in the moment in which keepalive gives the peer
// up somebody comes to read it: whichever of the two is first, the peer lives.
func TestReaderComesWithTheClock(t *testing.T) {
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			s, c := Pipe(nil)
			defer func() { s.CloseNow(); c.CloseNow(); <-s.Context().Done(); <-c.Context().Done() }()
			if err := c.Write(background, Text, []byte("hi")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
			if _, p, err := s.Read(background); err != nil || string(p) != "hi" {
				t.Fatalf("Read: %q, %v", p, err)
			}
			if s.ended() != nil {
				t.Fatal(s.ended())
			}
		})
	}
}

// Who has come to read within the last two ticks may have yet to look. That
// excuses a peer once, however often somebody comes, until it says something.
func TestJustCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := Pipe(nil)
		defer func() { s.CloseNow(); c.CloseNow(); <-s.Context().Done(); <-c.Context().Done() }()
		if !s.takeFor(turnRead) {
			t.Fatal("the turn is taken")
		}
		const now = 1000
		for _, look := range []struct {
			began uint32
			may   bool
		}{{now - 2, false}, {now - 1, true}, {now - 1, false}, {now, false}} {
			s.began.Store(look.began)
			if may := s.mayHoldInput(now, &s.keepalive.excused); may != look.may {
				t.Errorf("who came in tick %d: %v in tick %d", look.began, may, now)
			}
		}
		k := &s.keepalive
		k.waiting, k.since = true, now
		s.lastInput.Store(now)
		if s.keepAlive(now + 1); k.excused {
			t.Error("something has come, and the excuse is used up still")
		}
		s.giveTurn()
	})
}

// A Ping that gets the turn of a read that has just found the end returns that, and
// not that a message waits.
func TestPingMeetsTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		peer, here := memconn.Pair()
		c := newConn(here, sealed(0x82, ""), on(Config{PingInterval: -1}), "", nil)
		c.turn.Take(turnRead)
		got := make(chan error, 1)
		go func() { _, err := c.Ping(context.Background()); got <- err }()
		synctest.Wait()
		// As far as the end has come when the reader gives its turn up.
		e := &ending{err: &CloseError{Code: StatusUnsupportedData, cause: net.ErrClosed}}
		c.end.Store(e)
		c.turn.Give()
		if err := <-got; err != error(e.err) {
			t.Errorf("Ping: %v", err)
		}
		if p := c.in.Unread(); !bytes.Equal(p, sealed(0x82, "")) {
			t.Errorf("left unread: % x", p)
		}
		here.Close()
		peer.Close()
	})
}
