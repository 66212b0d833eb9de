package websocket_test

import (
	"context"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/conformance"
)

// parkedOnly skips where connections in event mode keep a goroutine.
func parkedOnly(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("nothing is parked here")
	}
}

// openMany opens n connections, ten at a time.
func openMany(b *bench, rule string, n int) []*conformance.Peer {
	peers := make([]*conformance.Peer, n)
	var wg sync.WaitGroup
	for first := range 10 {
		wg.Go(func() {
			for i := first; i < n; i += 10 {
				peers[i] = b.peer(rule)
			}
		})
	}
	wg.Wait()
	return peers
}

// wantJoined waits until n connections are in g: their peers have the 101 before
// their handlers begin.
func wantJoined(t *testing.T, g *websocket.Group, n int) {
	t.Helper()
	if settled(func() string { return strings.Repeat("x", abs(g.Len()-n)) }) != "" {
		t.Fatalf("%d connections, want %d", g.Len(), n)
	}
}

// While nothing comes, connections have no goroutine: 500 of them have as many
// as one. When something has come on each, it is so again.
func TestEventsParkedHaveNoGoroutine(t *testing.T) {
	parkedOnly(t)
	overSockets(t, ticking(10*time.Millisecond), echoing, func(t *testing.T, b *bench, _ *websocket.Upgrader) {
		const conns = 500
		wantServing(t, 0)
		before := runtime.NumGoroutine()
		peers := openMany(b, "parked, then served, then parked", conns)
		for range 2 {
			wantServing(t, 0)
			// The poller, the clock, and whom the runtime starts for itself.
			if n := settledBelow(before + 5); n > before+5 {
				t.Errorf("%d goroutines with %d connections, %d without", n, conns, before)
			}
			for _, p := range peers {
				p.WritePieces(masked(0x82, "hello"))
			}
			for _, p := range peers {
				p.WantBytes(binaryFrame("hello"))
			}
		}
		for _, p := range peers {
			p.Close()
		}
	})
}

// settledBelow waits until there are at most so many goroutines, and returns
// how many there are then.
func settledBelow(most int) int {
	settled(func() string {
		if runtime.NumGoroutine() <= most {
			return ""
		}
		return "too many"
	})
	return runtime.NumGoroutine()
}

