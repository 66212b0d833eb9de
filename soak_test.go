package websocket_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/conformance"
	"github.com/sockeye-ws/websocket/internal/memconn"
)

var soakTime = flag.Duration("soak", 0, "how long TestSoak runs, with 5000 connections; 0: a moment, with 200")

// Connections come, talk, stall, vanish, end in all ways and come again, for
// as long as -soak says. In between all leave, but for a few that stay, and
// then nothing may be left of those that have gone: no Conn, no member of a
// Group, no goroutine, no descriptor, no memory. Shutdown ends it.
//
// What takes how long is not judged: a peer may be taken for lost on a machine
// that is slow, as long as it is told so.
func TestSoak(t *testing.T) {
	s := &soak{
		T: t, conns: 200, phases: 3, phase: 500 * time.Millisecond,
		ends: map[string]int{}, seen: map[string]int{},
		config: websocket.Config{
			PingInterval: 100 * time.Millisecond, PingTimeout: 300 * time.Millisecond,
			WriteTimeout: 200 * time.Millisecond, CloseTimeout: 200 * time.Millisecond,
		},
	}
	if *soakTime > 0 {
		s.conns = min(5000, descriptorLimit()/4)
		s.phases = 6
		s.phase = *soakTime / time.Duration(s.phases)
		s.config.PingInterval, s.config.PingTimeout = 2*time.Second, 3*time.Second
		s.config.WriteTimeout, s.config.CloseTimeout = 2*time.Second, time.Second
	} else if testing.Short() {
		s.conns = 60
	}
	s.config.ReadLimit, s.config.WriteQueue = soakLimit, 8<<10
	s.config.Logger = slog.New(slog.DiscardHandler)
	s.run()
}

const (
	soakUnanswered = "lost within the handshake"

	soakLimit    = 200 << 10
	soakPatience = time.Minute
	soakBuffer   = 8 << 10 // of sockets, so that who stalls is noticed
)

type soak struct {
	*testing.T
	config websocket.Config
	conns  int
	phases int
	phase  time.Duration

	servers  []*soakServer
	over     chan struct{} // closed when a phase is
	stopping atomic.Bool   // handshakes may be refused

	// What has happened. A Conn is collected when nothing holds it any more.
	dialed, came, gone, collected atomic.Int64
	messages, news, floods        atomic.Int64

	mu   sync.Mutex
	ends map[string]int // as the application is told
	seen map[string]int // as the peers see them
}

func (s *soak) count(in map[string]int, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	in[what]++
}

func (s *soak) run() {
	before := descriptors()
	for _, overflow := range []websocket.Overflow{websocket.Disconnect, websocket.DropNewest, websocket.DropOldest} {
		for _, events := range []bool{false, true} {
			s.servers = append(s.servers, newSoakServer(s, overflow, events))
		}
	}
	stop := s.sample()
	var residents sync.WaitGroup
	var answered atomic.Int64
	stay := make(chan struct{})
	for i, server := range s.servers {
		for _, mem := range []bool{false, true} {
			residents.Go(func() {
				p := s.newPeer(server, mem, uint64(i))
				for p != nil && !p.settles() { // it is lost already, on a slow machine
					p = s.newPeer(server, mem, uint64(i))
				}
				answered.Add(1)
				p.stay(stay)
			})
		}
	}
	staying := int64(2 * len(s.servers)) // connections that do
	served := len(s.servers) / 2         // in event mode over what cannot be parked
	if runtime.GOOS != "linux" {
		served *= 2
	}
	s.settle(func() string {
		if n := len(serving()); n > served || answered.Load() < staying {
			return fmt.Sprintf("%d of %d connections are served, want %d of %d", n, answered.Load(), served, staying)
		}
		return ""
	})
	goroutines, fds := runtime.NumGoroutine(), len(descriptors())
	var heaps []int64
	var each []int64 // connections by then
	for phase := range s.phases {
		s.over = make(chan struct{})
		var news, peers sync.WaitGroup
		for _, server := range s.servers {
			news.Go(func() { server.tell() })
		}
		for i := range s.conns {
			peers.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(i), uint64(phase)))
				// Another server each time, until the phase is over or they go down.
				for n := i; !isClosed(s.over); n++ {
					p := s.newPeer(s.servers[n%len(s.servers)], rng.IntN(3) == 0, rng.Uint64())
					if p == nil || !p.live() {
						return
					}
				}
			})
		}
		<-time.After(s.phase)
		last := phase == s.phases-1
		if last { // with everybody there
			close(stay)
			s.shutdown()
		}
		close(s.over)
		peers.Wait()
		news.Wait()
		if last {
			residents.Wait()
			staying = 0
		}
		s.settle(func() string { return s.left(staying, goroutines, fds) })
		heaps, each = append(heaps, heap()), append(each, s.came.Load())
	}
	stop()
	for _, server := range s.servers {
		server.stop()
	}
	s.settle(func() string { return leftGoroutines() + leftDescriptors(before) })
	s.judge(heaps, each)
	s.report(heaps)
}

