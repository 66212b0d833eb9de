package websocket_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/conformance"
)

// wantSent checks what a Send to a group returns, and that it takes no time.
func wantSent(t *testing.T, g *websocket.Group, name string, accepted, dropped int) {
	t.Helper()
	start := time.Now()
	if a, d := g.Send(prepared(sized(name, 98))); a != accepted || d != dropped {
		t.Errorf("Send of %s: accepted %d, dropped %d; want %d, %d", name, a, d, accepted, dropped)
	}
	wantElapsed(t, start, 0)
}

func wantMembers(t *testing.T, g *websocket.Group, want ...*websocket.Conn) {
	t.Helper()
	got, set := map[*websocket.Conn]int{}, map[*websocket.Conn]int{}
	for c := range g.All() {
		got[c]++
	}
	for _, c := range want {
		set[c]++
	}
	if !maps.Equal(got, set) || g.Len() != len(want) {
		t.Errorf("%d members, Len %d, want %d", len(got), g.Len(), len(want))
	}
}

// A Group is ready as it is, and each connection is in it once at most.
func TestGroupMembers(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		var g, other websocket.Group
		wantMembers(t, &g)
		wantSent(t, &g, "nobody", 0, 0)
		p1, c1 := l.open("first")
		p2, c2 := l.open("second")
		if g.Remove(c1) {
			t.Error("who was never in is removed")
		}
		for range 2 {
			if !g.Add(c1) {
				t.Error("Add refuses an open connection")
			}
			wantMembers(t, &g, c1)
		}
		g.Add(c2)
		other.Add(c2)
		wantMembers(t, &g, c1, c2)
		wantSent(t, &g, "both", 2, 0)
		wantSent(t, &other, "one", 1, 0)
		wantNames(t, p1, "both")
		wantNames(t, p2, "both", "one")
		if !g.Remove(c1) || g.Remove(c1) {
			t.Error("Remove does not tell whether it did anything")
		}
		wantMembers(t, &g, c2)
		wantSent(t, &g, "second", 1, 0)
		wantNames(t, p1)
		wantNames(t, p2, "second")
		for range 3 { // in and out again
			g.Add(c1)
			wantSent(t, &g, "again", 2, 0)
			g.Remove(c1)
		}
		wantNames(t, p1, "again", "again", "again")
		wantNames(t, p2, "again", "again", "again")
		c2.CloseNow()
		wantMembers(t, &g)
		wantMembers(t, &other)
	})
}

// Who has ended leaves all its groups at once, whatever the end, and cannot be
// added again.
func TestGroupAfterEveryEnd(t *testing.T) {
	for _, e := range ends {
		t.Run(e.name, func(t *testing.T) {
			inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
				groups := make([]websocket.Group, 5)
				p, c := l.open("who has ended leaves")
				stays, stayed := l.open("who has not stays")
				read := readingOn(c)
				for i := range groups {
					groups[i].Add(stayed)
					groups[i].Add(c)
				}
				groups[4].Remove(c)
				e.end(p, c)
				<-read
				synctest.Wait()
				for i := range groups {
					wantMembers(t, &groups[i], stayed)
					wantSent(t, &groups[i], fmt.Sprint(i), 1, 0)
					if groups[i].Add(c) || groups[i].Remove(c) {
						t.Error("an ended connection is a member")
					}
				}
				wantNames(t, stays, "0", "1", "2", "3", "4")
			})
		})
	}
}

// All yields those who were in when the loop began, and the loop may change the
// group, send to it and stop.
func TestGroupAll(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		var g websocket.Group
		var conns []*websocket.Conn
		for range 10 {
			_, c := l.open("All")
			conns = append(conns, c)
			g.Add(c)
		}
		_, late := l.open("All")
		seen := map[*websocket.Conn]bool{}
		for c := range g.All() {
			seen[c] = true
			g.Remove(c)
			g.Add(late)
			g.Send(prepared(nil))
		}
		if len(seen) != 10 || seen[late] {
			t.Errorf("%d members were seen", len(seen))
		}
		wantMembers(t, &g, late)
		for range g.All() {
			break
		}
		for _, c := range conns {
			g.Add(c)
		}
		for c := range g.All() {
			c.CloseNow()
		}
		wantMembers(t, &g)
	})
}

