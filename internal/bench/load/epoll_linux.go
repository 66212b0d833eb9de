package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"
)

// An engine drives all connections from one goroutine.
type engine struct {
	o     Options
	m     *message
	ctx   context.Context
	start time.Time
	addr  *syscall.SockaddrInet4
	hello []byte // the handshake request; nil: the server expects none

	ep      int
	conns   []*conn
	events  []syscall.EpollEvent
	in      []byte
	scratch []byte
	opened  int
	replied int
	done    int64 // messages that have come back, handshakes in an Upgrade

	measuring bool
	began     time.Duration // the window, since start
	res       *Result

	// Of a fan-out: when each message in flight was sent, and on how many
	// connections it has come.
	sent  []time.Duration
	heard []int
}

type state uint8

const (
	connecting state = iota
	shaking
	open
)

type conn struct {
	fd      int
	index   int32
	state   state
	out     []byte // accepted and not yet taken by the socket
	waiting bool   // for room in the socket
	head    []byte // of the response to the handshake
	dec     decoder
	next    uint64          // number of the next message to send
	sent    []time.Duration // when those in flight were, by number
	dialed  time.Duration
}

const (
	inputSize  = 256 << 10
	concurrent = 64 // handshakes at a time
	tick       = 50 * time.Millisecond
)

func runEpoll(ctx context.Context, o Options, m *message) (*Result, error) {
	e := &engine{o: o, m: m, ctx: ctx, start: time.Now(), res: new(Result),
		events: make([]syscall.EpollEvent, 256), in: make([]byte, inputSize),
		sent: make([]time.Duration, o.Outstanding), heard: make([]int, o.Outstanding)}
	host, port, err := net.SplitHostPort(o.Addr)
	if err != nil {
		return nil, err
	}
	ip := net.ParseIP(host).To4()
	if ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("%s is not a loopback address", o.Addr)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	e.addr = &syscall.SockaddrInet4{Port: int(number), Addr: [4]byte(ip)}
	if !o.Raw || o.Kind == Upgrade {
		e.hello = handshakeRequest(o.Addr, o.Deflate)
	}
	if e.ep, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	defer e.close()
	if err := e.run(); err != nil {
		return nil, err
	}
	return e.res, nil
}

func (e *engine) close() {
	for _, c := range e.conns {
		e.drop(c)
	}
	_ = syscall.Close(e.ep)
}

func (e *engine) run() error {
	if e.o.Kind == Upgrade {
		for range e.o.Conns {
			if err := e.dial(); err != nil {
				return err
			}
		}
		return e.window()
	}
	if err := e.openAll(); err != nil {
		return err
	}
	switch e.o.Kind {
	case Keepalive:
	case Idle:
		for _, c := range e.conns {
			if err := e.send(c, 1); err != nil {
				return err
			}
		}
		if err := e.until(func() bool { return e.replied == len(e.conns) }); err != nil {
			return err
		}
		e.res.Messages = e.done
		return e.o.Opened()
	case Fanout:
		if err := e.o.Opened(); err != nil {
			return err
		}
		if err := e.publish(e.o.Outstanding); err != nil {
			return err
		}
	case Receive:
		for _, c := range e.conns {
			if err := e.send(c, 1); err != nil {
				return err
			}
		}
	default:
		for _, c := range e.conns {
			if err := e.send(c, e.o.Outstanding); err != nil {
				return err
			}
		}
	}
	return e.window()
}

// openAll opens the connections, a few at a time so that none is lost to a
// full backlog.
func (e *engine) openAll() error {
	var failed error
	err := e.until(func() bool {
		for len(e.conns) < e.o.Conns && len(e.conns)-e.opened < concurrent && failed == nil {
			failed = e.dial()
		}
		return e.opened == e.o.Conns || failed != nil
	})
	return errors.Join(err, failed)
}

// window lets the traffic run, unmeasured and then measured.
func (e *engine) window() error {
	over := e.edge(e.now() + e.o.Warm)
	warm := int64(warmMessages * e.o.Conns)
	if e.o.Kind == Keepalive {
		warm = int64(e.o.Conns) // about a ping each
	}
	if err := e.until(func() bool { return over() && e.done >= warm }); err != nil {
		return err
	}
	if err := e.o.Begin(); err != nil {
		return err
	}
	received, plain := e.volume()
	e.began, e.measuring = e.now(), true
	over = e.edge(e.began + e.o.Time)
	// However slow the server, the window sees one message.
	if err := e.until(func() bool { return over() && e.res.Messages > 0 }); err != nil {
		return err
	}
	e.res.Elapsed = e.now() - e.began
	e.res.Received, e.res.Plain = e.volume()
	e.res.Received -= received
	e.res.Plain -= plain
	return e.o.End()
}

