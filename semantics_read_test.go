package websocket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/conformance"
)

// script is a stream in which every kind of place to be cut at occurs, and
// what it is to be read as. Its pings stand inside a message and behind all.
func script() (stream []byte, want []message, pongs []byte) {
	stream = slices.Concat(
		masked(0x01, "\xce"), masked(0x89, "1"), masked(0x00, ""), masked(0x00, "\xba\xe1\xbd"), masked(0x89, "2"), masked(0x80, "\xb9\xcf\x83"),
		masked(0x82, ""),
		masked(0x82, strings.Repeat("b", 126)),
		masked(0x81, "x"),
		masked(0x02, ""), masked(0x80, "y"), masked(0x89, "3"),
	)
	want = []message{
		{websocket.Text, "\xce\xba\xe1\xbd\xb9\xcf\x83", nil},
		{websocket.Binary, "", nil},
		{websocket.Binary, strings.Repeat("b", 126), nil},
		{websocket.Text, "x", nil},
		{websocket.Binary, "y", nil},
	}
	return stream, want, []byte{0x8a, 1, '1', 0x8a, 1, '2', 0x8a, 1, '3'}
}

// wholeReads are the ways to read one whole message.
var wholeReads = []struct {
	name string
	read func(t *testing.T, ctx context.Context, c *websocket.Conn) message
}{
	{"Read", func(t *testing.T, ctx context.Context, c *websocket.Conn) message {
		typ, data, err := c.Read(ctx)
		if err != nil && len(data) > 0 {
			t.Errorf("Read returns %q with %v", data, err)
		}
		return message{typ, string(data), err}
	}},
	{"ReadAppend with room", func(t *testing.T, ctx context.Context, c *websocket.Conn) message {
		return readAppended(t, ctx, c, append(make([]byte, 0, 512), "dst"...))
	}},
	{"ReadAppend without room", func(t *testing.T, ctx context.Context, c *websocket.Conn) message {
		return readAppended(t, ctx, c, []byte("dst")[:3:3])
	}},
	{"ReadAppend to nil", func(t *testing.T, ctx context.Context, c *websocket.Conn) message {
		typ, data, err := c.ReadAppend(ctx, nil)
		if err != nil && len(data) > 0 {
			t.Errorf("ReadAppend returns %q with %v", data, err)
		}
		return message{typ, string(data), err}
	}},
	{"Messages", func(t *testing.T, ctx context.Context, c *websocket.Conn) message {
		for m, err := range c.Messages(ctx) {
			return message{m.Type, string(m.Data), err}
		}
		return message{err: errSilent}
	}},
}

var errSilent = errors.New("the sequence has ended without an error")

// readAppended is ReadAppend with checks of what becomes of dst.
func readAppended(t *testing.T, ctx context.Context, c *websocket.Conn, dst []byte) message {
	t.Helper()
	typ, data, err := c.ReadAppend(ctx, dst)
	same := &data[0] == &dst[0]
	switch {
	case string(dst) != "dst" || !bytes.HasPrefix(data, dst):
		t.Errorf("ReadAppend has changed what was in dst to %q, and returns %q", dst, data)
	case err != nil && (len(data) != len(dst) || !same):
		t.Errorf("ReadAppend returns %q, %v: not dst as it was", data, err)
	case err == nil && !same && len(data) <= cap(dst):
		t.Errorf("ReadAppend does not use the room in dst")
	}
	if err != nil { // what lies behind dst is the caller's again
		spare := dst[len(dst):cap(dst)]
		copy(spare, bytes.Repeat([]byte("?"), len(spare)))
	}
	return message{typ, string(data[len(dst):]), err}
}

// Read, ReadAppend: all or nothing. What has come stays and the next call goes
// on. Here a call is cancelled before every single byte of the stream.
func TestReadCancelledBeforeEveryByte(t *testing.T) {
	for _, how := range wholeReads {
		t.Run(how.name, func(t *testing.T) {
			inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
				p, c := l.open("a cancelled read loses nothing")
				stream, want, pongs := script()
				for i := range len(stream) {
					for {
						ctx, cancel := context.WithCancelCause(context.Background())
						result := async(func() message { return how.read(t, ctx, c) })
						synctest.Wait()
						cancel(fmt.Errorf("before byte %d", i))
						m := done(t, "the read", result)
						if m.err != nil {
							wantContextError(t, "the read", m.err, ctx)
							break
						}
						if len(want) == 0 || m != want[0] {
							t.Fatalf("before byte %d: read %v, %q; want %.1v", i, m.typ, m.data, want)
						}
						want = want[1:]
					}
					p.WritePieces(stream[i : i+1])
				}
				if len(want) > 0 {
					t.Errorf("%d messages are lost", len(want))
				}
				wantNoneLeft(t, c)
				p.WantBytes(pongs)
				wantOpen(t, p, c)
			})
		})
	}
}

