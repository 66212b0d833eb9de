package websocket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket/internal/conformance"
	"github.com/sockeye-ws/websocket/internal/memconn"
)

// wireOf opens a connection of a server that compresses as agreed, and returns it
// and a raw peer that inflates with exactly the window.
func wireOf(t *testing.T, config Config, agreed deflation) (*Conn, *conformance.Peer) {
	t.Helper()
	near, far := memconn.Pair()
	near.SetBuffer(64 << 20)
	far.SetBuffer(64 << 20)
	config.Compression.Enable = true
	config.PingInterval = -1
	c := newConn(near, nil, on(config), "", nil)
	c.compressing(&agreed)
	p := conformance.NewPeer(t, far)
	p.Agree(agreed.String())
	return c, p
}

func over(c *Conn) {
	c.CloseNow()
	<-c.Context().Done()
}

// wantMessage receives a message, compressed or not.
func wantMessage(t *testing.T, p *conformance.Peer, typ MessageType, data []byte, compressed bool) {
	t.Helper()
	f, ok := p.Next()
	if ok && (f.Op != byte(typ) || !bytes.Equal(f.Payload, data) || f.RSV1 != compressed || !f.Fin) {
		t.Errorf("received %v, compressed %v; want %d bytes, compressed %v", f, f.RSV1, len(data), compressed)
	}
}

// noisy are bytes that nothing shortens.
func noisy(seed uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(seed, 7692))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(rng.Uint32())
	}
	return p
}

// D-25: what is below the threshold is not compressed, nor what is said to be
// plain, by whatever way it is sent.
func TestD25Threshold(t *testing.T) {
	for _, tt := range []struct{ threshold, least int }{{0, 512}, {100, 100}, {-1, 40}, {1, 40}, {5000, 5000}} {
		c, p := wireOf(t, Config{Compression: Compression{Threshold: tt.threshold}}, deflation{serverNoTakeover: true})
		p.Rule = fmt.Sprintf("D-25: the threshold %d", tt.threshold)
		for name, send := range waysToSend {
			for _, size := range []int{tt.least - 1, tt.least, 6000} {
				if size == 39 {
					size = 40 // there is none below
				}
				data := bytes.Repeat([]byte{'a'}, size)
				for _, typ := range []MessageType{Text, Binary, Text.Plain(), Binary.Plain()} {
					if err := send(c, typ, data); err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					wantMessage(t, p, typ.bare(), data, size >= tt.least && !typ.isPlain())
				}
			}
			if p.Failed() {
				t.Fatal(name)
			}
		}
		over(c)
	}
}

var waysToSend = map[string]func(c *Conn, typ MessageType, p []byte) error{
	"Write": func(c *Conn, typ MessageType, p []byte) error { return c.Write(background, typ, p) },
	"Send":  func(c *Conn, typ MessageType, p []byte) error { return c.Send(typ, p) },
	"Writer": func(c *Conn, typ MessageType, p []byte) error {
		w, err := c.Writer(background, typ)
		if err == nil {
			_, err = w.Write(p)
		}
		if err == nil {
			err = w.Close()
		}
		return err
	},
	"SendPrepared": func(c *Conn, typ MessageType, p []byte) error {
		m, err := NewPrepared(typ, p)
		if err == nil {
			err = c.SendPrepared(m)
		}
		return err
	},
	"Group": func(c *Conn, typ MessageType, p []byte) error {
		var g Group
		g.Add(c)
		defer g.Remove(c)
		m, err := NewPrepared(typ, p)
		if err == nil {
			if accepted, dropped := g.Send(m); accepted != 1 || dropped != 0 {
				err = errors.New("not accepted")
			}
		}
		return err
	},
}

// S-08: a secret can be kept out of what is compressed: no later message refers to
// it, and its size tells nothing but its length.
func TestS08Plain(t *testing.T) {
	secret := noisy(8, 700)
	for name, send := range waysToSend {
		c, p := wireOf(t, Config{Compression: Compression{Threshold: -1}}, deflation{})
		p.Rule = "S-08: " + name
		if err := send(c, Binary.Plain(), secret); err != nil {
			t.Fatal(err)
		}
		wantMessage(t, p, Binary, secret, false)
		// It would become shorter if the secret were in the window.
		if err := send(c, Binary, secret); err != nil {
			t.Fatal(err)
		}
		wantMessage(t, p, Binary, secret, false)
		if err := send(c, Text.Plain(), []byte("\xff")); err != ErrInvalidUTF8 && name != "Writer" {
			t.Errorf("%s: text that is not: %v", name, err)
		}
		over(c)
	}
	if Text.Plain().String() != "text" || Binary.Plain().String() != "binary" || Text.Plain().Plain() != Text.Plain() {
		t.Error("a plain type is named otherwise")
	}
	for _, typ := range []MessageType{0, 3, MessageType(0).Plain(), MessageType(8).Plain()} {
		c, _ := wireOf(t, Config{}, deflation{})
		for name, send := range waysToSend {
			if err := send(c, typ, []byte("x")); err == nil {
				t.Errorf("%s: type %x is accepted", name, uint8(typ))
			}
		}
		over(c)
	}
}

