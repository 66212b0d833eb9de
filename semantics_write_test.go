package websocket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/conformance"
	"github.com/sockeye-ws/websocket/internal/memconn"
)

// More than may be accepted ahead of a peer that takes nothing, so that a
// Write of it waits.
const tooMuch = 1 << 20

// stuck begins a Write that is in the middle of its frame when it returns.
func stuck(t *testing.T, c *websocket.Conn) <-chan error {
	t.Helper()
	written := async(func() error {
		return c.Write(context.Background(), websocket.Binary, bytes.Repeat([]byte("s"), tooMuch))
	})
	wantPending(t, "a Write that the peer does not take", written)
	return written
}

// wantStuck receives the message of stuck.
func wantStuck(p *conformance.Peer) {
	p.Want(fmt.Sprintf("82 7f %016x rep(73,%d)", tooMuch, tooMuch))
}

// nextMessageOf takes the frames of one message.
func nextMessageOf(p *conformance.Peer) (data []byte, ok bool) {
	for {
		f, ok := p.Next()
		if !ok {
			return nil, false
		}
		if f.Op >= 8 {
			continue
		}
		data = append(data, f.Payload...)
		if f.Fin {
			return data, true
		}
	}
}

// Waiters are served first come, first served, be they small enough for the
// queue or not, in one piece or by a Writer; the cancelled ones leave no trace.
func TestWriteOrder(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		p, c := l.open("the order of calls is the order on the wire")
		first := stuck(t, c)
		const n = 60
		results := make([]<-chan error, n)
		cancels := make([]context.CancelFunc, n)
		for i := range n {
			ctx, cancel := context.WithCancel(context.Background())
			cancels[i] = cancel
			defer cancel()
			results[i] = async(func() error {
				switch i % 4 {
				case 0, 1:
					return c.Write(ctx, websocket.Binary, []byte{byte(i)})
				case 2:
					return c.Write(ctx, websocket.Binary, bytes.Repeat([]byte{byte(i)}, 300<<10))
				}
				w, err := c.Writer(ctx, websocket.Binary)
				if err != nil {
					return err
				}
				for range 3 {
					if _, err := w.Write(bytes.Repeat([]byte{byte(i)}, 30<<10)); err != nil {
						return err
					}
				}
				return w.Close()
			})
			synctest.Wait()
		}
		wantPending(t, "the first Write", first)
		cancelled := map[byte]bool{}
		for i := 2; i < n; i += 5 {
			cancels[i]()
			synctest.Wait()
			select {
			case err := <-results[i]:
				if err == nil { // it had been accepted before
					break
				}
				if !errors.Is(err, context.Canceled) || errors.As(err, new(*websocket.CloseError)) {
					t.Errorf("call %d: %v", i, err)
				}
				cancelled[byte(i)] = true
			default:
				t.Errorf("call %d goes on though its ctx has ended", i)
			}
		}
		if len(cancelled) < 5 {
			t.Errorf("only %d calls waited", len(cancelled))
		}
		wantStuck(p)
		for i := range n {
			if cancelled[byte(i)] {
				continue
			}
			data, ok := nextMessageOf(p)
			if !ok {
				return
			}
			if len(data) == 0 || bytes.Count(data, []byte{byte(i)}) != len(data) {
				t.Fatalf("message %d of %d bytes comes in place of %d", data[0], len(data), i)
			}
		}
		synctest.Wait()
		if err := <-first; err != nil {
			t.Error(err)
		}
		for i := range n {
			if i%5 == 2 {
				continue
			}
			if err := done(t, fmt.Sprint("call ", i), results[i]); err != nil {
				t.Errorf("call %d: %v", i, err)
			}
		}
		wantOpen(t, p, c)
	})
}

