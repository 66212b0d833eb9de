package websocket_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/conformance"
	"github.com/sockeye-ws/websocket/internal/memconn"
)

// Ways to send a message without waiting, and one that may wait.
var sendings = []struct {
	name string
	send func(c *websocket.Conn, p []byte) error
}{
	{"Write", func(c *websocket.Conn, p []byte) error {
		return c.Write(context.Background(), websocket.Binary, p)
	}},
	{"Send", func(c *websocket.Conn, p []byte) error { return c.Send(websocket.Binary, p) }},
	{"SendPrepared", func(c *websocket.Conn, p []byte) error { return c.SendPrepared(prepared(p)) }},
	{"Group", func(c *websocket.Conn, p []byte) error {
		var g websocket.Group
		g.Add(c)
		defer g.Remove(c)
		if accepted, _ := g.Send(prepared(p)); accepted == 1 {
			return nil
		}
		if err := c.Send(0, nil); errors.As(err, new(*websocket.CloseError)) {
			return err
		}
		return websocket.ErrQueueFull
	}},
}

func prepared(p []byte) *websocket.Prepared {
	m, err := websocket.NewPrepared(websocket.Binary, p)
	if err != nil {
		panic(err)
	}
	return m
}

// binaryFrame is one message of the server.
func binaryFrame(payload string) []byte {
	return conformance.Frame{Fin: true, Op: 2, Payload: []byte(payload)}.Append(nil)
}

// numbered is message i of a writer, of a size of its own.
func numbered(writer, i int) []byte {
	p := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, uint16(writer)), uint16(i))
	return append(p, bytes.Repeat([]byte{byte(writer + i)}, (writer*31+i*7)%150)...)
}

// L-17: messages of many goroutines come whole, those of one in its order, with
// pongs between them, however they are sent.
func TestL17ManySenders(t *testing.T) {
	const writers, each = 50, 1000
	run := func(t *testing.T, p *conformance.Peer, c *websocket.Conn, send func(*websocket.Conn, []byte) error) {
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := range each {
					if err := send(c, numbered(w, i)); err != nil {
						t.Errorf("writer %d, message %d: %v", w, i, err)
						return
					}
				}
			})
		}
		next := make([]int, writers)
		pings, pongs := 0, 0
		for got := 0; got < writers*each || pongs < pings; {
			f, ok := p.Next()
			if !ok {
				break
			}
			if f.Op == 0xa {
				if want := fmt.Sprint(pongs); string(f.Payload) != want {
					t.Fatalf("pong %q, want %s", f.Payload, want)
				}
				pongs++
				continue
			}
			w, i := int(binary.BigEndian.Uint16(f.Payload)), int(binary.BigEndian.Uint16(f.Payload[2:]))
			if i != next[w] || !bytes.Equal(f.Payload, numbered(w, i)) {
				t.Fatalf("writer %d: message %d of %d bytes, want %d", w, i, len(f.Payload), next[w])
			}
			next[w]++
			if got++; got%100 == 1 {
				p.WritePieces(masked(0x89, fmt.Sprint(pings)))
				pings++
			}
		}
		wg.Wait()
		for w, n := range next {
			if n != each {
				t.Errorf("writer %d: %d messages came", w, n)
			}
		}
		// The peer has the last bytes before who wrote them has counted them.
		if left := settled(func() string {
			if b, m := c.Queued(); b != 0 || m != 0 {
				return fmt.Sprintf("%d bytes of %d messages", b, m)
			}
			return ""
		}); left != "" {
			t.Errorf("%s are queued at the end", left)
		}
	}
	config := websocket.Config{WriteQueue: 64 << 20, Logger: slog.New(slog.DiscardHandler)}
	for _, s := range sendings[:2] {
		t.Run("in memory/"+s.name, func(t *testing.T) {
			inLab(t, config, func(t *testing.T, l *lab) {
				p, c := l.open("L-17")
				p.Settle = nil
				readingOn(c)
				run(t, p, c, s.send)
			})
		})
		t.Run("TCP/"+s.name, func(t *testing.T) {
			conns := make(chan *websocket.Conn, 1)
			b := overTCP(t, &websocket.Upgrader{Config: config, Handler: func(c *websocket.Conn) error {
				conns <- c
				return <-readingOn(c)
			}})
			defer b.stop()
			p := b.peer("L-17")
			defer p.Close()
			run(t, p, <-conns, s.send)
		})
	}
}

