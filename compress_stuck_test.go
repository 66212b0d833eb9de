package websocket

import (
	"bytes"
	"compress/flate"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket/internal/conformance"
	"github.com/sockeye-ws/websocket/internal/memconn"
)

// stuckOf is wireOf over a socket that takes as much as its peer has room for, with
// or without telling.
func stuckOf(t *testing.T, config Config, tries bool, room int, agreed deflation) (*Conn, *conformance.Peer, *tap) {
	t.Helper()
	peer, server := memconn.Pair()
	server.SetBuffer(room)
	config.Compression.Enable = true
	config.PingInterval = -1
	config.Logger = slog.New(slog.DiscardHandler)
	tp := &tap{tries: tries, here: server, peer: peer, size: room}
	c := newConn(server, nil, on(config), "", nil)
	tp.Conn, c.t = c.t, tp
	c.out.Init(c.t, (*member)(c), &c.cfg.queue)
	c.compressing(&agreed)
	p := conformance.NewPeer(t, peer)
	p.Settle = synctest.Wait
	p.Agree(agreed.String())
	return c, p, tp
}

// A Write that is cancelled before any of it was sent has never been in the window,
// nor has the beginning of a message by a Writer: what follows is read right, though
// it repeats what they had.
func TestCancelledWriteIsInNoWindow(t *testing.T) {
	text := func(seed uint64, n int) []byte {
		var b []byte
		for _, x := range noisy(seed, n) {
			b = append(b, "0123456789abcdef"[x&15])
		}
		return b
	}
	for _, tries := range []bool{false, true} {
		for _, size := range []int{600, 9 << 10, 40 << 10, 200 << 10} {
			for _, writer := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					c, p, tp := stuckOf(t, Config{WriteTimeout: -1, WriteQueue: 10}, tries, 1<<20, deflation{serverBits: 12})
					p.Rule = fmt.Sprintf("tries %v, %d bytes, by a Writer %v", tries, size, writer)
					first, lost := text(1, 3000), text(2, size)
					if err := c.Write(background, Text, first); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
					tp.stall(true)
					if tries { // what does not wait for anything fills the queue
						if err := c.Write(background, Text, first); err != nil {
							t.Fatal(err)
						}
						synctest.Wait()
					}
					ctx, cancel := context.WithTimeout(background, time.Second)
					defer cancel()
					var err error
					if writer {
						var w io.WriteCloser
						if w, err = c.Writer(ctx, Text); err == nil {
							if _, err = w.Write(lost); err == nil {
								err = w.Close()
							}
						}
					} else {
						err = c.Write(ctx, Text, lost)
					}
					if !errors.Is(err, context.DeadlineExceeded) || errors.As(err, new(*CloseError)) {
						t.Fatalf("%s: %v", p.Rule, err)
					}
					tp.stall(false)
					synctest.Wait()
					after := [][]byte{lost, first, slices.Concat(first[:100], lost), lost}
					go func() {
						for _, m := range after {
							if err := c.Write(background, Text, m); err != nil {
								t.Errorf("%s: %v", p.Rule, err)
							}
						}
					}()
					wantMessage(t, p, Text, first, true)
					if tries {
						wantMessage(t, p, Text, first, true)
					}
					for _, m := range after {
						wantMessage(t, p, Text, m, true)
					}
					over(c)
				})
			}
		}
	}
}

