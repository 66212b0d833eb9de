package websocket_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/conformance"
	"github.com/sockeye-ws/websocket/internal/memconn"
)

// openServer is open, and returns the server's end of the transport too.
func (l *lab) openServer(rule string) (*conformance.Peer, *websocket.Conn, *memconn.Conn) {
	l.t.Helper()
	var server *memconn.Conn
	l.tune = func(c *memconn.Conn) { server = c }
	defer func() { l.tune = nil }()
	p, c := l.open(rule)
	return p, c, server
}

// masked is one frame of a client.
func masked(b0 byte, payload string) []byte {
	return conformance.MaskedFrame(b0, [4]byte{0x37, 0xfa, 0x21, 0x3d}, []byte(payload))
}

// async runs f beside the test.
func async[T any](f func() T) <-chan T {
	result := make(chan T, 1)
	go func() { result <- f() }()
	return result
}

// done returns what is in ch once everybody waits: no time passes.
func done[T any](t *testing.T, what string, ch <-chan T) (v T) {
	t.Helper()
	synctest.Wait()
	select {
	case v = <-ch:
	default:
		t.Fatalf("%s has not returned", what)
	}
	return v
}

// wantPending checks that ch stays empty while no time passes.
func wantPending[T any](t *testing.T, what string, ch <-chan T) {
	t.Helper()
	synctest.Wait()
	select {
	case v := <-ch:
		t.Fatalf("%s has returned %v", what, v)
	default:
	}
}

// A message is what the calls that read return.
type message struct {
	typ  websocket.MessageType
	data string
	err  error
}

func readOne(ctx context.Context, c *websocket.Conn) message {
	typ, data, err := c.Read(ctx)
	return message{typ, string(data), err}
}

// wantMessage checks that the next Read gives data, and at once.
func wantMessage(t *testing.T, c *websocket.Conn, typ websocket.MessageType, data string) {
	t.Helper()
	m := done(t, "Read", async(func() message { return readOne(context.Background(), c) }))
	if m != (message{typ, data, nil}) {
		t.Errorf("Read: %v, %q, %v; want %v, %q", m.typ, short(m.data), m.err, typ, short(data))
	}
}

func short(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}

// wantContextError checks the error of a call that ctx has ended.
func wantContextError(t *testing.T, what string, err error, ctx context.Context) {
	t.Helper()
	if err == nil || !errors.Is(err, ctx.Err()) || !errors.Is(err, context.Cause(ctx)) {
		t.Errorf("%s: %v; want an error that Is %v and %v", what, err, ctx.Err(), context.Cause(ctx))
	}
	if errors.As(err, new(*websocket.CloseError)) {
		t.Errorf("%s: %v is a CloseError", what, err)
	}
}

// wantOver checks that the connection is over by now, and returns its end.
func wantOver(t *testing.T, c *websocket.Conn) *websocket.CloseError {
	t.Helper()
	synctest.Wait()
	if !isDone(c) {
		t.Fatal("the Context is not done")
	}
	var closed *websocket.CloseError
	if cause := context.Cause(c.Context()); !errors.As(cause, &closed) {
		t.Fatalf("the Cause of the Context is %v", cause)
	}
	return closed
}

// wantOpen checks that the connection is usable in both directions.
func wantOpen(t *testing.T, p *conformance.Peer, c *websocket.Conn) {
	t.Helper()
	p.WritePieces(masked(0x89, "open?"), masked(0x82, "open"))
	wantMessage(t, c, websocket.Binary, "open")
	p.WantBytes(append([]byte{0x8a, 5}, "open?"...))
	if err := done(t, "Write", async(func() error { return c.Write(context.Background(), websocket.Text, []byte("yes")) })); err != nil {
		t.Errorf("Write: %v", err)
	}
	p.Want("81 03 796573")
}

// countingContext counts what is registered with it.
type countingContext struct {
	context.Context // its values
	ended           chan struct{}

	mu         sync.Mutex
	err        error
	next       int
	active     map[int]func()
	registered int
}

func newCountingContext() *countingContext {
	return &countingContext{Context: context.Background(), ended: make(chan struct{}), active: map[int]func(){}}
}

func (c *countingContext) Done() <-chan struct{} { return c.ended }

func (c *countingContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// AfterFunc is what context.AfterFunc calls.
func (c *countingContext) AfterFunc(f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next++
	c.registered++
	id := c.next
	c.active[id] = f
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, ok := c.active[id]
		delete(c.active, id)
		return ok
	}
}

func (c *countingContext) cancel() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = context.Canceled
	close(c.ended)
	for id, f := range c.active {
		delete(c.active, id)
		go f()
	}
}

func (c *countingContext) counts() (registered, active int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.registered, len(c.active)
}

