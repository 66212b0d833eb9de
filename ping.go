package websocket

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/sockeye-ws/websocket/internal/wheel"
)

// Pings and pongs (RFC 6455 §5.5.2, §5.5.3).

// ErrUnreadMessage is returned by [Conn.Ping] when a data message arrived
// before the pong and no other goroutine is reading: Ping handles control
// frames and would have to hold the message.
var ErrUnreadMessage = errors.New("websocket: ping: a message arrived and nobody reads")

// A ping is one that waits for its pong.
type ping struct {
	id       uint32
	answered chan struct{}
}

const pingSize = 8

// Ping sends a ping and waits for its pong, and returns the time between the
// two. Use it to see that the peer is there or to measure; pings of the peer
// are answered without help.
//
// Pongs are found by reading. If another goroutine is in Read, a Reader or
// CloseRead, it finds this one too; else Ping itself reads control frames
// until a data message comes, which it leaves for the next Read and returns
// [ErrUnreadMessage]. A Read that is called meanwhile takes over.
//
// When ctx ends, Ping returns an error that Is ctx.Err(); the connection
// stays as it is. Any number of goroutines may call Ping.
func (c *Conn) Ping(ctx context.Context) (time.Duration, error) {
	if err := c.usable(ctx, "ping"); err != nil {
		return 0, err
	}
	p := &ping{answered: make(chan struct{})}
	c.mu.Lock()
	c.keepalive.last++
	p.id = c.keepalive.last
	r := c.rarely()
	r.pings = append(r.pings, p)
	c.mu.Unlock()
	defer c.forget(p)

	sent := time.Now()
	if err := c.sendPing(p.id); err != nil {
		return 0, c.sendError(ctx, "ping", err)
	}
	for {
		if ended := c.ended(); ended != nil {
			return 0, ended
		}
		if !c.started() && !c.turn.Claimed() && c.takeFor(turnPing) {
			_, _, err := c.nextData(ctx, p)
			err = c.settle(err)
			if err == nil && !c.turn.Claimed() && !c.started() {
				err = c.outcome(ErrUnreadMessage)
			}
			c.giveTurn()
			switch {
			case p.isAnswered():
				return c.measured(sent), nil
			case err != nil && err != errYield:
				if c.ended() == nil && ctx.Err() != nil {
					err = contextEnded(ctx, "ping")
				}
				return 0, err
			}
		}
		freed := c.turn.Freed()
		if c.started() {
			freed = nil
		}
		if err := c.waitFor(ctx, "ping", p.answered, freed); err != nil {
			return 0, err
		}
		if p.isAnswered() {
			return c.measured(sent), nil
		}
	}
}

// sendPing sends a ping and waits for nothing. Its payload is a number that no
// other of the connection has.
func (c *Conn) sendPing(id uint32) error {
	var payload [pingSize]byte
	binary.BigEndian.PutUint64(payload[:], uint64(id))
	return c.out.Control(c.appendControl(make([]byte, 0, shortHeader+pingSize), opPing, payload[:]))
}

// measured notes the time since a ping that has just been answered.
func (c *Conn) measured(sent time.Time) time.Duration {
	rtt := time.Since(sent)
	c.mu.Lock()
	c.keepalive.rtt = rtt
	c.mu.Unlock()
	c.tracePong(rtt)
	return rtt
}

func (p *ping) isAnswered() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.answered:
		return true
	default:
		return false
	}
}

// forget ends the wait for a pong.
func (c *Conn) forget(p *ping) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.rare
	if i := slices.Index(r.pings, p); i >= 0 {
		r.pings = slices.Delete(r.pings, i, i+1)
	}
	if len(r.pings) == 0 {
		r.pings = nil
	}
}

// gotPong answers the ping with this payload and those before it: a peer may
// answer only the latest of several (§5.5.3). Any other pong is ignored.
func (c *Conn) gotPong(payload []byte) {
	if len(payload) != pingSize {
		return
	}
	id := binary.BigEndian.Uint64(payload)
	c.mu.Lock()
	var rtt time.Duration
	k := &c.keepalive
	answered := k.id != 0 && uint64(k.id) == id
	if answered {
		rtt = c.live.clock() - k.sent
		k.rtt, k.id = rtt, 0
	}
	if r := c.rare; r != nil && slices.ContainsFunc(r.pings, func(p *ping) bool { return uint64(p.id) == id }) {
		for _, p := range r.pings {
			if uint64(p.id) <= id && !p.isAnswered() {
				close(p.answered)
			}
		}
	}
	c.mu.Unlock()
	if answered {
		c.tracePong(rtt)
	}
}

// Keepalive: a peer from which nothing has come for a while is pinged, and is
// taken for lost when nothing comes after that either. All connections share
// one clock, that of the set they are in.

