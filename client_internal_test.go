package websocket

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sockeye-ws/websocket/internal/memconn"
)

// clientOn is a client on nc whose keys are those given, one after the other.
func clientOn(nc net.Conn, cfg Config, keys ...maskKey) *Conn {
	var t terms
	t.setClient(cfg)
	t.newKey = func() maskKey {
		key := keys[0]
		keys = append(keys[1:], key)
		return key
	}
	t.newKeys = func(dst []maskKey) int {
		dst[0] = t.newKey()
		return 1
	}
	c := newConn(nc, nil, &t, "", nil)
	return c
}

// S-06: with known keys, the bytes are known: every kind of frame takes the next.
func TestS06FramesAsWritten(t *testing.T) {
	here, there := memconn.Pair()
	defer there.Close()
	c := clientOn(here, Config{}, 0x3d21fa37, 0x04030201, 0, 0xffffffff)
	defer c.CloseNow()
	want := func(what, hex string) {
		t.Helper()
		bytes := wire(t, hex)
		got := make([]byte, len(bytes))
		there.SetReadDeadline(time.Now().Add(time.Minute))
		for n := 0; n < len(got); {
			m, err := there.Read(got[n:])
			if err != nil {
				t.Fatalf("%s: %v after %x", what, err, got[:n])
			}
			n += m
		}
		if string(got) != string(bytes) {
			t.Errorf("%s: %x, want %x", what, got, bytes)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.Write(background, Text, []byte("Hello"))) // RFC 6455 §5.7
	want("Write", "81 85 37fa213d 7f9f4d5158")
	must(c.Send(Binary, []byte("mm")))
	want("Send", "82 82 01020304 6c6f")
	p, err := NewPrepared(Text, bytes.Repeat([]byte("a"), 126))
	must(err)
	must(c.SendPrepared(p))
	want("SendPrepared", "81 fe 007e 00000000 "+strings.Repeat("61", 126))
	must(c.SendPrepared(p))
	want("SendPrepared", "81 fe 007e ffffffff "+strings.Repeat("9e", 126))
	w, err := c.Writer(background, Text)
	must(err)
	_, err = w.Write([]byte("Hello"))
	must(err)
	must(w.Close())
	want("Writer", "81 85 37fa213d 7f9f4d5158")
	c.holdInflow()
	must(c.gotControl(opPing, []byte("ok")))
	c.out.Flush()
	c.out.Attend()
	want("pong", "8a 82 01020304 6e69")
	must(c.Close(StatusNormalClosure, ""))
	want("Close", "88 82 00000000 03e8")
}

// A payload that is not copied in one piece is masked as if it were.
func TestS06LongFrames(t *testing.T) {
	const key = 0x3d21fa37
	for _, size := range []int{32<<10 + 60, 32<<10 + 64, 32<<10 + 65, 64 << 10, 160<<10 + 3, 256<<10 + 1, 1 << 20} {
		payload := make([]byte, size)
		for i := range payload {
			payload[i] = byte(i * 7)
		}
		want := clientFrame(opBinary, true, payload)
		for _, room := range []int{1000, 64 << 10, 2 << 20} {
			here, there := memconn.Pair()
			here.SetBuffer(room)
			c := clientOn(here, Config{WriteQueue: 4 << 20}, key)
			done := make(chan error, 2)
			for range 2 {
				if err := c.Send(Binary, payload[:10]); err != nil {
					t.Fatal(err)
				}
			}
			go func() { done <- c.Write(background, Binary, payload); done <- c.Send(Binary, payload) }()
			short := clientFrame(opBinary, true, payload[:10])
			got := make([]byte, 2*len(short)+2*len(want))
			for n := 0; n < len(got); {
				m, err := there.Read(got[n:])
				if err != nil {
					t.Fatal(err)
				}
				n += m
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, bytes.Join([][]byte{short, short, want, want}, nil)) {
				t.Errorf("%d bytes with room for %d are sent differently", size, room)
			}
			c.CloseNow()
			there.Close()
		}
	}
}

// A dialed connection uses the socket itself, as an accepted one does, and
// connections of the same options wait together in event mode.
func TestDialUsesTheSocket(t *testing.T) {
	u := &Upgrader{Config: Config{PingInterval: -1}, Handler: func(c *Conn) error {
		_, _, err := c.Read(context.Background())
		return err
	}}
	s := httptest.NewServer(u)
	defer s.Close()
	secret := httptest.NewTLSServer(u)
	defer secret.Close()
	o := &DialOptions{Config: Config{PingInterval: -1}, Transport: secret.Client().Transport.(*http.Transport)}
	var conns []*Conn
	for range 3 {
		for _, url := range []string{s.URL, secret.URL} {
			c, _, err := Dial(background, url, o)
			if err != nil {
				t.Fatal(err)
			}
			if _, tcp := c.t.NetConn().(*net.TCPConn); tcp != c.t.Tries() && runtime.GOOS == "linux" {
				t.Errorf("%T, but Tries is %v", c.t.NetConn(), c.t.Tries())
			}
			conns = append(conns, c)
			e := &counting{closed: make(chan error, 1)}
			c.Start(e)
		}
	}
	if runtime.GOOS == "linux" {
		for _, c := range conns {
			for start := time.Now(); !c.parked.Load(); runtime.Gosched() {
				if time.Since(start) > 20*time.Second {
					t.Fatal("a dialed connection does not park")
				}
			}
		}
		if o.live.poller == nil || o.live.open != len(conns) {
			t.Errorf("%v, %d", o.live.poller, o.live.open)
		}
	}
	for _, c := range conns {
		c.Close(StatusNormalClosure, "")
		<-c.Context().Done()
	}
	// A connection leaves the list behind the end of its context.
	for start := time.Now(); ; runtime.Gosched() {
		o.live.mu.Lock()
		left, poller := o.live.open, o.live.poller
		o.live.mu.Unlock()
		if left == 0 && poller == nil {
			break
		}
		if time.Since(start) > 20*time.Second {
			t.Fatalf("%d connections are left", left)
		}
	}
}

type counting struct{ closed chan error }

func (e *counting) Message(*Conn, MessageType, []byte) error { return nil }
func (e *counting) Closed(_ *Conn, err error)                { e.closed <- err }

// Without options there is nobody to share a poller with.
func TestDialAloneHasNoPoller(t *testing.T) {
	s := httptest.NewServer(&Upgrader{Config: Config{PingInterval: -1}, Handler: func(c *Conn) error {
		_, _, err := c.Read(background)
		return err
	}})
	defer s.Close()
	c, _, err := Dial(background, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	e := &counting{closed: make(chan error, 1)}
	c.Start(e)
	c.live.change(func() {
		if !c.live.unpolled || c.live.poller != nil {
			t.Error("it has a poller of its own")
		}
	})
	c.Close(StatusNormalClosure, "")
	<-e.closed
}

// the default port of wss is 443.
func TestQ01SecureHost(t *testing.T) {
	for url, want := range map[string]string{
		"wss://example.com/": "example.com", "wss://example.com:443/": "example.com", "HTTPS://example.com:443/": "example.com",
		"wss://example.com:80/": "example.com:80", "wss://[::1]:443/": "[::1]",
	} {
		r, _, err := new(DialOptions).request(background, url)
		if err != nil || r.Host != want || r.URL.Scheme != "https" {
			t.Errorf("%s: %v, %v", url, r, err)
		}
	}
}

// A Trace is told of connections that are dialed, and of both ends of a pipe.
func TestDialTrace(t *testing.T) {
	var opened, closed atomic.Int32
	// The end is clean only if the answer comes in time, however busy the machine.
	cfg := Config{PingInterval: -1, CloseTimeout: time.Minute, Trace: &Trace{
		Opened: func(*Conn) { opened.Add(1) },
		Closed: func(_ *Conn, end Closing) {
			if end.Clean && end.PeerCode == StatusNormalClosure {
				closed.Add(1)
			}
		},
	}}
	u := &Upgrader{Config: Config{PingInterval: -1}, Handler: func(c *Conn) error {
		_, _, err := c.Read(background)
		return err
	}}
	s := httptest.NewServer(u)
	defer s.Close()
	c, _, err := Dial(background, s.URL, &DialOptions{Config: cfg})
	if err != nil {
		t.Fatal(err)
	}
	server, client := Pipe(&PipeOptions{Server: cfg, Client: cfg})
	if n := opened.Load(); n != 3 {
		t.Errorf("%d connections were opened", n)
	}
	server.CloseRead()
	for _, c := range []*Conn{c, client} {
		c.Close(StatusNormalClosure, "")
		<-c.Context().Done()
	}
	<-server.Context().Done()
	for start := time.Now(); closed.Load() != 3; runtime.Gosched() { // told right after the Context
		if time.Since(start) > 20*time.Second {
			t.Fatalf("%d of 3 connections were closed in good order", closed.Load())
		}
	}
}

// A write of a client costs no allocation.
func TestClientDoesNotAllocate(t *testing.T) {
	c := clientMilled(Binary, 125)
	p := make([]byte, 125)
	for what, f := range map[string]func() error{
		"Write":      func() error { return c.Write(background, Binary, p) },
		"ReadAppend": func() error { _, _, err := c.ReadAppend(background, p[:0]); return err },
	} {
		// Now and then the flusher runs, and pools are emptied.
		n := testing.AllocsPerRun(1000, func() {
			if err := f(); err != nil {
				t.Fatal(err)
			}
		})
		info, ok := debug.ReadBuildInfo()
		race := ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
		if n > 0 && !race {
			t.Errorf("%s allocates %v times", what, n)
		}
	}
}

// FuzzQ02Answer holds the judgement of an answer against a second reading of
// RFC 6455 §4.1: whatever the lines are, nothing else is accepted.
func FuzzQ02Answer(f *testing.F) {
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	const accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
	base := "Upgrade: websocket\nConnection: Upgrade\nSec-Websocket-Accept: " + accept
	for _, lines := range []string{base, base + "\nSec-Websocket-Protocol: chat", base + "\nSec-Websocket-Protocol: chat,superchat",
		base + "\nSec-Websocket-Extensions: x", strings.ToUpper(base), base + "\nUpgrade: x", base + "\nConnection: x, upgrade"} {
		f.Add(lines, true, false)
		f.Add(lines, false, true)
	}
	f.Fuzz(func(t *testing.T, lines string, offers, requires bool) {
		h := make(http.Header)
		for line := range strings.SplitSeq(lines, "\n") {
			if name, value, ok := strings.Cut(line, ":"); ok {
				h.Add(name, value)
			}
		}
		o := &DialOptions{RequireSubprotocol: requires}
		if offers {
			o.Subprotocols = []string{"chat", "superchat"}
		}
		subprotocol, _, wrong := o.judge(h, key)
		trim := func(s string) string { return strings.Trim(s, " \t") }
		one := func(name string) string {
			if len(h[name]) != 1 {
				return fmt.Sprint(len(h[name]), " of them")
			}
			return trim(h[name][0])
		}
		upgrade := false
		for _, e := range strings.Split(strings.Join(h["Connection"], ","), ",") {
			upgrade = upgrade || lowerASCII(trim(e)) == "upgrade"
		}
		chosen := ""
		n := 0
		for _, e := range strings.Split(strings.Join(h["Sec-Websocket-Protocol"], ","), ",") {
			if e = trim(e); e != "" {
				chosen = e
				n++
			}
		}
		ok := lowerASCII(one("Upgrade")) == "websocket" && upgrade && one("Sec-Websocket-Accept") == accept &&
			len(h["Sec-Websocket-Extensions"]) == 0
		if len(h["Sec-Websocket-Protocol"]) > 0 {
			ok = ok && n == 1 && offers && (chosen == "chat" || chosen == "superchat")
		} else {
			ok = ok && !(requires && offers)
		}
		if (wrong == nil) != ok {
			t.Fatalf("%q: %v, want accepted %v", h, wrong, ok)
		}
		if ok && subprotocol != chosen || !ok && (subprotocol != "" || wrong.Status != 101) {
			t.Fatalf("%q: %q, %v", h, subprotocol, wrong)
		}
		if wrong != nil && (len(wrong.Error()) > 600 || strings.ContainsAny(wrong.Error(), "\x00\n\x1b")) {
			t.Fatalf("%q", wrong)
		}
	})
}

func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 32
		}
	}
	return string(b)
}