// Wherever a socket is full, what comes after it is whole: messages by all ways to
// send, stuck at every byte of them.
func TestCompressedStuckAtEveryByte(t *testing.T) {
	text := []byte(strings.Repeat("a river and a sea and a river again, ", 8))
	send := func(t *testing.T, c *Conn) (sent [][]byte) {
		for i, name := range []string{"Write", "Send", "SendPrepared", "Writer", "Group", "Write", "Send", "SendPrepared"} {
			data := fmt.Appendf(nil, "%d %s", i, text[i*7:])
			if err := waysToSend[name](c, Text, data); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			sent = append(sent, data)
		}
		return sent
	}
	for _, tries := range []bool{true, false} {
		for room := 1; room < 700; room += map[bool]int{true: 1, false: 3}[tries && !testing.Short()] {
			synctest.Test(t, func(t *testing.T) {
				c, p, _ := stuckOf(t, Config{WriteTimeout: -1, Compression: Compression{Threshold: -1}}, tries, room, deflation{serverBits: 9})
				p.Rule = fmt.Sprintf("tries %v, room for %d bytes", tries, room)
				done := make(chan [][]byte, 1)
				go func() { done <- send(t, c) }()
				synctest.Wait() // as far as it goes
				var sent [][]byte
				for i := range 8 {
					f, ok := p.Next()
					if !ok {
						break
					}
					if want := fmt.Appendf(nil, "%d %s", i, text[i*7:]); !bytes.Equal(f.Payload, want) {
						t.Errorf("%s: message %d: received %v", p.Rule, i, f)
					}
				}
				if sent = <-done; len(sent) != 8 {
					t.Errorf("%d messages", len(sent))
				}
				synctest.Wait()
				if b, m := c.Queued(); b != 0 || m != 0 {
					t.Errorf("%s: %d bytes of %d messages are queued", p.Rule, b, m)
				}
				over(c)
			})
			if t.Failed() {
				return
			}
		}
	}
}

// What Overflow drops was never in a window: a peer that is slow reads what is left
// right, whichever that is, and the queue's account is right.
func TestDroppedIsInNoWindow(t *testing.T) {
	for _, overflow := range []Overflow{DropNewest, DropOldest} {
		gone := 0
		for seed := range uint64(40) {
			synctest.Test(t, func(t *testing.T) {
				config := Config{Overflow: overflow, WriteQueue: 20 << 10, WriteTimeout: -1, Compression: Compression{Threshold: -1}}
				c, p, _ := stuckOf(t, config, true, 4<<10, deflation{serverBits: 8 + int(seed)%8})
				p.Rule = fmt.Sprintf("Overflow %v, seed %d", overflow, seed)
				rng := rand.New(rand.NewPCG(seed, 1))
				sent := map[string]bool{}
				came, dropped := 0, 0
				for i := range 300 {
					s := &sending{who: 1, seq: i, kind: byte(rng.IntN(3))}
					data := fmt.Appendf(nil, "%d ", i)
					data = append(data, s.fill(make([]byte, rng.IntN(2000)), 10)...)
					var err error
					if rng.IntN(3) == 0 {
						var m *Prepared
						if m, err = NewPrepared(Binary, data); err == nil {
							err = c.SendPrepared(m)
						}
					} else {
						err = c.Send(Binary, data)
					}
					if err == ErrQueueFull { // with DropOldest where all is in a call
						dropped++
					} else if err != nil {
						t.Fatal(err)
					} else {
						sent[string(data)] = true
					}
					if rng.IntN(4) == 0 {
						synctest.Wait()
						for range rng.IntN(8) {
							if p.Conn().(*memconn.Conn).Unread() == 0 {
								break
							}
							if f, ok := p.Next(); ok && !sent[string(f.Payload)] {
								t.Fatalf("%s: received %v, which nobody sent", p.Rule, f)
							} else if ok {
								delete(sent, string(f.Payload))
								came++
							}
							synctest.Wait()
						}
					}
				}
				c.Close(StatusNormalClosure, "")
				frames, _ := untilClose(p)
				for _, f := range frames {
					if f.Op == 8 {
						break
					}
					if !sent[string(f.Payload)] {
						t.Fatalf("%s: received %v, which nobody sent", p.Rule, f)
					}
					delete(sent, string(f.Payload))
					came++
				}
				if overflow == DropNewest && len(sent) > 0 {
					t.Errorf("%s: %d messages are lost", p.Rule, len(sent))
				}
				if came < 20 {
					t.Errorf("%s: only %d came, %d were dropped, %d gave way", p.Rule, came, dropped, len(sent))
				}
				gone += dropped + len(sent)
				<-c.Context().Done()
			})
		}
		if gone < 1000 {
			t.Errorf("Overflow %v: only %d messages were dropped", overflow, gone)
		}
	}
}