// keepalive is what a connection knows of it. The clock's goroutine alone uses
// the first six; the mu of the Conn guards the others.
type keepalive struct {
	interval uint32 // in ticks; a little different for each connection
	born     uint32 // the tick of the 101, for FirstMessageTimeout
	since    uint32 // in which tick the ping was sent
	waiting  bool   // for what comes after it
	excused  bool   // nothing had come when somebody had just come to read
	granted  bool   // the same, of FirstMessageTimeout

	id   uint32        // of the ping that is out; 0: none
	last uint32        // id of all pings
	sent time.Duration // when, by the clock of live
	rtt  time.Duration
}

// RTT returns the time between the last ping that was answered and its pong, be
// it one of [Config.PingInterval] or of [Conn.Ping]; 0 if there was none yet.
// Pongs are noticed while somebody reads, and late if nobody does.
func (c *Conn) RTT() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.keepalive.rtt
}

// gotInput notes that n bytes have come: the peer lives.
func (c *Conn) gotInput(n int) {
	c.received.bytes.Add(uint64(n))
	if c.live == nil {
		return
	}
	if now := c.live.wheel.Now(); now != c.lastInput.Load() {
		c.lastInput.Store(now)
	}
}

// A member is a Conn as the clock and the poller know it: what they call is
// nothing for applications.
type member Conn

// Place implements wheel.Member.
func (m *member) Place() *wheel.Place[*member] { return &(*Conn)(m).place }

// Tick implements wheel.Member.
func (m *member) Tick(now uint32) uint32 { return (*Conn)(m).tick(now) }

// Failed implements sendq.Owner.
func (m *member) Failed(err error) { (*Conn)(m).writeFailed(err) }

// Key implements sendq.Owner; a server does not mask.
func (m *member) Key() uint32 { return 0 }

// Wake implements poll.Waker.
func (m *member) Wake() { go (*Conn)(m).woken() }

// Moved implements transport.Watcher.
func (m *member) Moved(from, to int) error { return m.live.moved((*Conn)(m), from, to) }

func (c *Conn) tick(now uint32) uint32 {
	if c.ended() != nil {
		return wheel.Never
	}
	next := min(c.keepAlive(now), c.lateMessage(now), c.noMessage(now))
	if c.lingering.Load() != 0 {
		if now-c.lastInput.Load() >= quietTicks && c.lingering.CompareAndSwap(lingers, toldToPark) {
			c.t.In().Interrupt()
		}
		next = min(next, max(c.lastInput.Load()+quietTicks, now+1))
	}
	return next
}

// keepAlive looks whether the peer is still there, and returns when to look
// again.
func (c *Conn) keepAlive(now uint32) uint32 {
	k, last, timeout := &c.keepalive, c.lastInput.Load(), c.live.ticks.pingTimeout
	switch {
	case k.interval == 0:
		return wheel.Never
	case !k.waiting || last >= k.since:
		k.waiting, k.excused = false, false
		if due := last + k.interval; now < due {
			return due
		}
		k.waiting, k.since = true, now
		c.pingPeer()
		return now + min(timeout, k.interval)
	case now < k.since+timeout:
		return min(k.since+timeout, now+k.interval)
	case c.mayHoldInput(now, &k.excused):
		return now + 1 // what has come and waits for the application is life
	}
	c.pingLost()
	return wheel.Never
}

// pingPeer sends a ping and waits for nothing.
func (c *Conn) pingPeer() {
	c.mu.Lock()
	k := &c.keepalive
	k.last++
	k.id, k.sent = k.last, c.live.clock()
	id := k.id
	c.mu.Unlock()
	_ = c.sendPing(id) // of a queue that is closed the end is on its way
}

// pingLost ends the connection with one try to tell the peer why.
func (c *Conn) pingLost() {
	e := lost(fmt.Errorf("nothing came for %v after a ping: %w", c.cfg.PingTimeout, os.ErrDeadlineExceeded))
	if c.shut(&ending{err: e, cut: true}, appendClose(nil, StatusInternalError, "ping timeout")) {
		c.live.count.pingsLost.Add(1)
	}
}

// mayHoldInput reports whether something may have come that nobody has read. excused
// is what it has once taken for that.
func (c *Conn) mayHoldInput(now uint32, excused *bool) bool {
	if c.turn.Holder() == turnDelivers {
		return c.more.Load() || c.t.HasInput()
	}
	if c.parked.Load() {
		return c.t.HasInput() // and a wake that is on its way
	}
	if c.turn.Take(turnLook) {
		defer c.turn.Give()
		return c.inflow != nil && !c.in.Empty() || c.t.HasInput()
	}
	// Somebody reads, and nothing comes; unless he has come just now, and has
	// yet to look for what has been waiting. That excuses once, as those who
	// keep coming have looked meanwhile.
	if !*excused && int32(now-c.began.Load()) < 2 {
		*excused = true
		return true
	}
	return false
}
