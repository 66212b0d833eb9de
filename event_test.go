package websocket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/conformance"
	"github.com/sockeye-ws/websocket/internal/memconn"
)

// A hearer is told, and fails its test if it is told what it must not be.
type hearer struct {
	t       testing.TB
	message func(c *websocket.Conn, typ websocket.MessageType, p []byte) error
	after   func() // what Closed does at last

	inside atomic.Int32
	told   atomic.Int32 // how often Closed was called
	heard  chan string
	closed chan error
}

// newHearer hears, and then does what message does.
func newHearer(t testing.TB, message func(c *websocket.Conn, typ websocket.MessageType, p []byte) error) *hearer {
	return &hearer{t: t, message: message, heard: make(chan string, 10_000), closed: make(chan error, 10)}
}

func (h *hearer) Message(c *websocket.Conn, typ websocket.MessageType, p []byte) error {
	if h.inside.Add(1) != 1 {
		h.t.Error("two messages of a connection are delivered at once")
	}
	defer h.inside.Add(-1)
	if h.told.Load() > 0 {
		h.t.Error("a message is delivered after Closed")
	}
	h.heard <- string(p)
	if h.message == nil {
		return nil
	}
	return h.message(c, typ, p)
}

func (h *hearer) Closed(_ *websocket.Conn, err error) {
	if h.inside.Load() != 0 {
		h.t.Error("Closed is called before Message has returned")
	}
	if h.told.Add(1) != 1 {
		h.t.Error("Closed is called twice")
	}
	h.closed <- err
	if h.after != nil {
		h.after()
	}
}

// want checks that these and no other messages have been heard by now.
func (h *hearer) want(data ...string) {
	h.t.Helper()
	synctest.Wait()
	for _, want := range data {
		select {
		case got := <-h.heard:
			if got != want {
				h.t.Errorf("heard %q, want %q", short(got), short(want))
			}
		default:
			h.t.Errorf("%q is not heard", short(want))
		}
	}
	select {
	case got := <-h.heard:
		h.t.Errorf("heard %q", short(got))
	default:
	}
}

// wantClosed checks that Closed has been called with what all methods of c
// return.
func (h *hearer) wantClosed(t *testing.T, c *websocket.Conn, code websocket.StatusCode, remote bool) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-h.closed:
		wantClosed(t, err, code, remote)
		_, pinged := c.Ping(context.Background())
		_, _, read := c.Read(context.Background())
		for call, other := range map[string]error{
			"Close": c.Close(1000, ""), "CloseNow": c.CloseNow(), "Ping": pinged, "Read": read,
			"Send": c.Send(websocket.Text, nil), "Context": context.Cause(c.Context()),
		} {
			if other != err {
				t.Errorf("Closed has %v, %s says %v", err, call, other)
			}
		}
	default:
		t.Error("Closed is not called")
	}
	if n := h.told.Load(); n != 1 {
		t.Errorf("Closed is called %d times", n)
	}
}

// inEvents is inLab with the Upgrader.
func inEvents(t *testing.T, config websocket.Config, f func(t *testing.T, l *lab, u *websocket.Upgrader)) {
	t.Helper()
	u := &websocket.Upgrader{Config: config}
	inSight(t, u, func(t *testing.T, l *lab) { f(t, l, u) })
}

// wantGone checks that u has no connection any more.
func wantGone(t *testing.T, u *websocket.Upgrader) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := u.Shutdown(ctx); err != nil {
		t.Errorf("all has ended, and Shutdown still has: %v", err)
	}
}