// shutdown ends all servers at the same time.
func (s *soak) shutdown() {
	s.stopping.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), 2*soakPatience)
	defer cancel()
	var all sync.WaitGroup
	for _, server := range s.servers {
		all.Go(func() {
			if err := server.upgrader.Shutdown(ctx); err != nil {
				s.Errorf("%s: Shutdown: %v", server.name, err)
			}
			if n, m := count(server.upgrader), server.group.Len(); n+m > 0 {
				s.Errorf("%s: Shutdown has returned: %d connections and %d members are left", server.name, n, m)
			}
		})
	}
	all.Wait()
}

// left says what is left of connections besides those that stay.
func (s *soak) left(staying int64, goroutines, fds int) string {
	runtime.GC() // collects the Conns; what a pool holds, the second time
	came, gone, collected := s.came.Load(), s.gone.Load(), s.collected.Load()
	open, members := 0, 0
	for _, server := range s.servers {
		open += count(server.upgrader)
		members += server.group.Len()
	}
	switch {
	case came-gone > staying:
		return fmt.Sprintf("%d connections have come and %d have gone", came, gone)
	case open > int(staying) || members > int(staying):
		return fmt.Sprintf("%d connections are open and %d are members of groups", open, members)
	case came-collected > staying:
		return fmt.Sprintf("something holds %d Conns of %d", came-collected, came)
	case runtime.NumGoroutine() > goroutines:
		return fmt.Sprintf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), goroutines, leftGoroutines())
	case len(descriptors()) > fds:
		return fmt.Sprintf("%d descriptors, %d before", len(descriptors()), fds)
	}
	return ""
}

// settle is settled with more patience, unless all is lost already.
func (s *soak) settle(left func() string) {
	s.Helper()
	if s.Failed() {
		return
	}
	start := time.Now()
	for what := settled(left); what != ""; what = settled(left) {
		if time.Since(start) > soakPatience {
			s.Errorf("phase over, all but those that stay have gone: %s", what)
			return
		}
	}
}

// judge says whether too many handshakes have failed, and compares the memory
// of the middle and of the end, when all that had come are gone. The runtime's
// own records of goroutines are never freed: there is room for some more at a
// time than before.
func (s *soak) judge(heaps, came []int64) {
	if n := s.seen[soakUnanswered]; n > int(s.dialed.Load())/10 {
		s.Errorf("%d connections were %s", n, soakUnanswered)
	}
	if underRace() {
		return // it has memory of its own
	}
	mid, end := (len(heaps)-1)/2, len(heaps)-1
	grown, more := heaps[end]-heaps[mid], came[end]-came[mid]
	s.Logf("the heap has grown by %d bytes from the middle to the end, with %d connections in between", grown, more)
	if most := int64(256<<10) + 100*int64(s.conns); grown > most {
		s.Errorf("%d bytes more than in the middle, after %d connections more; want at most %d", grown, more, most)
	}
}

