//go:build unix && !linux

package transport

import "syscall"

// detachment: there is no poller here that could wait for a descriptor without
// a net.Conn.
type detachment struct{}

func (s *socket) hold() bool                       { return true }
func (s *socket) letGo()                           {}
func (s *socket) Control(f func(fd uintptr)) error { return s.raw.Control(f) }

// run makes a call; there always is a net.Conn for that.
func (s *socket) run(_ bool, _ direction, call func(syscall.RawConn, func(uintptr) bool) error, try func(uintptr) bool) error {
	return call(s.raw, try)
}

// CloseWrite implements Conn.
func (s *socket) CloseWrite() (bool, error) { return true, s.closeWrite() }
