package transport

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket/internal/memconn"
	"github.com/sockeye-ws/websocket/internal/tls13"
)

// A tally counts what is written to a connection.
type tally struct {
	*memconn.Conn
	written int64
}

func (c *tally) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.written += int64(n)
	return n, err
}

// overTLS runs f on the server's end of a TLS connection in memory.
func overTLS(t *testing.T, writeTimeout time.Duration, f func(t *testing.T, s Conn, here *tally, client *tls.Conn)) {
	config := tls13.Config()
	synctest.Test(t, func(t *testing.T) {
		end, there := memconn.Pair()
		here := &tally{Conn: end}
		server, client := tls.Server(here, config), tls.Client(there, config)
		defer here.Close()
		defer there.Close()
		shaken := make(chan error)
		go func() { shaken <- client.Handshake() }()
		if err := errors.Join(server.Handshake(), <-shaken); err != nil {
			t.Fatal(err)
		}
		f(t, New(server, writeTimeout), here, client)
	})
}

func TestTLSWriteFailureIsFinal(t *testing.T) {
	// Invariant 8, and the contract of Write: 0 would say that the peer has
	// seen nothing and that the connection is still good, when part of a
	// record may be out and tls.Conn writes no more.
	failure := errors.New("boom")
	for _, taken := range []int64{0, 1, 5, 20} {
		overTLS(t, time.Second, func(t *testing.T, s Conn, here *tally, _ *tls.Conn) {
			here.FailWriteAfter(here.written+taken, failure)
			n, err := s.Write([]byte("hello"))
			if n < 1 || !errors.Is(err, failure) {
				t.Errorf("a write that fails after %d bytes of its record: %d, %v", taken, n, err)
			}
		})
		overTLS(t, time.Second, func(t *testing.T, s Conn, here *tally, _ *tls.Conn) {
			here.StallWriteAfter(here.written + taken)
			call := <-inBackground(func() (int, error) { return s.Write([]byte("hello")) })
			if call.n < 1 || !errors.Is(call.err, os.ErrDeadlineExceeded) || call.in != time.Second {
				t.Errorf("a write that is stuck after %d bytes of its record: %+v", taken, call)
			}
		})
		overTLS(t, time.Hour, func(t *testing.T, s Conn, here *tally, _ *tls.Conn) {
			here.StallWriteAfter(here.written + taken)
			call := inBackground(func() (int, error) { return s.Write([]byte("hello")) })
			time.Sleep(time.Second)
			s.Out().Interrupt()
			if r := <-call; r.n < 1 || !errors.Is(r.err, os.ErrDeadlineExceeded) || r.in != time.Second {
				t.Errorf("a write that is interrupted after %d bytes of its record: %+v", taken, r)
			}
		})
	}
}

func TestTLSAbort(t *testing.T) {
	// tls.Conn.Close would wait for the stuck write's lock and then up to
	// 5 s for its alert.
	overTLS(t, time.Hour, func(t *testing.T, s Conn, here *tally, _ *tls.Conn) {
		here.StallWriteAfter(0)
		write := inBackground(func() (int, error) { return s.Write(make([]byte, 100)) })
		read := inBackground(func() (int, error) { return s.Fill(&shelf{size: 1}, true) })
		time.Sleep(time.Second)
		start := time.Now()
		if err := s.Abort(); err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("Abort takes %v", d)
		}
		if w := <-write; w.n < 1 || !errors.Is(w.err, net.ErrClosed) || w.in != time.Second {
			t.Errorf("the stuck write: %+v", w)
		}
		if r := <-read; r.n != 0 || r.err == nil || r.in != time.Second {
			t.Errorf("the read that waits: %+v", r)
		}
	})
}

func TestTLSAbortOnAFullSocket(t *testing.T) {
	// Nobody writes just now, and the alert that tls.Conn.Close sends would
	// be stuck for 5 s.
	overTLS(t, time.Hour, func(t *testing.T, s Conn, here *tally, client *tls.Conn) {
		here.StallWriteAfter(0)
		start := time.Now()
		if err := s.Abort(); err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("Abort takes %v", d)
		}
		if _, err := client.Read(make([]byte, 1)); err == nil {
			t.Error("the peer reads on")
		}
	})
}

func TestTLSCloseWrite(t *testing.T) {
	overTLS(t, time.Second, func(t *testing.T, s Conn, here *tally, client *tls.Conn) {
		text := "hello, more than first bytes: 0123456789012345678901234567890123456789012345678901234567890123456789"
		if n, err := s.Write([]byte(text)); n != len(text) || err != nil {
			t.Fatal(n, err)
		}
		if half, err := s.CloseWrite(); !half || err != nil {
			t.Fatal(half, err)
		}
		got, err := io.ReadAll(client)
		if string(got) != text || err != nil {
			t.Errorf("the peer reads %q, %v", got, err)
		}
		// The other direction stays open, and is read from the first bytes
		// of an idle connection on.
		client.Write([]byte(text))
		client.CloseWrite()
		room := &shelf{size: 1000}
		var back []byte
		for {
			n, err := s.Fill(room, len(back) == 0)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			back = append(back, room.open[:n]...)
		}
		if string(back) != text {
			t.Errorf("read %q", back)
		}
	})
}
