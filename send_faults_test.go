package websocket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/conformance"
	"github.com/sockeye-ws/websocket/internal/memconn"
)

// The peer is cut when it has taken nothing of a piece for WriteTimeout, to the
// moment. Time in which nothing had to be taken does not count.
func TestSendWriteTimeout(t *testing.T) {
	const timeout = 7 * time.Second
	inLab(t, websocket.Config{WriteTimeout: timeout}, func(t *testing.T, l *lab) {
		size := l.answerSize()
		p, c, server := l.openServer("a peer that takes nothing is cut")
		read := readingOn(c)
		mustSend(t, c, "0")
		wantNames(t, p, "0")
		time.Sleep(time.Hour)
		server.StallWriteAfter(size + 100)
		mustSend(t, c, "1", "2", "3")
		for _, more := range []int64{1, 3} { // the first message, and the two others with one call
			time.Sleep(timeout - 1)
			wantPending(t, "Read", read)
			server.StallWriteAfter(size + 100 + 100*more)
			synctest.Wait()
		}
		wantQueued(t, c, 0, 0)
		time.Sleep(time.Hour)
		mustSend(t, c, "4", "5")
		start := time.Now()
		time.Sleep(timeout - 1)
		wantPending(t, "Read", read)
		wantTimeout(t, <-read)
		wantElapsed(t, start, timeout)
		wantTimeout(t, c.Send(websocket.Text, nil))
		wantLost(t, p, "1", "2", "3")
		wantQueued(t, c, 0, 0)
	})
}

// wantLost receives these messages and then the loss of the connection.
func wantLost(t *testing.T, p *conformance.Peer, names ...string) {
	t.Helper()
	frames, err := p.Rest()
	if len(frames) != len(names) || err == nil {
		t.Fatalf("received %d messages, %v; want %q", len(frames), err, names)
	}
	for i, f := range frames {
		if strings.TrimRight(string(f.Payload), ".") != names[i] {
			t.Errorf("received %v, want %q", f, names[i])
		}
	}
}

// A shutdown of many connections that are all stuck does not wait for any.
func TestCloseManyWithFullQueues(t *testing.T) {
	const timeout = 7 * time.Second
	inLab(t, websocket.Config{WriteQueue: 1000, WriteTimeout: timeout, Overflow: websocket.DropNewest}, func(t *testing.T, l *lab) {
		var conns []*websocket.Conn
		var waiting []<-chan error
		start := time.Now()
		for range 100 {
			_, c, _ := l.stalled("Close waits for nobody")
			for i := range 11 {
				if err := c.Send(websocket.Binary, sized("", 98)); (err != nil) != (i == 10) {
					t.Errorf("Send %d: %v", i, err)
				}
			}
			conns = append(conns, c)
			waiting = append(waiting, async(func() error { return c.Write(context.Background(), websocket.Binary, make([]byte, 98)) }))
		}
		synctest.Wait()
		for i, c := range conns {
			if i%2 == 0 {
				c.Close(1001, "")
			} else {
				c.CloseNow()
			}
		}
		for i, c := range conns {
			if err := done(t, "a Write that waited", waiting[i]); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Write: %v", err)
			}
			if i%2 == 1 {
				wantOver(t, c)
			}
		}
		wantElapsed(t, start, 0)
		for _, c := range conns {
			<-c.Context().Done()
			wantQueued(t, c, 0, 0)
		}
		wantElapsed(t, start, timeout)
	})
}

