package websocket

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket/internal/conformance"
	"github.com/sockeye-ws/websocket/internal/memconn"
	"github.com/sockeye-ws/websocket/internal/transport"
)

// A tap is a transport in memory that takes what its peer has room for without
// waiting, as a socket does, and counts the calls.
type tap struct {
	transport.Conn
	tries bool

	mu      sync.Mutex
	here    *memconn.Conn
	peer    *memconn.Conn
	size    int
	stalled bool
	calls   int
}

func (p *tap) Tries() bool { return p.tries }

func (p *tap) TryWrite(b []byte) (int, error) {
	if !p.tries {
		return 0, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	if p.stalled {
		return 0, nil
	}
	b = b[:min(len(b), max(p.size-p.peer.Unread(), 0))]
	if len(b) == 0 {
		return 0, nil
	}
	return p.Conn.Write(b)
}

func (p *tap) Write(b []byte) (int, error) {
	p.mu.Lock()
	p.calls++
	p.mu.Unlock()
	return p.Conn.Write(b)
}

func (p *tap) stall(stalled bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalled = stalled
	if stalled {
		p.here.StallWriteAfter(0)
	} else {
		p.here.StallWriteAfter(-1)
	}
}

// tapped is a connection over a tap.
func tapped(cfg *Config, t func(transport.Conn) transport.Conn, nc net.Conn) *Conn {
	c := newConn(nc, nil, on(*cfg), "", nil)
	c.t = t(c.t)
	c.out.Init(c.t, (*member)(c), &c.cfg.queue)
	return c
}

// Replies to what came together go out together: an application that reads one
// message and writes its answer, again and again, makes far fewer calls than
// answers, over a real socket too; and pongs, between fragments too, one call.
func TestRepliesShareCalls(t *testing.T) {
	const rounds, batch = 100, 16
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{}.withDefaults()
	var calls atomic.Int64
	c := tapped(&cfg, func(t transport.Conn) transport.Conn { return countedCalls{t, &calls} }, server)
	over := make(chan error)
	go func() {
		for {
			typ, p, err := c.Read(context.Background())
			if err != nil {
				over <- err
				return
			}
			if err := c.Write(context.Background(), typ, p); err != nil {
				t.Error(err)
			}
		}
	}()
	var messages, pings, answers, pongs []byte
	for i := range batch {
		messages = append(messages, clientFrame(opBinary, true, fmt.Appendf(nil, "message %2d", i))...)
		answers = append(appendHeader(answers, header{fin: true, op: opBinary, length: 10}), fmt.Sprintf("message %2d", i)...)
		op := opContinuation
		if i == 0 {
			op = opBinary
		}
		pings = append(pings, clientFrame(opPing, true, []byte{byte(i)})...)
		pings = append(pings, clientFrame(op, i == batch-1, []byte{'a' + byte(i)})...)
		pongs = append(pongs, 0x8a, 1, byte(i))
	}
	pongs = append(appendHeader(pongs, header{fin: true, op: opBinary, length: batch}), "abcdefghijklmnop"...)
	for _, tt := range []struct {
		name         string
		send, expect []byte
		most         int64 // calls, in all rounds
	}{
		{"messages", messages, answers, rounds * batch / 2},
		{"pings between fragments", pings, pongs, rounds * 4},
	} {
		calls.Store(0)
		for range rounds {
			client.Write(tt.send) // one segment
			got := make([]byte, len(tt.expect))
			if _, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got, tt.expect) {
				t.Fatalf("%s: answered %x, %v; want %x", tt.name, got, err, tt.expect)
			}
		}
		t.Logf("%s: %d calls for %d answers", tt.name, calls.Load(), rounds*batch)
		if n := calls.Load(); n > tt.most {
			t.Errorf("%s: %d calls in %d rounds, want at most %d", tt.name, n, rounds, tt.most)
		}
	}
	client.Close()
	<-over
	<-c.Context().Done()
}

