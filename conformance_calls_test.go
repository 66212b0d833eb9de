package websocket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
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

// F-01, F-02: every pair of first bytes that is illegal whatever follows is
// answered after these two; any other waits for more, as no frame of a
// client is whole after two bytes.
func TestF01TwoBytes(t *testing.T) {
	legal := func(b0, b1 byte, inMessage bool) bool {
		fin, rsv, op, masked, size := b0>>7, b0&0x70, b0&15, b1>>7, b1&127
		switch {
		case rsv != 0, op > 2 && op < 8, op > 10, masked == 0:
			return false
		case op >= 8:
			return fin == 1 && size <= 125
		case op == 0:
			return inMessage
		default:
			return !inMessage
		}
	}
	second := []byte{0x00, 0x01, 0x7d, 0x7e, 0x7f, 0x80, 0x81, 0xfd, 0xfe, 0xff}
	if testing.Short() {
		second = []byte{0x00, 0x80, 0xfe}
	}
	synctest.Test(t, func(t *testing.T) {
		runs := make(chan *run, 1)
		b := inMemory(t, upgrader(conformance.Row{}, readings[0], runs))
		defer b.stop()
		for _, inMessage := range []bool{false, true} {
			for b0 := range 256 {
				for _, b1 := range second {
					row := conformance.Row{ID: "F-01", Rule: "the header rule", Trace: fmt.Sprintf("C> %02x%02x ", b0, b1)}
					if inMessage {
						row.Trace = "C> 01 81 z 61 " + row.Trace
					}
					if legal(byte(b0), b1, inMessage) {
						row.Trace += "nothing FIN DROP"
					} else {
						row.Trace += "FAIL(1002)"
					}
					if !playInMemory(t, b, row, conformance.Whole, runs) {
						return
					}
				}
			}
		}
	})
}

// M-04: masking is right for every length, at every alignment of the payload
// in the buffer, and in pieces of any size.
func TestM04Alignments(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		p, c := l.open("M-04: unmasking equals the byte-wise formula")
		var frames []byte
		var want [][]byte
		rng := mathrand.New(mathrand.NewPCG(4, 4))
		for size := range 71 {
			for align := range 9 {
				payload := make([]byte, size)
				for i := range payload {
					payload[i] = byte(rng.Uint32())
				}
				var key [4]byte
				for i := range key {
					key[i] = byte(rng.Uint32())
				}
				// A Pong in front moves the payload.
				frames = append(frames, conformance.MaskedFrame(0x8a, key, payload[:min(align, size)])...)
				frames = append(frames, conformance.MaskedFrame(0x82, key, payload)...)
				want = append(want, payload)
			}
		}
		for _, piece := range []int{1, 3, 5, 7, 4096, len(frames)} {
			checked := make(chan struct{})
			go func() {
				defer close(checked)
				for i, want := range want {
					_, got, err := c.Read(context.Background())
					if err != nil || !bytes.Equal(got, want) {
						t.Errorf("pieces of %d, message %d: %x, %v; want %x", piece, i, got, err, want)
						return
					}
				}
			}()
			p.WritePieces(slices.Collect(slices.Chunk(frames, piece))...)
			<-checked
		}
	})
}

// C-09, C-10: a Ping is answered by its own payload and by nothing else.
func TestC09PingMatches(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		p, c := l.open("C-09: a Pong with another payload is ignored")
		type result struct {
			rtt time.Duration
			err error
		}
		results := make(chan result, 1)
		ping := func() (f conformance.Frame) {
			go func() {
				rtt, err := c.Ping(context.Background())
				results <- result{rtt, err}
			}()
			f, _ = p.Next()
			if f.Op != 9 || len(f.Payload) == 0 || len(f.Payload) > 125 {
				t.Fatalf("received %v, want a Ping with a payload", f)
			}
			return f
		}
		first := ping()
		time.Sleep(20 * time.Millisecond)
		p.Write("8a 80 z 8a 81 z 32")
		p.WritePieces(conformance.MaskedFrame(0x8a, [4]byte{}, append(bytes.Clone(first.Payload), 0)))
		for i := range first.Payload {
			other := bytes.Clone(first.Payload)
			other[i] ^= 0xff
			p.WritePieces(conformance.MaskedFrame(0x8a, [4]byte{}, other))
		}
		synctest.Wait()
		if len(results) > 0 {
			t.Fatalf("C-09: Ping returned %v after Pongs that are not its own", <-results)
		}
		time.Sleep(10 * time.Millisecond)
		p.WritePieces(conformance.MaskedFrame(0x8a, [4]byte{1, 2, 3, 4}, first.Payload))
		if r := <-results; r.err != nil || r.rtt != 30*time.Millisecond {
			t.Errorf("Ping: %v, %v; want exactly 30 ms", r.rtt, r.err)
		}
		second := ping()
		if bytes.Equal(first.Payload, second.Payload) {
			t.Errorf("C-10: two Pings have the same payload %x", first.Payload)
		}
		p.WritePieces(conformance.MaskedFrame(0x8a, [4]byte{}, first.Payload))
		synctest.Wait()
		if len(results) > 0 {
			t.Fatalf("C-09: an old Pong answered a new Ping: %v", <-results)
		}
		third := ping()
		p.WritePieces(conformance.MaskedFrame(0x8a, [4]byte{}, second.Payload))
		if r := <-results; r.err != nil {
			t.Errorf("Ping: %v", r.err)
		}
		synctest.Wait()
		if len(results) > 0 {
			t.Fatalf("C-09: one Pong answered two Pings: %v", <-results)
		}
		p.WritePieces(conformance.MaskedFrame(0x8a, [4]byte{}, third.Payload))
		if r := <-results; r.err != nil {
			t.Errorf("Ping: %v", r.err)
		}
	})
}