// untilClose reads on until the peer's stream ends, after a Close that it answers.
func untilClose(p *conformance.Peer) (frames []conformance.Frame, err error) {
	for {
		f, ok := p.Next()
		if !ok {
			return frames, nil
		}
		frames = append(frames, f)
		if f.Op == 8 {
			p.Close()
			return frames, nil
		}
	}
}

// Traces and counters: messages have the size of their content, bytes are those of
// the wire.
func TestCompressedTraceSizes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var received, sent []int64
		var end [2]Closing
		trace := func(i int) *Trace {
			return &Trace{
				Received: func(_ *Conn, typ MessageType, size int64) {
					if typ != Text {
						t.Errorf("received type %x", uint8(typ))
					}
					received = append(received, size)
				},
				Sent: func(_ *Conn, typ MessageType, size int64) {
					if typ != Text {
						t.Errorf("sent type %x", uint8(typ))
					}
					sent = append(sent, size)
				},
				Closed: func(_ *Conn, e Closing) { end[i] = e },
			}
		}
		s, c := Pipe(&PipeOptions{
			Server: Config{Compression: Compression{Enable: true}, Trace: trace(0)}, Client: Config{Compression: Compression{Enable: true}, Trace: trace(1)},
		})
		data := bytes.Repeat([]byte("size "), 1000)
		large := bytes.Repeat([]byte("size "), 50000)
		var want []int64
		for _, name := range []string{"Write", "Send", "SendPrepared", "Writer", "Write"} {
			if len(want) == 24 {
				data = large // in several frames
			}
			for _, typ := range []MessageType{Text, Text.Plain()} {
				for _, read := range []func() error{
					func() error { _, _, err := c.Read(background); return err },
					func() error {
						_, r, err := c.Reader(background)
						if err == nil {
							_, err = io.Copy(io.Discard, r)
						}
						return err
					},
					func() error { // skipped by the next
						_, r, err := c.Reader(background)
						if err == nil {
							_, err = io.ReadFull(r, make([]byte, 10))
						}
						return err
					},
				} {
					p := data
					go func() {
						if err := waysToSend[name](s, typ, p); err != nil {
							t.Error(name, err)
						}
					}()
					synctest.Wait()
					if err := read(); err != nil {
						t.Fatal(name, err)
					}
					want = append(want, int64(len(data)))
				}
			}
		}
		go func() { c.Read(background) }()
		synctest.Wait()
		if !slices.Equal(received, want) || !slices.Equal(sent, want) {
			t.Errorf("received %v,\nsent %v,\nwant %v", received, sent, want)
		}
		s.Close(StatusNormalClosure, "")
		go s.Read(background)
		<-s.Context().Done()
		<-c.Context().Done()
		synctest.Wait()
		n := len(want)
		plain := uint64(12*5000 + 3*len(large)) // half of them
		for _, x := range []Traffic{end[0].Sent, end[1].Received} {
			if x.Messages != uint64(n) || x.Bytes < plain || x.Bytes > plain+uint64(n*500) {
				t.Errorf("%d bytes of %d messages, want %d, half of them compressed, and %d bytes for the others", x.Bytes, x.Messages, n, plain)
			}
		}
	})
}