// Invariant 15: what a handler has written leaves at once, though another
// message has come that it could read, and it never makes a further call.
func TestAnswerOfABlockedHandler(t *testing.T) {
	ways := slices.Clone(sendings)
	ways = append(ways, struct {
		name string
		send func(c *websocket.Conn, p []byte) error
	}{"Writer", func(c *websocket.Conn, p []byte) error {
		w, err := c.Writer(context.Background(), websocket.Binary)
		if err == nil {
			w.Write(p)
			err = w.Close()
		}
		return err
	}})
	for _, s := range ways {
		for _, before := range []int{0, 1, 16, 17, 200} { // messages in a row, from which the pace learns
			t.Run(fmt.Sprint(s.name, " ", before), func(t *testing.T) {
				inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
					p, c := l.open("invariant 15")
					for range before {
						s.send(c, []byte("before"))
					}
					for range before {
						p.WantBytes(binaryFrame("before"))
					}
					start := time.Now()
					p.WritePieces(slices.Concat(masked(0x82, "first"), masked(0x82, "second")))
					wantMessage(t, c, websocket.Binary, "first")
					if err := s.send(c, []byte("answer")); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
					if n := unread(p); n != len(binaryFrame("answer")) {
						t.Errorf("%d bytes have come", n)
					}
					p.WantBytes(binaryFrame("answer"))
					wantElapsed(t, start, 0)
				})
			})
		}
	}
	for _, call := range []string{"Read", "Reader"} {
		t.Run("a pong before the message/"+call, func(t *testing.T) {
			inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
				p, c := l.open("invariant 15")
				start := time.Now()
				p.WritePieces(slices.Concat(masked(0x89, "1"), masked(0x02, "be"), masked(0x89, "2"), masked(0x80, "gin"), masked(0x89, "3"), masked(0x82, "second")))
				want := "8a 01 31"
				if call == "Read" {
					wantMessage(t, c, websocket.Binary, "begin")
					want += "8a 01 32"
				} else if _, _, err := c.Reader(context.Background()); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if n := unread(p); n != len(notation(want)) {
					t.Errorf("%d bytes have come", n)
				}
				p.Want(want)
				wantElapsed(t, start, 0)
			})
		})
	}
}

// stalled opens a connection whose peer takes nothing more.
func (l *lab) stalled(rule string) (p *conformance.Peer, c *websocket.Conn, server *memconn.Conn) {
	l.t.Helper()
	p, c, server = l.openServer(rule)
	server.StallWriteAfter(0)
	return p, c, server
}

// mustSend sends messages of the given names, without time passing.
func mustSend(t *testing.T, c *websocket.Conn, names ...string) {
	t.Helper()
	start := time.Now()
	for _, name := range names {
		if err := c.Send(websocket.Binary, sized(name, 98)); err != nil {
			t.Errorf("Send of %s: %v", name, err)
		}
		synctest.Wait()
	}
	wantElapsed(t, start, 0)
}

// sized is a payload of n bytes; 98 make a frame of 100.
func sized(name string, n int) []byte {
	return append([]byte(name), bytes.Repeat([]byte{'.'}, n-len(name))...)
}

func wantQueued(t *testing.T, c *websocket.Conn, bytes, messages int) {
	t.Helper()
	synctest.Wait()
	if b, m := c.Queued(); b != bytes || m != messages {
		t.Errorf("Queued: %d bytes, %d messages; want %d, %d", b, m, bytes, messages)
	}
}

// wantNames receives these messages, and nothing else, and without waiting.
func wantNames(t *testing.T, p *conformance.Peer, names ...string) {
	t.Helper()
	start := time.Now()
	for _, name := range names {
		if f, ok := p.Next(); !ok || strings.TrimRight(string(f.Payload), ".") != name {
			t.Fatalf("received %v, want %q", f, name)
		}
	}
	p.WantNothing()
	if d := time.Since(start); d > time.Nanosecond { // WantNothing looks for so long
		t.Errorf("waited %v", d)
	}
}