// So do the first ones of a connection, which has nothing to learn from yet.
func TestFirstRepliesShareCalls(t *testing.T) {
	const conns, batch = 50, 16
	calls := 0
	for range conns {
		synctest.Test(t, func(t *testing.T) {
			peer, server := memconn.Pair()
			cfg := Config{}.withDefaults()
			p := &tap{tries: true, here: server, peer: peer, size: 64 << 10}
			c := tapped(&cfg, func(t transport.Conn) transport.Conn { p.Conn = t; return p }, server)
			var in []byte
			for range batch {
				in = append(in, clientFrame(opBinary, true, []byte("hi"))...)
			}
			peer.Write(in)
			for range batch {
				typ, data, err := c.Read(context.Background())
				if err == nil {
					err = c.Write(context.Background(), typ, data)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
			if n := peer.Unread(); n != 4*batch {
				t.Errorf("%d bytes have come", n)
			}
			calls += p.calls
			c.CloseNow()
			<-c.Context().Done()
		})
	}
	if calls > conns*batch/2 {
		t.Errorf("%d calls for %d answers", calls, conns*batch)
	}
}

type countedCalls struct {
	transport.Conn
	calls *atomic.Int64
}

func (c countedCalls) TryWrite(p []byte) (int, error) {
	c.calls.Add(1)
	return c.Conn.TryWrite(p)
}

func (c countedCalls) Write(p []byte) (int, error) {
	c.calls.Add(1)
	return c.Conn.Write(p)
}

// A sending is one message of a script, and what its calls returned.
type sending struct {
	who, seq     int
	size         int
	post         bool // by Send or SendPrepared
	framed       bool // by a Writer
	plain        bool // not to be compressed
	kind         byte // of its bytes
	begun, ended int64
	done         bool
	err          error
}

func (s *sending) typ() MessageType {
	if s.plain {
		return Binary.Plain()
	}
	return Binary
}

func (s *sending) fill(p []byte, at int) []byte {
	for i := range p {
		switch s.kind {
		case likeText:
			p[i] = likeTexts[(s.who*1031+s.seq*77+at+i)%len(likeTexts)]
		case likeNoise:
			p[i] = likeNoises[(s.who*2311+s.seq*911+at+i)%len(likeNoises)]
		default:
			p[i] = byte(s.who*31 + s.seq*7 + (at+i)*3)
		}
	}
	if at == 0 && len(p) >= 3 {
		p[0] = byte(s.who)
		binary.BigEndian.PutUint16(p[1:], uint16(s.seq))
	}
	return p
}

const (
	likeText  = 1 + iota // compresses alone
	likeNoise            // refers to messages before it, or not at all
)

var likeTexts, likeNoises = func() (text, noise []byte) {
	rng := rand.New(rand.NewSource(7692))
	for len(text) < 9001 {
		text = fmt.Appendf(text, "%x the %d of %c ", rng.Intn(500), rng.Intn(50), 'a'+rng.Intn(26))
	}
	noise = make([]byte, 5003)
	rng.Read(noise)
	return text, noise
}()

// A player is a goroutine of a script.
type player struct {
	id   int
	sent []*sending
	w    io.WriteCloser // open
	cur  *sending       // its message
	jobs chan func()
}

// A play is a connection, three players and a peer, by a script.
type stage struct {
	t       *testing.T
	c       *Conn
	clock   atomic.Int64
	players [3]*player
	closed  atomic.Int64 // when somebody first called Close
	squeeze *squeeze     // nil: nothing is compressed
	mu      sync.Mutex
	errs    []error
}

func (y *stage) begin(p *player, size int, post bool) *sending {
	s := &sending{who: p.id, seq: len(p.sent), size: size, post: post, begun: y.clock.Add(1)}
	if y.squeeze != nil {
		s.kind, s.plain = byte(s.seq+s.who)%3, (s.seq+s.who)%7 == 6
	}
	p.sent = append(p.sent, s)
	return s
}

func (y *stage) end(s *sending, err error) {
	s.done, s.err, s.ended = true, err, y.clock.Add(1)
	y.note(err)
}

func (y *stage) note(err error) {
	if err != nil {
		y.mu.Lock()
		y.errs = append(y.errs, err)
		y.mu.Unlock()
	}
}

// act is what one step of a script has a player do.
func (y *stage) act(p *player, op, arg byte) {
	ctx := context.Background()
	size := 3 + 4*int(arg)
	switch op {
	case 0, 1, 2: // Write, a large one, one with a context that ends
		if p.w != nil {
			y.act(p, 6, arg)
			return
		}
		if op == 1 {
			size = 15<<10 + 97*int(arg)
		}
		if op == 2 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, time.Duration(arg)*time.Millisecond)
			defer cancel()
		}
		s := y.begin(p, size, false)
		y.end(s, y.c.Write(ctx, s.typ(), s.fill(make([]byte, size), 0)))
	case 3, 4:
		s := y.begin(p, size, true)
		data := s.fill(make([]byte, size), 0)
		start := time.Now()
		if op == 3 {
			y.end(s, y.c.Send(s.typ(), data))
		} else {
			m, err := NewPrepared(s.typ(), data)
			if err == nil {
				err = y.c.SendPrepared(m)
			}
			y.end(s, err)
		}
		clear(data) // it is the caller's again
		if d := time.Since(start); d != 0 {
			y.t.Errorf("Send took %v", d)
		}
	case 5, 6: // a Writer, and more by it
		if p.w == nil {
			s := y.begin(p, 0, false)
			s.framed = true
			w, err := y.c.Writer(ctx, s.typ())
			if err != nil {
				y.end(s, err)
				return
			}
			p.w, p.cur = w, s
		}
		part := p.cur.fill(make([]byte, size*(1+15*int(op-5))), p.cur.size)
		p.cur.size += len(part)
		if _, err := p.w.Write(part); err != nil {
			y.end(p.cur, err)
			p.w, p.cur = nil, nil
		}
	case 7:
		if p.w != nil {
			y.end(p.cur, p.w.Close())
			p.w, p.cur = nil, nil
		}
	case 8:
		ctx, cancel := context.WithTimeout(ctx, time.Duration(arg)*time.Millisecond)
		defer cancel()
		_, err := y.c.Ping(ctx)
		y.note(err)
	case 9:
		start := time.Now()
		if arg < 40 {
			y.closed.CompareAndSwap(0, y.clock.Add(1))
			y.note(y.c.Close(StatusGoingAway, ""))
		}
		if d := time.Since(start); d != 0 {
			y.t.Errorf("Close took %v", d)
		}
	}
}