// sample looks at the memory while all goes on.
func (s *soak) sample() (stop func()) {
	if *soakTime == 0 {
		return func() {}
	}
	stopped, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		start := time.Now()
		again := time.NewTicker(max(*soakTime/20, time.Second))
		defer again.Stop()
		for {
			select {
			case <-again.C:
			case <-stopped:
				return
			}
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			s.Logf("%4.0f s: %6.1f MB heap, %6.1f MB stacks, %5d goroutines, %5d connections, %7d have come, %8d messages",
				time.Since(start).Seconds(), float64(m.HeapAlloc)/(1<<20), float64(m.StackInuse)/(1<<20),
				runtime.NumGoroutine(), s.came.Load()-s.gone.Load(), s.came.Load(), s.messages.Load())
		}
	}()
	return func() {
		close(stopped)
		<-done
	}
}

func (s *soak) report(heaps []int64) {
	var b strings.Builder
	fmt.Fprintf(&b, "%d dialed, %d connections; %d messages answered, %d of groups, %d of floods", s.dialed.Load(), s.came.Load(), s.messages.Load(), s.news.Load(), s.floods.Load())
	for name, kinds := range map[string]map[string]int{"the application is told": s.ends, "the peers see": s.seen} {
		fmt.Fprintf(&b, "\n%s:", name)
		for _, kind := range slices.Sorted(maps.Keys(kinds)) {
			fmt.Fprintf(&b, "\n\t%7d %s", kinds[kind], kind)
		}
	}
	b.WriteString("\nheap when all have gone:")
	for _, h := range heaps {
		fmt.Fprintf(&b, " %.2f", float64(h)/(1<<20))
	}
	s.Logf("%s MB", &b)
}

// A soakServer is one Upgrader, on TCP and in memory.
type soakServer struct {
	*soak
	name     string
	events   bool
	overflow websocket.Overflow
	upgrader *websocket.Upgrader
	group    websocket.Group
	server   *http.Server
	served   sync.WaitGroup
	address  string
	memory   pairs
	handled  atomic.Int64
	told     uint64 // number of the latest news
}

func newSoakServer(s *soak, overflow websocket.Overflow, events bool) *soakServer {
	server := &soakServer{
		soak: s, events: events, overflow: overflow, name: fmt.Sprintf("overflow %d, events %t", overflow, events),
		memory: pairs{make(chan net.Conn), make(chan struct{}), new(sync.Once)},
	}
	config := s.config
	config.Overflow = overflow
	server.upgrader = &websocket.Upgrader{Config: config, Handler: server.handle, ShutdownWindow: s.config.WriteTimeout, ReleaseConns: true}
	server.server = &http.Server{Handler: server.upgrader, ErrorLog: log.New(io.Discard, "", 0)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.Fatal(err)
	}
	server.address = l.Addr().String()
	server.served.Go(func() { server.server.Serve(smallSockets{l, soakBuffer}) })
	server.served.Go(func() { server.server.Serve(server.memory) })
	return server
}

func (s *soakServer) stop() {
	s.server.Close()
	s.served.Wait()
}

// pairs is a listener of whose connections the dialer has both ends.
type pairs struct {
	conns  chan net.Conn
	closed chan struct{}
	once   *sync.Once
}

func (l pairs) Addr() net.Addr { return memconn.Addr("soak") }

func (l pairs) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l pairs) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l pairs) dial() (here, there *memconn.Conn, err error) {
	here, there = memconn.Pair()
	there.SetBuffer(soakBuffer)
	select {
	case l.conns <- there:
		return here, there, nil
	case <-l.closed:
		return nil, nil, net.ErrClosed
	}
}

// tell sends to all until the phase is over. The text has a number, from 1.
func (s *soakServer) tell() {
	again := time.NewTicker(time.Duration(s.conns) * time.Millisecond / 10)
	defer again.Stop()
	for {
		select {
		case <-again.C:
		case <-s.over:
			return
		}
		s.told++
		p := binary.BigEndian.AppendUint64([]byte{'g'}, s.told)
		m, err := websocket.NewPrepared(websocket.Binary, append(p, make([]byte, s.told*97%2000)...))
		if err != nil {
			s.Error(err)
			return
		}
		s.group.Send(m)
	}
}