// wantNoneLeft reads what is there, and no message must be.
func wantNoneLeft(t *testing.T, c *websocket.Conn) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	result := async(func() message { return readOne(ctx, c) })
	synctest.Wait()
	cancel()
	wantContextError(t, "Read", done(t, "Read", result).err, ctx)
}

// The same with one cancelled call in the whole stream, at every offset, so
// that both calls find much to read at once.
func TestReadCancelledOnce(t *testing.T) {
	stream, want, pongs := script()
	for _, how := range wholeReads {
		t.Run(how.name, func(t *testing.T) {
			for cut := range len(stream) + 1 {
				inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
					p, c := l.open(fmt.Sprintf("a read cancelled after %d bytes loses nothing", cut))
					left := want
					p.WritePieces(stream[:cut])
					for {
						ctx, cancel := context.WithCancel(context.Background())
						result := async(func() message { return how.read(t, ctx, c) })
						synctest.Wait()
						cancel()
						m := done(t, "the read", result)
						if m.err != nil {
							wantContextError(t, "the read", m.err, ctx)
							break
						}
						if len(left) == 0 || m != left[0] {
							t.Fatalf("cut %d: read %v, %q", cut, m.typ, m.data)
						}
						left = left[1:]
					}
					p.WritePieces(stream[cut:])
					for _, m := range left {
						wantMessage(t, c, m.typ, m.data)
					}
					wantNoneLeft(t, c)
					p.WantBytes(pongs)
				})
			}
		})
	}
}

// What a cancelled Read has gathered, a Reader goes on with.
func TestReadCancelledThenReader(t *testing.T) {
	stream, want, pongs := script()
	for cut := range len(stream) + 1 {
		inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
			p, c := l.open(fmt.Sprintf("a Reader goes on where a Read stopped, after %d bytes", cut))
			left := want
			p.WritePieces(stream[:cut])
			for {
				ctx, cancel := context.WithCancel(context.Background())
				result := async(func() message { return readOne(ctx, c) })
				synctest.Wait()
				cancel()
				m := done(t, "Read", result)
				if m.err != nil {
					break
				}
				left = left[1:]
			}
			p.WritePieces(stream[cut:])
			for _, want := range left {
				m := done(t, "Reader", async(func() message { return readStream(context.Background(), c) }))
				if m != want {
					t.Fatalf("cut %d: streamed %v, %q, %v; want %q", cut, m.typ, m.data, m.err, want.data)
				}
			}
			wantNoneLeft(t, c)
			p.WantBytes(pongs)
		})
	}
}

func readStream(ctx context.Context, c *websocket.Conn) message {
	typ, r, err := c.Reader(ctx)
	if err != nil {
		return message{err: err}
	}
	data, err := io.ReadAll(r)
	return message{typ, string(data), err}
}

// A message of more than one read, and a header of 64 bits.
func TestReadCancelledInLongMessages(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		p, c := l.open("a cancelled read of a long message loses nothing")
		text := strings.Repeat("0123456789abcdef", 5<<10)
		stream := masked(0x82, text)
		cuts := []int{0, 1, 2, 3, 9, 10, 11, 13, 14, 15, 18, 4096, 8192, 8193, 65535, 65536, 65550, len(stream) - 1}
		for i, cut := range cuts[:len(cuts)-1] {
			p.WritePieces(stream[cut:cuts[i+1]])
			wantNoneLeft(t, c)
		}
		dst := make([]byte, 0, 1<<20)
		p.WritePieces(stream[len(stream)-1:])
		typ, data, err := c.ReadAppend(context.Background(), dst)
		if err != nil || typ != websocket.Binary || string(data) != text || &data[0] != &dst[:1][0] {
			t.Errorf("ReadAppend: %v, %d bytes, %v", typ, len(data), err)
		}
	})
}

