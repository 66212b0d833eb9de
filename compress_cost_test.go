package websocket

import (
	"bytes"
	"compress/flate"
	"context"
	"io"
	"math"
	"net"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sockeye-ws/websocket/internal/memconn"
)

// squeezedFrame is a compressed message in one frame, that refers to none before.
func squeezedFrame(masked bool, op opcode, p []byte) []byte {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, 6)
	w.Write(p)
	w.Flush()
	body := bytes.TrimSuffix(b.Bytes(), []byte{0, 0, 0xff, 0xff})
	h := header{fin: true, rsv1: true, op: op, masked: masked, length: int64(len(body))}
	if masked {
		h.key = 0x3d21fa37
	}
	frame := append(appendHeader(nil, h), body...)
	mask(h.key, frame[len(frame)-len(body):])
	return frame
}

// squeezedMill is a connection of either side, on which this message comes without
// end.
func squeezedMill(client, takeover bool, bits int, p []byte) *Conn {
	var t terms
	config := Config{ReadLimit: -1, MaxFragments: -1, WriteTimeout: time.Second, Compression: Compression{Enable: true, ServerWindowBits: bits, ClientWindowBits: bits}}
	if client {
		t.setClient(config)
	} else {
		t.set(config)
	}
	m := new(mill)
	if p != nil {
		m.block = squeezedFrame(!client, opText, p)
	}
	c := newConn(m, nil, &t, "", nil)
	c.compressing(&deflation{serverNoTakeover: !takeover, clientNoTakeover: !takeover, serverBits: bits, clientBits: bits})
	return c
}

func raceDetector() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

var someText = []byte(strings.Repeat(`{"kind":"salmon","name":"sockeye","weight":2.5} `, 40))

// A compressed message costs no allocation, on the way out or in.
func TestCompressedDoesNotAllocate(t *testing.T) {
	if raceDetector() {
		t.Skip("pools do not keep under the race detector")
	}
	buf := make([]byte, 0, 2*len(someText))
	noise := slices.Clone(likeNoises[:2000])
	for _, client := range []bool{false, true} {
		for _, takeover := range []bool{false, true} {
			c := squeezedMill(client, takeover, 12, someText)
			for what, f := range map[string]func() error{
				"Write":       func() error { return c.Write(background, Text, someText) },
				"Write noise": func() error { return c.Write(background, Binary, noise) },
				"ReadAppend":  func() error { _, _, err := c.ReadAppend(background, buf); return err },
			} {
				for range 100 {
					if err := f(); err != nil {
						t.Fatal(err)
					}
				}
				n := testing.AllocsPerRun(1000, func() {
					if err := f(); err != nil {
						t.Fatal(err)
					}
				})
				if n > 0 {
					t.Errorf("%s, client %v, takeover %v: %v allocations", what, client, takeover, n)
				}
			}
		}
	}
}

type arrivals chan int

func (a arrivals) Message(_ *Conn, _ MessageType, p []byte) error { a <- len(p); return nil }
func (a arrivals) Closed(*Conn, error)                            { close(a) }

// Nor does one that is delivered in event mode.
func TestCompressedEventsDoNotAllocate(t *testing.T) {
	if raceDetector() {
		t.Skip("pools do not keep under the race detector")
	}
	for _, takeover := range []bool{false, true} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		peer, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer peer.Close()
		nc, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c := newConn(nc, nil, on(Config{PingInterval: -1, Compression: Compression{Enable: true}}), "", nil)
		c.compressing(&deflation{serverNoTakeover: !takeover, clientNoTakeover: !takeover, serverBits: 12, clientBits: 12})
		came := make(arrivals)
		c.Start(came)
		const many = 50 // on a busy machine each wait takes long
		frames := bytes.Repeat(squeezedFrame(true, opText, someText), many)
		once := func() {
			if _, err := peer.Write(frames); err != nil {
				t.Fatal(err)
			}
			for range many {
				if n := <-came; n != len(someText) {
					t.Fatalf("%d bytes, want %d", n, len(someText))
				}
			}
		}
		for range 5 {
			once()
		}
		if n := testing.AllocsPerRun(40, once); n >= many/10 {
			t.Errorf("takeover %v: %v allocations for %d messages", takeover, n, many)
		}
		c.CloseNow()
		for range came {
		}
	}
}

