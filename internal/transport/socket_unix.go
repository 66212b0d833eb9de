//go:build unix

package transport

import (
	"cmp"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// socket is a TCP connection whose descriptor is read when it is ready and
// written without waiting while it takes bytes; see detach_linux.go for the
// time without a net.Conn.
type socket struct {
	deadlines
	raw         syscall.RawConn // nil: detached
	*detachment                 // nil: it stays attached
}

// A fill is a call that reads into a room, and is all that a connection holds
// while it waits; a call reads or writes p. Their callbacks are made once, and
// they are lent: none costs an allocation, and a parked connection holds none.
type fill struct {
	room Room
	err  error
	n    int32
	wait bool // for input
	try  func(fd uintptr) bool
}

type call struct {
	p    []byte
	n    int
	err  error
	wait bool // until something has come, or all of p is written

	tryRead, tryWrite func(fd uintptr) bool
}

var fills = sync.Pool{New: func() any {
	f := new(fill)
	f.try = f.readOnce
	return f
}}

var calls = sync.Pool{New: func() any {
	c := new(call)
	c.tryRead, c.tryWrite = c.readOnce, c.writeAll
	return c
}}

func newFill(room Room, wait bool) *fill {
	f := fills.Get().(*fill)
	f.room, f.n, f.err, f.wait = room, 0, nil, wait
	return f
}

func newCall(p []byte, wait bool) *call {
	c := calls.Get().(*call)
	c.p, c.n, c.err, c.wait = p, 0, nil, wait
	return c
}

// done gives f back and returns what it has come to, if the call returned err.
func (f *fill) done(err error) (int, error) {
	n := int(f.n)
	if err == nil {
		err = f.err
	}
	f.room, f.err = nil, nil
	fills.Put(f)
	return outcome(n, err)
}

func (c *call) done() {
	c.p, c.err = nil, nil
	calls.Put(c)
}

// outcome is what a read has come to: nothing means the end.
func outcome(n int, err error) (int, error) {
	switch {
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

func newSocket(c net.Conn, writeTimeout time.Duration) Conn {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	return &socket{deadlines: deadlines{conn: tcp, bound: writeTimeout}, raw: raw}
}

func (s *socket) Raw() Descriptor { return s }

// Fill implements Conn. It is on the stack of every connection that a goroutine
// waits for, and so as shallow as can be.
func (s *socket) Fill(room Room, _ bool) (int, error) {
	if !s.hold() {
		return s.fill(room, true)
	}
	f := newFill(room, true)
	err := s.raw.Read(f.try)
	s.letGo()
	return f.done(err)
}

// TryFill implements Conn.
func (s *socket) TryFill(room Room) (int, error) { return s.fill(room, false) }

func (s *socket) fill(room Room, wait bool) (int, error) {
	f := newFill(room, wait)
	return f.done(s.run(wait, in, syscall.RawConn.Read, f.try))
}

// readOnce reads what is there. It reports false, to be called again when the
// descriptor is readable, when nothing is; no buffer is held meanwhile.
func (f *fill) readOnce(fd uintptr) bool {
	n, err := retry(syscall.Read, fd, f.room.Open(false))
	if n <= 0 {
		f.room.Drop()
	}
	switch {
	case err == syscall.EAGAIN && f.wait:
		return false
	case err == syscall.EAGAIN:
		f.err = ErrNotReady
	case err != nil:
		f.err = os.NewSyscallError("read", err)
	default:
		f.n = int32(n)
	}
	return true
}

func (s *socket) Read(p []byte) (int, error) {
	c := newCall(p, true)
	defer c.done()
	err := s.run(true, in, syscall.RawConn.Read, c.tryRead)
	return outcome(c.n, cmp.Or(err, c.err))
}

// readOnce is that of fill, to p.
func (c *call) readOnce(fd uintptr) bool {
	n, err := retry(syscall.Read, fd, c.p)
	switch {
	case err == syscall.EAGAIN:
		return false
	case err != nil:
		c.err = os.NewSyscallError("read", err)
	default:
		c.n = n
	}
	return true
}

func (s *socket) HasInput() bool { return peek(s) }

// hasInput looks into a socket, if c is one, without taking anything.
func hasInput(c net.Conn) bool {
	raw := rawConn(c)
	return raw == nil || peek(raw)
}

// peek looks into a socket. Beside a reader that waits, RawConn.Read would wait
// for it; Control does not.
func peek(d Descriptor) bool {
	there := false
	err := d.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		there = n > 0 || err == syscall.EINTR
	})
	return there && err == nil
}

func (s *socket) Tries() bool { return true }

// TryWrite implements Conn. An interrupt that is still in force concerns waits
// alone. It is as shallow as Fill.
func (s *socket) TryWrite(p []byte) (int, error) {
	c := newCall(p, false)
	var err error
	if s.hold() {
		err = s.raw.Write(c.tryWrite)
		s.letGo()
	} else {
		err = s.run(false, out, syscall.RawConn.Write, c.tryWrite)
	}
	n := c.n
	if c.err != nil {
		err = c.err
	} else if err != nil && os.IsTimeout(err) {
		err = nil
	}
	c.done()
	return n, err
}

// atOnce is how much a peer that reads as fast as we write is given before
// others may have the socket for a moment.
const atOnce = 4 << 20

func (s *socket) Write(p []byte) (n int, err error) {
	for {
		piece := p[:min(len(p), atOnce)]
		m, err := s.TryWrite(piece)
		n, p = n+m, p[m:]
		if err != nil || len(p) == 0 {
			return n, err
		}
		if m == len(piece) {
			continue
		}
		s.arm()
		m, err = s.writeWaiting(p[:min(len(p), Piece)])
		s.disarm()
		n, p = n+m, p[m:]
		if err != nil || len(p) == 0 {
			return n, err
		}
	}
}

func (s *socket) writeWaiting(p []byte) (int, error) {
	c := newCall(p, true)
	defer c.done()
	err := s.run(true, out, syscall.RawConn.Write, c.tryWrite)
	return c.n, cmp.Or(c.err, err)
}

// writeAll hands the descriptor as much as it takes, and waits for it to take
// the rest if that was asked for.
func (c *call) writeAll(fd uintptr) bool {
	for c.n < len(c.p) {
		n, err := retry(syscall.Write, fd, c.p[c.n:])
		if err == syscall.EAGAIN {
			return !c.wait
		}
		if err != nil {
			c.err = os.NewSyscallError("write", err)
			return true
		}
		c.n += n
		if n == 0 {
			c.err = io.ErrUnexpectedEOF
			return true
		}
	}
	return true
}

func retry(call func(int, []byte) (int, error), fd uintptr, p []byte) (int, error) {
	for {
		n, err := call(int(fd), p)
		if err != syscall.EINTR {
			return n, err
		}
	}
}

func (s *socket) closeWrite() error { return s.conn.(*net.TCPConn).CloseWrite() }