var errSoak = errors.New("the application has had enough")

func (s *soakServer) handle(c *websocket.Conn) error {
	s.came.Add(1)
	runtime.AddCleanup(c, func(n *atomic.Int64) { n.Add(1) }, &s.collected)
	s.group.Add(c)
	if s.events {
		c.Start(s)
		return nil
	}
	var err error = panicked{}
	defer func() { s.ended(err) }()
	err = readings[s.handled.Add(1)%4].all(c, func(typ websocket.MessageType, p []byte) error { return s.Message(c, typ, p) })
	return err
}

type panicked struct{}

func (panicked) Error() string { return "a panic" }

// Closed is that of event mode.
func (s *soakServer) Closed(_ *websocket.Conn, err error) { s.ended(err) }

func (s *soakServer) ended(err error) {
	s.gone.Add(1)
	var e *websocket.CloseError
	kind := ""
	switch {
	case err == nil:
		kind = "closed by the peer, as every day"
	case err == errSoak, err == panicked{}, err == websocket.ErrWriterClosed:
		kind = err.Error()
	case !errors.As(err, &e):
		s.Errorf("a connection has ended with %v", err)
		return
	case e.Timeout():
		kind = "lost: time-out"
	case e.Remote && e.Code == websocket.StatusAbnormalClosure:
		kind = "lost"
	case e.Remote:
		kind = "closed by the peer with " + e.Code.String()
	default:
		kind = "closed with " + e.Code.String()
	}
	s.count(s.ends, kind)
}

// Message does what the first byte says, and answers with the same, unless it
// is the end or a flood that was asked for.
func (s *soakServer) Message(c *websocket.Conn, typ websocket.MessageType, p []byte) error {
	ctx := context.Background()
	switch p[0] {
	case 's':
		// What DropOldest drops would be waited for.
		if s.overflow != websocket.DropOldest {
			if err := c.Send(typ, p); err != websocket.ErrQueueFull {
				return err
			}
		}
	case 'w':
		w, err := c.Writer(ctx, typ)
		if err != nil {
			return err
		}
		for len(p) > 0 {
			n := min(len(p), 1000)
			if _, err := w.Write(p[:n]); err != nil {
				return err
			}
			p = p[n:]
		}
		return w.Close()
	case 'p':
		go c.Ping(c.Context())
	case 'j':
		s.group.Remove(c)
		s.group.Add(c)
	case 'f':
		for range 50 {
			if err := c.Send(websocket.Binary, soakFlood); err != nil && err != websocket.ErrQueueFull {
				return err
			}
			s.floods.Add(1)
		}
		return nil
	case 'C':
		return c.Close(4001, "as you wish")
	case 'N':
		return c.CloseNow()
	case 'E':
		return errSoak
	case 'P':
		panic("as you wish")
	}
	return c.Write(ctx, typ, p)
}

var soakFlood = []byte("f" + strings.Repeat("x", 4<<10))

// A soakPeer is a client for the time of one connection.
type soakPeer struct {
	s     *soakServer
	rng   *rand.Rand
	conn  net.Conn
	there *memconn.Conn // the server's end, of those in memory
	br    *bufio.Reader
	mute  bool // answers nothing any more
	// News that did not come. That is right only for a connection that is
	// about to end.
	missed string
	inside bool   // of a message in frames
	said   int    // messages
	last   uint64 // number of the latest news
	loose  bool   // some may have been missed
	joins  int    // that it has asked for, and not heard of
	// It has asked for a Writer, which may be given up on a slow machine.
	streams bool
	end     string // how it was; "": it is open
	codes   []int  // that it asks for
}