// What a cancelled Read has gathered still counts for the limit, and is
// judged as it came.
func TestReadCancelledKeepsTheRules(t *testing.T) {
	for _, test := range []struct {
		name, before, after string
		code                int
	}{
		{"ReadLimit", "02 8a z rep(61,10)", "80 87 z", 1009},
		{"UTF-8", "01 81 z e2", "80 81 z 61", 1007},
		{"order", "01 81 z 61", "81 81 z 62", 1002},
		{"in a payload", "81 83 z e282", "28", 1007},
	} {
		t.Run(test.name, func(t *testing.T) {
			inLab(t, websocket.Config{ReadLimit: 16}, func(t *testing.T, l *lab) {
				p, c := l.open("the message goes on, and so do its rules")
				p.Write(test.before)
				wantNoneLeft(t, c)
				p.Write(test.after)
				for _, how := range wholeReads {
					m := done(t, how.name, async(func() message { return how.read(t, context.Background(), c) }))
					wantClosed(t, m.err, websocket.StatusCode(test.code), false)
				}
				p.WantFail(test.code)
			})
		})
	}
}

// The bytes that Read returns are the caller's.
func TestReadGivesItsBytesAway(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		p, c := l.open("what Read has returned does not change any more")
		var all [][]byte
		for i := range 20 {
			p.WritePieces(masked(0x82, strings.Repeat(string(rune('a'+i)), 1000)))
			_, data, err := c.Read(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, data)
			_ = append(data, "and what follows"...)
		}
		for i, data := range all {
			if string(data) != strings.Repeat(string(rune('a'+i)), 1000) {
				t.Errorf("message %d is now %.10q…", i, data)
			}
			clear(data)
		}
		wantOpen(t, p, c)
	})
}

// Two reads at once: the second gets a named error, at once, and the
// connection stays as it is. What the first one waits for comes to it.
func TestConcurrentReads(t *testing.T) {
	ctx := context.Background()
	firsts := []struct {
		name string
		read func(p *conformance.Peer, c *websocket.Conn) <-chan message
	}{
		{"Read", func(p *conformance.Peer, c *websocket.Conn) <-chan message {
			return async(func() message { return readOne(ctx, c) })
		}},
		{"Reader", func(p *conformance.Peer, c *websocket.Conn) <-chan message {
			return async(func() message { return readStream(ctx, c) })
		}},
		{"the Read of a reader", func(p *conformance.Peer, c *websocket.Conn) <-chan message {
			p.Write("01 80 z")
			return async(func() message { return readStream(ctx, c) })
		}},
	}
	for _, first := range firsts {
		t.Run(first.name, func(t *testing.T) {
			inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
				p, c := l.open("a second read is refused and harmless")
				result := first.read(p, c)
				for _, how := range wholeReads {
					wantPending(t, "the first read", result)
					if m := done(t, how.name, async(func() message { return how.read(t, ctx, c) })); !errors.Is(m.err, websocket.ErrConcurrentRead) {
						t.Errorf("%s beside it: %v", how.name, m.err)
					}
				}
				if m := done(t, "Reader", async(func() message { return readStream(ctx, c) })); !errors.Is(m.err, websocket.ErrConcurrentRead) {
					t.Errorf("Reader beside it: %v", m.err)
				}
				wantPending(t, "the first read", result)
				if first.name == "the Read of a reader" {
					p.Write("80 82 z 6869")
				} else {
					p.Write("81 82 z 6869")
				}
				if m := done(t, "the first read", result); m != (message{websocket.Text, "hi", nil}) {
					t.Errorf("the first read: %v, %q, %v", m.typ, m.data, m.err)
				}
				wantOpen(t, p, c)
			})
		})
	}
	t.Run("one reader twice", func(t *testing.T) {
		inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
			p, c := l.open("a reader is for one goroutine at a time")
			p.Write("01 81 z 61")
			_, r, err := c.Reader(ctx)
			if err != nil {
				t.Fatal(err)
			}
			result := async(func() string { data, err := io.ReadAll(r); return fmt.Sprint(string(data), err) })
			wantPending(t, "the reader", result)
			n, err := r.Read(make([]byte, 1))
			if n != 0 || !errors.Is(err, websocket.ErrConcurrentRead) {
				t.Errorf("a second Read of it gives %d, %v", n, err)
			}
			p.Write("80 81 z 62")
			if got := done(t, "the reader", result); got != "ab<nil>" {
				t.Errorf("the first Read of it gives %s", got)
			}
			wantOpen(t, p, c)
		})
	})
}