// volume is how much payload has come, and what it stands for, with compression.
func (e *engine) volume() (received, plain int64) {
	for _, c := range e.conns {
		if z := c.dec.z; z != nil {
			received += z.received
			plain += z.plain
		}
	}
	return received, plain
}

// edge returns a func that says whether the time at has come. If there is one
// message at a time it also waits for the end of one: large ones are few, and a
// part of one would be wrongly counted.
func (e *engine) edge(at time.Duration) func() bool {
	seen := e.done
	return func() bool {
		whole := e.done > seen || e.o.Conns*e.o.Outstanding > 1 || e.o.Kind == Receive
		seen = e.done
		return whole && e.now() >= at
	}
}

func (e *engine) now() time.Duration { return time.Since(e.start) }

// until handles events until done says so, which is asked after each batch.
func (e *engine) until(done func() bool) error {
	for !done() {
		if e.ctx.Err() != nil {
			return fmt.Errorf("%w with %d of %d connections open", context.Cause(e.ctx), e.opened, e.o.Conns)
		}
		n, err := syscall.EpollWait(e.ep, e.events, int(tick/time.Millisecond))
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return os.NewSyscallError("epoll_wait", err)
		}
		for _, ev := range e.events[:n] {
			c := e.conns[ev.Fd]
			if err := e.handle(c, ev.Events); err != nil {
				return fmt.Errorf("connection %d: %w", c.index, err)
			}
		}
	}
	return nil
}

// dial begins a connection.
func (e *engine) dial() error {
	c := &conn{index: int32(len(e.conns)), fd: -1, sent: make([]time.Duration, e.o.Outstanding)}
	if err := e.connect(c); err != nil {
		return err
	}
	e.conns = append(e.conns, c)
	return nil
}

func (e *engine) connect(c *conn) error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	// Ended by a reset, so that no port is left waiting.
	_ = syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
	c.dialed = e.now()
	if err = syscall.Connect(fd, e.addr); err != nil && err != syscall.EINPROGRESS {
		_ = syscall.Close(fd)
		return os.NewSyscallError("connect", err)
	}
	ev := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLOUT, Fd: c.index}
	if err = syscall.EpollCtl(e.ep, syscall.EPOLL_CTL_ADD, fd, &ev); err != nil {
		_ = syscall.Close(fd)
		return os.NewSyscallError("epoll_ctl", err)
	}
	c.fd, c.state, c.waiting = fd, connecting, true
	return nil
}

func (e *engine) drop(c *conn) {
	if c.fd >= 0 {
		_ = syscall.Close(c.fd)
		c.fd = -1
	}
}

func (e *engine) handle(c *conn, events uint32) error {
	if c.state == connecting {
		return e.connected(c)
	}
	if events&syscall.EPOLLOUT != 0 {
		if err := e.flush(c); err != nil {
			return err
		}
	}
	if events&^syscall.EPOLLOUT == 0 {
		return nil
	}
	n, err := syscall.Read(c.fd, e.in)
	switch {
	case err == syscall.EAGAIN || err == syscall.EINTR:
		return nil
	case err != nil:
		return os.NewSyscallError("read", err)
	case n == 0:
		return errClosed
	}
	return e.received(c, e.in[:n])
}

func (e *engine) connected(c *conn) error {
	code, err := syscall.GetsockoptInt(c.fd, syscall.SOL_SOCKET, syscall.SO_ERROR)
	if err == nil && code != 0 {
		err = syscall.Errno(code)
	}
	if err != nil {
		return os.NewSyscallError("connect", err)
	}
	if e.hello == nil {
		if e.m.pool != nil {
			c.dec.z = newInflater(e.m.pool, int(c.index), e.o.Conns, agreement{})
		}
		c.state = open
		e.opened++
		return e.flush(c)
	}
	c.state = shaking
	c.out = e.hello
	return e.flush(c)
}

func (e *engine) received(c *conn, p []byte) error {
	if c.state == shaking {
		c.head = append(c.head, p...)
		n, a, err := checkResponse(c.head, e.o.Deflate)
		if n == 0 {
			return err
		}
		if e.o.Kind == Upgrade {
			return e.upgraded(c)
		}
		if e.m.pool != nil {
			c.dec.z = newInflater(e.m.pool, int(c.index), e.o.Conns, a)
		}
		p, c.head, c.state = c.head[n:], nil, open
		e.opened++
	}
	if e.o.Kind == Keepalive {
		return e.pinged(c, p)
	}
	n, err := c.dec.feed(p, e.m)
	if err != nil || n == 0 {
		return err
	}
	return e.answered(c, n)
}

