package websocket_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/conformance"
)

// How far a writer has come when something happens to it.
var writerStages = []struct {
	name   string
	write  string // what it has written
	onWire bool
}{
	{"before anything", "", false},
	{"before its first frame", "abc", false}, // unless it is sent at once
	{"after its first frame", strings.Repeat("0123456789abcdef", 16<<10), true},
}

// begin gets a writer to a stage. The peer's buffer takes all of it.
func begin(t *testing.T, l *lab, ctx context.Context, stage int) (p *conformance.Peer, c *websocket.Conn, w io.WriteCloser, onWire bool) {
	t.Helper()
	s := writerStages[stage]
	p, c, server := l.openServer("a writer is given up " + s.name)
	server.SetBuffer(4 << 20)
	w, err := c.Writer(ctx, websocket.Text)
	if err == nil && s.write != "" {
		_, err = io.WriteString(w, s.write)
	}
	if err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	onWire = unread(p) > 0
	if s.onWire && !onWire {
		t.Errorf("nothing of %d bytes was sent", len(s.write))
	}
	return p, c, w, onWire
}

// wantGivenUp checks what has become of a message and of one that waited for
// it: with nothing on the wire, nothing is sent and the other one goes out;
// else the connection is closed with 1011.
func wantGivenUp(t *testing.T, p *conformance.Peer, c *websocket.Conn, onWire bool, waiting <-chan error) {
	t.Helper()
	err := done(t, "the other Write", waiting)
	if !onWire {
		if err != nil {
			t.Errorf("the other Write: %v", err)
		}
		p.Want("82 05 6f74686572")
		wantOpen(t, p, c)
		return
	}
	wantClosed(t, err, 1011, false)
	for {
		f, ok := p.Next()
		if !ok {
			return
		}
		if f.Op == 8 {
			if string(f.Payload[:2]) != "\x03\xf3" {
				t.Errorf("received %v", f)
			}
			return
		}
		if f.Fin {
			t.Errorf("the message looks whole: %v", f)
		}
	}
}

func other(c *websocket.Conn) <-chan error {
	return async(func() error { return c.Write(context.Background(), websocket.Binary, []byte("other")) })
}

// Abandoned for WriteTimeout while others wait: given up, to the moment.
func TestWriterAbandoned(t *testing.T) {
	for i, stage := range writerStages {
		t.Run(stage.name, func(t *testing.T) {
			inLab(t, websocket.Config{WriteTimeout: 7 * time.Second}, func(t *testing.T, l *lab) {
				p, c, w, onWire := begin(t, l, context.Background(), i)
				start := time.Now()
				first := other(c)
				synctest.Wait()
				second := async(func() error { return c.Write(context.Background(), websocket.Text, []byte("second")) })
				wantPending(t, "the other Write", first)
				time.Sleep(7*time.Second - time.Nanosecond)
				wantPending(t, "the other Write", first)
				wantPending(t, "the second Write", second)
				time.Sleep(time.Nanosecond)
				if !onWire {
					if err := done(t, "the other Write", first); err != nil {
						t.Errorf("the other Write: %v", err)
					}
					wantElapsed(t, start, 7*time.Second)
					if err := done(t, "the second Write", second); err != nil {
						t.Errorf("the second Write: %v", err)
					}
					for range 2 {
						if _, err := w.Write([]byte("late")); !errors.Is(err, websocket.ErrWriterClosed) {
							t.Errorf("the writer's Write: %v", err)
						}
						if err := w.Close(); !errors.Is(err, websocket.ErrWriterClosed) {
							t.Errorf("the writer's Close: %v", err)
						}
					}
					p.Want("82 05 6f74686572 81 06 7365636f6e64")
					wantOpen(t, p, c)
					return
				}
				wantGivenUp(t, p, c, onWire, first)
				wantElapsed(t, start, 7*time.Second)
				wantClosed(t, done(t, "the second Write", second), 1011, false)
				_, err := w.Write([]byte("late"))
				wantClosed(t, err, 1011, false)
				wantClosed(t, w.Close(), 1011, false)
			})
		})
	}
}

// A writer is not abandoned while nobody waits, nor while it does something.
func TestWriterNotAbandoned(t *testing.T) {
	for i, stage := range writerStages {
		t.Run(stage.name, func(t *testing.T) {
			inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
				p, c, w, _ := begin(t, l, context.Background(), i)
				time.Sleep(time.Hour) // nobody waits
				waiting := other(c)
				var added strings.Builder
				for j := range 5 {
					time.Sleep(10*time.Second - 1)
					wantPending(t, "the other Write", waiting)
					n, err := io.WriteString(w, strings.Repeat(fmt.Sprint(j), 10))
					if n != 10 || err != nil {
						t.Fatalf("the writer's Write: %d, %v", n, err)
					}
					added.WriteString(strings.Repeat(fmt.Sprint(j), 10))
				}
				p.WritePieces(masked(0x89, "meanwhile"))
				if err := w.Close(); err != nil {
					t.Errorf("the writer's Close: %v", err)
				}
				if err := done(t, "the other Write", waiting); err != nil {
					t.Errorf("the other Write: %v", err)
				}
				if data, ok := nextMessageOf(p); ok && string(data) != stage.write+added.String() {
					t.Errorf("the message is %q, %d bytes", short(string(data)), len(data))
				}
				p.Want("82 05 6f74686572")
			})
		})
	}
}