// D-24, D-08: what is sent plain, because it is to be or because it does not
// become shorter, is in no window: the messages around it are read right.
func TestD24PlainIsInNoWindow(t *testing.T) {
	text := []byte(strings.Repeat("once upon a time there was a river ", 40))
	for bits := 8; bits <= 15; bits++ {
		for _, takeover := range []bool{true, false} {
			c, p := wireOf(t, Config{Compression: Compression{Threshold: -1}}, deflation{serverBits: bits, serverNoTakeover: !takeover})
			p.Rule = fmt.Sprintf("D-24: %d bits, takeover %v", bits, takeover)
			for name, send := range waysToSend {
				noise := noisy(uint64(bits), 1<<10)
				if err := errors.Join(send(c, Text, text), send(c, Binary, noise), send(c, Text, text), send(c, Text.Plain(), text), send(c, Text, text), send(c, Binary, noise)); err != nil {
					t.Fatal(err)
				}
				for i, want := range [][]byte{text, noise, text, text, text, noise} {
					f, ok := p.Next()
					if ok && !bytes.Equal(f.Payload, want) {
						t.Fatalf("%s: message %d: received %v", name, i, f)
					}
					if ok && (i == 0 || i == 2 || i == 4) != f.RSV1 && (name != "Writer" || i == 3) && !(name == "Writer" && !takeover) {
						if i != 1 && i != 5 {
							t.Fatalf("%s: message %d: compressed %v", name, i, f.RSV1)
						}
					}
				}
			}
			over(c)
		}
	}
}

// D-21, D-22: with takeover a message is the shorter for those before, as far as
// the window goes; without, it is not.
func TestD22Sizes(t *testing.T) {
	a, b := noisy(1, 512), noisy(2, 512)
	words := func(seed uint64, n int) (text []byte) { // half of it is left
		for _, x := range noisy(seed, n) {
			text = append(text, "0123456789abcdef"[x&15])
		}
		return text
	}
	for _, bits := range []int{8, 9, 10, 12, 15} {
		for _, takeover := range []bool{true, false} {
			c, p := wireOf(t, Config{Compression: Compression{Threshold: -1}}, deflation{serverBits: bits, serverNoTakeover: !takeover})
			p.Rule = fmt.Sprintf("D-22: %d bits, takeover %v", bits, takeover)
			size := func(m []byte) int {
				sent := c.out.Sent().Bytes
				if err := c.Write(background, Binary, m); err != nil {
					t.Fatal(err)
				}
				if f, ok := p.Next(); ok && !bytes.Equal(f.Payload, m) {
					t.Errorf("received %v", f)
				}
				return int(c.out.Sent().Bytes - sent)
			}
			if n := size(slices.Concat(a, b, a)); bits <= 9 && n <= 1500 || bits > 10 && n >= 1150 {
				t.Errorf("%s: %d bytes for one message", p.Rule, n)
			}
			first := size(words(3, 400))
			size(words(4, 1<<9-100))
			if again := size(words(3, 400)); (again < 40) != (takeover && bits >= 10) || again > first+5 {
				t.Errorf("%s: %d bytes for what took %d before", p.Rule, again, first)
			}
			over(c)
		}
	}
}