// A Write that returned precedes one that began later, whoever called.
func TestWriteHandedOver(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		p, c, server := l.openServer("a Write that returned precedes one that began later")
		server.SetBuffer(1000)
		const n, goroutines = 600, 4
		turns := make(chan int, 1)
		turns <- 0
		for range goroutines {
			go func() {
				for i := range turns {
					if i == n {
						close(turns)
						return
					}
					data := bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 1+i%7*100)
					if err := c.Write(context.Background(), websocket.Binary, data); err != nil {
						t.Error(err)
					}
					clear(data)
					turns <- i + 1
				}
			}()
		}
		for i := range n {
			data, ok := nextMessageOf(p)
			if !ok {
				return
			}
			if want := bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 1+i%7*100); !bytes.Equal(data, want) {
				t.Fatalf("message %d is %.8x…, %d bytes", i, data, len(data))
			}
		}
	})
}

// ctx ended before the first byte was taken: removed, nothing sent, and the
// connection stays as it was.
func TestWriteCancelledBeforeItsFirstByte(t *testing.T) {
	for _, size := range []int{0, 10, 1000, tooMuch} {
		t.Run(fmt.Sprintf("the peer's buffer is full, %d bytes", size), func(t *testing.T) {
			inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
				p, c, server := l.openServer("a Write of which nothing was sent is taken back")
				server.SetBuffer(130)
				if err := done(t, "Write", async(func() error {
					return c.Write(context.Background(), websocket.Binary, bytes.Repeat([]byte("a"), 126))
				})); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancelCause(context.Background())
				data := bytes.Repeat([]byte("b"), size)
				result := async(func() error { return c.Write(ctx, websocket.Binary, data) })
				synctest.Wait()
				cancel(errors.New("enough"))
				err := done(t, "Write", result)
				if err != nil {
					wantContextError(t, "Write", err, ctx)
				}
				p.Want("82 7e 007e rep(61,126)")
				if err == nil {
					p.Want(fmt.Sprintf("82 %02x rep(62,%d)", size, size))
				}
				p.WantNothing()
				wantOpen(t, p, c)
			})
		})
		t.Run(fmt.Sprintf("behind another Write, %d bytes", size), func(t *testing.T) {
			inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
				p, c := l.open("a Write of which nothing was sent is taken back")
				written := stuck(t, c)
				blocker := async(func() error {
					return c.Write(context.Background(), websocket.Text, bytes.Repeat([]byte("t"), tooMuch))
				})
				wantPending(t, "the second Write", blocker)
				start := time.Now()
				ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
				defer cancel()
				result := async(func() error { return c.Write(ctx, websocket.Binary, bytes.Repeat([]byte("b"), size)) })
				wantPending(t, "the third Write", result)
				wantContextError(t, "Write", <-result, ctx)
				wantElapsed(t, start, 3*time.Second)
				wantPending(t, "the first Write", written)
				wantStuck(p)
				p.Want(fmt.Sprintf("81 7f %016x rep(74,%d)", tooMuch, tooMuch))
				for _, result := range []<-chan error{written, blocker} {
					if err := done(t, "Write", result); err != nil {
						t.Error(err)
					}
				}
				p.WantNothing()
				wantOpen(t, p, c)
			})
		})
		t.Run(fmt.Sprintf("before the call, %d bytes", size), func(t *testing.T) {
			inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
				p, c := l.open("a Write with a ctx that has ended sends nothing")
				ctx, cancel := context.WithCancelCause(context.Background())
				cancel(errors.New("before"))
				wantContextError(t, "Write", c.Write(ctx, websocket.Binary, make([]byte, size)), ctx)
				if _, err := c.Writer(ctx, websocket.Binary); true {
					wantContextError(t, "Writer", err, ctx)
				}
				if _, err := c.Ping(ctx); true {
					wantContextError(t, "Ping", err, ctx)
				}
				p.WantNothing()
				wantOpen(t, p, c)
			})
		})
	}
}