// untilGone waits until u has no connection any more, where time passes by itself.
func untilGone(t *testing.T, u *websocket.Upgrader) {
	t.Helper()
	if left := settled(func() string { return strings.Repeat("x", u.Stats().Open) }); left != "" {
		t.Errorf("%d connections are left", len(left))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := u.Shutdown(ctx); err != nil {
		t.Errorf("all has ended, and Shutdown still has: %v", err)
	}
}

// Closed is called once, whoever ends the connection, with the error that the
// methods return.
func TestEventsHearTheEnd(t *testing.T) {
	for _, end := range ends {
		inEvents(t, websocket.Config{}, func(t *testing.T, l *lab, u *websocket.Upgrader) {
			p, c := l.open(end.name)
			h := newHearer(t, nil)
			c.Start(h)
			p.WritePieces(masked(0x81, "one"))
			h.want("one")
			end.end(p, c)
			h.want()
			time.Sleep(2 * time.Second) // in which what is left of the peer is read
			h.wantClosed(t, c, end.code, end.remote)
			wantGone(t, u)
			if t.Failed() {
				t.Log(end.name)
			}
		})
	}
}

// What Message returns or does ends the connection as for a Handler.
func TestEventsMessageEnds(t *testing.T) {
	tests := []struct {
		name    string
		message func(c *websocket.Conn) error
		code    websocket.StatusCode
		sent    string
	}{
		{"an error", func(*websocket.Conn) error { return errors.New("secret") }, 1011, "88 02 03f3"},
		{"a CloseError", func(*websocket.Conn) error { return &websocket.CloseError{Code: 4001, Reason: "why"} }, 4001, "88 05 0fa1 776879"},
		{"a wrapped CloseError", func(*websocket.Conn) error {
			return fmt.Errorf("it is so: %w", &websocket.CloseError{Code: 1008})
		}, 1008, "88 02 03f0"},
		{"a code that cannot be sent", func(*websocket.Conn) error { return &websocket.CloseError{Code: 1006} }, 1011, "88 02 03f3"},
		{"a panic", func(*websocket.Conn) error { panic("secret") }, 1011, "88 02 03f3"},
		{"a silent panic", func(*websocket.Conn) error { panic(http.ErrAbortHandler) }, 1011, "88 02 03f3"},
		{"Goexit", func(*websocket.Conn) error { runtime.Goexit(); return nil }, 1011, "88 02 03f3"},
		{"Close", func(c *websocket.Conn) error { return c.Close(4000, "") }, 4000, "88 02 0fa0"},
		{"Close and an error", func(c *websocket.Conn) error { c.Close(4000, ""); return errors.New("late") }, 4000, "88 02 0fa0"},
		{"CloseNow", func(c *websocket.Conn) error { return c.CloseNow() }, 1006, ""},
		{"CloseNow and a panic", func(c *websocket.Conn) error { c.CloseNow(); panic("late") }, 1006, ""},
		{"CloseNow and Goexit", func(c *websocket.Conn) error { c.CloseNow(); runtime.Goexit(); return nil }, 1006, ""},
	}
	for _, tt := range tests {
		for how, after := range map[string]func(){
			"": nil, ", and Closed panics": func() { panic("too") }, ", and Closed exits": runtime.Goexit,
		} {
			inEvents(t, websocket.Config{CloseTimeout: time.Second}, func(t *testing.T, l *lab, u *websocket.Upgrader) {
				p, c := l.open(tt.name + how)
				h := newHearer(t, func(c *websocket.Conn, _ websocket.MessageType, _ []byte) error { return tt.message(c) })
				h.after = after
				c.Start(h)
				// The second message is read already, and must not be delivered.
				p.WritePieces(append(masked(0x81, "one"), masked(0x81, "two")...))
				if tt.sent != "" {
					p.Want(tt.sent)
					p.Write("88 80 z")
				}
				p.Rest()
				p.Close()
				h.want("one")
				h.wantClosed(t, c, tt.code, false)
				wantGone(t, u)
				if t.Failed() {
					t.Log(tt.name + how)
				}
			})
		}
	}
}

// A typed nil is no error, as from a Handler.
func TestEventsTypedNil(t *testing.T) {
	inEvents(t, websocket.Config{}, func(t *testing.T, l *lab, _ *websocket.Upgrader) {
		p, c := l.open("Message returned no error, the connection goes on")
		c.Start(newHearer(t, func(*websocket.Conn, websocket.MessageType, []byte) error {
			var none *websocket.CloseError
			return none
		}))
		p.WritePieces(masked(0x81, "one"))
		p.WantOpen()
	})
}

// While Message blocks the connection can end, in bounded time and with its
// transport; Closed waits for Message, and p stays what it is until then.
func TestEventsEndWhileMessageBlocks(t *testing.T) {
	ways := []struct {
		name   string
		end    func(p *conformance.Peer, c *websocket.Conn, u *websocket.Upgrader)
		in     time.Duration
		code   websocket.StatusCode
		remote bool
	}{
		{"CloseNow", func(_ *conformance.Peer, c *websocket.Conn, _ *websocket.Upgrader) { c.CloseNow() }, 0, 1006, false},
		{"Close, answered", func(p *conformance.Peer, c *websocket.Conn, _ *websocket.Upgrader) {
			c.Close(4000, "")
			p.Want("88 02 0fa0")
			p.Write("88 82 z 0fa0")
			p.WantEOF()
			p.Close()
		}, 0, 4000, false},
		{"Close, the peer goes on sending", func(p *conformance.Peer, c *websocket.Conn, _ *websocket.Upgrader) {
			c.Close(4000, "")
			for range 20 {
				p.WritePieces(masked(0x82, strings.Repeat("x", 10_000)))
			}
		}, 6 * time.Second, 4000, false}, // CloseTimeout, then what is left is read for 1 s
		{"Shutdown", func(p *conformance.Peer, c *websocket.Conn, u *websocket.Upgrader) {
			go u.Shutdown(context.Background())
			p.Want("88 02 03e9")
			p.Write("88 80 z")
			p.WantEOF()
			p.Close()
		}, 0, 1001, false},
		{"loss, seen by a Write", func(p *conformance.Peer, c *websocket.Conn, _ *websocket.Upgrader) {
			p.Conn().(*memconn.Conn).Reset()
			c.Write(context.Background(), websocket.Text, []byte("x"))
		}, 0, 1006, true},
	}
	big := strings.Repeat("0123456789", 30_000)
	sendings := map[string][][]byte{
		"small":      {masked(0x82, "borrowed")},
		"second":     {append(masked(0x82, "skip"), masked(0x82, "borrowed, where it was read")...)},
		"two":        {append(masked(0x82, "borrowed"), masked(0x82, "next")...)},
		"large":      {masked(0x82, big)},
		"fragmented": {masked(0x02, "borrow"), masked(0x80, "ed")},
		"in parts":   {masked(0x82, big)[:5000], masked(0x82, big)[5000:]},
	}
	for _, way := range ways {
		for size, pieces := range sendings {
			inEvents(t, websocket.Config{}, func(t *testing.T, l *lab, u *websocket.Upgrader) {
				other, oc := l.open("another connection")
				oh := newHearer(t, nil)
				if way.name != "Shutdown" {
					oc.Start(oh)
				} else {
					oc.CloseNow()
				}
				p, c := l.open(way.name + ", " + size)
				release, same := make(chan struct{}), make(chan bool, 1)
				h := newHearer(t, func(_ *websocket.Conn, _ websocket.MessageType, data []byte) error {
					if string(data) == "skip" {
						return nil
					}
					was := bytes.Clone(data)
					<-release
					same <- bytes.Equal(was, data)
					return nil
				})
				c.Start(h)
				p.WritePieces(pieces...)
				synctest.Wait()
				start := time.Now()
				way.end(p, c, u)
				<-c.Context().Done()
				wantElapsed(t, start, way.in)
				// Others use the buffers that are free now.
				if way.name != "Shutdown" {
					other.WritePieces(masked(0x82, big), masked(0x82, "small"))
					oh.want(big, "small")
				}

				wantPending(t, "Message", h.closed)
				close(release)
				h.wantClosed(t, c, way.code, way.remote)
				if !<-same {
					t.Errorf("%s, %s: p changes while Message has it", way.name, size)
				}
				if t.Failed() {
					t.Log(way.name, size)
				}
			})
		}
	}
}

// A peer that is silent too long is pinged and then lost, in event mode too.
func TestEventsKeepalive(t *testing.T) {
	inEvents(t, websocket.Config{PingInterval: 30 * time.Second, PingTimeout: 20 * time.Second}, func(t *testing.T, l *lab, u *websocket.Upgrader) {
		p, c := l.open("one that answers stays, one that does not is lost")
		h := newHearer(t, nil)
		c.Start(h)
		for range 5 {
			f, ok := p.Next()
			if !ok || f.Op != 9 {
				t.Fatalf("received %v, want a ping", f)
			}
			p.WritePieces(masked(0x8a, string(f.Payload)))
		}
		start := time.Now()
		p.Next()
		<-c.Context().Done()
		if d := time.Since(start); d < 49*time.Second || d > 51*time.Second {
			t.Errorf("lost after %v", d)
		}
		h.wantClosed(t, c, 1006, true)
		if err := c.Close(1000, ""); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("lost by %v", err)
		}
		wantGone(t, u)
	})
}