// inUse is the heap that is in use when all that is free has been freed.
func inUse() int64 {
	for range 3 { // the pools let go with the second
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// What compression adds to a connection that is quiet, after messages each way:
// hardly anything without takeover, two small windows with it.
func TestCompressedQuietMemory(t *testing.T) {
	if raceDetector() {
		t.Skip("memory is not what it is")
	}
	const n = 200
	each := func(compressed, takeover, client bool, size int) int64 {
		text := bytes.Repeat(someText, size/len(someText)+1)[:size]
		conns := make([]*Conn, n)
		// One more pays for what all share.
		first := squeezedMill(client, takeover, 12, text)
		first.Write(background, Text, text)
		first.Read(background)
		before := inUse()
		for i := range conns {
			c := squeezedMill(client, takeover, 12, nil)
			if !compressed {
				c.deflate = nil
			}
			typ := Text
			frame := squeezedFrame(!client, opText, text)
			if !compressed {
				frame = append(appendHeader(nil, header{fin: true, op: opText, masked: !client, length: int64(size)}), text...)
			}
			nc := &once{b: frame}
			conns[i] = newConn(nc, nil, c.cfg, "", nil)
			if compressed {
				conns[i].compressing(&deflation{serverNoTakeover: !takeover, clientNoTakeover: !takeover, serverBits: 12, clientBits: 12})
			}
			if err := conns[i].Write(background, typ, text); err != nil {
				t.Fatal(err)
			}
			if _, p, err := conns[i].Read(background); err != nil || len(p) != size {
				t.Fatal(len(p), err)
			}
			nc.b = nil
		}
		used := (inUse() - before) / n
		runtime.KeepAlive(conns)
		return used
	}
	for _, client := range []bool{false, true} {
		for _, size := range []int{1000, 100 << 10} {
			without := each(false, false, client, size)
			// With what a process has of it besides, it may be 256.
			alone := each(true, false, client, size) - without
			if alone > 96 {
				t.Errorf("client %v, %d bytes, without takeover: %d bytes more than the %d without compression", client, size, alone, without)
			}
			if more := each(true, true, client, size) - without; more > 32<<10 {
				t.Errorf("client %v, %d bytes, with takeover: %d bytes more than the %d without compression", client, size, more, without)
			} else {
				t.Logf("client %v, %d bytes: %d bytes without compression, %d more with it, %d with takeover", client, size, without, alone, more)
			}
		}
	}
}

// once is a mill whose bytes come once.
type once struct {
	mill
	b []byte
}

func (o *once) Read(p []byte) (int, error) {
	n := copy(p, o.b)
	o.b = o.b[n:]
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// D-16: a bomb costs about what the limit permits, by every way to read, and what
// comes behind that is not waited for.
func TestD16Bomb(t *testing.T) {
	const limit, size = 1 << 20, 64 << 20
	bomb := squeezedFrame(true, opBinary, make([]byte, size))
	part := len(bomb) / 40 // inflates to 1.6 MiB
	for name, read := range map[string]func(c *Conn) error{
		"Read":       func(c *Conn) error { _, _, err := c.Read(background); return err },
		"ReadAppend": func(c *Conn) error { _, _, err := c.ReadAppend(background, nil); return err },
		"Reader": func(c *Conn) error {
			_, r, err := c.Reader(background)
			if err == nil {
				_, err = io.Copy(io.Discard, r)
			}
			return err
		},
		"skipped": func(c *Conn) error {
			_, _, err := c.Reader(background)
			if err == nil {
				_, _, err = c.Read(background)
			}
			return err
		},
		"events": func(c *Conn) error { e := endOf(make(chan error, 1)); c.Start(e); return <-e },
	} {
		t.Run(name, func(t *testing.T) {
			for _, whole := range []bool{true, false} {
				peer, server := memconn.Pair()
				peer.SetBuffer(2 * len(bomb))
				server.SetBuffer(2 * len(bomb))
				c := newConn(server, nil, on(Config{ReadLimit: limit, CloseTimeout: -1, Compression: Compression{Enable: true}}), "", nil)
				c.compressing(&deflation{serverBits: 12, clientBits: 15})
				sent := bomb
				if !whole {
					sent = bomb[:part]
				}
				peer.Write(sent)
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				err := read(c)
				runtime.ReadMemStats(&after)
				e, ok := err.(*CloseError)
				if !ok || e.Code != StatusMessageTooBig {
					t.Fatalf("whole %v: %v", whole, err)
				}
				// It doubles as it grows.
				if used := after.TotalAlloc - before.TotalAlloc; used > 5*limit {
					t.Errorf("%d bytes were allocated for a message of at most %d", used, limit)
				} else if (name == "Reader" || name == "skipped") && used > limit {
					t.Errorf("%d bytes were allocated, though nothing is held", used)
				}
				if n := c.deflate.inflated; n > limit {
					t.Errorf("%d bytes were inflated", n)
				}
				peer.Close()
				<-c.Context().Done()
			}
		})
	}
}

type endOf chan error

func (endOf) Message(*Conn, MessageType, []byte) error { return nil }
func (e endOf) Closed(_ *Conn, err error)              { e <- err }

// X-06, L-03: no sum overflows where the limit is the largest that there is, and
// without a limit there is none.
func TestL03LargestLimits(t *testing.T) {
	for _, limit := range []int64{math.MaxInt64, math.MaxInt64 - 1, math.MaxInt64/9*8 + 1} {
		a := assembler{limit: limit, maxFrames: -1}
		for i, h := range []header{{rsv1: true, op: opBinary, length: 1 << 62}, {op: opContinuation, length: 1 << 61}, {op: opContinuation, length: 1 << 60}} {
			if v := a.begin(h); v != nil {
				t.Errorf("limit %d, frame %d: %v", limit, i, v)
			}
		}
		if v := a.begin(header{op: opContinuation, length: math.MaxInt64}); v == nil || v.Code != StatusMessageTooBig {
			t.Errorf("limit %d: more than there can be is accepted: %v", limit, v)
		}
	}
	for _, tt := range []struct{ limit, most int64 }{{0, 1 << 10}, {8, 1<<10 + 9}, {1024, 2176}, {1 << 20, 1<<20 + 1<<17 + 1<<10}} {
		for more := range int64(2) {
			a := assembler{limit: tt.limit, maxFrames: -1}
			if v := a.begin(header{rsv1: true, op: opText, length: tt.most + more}); (v == nil) != (more == 0) {
				t.Errorf("limit %d, %d bytes announced: %v", tt.limit, tt.most+more, v)
			}
			a = assembler{limit: tt.limit, maxFrames: -1}
			if v := a.begin(header{op: opText, length: tt.limit + more}); (v == nil) != (more == 0) {
				t.Errorf("limit %d, %d plain bytes announced: %v", tt.limit, tt.limit+more, v)
			}
		}
	}
	a := assembler{limit: -1, maxFrames: -1}
	for i := range 5 {
		if v := a.begin(header{rsv1: i == 0, op: map[bool]opcode{true: opBinary}[i == 0], length: math.MaxInt64}); v != nil {
			t.Errorf("no limit, frame %d: %v", i, v)
		}
	}

	peer, server := memconn.Pair()
	defer peer.Close()
	c := newConn(server, nil, on(Config{ReadLimit: -1, Compression: Compression{Enable: true}}), "", nil)
	c.compressing(&deflation{})
	const size = 20 << 20
	go peer.Write(squeezedFrame(true, opBinary, make([]byte, size)))
	if _, p, err := c.Read(context.Background()); err != nil || len(p) != size {
		t.Errorf("without a limit: %d bytes, %v", len(p), err)
	}
	c.CloseNow()
	<-c.Context().Done()
}