// Of a thousand members, a tenth is stuck: all others get every message, in
// order and at once, and the counts say what became of each.
func TestGroupWithStuckMembers(t *testing.T) {
	const members, stuck, queue = 1000, 100, 10
	for name, overflow := range map[string]websocket.Overflow{
		"Disconnect": websocket.Disconnect, "DropNewest": websocket.DropNewest, "DropOldest": websocket.DropOldest,
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, websocket.Config{WriteQueue: queue * 100, Overflow: overflow}, func(t *testing.T, l *lab) {
				var g websocket.Group
				var peers []*conformance.Peer
				for i := range members {
					p, c, server := l.openServer("a stuck member stops nobody")
					if i%(members/stuck) == 3 {
						server.StallWriteAfter(0)
					} else {
						peers = append(peers, p)
					}
					g.Add(c)
				}
				start := time.Now()
				for i := range 25 {
					accepted, dropped := members, 0
					if i >= queue && overflow != websocket.DropOldest {
						accepted = members - stuck
						if i == queue || overflow == websocket.DropNewest {
							dropped = stuck
						}
					}
					wantSent(t, &g, fmt.Sprint(i), accepted, dropped)
					synctest.Wait()
				}
				want := []byte{}
				for i := range 25 {
					want = append(want, binaryFrame(string(sized(fmt.Sprint(i), 98)))...)
				}
				for _, p := range peers {
					if n := unread(p); n != len(want) {
						t.Fatalf("%d bytes have come", n)
					}
					if got := readSome(p, len(want)); !bytes.Equal(got, want) {
						t.Fatal("the messages are not those that were sent")
					}
				}
				wantElapsed(t, start, 0)
				left := members
				if overflow == websocket.Disconnect {
					left -= stuck
				}
				if g.Len() != left {
					t.Errorf("%d members are left, want %d", g.Len(), left)
				}
				for c := range g.All() {
					if b, m := c.Queued(); b != 0 && (b != 100*queue || m != queue) {
						t.Errorf("%d bytes, %d messages are queued", b, m)
					}
				}
			})
		})
	}
}

// onGroups runs f with members of a group, in memory and over TCP.
func onGroups(t *testing.T, n int, f func(t *testing.T, peers []*conformance.Peer, conns []*websocket.Conn)) {
	config := websocket.Config{WriteQueue: 64 << 20, Logger: slog.New(slog.DiscardHandler)}
	t.Run("in memory", func(t *testing.T) {
		inLab(t, config, func(t *testing.T, l *lab) {
			for range n {
				p, c := l.open("all members see the same")
				readingOn(c)
				p.Settle = nil
			}
			f(t, l.peers, l.given)
		})
	})
	t.Run("TCP", func(t *testing.T) {
		given := make(chan *websocket.Conn)
		b := overTCP(t, &websocket.Upgrader{Config: config, Handler: func(c *websocket.Conn) error {
			given <- c
			return <-readingOn(c)
		}})
		defer b.stop()
		var peers []*conformance.Peer
		var conns []*websocket.Conn
		for range n {
			p := b.peer("all members see the same")
			defer p.Close()
			peers, conns = append(peers, p), append(conns, <-given)
		}
		f(t, peers, conns)
	})
}

