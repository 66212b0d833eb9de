package websocket_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/conformance"
	"github.com/sockeye-ws/websocket/internal/memconn"
)

// cancelledRead is a Read whose context ends inside a message.
func cancelledRead(t *testing.T, c *websocket.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if _, _, err := c.Read(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Read: %v", err)
	}
}

// readStart reads a few bytes of a message by a Reader.
func readStart(t *testing.T, c *websocket.Conn, want string) io.Reader {
	t.Helper()
	_, r, err := c.Reader(context.Background())
	p := make([]byte, len(want))
	if err == nil {
		_, err = io.ReadFull(r, p)
	}
	if err != nil || string(p) != want {
		t.Errorf("the Reader begins with %q, %v", p, err)
	}
	return r
}

// Whatever was read before Start, no message is lost, doubled or cut.
func TestEventsStartAnywhere(t *testing.T) {
	big := strings.Repeat("0123456789", 10_000)
	tests := []struct {
		name   string
		before func(t *testing.T, p *conformance.Peer, c *websocket.Conn)
		after  []byte // what comes after Start
		heard  []string
	}{
		{"nothing was read", func(*testing.T, *conformance.Peer, *websocket.Conn) {}, masked(0x81, "a"), []string{"a"}},
		{"nothing was read, and a message is there", func(_ *testing.T, p *conformance.Peer, _ *websocket.Conn) {
			p.WritePieces(masked(0x81, "a"))
		}, masked(0x81, "b"), []string{"a", "b"}},
		{"one of several was read", func(t *testing.T, p *conformance.Peer, c *websocket.Conn) {
			p.WritePieces(bytes.Join([][]byte{masked(0x81, "a"), masked(0x81, "b"), masked(0x01, "c")}, nil))
			wantMessage(t, c, websocket.Text, "a")
		}, masked(0x80, "d"), []string{"b", "cd"}},
		{"a Read was cancelled before anything came", func(t *testing.T, _ *conformance.Peer, c *websocket.Conn) {
			cancelledRead(t, c)
		}, masked(0x81, "a"), []string{"a"}},
		{"a Read was cancelled in a header", func(t *testing.T, p *conformance.Peer, c *websocket.Conn) {
			p.WritePieces(masked(0x81, "a")[:3])
			cancelledRead(t, c)
		}, masked(0x81, "a")[3:], []string{"a"}},
		{"a Read was cancelled in a character", func(t *testing.T, p *conformance.Peer, c *websocket.Conn) {
			p.WritePieces(masked(0x81, "a€")[:8])
			cancelledRead(t, c)
		}, masked(0x81, "a€")[8:], []string{"a€"}},
		{"a Read was cancelled in a large message", func(t *testing.T, p *conformance.Peer, c *websocket.Conn) {
			p.WritePieces(masked(0x82, big)[:60_000])
			cancelledRead(t, c)
		}, masked(0x82, big)[60_000:], []string{big}},
		{"a ReadAppend was cancelled between fragments", func(t *testing.T, p *conformance.Peer, c *websocket.Conn) {
			p.WritePieces(masked(0x01, "hel"))
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			dst := make([]byte, 0, 100)
			c.ReadAppend(ctx, dst)
			copy(dst[:100], strings.Repeat("!", 100)) // it is the caller's
		}, masked(0x80, "lo"), []string{"hello"}},
		{"a Reader was not read to its end, which is there", func(t *testing.T, p *conformance.Peer, c *websocket.Conn) {
			p.WritePieces(append(masked(0x81, "hello"), masked(0x81, "a")...))
			readStart(t, c, "he")
		}, masked(0x81, "b"), []string{"a", "b"}},
		{"a Reader was opened and not read", func(t *testing.T, p *conformance.Peer, c *websocket.Conn) {
			p.WritePieces(masked(0x01, "hello"))
			c.Reader(context.Background())
		}, append(masked(0x80, "!"), masked(0x81, "a")...), []string{"a"}},
		{"a cancelled Read was followed by a Reader", func(t *testing.T, p *conformance.Peer, c *websocket.Conn) {
			p.WritePieces(masked(0x81, "hello")[:9])
			cancelledRead(t, c)
			readStart(t, c, "he")
		}, append(masked(0x81, "hello")[9:], masked(0x81, "a")...), []string{"a"}},
		{"a Ping had to stop at a message", func(t *testing.T, p *conformance.Peer, c *websocket.Conn) {
			p.WritePieces(masked(0x81, "a"))
			if _, err := c.Ping(context.Background()); err != websocket.ErrUnreadMessage {
				t.Errorf("Ping: %v", err)
			}
			p.Next()
		}, masked(0x81, "b"), []string{"a", "b"}},
	}
	for _, tt := range tests {
		inEvents(t, websocket.Config{}, func(t *testing.T, l *lab, _ *websocket.Upgrader) {
			p, c := l.open(tt.name)
			tt.before(t, p, c)
			h := newHearer(t, nil)
			c.Start(h)
			p.WritePieces(tt.after)
			h.want(tt.heard...)
			p.WantOpen()
			p.WritePieces(masked(0x82, "on"))
			h.want("on")
			if _, _, err := c.Read(context.Background()); err != websocket.ErrConcurrentRead {
				t.Errorf("Read after Start: %v", err)
			}
			if t.Failed() {
				t.Log(tt.name)
			}
		})
	}
}

