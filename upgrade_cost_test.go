package websocket_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sockeye-ws/websocket"
)

// What a handshake allocates, above what net/http does for anybody who takes a
// connection from it: for the connection itself and what belongs to it, its
// goroutine, the judgement of the request and the answer.
func TestUpgradeAllocations(t *testing.T) {
	if underRace() {
		t.Skip("the race detector allocates, too")
	}
	const answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
	bare := func(w http.ResponseWriter, _ *http.Request, release <-chan struct{}) {
		nc, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer nc.Close()
		io.WriteString(nc, answer)
		<-release
	}
	u := new(websocket.Upgrader)
	var release atomic.Value // of the connections that follow
	served := &websocket.Upgrader{Handler: func(*websocket.Conn) error {
		<-release.Load().(<-chan struct{})
		return nil
	}}
	for _, tt := range []struct {
		name string
		h    holding
		most float64
	}{
		{"ServeHTTP", func(w http.ResponseWriter, r *http.Request, until <-chan struct{}) {
			release.Store(until)
			served.ServeHTTP(w, r)
		}, 8},
		{"Upgrade", func(w http.ResponseWriter, r *http.Request, until <-chan struct{}) {
			c, err := u.Upgrade(w, r)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.CloseNow()
			<-until
		}, 8},
	} {
		// Whether net/http's own read has begun by the time that it is broken
		// off, which makes an error, is a matter of luck on a busy machine.
		more := float64(1 << 10)
		for tries := 0; more > tt.most+0.5 && tries < 10; tries++ {
			got, least := handshakeAllocations(t, tt.h), handshakeAllocations(t, bare)
			more = got - least
			t.Logf("%s: %.2f allocations for a handshake, %.2f without WebSocket: %.2f more", tt.name, got, least, more)
		}
		if more > tt.most+0.5 {
			t.Errorf("%s: %.2f allocations more than a handler that hijacks, want at most %v", tt.name, more, tt.most)
		}
	}
}

// holding handles a request and keeps the connection until the channel is closed.
type holding func(http.ResponseWriter, *http.Request, <-chan struct{})

// handshakeAllocations opens connections one after the other, over TCP, and
// returns how much each allocates, the client's part included. They stay open.
func handshakeAllocations(t *testing.T, h holding) float64 {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-time.After(50 * time.Microsecond) // for that read
		h(w, r, release)
	})}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	const each, tries = 50, 3
	clients := make([]net.Conn, 0, each*(tries+1))
	defer func() {
		for _, c := range clients {
			c.Close()
		}
		close(release)
		s.Close()
		<-served
	}()
	// A collection would empty the pools.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	request, buf := hsBase.Request(), make([]byte, 1<<10)
	open := func() {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
		c.Write(request)
		n := 0
		for !bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
			k, err := c.Read(buf[n:])
			if err != nil {
				t.Fatalf("%v after %q", err, buf[:n])
			}
			n += k
		}
	}
	least := uint64(1 << 62)
	var before, after runtime.MemStats
	for try := range 1 + tries { // the first warms up
		runtime.ReadMemStats(&before)
		for range each {
			open()
		}
		runtime.ReadMemStats(&after)
		if try > 0 {
			least = min(least, after.Mallocs-before.Mallocs)
		}
	}
	return float64(least) / each
}
