package websocket_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/conformance"
	"github.com/sockeye-ws/websocket/internal/memconn"
)

// A lab is a bench in a bubble whose connections are the test's own: the
// handler hands them over and returns when they have ended.
type lab struct {
	*bench
	conns chan *websocket.Conn
	peers []*conformance.Peer
	given []*websocket.Conn
}

func inLab(t *testing.T, config websocket.Config, f func(t *testing.T, l *lab)) {
	t.Helper()
	inSight(t, &websocket.Upgrader{Config: config}, f)
}

// inSight is inLab with an Upgrader of the test's own, which has another handler
// if it has any.
func inSight(t *testing.T, u *websocket.Upgrader, f func(t *testing.T, l *lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &lab{conns: make(chan *websocket.Conn)}
		if u.Logger == nil {
			u.Logger = slog.New(slog.DiscardHandler)
		}
		if u.Handler == nil && u.Open == nil {
			u.Handler = func(c *websocket.Conn) error {
				l.conns <- c
				<-c.Context().Done()
				return nil
			}
		}
		l.bench = inMemory(t, u)
		defer func() {
			for _, p := range l.peers {
				p.Close()
			}
			for _, c := range l.given {
				c.CloseNow()
			}
			l.stop()
		}()
		f(t, l)
	})
}

// open opens a connection and returns both of its ends.
func (l *lab) open(rule string) (*conformance.Peer, *websocket.Conn) {
	l.t.Helper()
	p := l.peer(rule)
	c := <-l.conns
	l.peers, l.given = append(l.peers, p), append(l.given, c)
	return p, c
}

// readingOn keeps a read pending on c until the connection ends, and sends
// what it returned.
func readingOn(c *websocket.Conn) <-chan error {
	end := make(chan error, 1)
	go func() {
		for {
			if _, _, err := c.Read(context.Background()); err != nil {
				end <- err
				return
			}
		}
	}()
	return end
}

// wantClosed checks the code and the side of an error.
func wantClosed(t *testing.T, err error, code websocket.StatusCode, remote bool) *websocket.CloseError {
	t.Helper()
	var closed *websocket.CloseError
	if !errors.As(err, &closed) {
		t.Fatalf("the error is %v, not a CloseError", err)
	}
	if closed.Code != code || closed.Remote != remote {
		t.Errorf("the error is %#v; want code %d, remote %v", closed, code, remote)
	}
	return closed
}

// wantElapsed checks that exactly this much time has passed.
func wantElapsed(t *testing.T, start time.Time, want time.Duration) {
	t.Helper()
	if got := time.Since(start); got != want {
		t.Errorf("took %v, want exactly %v", got, want)
	}
}

// ends are ways in which a connection comes to its end, as a peer sees them.
var ends = []struct {
	name   string
	end    func(p *conformance.Peer, c *websocket.Conn)
	code   websocket.StatusCode
	remote bool
}{
	{"the peer closes", func(p *conformance.Peer, c *websocket.Conn) { p.Write("88 85 z 03e9 627965"); p.WantClean("03e9") }, 1001, true},
	{"the peer closes without a code", func(p *conformance.Peer, c *websocket.Conn) { p.Write("88 80 z"); p.WantClean("") }, 1005, true},
	{"the peer breaks a rule", func(p *conformance.Peer, c *websocket.Conn) { p.Write("c1 80 z"); p.WantFail(1002) }, 1002, false},
	{"the peer ends the stream", func(p *conformance.Peer, c *websocket.Conn) { p.Fin(); p.WantDrop() }, 1006, true},
	{"the transport is reset", func(p *conformance.Peer, c *websocket.Conn) { p.Conn().(*memconn.Conn).Reset() }, 1006, true},
	{"Close", func(p *conformance.Peer, c *websocket.Conn) {
		c.Close(4000, "done")
		p.Want("88 06 0fa0 646f6e65")
		p.Write("88 82 z 0fa0")
		p.WantEOF()
	}, 4000, false},
	{"CloseNow", func(p *conformance.Peer, c *websocket.Conn) { c.CloseNow() }, 1006, false},
}

func wantTimeout(t *testing.T, err error) {
	t.Helper()
	wantClosed(t, err, 1006, true)
	var timeout net.Error
	if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("%v is no time-out", err)
	}
}

// onSockets calls f with a connection over TCP, and one over TLS, whose
// sockets take about size bytes unless that is 0. The connection is being
// read.
func onSockets(t *testing.T, rule string, size int, f func(t *testing.T, p *conformance.Peer, c *websocket.Conn)) {
	for name, secure := range map[string]bool{"TCP": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			conns := make(chan *websocket.Conn, 1)
			// A peer that is slow because the machine is has all the time it needs.
			b := loopback(t, &websocket.Upgrader{Config: websocket.Config{WriteTimeout: time.Minute}, Handler: func(c *websocket.Conn) error {
				conns <- c
				return <-readingOn(c)
			}}, secure, size)
			defer b.stop()
			p := b.peer(rule)
			defer p.Close()
			f(t, p, <-conns)
		})
	}
}

// An unheardConn takes what nobody takes any more. After a verdict, what follows
// is read for a second only, and a peer on a busy machine may need longer to send
// it. How the verdict was told is to be read all the same.
type unheardConn struct{ net.Conn }

func (c unheardConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return len(p), nil
	}
	return n, err
}

func (c unheardConn) CloseWrite() error {
	return c.Conn.(interface{ CloseWrite() error }).CloseWrite()
}

// unheard makes connections of that kind.
func unheard(connect func() (net.Conn, error)) func() (net.Conn, error) {
	return func() (net.Conn, error) {
		conn, err := connect()
		if err != nil {
			return nil, err
		}
		return unheardConn{conn}, nil
	}
}