// A Reader's rest that comes after Start is skipped, and the Reader of before
// does not get it.
func TestEventsStartInsideAReader(t *testing.T) {
	inEvents(t, websocket.Config{}, func(t *testing.T, l *lab, _ *websocket.Upgrader) {
		big := strings.Repeat("0123456789", 10_000)
		p, c := l.open("a Reader loses its message to Start")
		p.WritePieces(masked(0x02, big)[:50_000])
		r := readStart(t, c, "0123")
		h := newHearer(t, nil)
		c.Start(h)
		synctest.Wait()
		if n, err := r.Read(make([]byte, 1)); n != 0 || err != websocket.ErrConcurrentRead {
			t.Errorf("the Reader: %d, %v", n, err)
		}
		p.WritePieces(masked(0x02, big)[50_000:], masked(0x80, "end"), masked(0x81, "a"))
		h.want("a")
	})
}

// A call that reads as Start is called comes to its end first.
func TestEventsStartBesideACall(t *testing.T) {
	inEvents(t, websocket.Config{}, func(t *testing.T, l *lab, _ *websocket.Upgrader) {
		p, c := l.open("the Read in progress has its message")
		read := async(func() message { return readOne(context.Background(), c) })
		synctest.Wait()
		h := newHearer(t, nil)
		c.Start(h)
		p.WritePieces(append(masked(0x81, "a"), masked(0x81, "b")...))
		if m := done(t, "Read", read); m.data != "a" || m.err != nil {
			t.Errorf("Read: %+v", m)
		}
		h.want("b")

		p, c = l.open("what a cancelled Read has left is heard")
		ctx, cancel := context.WithCancel(context.Background())
		read = async(func() message { return readOne(ctx, c) })
		p.WritePieces(masked(0x81, "hello")[:8])
		synctest.Wait()
		h = newHearer(t, nil)
		c.Start(h)
		cancel()
		wantContextError(t, "Read", done(t, "Read", read).err, ctx)
		p.WritePieces(masked(0x81, "hello")[8:])
		h.want("hello")

		p, c = l.open("the Ping in progress gets its pong")
		ping := async(func() error { _, err := c.Ping(context.Background()); return err })
		f, _ := p.Next()
		synctest.Wait()
		h = newHearer(t, nil)
		c.Start(h)
		p.WritePieces(append(masked(0x81, "a"), masked(0x8a, string(f.Payload))...))
		if err := done(t, "Ping", ping); err != nil {
			t.Errorf("Ping: %v", err)
		}
		h.want("a")
	})
}