// FuzzSend plays a script of what three goroutines and a peer do, and holds
// what the peer got against what may come of it.
func FuzzSend(f *testing.F) {
	f.Add([]byte{0, 0, 0})
	f.Add([]byte("\x00\x01\x02\x00\x10\x33\x20\x05\x31\x08\x07\x00"))
	f.Add([]byte{2, 0, 40, 0xe1, 0, 0x03, 9, 0x13, 9, 0x01, 9, 0x23, 9, 0xe2, 9, 0x03, 9, 0x03, 9, 0xe0, 200, 0x70, 0})
	f.Add([]byte{1, 2, 9, 5, 20, 0x23, 1, 0x13, 2, 0xe3, 255, 0xe3, 255, 7, 0})
	for seed := range 24 {
		script := make([]byte, 150+10*seed)
		rand.New(rand.NewSource(int64(seed))).Read(script)
		script[0] = byte(seed)
		f.Add(script)
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) < 3 || len(script) > 2000 {
			return
		}
		synctest.Test(t, func(t *testing.T) { playSends(t, script, nil) })
	})
}

// FuzzSendCompressed does so on a connection that compresses, of either side: D-08,
// D-21, D-22, D-24, D-25, whatever is dropped, cancelled, stuck or cut.
func FuzzSendCompressed(f *testing.F) {
	for seed := range 48 {
		script := make([]byte, 100+20*seed)
		rand.New(rand.NewSource(int64(1000 + seed))).Read(script)
		script[0] = byte(seed)
		f.Add(script, uint16(seed*37))
	}
	f.Fuzz(func(t *testing.T, script []byte, mode uint16) {
		if len(script) < 3 || len(script) > 2000 {
			return
		}
		synctest.Test(t, func(t *testing.T) { playSends(t, script, newSqueeze(mode)) })
	})
}