// Write waits while the queue is full, for as long as its context lets it.
func TestWriteWaitsForRoom(t *testing.T) {
	inLab(t, websocket.Config{WriteQueue: 1000}, func(t *testing.T, l *lab) {
		p, c, server := l.stalled("Write waits while the queue is full")
		write := func(ctx context.Context, name string) <-chan error {
			return async(func() error { return c.Write(ctx, websocket.Binary, sized(name, 98)) })
		}
		var calls []<-chan error
		var names []string
		first := write(context.Background(), "first") // waits for the network, not for room
		wantPending(t, "the first Write", first)
		for i := range 10 {
			names = append(names, fmt.Sprint("queued ", i))
			if err := done(t, "Write", write(context.Background(), names[i])); err != nil {
				t.Error(err)
			}
		}
		wantQueued(t, c, 1000, 10)
		ctx, cancel := context.WithCancelCause(context.Background())
		given := write(ctx, "given up")
		for i := range 3 {
			names = append(names, fmt.Sprint("waits ", i))
			synctest.Wait()
			calls = append(calls, write(context.Background(), names[10+i]))
		}
		wantPending(t, "the Write to be given up", given)
		wantPending(t, "a Write", calls[0])
		cancel(errors.New("why"))
		wantContextError(t, "Write", done(t, "the one given up", given), ctx)
		wantPending(t, "a Write", calls[0])
		wantQueued(t, c, 1000, 10)
		server.StallWriteAfter(-1)
		wantNames(t, p, append([]string{"first"}, names...)...)
		for _, call := range append(calls, first) {
			if err := done(t, "Write", call); err != nil {
				t.Error(err)
			}
		}
		wantQueued(t, c, 0, 0)
		wantOpen(t, p, c)
	})
}

// A message is accepted up to WriteQueue, on the wire, and a larger one when
// nothing else is queued.
func TestWriteQueueBounds(t *testing.T) {
	const limit = 1000
	for _, s := range sendings[1:] {
		for _, tt := range []struct {
			queued, size int // of frames
			full         bool
		}{
			{0, limit - 1, false}, {0, limit, false}, {0, limit + 1, false}, {0, 100 * limit, false},
			{100, limit - 101, false}, {100, limit - 100, false}, {100, limit - 99, true}, {100, 100 * limit, true},
			{limit, 2, true}, {limit + 1, 2, true}, {limit - 2, 2, false},
		} {
			inLab(t, websocket.Config{WriteQueue: limit, Overflow: websocket.DropNewest}, func(t *testing.T, l *lab) {
				p, c, server := l.stalled("limits are exact")
				var want []byte
				messages, bytes := 0, 0
				for i, size := range []int{tt.queued, tt.size} {
					if size == 0 {
						continue
					}
					name := payloadOf(size)
					err := s.send(c, []byte(name))
					if i == 1 && tt.full {
						if err != websocket.ErrQueueFull {
							t.Errorf("%s of %d beside %d: %v", s.name, size, tt.queued, err)
						}
						continue
					}
					if err != nil {
						t.Errorf("%s of %d beside %d: %v", s.name, size, tt.queued, err)
					}
					want = append(want, binaryFrame(name)...)
					messages++
					bytes += size
				}
				wantQueued(t, c, bytes, messages)
				server.StallWriteAfter(-1)
				p.WantBytes(want)
				wantQueued(t, c, 0, 0)
				wantOpen(t, p, c)
			})
		}
	}
}

// payloadOf is what makes a frame of n bytes.
func payloadOf(n int) string {
	for head := 2; ; head++ {
		if p := strings.Repeat("x", n-head); len(binaryFrame(p)) == n {
			return p
		}
	}
}

// A queue that takes nothing, and an Overflow without a meaning, are mistakes
// that every handshake tells.
func TestSendConfigs(t *testing.T) {
	for _, config := range []websocket.Config{{WriteQueue: -1}, {WriteQueue: -1 << 31}, {Overflow: websocket.DropOldest + 1}} {
		synctest.Test(t, func(t *testing.T) {
			book := new(logBook)
			config.Logger = slog.New(book)
			b := inMemory(t, &websocket.Upgrader{Config: config, Handler: func(*websocket.Conn) error { return nil }})
			defer b.stop()
			for range 2 {
				conn, err := b.dial()
				if err != nil {
					t.Fatal(err)
				}
				io.WriteString(conn, "GET /ws HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
					"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
				answer := make([]byte, 12)
				io.ReadFull(conn, answer)
				if string(answer) != "HTTP/1.1 500" {
					t.Errorf("%+v: answered %q", config, answer)
				}
				conn.Close()
			}
			if log := book.from(slog.LevelError); len(log) == 0 || !strings.Contains(log[0], "Config.") {
				t.Errorf("%+v: logged %q", config, log)
			}
		})
	}
}

// What Send refuses leaves the connection as it was, and what it has accepted
// is the caller's again.
func TestSendMisuse(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		p, c, server := l.stalled("misuse is refused")
		if err := c.Send(websocket.Text, []byte("a\xff")); err != websocket.ErrInvalidUTF8 {
			t.Errorf("Send: %v", err)
		}
		if err := c.Send(0, nil); err == nil || !strings.Contains(err.Error(), "neither Text nor Binary") {
			t.Errorf("Send: %v", err)
		}
		if _, err := websocket.NewPrepared(websocket.Text, []byte("a\xff")); err != websocket.ErrInvalidUTF8 {
			t.Errorf("NewPrepared: %v", err)
		}
		if _, err := websocket.NewPrepared(8, nil); err == nil || !strings.Contains(err.Error(), "neither Text nor Binary") {
			t.Errorf("NewPrepared: %v", err)
		}
		wantQueued(t, c, 0, 0)
		data := []byte("hello")
		m, err := websocket.NewPrepared(websocket.Text, data)
		if err != nil || c.Send(websocket.Text, data) != nil || c.SendPrepared(m) != nil {
			t.Fatal("refused")
		}
		clear(data)
		if err := c.SendPrepared(m); err != nil {
			t.Error(err)
		}
		server.StallWriteAfter(-1)
		p.Want("81 05 68656c6c6f 81 05 68656c6c6f 81 05 68656c6c6f")
		wantOpen(t, p, c)
	})
}

