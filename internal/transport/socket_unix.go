//go:build unix

package transport

import (
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

// A call is one that reads or writes. Its callbacks are made once, and calls
// are lent: one costs no allocation, and an idle connection holds none.
type call struct {
	room Room // to read into, or else p
	p    []byte
	n    int
	err  error
	wait bool // for input, or until all of p is written

	tryRead, tryWrite func(fd uintptr) bool
}

var calls = sync.Pool{New: func() any {
	c := new(call)
	c.tryRead, c.tryWrite = c.readOnce, c.writeAll
	return c
}}

func newCall(room Room, p []byte) *call {
	c := calls.Get().(*call)
	c.room, c.p, c.n, c.err = room, p, 0, nil
	return c
}

func (c *call) done() {
	c.room, c.p, c.err = nil, nil, nil
	calls.Put(c)
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

func (s *socket) Fill(room Room, _ bool) (int, error) { return s.doRead(newCall(room, nil), true) }

func (s *socket) TryFill(room Room) (int, error) { return s.doRead(newCall(room, nil), false) }

func (s *socket) Read(p []byte) (int, error) { return s.doRead(newCall(nil, p), true) }

func (s *socket) doRead(c *call, wait bool) (int, error) {
	defer c.done()
	c.wait = wait
	var err error
	if s.hold() {
		// From here, since what waits shall not be deep.
		err = s.raw.Read(c.tryRead)
		s.letGo()
	} else {
		err = s.read(c)
	}
	switch {
	case err != nil:
		return 0, err
	case c.err != nil:
		return 0, c.err
	case c.n == 0:
		return 0, io.EOF
	}
	return c.n, nil
}

// readOnce reads what is there. It reports false, to be called again when the
// descriptor is readable, when nothing is; no buffer is held meanwhile.
func (c *call) readOnce(fd uintptr) bool {
	p := c.p
	if c.room != nil {
		p = c.room.Open(false)
	}
	n, err := retry(syscall.Read, fd, p)
	if n <= 0 && c.room != nil {
		c.room.Drop()
	}
	switch {
	case err == syscall.EAGAIN && c.wait:
		return false
	case err == syscall.EAGAIN:
		c.err = ErrNotReady
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

func (s *socket) TryWrite(p []byte) (int, error) {
	return s.doWrite(p, false)
}

// atOnce is how much a peer that reads as fast as we write is given before
// others may have the socket for a moment.
const atOnce = 4 << 20

func (s *socket) Write(p []byte) (n int, err error) {
	for {
		piece := p[:min(len(p), atOnce)]
		m, err := s.doWrite(piece, false)
		n, p = n+m, p[m:]
		if err != nil || len(p) == 0 {
			return n, err
		}
		if m == len(piece) {
			continue
		}
		s.arm()
		m, err = s.doWrite(p[:min(len(p), Piece)], true)
		s.disarm()
		n, p = n+m, p[m:]
		if err != nil || len(p) == 0 {
			return n, err
		}
	}
}

func (s *socket) doWrite(p []byte, wait bool) (int, error) {
	c := newCall(nil, p)
	defer c.done()
	c.wait = wait
	var err error
	if s.hold() {
		err = s.raw.Write(c.tryWrite)
		s.letGo()
	} else {
		err = s.write(c)
	}
	if c.err != nil {
		return c.n, c.err
	}
	if os.IsTimeout(err) && !wait {
		// An interrupt that is still in force concerns waits alone.
		return c.n, nil
	}
	return c.n, err
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