// ctx ended after the first byte: the connection ends, as a cut frame cannot
// be mended. The error is the connection's and says why.
func TestWriteCancelledInItsFrame(t *testing.T) {
	for _, taken := range []int{1, 5, 64 << 10} {
		t.Run(fmt.Sprintf("after %d bytes", taken), func(t *testing.T) {
			inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
				p, c, server := l.openServer("a cut frame ends the connection")
				server.SetBuffer(taken)
				end := readingOn(c)
				pinging := ping(context.Background(), c)
				if taken < 64<<10 { // let the ping through, it is not what is cut
					p.Next()
				}
				synctest.Wait()
				start := time.Now()
				why := errors.New("why")
				ctx, cancel := context.WithTimeoutCause(context.Background(), 2*time.Second, why)
				defer cancel()
				err := c.Write(ctx, websocket.Binary, make([]byte, 2<<20))
				wantElapsed(t, start, 2*time.Second)
				var closed *websocket.CloseError
				if !errors.As(err, &closed) || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, why) {
					t.Fatalf("Write: %v; want a CloseError that Is %v and %v", err, context.DeadlineExceeded, why)
				}
				if closed.Code != websocket.StatusAbnormalClosure || errors.Is(err, net.ErrClosed) {
					t.Errorf("Write: %v", err)
				}
				if got := done(t, "Read", end); got != err {
					t.Errorf("Read: %v; Write: %v", got, err)
				}
				if got := done(t, "Ping", pinging); got.err != err {
					t.Errorf("Ping: %v; Write: %v", got.err, err)
				}
				if cause := context.Cause(c.Context()); wantOver(t, c) != closed || cause != err {
					t.Errorf("the Cause of the Context is %v", cause)
				}
				if frames, _ := p.Rest(); len(frames) > 1 || len(frames) == 1 && frames[0].Op != 9 {
					t.Errorf("received %v", frames)
				}
			})
		})
	}
}

// A peer that takes nothing is cut when WriteTimeout is over, to the moment;
// what had been accepted fails too, and every later call says so.
func TestWriteTimeout(t *testing.T) {
	for _, test := range []struct {
		name  string
		after int64 // bytes that are taken
		write func(c *websocket.Conn) error
	}{
		{"at the first byte", 0, func(c *websocket.Conn) error { return c.Write(context.Background(), websocket.Text, []byte("hi")) }},
		{"in a header", 1, func(c *websocket.Conn) error { return c.Write(context.Background(), websocket.Text, []byte("hi")) }},
		{"in a long header", 3, func(c *websocket.Conn) error {
			return c.Write(context.Background(), websocket.Binary, make([]byte, tooMuch))
		}},
		{"in a payload", 5000, func(c *websocket.Conn) error {
			return c.Write(context.Background(), websocket.Binary, make([]byte, 10_000))
		}},
		{"in a long payload", 500_000, func(c *websocket.Conn) error {
			return c.Write(context.Background(), websocket.Binary, make([]byte, tooMuch))
		}},
		{"in a ping", 1, func(c *websocket.Conn) error { _, err := c.Ping(context.Background()); return err }},
		{"in a Writer", 100_000, func(c *websocket.Conn) error {
			w, err := c.Writer(context.Background(), websocket.Binary)
			for err == nil {
				_, err = w.Write(make([]byte, 1000))
			}
			return err
		}},
	} {
		for _, timeout := range []time.Duration{0, time.Millisecond, time.Minute} {
			inLab(t, websocket.Config{WriteTimeout: timeout}, func(t *testing.T, l *lab) {
				answer := l.answerSize()
				p, c, server := l.openServer("a peer that takes nothing is cut, " + test.name)
				server.SetBuffer(8 << 20)
				server.StallWriteAfter(answer + test.after)
				end := readingOn(c)
				start := time.Now()
				err := test.write(c)
				if err == nil { // accepted: the failure comes from every later call
					<-c.Context().Done()
					err = context.Cause(c.Context())
				}
				want := timeout
				if want == 0 {
					want = 10 * time.Second
				}
				wantElapsed(t, start, want)
				wantTimeout(t, err)
				wantOver(t, c)
				if got := <-end; got != err {
					t.Errorf("%s, the Read that waited: %v; want %v", test.name, got, err)
				}
				if got := context.Cause(c.Context()); got != err {
					t.Errorf("%s, Cause: %v; want %v", test.name, got, err)
				}
				for name, call := range methodsAfter(t, &scene{lab: l, p: p, c: c}, context.Background(), nil, nil) {
					if got := done(t, name, async(call)); got != err {
						t.Errorf("%s, %s: %v; want %v", test.name, name, got, err)
					}
				}
			})
		}
	}
}

