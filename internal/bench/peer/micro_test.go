package peer

import (
	"bytes"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lxzan/gws"
)

// microSize is the payload of the messages in the benchmarks below, which
// measure what the libraries themselves do: no socket takes part.
const microSize = 125

// microServers are those that exchange messages and can do without a socket.
func microServers() []*Server {
	return slices.DeleteFunc(slices.Clone(All), func(s *Server) bool { return s.Sockets || s.Only != nil })
}

func BenchmarkRead(b *testing.B) {
	for _, s := range microServers() {
		b.Run(s.Name, func(b *testing.B) {
			b.ReportAllocs()
			if s == gwsServer {
				benchmarkReadGws(b)
				return
			}
			c := microConn(b, s)
			perRead := 1 // messages; the raw server does not know where they end
			if s.Raw {
				perRead = rawBuffer / len(microFrame())
			}
			var buf []byte
			for i := 0; b.Loop(); i++ {
				if i%perRead != 0 {
					continue
				}
				p, err := c.Receive(buf[:0])
				if err != nil {
					b.Fatal(err)
				}
				buf = p
			}
		})
	}
}

func BenchmarkWrite(b *testing.B) {
	for _, s := range microServers() {
		b.Run(s.Name, func(b *testing.B) {
			b.ReportAllocs()
			var c sender
			if s == gwsServer {
				c = <-microGws(b, func() {})
			} else {
				c = microConn(b, s)
			}
			p := make([]byte, microSize)
			for b.Loop() {
				if err := c.Send(p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// benchmarkReadGws lets the library run a batch ahead at most, as it is not
// asked for messages but tells.
func benchmarkReadGws(b *testing.B) {
	const batch = 1 << 10
	batches, stop := make(chan struct{}), make(chan struct{})
	defer close(stop)
	n := 0
	<-microGws(b, func() {
		if n++; n%batch == 0 {
			select {
			case batches <- struct{}{}:
			case <-stop:
			}
		}
	})
	for i := 0; b.Loop(); i++ {
		if i%batch == 0 {
			<-batches
		}
	}
}

func TestMicro(t *testing.T) {
	for _, s := range microServers() {
		t.Run(s.Name, func(t *testing.T) {
			if s == gwsServer {
				got := make(chan struct{})
				once := sync.OnceFunc(func() { close(got) })
				c := <-microGws(t, once)
				<-got
				if err := c.Send(make([]byte, microSize)); err != nil {
					t.Error(err)
				}
				return
			}
			c := microConn(t, s)
			for range 100 {
				p, err := c.Receive(nil)
				if err != nil {
					t.Fatal(err)
				}
				if !s.Raw && !bytes.Equal(p, make([]byte, microSize)) {
					t.Fatalf("received % x", p)
				}
			}
			for range 100 {
				if err := c.Send(make([]byte, microSize)); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// microConn has s serve an endless connection.
func microConn(t testing.TB, s *Server) conn {
	ln := newMicroListener()
	conns, done := make(chan conn), make(chan struct{})
	w := &work{mode: Upgrade, stats: new(Stats), bench: func(c conn) {
		conns <- c
		<-done
	}}
	go func() { _ = s.serve(ln, w) }()
	t.Cleanup(func() {
		close(done)
		_ = ln.Close()
	})
	return <-conns
}

// microGws is the same for the one that is not asked but told.
func microGws(t testing.TB, message func()) <-chan sender {
	ln := newMicroListener()
	e := &microEvents{message: message, opened: make(chan sender, 1)}
	go func() { _ = httpServer(ln, gwsHandler(e, Echo)) }()
	t.Cleanup(func() { _ = ln.Close() })
	return e.opened
}

type microEvents struct {
	gws.BuiltinEventHandler
	message func()
	opened  chan sender
}

func (e *microEvents) OnOpen(c *gws.Conn) { e.opened <- gwsConn{c} }

func (e *microEvents) OnMessage(_ *gws.Conn, m *gws.Message) {
	e.message()
	_ = m.Close()
}

// A microListener accepts one connection, an endless one.
type microListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	c      *endless
}

func newMicroListener() *microListener {
	ln := &microListener{conns: make(chan net.Conn, 1), closed: make(chan struct{}), c: newEndless()}
	ln.conns <- ln.c
	return ln
}

func (ln *microListener) Accept() (net.Conn, error) {
	select {
	case c := <-ln.conns:
		return c, nil
	case <-ln.closed:
		return nil, net.ErrClosed
	}
}

func (ln *microListener) Close() error {
	ln.once.Do(func() { close(ln.closed) })
	return ln.c.Close()
}

func (ln *microListener) Addr() net.Addr { return microAddr{} }

type microAddr struct{}

func (microAddr) Network() string { return "micro" }
func (microAddr) String() string  { return "127.0.0.1:1" }

// endless is a connection whose client asks for an upgrade, waits for the
// response and then sends the same message for ever. What is written to it is
// discarded.
type endless struct {
	frames []byte // whole frames
	at     int

	open   atomic.Bool
	closed atomic.Bool

	mu       sync.Mutex
	changed  sync.Cond
	request  []byte
	response []byte
	deadline bool // has passed
}

const microRequest = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"

// microFrame is a binary message of zeros under a mask (RFC 6455 §5.3).
func microFrame() []byte {
	key := []byte{0x37, 0xfa, 0x21, 0x3d}
	b := append([]byte{0x82, 0x80 | microSize}, key...)
	return append(b, bytes.Repeat(key, microSize/4+1)[:microSize]...)
}

func newEndless() *endless {
	c := &endless{frames: bytes.Repeat(microFrame(), 512), request: []byte(microRequest)}
	c.changed.L = &c.mu
	return c
}

func (c *endless) Read(p []byte) (int, error) {
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	if !c.open.Load() {
		if n, err := c.readEarly(p); n > 0 || err != nil {
			return n, err
		}
	}
	n := copy(p, c.frames[c.at:])
	if c.at += n; c.at == len(c.frames) {
		c.at = 0
	}
	return n, nil
}

// readEarly returns the request, then waits for the response to it.
func (c *endless) readEarly(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.request) > 0 {
		n := copy(p, c.request)
		c.request = c.request[n:]
		return n, nil
	}
	for !c.open.Load() {
		switch {
		case c.closed.Load():
			return 0, net.ErrClosed
		case c.deadline:
			return 0, os.ErrDeadlineExceeded
		}
		c.changed.Wait()
	}
	return 0, nil
}

func (c *endless) Write(p []byte) (int, error) {
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	if c.open.Load() {
		return len(p), nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.response = append(c.response, p...)
	if bytes.Contains(c.response, []byte("\r\n\r\n")) {
		c.open.Store(true)
		c.changed.Broadcast()
	}
	return len(p), nil
}

func (c *endless) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed.Store(true)
	c.changed.Broadcast()
	return nil
}

func (c *endless) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = !t.IsZero() && !t.After(time.Now())
	c.changed.Broadcast()
	return nil
}

func (c *endless) SetDeadline(t time.Time) error    { return c.SetReadDeadline(t) }
func (c *endless) SetWriteDeadline(time.Time) error { return nil }
func (c *endless) LocalAddr() net.Addr              { return microAddr{} }
func (c *endless) RemoteAddr() net.Addr             { return microAddr{} }
