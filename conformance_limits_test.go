package websocket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/conformance"
	"github.com/sockeye-ws/websocket/internal/memconn"
)

// L-05, X-10: a peer that takes nothing is cut when the time is over, and no
// Close frame tries to get through.
func TestL05WriteTimeout(t *testing.T) {
	for _, test := range []struct {
		name            string
		configured, got time.Duration
	}{
		{"the default is 10 s", 0, 10 * time.Second},
		{"as configured", 2 * time.Second, 2 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			inLab(t, websocket.Config{WriteTimeout: test.configured}, func(t *testing.T, l *lab) {
				p, c := l.open("L-05: a write without progress ends the connection")
				end := readingOn(c)
				start := time.Now()
				for context.Cause(c.Context()) == nil {
					if err := c.Write(context.Background(), websocket.Binary, make([]byte, 32<<10)); err != nil {
						wantTimeout(t, err)
					}
				}
				wantElapsed(t, start, test.got)
				wantTimeout(t, <-end)
				wantTimeout(t, c.Write(context.Background(), websocket.Binary, nil))
				frames, err := p.Rest()
				for _, f := range frames {
					if f.Op == 8 {
						t.Errorf("X-10: a Close frame after a write that timed out: %v", f)
					}
				}
				if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
					t.Error("X-10: the transport has not ended")
				}
			})
		})
	}
	t.Run("progress counts", func(t *testing.T) {
		inLab(t, websocket.Config{WriteTimeout: 2 * time.Second}, func(t *testing.T, l *lab) {
			p, c := l.open("L-05: a slow peer is not a dead one")
			readingOn(c)
			written := make(chan error)
			go func() { written <- c.Write(context.Background(), websocket.Binary, make([]byte, 1<<20)) }()
			for range 16 {
				time.Sleep(1900 * time.Millisecond)
				if _, err := io.ReadFull(p.Conn(), make([]byte, 64<<10)); err != nil {
					t.Fatal(err)
				}
			}
			if err := <-written; err != nil {
				t.Errorf("the write failed: %v", err)
			}
		})
	})
}

// a transport that refuses a write has lost the connection.
func TestX10WriteFails(t *testing.T) {
	broken := errors.New("the cable is cut")
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		var server *memconn.Conn
		l.tune = func(c *memconn.Conn) { server = c }
		_, c := l.open("X-10: a write that fails is a lost connection")
		end := readingOn(c)
		server.FailWriteAfter(0, broken)
		c.Write(context.Background(), websocket.Text, []byte("hi"))
		err := <-end
		wantClosed(t, err, 1006, true)
		if !errors.Is(err, broken) {
			t.Errorf("the cause of %v is not %v", err, broken)
		}
	})
}

// L-18: a peer that sends Pings and reads nothing has the time of a write
// that makes no progress, and costs no memory.
func TestL18PingsWithoutReading(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		l.tune = func(c *memconn.Conn) { c.SetBuffer(4 << 10) }
		p, c := l.open("L-18: writing must not block reading for ever")
		end := readingOn(c)
		start := time.Now()
		const perWrite = 1000
		pings := bytes.Repeat([]byte{0x89, 0x84, 0, 0, 0, 0, 1, 2, 3, 4}, perWrite)
		p.Conn().SetDeadline(time.Time{})
		for range 1_000_000 / perWrite {
			if _, err := p.Conn().Write(pings); err != nil {
				break
			}
		}
		wantTimeout(t, <-end)
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("took %v, more than WriteTimeout", d)
		}
		<-c.Context().Done()
	})
}

// C-05: with a socket that takes nothing, 4 KiB of Pongs are kept in order;
// beyond that the newest Ping is the one that is answered.
func TestC05PongsCoalesce(t *testing.T) {
	const rule = "C-05: one Pong each, in order, up to 4 KiB that the socket has not taken; then the newest"
	const pings, size = 3000, 100
	send := func(p *conformance.Peer) {
		for i := range pings {
			p.WritePieces(conformance.MaskedFrame(0x89, [4]byte{}, fmt.Appendf(nil, "%0*d", size, i)))
		}
	}
	// receive returns how many came, and how many before the first gap.
	receive := func(p *conformance.Peer) (received, kept int) {
		for last := -1; last < pings-1; {
			f, ok := p.Next()
			if !ok {
				return received, kept
			}
			var n int
			if _, err := fmt.Sscanf(string(f.Payload), "%d", &n); err != nil || f.Op != 0xa || n <= last {
				t.Errorf("received %v after the Pong of Ping %d", f, last)
				return received, kept
			}
			if n == received {
				kept++
			}
			received++
			last = n
		}
		return received, kept
	}
	t.Run("memory", func(t *testing.T) {
		inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
			const socket = 1 << 10
			l.tune = func(c *memconn.Conn) { c.SetBuffer(socket) }
			p, c := l.open(rule)
			readingOn(c)
			send(p)
			synctest.Wait()
			received, kept := receive(p)
			if kept < 4<<10/(size+2) {
				t.Errorf("only %d Pongs came before the first gap", kept)
			}
			if most := (socket+4<<10)/(size+2) + 2; received > most {
				t.Errorf("%d Pongs were kept, more than %d", received, most)
			}
			p.WantOpen()
		})
	})
	// Sockets take part of a frame, and the rest follows when they can.
	onSockets(t, rule, 4<<10, func(t *testing.T, p *conformance.Peer, _ *websocket.Conn) {
		send(p)
		if received, _ := receive(p); received < 4<<10/(size+2) {
			t.Errorf("only %d Pongs came", received)
		}
		p.WantOpen()
	})
}

