package websocket_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/conformance"
)

// byDefault are the times that the zero Config has.
var byDefault = websocket.Config{PingInterval: 30 * time.Second, PingTimeout: 20 * time.Second}

// attending are the ways in which somebody reads, from a call that waits to
// the end of the connection, whose error they return.
var attending = []struct {
	name string
	data bool // messages may come
	wait func(c *websocket.Conn) error
}{
	{"Read", true, func(c *websocket.Conn) error { return <-readingOn(c) }},
	{"Reader", true, func(c *websocket.Conn) error {
		for {
			_, r, err := c.Reader(context.Background())
			if err == nil {
				_, err = io.ReadAll(r)
			}
			if err != nil {
				return err
			}
		}
	}},
	{"Start", true, func(c *websocket.Conn) error {
		return eventMode.all(c, func(websocket.MessageType, []byte) error { return nil })
	}},
	{"CloseRead", false, func(c *websocket.Conn) error {
		c.CloseRead()
		<-c.Context().Done()
		return context.Cause(c.Context())
	}},
	{"Ping", false, func(c *websocket.Conn) error {
		_, err := c.Ping(context.Background())
		return err
	}},
}

// wantLostToSilence checks that the connection was lost to silence, at this moment and
// for everybody who asks.
func wantLostToSilence(t *testing.T, p *conformance.Peer, c *websocket.Conn, end <-chan error) {
	t.Helper()
	err := done(t, "the call that reads", end)
	wantTimeout(t, err)
	var closed *websocket.CloseError
	if !errors.As(err, &closed) || !closed.Timeout() || closed.Reason != "" || !strings.Contains(err.Error(), "after a ping") {
		t.Errorf("the error is %v", err)
	}
	if over := wantOver(t, c); over != closed {
		t.Errorf("the call that reads returned %v, the Context says %v", closed, over)
	}
	// Whether this transport would take a Close frame cannot be told
	// without waiting, so it is not asked.
	if f, err := p.Rest(); len(f) > 0 || err != io.EOF {
		t.Errorf("received %v and %v, want EOF", f, err)
	}
}

// at lets time pass until so much of it has passed since start.
func at(start time.Time, d time.Duration) {
	time.Sleep(time.Until(start.Add(d)))
	synctest.Wait()
}

// A peer from which nothing comes is pinged after PingInterval and lost
// PingTimeout later, whoever reads.
func TestL07SilentPeer(t *testing.T) {
	for _, how := range attending {
		t.Run(how.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				conns := make(chan *websocket.Conn, 1)
				u := &websocket.Upgrader{Handler: func(c *websocket.Conn) error {
					conns <- c
					<-c.Context().Done()
					return context.Cause(c.Context())
				}}
				b := inMemory(t, http.HandlerFunc(u.ServeHTTP)) // with the zero Config
				defer b.stop()
				p := b.peer("a silent peer is pinged at 30 s and lost at 50 s")
				c := <-conns
				end := async(func() error { return how.wait(c) })
				if how.name == "Ping" {
					wantPing(t, p) // its own
				}
				at(start, 30*time.Second-1)
				p.WantNothing()
				at(start, 30*time.Second)
				wantPing(t, p)
				at(start, 50*time.Second-1)
				wantPending(t, "the call that reads", end)
				p.WantNothing()
				at(start, 50*time.Second)
				wantLostToSilence(t, p, c, end)
			})
		})
	}
}

// Other times, other ticks: the clock is fine enough for the shortest of
// both, down to a millisecond.
func TestTimesOfKeepalive(t *testing.T) {
	for _, test := range []struct{ interval, timeout time.Duration }{
		{100 * time.Millisecond, 100 * time.Millisecond},
		{100 * time.Millisecond, 0}, // 20 s
		{30 * time.Second, time.Second},
		{time.Second, 2 * time.Second},
		{16 * time.Millisecond, 24 * time.Millisecond},
		{time.Millisecond, time.Millisecond},
		{time.Hour, time.Minute},
	} {
		t.Run(fmt.Sprint(test.interval, test.timeout), func(t *testing.T) {
			config := websocket.Config{PingInterval: test.interval, PingTimeout: test.timeout}
			inLab(t, config, func(t *testing.T, l *lab) {
				start := time.Now()
				p, c := l.open("ping and loss come at the times of the Config")
				p.Patience = 2 * time.Hour
				end := readingOn(c)
				wantPing(t, p)
				wantElapsed(t, start, test.interval)
				timeout := test.timeout
				if timeout == 0 {
					timeout = 20 * time.Second
				}
				at(start, test.interval+timeout-1)
				wantPending(t, "Read", end)
				at(start, test.interval+timeout)
				wantLostToSilence(t, p, c, end)
			})
		})
	}
}