// uncomparable is a context that panics when it is compared.
type uncomparable []context.Context

func (u uncomparable) Deadline() (time.Time, bool) { return u[0].Deadline() }
func (u uncomparable) Done() <-chan struct{}       { return u[0].Done() }
func (u uncomparable) Err() error                  { return u[0].Err() }
func (u uncomparable) Value(key any) any           { return u[0].Value(key) }

// A mill is a transport that brings the same frame for ever and takes
// everything, without an allocation.
type mill struct {
	net.Conn // addresses
	frame    []byte
	at       int
	closed   chan struct{}
	once     sync.Once
}

func newMill(frame []byte) *mill {
	a, _ := memconn.Pair()
	return &mill{Conn: a, frame: frame, closed: make(chan struct{})}
}

func (m *mill) Read(p []byte) (n int, err error) {
	select {
	case <-m.closed:
		return 0, net.ErrClosed
	default:
	}
	for n < len(p) {
		k := copy(p[n:], m.frame[m.at:])
		n += k
		m.at = (m.at + k) % len(m.frame)
	}
	return n, nil
}

func (m *mill) Write(p []byte) (int, error) { return len(p), nil }
func (m *mill) CloseWrite() error           { return nil }

func (m *mill) Close() error {
	m.once.Do(func() { close(m.closed) })
	return nil
}

func (m *mill) SetDeadline(time.Time) error      { return nil }
func (m *mill) SetReadDeadline(time.Time) error  { return nil }
func (m *mill) SetWriteDeadline(time.Time) error { return nil }

// unread is how many bytes have come for p that it has not looked at.
func unread(p *conformance.Peer) int { return p.Conn().(*memconn.Conn).Unread() }

// answerSize is how many bytes the server writes before the first frame.
func (l *lab) answerSize() (n int64) {
	l.t.Helper()
	conn, err := l.dial()
	if err != nil {
		l.t.Fatal(err)
	}
	defer conn.Close()
	request := strings.ReplaceAll(`GET /ws HTTP/1.1
Host: example.com
Upgrade: websocket
Connection: Upgrade
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
Sec-WebSocket-Version: 13

`, "\n", "\r\n")
	if _, err := io.WriteString(conn, request); err != nil {
		l.t.Fatal(err)
	}
	defer (<-l.conns).CloseNow()
	synctest.Wait()
	return int64(conn.(*memconn.Conn).Unread())
}

// notation are bytes as in the rows of package conformance.
func notation(s string) []byte {
	if s == "" {
		return nil
	}
	steps, err := conformance.Steps("C> " + s + " OPEN")
	if err != nil {
		panic(err)
	}
	return steps[0].Bytes
}

// A hijackSpy shows what a handshake takes from net/http.
type hijackSpy struct {
	http.ResponseWriter
	taken func(net.Conn, *bufio.ReadWriter)
}

func (s *hijackSpy) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(s.ResponseWriter).Hijack()
	if err == nil {
		s.taken(conn, rw)
	}
	return conn, rw, err
}

// http101 upgrades by Upgrade and hands the connection over, so that nobody
// else has used it before.
func http101(give func(*websocket.Conn)) http.Handler {
	u := &websocket.Upgrader{Config: websocket.Config{Logger: slog.New(slog.DiscardHandler), PingInterval: -1}, ReleaseConns: true}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, err := u.Upgrade(w, r); err == nil {
			give(c)
		}
	})
}

// upgraded is a connection over nc, without a server.
func upgraded(t *testing.T, nc net.Conn) *websocket.Conn {
	t.Helper()
	u := &websocket.Upgrader{Config: websocket.Config{Logger: slog.New(slog.DiscardHandler), PingInterval: -1}}
	c, err := u.Upgrade(newHSWriter(nc), hsRequest())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.CloseNow() })
	return c
}

// sandglass measures how long something takes, without the time in which a busy
// machine has no turn for this process: a grain falls when somebody looks. stop
// has to be called.
func sandglass() (passed func() time.Duration, stop func()) {
	const grain = 10 * time.Millisecond
	var fallen atomic.Int64
	over := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		grains := time.NewTicker(grain) // which drops those that come too late
		defer grains.Stop()
		for {
			select {
			case <-over:
				return
			case <-grains.C:
				fallen.Add(1)
			}
		}
	})
	return func() time.Duration { return time.Duration(fallen.Load()) * grain },
		func() { close(over); wg.Wait() }
}

// wantEnd checks that all is over at last, on a machine as slow as it may be.
func wantEnd(t *testing.T, c *websocket.Conn) {
	t.Helper()
	select {
	case <-c.Context().Done():
	case <-time.After(20 * time.Second):
		t.Fatal("the connection is not cut")
	}
}

// underRace says whether the race detector watches.
func underRace() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