// A squeeze is how the connection of a stage compresses, and the peer's inflater.
type squeeze struct {
	config    Compression
	agreed    deflation
	client    bool
	inflater  *conformance.Inflater
	threshold int
	open      bool   // a compressed message is
	payload   []byte // of it
	messages  int    // that have come compressed
}

func newSqueeze(mode uint16) *squeeze {
	s := &squeeze{client: mode>>7&1 == 1, threshold: []int{0, 512, 100, 3}[mode>>4&3]}
	bits, takeover := 8+int(mode&7), mode>>3&1 == 0
	s.config = Compression{Enable: true, Threshold: s.threshold, Better: mode>>6&1 == 1, ServerWindowBits: bits, ClientWindowBits: bits}
	if s.threshold == 0 {
		s.config.Threshold = -1
	}
	s.agreed = deflation{serverNoTakeover: !takeover, clientNoTakeover: !takeover, serverBits: bits, clientBits: bits}
	s.inflater = &conformance.Inflater{Bits: bits, Takeover: takeover}
	return s
}

// take takes what a data frame brings, compressed if its message is, and returns
// what the message is once it is whole.
func (s *squeeze) take(t *testing.T, p []byte, first, rsv1, fin bool) (data []byte, compressed bool) {
	if rsv1 && (!first || s == nil) {
		t.Fatal("RSV1 on what is not the first frame of a message, or without an agreement")
	}
	if s == nil || !rsv1 && !s.open {
		return p, false
	}
	s.open = !fin
	s.payload = append(s.payload, p...)
	if !fin {
		return nil, true
	}
	data, err := s.inflater.Message(s.payload)
	if err != nil {
		t.Fatalf("message %d does not inflate: %v", s.messages, err)
	}
	s.payload = nil
	s.messages++
	return data, true
}

func playSends(t *testing.T, script []byte, sq *squeeze) {
	cfg := Config{Overflow: Overflow(script[0] % 3), WriteQueue: []int{300, 3000, 40000, 0}[script[1]%4]}.withDefaults()
	cfg.Logger = slog.New(slog.DiscardHandler)
	peer, server := memconn.Pair()
	p := &tap{tries: script[0]/3%2 == 1, here: server, peer: peer, size: 1 << (5 + script[2]%12)}
	server.SetBuffer(p.size)
	over := func(t transport.Conn) transport.Conn { p.Conn = t; return p }
	y := &stage{t: t, squeeze: sq}
	if sq == nil {
		y.c = tapped(&cfg, over, server)
	} else {
		cfg.Compression = sq.config
		terms := new(terms)
		if sq.client {
			terms.setClient(cfg)
		} else {
			terms.set(cfg)
		}
		y.c = newConn(server, nil, terms, "", nil)
		y.c.t = over(y.c.t)
		y.c.out.Init(y.c.t, (*member)(y.c), &y.c.cfg.queue)
		y.c.compressing(&sq.agreed)
	}
	var wg sync.WaitGroup
	for i := range y.players {
		pl := &player{id: i, jobs: make(chan func(), len(script))}
		y.players[i] = pl
		wg.Go(func() {
			for job := range pl.jobs {
				job()
			}
		})
	}
	go func() {
		for {
			if _, _, err := y.c.Read(context.Background()); err != nil {
				return
			}
		}
	}()
	var got []byte
	pings := 0
	for s := script[3:]; len(s) >= 2; s = s[2:] {
		op, who, arg := s[0]&0x0f, int(s[0]>>4&3), s[1]
		if who < 3 {
			if op < 10 {
				pl := y.players[who]
				pl.jobs <- func() { y.act(pl, op, arg) }
			}
			if s[0]&0x80 == 0 { // else it begins beside the next step
				synctest.Wait()
			}
			continue
		}
		switch op % 6 {
		case 0, 4: // the peer reads some
			b := make([]byte, min(peer.Unread(), 1+int(arg)*int(arg)))
			io.ReadFull(peer, b)
			got = append(got, b...)
		case 1:
			p.stall(true)
		case 2:
			p.stall(false)
		case 3:
			time.Sleep(time.Duration(arg) * time.Duration(arg) * time.Millisecond / 4)
		case 5:
			peer.SetWriteDeadline(time.Now().Add(time.Millisecond))
			ping := clientFrame(opPing, true, []byte{byte(pings)})
			if sq != nil && sq.client {
				ping = []byte{0x89, 1, byte(pings)}
			}
			peer.Write(ping)
			pings++
		}
		synctest.Wait()
	}
	p.stall(false)
	for _, pl := range y.players {
		close(pl.jobs)
	}
	rest := make(chan []byte)
	go func() {
		b, _ := io.ReadAll(peer)
		rest <- b
	}()
	wg.Wait()
	y.closed.CompareAndSwap(0, y.clock.Add(1))
	y.c.Close(StatusNormalClosure, "")
	<-y.c.Context().Done()
	peer.Close()
	y.judge(append(got, <-rest...), cfg.Overflow)
}

