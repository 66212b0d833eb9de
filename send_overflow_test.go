package websocket_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
)

// Disconnect: the message that finds no room ends the connection with 1008.
// What is not on the wire is dropped, the Close frame is last, one line is
// logged, and nobody waits.
func TestOverflowDisconnects(t *testing.T) {
	for _, taken := range []int64{0, 1, 99} { // bytes of the first message
		for _, s := range sendings[1:] {
			t.Run(fmt.Sprint(s.name, " ", taken), func(t *testing.T) {
				book := new(logBook)
				inLab(t, websocket.Config{WriteQueue: 1000, WriteTimeout: 7 * time.Second, Logger: slog.New(book)}, func(t *testing.T, l *lab) {
					size := l.answerSize()
					p, c, server := l.openServer("an overflow disconnects")
					read := readingOn(c)
					server.StallWriteAfter(size + taken)
					start := time.Now()
					for i := range 10 {
						mustSend(t, c, fmt.Sprint(i))
					}
					wantQueued(t, c, 1000, 10)
					var errs []error
					var mu sync.Mutex
					var wg sync.WaitGroup
					for range 20 { // all find it full
						wg.Go(func() {
							err := s.send(c, sized("late", 98))
							mu.Lock()
							defer mu.Unlock()
							errs = append(errs, err)
						})
					}
					wg.Wait()
					end := wantClosed(t, done(t, "Read", read), 1008, false)
					for _, err := range append(errs, c.Send(websocket.Text, nil), c.Write(context.Background(), websocket.Text, nil)) {
						if err != end && (s.name != "Group" || err != websocket.ErrQueueFull) { // which has no error to return
							t.Errorf("%v, want %v", err, end)
						}
					}
					if !errors.Is(end, websocket.ErrQueueFull) || !errors.Is(end, net.ErrClosed) {
						t.Errorf("%v is not ErrQueueFull and net.ErrClosed", end)
					}
					wantQueued(t, c, 100+2+2+len(end.Reason), 1)
					wantElapsed(t, start, 0)
					if taken == 0 { // the peer never takes anything more
						<-c.Context().Done()
						wantElapsed(t, start, 7*time.Second)
						if err := context.Cause(c.Context()); err != end {
							t.Errorf("the Cause is %v", err)
						}
					} else {
						server.StallWriteAfter(-1)
						p.WantBytes(binaryFrame(string(sized("0", 98))))
						if reason := p.WantFail(1008); reason != end.Reason {
							t.Errorf("the peer is told %q", reason)
						}
						wantElapsed(t, start, 0)
					}
					p.Close()
					<-c.Context().Done()
					wantQueued(t, c, 0, 0)
					if log := book.from(slog.LevelInfo); len(log) != 1 || !strings.HasPrefix(log[0], "WARN websocket: ") ||
						!strings.HasSuffix(log[0], " remote="+c.RemoteAddr().String()+" queued_bytes=1000 queued_messages=10") {
						t.Errorf("logged %q", log)
					}
				})
			})
		}
	}
}

// DropNewest: a message that finds no room is refused, and none of the others
// is lost; the connection goes on.
func TestOverflowDropsNewest(t *testing.T) {
	for _, s := range sendings[1:] {
		inLab(t, websocket.Config{WriteQueue: 1000, Overflow: websocket.DropNewest}, func(t *testing.T, l *lab) {
			p, c, server := l.stalled("the newest gives way")
			var want []string
			for i := range 30 {
				name := fmt.Sprint(i)
				switch err := s.send(c, sized(name, 98)); {
				case err == nil:
					want = append(want, name)
				case err != websocket.ErrQueueFull:
					t.Errorf("%s: %v", s.name, err)
				}
				if i%10 == 9 {
					if len(want) != 10 {
						t.Errorf("%s: %d messages are accepted", s.name, len(want))
					}
					wantQueued(t, c, 1000, 10)
				}
				if i == 19 { // once, there is room again
					server.StallWriteAfter(-1)
					wantNames(t, p, want...)
					server.StallWriteAfter(0)
					want = nil
				}
			}
			server.StallWriteAfter(-1)
			wantNames(t, p, want...)
			wantOpen(t, p, c)
		})
	}
}

// DropOldest: whole messages of Send give way, the oldest first; never those of
// Write and Writer, a ping, or the one that has begun to leave.
func TestOverflowDropsOldest(t *testing.T) {
	for _, taken := range []int64{0, 1, 50, 99} {
		inLab(t, websocket.Config{WriteQueue: 1000, Overflow: websocket.DropOldest}, func(t *testing.T, l *lab) {
			size := l.answerSize()
			p, c, server := l.openServer("the oldest gives way")
			server.StallWriteAfter(size + taken)
			mustSend(t, c, "begun", "old 1")
			if err := c.Write(context.Background(), websocket.Binary, sized("write", 98)); err != nil {
				t.Error(err)
			}
			mustSend(t, c, "old 2")
			ctx, cancel := context.WithCancel(context.Background())
			pinged := async(func() error { _, err := c.Ping(ctx); return err })
			synctest.Wait()
			w, err := c.Writer(context.Background(), websocket.Binary)
			if err != nil {
				t.Fatal(err)
			}
			w.Write(sized("writer", 98))
			mustSend(t, c, "old 3", "old 4")
			if err := w.Close(); err != nil {
				t.Error(err)
			}
			wantQueued(t, c, 710, 7)
			mustSend(t, c, "5", "6", "7", "8", "9", "10") // each of the last four needs room
			wantQueued(t, c, 910, 9)
			server.StallWriteAfter(-1)
			for _, name := range []string{"begun", "write", "ping", "writer", "5", "6", "7", "8", "9", "10"} {
				f, ok := p.Next()
				if ok && f.Op == 9 {
					f.Payload = []byte("ping")
				}
				if !ok || strings.TrimRight(string(f.Payload), ".") != name {
					t.Errorf("%d taken: received %v, want %s", taken, f, name)
				}
			}
			cancel()
			wantContextError(t, "Ping", done(t, "Ping", pinged), ctx)
			wantOpen(t, p, c)
		})
	}
}

