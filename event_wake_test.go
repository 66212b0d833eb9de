package websocket_test

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sockeye-ws/websocket"
)

var wakeConns = flag.Int("wake", 2000, "how many connections TestEventsWakeTogether wakes")

// Parked connections wake in the same moment, first as fast as they come, then
// so that none is done before all are served: never more than one goroutine for
// each, and a small buffer. Then all is as it was. Their peers are in another
// process, so that neither their memory nor their descriptors count.
func TestEventsWakeTogether(t *testing.T) {
	parkedOnly(t)
	conns := min(*wakeConns, descriptorLimit()-200)
	if testing.Short() || underRace() {
		conns = min(conns, 300)
	}
	var g websocket.Group
	crowd := &crowd{}
	u := &websocket.Upgrader{ReleaseConns: true, Config: ticking(10 * time.Millisecond), Handler: func(c *websocket.Conn) error {
		g.Add(c)
		c.Start(crowd)
		return nil
	}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t}
	b.start(l, u)
	defer b.stop()
	none := usage()
	peers := startWakePeers(t, l.Addr().String(), conns)
	defer peers.stop()
	wantJoined(t, &g, conns)
	wantServing(t, 0)
	rest := usage()
	show := func(what string, m memory) {
		t.Logf("%-28s %5d goroutines; above rest %7.2f MB heap, %7.2f MB stacks: %5.0f bytes for each of %d connections", what,
			m.goroutines, mb(m.heap-rest.heap), mb(m.stacks-rest.stacks), float64(m.heap+m.stacks-rest.heap-rest.stacks)/float64(conns), conns)
	}
	t.Logf("at rest: %d goroutines, %.2f MB heap, %.2f MB stacks; %.0f bytes for each connection, and %d goroutines without any",
		rest.goroutines, mb(rest.heap), mb(rest.stacks), float64(rest.heap-none.heap)/float64(conns), none.goroutines)
	// The poller's, the clock's, and who looks.
	most := rest.goroutines + conns + 5

	// As it comes.
	stop, peaks := make(chan struct{}), make(chan memory, 1)
	go func() {
		var peak memory
		again := time.NewTicker(2 * time.Millisecond)
		defer again.Stop()
		for {
			peak = peak.most(usageNow())
			select {
			case <-again.C:
			case <-stop:
				peaks <- peak
				return
			}
		}
	}()
	g.Send(prepared([]byte("now")))
	peers.ask("both")
	peers.want("done")
	close(stop)
	peak := <-peaks
	show("as they come, at most:", peak)
	if peak.goroutines > most {
		t.Errorf("%d goroutines, want at most %d", peak.goroutines, most)
	}
	wantServing(t, 0)

	// All at once: each waits in Message for all others.
	gate := make(chan struct{})
	crowd.gate.Store(&gate)
	peers.ask("one")
	if settled(func() string {
		if n := crowd.inside.Load(); int(n) < conns {
			return fmt.Sprint(n)
		}
		return ""
	}) != "" {
		t.Errorf("%d are served at once, want %d", crowd.inside.Load(), conns)
	}
	held := usage()
	show("all in Message:", held)
	if held.goroutines > most {
		t.Errorf("%d goroutines, want at most %d", held.goroutines, most)
	}
	close(gate)
	peers.want("done")
	wantServing(t, 0)
	after := usage()
	show("at rest again:", after)
	if n := settledBelow(rest.goroutines + 5); n > rest.goroutines+5 {
		t.Errorf("%d goroutines, %d before", n, rest.goroutines)
	}
	if n := int(crowd.heard.Load()); n != 2*conns {
		t.Errorf("%d messages are heard, want %d", n, 2*conns)
	}
	peers.stop()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := u.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if g.Len() != 0 {
		t.Errorf("%d are left in the group", g.Len())
	}
}

// A crowd answers; with a gate only once that is open.
type crowd struct {
	heard, inside atomic.Int32
	gate          atomic.Pointer[chan struct{}]
}

func (e *crowd) Message(c *websocket.Conn, typ websocket.MessageType, p []byte) error {
	e.heard.Add(1)
	if gate := e.gate.Load(); gate != nil {
		e.inside.Add(1)
		<-*gate
	}
	return c.Send(typ, p)
}

func (*crowd) Closed(*websocket.Conn, error) {}

// memory is what a process has in use.
type memory struct {
	heap, stacks int64
	goroutines   int
}

func (m memory) most(o memory) memory {
	return memory{max(m.heap, o.heap), max(m.stacks, o.stacks), max(m.goroutines, o.goroutines)}
}

func usageNow() memory {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return memory{int64(m.HeapAlloc), int64(m.StackInuse), runtime.NumGoroutine()}
}

// usage is after all that is free has been freed.
func usage() memory {
	heap()
	return usageNow()
}

func mb(n int64) float64 { return float64(n) / (1 << 20) }

// wakePeers are many clients in a process of their own.
type wakePeers struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

const wakeAddress, wakeCount = "SOCKEYE_WAKE_ADDRESS", "SOCKEYE_WAKE_COUNT"

func startWakePeers(t *testing.T, address string, n int) *wakePeers {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &wakePeers{t: t, cmd: exec.Command(self, "-test.run=^TestWakePeers$", "-test.timeout=5m")}
	p.cmd.Env = append(os.Environ(), wakeAddress+"="+address, wakeCount+"="+strconv.Itoa(n))
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewScanner(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.want("open")
	return p
}

func (p *wakePeers) ask(what string) { fmt.Fprintln(p.in, what) }

func (p *wakePeers) want(what string) {
	p.t.Helper()
	if !p.out.Scan() || p.out.Text() != what {
		p.t.Errorf("the peers say %q, want %q", p.out.Text(), what)
	}
}

// stop ends the process; it may be called again.
func (p *wakePeers) stop() {
	p.in.Close()
	for p.out.Scan() { // what the test framework says at last
	}
	p.cmd.Wait()
}

// TestWakePeers is the other process.
func TestWakePeers(t *testing.T) {
	address, n := os.Getenv(wakeAddress), 0
	if address == "" {
		t.Skip("it is started by TestEventsWakeTogether")
	}
	fmt.Sscan(os.Getenv(wakeCount), &n)
	conns := make([]net.Conn, n)
	var wg sync.WaitGroup
	for first := range 16 {
		wg.Go(func() {
			buf := make([]byte, 1<<10)
			for i := first; i < n; i += 16 {
				c, err := net.Dial("tcp", address)
				if err != nil {
					t.Error(err)
					return
				}
				conns[i] = c
				c.SetDeadline(time.Now().Add(5 * time.Minute))
				c.Write(hsBase.Request())
				have := 0
				for !bytes.HasSuffix(buf[:have], []byte("\r\n\r\n")) {
					k, err := c.Read(buf[have:])
					if err != nil {
						t.Errorf("handshake: %v after %q", err, buf[:have])
						return
					}
					have += k
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	fmt.Println("open")
	hello := masked(0x82, "hello")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		want := binaryFrame("hello")
		if in.Text() == "both" {
			want = append(binaryFrame("now"), want...)
		}
		for _, c := range conns {
			c.Write(hello)
		}
		got := make([]byte, len(want))
		for _, c := range conns {
			if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("received % x, %v, want % x", got, err, want)
			}
		}
		fmt.Println("done")
	}
}