// C-11: whoever reads answers Pings; while nobody does they wait.
func TestC11WhoAnswersPings(t *testing.T) {
	ctx := context.Background()
	for _, test := range []struct {
		name  string
		start func(p *conformance.Peer, c *websocket.Conn)
	}{
		{"a read", func(p *conformance.Peer, c *websocket.Conn) { readingOn(c) }},
		{"the reader of a message", func(p *conformance.Peer, c *websocket.Conn) {
			p.Write("02 81 z 61")
			_, r, err := c.Reader(ctx)
			if err != nil {
				p.Errorf("Reader: %v", err)
				return
			}
			go io.Copy(io.Discard, r)
		}},
		{"CloseRead", func(p *conformance.Peer, c *websocket.Conn) { c.CloseRead() }},
		{"a Ping in progress", func(p *conformance.Peer, c *websocket.Conn) {
			go c.Ping(ctx)
			p.Next()
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
				p, c := l.open("C-11: Pongs are sent as soon as somebody reads")
				test.start(p, c)
				p.Write("89 81 z 31")
				p.Want("8a 01 31")
			})
		})
	}
	t.Run("nobody", func(t *testing.T) {
		inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
			p, c := l.open("C-11: between two reads Pings wait")
			p.Write("89 81 z 31")
			p.WantNothing()
			time.Sleep(time.Hour)
			readingOn(c)
			p.Want("8a 01 31")
		})
	})
}

// G-06: whatever the application writes in pieces is one message on the wire,
// with control frames only between its frames.
func TestG06StreamedMessage(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		p, c := l.open("G-06: fragments of one message, control frames between them")
		readingOn(c)
		var want bytes.Buffer
		done := make(chan error, 1)
		go func() {
			w, err := c.Writer(context.Background(), websocket.Text)
			for i := 0; err == nil && i < 200; i++ {
				piece := strings.Repeat(string(rune('a'+i%26)), 1+i*37)
				want.WriteString(piece)
				_, err = io.WriteString(w, piece)
			}
			if err == nil {
				err = w.Close()
			}
			done <- err
		}()
		go p.Conn().Write(slices.Repeat(conformance.MaskedFrame(0x89, [4]byte{}, []byte("?")), 20))
		var got []byte
		for pongs, fin := 0, false; pongs < 20 || !fin; {
			f, ok := p.Next()
			switch {
			case !ok:
				return
			case f.Op == 0xa:
				pongs++
			case len(got) == 0 && f.Op != 1:
				t.Fatalf("G-05: the message begins with %v", f)
			default:
				got, fin = append(got, f.Payload...), f.Fin
			}
		}
		if err := <-done; err != nil {
			t.Fatalf("writing: %v", err)
		}
		if !bytes.Equal(got, want.Bytes()) {
			t.Errorf("received %d bytes that are not the %d written", len(got), want.Len())
		}
	})
}