// A message too large for what could give way is refused, and nothing is lost
// for it.
func TestOverflowWithoutAWay(t *testing.T) {
	inLab(t, websocket.Config{WriteQueue: 1000, Overflow: websocket.DropOldest}, func(t *testing.T, l *lab) {
		p, c, server := l.stalled("the oldest gives way")
		mustSend(t, c, "0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
		if err := c.Send(websocket.Binary, make([]byte, 897)); err != websocket.ErrQueueFull { // 901 with its header
			t.Errorf("Send: %v", err)
		}
		wantQueued(t, c, 1000, 10)
		server.StallWriteAfter(-1)
		wantNames(t, p, "0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
		wantOpen(t, p, c)
	})
}

// What is sent during a Writer's message follows it, in order.
func TestSendDuringAWriter(t *testing.T) {
	for i, stage := range writerStages {
		t.Run(stage.name, func(t *testing.T) {
			inLab(t, websocket.Config{WriteTimeout: 7 * time.Second}, func(t *testing.T, l *lab) {
				p, c, w, onWire := begin(t, l, context.Background(), i)
				mustSend(t, c, "a")
				for range 3 { // a Writer that does something is not given up
					time.Sleep(7*time.Second - 1)
					io.WriteString(w, "more")
				}
				mustSend(t, c, "b")
				before := unread(p)
				if before > 0 != onWire {
					t.Errorf("%d bytes have come", before)
				}
				wantQueued(t, c, 200, 2)
				if err := w.Close(); err != nil {
					t.Error(err)
				}
				if data, ok := nextMessageOf(p); !ok || string(data) != stage.write+"moremoremore" {
					t.Errorf("the Writer's message is %q", short(string(data)))
				}
				wantNames(t, p, "a", "b")
				wantOpen(t, p, c)
			})
		})
	}
}

// A Writer that does nothing while messages of Send wait is given up after
// WriteTimeout, to the moment, though nobody is in a call.
func TestSendDuringAnAbandonedWriter(t *testing.T) {
	for i, stage := range writerStages {
		t.Run(stage.name, func(t *testing.T) {
			inLab(t, websocket.Config{WriteTimeout: 7 * time.Second}, func(t *testing.T, l *lab) {
				p, c, w, onWire := begin(t, l, context.Background(), i)
				read := readingOn(c)
				time.Sleep(time.Hour)
				if _, err := io.WriteString(w, "more"); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Second)
				mustSend(t, c, "a")
				start := time.Now()
				time.Sleep(7*time.Second - 1)
				mustSend(t, c, "b")
				wantPending(t, "Read", read)
				if onWire {
					end := wantClosed(t, <-read, 1011, false)
					wantElapsed(t, start, 7*time.Second)
					if !errors.Is(end, websocket.ErrWriterClosed) {
						t.Errorf("ended by %v", end)
					}
					if err := c.Send(websocket.Binary, nil); err != end {
						t.Errorf("Send: %v", err)
					}
					_, err := io.WriteString(w, "late")
					wantClosed(t, err, 1011, false)
					frames, _ := p.Rest()
					for j, f := range frames {
						if last := j == len(frames)-1; last != (f.Op == 8) || !last && f.Fin {
							t.Errorf("received %v", f)
						}
					}
				} else {
					time.Sleep(time.Nanosecond)
					wantNames(t, p, "a", "b")
					if _, err := io.WriteString(w, "late"); !errors.Is(err, websocket.ErrWriterClosed) {
						t.Errorf("the writer's Write: %v", err)
					}
					wantPending(t, "Read", read)
					mustSend(t, c, "c")
					wantNames(t, p, "c")
				}
				wantQueued(t, c, 0, 0)
			})
		})
	}
}

// Close during a Writer's message sends what waits for that, unless the message
// is cut by it.
func TestCloseBehindAWriter(t *testing.T) {
	for i, stage := range writerStages {
		t.Run(stage.name, func(t *testing.T) {
			inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
				p, c, _, onWire := begin(t, l, context.Background(), i)
				start := time.Now()
				mustSend(t, c, "a", "b")
				c.Close(1000, "")
				for onWire {
					f, ok := p.Next()
					if !ok || f.Op == 8 {
						break
					}
					if f.Fin {
						t.Errorf("received %v", f)
					}
				}
				if !onWire {
					p.WantBytes(binaryFrame(string(sized("a", 98))))
					p.WantBytes(binaryFrame(string(sized("b", 98))))
					p.Want("88 02 03e8")
				}
				wantElapsed(t, start, 0)
				wantQueued(t, c, 0, 0)
			})
		})
	}
}

// A Writer that is in its last frame is not cut by Close: its message is whole,
// and what was sent behind it follows.
func TestCloseBehindAWriterInItsLastFrame(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		p, c, server := l.stalled("what was accepted goes out before the Close frame")
		written := async(func() error {
			w, err := c.Writer(context.Background(), websocket.Binary)
			if err == nil {
				err = w.Close()
			}
			return err
		})
		wantPending(t, "the Writer", written)
		mustSend(t, c, "a")
		c.Close(1000, "")
		server.StallWriteAfter(-1)
		p.Want("82 00")
		p.WantBytes(binaryFrame(string(sized("a", 98))))
		p.Want("88 02 03e8")
	})
}