// Whoever sends, and how many at once: all members see one order.
func TestGroupOrder(t *testing.T) {
	const members, senders, each = 20, 8, 200
	onGroups(t, members, func(t *testing.T, peers []*conformance.Peer, conns []*websocket.Conn) {
		var g websocket.Group
		for _, c := range conns {
			g.Add(c)
		}
		var wg sync.WaitGroup
		for s := range senders {
			wg.Go(func() {
				for i := range each {
					if a, d := g.Send(prepared(numbered(s, i))); a != members || d != 0 {
						t.Errorf("accepted %d, dropped %d", a, d)
					}
				}
			})
		}
		orders := make([][]string, members)
		for m, p := range peers {
			wg.Go(func() {
				for range senders * each {
					f, ok := p.Next()
					if !ok {
						return
					}
					orders[m] = append(orders[m], string(f.Payload))
				}
			})
		}
		wg.Wait()
		next := make([]int, senders)
		for _, data := range orders[0] {
			s, i := int(binary.BigEndian.Uint16([]byte(data))), int(binary.BigEndian.Uint16([]byte(data)[2:]))
			if i != next[s] || data != string(numbered(s, i)) {
				t.Fatalf("sender %d: message %d, want %d", s, i, next[s])
			}
			next[s]++
		}
		for m := range orders {
			if !slices.Equal(orders[m], orders[0]) {
				t.Fatalf("member %d sees another order", m)
			}
		}
	})
}

// A tally counts messages whose sending has begun, and has ended.
type tally struct {
	mu           sync.Mutex
	change       *sync.Cond
	begun, ended int
	over         bool // no more will begin
}

func (y *tally) set(begun, ended int, over bool) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.begun, y.ended, y.over = begun, ended, over
	y.change.Broadcast()
}

func (y *tally) now() (begun, ended int, over bool) {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.begun, y.ended, y.over
}

func (y *tally) await(ended int) {
	y.mu.Lock()
	defer y.mu.Unlock()
	for y.ended < ended && !y.over {
		y.change.Wait()
	}
}

// A stay is a time in a group: what was sent after since and up to until is
// due; what was sent up to before or after after must not come.
type stay struct{ before, since, until, after int }

// While members come, go and end, each gets every message that was sent while
// it was in, and none that was sent when it was not.
func TestGroupWhileMembersChange(t *testing.T) {
	const members, messages = 16, 600
	onGroups(t, members, func(t *testing.T, peers []*conformance.Peer, conns []*websocket.Conn) {
		var g websocket.Group
		y := new(tally)
		y.change = sync.NewCond(&y.mu)
		var changers, readers sync.WaitGroup
		stays := make([][]stay, members)
		for m, c := range conns[1:] {
			m++
			changers.Go(func() {
				for over := false; !over; {
					var s stay
					_, s.before, over = y.now()
					if !g.Add(c) {
						t.Error("Add refuses an open connection")
					}
					s.since, _, _ = y.now()
					y.await(s.since + m%7)
					_, s.until, _ = y.now()
					ends := m%6 == 5 && len(stays[m]) == 3
					if ends {
						c.Close(1000, "")
					} else if !g.Remove(c) {
						t.Error("Remove finds no member")
					}
					s.after, _, _ = y.now()
					stays[m] = append(stays[m], s)
					y.await(s.after + m%3)
					over = over || ends
				}
			})
		}
		var got [members][]int
		for m, p := range peers {
			readers.Go(func() {
				for {
					f, ok := p.Next()
					switch {
					case !ok || f.Op == 8:
						p.Close()
						return
					case f.Op == 9:
						p.WritePieces(masked(0x8a, string(f.Payload)))
					default:
						got[m] = append(got[m], int(binary.BigEndian.Uint32(f.Payload)))
					}
				}
			})
		}
		g.Add(conns[0]) // for all the time
		stays[0] = []stay{{0, 0, messages, messages}}
		for i := 1; i <= messages; i++ {
			y.set(i, i-1, false)
			if a, d := g.Send(prepared(binary.BigEndian.AppendUint32(nil, uint32(i)))); d != 0 || a < 1 || a > members {
				t.Errorf("accepted %d, dropped %d", a, d)
			}
			y.set(i, i, false)
			if i%100 < 30 { // the pace of single messages, and then of a loop
				conns[0].Ping(context.Background())
			}
		}
		y.set(messages, messages, true)
		changers.Wait()
		for _, c := range conns {
			c.Close(1000, "")
		}
		readers.Wait()
		if g.Len() != 0 {
			t.Errorf("%d members are left", g.Len())
		}
		for m := range got {
			if !slices.IsSorted(got[m]) || len(slices.Compact(slices.Clone(got[m]))) != len(got[m]) {
				t.Fatalf("member %d: out of order, or twice", m)
			}
			due, allowed := make([]bool, messages+1), make([]bool, messages+1)
			for _, s := range stays[m] {
				for i := s.before + 1; i <= s.after; i++ {
					allowed[i] = true
				}
				for i := s.since + 1; i <= s.until; i++ {
					due[i] = true
				}
			}
			for _, i := range got[m] {
				if !allowed[i] {
					t.Errorf("member %d: message %d was sent when it was not in", m, i)
				}
				due[i] = false
			}
			if i := slices.Index(due, true); i >= 0 {
				t.Errorf("member %d: message %d is missing", m, i)
			}
		}
	})
}

