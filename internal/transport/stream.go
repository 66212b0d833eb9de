package transport

import (
	"io"
	"net"
	"time"
)

// stream is any net.Conn, used through its deadlines alone.
type stream struct {
	deadlines
	// first is what an idle connection waits with. The rest of what has
	// come is then read into a real buffer.
	first [64]byte
}

func newStream(c net.Conn, writeTimeout time.Duration) *stream {
	return &stream{deadlines: deadlines{conn: c, bound: writeTimeout}}
}

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

// TryFill waits until there is input, or whoever waits for it is interrupted:
// there is no way to ask crypto/tls what it has.
func (s *stream) TryFill(room Room) (int, error) { return s.Fill(room, false) }

func (s *stream) Raw() Descriptor {
	if c := s.secret(); c != nil {
		if raw := rawConn(c.NetConn()); raw != nil {
			return raw
		}
	}
	return nil
}

func (s *stream) Read(p []byte) (int, error) {
	if s.secret() != nil {
		s.mayAnswer()
	}
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

func (s *stream) HasInput() bool {
	if c := s.secret(); c != nil {
		// What crypto/tls holds back is less than a record, or there
		// would be somebody who reads.
		return hasInput(c.NetConn())
	}
	if c, ok := s.conn.(interface{ HasInput() bool }); ok {
		return c.HasInput()
	}
	return true
}

func (s *stream) TryWrite([]byte) (int, error) { return 0, nil }
func (s *stream) Tries() bool                  { return false }

func (s *stream) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		piece := p[:min(len(p), Piece)]
		s.arm()
		m, err := s.conn.Write(piece)
		s.disarm()
		n += m
		if err != nil {
			if s.secret() != nil { // a record may have left in part: it is final
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
	s.arm() // for good: behind the alert of TLS follows nothing, no answer either
	return true, c.CloseWrite()
}