// A Message that blocks holds up only its own connection, and pings and pongs
// of that one but not what is written on it.
func TestEventsOnlyOneWaits(t *testing.T) {
	inEvents(t, websocket.Config{}, func(t *testing.T, l *lab, _ *websocket.Upgrader) {
		p, c := l.open("what is written leaves, whatever Message does")
		release := make(chan struct{})
		h := newHearer(t, func(c *websocket.Conn, _ websocket.MessageType, data []byte) error {
			if string(data) == "block" {
				if err := c.Write(context.Background(), websocket.Text, []byte("from inside")); err != nil {
					t.Error(err)
				}
				<-release
			}
			return nil
		})
		c.Start(h)
		p.WritePieces(append(masked(0x81, "block"), masked(0x81, "next")...))
		synctest.Wait()
		p.Want("81 0b 66726f6d20696e73696465")
		c.Write(context.Background(), websocket.Text, []byte("a"))
		c.Send(websocket.Text, []byte("b"))
		var g websocket.Group
		g.Add(c)
		g.Send(prepared([]byte("c")))
		synctest.Wait()
		p.Want("81 01 61 81 01 62 82 01 63")
		other, oc := l.open("others are served")
		oh := newHearer(t, nil)
		oc.Start(oh)
		other.WritePieces(masked(0x81, "hello"))
		oh.want("hello")
		other.WantOpen()
		h.want("block")
		close(release)
		h.want("next")
		p.WantOpen()
	})
}