// Over real sockets that nobody reads, Send never waits, and neither does an
// end; the connection is cut in time.
func TestSendStuckSocket(t *testing.T) {
	for name, secure := range map[string]bool{"TCP": false, "TLS": true} {
		for _, tt := range []struct {
			end     string
			timeout time.Duration // WriteTimeout
		}{{"Close", time.Minute}, {"CloseNow", time.Minute}, {"Disconnect", time.Minute}, {"Close", time.Second}, {"Disconnect", time.Second}} {
			end := tt.end
			t.Run(fmt.Sprint(name, "/", end, "/", tt.timeout), func(t *testing.T) {
				config := websocket.Config{WriteQueue: 512 << 10, WriteTimeout: tt.timeout, Logger: slog.New(slog.DiscardHandler)}
				if end != "Disconnect" {
					config.Overflow = websocket.DropNewest
				}
				conns := make(chan *websocket.Conn, 1)
				b := loopback(t, &websocket.Upgrader{Config: config, Handler: func(c *websocket.Conn) error {
					conns <- c
					<-c.Context().Done()
					return nil
				}}, secure, 16<<10)
				defer b.stop()
				p := b.peer("nobody waits for a peer that takes nothing")
				defer p.Close()
				c := <-conns
				passed, stop := sandglass()
				defer stop()
				start := time.Now()
				var err error
				for err == nil && time.Since(start) < 30*time.Second {
					err = c.Send(websocket.Binary, make([]byte, 10<<10))
				}
				var lost *websocket.CloseError
				switch late := errors.As(err, &lost) && lost.Timeout(); {
				case late && tt.timeout == time.Second: // before the queue was full, on a slow machine
					err = nil
				case end == "Disconnect":
					wantClosed(t, err, 1008, false)
					err = nil
				case end == "Close":
					ended := c.Close(1000, "")
					if tt.timeout == time.Second && errors.As(ended, &lost) && lost.Timeout() { // the same
						ended = nil
					}
					err = errors.Join(ended, is(err, websocket.ErrQueueFull))
				default:
					err = errors.Join(c.CloseNow(), is(err, websocket.ErrQueueFull))
				}
				if d := time.Since(start); d > 30*time.Second || err != nil { // who waits for the peer takes a minute
					t.Errorf("%s took %v: %v", end, d, err)
				}
				if tt.timeout == time.Minute {
					c.CloseNow()
				}
				wantEnd(t, c)
				if d := passed(); d > 4*time.Second {
					t.Errorf("the connection was cut after %v", d)
				}
			})
		}
	}
}

func is(err, want error) error {
	if !errors.Is(err, want) {
		return fmt.Errorf("%v, want %v", err, want)
	}
	return nil
}

// Each of many single messages leaves at once, whatever the tries cost that
// find out whether more are about to come.
func TestSendLeavesAtOnce(t *testing.T) {
	var g websocket.Group // one that learns
	for _, s := range append(sendings[:3:3], sendings[3], struct {
		name string
		send func(c *websocket.Conn, p []byte) error
	}{"a lasting Group", func(c *websocket.Conn, p []byte) error {
		g.Add(c)
		g.Send(prepared(p))
		return nil
	}}) {
		t.Run(s.name, func(t *testing.T) {
			inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
				p, c := l.open("what is sent leaves at once")
				for i := range 700 {
					if err := s.send(c, sized(fmt.Sprint(i), 98)); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
					if n := unread(p); n != 100 {
						t.Fatalf("message %d: %d bytes have come", i, n)
					}
					wantNames(t, p, fmt.Sprint(i))
					if i%100 == 99 { // and after many in a row
						for range 50 {
							s.send(c, sized("row", 98))
						}
						wantNames(t, p, slices.Repeat([]string{"row"}, 50)...)
					}
				}
			})
		})
	}
}

// A faulty connection does something odd once so many bytes have been written.
type faulty struct {
	*memconn.Conn
	mu   sync.Mutex
	left int // bytes until then; negative: it has happened
	how  string
}

func (f *faulty) Write(p []byte) (int, error) {
	f.mu.Lock()
	at := f.left
	f.left = max(f.left-len(p), -1)
	f.mu.Unlock()
	switch {
	case at < 0 || at >= len(p):
		if at >= 0 && at == len(p) {
			f.mu.Lock()
			f.left = 0
			f.mu.Unlock()
		}
		return f.Conn.Write(p)
	case f.how == "none":
		return 0, nil
	}
	return f.Conn.Write(p[:at]) // and no error
}

