package websocket_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/conformance"
	"github.com/sockeye-ws/websocket/internal/memconn"
)

// A storm counts what its handlers do.
type storm struct {
	began, running atomic.Int64
	over           atomic.Bool // Shutdown has returned
	late           atomic.Bool // a handler began after that
}

func (s *storm) upgrader() *websocket.Upgrader {
	return &websocket.Upgrader{
		ShutdownWindow: 2 * time.Millisecond,
		Config:         websocket.Config{Logger: slog.New(slog.DiscardHandler)},
		Handler: func(c *websocket.Conn) error {
			s.running.Add(1)
			defer s.running.Add(-1)
			s.began.Add(1)
			if s.over.Load() {
				s.late.Store(true)
			}
			return <-readingOn(c)
		},
	}
}

// end calls Shutdown, and checks that it leaves nothing.
func (s *storm) end(t *testing.T, u *websocket.Upgrader) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := u.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	s.over.Store(true)
	if n, m := count(u), s.running.Load(); n > 0 || m > 0 {
		t.Errorf("Shutdown has returned: %d connections and %d handlers are left", n, m)
	}
}

// shaken reads the answer to a handshake, which is 101 or 503.
func shaken(t *testing.T, conn net.Conn) (*bufio.Reader, bool) {
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, nil)
	switch {
	case os.IsTimeout(err):
		t.Errorf("the handshake: %v", err)
	case err == nil && resp.StatusCode == http.StatusSwitchingProtocols:
		return br, true
	case err == nil && resp.StatusCode != http.StatusServiceUnavailable:
		t.Errorf("the handshake: %v", resp)
	}
	conn.Close()
	return nil, false
}

// told reads that the server goes away, and answers; the end of the stream
// will do as well.
func told(t *testing.T, conn net.Conn, br *bufio.Reader) {
	defer conn.Close()
	var frame [4]byte
	_, err := io.ReadFull(br, frame[:])
	switch {
	case os.IsTimeout(err):
		t.Error("who got a 101 got neither a Close frame nor the end of the stream")
	case err == nil && frame != [4]byte{0x88, 2, 0x03, 0xe9}:
		t.Errorf("received % x, want a Close frame with 1001", frame)
	case err == nil:
		conn.Write(conformance.MaskedFrame(0x88, [4]byte{}, frame[2:]))
	}
}

// Shutdown in a storm of handshakes: whoever gets a 101 gets a Close frame or
// the end of the stream, and when Shutdown returns, nothing is left.
func TestL13ShutdownInAStorm(t *testing.T) {
	rounds := 100
	if testing.Short() {
		rounds = 10
	}
	for round := range rounds {
		var s storm
		u := s.upgrader()
		b := overTCP(t, http.HandlerFunc(u.ServeHTTP))
		var clients sync.WaitGroup
		request := hsBase.Request()
		var come atomic.Int64
		enough := make(chan bool)
		for range 8 {
			clients.Go(func() {
				for {
					conn, err := b.dial()
					if err != nil {
						t.Error(err)
						return
					}
					conn.Write(request)
					br, open := shaken(t, conn)
					if !open {
						return
					}
					clients.Go(func() { told(t, conn, br) })
					if come.Add(1) == int64(1+round%20) {
						close(enough)
					}
				}
			})
		}
		<-enough
		s.end(t, u)
		clients.Wait()
		b.stop()
		if s.late.Load() {
			t.Error("a handler has begun after Shutdown had returned")
		}
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
}

// The same without a network, where many more fit into the same moment.
func TestShutdownMeetsHandshake(t *testing.T) {
	rounds := 3000
	if testing.Short() {
		rounds = 300
	}
	for round := range rounds {
		var s storm
		u := s.upgrader()
		var requests, clients sync.WaitGroup
		for range 4 {
			client, server := memconn.Pair()
			w, r := newHSWriter(server), hsRequest()
			requests.Go(func() {
				u.ServeHTTP(w, r)
				if w.Code == http.StatusServiceUnavailable {
					server.Close()
				}
			})
			clients.Go(func() {
				if br, open := shaken(t, client); open {
					told(t, client, br)
				}
			})
		}
		for range round % 64 { // a little later each time
			count(u)
		}
		s.end(t, u)
		requests.Wait()
		clients.Wait()
		if s.late.Load() {
			t.Error("a handler has begun after Shutdown had returned")
		}
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
}
