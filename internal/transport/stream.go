package transport

import (
	"crypto/tls"
	"io"
	"net"
	"time"
)

// stream is any net.Conn, used through its deadlines alone.
type stream struct {
	conn net.Conn
	// secret is set for TLS: a write that failed there is final, since a
	// record may have left in part, and Close would wait for the write
	// lock and then for its alert.
	secret *tls.Conn

	read, write Deadline
	// first is what an idle connection waits with. The rest of what has
	// come is then read into a real buffer.
	first [64]byte
}

func newStream(c net.Conn, writeTimeout time.Duration) *stream {
	s := &stream{conn: c}
	s.secret, _ = c.(*tls.Conn)
	s.read.abort, s.write.abort = s.Abort, s.Abort
	s.read.set = c.SetReadDeadline
	s.write.set = c.SetWriteDeadline
	s.write.bound = writeTimeout
	return s
}

func (s *stream) In() *Deadline     { return &s.read }
func (s *stream) Out() *Deadline    { return &s.write }
func (s *stream) NetConn() net.Conn { return s.conn }

func (s *stream) Fill(room Room, idle bool) (int, error) {
	if idle {
		n, err := s.Read(s.first[:])
		if n > 0 {
			n = copy(room.Open(false), s.first[:n])
		}
		return n, err
	}
	n, err := s.Read(room.Open(true))
	if n == 0 {
		room.Drop()
	}
	return n, err
}

func (s *stream) Read(p []byte) (int, error) {
	// A net.Conn may return nothing without an error; one that does so for
	// ever must not hold a processor.
	for range 100 {
		n, err := s.conn.Read(p)
		if n > 0 {
			return n, nil // an error comes again with the next call
		}
		if err != nil {
			return 0, err
		}
	}
	return 0, io.ErrNoProgress
}

func (s *stream) TryWrite([]byte) (int, error) { return 0, nil }

func (s *stream) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		piece := p[:min(len(p), Piece)]
		s.write.arm()
		m, err := s.conn.Write(piece)
		s.write.disarm()
		n += m
		if err != nil {
			if s.secret != nil {
				n = max(n, 1)
			}
			return n, err
		}
		if m < len(piece) {
			return max(n, 1), io.ErrNoProgress
		}
		p = p[len(piece):]
	}
	return n, nil
}

func (s *stream) CloseWrite() (bool, error) {
	c, ok := s.conn.(closeWriter)
	if !ok {
		return false, nil
	}
	return true, c.CloseWrite()
}

func (s *stream) Abort() error {
	if s.secret != nil {
		return s.secret.NetConn().Close()
	}
	return s.conn.Close()
}