// Any byte is a sign of life. It counts from the tick that it comes in, half a
// second at most before it: from there the next ping is 30 s away, and the
// loss 20 s behind that, whether a ping was out or not.
func TestAnyByteIsLife(t *testing.T) {
	moments := []struct{ came, next time.Duration }{
		{10 * time.Second, 40 * time.Second},
		{29_900 * time.Millisecond, 59_500 * time.Millisecond}, // a tick before the ping
		{30*time.Second + 1, 60 * time.Second},                 // just after
		{49_900 * time.Millisecond, 79_500 * time.Millisecond}, // a tick before the loss
	}
	for _, test := range []struct {
		name, bytes, answer string
		data                bool
	}{
		{"a message", "81 82 z 6869", "", true},
		{"an empty message", "82 80 z", "", true},
		{"a fragment", "01 81 z 68", "", true},
		{"one byte of a header", "81", "", true},
		{"a header", "81 85 z", "", true},
		{"part of a payload", "81 85 z 6869", "", true},
		{"part of a ping", "89 85 z 6869", "", false},
		{"a ping", "89 82 z 6869", "8a 02 6869", false},
		{"an empty pong", "8a 80 z", "", false},
		{"a pong with another payload", "8a 88 z rep(ff,8)", "", false},
		{"a pong with a short payload", "8a 82 z 6869", "", false},
	} {
		for _, how := range attending {
			if test.data && !how.data {
				continue
			}
			t.Run(test.name+", "+how.name, func(t *testing.T) {
				for _, m := range moments {
					inLab(t, byDefault, func(t *testing.T, l *lab) {
						start := time.Now()
						p, c := l.open(fmt.Sprintf("what comes at %v moves the ping to %v", m.came, m.next))
						end := async(func() error { return how.wait(c) })
						if how.name == "Ping" {
							wantPing(t, p)
						}
						at(start, m.came)
						if m.came > 30*time.Second {
							wantPing(t, p)
						}
						p.Write(test.bytes)
						p.Want(test.answer)
						at(start, m.next-1)
						p.WantNothing()
						at(start, m.next)
						wantPing(t, p)
						at(start, m.next+20*time.Second-1)
						wantPending(t, "the call that reads", end)
						at(start, m.next+20*time.Second)
						wantLostToSilence(t, p, c, end)
					})
				}
			})
		}
	}
}

// A peer that answers is never lost, and nothing else is sent to it.
func TestPeerThatAnswers(t *testing.T) {
	inLab(t, byDefault, func(t *testing.T, l *lab) {
		start := time.Now()
		p, c := l.open("each pong begins another 30 s")
		end := readingOn(c)
		for i := range 100 {
			answer := wantPing(t, p)
			wantElapsed(t, start, time.Duration(i+1)*30*time.Second)
			p.WritePieces(answer)
		}
		wantPending(t, "Read", end)
	})
}

// What comes after the loss is too late.
func TestLifeAfterTheLoss(t *testing.T) {
	inLab(t, byDefault, func(t *testing.T, l *lab) {
		start := time.Now()
		p, c := l.open("a pong at 50 s is too late")
		end := readingOn(c)
		answer := wantPing(t, p)
		at(start, 50*time.Second)
		if _, err := p.Conn().Write(answer); err == nil {
			t.Error("the transport takes a pong after the loss")
		}
		wantTimeout(t, done(t, "Read", end))
	})
}