func (s *soak) newPeer(server *soakServer, mem bool, seed uint64) *soakPeer {
	p := &soakPeer{s: server, rng: rand.New(rand.NewPCG(seed, 1)), loose: true}
	if mem {
		here, there, err := server.memory.dial()
		if err != nil {
			s.Error(err)
			return nil
		}
		p.conn, p.there = here, there
	} else {
		conn, err := net.Dial("tcp", server.address)
		if err != nil {
			s.Error(err)
			return nil
		}
		conn.(*net.TCPConn).SetReadBuffer(soakBuffer)
		p.conn = conn
	}
	s.dialed.Add(1)
	p.br = bufio.NewReaderSize(p.conn, 1<<10)
	return p
}

// live is a connection from its beginning to its end. It reports false when
// the server took no more.
func (p *soakPeer) live() bool {
	defer func() {
		p.conn.Close()
		p.s.count(p.s.seen, p.end)
	}()
	if p.rng.IntN(50) == 0 {
		p.conn.Write(hsBase.Request()[:p.rng.IntN(100)])
		p.end = "left within the handshake"
		return true
	}
	if !p.shake() {
		return false
	}
	if p.end != "" {
		return true
	}
	for range 1 + p.rng.IntN(10) {
		if p.talk(); p.end != "" || !p.sit() {
			break
		}
	}
	if p.end == "" {
		p.leave()
	}
	return true
}

// settles opens a connection that is to stay, and hears an answer: by then the
// server has all that it needs to wait for more. It reports false if the
// connection is lost before.
func (p *soakPeer) settles() bool {
	if !p.shake() || p.end != "" {
		p.conn.Close()
		return p.s.Failed()
	}
	p.write(0x81, []byte("e"))
	p.next(soakPatience, false)
	if p.end != "" {
		p.conn.Close()
		return p.s.Failed()
	}
	return true
}

// stay answers pings, until it is told to go or the server goes.
func (p *soakPeer) stay(until <-chan struct{}) {
	if p == nil {
		return
	}
	defer p.conn.Close()
	for p.end == "" {
		p.next(soakPatience, true)
		if isClosed(until) && p.end == "" {
			p.rest()
		}
	}
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

func (p *soakPeer) shake() bool {
	p.conn.SetDeadline(time.Now().Add(soakPatience))
	p.conn.Write(hsBase.Request())
	resp, err := http.ReadResponse(p.br, nil)
	switch {
	case err == nil && resp.StatusCode == http.StatusSwitchingProtocols:
		p.conn.SetDeadline(time.Time{})
		return true
	case err == nil && resp.StatusCode == http.StatusServiceUnavailable && p.s.stopping.Load():
		p.end = "refused, as the server goes down"
	case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
		p.end = soakUnanswered // late for its WriteTimeout, on a slow machine
		return true
	default:
		p.end = "the handshake has failed"
		p.s.Errorf("handshake: %v, %v", resp, err)
	}
	return false
}

// sit does nothing for a while but answer pings and hear news. It reports
// false when the phase is over.
func (p *soakPeer) sit() bool {
	pace := time.Duration(p.s.conns) * 200 * time.Microsecond
	p.next(time.Duration(p.rng.Int64N(int64(2*pace))), true)
	return p.end == "" && !isClosed(p.s.over)
}

// talk says something and hears the answer.
func (p *soakPeer) talk() {
	var want [][]byte
	n := 1 + p.rng.IntN(4)
	if p.rng.IntN(20) == 0 {
		n = 1
		want = append(want, p.message(20<<10+p.rng.IntN(soakLimit-21<<10)))
	} else {
		for range n {
			want = append(want, p.message(1+p.rng.IntN(1000)))
		}
	}
	for _, m := range want {
		switch m[0] {
		case 'j':
			p.joins++
		case 'w':
			p.streams = true
		}
		p.say(m)
	}
	for _, m := range want {
		got := p.next(soakPatience, false)
		if p.end != "" {
			return
		}
		if string(got) != string(m) {
			p.s.Errorf("%s: %.60q has come back, want %.60q (%d and %d bytes)", p.s.name, got, m, len(got), len(m))
			p.end = "wrong"
			return
		}
		p.s.messages.Add(1)
	}
	if p.rng.IntN(5) == 0 {
		p.write(0x89, []byte("here?"))
	}
}

// message makes one of about this size: what to do with it, a number, and text.
func (p *soakPeer) message(size int) []byte {
	p.said++
	b := append([]byte(nil), "eeeswpj"[p.rng.IntN(7)])
	b = fmt.Append(b, p.said, " ")
	for len(b) < size {
		b = append(b, "soak ö€🐟"...)
	}
	return b
}

// say sends a message, in one frame or in several.
func (p *soakPeer) say(m []byte) {
	op := byte(1 + p.rng.IntN(2))
	for p.rng.IntN(3) == 0 && len(m) > 0 { // any cut will do, inside of characters too
		n := p.rng.IntN(len(m) + 1)
		p.write(op, m[:n])
		if p.rng.IntN(4) == 0 {
			p.write(0x89, m[:min(n, 125)])
		}
		m, op = m[n:], 0
	}
	p.write(0x80|op, m)
}

func (p *soakPeer) write(b0 byte, payload []byte) {
	p.conn.SetWriteDeadline(time.Now().Add(soakPatience))
	_, err := p.conn.Write(conformance.MaskedFrame(b0, [4]byte{byte(p.said), 2, 3, 4}, payload))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		p.s.Errorf("%s: nothing is taken", p.s.name)
		p.end = "stuck"
	} // any other: how it ended is to be read
}