// untilFull waits until the socket of a connection whose peer takes nothing is full
// for good, and returns how much is queued then: the kernel finds room for some
// more when it acknowledges what it has, which it puts off by up to 200 ms.
func untilFull(t *testing.T, c *websocket.Conn) int {
	t.Helper()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	patience := time.After(time.Minute)
	queued, same := -1, 0
	for same < 50 { // looks, and not half a second, in which nobody may have had a turn
		select {
		case <-again.C:
		case <-patience:
			t.Fatal("the socket takes on and on")
		}
		if b, _ := c.Queued(); b == queued {
			same++
		} else {
			queued, same = b, 0
		}
	}
	return queued
}

// Over real TCP, pings overtake what is stuck behind a full socket, in their
// order, and the Close frame nothing.
func TestPingOvertakesTCP(t *testing.T) {
	conns := make(chan *websocket.Conn, 1)
	config := websocket.Config{WriteQueue: 8 << 20, WriteTimeout: 5 * time.Minute, Overflow: websocket.DropNewest, Logger: slog.New(slog.DiscardHandler)}
	b := loopback(t, &websocket.Upgrader{Config: config, Handler: func(c *websocket.Conn) error {
		conns <- c
		return <-readingOn(c)
	}}, false, 128<<10) // less than two segments would be sent by a timer, one each 200 ms
	defer b.stop()
	p := b.peer("only pings and pongs overtake")
	defer p.Close()
	c := <-conns
	sent := 0
	for c.Send(websocket.Binary, numbered(1, sent)) == nil {
		if sent++; sent == 1<<16 {
			break
		}
	}
	full := untilFull(t, c)
	for i := range 3 {
		p.WritePieces(masked(0x89, fmt.Sprint(i)))
	}
	answered := async(func() error { _, err := c.Ping(context.Background()); return err })
	// Nothing is read before all four wait: they overtake what is stuck, and while
	// the peer reads nothing need be.
	if left := settled(func() string {
		if b, _ := c.Queued(); b != full+3*3+10 {
			return fmt.Sprintf("%d bytes are queued, with pings and pongs; %d without", b, full)
		}
		return ""
	}); left != "" {
		t.Fatal(left)
	}
	var got []string
	data, before := 0, 0
	for data < sent || len(got) < 4 {
		f, ok := p.Next()
		if !ok {
			t.Fatalf("after %d of %d messages and %q", data, sent, got)
		}
		switch f.Op {
		case 2:
			if !bytes.Equal(f.Payload, numbered(1, data)) {
				t.Fatalf("%v in place of message %d", f, data)
			}
			data++
		case 9:
			p.WritePieces(masked(0x8a, string(f.Payload)))
			got = append(got, "ping")
		case 0xa:
			got = append(got, string(f.Payload))
		}
		if len(got) < 4 {
			before = data
		}
	}
	if before > sent/2 {
		t.Errorf("%q came behind %d of %d messages", got, before, sent)
	}
	if err := <-answered; err != nil {
		t.Errorf("Ping: %v", err)
	}
	if pongs := slices.DeleteFunc(got, func(s string) bool { return s == "ping" }); !slices.Equal(pongs, []string{"0", "1", "2"}) {
		t.Errorf("pongs come as %q", pongs)
	}
	for i := range 1000 {
		c.Send(websocket.Binary, numbered(2, i))
	}
	if err := c.Close(1000, ""); err != nil {
		t.Error(err)
	}
	for i := range 1000 {
		if f, ok := p.Next(); !ok || !bytes.Equal(f.Payload, numbered(2, i)) {
			t.Fatalf("%v in place of message %d", f, i)
		}
	}
	p.Want("88 02 03e8")
	p.Write("88 82 z 03e8")
	p.WantEOF()
}