// WriteTimeout negative: nobody is cut for slowness.
func TestWriteTimeoutNone(t *testing.T) {
	inLab(t, websocket.Config{WriteTimeout: -1}, func(t *testing.T, l *lab) {
		p, c := l.open("without a WriteTimeout a Write waits")
		written := stuck(t, c)
		time.Sleep(24 * time.Hour)
		wantPending(t, "Write", written)
		wantStuck(p)
		if err := done(t, "Write", written); err != nil {
			t.Error(err)
		}
		wantOpen(t, p, c)
	})
}

// What Write was given stays the caller's, also when it was accepted behind a
// peer that takes nothing, and is sent without any further call.
func TestWriteAccepted(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		p, c, server := l.openServer("what was accepted is flushed by itself")
		server.SetBuffer(1)
		const n = 20
		accepted := 0
		for i := range n {
			data := bytes.Repeat([]byte{byte(i)}, 100)
			result := async(func() error { return c.Write(context.Background(), websocket.Binary, data) })
			synctest.Wait()
			select {
			case err := <-result:
				if err != nil {
					t.Fatal(err)
				}
				clear(data)
				accepted++
			default:
			}
		}
		if accepted == 0 {
			t.Log("no Write was accepted ahead of the peer")
		}
		for i := range n {
			p.Want(fmt.Sprintf("82 64 rep(%02x,100)", i))
		}
		server.SetBuffer(1000)
		wantOpen(t, p, c)
	})
}

// What was accepted and could not be sent: every later call says so.
func TestWriteAcceptedThenLost(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		p, c, server := l.openServer("a later failure comes from every later call")
		server.SetBuffer(1)
		first := async(func() error { return c.Write(context.Background(), websocket.Binary, make([]byte, 1000)) })
		wantPending(t, "Write", first)
		if err := done(t, "a small Write behind it", async(func() error {
			return c.Write(context.Background(), websocket.Binary, make([]byte, 100))
		})); err != nil {
			t.Fatal(err)
		}
		p.Conn().(*memconn.Conn).Reset()
		lost := done(t, "Write", first)
		wantClosed(t, lost, 1006, true)
		if wantOver(t, c); !errors.Is(lost, syscall.ECONNRESET) || context.Cause(c.Context()) != lost {
			t.Errorf("Write: %v; Context: %v", lost, context.Cause(c.Context()))
		}
		for name, call := range methodsAfter(t, &scene{lab: l, p: p, c: c}, context.Background(), nil, nil) {
			if got := done(t, name, async(call)); got != lost {
				t.Errorf("%s: %v; want %v", name, got, lost)
			}
		}
	})
}

// Misuse is an error and nothing else.
func TestWriteMisuse(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		p, c := l.open("misuse sends nothing and harms nothing")
		ctx := context.Background()
		for _, typ := range []websocket.MessageType{0, 3, 8, 9, 10, 0x80, 0x83, 255} {
			if err := c.Write(ctx, typ, nil); err == nil || errors.As(err, new(*websocket.CloseError)) {
				t.Errorf("Write of type %d: %v", typ, err)
			}
			if _, err := c.Writer(ctx, typ); err == nil || errors.As(err, new(*websocket.CloseError)) {
				t.Errorf("Writer of type %d: %v", typ, err)
			}
		}
		if err := c.Write(ctx, websocket.Text, []byte("a\xff")); !errors.Is(err, websocket.ErrInvalidUTF8) {
			t.Errorf("Write: %v", err)
		}
		p.WantNothing()
		for range 2 {
			w, err := c.Writer(ctx, websocket.Text)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
			p.Want("81 00")
			for range 2 {
				if _, err := w.Write([]byte("late")); !errors.Is(err, websocket.ErrWriterClosed) {
					t.Errorf("Write after Close: %v", err)
				}
				if err := w.Close(); !errors.Is(err, websocket.ErrWriterClosed) {
					t.Errorf("Close after Close: %v", err)
				}
			}
		}
		wantOpen(t, p, c)
	})
}