// A second Start, and one after CloseRead, does nothing.
func TestEventsStartTwice(t *testing.T) {
	inEvents(t, websocket.Config{}, func(t *testing.T, l *lab, _ *websocket.Upgrader) {
		p, c := l.open("the first has all")
		first, second := newHearer(t, nil), newHearer(t, nil)
		c.Start(first)
		c.Start(second)
		c.CloseRead()
		for _, read := range []func() error{
			func() error { _, _, err := c.Read(context.Background()); return err },
			func() error { _, _, err := c.ReadAppend(context.Background(), nil); return err },
			func() error { _, _, err := c.Reader(context.Background()); return err },
			func() error {
				for _, err := range c.Messages(context.Background()) {
					return err
				}
				return nil
			},
		} {
			if err := read(); err != websocket.ErrConcurrentRead {
				t.Errorf("a read after Start: %v", err)
			}
		}
		p.WritePieces(masked(0x81, "a"))
		first.want("a")
		p.Write("88 80 z")
		p.WantClean("")
		p.Close()
		first.wantClosed(t, c, 1005, true)
		second.want()
		if second.told.Load() != 0 {
			t.Error("the second is told of the end")
		}

		p, c = l.open("CloseRead has all")
		c.CloseRead()
		h := newHearer(t, nil)
		c.Start(h)
		p.WritePieces(masked(0x81, "a"))
		p.WantFail(1003)
		p.Close()
		h.want()
		if h.told.Load() != 0 {
			t.Error("Start after CloseRead does something")
		}
	})
}

// Started at any moment of the end, Events hear of it once.
func TestEventsStartAtTheEnd(t *testing.T) {
	for _, after := range []time.Duration{0, time.Second, 4 * time.Second, time.Hour} {
		inEvents(t, websocket.Config{}, func(t *testing.T, l *lab, _ *websocket.Upgrader) {
			p, c := l.open("Closed is called when all is over")
			c.Close(4000, "") // the peer does not answer: 5 s, and 1 s to drain
			p.Want("88 02 0fa0")
			p.WritePieces(masked(0x81, "too late"))
			time.Sleep(after)
			h := newHearer(t, nil)
			c.Start(h)
			if synctest.Wait(); after < 5*time.Second {
				wantPending(t, "Closed", h.closed)
				time.Sleep(time.Hour)
			}
			h.want()
			h.wantClosed(t, c, 4000, false)
		})
	}
}

// A handler that has called Start may return nil: the connection stays; an
// error or a panic ends it all the same.
func TestEventsStartInTheHandler(t *testing.T) {
	for name, tt := range map[string]struct {
		leave func() error
		code  websocket.StatusCode
	}{
		"nil":          {func() error { return nil }, 0},
		"typed nil":    {func() error { return (*websocket.CloseError)(nil) }, 0},
		"a CloseError": {func() error { return &websocket.CloseError{Code: 4001} }, 4001},
		"an error":     {func() error { return errors.New("secret") }, 1011},
		"a panic":      {func() error { panic("secret") }, 1011},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHearer(t, nil)
			conns := make(chan *websocket.Conn, 1)
			u := &websocket.Upgrader{
				Config: websocket.Config{Logger: slog.New(slog.DiscardHandler)},
				Handler: func(c *websocket.Conn) error {
					conns <- c
					c.Start(h)
					return tt.leave()
				},
			}
			b := inMemory(t, u)
			defer b.stop()
			p := b.peer(name)
			c := <-conns
			if tt.code == 0 {
				p.WritePieces(masked(0x81, "a"))
				h.want("a")
				p.WantOpen()
				c.CloseNow()
				p.Close()
				h.wantClosed(t, c, 1006, false)
			} else {
				p.WantFail(int(tt.code))
				p.Close()
				h.wantClosed(t, c, tt.code, false)
			}
			wantGone(t, u)
		})
	}
}

// What came together with the handshake is heard, by ServeHTTP and Upgrade.
func TestEventsStartWithEarlyBytes(t *testing.T) {
	const request = "GET /ws HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
	for _, early := range [][][]byte{
		{masked(0x81, "a"), masked(0x81, "b")},
		{append(masked(0x81, "a"), masked(0x81, "b")[:4]...), masked(0x81, "b")[4:]},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHearer(t, nil)
			b := inMemory(t, http101(func(c *websocket.Conn) { c.Start(h) }))
			defer b.stop()
			conn, err := b.dial()
			if err != nil {
				t.Fatal(err)
			}
			conn.Write(append([]byte(request), early[0]...))
			synctest.Wait()
			conn.Write(early[1])
			h.want("a", "b")
			conn.Read(make([]byte, conn.(*memconn.Conn).Unread())) // the answer
			conn.Close()
			synctest.Wait()
			if err := <-h.closed; !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("closed with %v", err)
			}
		})
	}
}