// judge holds what came against what was sent.
func (y *stage) judge(got []byte, overflow Overflow) {
	t := y.t
	if b, m := y.c.Queued(); b != 0 || m != 0 {
		t.Errorf("%d bytes of %d messages are queued at the end", b, m)
	}
	var ended *CloseError
	errors.As(y.c.ended(), &ended)
	for _, err := range y.errs {
		allowed := err == error(ended) || err == ErrQueueFull && overflow != Disconnect || err == ErrWriterClosed ||
			errors.Is(err, context.DeadlineExceeded) && !errors.As(err, new(*CloseError))
		if !allowed {
			t.Errorf("a call returned %v, the connection ended by %v", err, ended)
		}
	}
	var order []*sending
	var message []byte
	inside, compressed := false, false
	closed := StatusCode(0)
	lastPong := -1
	for len(got) > 0 {
		op, fin, p, n := serverFrame(got)
		if n == 0 {
			break
		}
		if got[0]&0x30 != 0 || got[0]&0x40 != 0 && op != opBinary {
			t.Fatalf("a frame begins with %x", got[0])
		}
		rsv1 := got[0]&0x40 != 0
		got = got[n:]
		switch {
		case closed != 0:
			t.Fatalf("a frame with opcode %x comes after the Close frame", op)
		case op == opPong:
			if len(p) != 1 || int(p[0]) <= lastPong && lastPong < 200 {
				t.Fatalf("pong %x after %d", p, lastPong)
			}
			lastPong = int(p[0])
		case op == opPing:
		case op == opClose:
			closed = StatusCode(binary.BigEndian.Uint16(p))
		case inside != (op == opContinuation) || op != opContinuation && op != opBinary:
			t.Fatalf("opcode %x, inside a message: %v", op, inside)
		default:
			p, compressed = y.squeeze.take(t, p, !inside, rsv1, fin)
			message = append(message, p...)
			if inside = !fin; inside {
				break
			}
			if len(message) < 3 || int(message[0]) >= len(y.players) || int(binary.BigEndian.Uint16(message[1:])) >= len(y.players[message[0]].sent) {
				t.Fatalf("a message of %d bytes that nobody sent", len(message))
			}
			s := y.players[message[0]].sent[binary.BigEndian.Uint16(message[1:])]
			if !bytes.Equal(message, s.fill(make([]byte, s.size), 0)) {
				t.Fatalf("message %d of %d is torn: %d bytes of %d", s.seq, s.who, len(message), s.size)
			}
			if compressed && (s.plain || !s.framed && s.size < y.squeeze.threshold) {
				t.Fatalf("a message of %d bytes comes compressed, plain %v", s.size, s.plain)
			}
			var e *CloseError
			if !s.done || s.err != nil && !errors.As(s.err, &e) {
				t.Fatalf("message %d of %d comes, done %v, though its call returned %v", s.seq, s.who, s.done, s.err)
			}
			order = append(order, s)
			message = nil
		}
	}
	if len(got) > 0 && closed != 0 {
		t.Fatalf("%d bytes come after the Close frame", len(got))
	}
	if (len(got) > 0 || closed == 0) && !(ended.Code == StatusAbnormalClosure || errors.Is(ended, net.ErrClosed)) {
		t.Errorf("%d bytes of a cut frame, no Close, and the end is %v", len(got), ended)
	}
	// A call that returned comes before one that began later.
	for i, s := range order {
		for _, later := range order[:i] {
			if s == later {
				t.Fatalf("message %d of %d comes twice", s.seq, s.who)
			}
			if s.err == nil && s.ended < later.begun {
				t.Fatalf("message %d of %d was sent (%d to %d) before %d of %d (%d to %d), and comes after it",
					s.seq, s.who, s.begun, s.ended, later.seq, later.who, later.begun, later.ended)
			}
		}
	}
	if closed == 0 || closed == StatusPolicyViolation {
		return
	}
	cut := inside // a message of a Writer was not complete when the connection ended
	for _, p := range y.players {
		for _, s := range p.sent {
			cut = cut || s.framed && s.err != ErrWriterClosed && (!s.done || s.err != nil || s.ended > y.closed.Load())
		}
	}
	for _, p := range y.players {
		for _, s := range p.sent {
			mayDrop := s.post && (overflow == DropOldest || cut)
			if s.done && s.err == nil && !mayDrop && !slices.Contains(order, s) {
				t.Errorf("message %d of %d, %d bytes, accepted (%d to %d), does not come before the Close frame", s.seq, s.who, s.size, s.begun, s.ended)
			}
		}
	}
}