// Pongs for a peer that reads nothing: bounded, the newest in the end, and
// whoever reads is not kept waiting.
func TestPongsAreBounded(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		p, c := l.open("pongs do not block reading, nor pile up")
		const pings, size, socket = 10_000, 125, 64 << 10
		read := async(func() message { return readOne(context.Background(), c) })
		var stream []byte
		for i := range pings {
			stream = append(stream, masked(0x89, fmt.Sprintf("%0*d", size, i))...)
		}
		start := time.Now()
		p.WritePieces(stream, masked(0x81, "hi"))
		if m := done(t, "Read", read); m != (message{websocket.Text, "hi", nil}) {
			t.Errorf("Read: %v", m)
		}
		wantElapsed(t, start, 0)
		last, total := -1, 0
		for last < pings-1 {
			f, ok := p.Next()
			if !ok {
				return
			}
			var n int
			if _, err := fmt.Sscanf(string(f.Payload), "%d", &n); err != nil || f.Op != 0xa || n <= last {
				t.Fatalf("received %v after the pong of ping %d", f, last)
			}
			last = n
			total += 2 + len(f.Payload)
		}
		if most := socket + 4<<10 + 2 + size; total > most {
			t.Errorf("%d bytes of pongs, want at most %d", total, most)
		}
		wantOpen(t, p, c)
	})
}

// Over a real socket: what Write takes back leaves no trace there, either.
func TestWriteCancelledTCP(t *testing.T) {
	conns := make(chan *websocket.Conn, 1)
	// Not cut, however long a slow machine takes until somebody reads.
	config := websocket.Config{WriteTimeout: 5 * time.Minute}
	b := overTCP(t, &websocket.Upgrader{Config: config, Handler: func(c *websocket.Conn) error {
		conns <- c
		<-c.Context().Done()
		return nil
	}})
	defer b.stop()
	p := b.peer("a Write that was cancelled sends nothing")
	defer p.Close()
	c := <-conns
	defer c.CloseNow()     // nobody reads, so that nobody would see the peer go
	const large = 16 << 20 // fills any socket, and keeps what follows out of it
	filling := async(func() error { return c.Write(context.Background(), websocket.Binary, make([]byte, large)) })
	header := make([]byte, 10)
	if _, err := io.ReadFull(p.Conn(), header); err != nil || header[0] != 0x82 {
		t.Fatalf("received %x, %v", header, err)
	}
	written, cancelled := 0, 0
	data := make([]byte, 1000)
	for cancelled < 3 {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		copy(data, fmt.Sprintf("%d ", written))
		if err := c.Write(ctx, websocket.Text, data); err == nil {
			written++
		} else {
			wantContextError(t, "Write", err, ctx)
			cancelled++
		}
		cancel()
	}
	if _, err := io.CopyN(io.Discard, p.Conn(), large); err != nil {
		t.Fatal(err)
	}
	for i := range written {
		data, ok := nextMessageOf(p)
		if !ok {
			return
		}
		if !bytes.HasPrefix(data, fmt.Appendf(nil, "%d ", i)) {
			t.Fatalf("message %d is %.10q", i, data)
		}
	}
	if err := <-filling; err != nil {
		t.Error(err)
	}
	if err := c.Write(context.Background(), websocket.Text, []byte("last")); err != nil {
		t.Error(err)
	}
	p.Want("81 04 6c617374")
}