// next returns the next message that is an answer. When there is none within
// the time, or the connection ends, which is noted, it returns nil.
func (p *soakPeer) next(within time.Duration, quiet bool) []byte {
	until := time.Now().Add(within)
	p.conn.SetReadDeadline(until)
	var message []byte
	for {
		head, err := p.br.Peek(2)
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				p.end = "lost"
			} else if !quiet {
				p.s.Errorf("%s: nothing has come", p.s.name)
				p.end = "stuck"
			}
			return nil
		}
		b0, length := head[0], int(head[1])
		p.br.Discard(2)
		p.conn.SetReadDeadline(time.Now().Add(soakPatience)) // a frame that has begun is read
		payload, err := p.payload(length)
		if err != nil {
			p.end = "lost"
			return nil
		}
		if op := b0 & 15; op < 8 && (op == 0) != p.inside {
			p.s.Errorf("%s: a frame with %#x and %.20q after %d bytes of a message; it is to go on: %t", p.s.name, b0, payload, len(message), p.inside)
			p.end = "wrong"
			return nil
		} else if op < 8 {
			p.inside = b0 < 0x80
		}
		switch b0 {
		case 0x89:
			if !p.mute {
				p.write(0x8a, payload)
			}
		case 0x8a:
		case 0x88:
			p.closed(payload)
			return nil
		case 0x01, 0x02, 0x00:
			message = append(message, payload...)
			continue
		case 0x81, 0x82, 0x80:
			message = append(message, payload...)
			if !p.hear(message) {
				if p.missed != "" {
					p.s.Errorf("%s: %s, and the connection goes on", p.s.name, p.missed)
				}
				return message
			}
			message = nil
		default:
			p.s.Errorf("a frame begins with %#x", b0)
		}
		if message == nil {
			p.conn.SetReadDeadline(until)
		}
	}
}

func (p *soakPeer) payload(length int) ([]byte, error) {
	var ext [8]byte
	switch length {
	case 126:
		if _, err := io.ReadFull(p.br, ext[:2]); err != nil {
			return nil, err
		}
		length = int(binary.BigEndian.Uint16(ext[:]))
	case 127:
		if _, err := io.ReadFull(p.br, ext[:]); err != nil {
			return nil, err
		}
		length = int(binary.BigEndian.Uint64(ext[:]))
	}
	b := make([]byte, length)
	_, err := io.ReadFull(p.br, b)
	return b, err
}

