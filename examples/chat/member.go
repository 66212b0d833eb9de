package main

import (
	"context"
	"time"

	"github.com/sockeye-ws/websocket"
)

const (
	// outboxSize is how many events a member may be behind. Whoever falls back
	// further is closed, comes back, and finds what was missed in the history.
	outboxSize = 64

	pingInterval = 30 * time.Second
	pingTimeout  = 20 * time.Second
)

// member is one connection in one room.
type member struct {
	person
	room   *room
	outbox chan []byte
	// close is the connection's Close, which never waits. The rooms know no
	// more of a connection than this.
	close func(websocket.StatusCode, string) error
}

func newMember(who person, close func(websocket.StatusCode, string) error) *member {
	return &member{person: who, outbox: make(chan []byte, outboxSize), close: close}
}

// offer hands an encoded event to the member and never waits: the room's lock is
// held around it. After the close nothing more is sent, so a page never sees a
// conversation with a hole in it.
func (m *member) offer(p []byte) {
	select {
	case m.outbox <- p:
	default:
		m.close(websocket.StatusTryAgainLater, "too far behind")
	}
}

// deliver writes what is in the outbox until the connection ends. It is the only
// goroutine that waits for this member's network.
func (m *member) deliver(c *websocket.Conn) {
	ctx := c.Context()
	// Proxies cut silent connections, and without traffic a peer whose network
	// has gone would stay in the room for ever.
	tick := time.NewTicker(pingInterval)
	defer tick.Stop()
	for {
		select {
		case p := <-m.outbox:
			if c.Write(ctx, websocket.Text, p) != nil {
				return
			}
		case <-tick.C:
			if !alive(ctx, c) {
				c.CloseNow()
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func alive(ctx context.Context, c *websocket.Conn) bool {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	_, err := c.Ping(ctx)
	return err == nil
}

// allowance lets through a burst of requests and then a steady rate. Without it
// one flooding page would overrun everybody's outbox, and the innocent would be
// the ones closed.
type allowance struct {
	left float64
	at   time.Time
}

const (
	allowBurst  = 30 // requests at once
	allowPerSec = 5
)

func newAllowance() *allowance {
	return &allowance{left: allowBurst, at: time.Now()}
}

// take reports whether one more request is within the rate.
func (a *allowance) take() bool {
	now := time.Now()
	a.left = min(allowBurst, a.left+now.Sub(a.at).Seconds()*allowPerSec)
	a.at = now
	if a.left < 1 {
		return false
	}
	a.left--
	return true
}