// serverFrame takes one frame from the front of b; n is 0 if it is not whole.
func serverFrame(b []byte) (op opcode, fin bool, p []byte, n int) {
	if len(b) < 2 {
		return 0, false, nil, 0
	}
	masked := b[1]&0x80 != 0
	size, n := int(b[1]&0x7f), 2
	switch {
	case size == 126 && len(b) >= 4:
		size, n = int(binary.BigEndian.Uint16(b[2:])), 4
	case size == 127 && len(b) >= 10:
		size, n = int(binary.BigEndian.Uint64(b[2:])), 10
	case size >= 126:
		return 0, false, nil, 0
	}
	if masked {
		n += 4
	}
	if len(b) < n+size {
		return 0, false, nil, 0
	}
	p = b[n : n+size]
	if masked { // that of a client
		p = bytes.Clone(p)
		for i := range p {
			p[i] ^= b[n-4+i%4]
		}
	}
	return opcode(b[0] & 0x0f), b[0]&0x80 != 0, p, n + size
}

// And drawn scripts, more of them.
func TestSendsCompressedDrawn(t *testing.T) {
	n := 400
	if testing.Short() {
		n = 50
	}
	seed := time.Now().UnixNano()
	rng := rand.New(rand.NewSource(seed))
	came := 0
	for i := range n {
		script := make([]byte, 20+rng.Intn(600))
		rng.Read(script)
		sq := newSqueeze(uint16(rng.Intn(1 << 16)))
		synctest.Test(t, func(t *testing.T) { playSends(t, script, sq) })
		if t.Failed() {
			t.Fatalf("seed %d, script %d: %x", seed, i, script)
		}
		came += sq.messages
	}
	if came < n {
		t.Errorf("only %d messages have come compressed by %d scripts", came, n)
	}
}