// U-12: text that is no text is refused, and nothing of it is sent.
func TestU12InvalidTextIsRefused(t *testing.T) {
	ctx := context.Background()
	for _, invalid := range []string{"\xff", "abc\xe2\x82", "\xed\xa0\x80", strings.Repeat("a", 100_000) + "\xc0"} {
		inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
			p, c := l.open("U-12: invalid UTF-8 is not sent as text")
			readingOn(c)
			if err := c.Write(ctx, websocket.Text, []byte(invalid)); !errors.Is(err, websocket.ErrInvalidUTF8) {
				t.Errorf("Write(%.10q): %v", invalid, err)
			}
			p.WantNothing()
			p.WantOpen()
			if err := c.Write(ctx, websocket.Binary, []byte("\xff")); err != nil {
				t.Errorf("binary: %v", err)
			}
			p.Want("82 01 ff")
		})
	}
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		p, c := l.open("U-12: text may be written in pieces that cut a code point, and must be whole in the end")
		readingOn(c)
		w, err := c.Writer(ctx, websocket.Text)
		if err != nil {
			t.Fatal(err)
		}
		for _, piece := range []string{"\xe2", "\x82", "\xac"} {
			if _, err := io.WriteString(w, piece); err != nil {
				t.Fatalf("%q: %v", piece, err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		var got []byte
		for fin := false; !fin; {
			f, ok := p.Next()
			if !ok {
				return
			}
			got, fin = append(got, f.Payload...), f.Fin
		}
		if string(got) != "€" {
			t.Errorf("received %q", got)
		}
		if w, err = c.Writer(ctx, websocket.Text); err != nil {
			t.Fatal(err)
		}
		_, err1 := io.WriteString(w, "a\xe2\x82")
		if err2 := w.Close(); !errors.Is(errors.Join(err1, err2), websocket.ErrInvalidUTF8) {
			t.Errorf("half a code point: %v, %v", err1, err2)
		}
	})
}

// S-07: what Write has taken is the library's, whatever the caller does with
// the slice, and the slice is never changed.
func TestS07PayloadIsTaken(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		l.tune = func(c *memconn.Conn) { c.SetBuffer(1 << 10) }
		p, c := l.open("S-07: a payload cannot be changed once Write has returned")
		readingOn(c)
		go func() {
			data := bytes.Repeat([]byte("a"), 60_000)
			if err := c.Write(context.Background(), websocket.Binary, data); err != nil {
				t.Error(err)
			}
			if bytes.Count(data, []byte("a")) != len(data) {
				t.Error("Write has changed the caller's bytes")
			}
			clear(data)
		}()
		synctest.Wait()
		p.Want("82 7e ea60 rep(61,60000)")
	})
}

// L-17: messages of many writers are whole and in each writer's order.
func TestL17ManyWriters(t *testing.T) {
	const rule = "L-17: frames never interleave, messages neither, control frames go between frames"
	const writers, each = 50, 20
	message := func(w, i int) []byte {
		size := 1 << ((w + i) % 17)
		return bytes.Repeat(fmt.Appendf(nil, "%02d.%02d ", w, i), 1+size/6)
	}
	write := func(c *websocket.Conn, w, i int) error {
		if w%5 != 0 {
			return c.Write(context.Background(), websocket.Binary, message(w, i))
		}
		stream, err := c.Writer(context.Background(), websocket.Binary)
		if err != nil {
			return err
		}
		for piece := range slices.Chunk(message(w, i), 5000) {
			if _, err := stream.Write(piece); err != nil {
				return err
			}
		}
		return stream.Close()
	}
	exchange := func(t *testing.T, p *conformance.Peer, c *websocket.Conn) {
		var wg sync.WaitGroup
		defer wg.Wait()
		for w := range writers {
			wg.Go(func() {
				for i := range each {
					if err := write(c, w, i); err != nil {
						t.Errorf("writer %d, message %d: %v", w, i, err)
						return
					}
				}
			})
		}
		wg.Go(func() {
			p.Conn().Write(slices.Repeat(conformance.MaskedFrame(0x89, [4]byte{}, []byte("?")), 50))
		})
		next := make([]int, writers)
		var got []byte
		for received := 0; received < writers*each; {
			f, ok := p.Next()
			if !ok {
				c.CloseNow()
				return
			}
			if f.Op == 0xa {
				continue
			}
			got = append(got, f.Payload...)
			if !f.Fin {
				continue
			}
			var w, i int
			if _, err := fmt.Sscanf(string(got[:min(len(got), 6)]), "%d.%d", &w, &i); err != nil || w >= writers || i != next[w] || !bytes.Equal(got, message(w, i)) {
				t.Errorf("message %d is mixed up: %.20q… (%d bytes)", received, got, len(got))
				c.CloseNow()
				return
			}
			next[w]++
			received++
			got = got[:0]
		}
	}
	t.Run("memory", func(t *testing.T) {
		inLab(t, websocket.Config{WriteTimeout: -1}, func(t *testing.T, l *lab) {
			p, c := l.open(rule)
			readingOn(c)
			exchange(t, p, c)
		})
	})
	onSockets(t, rule, 0, exchange)
}

