//go:build unix && !linux

package transport

// detachment: there is no poller here that could wait for a descriptor without
// a net.Conn.
type detachment struct{}

func (s *socket) hold() bool                       { return true }
func (s *socket) letGo()                           {}
func (s *socket) read(c *call) error               { return s.raw.Read(c.tryRead) }
func (s *socket) write(c *call) error              { return s.raw.Write(c.tryWrite) }
func (s *socket) Control(f func(fd uintptr)) error { return s.raw.Control(f) }

// CloseWrite implements Conn.
func (s *socket) CloseWrite() (bool, error) { return true, s.closeWrite() }