// D-26: both directions at once, with control frames in them: neither disturbs the
// other.
func TestD26BothDirections(t *testing.T) {
	for _, takeover := range []bool{true, false} {
		s, c := Pipe(&PipeOptions{
			Server: Config{Overflow: DropNewest, Compression: Compression{Enable: true, Threshold: -1, ServerNoContextTakeover: !takeover, ClientNoContextTakeover: !takeover}},
			Client: Config{Overflow: DropNewest, Compression: Compression{Enable: true, Threshold: -1}},
		})
		const n = 150
		var wg sync.WaitGroup
		var failed atomic.Bool
		ctx, cancel := context.WithTimeout(background, time.Minute)
		defer cancel()
		for _, ends := range [][2]*Conn{{s, c}, {c, s}} {
			from, to := ends[0], ends[1]
			for who := range 3 {
				wg.Go(func() {
					for i := range n {
						data := fmt.Appendf(nil, "%d %d %s", who, i, strings.Repeat(fmt.Sprint("message ", i%7, ' '), 1+i*who))
						var err error
						switch (i + who) % 4 {
						case 0:
							err = from.Write(ctx, Text, data)
						case 1:
							err = from.Write(ctx, Text.Plain(), data)
						case 2:
							var w io.WriteCloser
							if w, err = from.Writer(ctx, Text); err == nil {
								w.Write(data[:len(data)/2])
								w.Write(data[len(data)/2:])
								err = w.Close()
							}
						default:
							m, _ := NewPrepared(Text, data)
							for err = from.SendPrepared(m); err == ErrQueueFull; err = from.SendPrepared(m) {
								time.Sleep(time.Millisecond)
							}
						}
						if err != nil && !failed.Swap(true) {
							t.Errorf("message %d of %d: %v", i, who, err)
						}
					}
				})
			}
			wg.Go(func() {
				for range 20 {
					// It may meet a message that nobody reads any more.
					if _, err := from.Ping(ctx); errors.As(err, new(*CloseError)) && !failed.Load() {
						t.Errorf("Ping: %v", err)
					}
				}
			})
			wg.Go(func() {
				next := [3]int{}
				for range 3 * n {
					_, p, err := to.Read(ctx)
					if err != nil {
						if !failed.Swap(true) {
							t.Error(err)
						}
						return
					}
					var who, i int
					fmt.Sscanf(string(p), "%d %d", &who, &i)
					want := fmt.Sprintf("%d %d %s", who, i, strings.Repeat(fmt.Sprint("message ", i%7, ' '), 1+i*who))
					if string(p) != want || i != next[who] {
						t.Errorf("message %d of %d: %d bytes, want %d", i, who, len(p), next[who])
						return
					}
					next[who]++
				}
				// Somebody has to read for the other's Ping.
				to.CloseRead()
			})
		}
		wg.Wait()
		s.CloseNow()
		c.CloseNow()
		<-s.Context().Done()
		<-c.Context().Done()
	}
}

// A Prepared is compressed once for each window, whoever gets it; members without
// compression, with other windows, thresholds and without takeover get it as it
// was agreed with each, and every window is right afterwards.
func TestPreparedForAllSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group
		type member struct {
			c *Conn
			p *conformance.Peer
		}
		var members []member
		for bits := 8; bits <= 15; bits++ {
			for mode := range 4 {
				config := Config{Overflow: DropNewest, Compression: Compression{Threshold: []int{-1, 0, 3000, -1}[mode]}}
				c, p := wireOf(t, config, deflation{serverBits: bits, serverNoTakeover: mode == 3})
				p.Rule = fmt.Sprintf("a member with %d bits, mode %d", bits, mode)
				p.Settle = synctest.Wait
				members = append(members, member{c, p})
				g.Add(c)
			}
		}
		bare, barePeer := wireOf(t, Config{}, deflation{})
		bare.deflate, barePeer.Inflater = nil, nil
		members = append(members, member{bare, barePeer})
		g.Add(bare)

		rng := rand.New(rand.NewPCG(1, 7692))
		text := bytes.Repeat([]byte("a message that goes to all members of a group and is compressed once. "), 100)
		for i := range 40 {
			size := 1 + rng.IntN(len(text)-100)
			data := text[rng.IntN(100):][:size]
			if i%5 == 4 {
				data = noisy(uint64(i), size)
			}
			typ := []MessageType{Binary, Binary, Binary.Plain()}[rng.IntN(3)]
			m, err := NewPrepared(typ, data)
			if err != nil {
				t.Fatal(err)
			}
			if accepted, dropped := g.Send(m); accepted != len(members) || dropped != 0 {
				t.Fatalf("message %d: %d accepted, %d dropped", i, accepted, dropped)
			}
			for bits := range m.deflate {
				if (m.deflate[bits] != nil) != (bits >= 8 && !typ.isPlain()) && size >= 3000 {
					t.Errorf("message %d of %d bytes: compressed for %d bits: %v", i, size, bits, m.deflate[bits] != nil)
				}
			}
			own := fmt.Appendf(nil, "%s %d", text[:200+i], i)
			for j, x := range members {
				f, ok := x.p.Next()
				if ok && !bytes.Equal(f.Payload, data) {
					t.Fatalf("message %d of %d bytes, member %d: received %v", i, size, j, f)
				}
				if ok && f.RSV1 && (typ.isPlain() || x.c == bare || size < x.c.cfg.Compression.threshold()) {
					t.Fatalf("message %d of %d bytes, member %d: compressed", i, size, j)
				}
				// One of its own, between those for all.
				if err := x.c.Write(background, Text, own); err != nil {
					t.Fatal(err)
				}
				if f, ok := x.p.Next(); ok && !bytes.Equal(f.Payload, own) {
					t.Fatalf("member %d: received %v", j, f)
				}
			}
			before := m.deflate
			g.Send(m)
			if before != m.deflate {
				t.Errorf("message %d has been compressed again", i)
			}
			for j, x := range members {
				if f, ok := x.p.Next(); ok && !bytes.Equal(f.Payload, data) {
					t.Fatalf("message %d again, member %d: received %v", i, j, f)
				}
			}
		}
		for _, x := range members {
			over(x.c)
			x.p.Close()
		}
	})
}