// A message leaves by itself, at once, also when a member has more to handle,
// so that others may share its calls, and also to who is removed behind it.
func TestGroupWithoutFurtherCalls(t *testing.T) {
	for _, more := range []bool{false, true} {
		inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
			var g websocket.Group
			peers, conns, want := make([]*conformance.Peer, 4), make([]*websocket.Conn, 4), make([][]string, 4)
			in := map[int]bool{}
			send := func(name string, except ...int) {
				t.Helper()
				var not []*websocket.Conn
				for _, i := range except {
					not = append(not, conns[i])
				}
				n := 0
				for i := range conns {
					if in[i] && !slices.Contains(except, i) {
						want[i] = append(want[i], name)
						n++
					}
				}
				if a, d := g.Send(prepared(sized(name, 98)), not...); a != n || d != 0 {
					t.Errorf("Send of %s: accepted %d, dropped %d; want %d", name, a, d, n)
				}
			}
			add := func(i int) { in[i] = true; g.Add(conns[i]) }
			remove := func(i int) { delete(in, i); g.Remove(conns[i]) }
			for i := range conns {
				peers[i], conns[i] = l.open("what was sent comes")
			}
			if more {
				peers[0].WritePieces(slices.Concat(masked(0x82, "first"), masked(0x82, "second")))
				wantMessage(t, conns[0], websocket.Binary, "first")
			}
			add(0)
			add(1)
			for round := range 20 {
				for i := range 30 {
					send(fmt.Sprint(round, " ", i))
				}
				remove(1)
				send("without 1")
				add(2)
				send("not to 0", 0)
				send("not to 0 and 3, who is not in", 0, 3)
				add(3) // for one message
				send("one")
				remove(3)
				add(1)
				send("to nobody", 0, 1, 2)
				remove(2)
				if round > 0 {
					synctest.Wait()
					send("last")
				}
				for i, p := range peers {
					wantNames(t, p, want[i]...)
					want[i] = nil
				}
			}
		})
	}
}

// A member that is closed behind a message has it before the Close frame.
func TestGroupCloseBehindAMessage(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		var g websocket.Group
		for i := range 40 {
			p, c := l.open("what was sent comes")
			g.Add(c)
			wantSent(t, &g, fmt.Sprint(i), 1, 0)
			c.Close(1000, "")
			wantMembers(t, &g)
			p.WantBytes(binaryFrame(string(sized(fmt.Sprint(i), 98))))
			p.Want("88 02 03e8")
		}
	})
}

// readSome reads n bytes past the peer.
func readSome(p *conformance.Peer, n int) []byte {
	b := make([]byte, n)
	io.ReadFull(p.Conn(), b)
	return b
}