// Whatever a connection does wrong, and wherever, what came is a beginning of
// what would have come, nobody waits longer than is said, there is one end, and
// nothing stays in the queue.
func TestFaultsWhereverTheyHappen(t *testing.T) {
	var whole []byte
	synctest.Test(t, func(t *testing.T) { whole = converse(t, "", 1<<20) })
	if n := len(whole); n < 300 || !bytes.HasSuffix(whole, notation("88 02 03e8")) {
		t.Fatalf("%d bytes without a fault: %x", n, whole)
	}
	broken := &net.OpError{Op: "write", Err: syscall.EIO}
	for _, how := range []string{"error", "stall", "short", "none"} {
		t.Run(how, func(t *testing.T) {
			step := 1
			if testing.Short() {
				step = 7
			}
			for k := 0; k <= len(whole) && !t.Failed(); k += step {
				synctest.Test(t, func(t *testing.T) {
					got := converse(t, how, k, broken)
					if !bytes.HasPrefix(whole, got) || len(got) > k || len(got) < k && how != "none" {
						t.Errorf("%s after %d bytes: %d came, want a beginning of what comes without", how, k, len(got))
					}
				})
			}
		})
	}
}

// converse plays a conversation over a connection with a fault after k bytes,
// and returns what the peer got.
func converse(t *testing.T, how string, k int, broken ...error) []byte {
	peer, server := memconn.Pair()
	server.SetBuffer(1 << 20)
	f := &faulty{Conn: server, left: -1, how: how}
	c := upgraded(t, f)
	answer := make([]byte, peer.Unread())
	io.ReadFull(peer, answer)
	got := async(func() []byte { b, _ := io.ReadAll(peer); return b })
	switch how {
	case "error":
		server.FailWriteAfter(int64(len(answer)+k), broken[0])
	case "stall":
		server.StallWriteAfter(int64(len(answer) + k))
	case "short", "none":
		f.left = k
	}
	var ends []error
	call := func(what string, bound time.Duration, f func() error) {
		start := time.Now()
		if err := f(); err != nil {
			ends = append(ends, err)
		}
		if d := time.Since(start); d > bound {
			t.Errorf("%s after %d bytes: %s took %v", how, k, what, d)
		}
		synctest.Wait()
	}
	const timeout = 10 * time.Second // the default of WriteTimeout
	ctx := context.Background()
	read := readingOn(c)
	call("Write", timeout, func() error { return c.Write(ctx, websocket.Binary, []byte("one")) })
	call("Send", 0, func() error { return c.Send(websocket.Text, []byte("two")) })
	call("Send", 0, func() error { return c.Send(websocket.Binary, sized("three", 130)) })
	peer.Write(masked(0x89, "ping"))
	synctest.Wait()
	call("Writer", timeout, func() error {
		w, err := c.Writer(ctx, websocket.Binary)
		if err != nil {
			return err
		}
		w.Write(sized("four", 200))
		return w.Close()
	})
	call("Write", timeout, func() error { return c.Write(ctx, websocket.Binary, nil) })
	call("Ping", 3*time.Second, func() error {
		given, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		if _, err := c.Ping(given); !errors.Is(err, context.DeadlineExceeded) || errors.As(err, new(*websocket.CloseError)) {
			return err
		}
		return nil
	})
	call("SendPrepared", 0, func() error { return c.SendPrepared(prepared(sized("five", 20))) })
	call("Close", 0, func() error { return c.Close(1000, "") })
	start := time.Now()
	<-c.Context().Done()
	if d := time.Since(start); d > timeout+5*time.Second+time.Second {
		t.Errorf("%s after %d bytes: the end took %v", how, k, d)
	}
	end := <-read
	for _, err := range append(ends, context.Cause(c.Context()), c.Send(websocket.Text, nil), c.Close(1000, "")) {
		if err != end {
			t.Errorf("%s after %d bytes: %v and %v", how, k, end, err)
		}
	}
	if how == "stall" && len(ends) > 1 && !errors.Is(end, os.ErrDeadlineExceeded) && !errors.Is(end, net.ErrClosed) {
		t.Errorf("%s after %d bytes: ended by %v", how, k, end)
	}
	wantQueued(t, c, 0, 0)
	synctest.Wait()
	peer.Close()
	return <-got
}