// The writer's ctx ended: given up at once, whether or not anybody is in a
// call of it.
func TestWriterCancelled(t *testing.T) {
	for i, stage := range writerStages {
		t.Run(stage.name, func(t *testing.T) {
			for _, waits := range []bool{true, false} {
				inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
					ctx, cancel := context.WithTimeoutCause(context.Background(), time.Second, errors.New("why"))
					defer cancel()
					start := time.Now()
					p, c, w, onWire := begin(t, l, ctx, i)
					var waiting <-chan error
					if waits {
						waiting = other(c)
						wantPending(t, "the other Write", waiting)
					}
					time.Sleep(time.Second)
					synctest.Wait()
					if !waits {
						waiting = other(c)
					}
					wantGivenUp(t, p, c, onWire, waiting)
					wantElapsed(t, start, time.Second)
					for range 2 {
						for name, err := range map[string]error{"Write": func() error { _, err := w.Write([]byte("late")); return err }(), "Close": w.Close()} {
							if onWire {
								wantClosed(t, err, 1011, false)
							} else {
								wantContextError(t, "the writer's "+name, err, ctx)
							}
						}
					}
				})
			}
		})
	}
}

// A Writer that waits for its turn is removed when its ctx ends.
func TestWriterCancelledInTheQueue(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		p, c := l.open("a Writer that waits can be taken back")
		w, err := c.Writer(context.Background(), websocket.Text)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		second := async(func() error { _, err := c.Writer(ctx, websocket.Text); return err })
		wantPending(t, "the second Writer", second)
		third := other(c)
		wantContextError(t, "the second Writer", <-second, ctx)
		wantPending(t, "the third", third)
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		if err := done(t, "the third", third); err != nil {
			t.Error(err)
		}
		p.Want("81 00 82 05 6f74686572")
		wantOpen(t, p, c)
	})
}

// The writer's ctx ended while it is in the middle of a frame.
func TestWriterCancelledInItsFrame(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		p, c := l.open("a cut message must not look whole")
		start := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		w, err := c.Writer(ctx, websocket.Binary)
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.Write(make([]byte, 4<<20))
		wantElapsed(t, start, time.Second)
		if !errors.As(err, new(*websocket.CloseError)) {
			t.Errorf("the writer's Write: %v", err)
		}
		if err := c.Write(context.Background(), websocket.Text, nil); !errors.As(err, new(*websocket.CloseError)) {
			t.Errorf("Write: %v", err)
		}
		frames, _ := p.Rest()
		for _, f := range frames {
			if f.Op < 8 && f.Fin {
				t.Errorf("the message looks whole: %v", f)
			}
		}
	})
}

// Text that is cut over calls is text; what is none ends the message, and the
// connection if part of it has left.
func TestWriterText(t *testing.T) {
	for i, stage := range writerStages {
		t.Run(stage.name, func(t *testing.T) {
			inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
				p, _, w, _ := begin(t, l, context.Background(), i)
				for _, piece := range []string{"\xe2", "", "\x82", "\xac"} {
					if _, err := io.WriteString(w, piece); err != nil {
						t.Error(err)
					}
				}
				if err := w.Close(); err != nil {
					t.Error(err)
				}
				if data, ok := nextMessageOf(p); ok && string(data) != stage.write+"€" {
					t.Errorf("received %d bytes", len(data))
				}
			})
			for _, bad := range []string{"\xff", "\xe2\x28", "\xe2\x82"} {
				inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
					p, c, w, onWire := begin(t, l, context.Background(), i)
					waiting := other(c)
					_, err := io.WriteString(w, bad)
					if err == nil { // it might have been completed
						err = w.Close()
					}
					if !errors.Is(err, websocket.ErrInvalidUTF8) {
						t.Errorf("%x: %v", bad, err)
					}
					err = done(t, "the other Write", waiting)
					if !onWire {
						if err != nil {
							t.Errorf("%x: the other Write: %v", bad, err)
						}
						p.Want("82 05 6f74686572")
						wantOpen(t, p, c)
						return
					}
					if !errors.As(err, new(*websocket.CloseError)) {
						t.Errorf("%x: the other Write: %v", bad, err)
					}
				})
			}
		})
	}
}
