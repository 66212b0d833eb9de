package transport

import (
	"cmp"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// A net.Conn takes about a kilobyte: its netFD, four addresses, and above all
// the place in Go's poller, which the runtime never gives back. A connection
// that no goroutine waits for needs none of this. But a net.Conn cannot give its
// descriptor away, and closing it closes that: so the descriptor is duplicated
// first. When somebody wants to wait, net.FileConn makes a net.Conn again. That
// costs some 20 µs and two more descriptors for a moment, for which reason calls
// that find input, or room to write, go without.

// A detachment is what a socket has that may be without its net.Conn. The socket
// is attached, detached or closed:
//
//	raw and conn   fd
//	not nil        -1        attached, closed perhaps by Abort
//	nil            a number  detached
//	nil            -1        closed
//
// The locks are taken in this order: changing, using, deadlines.mu.
type detachment struct {
	// changing is held by who attaches or detaches, and by Abort.
	changing sync.Mutex
	// using is held for reading by each call on the descriptor, as long as it
	// waits where there is a net.Conn and else for moments; it is held for
	// writing to change the state, so that no descriptor is used that has
	// been closed and is now another's.
	using         sync.RWMutex
	fd            int
	watcher       Watcher
	local, remote netip.AddrPort // as known when it was first detached
}

// MayDetach implements Conn.
func (s *socket) MayDetach() { s.detachment = &detachment{fd: -1} }

// Detach implements Conn.
func (s *socket) Detach(w Watcher) {
	if s.detachment == nil {
		return
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	if s.raw == nil || !s.knowsAddresses() || !s.using.TryLock() {
		return
	}
	defer s.using.Unlock()
	fd := -1
	err := s.raw.Control(func(old uintptr) {
		var err error
		if fd, err = duplicate(old); err == nil && w.Moved(int(old), fd) != nil {
			_ = syscall.Close(fd)
			fd = -1
		}
	})
	if err != nil || fd < 0 {
		return // it is closed, or there are too many descriptors
	}
	conn := s.conn
	s.become(nil, nil, fd)
	s.watcher = w
	_ = conn.Close()
}

// knowsAddresses notes the addresses, and reports whether there are any.
func (s *socket) knowsAddresses() bool {
	if !s.remote.IsValid() {
		local, _ := s.conn.LocalAddr().(*net.TCPAddr)
		remote, _ := s.conn.RemoteAddr().(*net.TCPAddr)
		if local != nil && remote != nil {
			s.local, s.remote = local.AddrPort(), remote.AddrPort()
		}
	}
	return s.local.IsValid() && s.remote.IsValid()
}

// Attach makes a net.Conn if there is none. It does not wait.
func (s *socket) Attach() error {
	s.changing.Lock()
	defer s.changing.Unlock()
	if s.raw != nil {
		return nil
	}
	// As there is no net.Conn, nobody has this for long.
	s.using.Lock()
	defer s.using.Unlock()
	if s.fd < 0 {
		return net.ErrClosed
	}
	conn, err := connOf(s.fd)
	if err != nil {
		return err
	}
	raw, err := conn.SyscallConn()
	if err == nil {
		var moved error
		err = raw.Control(func(fd uintptr) { moved = s.watcher.Moved(s.fd, int(fd)) })
		err = cmp.Or(err, moved)
	}
	if err != nil {
		_ = conn.Close()
		return err
	}
	_ = syscall.Close(s.fd)
	s.become(conn, raw, -1)
	return nil
}

// become changes the state, with using held. A new net.Conn gets the deadlines
// that are in force.
func (s *socket) become(conn *net.TCPConn, raw syscall.RawConn, fd int) {
	for to := range s.mu {
		s.mu[to].Lock()
		defer s.mu[to].Unlock()
	}
	s.conn, s.raw, s.fd = nil, raw, fd
	if conn == nil {
		return
	}
	s.conn = conn
	if s.armed {
		s.apply()
	}
	if s.readBy != 0 {
		_ = s.set(in, epoch.Add(s.readBy))
		s.readBy = 0
	}
	for to, interrupted := range s.interrupted {
		if interrupted {
			_ = s.set(direction(to), past)
		}
	}
}

// duplicate makes another descriptor of the same open file.
func duplicate(fd uintptr) (int, error) {
	n, _, errno := syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_DUPFD_CLOEXEC, 0)
	if errno != 0 {
		return -1, os.NewSyscallError("fcntl", errno)
	}
	return int(n), nil
}

// kept are the options that net.FileConn sets to its defaults, and which somebody
// may have set otherwise.
var kept = [...]struct{ level, name int }{
	{syscall.IPPROTO_TCP, syscall.TCP_NODELAY},
	{syscall.SOL_SOCKET, syscall.SO_KEEPALIVE},
	{syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE},
	{syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL},
	{syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT},
}

// connOf makes a net.Conn of a socket, with a descriptor of its own.
func connOf(fd int) (*net.TCPConn, error) {
	// An os.File closes what it is given, sooner or later.
	lent, err := duplicate(uintptr(fd))
	if err != nil {
		return nil, err
	}
	var values [len(kept)]int
	var errs [len(kept)]error
	for i, o := range kept {
		values[i], errs[i] = syscall.GetsockoptInt(fd, o.level, o.name)
	}
	f := os.NewFile(uintptr(lent), "socket")
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	for i, o := range kept {
		if errs[i] == nil {
			_ = syscall.SetsockoptInt(fd, o.level, o.name, values[i])
		}
	}
	return conn.(*net.TCPConn), nil
}

// hold reports whether there is a net.Conn, which then stays until letGo.
func (s *socket) hold() bool {
	if s.detachment == nil {
		return true
	}
	s.using.RLock()
	if s.raw == nil {
		s.using.RUnlock()
		return false
	}
	return true
}

func (s *socket) letGo() {
	if s.detachment != nil {
		s.using.RUnlock()
	}
}

// run makes a call where there may be no net.Conn: it has one run it, or tries it
// on the bare descriptor. A call that has to wait gets a net.Conn. Where there
// are no descriptors for that, it tries again from time to time, as long as it may
// wait; waits says whether it may.
func (s *socket) run(waits bool, to direction, call func(syscall.RawConn, func(uintptr) bool) error, try func(uintptr) bool) error {
	var began time.Time
	for pause := shortPause; ; pause = min(2*pause, longPause) {
		if s.hold() {
			err := call(s.raw, try)
			s.letGo()
			return err
		}
		s.using.RLock()
		if s.raw != nil { // since then
			s.using.RUnlock()
			continue
		}
		err := s.refusal(waits, to, began)
		done := err != nil || try(uintptr(s.fd))
		s.using.RUnlock()
		if done {
			return err
		}
		switch err := s.Attach(); {
		case err == nil:
			continue
		case errors.Is(err, net.ErrClosed):
			return err
		}
		if began.IsZero() {
			began = time.Now()
		}
		time.Sleep(pause)
	}
}

// How long is waited for descriptors, at first and at most.
const (
	shortPause = time.Millisecond
	longPause  = 50 * time.Millisecond
)

// refusal is why a call on the bare descriptor fails, as it would with a net.Conn.
// It has been waiting for one since began.
func (s *socket) refusal(waits bool, to direction, began time.Time) error {
	if s.fd < 0 {
		return net.ErrClosed
	}
	s.mu[to].Lock()
	defer s.mu[to].Unlock()
	late := false
	switch {
	case to == in:
		late = s.interrupted[in] || s.readBy != 0 && time.Since(epoch) >= s.readBy
	case waits:
		late = s.interrupted[out] || s.bound > 0 && !began.IsZero() && time.Since(began) > s.bound
	}
	if late {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// use runs f with the descriptor, wherever it is.
func (s *socket) use(attached func() error, f func(fd uintptr)) error {
	if s.detachment == nil {
		return attached()
	}
	s.using.RLock()
	defer s.using.RUnlock()
	switch {
	case s.raw != nil:
		return attached()
	case s.fd < 0:
		return net.ErrClosed
	}
	f(uintptr(s.fd))
	return nil
}

// Control implements Descriptor.
func (s *socket) Control(f func(fd uintptr)) error {
	return s.use(func() error { return s.raw.Control(f) }, f)
}

// CloseWrite implements Conn.
func (s *socket) CloseWrite() (bool, error) {
	var err error
	used := s.use(s.closeWrite, func(fd uintptr) {
		err = os.NewSyscallError("shutdown", syscall.Shutdown(int(fd), syscall.SHUT_WR))
	})
	return true, cmp.Or(used, err)
}

// Abort implements Conn.
func (s *socket) Abort() error {
	if s.detachment == nil {
		return s.conn.Close()
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	if s.raw != nil {
		return s.conn.Close()
	}
	s.using.Lock()
	defer s.using.Unlock()
	if s.fd < 0 {
		return net.ErrClosed
	}
	err := syscall.Close(s.fd)
	s.fd = -1
	return os.NewSyscallError("close", err)
}

// NetConn implements Conn.
func (s *socket) NetConn() net.Conn {
	if s.detachment == nil {
		return s.conn
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	return s.conn
}

// LocalAddr implements Conn.
func (s *socket) LocalAddr() net.Addr { return s.addr(net.Conn.LocalAddr, false) }

// RemoteAddr implements Conn.
func (s *socket) RemoteAddr() net.Addr { return s.addr(net.Conn.RemoteAddr, true) }

func (s *socket) addr(of func(net.Conn) net.Addr, remote bool) net.Addr {
	if s.detachment == nil {
		return of(s.conn)
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	switch {
	case !s.remote.IsValid(): // it has never been detached
		return of(s.conn)
	case remote:
		return net.TCPAddrFromAddrPort(s.remote)
	}
	return net.TCPAddrFromAddrPort(s.local)
}