// Peers with the standard library's compress/flate, one writer and one reader with
// a window of 32 KiB for all messages.
func TestCompressedWithFlate(t *testing.T) {
	for _, client := range []bool{false, true} {
		for _, alone := range []bool{false, true} {
			near, far := memconn.Pair()
			near.SetBuffer(16 << 20)
			far.SetBuffer(16 << 20)
			var tm terms
			config := Config{PingInterval: -1, ReadLimit: 8 << 20, Compression: Compression{Enable: true, Threshold: -1, ServerWindowBits: 15, ClientWindowBits: 15}}
			if client {
				tm.setClient(config)
			} else {
				tm.set(config)
			}
			c := newConn(near, nil, &tm, "", nil)
			c.compressing(&deflation{serverNoTakeover: alone, clientNoTakeover: alone})
			var out bytes.Buffer
			fw, _ := flate.NewWriter(&out, flate.DefaultCompression)
			var dict []byte
			rng := rand.New(rand.NewPCG(3, 4))
			for i := range 60 {
				s := &sending{who: i, seq: 3 * i, kind: byte(i % 3)}
				data := s.fill(make([]byte, 3+rng.IntN(1<<(6+i%14))), 0)
				if alone {
					fw.Reset(&out)
				}
				fw.Write(data)
				fw.Flush()
				body := bytes.TrimSuffix(out.Bytes(), []byte{0, 0, 0xff, 0xff})
				h := header{fin: true, rsv1: true, op: opBinary, masked: !client, key: 0x01020304, length: int64(len(body))}
				if !h.masked {
					h.key = 0
				}
				frame := append(appendHeader(nil, h), body...)
				mask(h.key, frame[len(frame)-len(body):])
				out.Reset()
				far.Write(frame)
				_, got, err := c.Read(background)
				if err != nil || !bytes.Equal(got, data) {
					t.Fatalf("client %v, alone %v, message %d: %d bytes of %d, %v", client, alone, i, len(got), len(data), err)
				}
				if err := c.Write(background, Binary, data); err != nil {
					t.Fatal(err)
				}
				var payload []byte
				rsv1 := false
				for fin := false; !fin; {
					var b []byte
					for n := 0; n == 0; {
						one := make([]byte, 1)
						if _, err := far.Read(one); err != nil {
							t.Fatal(err)
						}
						b = append(b, one...)
						var p []byte
						if _, fin, p, n = serverFrame(b); n > 0 {
							rsv1 = rsv1 || b[0]&0x40 != 0
							payload = append(payload, p...)
						}
					}
				}
				if rsv1 {
					if alone {
						dict = nil
					}
					r := flate.NewReaderDict(io.MultiReader(bytes.NewReader(payload), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff")), dict)
					if payload, err = io.ReadAll(r); err != nil {
						t.Fatalf("client %v, alone %v, message %d: %v", client, alone, i, err)
					}
					dict = append(dict, payload...)
					dict = dict[max(0, len(dict)-32<<10):]
				}
				if !bytes.Equal(payload, data) {
					t.Fatalf("client %v, alone %v, message %d: received %d bytes of %d", client, alone, i, len(payload), len(data))
				}
			}
			over(c)
		}
	}
}

// FuzzCompressedMessages reads two compressed messages, whatever they are, in frames
// of any size, and holds what comes against an inflater that shares nothing (S-04,
// D-14, D-15, D-16).
func FuzzCompressedMessages(f *testing.F) {
	for _, s := range []string{"\xf2\x48\xcd\xc9\xc9\x07\x00\xf2\x00\x11\x00\x00", "\x00", "\x02\x00", "\x03\x00\x00", "\xff\xff\xff\xff",
		"\xf3\x48\xcd\xc9\xc9\x07\x00\x00\xf2\x00\x11\x00\x00", "\x00\x05\x00\xfa\xffHello\x00", ""} {
		f.Add([]byte(s), uint16(7), uint16(3), uint16(4))
		f.Add([]byte(s), uint16(len(s)), uint16(1), uint16(0))
	}
	for i, p := range [][]byte{someText, likeTexts, likeNoises, make([]byte, 70<<10)} {
		frame := squeezedFrame(false, opBinary, p)
		_, _, body, _ := serverFrame(frame)
		f.Add(slices.Concat(body, body), uint16(len(body)), uint16(100*i+1), uint16(i*5))
	}
	f.Fuzz(func(t *testing.T, payload []byte, first, size, mode uint16) {
		if len(payload) > 16<<10 {
			return
		}
		checkCompressed(t, payload, int(first), int(size), int(mode))
	})
}

func checkCompressed(t *testing.T, payload []byte, first, size, mode int) {
	const limit = 64 << 10
	bits, takeover := 8+mode%8, mode>>3&1 == 0
	peer, server := memconn.Pair()
	peer.SetBuffer(1 << 20)
	defer peer.Close()
	c := newConn(server, nil, on(Config{ReadLimit: limit, MaxFragments: -1, CloseTimeout: -1, Logger: slog.New(slog.DiscardHandler), Compression: Compression{Enable: true}}), "", nil)
	c.compressing(&deflation{clientBits: bits, clientNoTakeover: !takeover})
	want := conformance.Inflater{Bits: bits, Takeover: takeover}
	first = min(first, len(payload))
	for i, p := range [][]byte{payload[:first], payload[first:]} {
		h := header{rsv1: true, op: opBinary, masked: true, key: 0x3d21fa37}
		for rest, n := p, 0; !h.fin; rest = rest[n:] {
			n = min(len(rest), 1+size%2000)
			h.fin, h.length = n == len(rest), int64(n)
			frame := append(appendHeader(nil, h), rest[:n]...)
			mask(h.key, frame[len(frame)-n:])
			peer.Write(frame)
			h.rsv1, h.op = false, opContinuation
		}
		data, bad := want.Message(p)
		var got []byte
		var err error
		switch mode >> 4 % 3 {
		case 0:
			_, got, err = c.Read(background)
		case 1:
			_, got, err = c.ReadAppend(background, make([]byte, 0, 100))
		default:
			var r io.Reader
			if _, r, err = c.Reader(background); err == nil {
				got, err = io.ReadAll(r)
			}
		}
		e, _ := err.(*CloseError)
		switch {
		case err == nil:
			if bad != nil || len(data) > limit || !bytes.Equal(got, data) {
				t.Fatalf("message %d, %x: %d bytes, want %d, %v", i, p, len(got), len(data), bad)
			}
			continue
		case e == nil || e.Code != StatusMessageTooBig && e.Code != StatusInvalidFramePayloadData:
			t.Fatalf("message %d, %x: %v", i, p, err)
		case e.Code == StatusMessageTooBig && len(data) <= limit, e.Code != StatusMessageTooBig && bad == nil:
			t.Fatalf("message %d, %x: %v, want %d bytes, %v", i, p, err, len(data), bad)
		}
		break
	}
	over(c)
}

// So do drawn ones: good messages with a few bits that are not.
func TestCompressedMessagesDrawn(t *testing.T) {
	n := 3000
	if testing.Short() {
		n = 300
	}
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 0))
	var w *flate.Writer
	for i := range n {
		var out bytes.Buffer
		if w == nil || rng.IntN(2) == 0 {
			w, _ = flate.NewWriter(&out, []int{-2, 1, 6, 9}[rng.IntN(4)])
		} else {
			w.Reset(&out)
		}
		s := &sending{who: i, seq: rng.IntN(1000), kind: byte(rng.IntN(3))}
		w.Write(s.fill(make([]byte, rng.IntN(1<<rng.IntN(12))), 5))
		w.Flush()
		first := max(out.Len()-4, 0)
		w.Write(s.fill(make([]byte, rng.IntN(1<<rng.IntN(12))), 5))
		w.Flush()
		payload := slices.Concat(out.Bytes()[:first], out.Bytes()[min(first+4, out.Len()):out.Len()-4])
		for range rng.IntN(3) {
			payload[rng.IntN(len(payload))] ^= 1 << rng.IntN(8)
		}
		mode := rng.IntN(1 << 10)
		t.Run("", func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("seed %d, message %d, mode %d", seed, i, mode)
				}
			}()
			checkCompressed(t, payload, first, rng.IntN(50), mode)
		})
	}
}