// pinged answers the pings that p completes.
func (e *engine) pinged(c *conn, p []byte) error {
	if len(c.head) > 0 {
		p = append(c.head, p...)
	}
	for ; len(p) >= pingSize; p = p[pingSize:] {
		pong, err := answerPing(p[:pingSize], e.m.key)
		if err != nil {
			return err
		}
		if _, err := write(c.fd, pong[:]); err != nil {
			return err
		}
		e.done++
		if e.measuring {
			e.res.Messages++
		}
	}
	c.head = append(c.head[:0], p...)
	return nil
}

// upgraded counts the handshake and begins the next.
func (e *engine) upgraded(c *conn) error {
	e.done++
	if e.measuring {
		e.res.Messages++
		if c.dialed >= e.began {
			e.res.Latency.Add(e.now()-c.dialed, 1)
		}
	}
	e.drop(c)
	c.head = c.head[:0]
	return e.connect(c)
}

// answered is called when the last n messages awaited on c have come.
func (e *engine) answered(c *conn, n int) error {
	e.done += int64(n)
	if e.measuring {
		e.res.Messages += int64(n)
	}
	switch e.o.Kind {
	case Receive:
		return nil
	case Idle:
		if c.dec.seq < uint64(e.o.Echoes) {
			return e.send(c, 1)
		}
		e.replied++
		return nil
	case Fanout:
		return e.fannedOut(c, n)
	}
	e.record(c.sent, c.dec.seq, n)
	return e.send(c, n)
}

// record takes the time of the n messages before number end.
func (e *engine) record(sent []time.Duration, end uint64, n int) {
	if !e.measuring {
		return
	}
	now := e.now()
	for i := range n {
		if at := sent[(end-uint64(n-i))%uint64(len(sent))]; at >= e.began {
			e.res.Latency.Add(now-at, 1)
		}
	}
}

func (e *engine) fannedOut(c *conn, n int) error {
	e.record(e.sent, c.dec.seq, n)
	whole := 0
	for i := range n {
		slot := (c.dec.seq - uint64(n-i)) % uint64(len(e.heard))
		if e.heard[slot]++; e.heard[slot] == len(e.conns) {
			e.heard[slot] = 0
			whole++
		}
	}
	return e.publish(whole)
}

// publish sends n messages for all.
func (e *engine) publish(n int) error {
	if n == 0 {
		return nil
	}
	c := e.conns[0]
	now := e.now()
	for i := range n {
		e.sent[(c.next+uint64(i))%uint64(len(e.sent))] = now
	}
	return e.send(c, n)
}

// send sends the next n messages on c.
func (e *engine) send(c *conn, n int) error {
	now := e.now()
	b := e.scratch[:0]
	shared := len(e.m.out) > maxNumbered && n == 1 && e.m.pool == nil
	if shared {
		b = e.m.out
	}
	for range n {
		c.sent[c.next%uint64(len(c.sent))] = now
		switch {
		case c.dec.z != nil:
			b = append(b, c.dec.z.sent(c.next)...)
		case !shared:
			b = e.m.appendTo(b, c.next)
		}
		c.next++
	}
	if !shared {
		e.scratch = b
	}
	if len(c.out) > 0 {
		c.out = append(c.out, b...)
		return nil
	}
	taken, err := write(c.fd, b)
	if err != nil || taken == len(b) {
		return err
	}
	b = b[taken:]
	if shared {
		c.out = b[:len(b):len(b)]
	} else {
		c.out = append([]byte(nil), b...)
	}
	return e.wait(c, true)
}

// flush writes what is left, and stops waiting for room when nothing is.
func (e *engine) flush(c *conn) error {
	n, err := write(c.fd, c.out)
	if err != nil {
		return err
	}
	if c.out = c.out[n:]; len(c.out) > 0 {
		return e.wait(c, true)
	}
	c.out = nil
	return e.wait(c, false)
}

func (e *engine) wait(c *conn, room bool) error {
	if c.waiting == room {
		return nil
	}
	c.waiting = room
	ev := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: c.index}
	if room {
		ev.Events |= syscall.EPOLLOUT
	}
	return os.NewSyscallError("epoll_ctl", syscall.EpollCtl(e.ep, syscall.EPOLL_CTL_MOD, c.fd, &ev))
}

// write writes what the socket takes now.
func write(fd int, b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for {
		n, err := syscall.Write(fd, b)
		switch err {
		case nil:
			return n, nil
		case syscall.EAGAIN:
			return 0, nil
		case syscall.EINTR:
		default:
			return 0, os.NewSyscallError("write", err)
		}
	}
}