// While the application does not read and something waits, as far as can be
// told, nobody is judged. That comes in the second tick after somebody has come
// to read, if the peer is silent still: in the first one he may have yet to look.
func TestJudgementWaits(t *testing.T) {
	for _, unread := range []string{"", "81 82 z 6869"} {
		inLab(t, byDefault, func(t *testing.T, l *lab) {
			start := time.Now()
			p, c := l.open("in memory it cannot be told that nothing waits")
			if unread != "" {
				p.Write(unread)
			}
			wantPing(t, p)
			wantElapsed(t, start, 30*time.Second)
			at(start, time.Hour+time.Millisecond)
			p.WantNothing() // one ping is enough
			if c.Context().Err() != nil {
				t.Fatalf("the connection has ended: %v", context.Cause(c.Context()))
			}
			end := readingOn(c)
			if unread == "" {
				at(start, time.Hour+time.Second-1)
				wantPending(t, "Read", end)
				at(start, time.Hour+time.Second)
				wantLostToSilence(t, p, c, end)
				return
			}
			// It is life at the moment it is read.
			at(start, time.Hour+30*time.Second-1)
			p.WantNothing()
			at(start, time.Hour+30*time.Second)
			wantPing(t, p)
			at(start, time.Hour+50*time.Second)
			wantLostToSilence(t, p, c, end)
		})
	}
}

// Keepalive never waits for a peer that takes nothing: such a peer is lost by
// whichever time is over first, and the pings of others come on time.
func TestPeerThatTakesNothing(t *testing.T) {
	for _, test := range []struct{ writeTimeout, lost time.Duration }{
		{0, 40 * time.Second}, // the ping is not taken for 10 s
		{time.Minute, 50 * time.Second},
		{-1, 50 * time.Second},
	} {
		config := byDefault
		config.WriteTimeout = test.writeTimeout
		inLab(t, config, func(t *testing.T, l *lab) {
			start := time.Now()
			stuck, c, server := l.openServer("a peer that takes nothing is lost")
			server.StallWriteAfter(0)
			end := readingOn(c)
			p, other := l.open("others are pinged nevertheless")
			fine := readingOn(other)
			answer := wantPing(t, p)
			// The second connection's interval is shorter than the first's.
			if d := time.Since(start); d < 22500*time.Millisecond || d > 30*time.Second {
				t.Errorf("pinged after %v", d)
			}
			p.WritePieces(answer)
			at(start, test.lost-1)
			wantPending(t, "Read", end)
			at(start, test.lost)
			wantTimeout(t, done(t, "Read", end))
			wantOver(t, c)
			wantPending(t, "Read of the other", fine)
			stuck.Close()
		})
	}
}

// RTT is the time between the last ping that was answered, whoever sent it,
// and its pong.
func TestRTT(t *testing.T) {
	inLab(t, byDefault, func(t *testing.T, l *lab) {
		p, c := l.open("RTT is that of the last answer")
		end := readingOn(c)
		want := func(when string, rtt time.Duration) {
			t.Helper()
			if synctest.Wait(); c.RTT() != rtt {
				t.Errorf("%s RTT is %v, want %v", when, c.RTT(), rtt)
			}
		}
		want("before any ping", 0)
		p.Write("8a 80 z 8a 88 z 0000000000000000 8a 88 z 0000000000000001")
		want("after pongs for no ping", 0)
		answer := wantPing(t, p)
		want("before the answer", 0)
		time.Sleep(250 * time.Millisecond)
		p.Write("8a 88 z 0000000000000000")
		want("after another pong", 0)
		p.WritePieces(answer)
		want("after the pong", 250*time.Millisecond)
		time.Sleep(time.Second)
		p.WritePieces(answer)
		want("after the same again", 250*time.Millisecond)

		result := ping(context.Background(), c)
		answer = wantPing(t, p)
		time.Sleep(40 * time.Millisecond)
		p.WritePieces(answer)
		if r := done(t, "Ping", result); r != (pong{40 * time.Millisecond, nil}) {
			t.Errorf("Ping: %v", r)
		}
		want("after a Ping", 40*time.Millisecond)

		answer = wantPing(t, p)
		time.Sleep(3 * time.Second)
		p.WritePieces(answer)
		want("after the next of keepalive", 3*time.Second)
		c.CloseNow()
		<-end
		want("after the end", 3*time.Second)
	})
}

// A peer that answers is pinged after each interval of silence, also where the
// time-out is longer than the interval.
func TestIntervalBelowTimeout(t *testing.T) {
	inLab(t, websocket.Config{PingInterval: 10 * time.Second, PingTimeout: time.Minute}, func(t *testing.T, l *lab) {
		start := time.Now()
		p, c := l.open("a ping after each 10 s of silence")
		readingOn(c)
		for i := range 3 {
			at(start, time.Duration(i+1)*10*time.Second)
			p.WritePieces(wantPing(t, p))
		}
	})
}