// C-05: 4 KiB of Pongs are 32 of the largest, however few reads brought their
// Pings.
func TestC05PongsOfOneRead(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		p, c := l.open("C-05: every Ping has its own Pong")
		readingOn(c)
		var pings []byte
		for i := range 32 {
			pings = append(pings, conformance.MaskedFrame(0x89, [4]byte{1, 2, 3, 4}, fmt.Appendf(nil, "%0125d", i))...)
		}
		p.WritePieces(pings)
		for i := range 32 {
			p.Want(fmt.Sprintf("8a 7d %x", fmt.Appendf(nil, "%0125d", i)))
		}
		p.WantOpen()
	})
}

// G-09: many fragments cost what their bytes cost.
func TestG09ManyFragments(t *testing.T) {
	const size, fragment = 4 << 20, 64
	var frames []byte
	for i := range size / fragment {
		b0 := byte(0)
		if i == 0 {
			b0 = 1
		}
		if i == size/fragment-1 {
			b0 |= 0x80
		}
		frames = append(frames, conformance.MaskedFrame(b0, [4]byte{1, 2, 3, 4}, bytes.Repeat([]byte("a"), fragment))...)
	}
	inLab(t, websocket.Config{ReadLimit: size, MaxFragments: -1}, func(t *testing.T, l *lab) {
		p, c := l.open("G-09: 65536 fragments are linear in time and memory")
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		go p.Conn().Write(frames)
		_, data, err := c.Read(context.Background())
		runtime.ReadMemStats(&after)
		if err != nil || len(data) != size {
			t.Fatalf("%d bytes, %v", len(data), err)
		}
		// Doubling up to the size and a copy are linear; a copy per
		// fragment would be 128 GiB.
		if got := after.TotalAlloc - before.TotalAlloc; got > 8*size {
			t.Errorf("allocated %d bytes for a message of %d", got, size)
		}
	})
}

// L-09: what is written and not taken is bounded; then Write waits, and a
// write of which nothing has been sent can be taken back.
func TestL09BackPressure(t *testing.T) {
	inLab(t, websocket.Config{WriteTimeout: -1}, func(t *testing.T, l *lab) {
		p, c := l.open("L-09: a slow peer is back-pressure")
		readingOn(c)
		go c.Write(context.Background(), websocket.Text, bytes.Repeat([]byte("a"), 100_000))
		synctest.Wait() // it fills the socket
		start := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		accepted := 0
		var err error
		for err == nil && accepted < 1000 {
			if err = c.Write(ctx, websocket.Binary, bytes.Repeat([]byte{byte(accepted)}, 8<<10)); err == nil {
				accepted++
			}
		}
		wantElapsed(t, start, time.Second)
		if most := 256 << 10 / (8 << 10); accepted > most {
			t.Errorf("%d writes of 8 KiB were accepted, more than %d", accepted, most)
		}
		var closed *websocket.CloseError
		if !errors.Is(err, context.DeadlineExceeded) || errors.As(err, &closed) {
			t.Errorf("L-19: the write that waited returned %v", err)
		}
		p.Want("81 7f 00000000000186a0 rep(61,100000)")
		for i := range accepted {
			p.Want(fmt.Sprintf("82 7e 2000 rep(%02x,8192)", i))
		}
		p.WantNothing()
		p.WantOpen()
	})
}

// L-12: memory follows the bytes that came, not those that are announced.
func TestL12AnnouncedLengths(t *testing.T) {
	const n = 1000
	inLab(t, websocket.Config{ReadLimit: 1 << 20}, func(t *testing.T, l *lab) {
		var peers []*conformance.Peer
		for range n {
			p, c := l.open("L-12: nothing is reserved for an announced length")
			readingOn(c)
			peers = append(peers, p)
		}
		synctest.Wait()
		before := heap() // without what pools keep, which is as much as others needed at once
		for _, p := range peers {
			p.Write("82 ff 0000000000100000 z 61")
		}
		synctest.Wait()
		if after := heap(); after > before+n*(16<<10) {
			t.Errorf("%d bytes per connection for an announced MiB", (after-before)/n)
		}
	})
}

// L-16: fragments without bytes cost no memory, and their number is bounded.
func TestL16EmptyFragments(t *testing.T) {
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		p, c := l.open("L-16: empty fragments use no memory")
		end := readingOn(c)
		fragments := bytes.Repeat([]byte{0, 0x80, 0, 0, 0, 0}, 16_000)
		p.Write("01 80 z")
		synctest.Wait()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		p.Conn().Write(fragments)
		synctest.Wait()
		runtime.ReadMemStats(&after)
		if n := after.Mallocs - before.Mallocs; n > 1000 {
			t.Errorf("16000 empty fragments took %d allocations", n)
		}
		// Under the race detector pools drop some of the buffers for reading.
		if got := after.TotalAlloc - before.TotalAlloc; got > 256<<10 && !underRace() {
			t.Errorf("16000 empty fragments took %d bytes", got)
		}
		p.WantOpen()
		p.Conn().Write(fragments)
		p.WantFail(1009)
		wantClosed(t, <-end, 1009, false)
	})
}

// a limit of 0 is the default and not none.
func TestX16Limits(t *testing.T) {
	for limit, over := range map[int64]string{
		0:     "82 ff 0000000000100001 z",
		1:     "82 82 z",
		65536: "82 ff 0000000000010001 z",
	} {
		inLab(t, websocket.Config{ReadLimit: limit}, func(t *testing.T, l *lab) {
			p, c := l.open(fmt.Sprintf("X-16: what ReadLimit %d means", limit))
			readingOn(c)
			p.Write(over)
			p.WantFail(1009)
		})
	}
}