// A connection of event mode does what others do: pings of any goroutine are
// answered, groups reach it, a peer's Close ends it without help.
func TestEventsOnSockets(t *testing.T) {
	for name, secure := range map[string]bool{"TCP": false, "TLS": true} {
		conns := make(chan *websocket.Conn, 1)
		b := loopback(t, http101(func(c *websocket.Conn) { conns <- c }), secure, 0)
		p := b.peer(name)
		c := <-conns
		h := newHearer(t, func(c *websocket.Conn, typ websocket.MessageType, data []byte) error {
			return c.Write(context.Background(), typ, data)
		})
		c.Start(h)
		pinged := async(func() error { _, err := c.Ping(context.Background()); return err })
		f, _ := p.Next()
		p.WritePieces(masked(0x81, "before"), masked(0x8a, string(f.Payload)))
		if err := <-pinged; err != nil {
			t.Errorf("%s: Ping: %v", name, err)
		}
		p.Want("81 06 6265666f7265")
		var g websocket.Group
		g.Add(c)
		g.Send(prepared([]byte("x")))
		p.Want("82 01 78")
		ctx, cancel := context.WithCancel(context.Background())
		pinged = async(func() error { _, err := c.Ping(ctx); return err })
		p.Next()
		cancel()
		if err := <-pinged; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: a Ping that is not answered: %v", name, err)
		}
		p.WantOpen()
		p.Write("88 82 z 03e8")
		p.WantClean("03e8")
		p.Close()
		wantClosed(t, <-h.closed, 1000, true)
		if g.Len() != 0 {
			t.Errorf("%s: it is in its group still", name)
		}
		b.stop()
	}
}

// A peer whose connection is cut while Message blocks sees that at once.
func TestEventsTransportClosesAlthoughMessageBlocks(t *testing.T) {
	for name, secure := range map[string]bool{"TCP": false, "TLS": true} {
		release := make(chan struct{})
		h := newHearer(t, func(*websocket.Conn, websocket.MessageType, []byte) error { <-release; return nil })
		conns := make(chan *websocket.Conn, 1)
		u := &websocket.Upgrader{
			// Nothing comes while Message blocks, so that the peer is lost in the end;
			// not before, though, where a machine is slow.
			Config: websocket.Config{PingInterval: 160 * time.Millisecond, PingTimeout: time.Second, Logger: slog.New(slog.DiscardHandler)},
			Handler: func(c *websocket.Conn) error {
				conns <- c
				c.Start(h)
				return nil
			},
		}
		b := loopback(t, u, secure, 0)
		p := b.peer(name + ": lost while Message blocks")
		p.WritePieces(masked(0x81, "block"))
		<-h.heard
		if _, err := p.Rest(); err == nil || errors.As(err, new(net.Error)) && err.(net.Error).Timeout() {
			t.Errorf("%s: the peer sees %v", name, err)
		}
		c := <-conns
		<-c.Context().Done()
		if len(h.closed) > 0 {
			t.Errorf("%s: Closed comes before Message returns", name)
		}
		close(release)
		wantClosed(t, <-h.closed, 1006, true)
		p.Close()
		untilGone(t, u)
		b.stop()
	}
}
