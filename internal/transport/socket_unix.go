//go:build unix

package transport

import (
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// socket is a TCP connection whose descriptor is read when it is ready and
// written without waiting while it takes bytes. The callbacks are made once:
// a call costs no allocation.
type socket struct {
	conn *net.TCPConn
	raw  syscall.RawConn

	read, write Deadline

	in struct { // of the call that reads
		room Room
		p    []byte
		n    int
		err  error
		try  func(fd uintptr) bool
	}
	out struct { // of the call that writes
		p    []byte
		n    int
		err  error
		wait bool
		try  func(fd uintptr) bool
	}
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
	s := &socket{conn: tcp, raw: raw}
	s.read.abort, s.write.abort = s.Abort, s.Abort
	s.read.set = tcp.SetReadDeadline
	s.write.set = tcp.SetWriteDeadline
	s.write.bound = writeTimeout
	s.in.try = s.tryRead
	s.out.try = s.tryWrite
	return s
}

func (s *socket) In() *Deadline     { return &s.read }
func (s *socket) Out() *Deadline    { return &s.write }
func (s *socket) NetConn() net.Conn { return s.conn }

func (s *socket) Fill(room Room, _ bool) (int, error) {
	s.in.room = room
	n, err := s.doRead()
	s.in.room = nil
	return n, err
}

func (s *socket) Read(p []byte) (int, error) {
	s.in.p = p
	n, err := s.doRead()
	s.in.p = nil
	return n, err
}

func (s *socket) doRead() (int, error) {
	err := s.raw.Read(s.in.try)
	n, readErr := s.in.n, s.in.err
	s.in.n, s.in.err = 0, nil
	if err != nil {
		return 0, err
	}
	if readErr != nil {
		return 0, readErr
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// tryRead reads what is there. It reports false, to be called again when the
// descriptor is readable, when nothing is; no buffer is held meanwhile.
func (s *socket) tryRead(fd uintptr) bool {
	p := s.in.p
	if s.in.room != nil {
		p = s.in.room.Open(false)
	}
	n, err := retry(syscall.Read, fd, p)
	if n <= 0 && s.in.room != nil {
		s.in.room.Drop()
	}
	switch {
	case err == syscall.EAGAIN:
		return false
	case err != nil:
		s.in.err = os.NewSyscallError("read", err)
	default:
		s.in.n = n
	}
	return true
}

func (s *socket) TryWrite(p []byte) (int, error) {
	return s.doWrite(p, false)
}

func (s *socket) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		piece := p[:min(len(p), Piece)]
		m, err := s.doWrite(piece, false)
		if err == nil && m < len(piece) {
			var rest int
			s.write.arm()
			rest, err = s.doWrite(piece[m:], true)
			s.write.disarm()
			m += rest
		}
		n += m
		if err != nil {
			return n, err
		}
		p = p[len(piece):]
	}
	return n, nil
}

func (s *socket) doWrite(p []byte, wait bool) (int, error) {
	s.out.p, s.out.wait = p, wait
	err := s.raw.Write(s.out.try)
	n, writeErr := s.out.n, s.out.err
	s.out.p, s.out.n, s.out.err = nil, 0, nil
	if writeErr != nil {
		return n, writeErr
	}
	if os.IsTimeout(err) && !wait {
		// An interrupt that is still in force concerns waits alone.
		return n, nil
	}
	return n, err
}

// tryWrite hands the descriptor as much as it takes, and waits for it to take
// the rest if that was asked for.
func (s *socket) tryWrite(fd uintptr) bool {
	for s.out.n < len(s.out.p) {
		n, err := retry(syscall.Write, fd, s.out.p[s.out.n:])
		if err == syscall.EAGAIN {
			return !s.out.wait
		}
		if err != nil {
			s.out.err = os.NewSyscallError("write", err)
			return true
		}
		s.out.n += n
		if n == 0 {
			s.out.err = io.ErrUnexpectedEOF
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

func (s *socket) CloseWrite() (bool, error) { return true, s.conn.CloseWrite() }
func (s *socket) Abort() error              { return s.conn.Close() }