// heap is how much memory is in use when all that is free has been freed.
func heap() int64 {
	for range 3 { // the pools let go with the second
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// spareGoroutines has the runtime make what n goroutines need at once, as it keeps
// that for ever: how many there happen to be later on does not count then.
func spareGoroutines(n int) {
	var all sync.WaitGroup
	gate := make(chan struct{})
	for range n {
		all.Go(func() { <-gate })
	}
	close(gate)
	all.Wait()
}

// The memory of a connection that waits has a bound.
func TestIdleMemory(t *testing.T) {
	start := func(c *websocket.Conn) error {
		c.Start(echoEvents{})
		return nil
	}
	for _, tt := range []struct {
		name            string
		handler         func(*websocket.Conn) error
		release, secure bool
		bound           int64 // about a fifth more than was measured
	}{
		{name: "parked, TCP", handler: start, bound: 1050},
		{name: "parked, TCP without a net.Conn", handler: start, release: true, bound: 740},
		{name: "parked, TLS", handler: start, secure: true, bound: 8600},
		{name: "in Read, TCP", handler: readsAndWrites, bound: 1050},
		{name: "in Read, TLS", handler: readsAndWrites, secure: true, bound: 8600},
	} {
		t.Run(tt.name, func(t *testing.T) {
			waits := func() {} // Read
			if strings.HasPrefix(tt.name, "parked") {
				parkedOnly(t)
				waits = func() { wantServing(t, 0) }
			}
			u := &websocket.Upgrader{Config: ticking(10 * time.Millisecond), Handler: tt.handler, ReleaseConns: tt.release}
			each, peer := heapOfIdle(t, u, tt.secure, waits)
			t.Logf("%d bytes on the heap for a connection (and %d for a peer)", each, peer)
			if each > tt.bound && !underRace() {
				t.Errorf("%d bytes for a connection, want at most %d", each, tt.bound)
			}
		})
	}
}

// readsAndWrites is a handler that keeps nothing.
func readsAndWrites(c *websocket.Conn) error {
	for {
		typ, p, err := c.Read(context.Background())
		if err != nil {
			return err
		}
		if err := c.Write(context.Background(), typ, p); err != nil {
			return err
		}
	}
}

// heapOfIdle returns the bytes on the heap for each connection of u after an
// echo, when waits returns, without its goroutine, and those for a peer, which are
// not counted.
func heapOfIdle(t *testing.T, u *websocket.Upgrader, secure bool, waits func()) (each, peer int64) {
	const conns = 1000
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b := loopback(t, u, secure, 0)
	defer b.stop()
	ends := make([]net.Conn, conns)
	spareGoroutines(3 * conns)
	none := heap()
	for i := range ends { // what a peer costs by itself
		if ends[i], err = net.Dial("tcp", l.Addr().String()); err != nil {
			t.Fatal(err)
		}
	}
	peer = (heap() - none) / conns
	for _, end := range ends {
		end.Close()
	}
	peers := openMany(b, "idle", conns)
	for i, p := range peers {
		p.WritePieces(masked(0x82, "hello")) // it has read and written
		p.WantBytes(binaryFrame("hello"))
		ends[i] = p.Conn()
	}
	waits()
	clear(peers)
	each = (heap()-none)/conns - peer
	if secure { // of crypto/tls both ends have the same
		each = (each + peer) / 2
	}
	for _, end := range ends {
		end.Close()
	}
	return each, peer
}

// A connection that is busy is served by one goroutine that waits for its
// input; when it has been quiet, that goes away, and the next message is
// served all the same.
func TestEventsBusyConnectionKeepsItsGoroutine(t *testing.T) {
	parkedOnly(t)
	overSockets(t, ticking(100*time.Millisecond), echoing, func(t *testing.T, b *bench, _ *websocket.Upgrader) {
		p := b.peer("busy and quiet in turn")
		defer p.Close()
		echo := func() {
			p.WritePieces(masked(0x82, "hello"))
			p.WantBytes(binaryFrame("hello"))
		}
		for range 3 {
			wantServing(t, 0)
			// It is busy when a few messages have come in a row; a machine
			// that is slow may need some more.
			var names []string
			var last time.Time // when something came
			for tries := 0; len(names) != 1 && tries < 1000; tries++ {
				for range 20 {
					echo()
				}
				last = time.Now()
				names = servingIn("IO wait") // which one that parks never is
			}
			var slowest time.Duration
			for range 201 {
				echo()
				slowest = max(slowest, time.Since(last))
				last = time.Now()
			}
			now := serving()
			slowest = max(slowest, time.Since(last))
			// Where a machine takes as long as a tick for one, it is quiet.
			if slowest < 50*time.Millisecond && (len(names) != 1 || !slices.Equal(names, now)) {
				t.Errorf("it is served by %v and then by %v, want one that stays", names, now)
			}
			wantServing(t, 0)
		}
	})
}

// All wake in the same instant, and all are answered.
func TestEventsAllWakeAtOnce(t *testing.T) {
	parkedOnly(t)
	conns := 5000
	if testing.Short() || underRace() {
		conns = 500
	}
	var g websocket.Group
	defer func() {
		if g.Len() != 0 {
			t.Errorf("%d are left in the group", g.Len())
		}
	}()
	var heard atomic.Int32
	u := &websocket.Upgrader{Config: ticking(10 * time.Millisecond), Handler: func(c *websocket.Conn) error {
		g.Add(c)
		c.Start(newHearerFor(&heard))
		return nil
	}}
	b := loopback(t, u, false, 0)
	defer b.stop()
	peers := openMany(b, "all are answered", conns)
	wantJoined(t, &g, conns)
	wantServing(t, 0)
	resting, calm := heap(), runtime.NumGoroutine()

	stop, peaks := make(chan struct{}), make(chan [2]int64, 1)
	go func() {
		var most [2]int64
		var m runtime.MemStats
		again := time.NewTicker(5 * time.Millisecond)
		defer again.Stop()
		for {
			runtime.ReadMemStats(&m)
			most[0], most[1] = max(most[0], int64(m.HeapAlloc)), max(most[1], int64(runtime.NumGoroutine()))
			select {
			case <-again.C:
			case <-stop:
				peaks <- most
				return
			}
		}
	}()
	start := time.Now()
	g.Send(prepared([]byte("now")))
	for _, p := range peers {
		p.Conn().Write(masked(0x82, "hello"))
	}
	for _, p := range peers {
		p.WantBytes(binaryFrame("now"))
		p.WantBytes(binaryFrame("hello"))
	}
	took := time.Since(start)
	close(stop)
	peak := <-peaks
	t.Logf("%d connections wake and are answered in %v; at most %d goroutines, %d without; heap at most %.1f MB, %.1f MB at rest",
		conns, took, peak[1], calm, float64(peak[0])/(1<<20), float64(resting)/(1<<20))
	if n := int(heard.Load()); n != conns {
		t.Errorf("%d messages are heard, want %d", n, conns)
	}
	wantServing(t, 0)
	for _, p := range peers {
		p.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := u.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// newHearerFor counts what it hears, and answers.
func newHearerFor(n *atomic.Int32) websocket.Events { return counter{n} }

type counter struct{ n *atomic.Int32 }

func (e counter) Message(c *websocket.Conn, typ websocket.MessageType, p []byte) error {
	e.n.Add(1)
	return c.Send(typ, p)
}

func (counter) Closed(*websocket.Conn, error) {}

// A Ping of a parked connection waits for its pong; it does not keep asking.
func TestEventsPingOfAParkedConnectionWaits(t *testing.T) {
	conns := make(chan *websocket.Conn, 1)
	b := overTCP(t, http101(func(c *websocket.Conn) {
		c.Start(echoEvents{})
		conns <- c
	}))
	defer b.stop()
	p := b.peer("the pong is waited for once")
	defer p.Close()
	c := <-conns
	p.WantOpen()
	wantServing(t, 0)
	ctx := &asked{Context: c.Context()}
	ping := async(func() error { _, err := c.Ping(ctx); return err })
	f, _ := p.Next()
	<-time.After(50 * time.Millisecond) // that it does nothing in
	if n := ctx.times.Load(); n > 100 {
		t.Errorf("it has looked %d times whether it is to end", n)
	}
	p.WritePieces(masked(0x8a, string(f.Payload)))
	if err := <-ping; err != nil {
		t.Errorf("Ping: %v", err)
	}
}

// asked counts how often somebody is about to wait for it.
type asked struct {
	context.Context
	times atomic.Int64
}

func (c *asked) Done() <-chan struct{} {
	c.times.Add(1)
	return c.Context.Done()
}