// hear reports whether a message is no answer: news, which come in order, and
// without a gap where nothing is dropped; or a flood.
func (p *soakPeer) hear(m []byte) bool {
	switch {
	case len(m) == 0:
		return false
	case m[0] == 'f':
		return true
	case m[0] == 'j':
		p.joins--
		p.loose = true // until the next
		return false
	case m[0] != 'g':
		return false
	}
	p.s.news.Add(1)
	n := binary.BigEndian.Uint64(m[1:])
	gap := n != p.last+1 && p.s.overflow == websocket.Disconnect
	if !p.loose && p.joins == 0 && (n <= p.last || gap) {
		p.missed = fmt.Sprintf("news %d after %d", n, p.last)
	}
	p.last, p.loose = n, false
	return true
}

// closed answers a Close and waits for the end of the stream.
func (p *soakPeer) closed(payload []byte) {
	code := 1005
	if len(payload) >= 2 {
		code = int(binary.BigEndian.Uint16(payload))
	}
	p.end = fmt.Sprint("Close with ", code)
	switch {
	case slices.Contains(p.codes, code), code == 1011 && (p.streams || string(payload[2:]) == "ping timeout"):
	case code == 1001 && p.s.stopping.Load():
	case code == 1008 && p.s.overflow == websocket.Disconnect:
	default:
		p.s.Errorf("%s: closed with %d %q, which was not asked for by %v", p.s.name, code, payload[min(len(payload), 2):], p.codes)
	}
	if !p.mute {
		p.write(0x88, payload[:min(len(payload), 2)])
	}
	p.conn.SetReadDeadline(time.Now().Add(soakPatience))
	if _, err := io.Copy(io.Discard, p.br); errors.Is(err, os.ErrDeadlineExceeded) {
		p.s.Errorf("%s: no end of the stream after %s", p.s.name, p.end)
	}
}

// rest reads until the connection has ended.
func (p *soakPeer) rest(codes ...int) {
	p.codes = codes
	for p.end == "" {
		p.next(soakPatience, false)
	}
}

// leave ends the connection in one of the ways there are.
func (p *soakPeer) leave() {
	text := func(s string) { p.write(0x81, []byte(s)) }
	switch p.rng.IntN(18) {
	case 0, 1:
		p.write(0x88, []byte{3, 232})
		p.rest(1000)
	case 2:
		p.write(0x88, nil)
		p.rest(1005)
	case 3:
		p.write(0x88, []byte{3, 237}) // 1005
		p.rest(1002)
	case 4:
		text("e\xff")
		p.rest(1007)
	case 5:
		p.write(0x83, nil)
		p.rest(1002)
	case 6:
		p.conn.Write([]byte{0x82, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 0, 1, 2, 3, 4}) // 1 MiB
		p.rest(1009)
	case 7:
		p.conn.(interface{ CloseWrite() error }).CloseWrite()
		p.rest()
	case 8:
		p.conn.Write([]byte{0x82, 0xfe, 1, 0, 1, 2, 3, 4, 5})
		p.conn.(interface{ CloseWrite() error }).CloseWrite()
		p.rest()
	case 9:
		p.end = "dropped"
	case 10:
		p.end = "reset"
		if p.there != nil {
			p.conn.(*memconn.Conn).Reset()
		} else {
			p.conn.(*net.TCPConn).SetLinger(0)
		}
	case 11, 12: // neither a byte nor the end comes any more, nor does the server get rid of any
		p.mute = true
		if p.there != nil {
			p.there.StallWriteAfter(0)
		}
		p.rest()
		p.end = "vanished: " + p.end
	case 13: // it asks for much and takes none of it
		text("f")
		p.conn.(interface{ SetReadDeadline(time.Time) error }).SetReadDeadline(time.Time{})
		select {
		case <-time.After(time.Duration(p.rng.Int64N(int64(3 * p.s.config.WriteTimeout)))):
		case <-p.s.over:
		}
		if p.rng.IntN(2) == 0 {
			p.end = "stalled and dropped"
			return
		}
		p.write(0x88, []byte{3, 232})
		p.rest(1000)
		p.end = "stalled: " + p.end
	case 14:
		text("C")
		p.rest(4001)
	case 15:
		text("N")
		p.rest()
	case 16:
		text("E")
		p.rest(1011)
	case 17:
		text("P")
		p.rest(1011)
	}
}