// L-19: a context ends the call and nothing else; the next one goes on where
// the one before was interrupted, wherever that was.
func TestL19CancelledReads(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		p, c := l.open("L-19: a cancelled read loses nothing")
		type result struct {
			typ  websocket.MessageType
			data []byte
			err  error
		}
		frames := conformance.MaskedFrame(0x01, [4]byte{1, 2, 3, 4}, []byte("hel"))
		frames = append(frames, conformance.MaskedFrame(0x89, [4]byte{5, 6, 7, 8}, []byte("?"))...)
		frames = append(frames, conformance.MaskedFrame(0x80, [4]byte{9, 9, 9, 9}, []byte("lo"))...)
		for i := range frames {
			ctx, cancel := context.WithCancelCause(context.Background())
			results := make(chan result, 1)
			go func() {
				typ, data, err := c.ReadAppend(ctx, []byte("dst"))
				results <- result{typ, data, err}
			}()
			synctest.Wait()
			cause := fmt.Errorf("enough, %d", i)
			cancel(cause)
			r := <-results
			var closed *websocket.CloseError
			if !errors.Is(r.err, context.Canceled) || !errors.Is(r.err, cause) || errors.As(r.err, &closed) || string(r.data) != "dst" {
				t.Fatalf("byte %d: %q, %v", i, r.data, r.err)
			}
			p.WritePieces(frames[i : i+1])
		}
		typ, data, err := c.Read(context.Background())
		if err != nil || typ != websocket.Text || string(data) != "hello" {
			t.Errorf("read %v, %q, %v", typ, data, err)
		}
		p.Want("8a 01 3f")
		readingOn(c)
		p.WantOpen()
	})
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		_, c := l.open("L-19: a deadline ends the call at its time")
		start := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 1234*time.Millisecond)
		defer cancel()
		if _, _, err := c.Read(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Read: %v", err)
		}
		if _, err := c.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Ping: %v", err)
		}
		wantElapsed(t, start, 1234*time.Millisecond)
	})
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		l.tune = func(c *memconn.Conn) { c.SetBuffer(1 << 10) }
		p, c := l.open("L-19: a message of which a part is sent cannot be taken back, so its connection ends")
		end := readingOn(c)
		start := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := c.Write(ctx, websocket.Binary, make([]byte, 4<<20)); err == nil {
			t.Error("the write succeeded")
		}
		wantElapsed(t, start, time.Second)
		if err := <-end; !errors.As(err, new(*websocket.CloseError)) {
			t.Errorf("the read returned %v", err)
		}
		if frames, _ := p.Rest(); len(frames) > 0 {
			t.Errorf("a whole frame came: %v", frames)
		}
	})
}

// L-20: what was not read of a message does not reach the next one.
func TestL20PartlyReadMessages(t *testing.T) {
	ctx := context.Background()
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		p, c := l.open("L-20: the rest of a message is discarded, never mixed with the next")
		p.Write("01 84 z 61626364 00 84 z 65666768 80 80 z 82 82 z 3132 81 82 z 7879")
		_, first, err := c.Reader(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(first, make([]byte, 2)); err != nil {
			t.Fatal(err)
		}
		typ, second, err := c.Reader(ctx)
		if err != nil || typ != websocket.Binary {
			t.Fatalf("Reader: %v, %v", typ, err)
		}
		for range 2 {
			if n, err := first.Read(make([]byte, 8)); n != 0 || !errors.Is(err, websocket.ErrStaleReader) {
				t.Errorf("the first reader gives %d bytes, %v", n, err)
			}
		}
		if _, err := second.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		typ, data, err := c.Read(ctx)
		if err != nil || typ != websocket.Text || string(data) != "xy" {
			t.Errorf("Read: %v, %q, %v", typ, data, err)
		}
	})
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		p, c := l.open("L-20: a violation in what is skipped is one all the same")
		p.Write("01 84 z 61626364 80 81 z ff 81 80 z")
		_, r, err := c.Reader(ctx)
		if err != nil {
			t.Fatal(err)
		}
		r.Read(make([]byte, 1))
		_, _, err = c.Read(ctx)
		wantClosed(t, err, 1007, false)
		p.WantFail(1007)
	})
}

// CloseRead refuses data with 1003.
func TestX02CloseRead(t *testing.T) {
	for _, in := range []string{"81 81 z 61", "82 80 z", "01 80 z"} {
		inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
			p, c := l.open("X-02: an application that reads no messages refuses them")
			c.CloseRead()
			if err := c.Write(context.Background(), websocket.Text, []byte("hi")); err != nil {
				t.Error(err)
			}
			p.Want("81 02 6869")
			p.WantOpen()
			p.Write(in)
			p.WantFail(1003)
			p.Close()
			<-c.Context().Done()
			wantClosed(t, context.Cause(c.Context()), 1003, false)
		})
	}
}