// Messages is Read in a loop. It ends silently on the peer's 1000, 1001 and no
// code; any other end is yielded as the last element.
func TestMessagesEnd(t *testing.T) {
	for _, test := range []struct {
		name   string
		end    func(p *conformance.Peer, c *websocket.Conn)
		silent bool
	}{
		{"1000", func(p *conformance.Peer, c *websocket.Conn) { p.Write("88 82 z 03e8") }, true},
		{"1000 with a reason", func(p *conformance.Peer, c *websocket.Conn) { p.Write("88 85 z 03e8 627965") }, true},
		{"1001", func(p *conformance.Peer, c *websocket.Conn) { p.Write("88 82 z 03e9") }, true},
		{"no code", func(p *conformance.Peer, c *websocket.Conn) { p.Write("88 80 z") }, true},
		{"1002", func(p *conformance.Peer, c *websocket.Conn) { p.Write("88 82 z 03ea") }, false},
		{"1011", func(p *conformance.Peer, c *websocket.Conn) { p.Write("88 82 z 03f3") }, false},
		{"3000", func(p *conformance.Peer, c *websocket.Conn) { p.Write("88 82 z 0bb8") }, false},
		{"the stream ends", func(p *conformance.Peer, c *websocket.Conn) { p.Fin() }, false},
		{"a rule is broken", func(p *conformance.Peer, c *websocket.Conn) { p.Write("83 80 z") }, false},
		{"own Close with 1000", func(p *conformance.Peer, c *websocket.Conn) { c.Close(1000, "") }, false},
		{"own Close with 1001", func(p *conformance.Peer, c *websocket.Conn) { c.Close(1001, "") }, false},
		{"CloseNow", func(p *conformance.Peer, c *websocket.Conn) { c.CloseNow() }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
				p, c := l.open("how Messages ends")
				p.Write("81 81 z 61 82 81 z 62")
				var got string
				all := func() (err error) {
					for m, e := range c.Messages(context.Background()) {
						if err != nil {
							t.Errorf("an element follows %v", err)
						}
						got += string(m.Data)
						err = e
					}
					return err
				}
				result := async(all)
				wantPending(t, "Messages", result)
				test.end(p, c)
				if err := done(t, "Messages", result); (err == nil) != test.silent || got != "ab" {
					t.Errorf("Messages gives %q, %v", got, err)
				}
				if err := done(t, "Messages", async(all)); (err == nil) != test.silent {
					t.Errorf("Messages once more: %v", err)
				}
			})
		})
	}
	t.Run("a break loses nothing", func(t *testing.T) {
		inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
			p, c := l.open("Messages may be left and entered again")
			p.Write("81 81 z 61 82 81 z 62 81 81 z 63")
			for _, want := range []string{"a", "b", "c"} {
				for m, err := range c.Messages(context.Background()) {
					if err != nil || string(m.Data) != want {
						t.Errorf("Messages gives %q, %v", m.Data, err)
					}
					break
				}
			}
			wantOpen(t, p, c)
		})
	})
}

// A peer that stalls inside a header or a payload costs a call its ctx and
// the connection nothing.
func TestReadStalled(t *testing.T) {
	for _, part := range []string{"81", "81 fe", "81 fe 00", "81 85", "81 85 37fa21", "81 85 z", "81 85 z 68656c6c"} {
		inLab(t, websocket.Config{MessageTimeout: -1}, func(t *testing.T, l *lab) {
			p, c := l.open("a peer that stalls after " + part + " is waited for")
			p.Write(part)
			start := time.Now()
			ctx, cancel := context.WithTimeout(context.Background(), 24*time.Hour)
			defer cancel()
			wantContextError(t, "Read", readOne(ctx, c).err, ctx)
			wantElapsed(t, start, 24*time.Hour)
			end := readingOn(c)
			wantPending(t, "Read", end)
			start = time.Now()
			p.Fin()
			wantClosed(t, done(t, "Read", end), 1006, true)
			wantElapsed(t, start, 0)
		})
	}
}