// the header rule of F-01 for all pairs of first bytes, with the mask the
// other way round.
func TestQ07HeaderRule(t *testing.T) {
	for b0 := range 256 {
		for b1 := range 256 {
			b := []byte{byte(b0), byte(b1)}
			_, _, fromClient := parseHeader([]byte{byte(b0), byte(b1 ^ 0x80)}, true, false)
			h, n, v := parseHeader(b, false, false)
			if (v == nil) != (fromClient == nil) || v != nil && v.Code != StatusProtocolError {
				t.Fatalf("%x: %v from a server, %v from a client", b, v, fromClient)
			}
			if v == nil && b1 < 126 && (n != 2 || h.masked || h.length != int64(b1)) {
				t.Fatalf("%x: %+v, %d", b, h, n)
			}
		}
	}
	for _, length := range []uint64{0, 125, 126, 127, 65535, 65536, 1<<63 - 1, 1 << 63} {
		long := binary.BigEndian.AppendUint64([]byte{0x82, 127}, length)
		for k := range len(long) + 1 {
			h, n, v := parseHeader(long[:k], false, false)
			if k < len(long) && (n != 0 || v != nil) {
				t.Fatalf("%x: %d, %v", long[:k], n, v)
			}
			if k == len(long) && (v == nil) != (length > 65535 && length < 1<<63) {
				t.Fatalf("%x: %+v, %v", long, h, v)
			}
		}
		if completeFrame(long, false) {
			t.Fatalf("%x is complete", long)
		}
	}
	for frame, whole := range map[string]bool{"81 00": true, "81 01": false, "81 01 61": true, "81": false, "82 7e 007e": false, "": false} {
		if got := completeFrame(wire(t, frame), false); got != whole {
			t.Errorf("%s: %v", frame, got)
		}
	}
}
