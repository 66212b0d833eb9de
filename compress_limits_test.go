package websocket_test

import (
	"bytes"
	"compress/flate"
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/conformance"
)

// deflatedZeros inflates to so many zeros. The message may go on behind it.
func deflatedZeros(n int) []byte {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.BestCompression)
	w.Write(make([]byte, n))
	w.Flush()
	return b.Bytes()
}

// squeezing serves connections that compress, in a bubble, each read as how says.
func squeezing(t *testing.T, u *websocket.Upgrader, how reading, f func(b *bench, ends <-chan error)) {
	synctest.Test(t, func(t *testing.T) {
		ends := make(chan error, 10)
		u := &websocket.Upgrader{PartialLimit: u.PartialLimit, Config: u.Config}
		u.Logger = slog.New(slog.DiscardHandler)
		u.Compression = websocket.Compression{Enable: true, Threshold: -1}
		u.Handler = func(c *websocket.Conn) error {
			err := how.all(c, func(typ websocket.MessageType, p []byte) error {
				return c.Write(context.Background(), typ, []byte{byte(len(p))})
			})
			ends <- err
			return err
		}
		b := inMemory(t, u)
		defer b.stop()
		f(b, ends)
	})
}

func (b *bench) squeezedPeer(rule string) *conformance.Peer {
	p := b.peerUnopened(rule)
	p.Offer = "permessage-deflate; client_max_window_bits"
	p.Handshake()
	return p
}

// PartialLimit is about what is held: bytes that have been inflated. What a Reader
// takes is not held.
func TestPartialLimitCountsInflated(t *testing.T) {
	const kib = 1 << 10
	for _, how := range readings {
		squeezing(t, &websocket.Upgrader{PartialLimit: 300 * kib}, how, func(b *bench, ends <-chan error) {
			first := b.squeezedPeer("two parts of 100 KiB are held")
			second := b.squeezedPeer("and a third")
			third := b.squeezedPeer("but no more")
			part := deflatedZeros(100 * kib) // in some hundred bytes
			for _, p := range []*conformance.Peer{first, second} {
				p.WritePieces(masked(0x42, string(part)))
				p.WantNothing()
			}
			third.WritePieces(masked(0x42, string(part)))
			third.WritePieces(masked(0x00, string(part)))
			if how.name == "Reader" {
				third.WantNothing()
			} else {
				third.WantFail(1013)
				<-ends
				// What the third held is free again.
				second.WritePieces(masked(0x00, string(deflatedZeros(50*kib))))
				second.WantNothing()
			}
			for _, p := range []*conformance.Peer{first, second} {
				p.WritePieces(masked(0x80, "\x00"))
				if f, ok := p.Next(); ok && len(f.Payload) != 1 {
					t.Errorf("%s: received %v", how.name, f)
				}
				p.Close()
				<-ends
			}
			third.Close()
		})
	}
}

// MessageTimeout is about the time that a message takes on the wire: what it
// inflates to gives it no more.
func TestMessageTimeoutOfCompressed(t *testing.T) {
	for _, how := range readings {
		squeezing(t, &websocket.Upgrader{Config: websocket.Config{MessageTimeout: 10 * time.Second, PingInterval: -1}}, how, func(b *bench, ends <-chan error) {
			p := b.squeezedPeer("a compressed message that does not end is given up")
			p.Patience = time.Hour
			start := time.Now()
			p.WritePieces(masked(0x42, string(deflatedZeros(500<<10))))
			p.WantFail(1008)
			if d := time.Since(start); d < 10*time.Second || d > 13*time.Second {
				t.Errorf("%s: it took %v", how.name, d)
			}
			<-ends
			p.Close()

			// One that comes in time is none, and leaves none behind.
			p = b.squeezedPeer("one that ends in time")
			for i := range 4 {
				p.WritePieces(masked(0x42, string(deflatedZeros(10))))
				time.Sleep(8 * time.Second)
				p.WritePieces(masked(0x80, "\x00"))
				if f, ok := p.Next(); ok && string(f.Payload) != "\x0a" {
					t.Errorf("%s, message %d: received %v", how.name, i, f)
				}
			}
			p.WantOpen()
			p.Close()
			<-ends
		})
	}
}

// A read that is cancelled in the middle of a compressed message loses nothing of
// it, whoever goes on: every fragment of one byte, each with a call of its own.
func TestCancelledReadsOfCompressed(t *testing.T) {
	inLab(t, websocket.Config{Compression: websocket.Compression{Enable: true}}, func(t *testing.T, l *lab) {
		p := l.squeezedPeer("a cancelled read of a compressed message goes on")
		c := <-l.conns
		defer c.CloseNow()
		defer p.Close()
		message := bytes.Repeat([]byte("one after the other, "), 30)
		var b bytes.Buffer
		w, _ := flate.NewWriter(&b, 9)
		w.Write(message)
		w.Flush()
		body := bytes.TrimSuffix(b.Bytes(), []byte{0, 0, 0xff, 0xff})
		for round := range 3 {
			var frames []byte
			for i := range body {
				b0 := byte(0)
				if i == 0 {
					b0 = 0x41
				}
				if i == len(body)-1 {
					b0 |= 0x80
				}
				frames = append(frames, masked(b0, string(body[i:i+1]))...)
			}
			dst := []byte("before")
			for i := range frames {
				p.WritePieces(frames[i : i+1])
				if i == len(frames)-1 {
					break
				}
				ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
				var err error
				switch (i + round) % 3 {
				case 0:
					_, _, err = c.Read(ctx)
				case 1:
					_, dst, err = c.ReadAppend(ctx, dst)
				default:
					_, err = c.Ping(ctx)
				}
				if err == nil || string(dst) != "before" {
					t.Fatalf("byte %d: %v, %q", i, err, dst)
				}
				cancel()
			}
			var got []byte
			var err error
			if round == 1 {
				var typ websocket.MessageType
				if typ, got, err = c.ReadAppend(context.Background(), dst); err == nil && typ == websocket.Text {
					got = got[len(dst):]
				}
			} else {
				_, got, err = c.Read(context.Background())
			}
			if err != nil || !bytes.Equal(got, message) {
				t.Fatalf("round %d: %q, %v", round, got, err)
			}
		}
	})
}
