// Package memconn is a network in memory, for tests: [Pair] makes the two ends of a connection, [Listen] a listener
// for net/http's server. Both ends behave like TCP as far as a protocol can tell.
//
// Neither of the usual stand-ins will do. A loopback socket cannot be used in a testing/synctest bubble, whose clock
// stands still as long as somebody waits for the kernel; and where it cuts the bytes, and when it is full, is the
// kernel's affair. [net.Pipe] has no buffer, so that each Write waits for its Read: an order that no socket has, in
// which two ends that write at the same time are stuck for ever. It has no half-close and no reset, so it cannot show
// a close frame that arrives whole, nor one that a reset destroys.
//
// Here, what is written is buffered up to a size ([Conn.SetBuffer]). CloseWrite ends one direction and leaves the
// other. Close ends both: the peer reads what is left, then [io.EOF], and its next Write gives EPIPE. When there was
// unread input at Close, or the peer writes before it has read the rest, the connection is reset instead: what the
// peer has not read is lost, and it gets ECONNRESET. (Linux lets a receiver keep what it already has; other systems
// do not, and tests are to assume the worse.)
//
// There are no goroutines. All waits are durable in the sense of synctest, and there is a timer only while a deadline
// lies ahead. As with any other object of a bubble, both ends of a connection belong to the bubble that waits on them.
package memconn

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Addr is the name of an end. Its network is "mem".
type Addr string

func (Addr) Network() string  { return "mem" }
func (a Addr) String() string { return string(a) }

// Conn is one end of a connection. All methods may be called at the same time from any number of goroutines.
type Conn struct {
	local, remote Addr

	mu      *sync.Mutex // one for both ends; guards all that follows
	in, out *stream     // the peer's out and in
	closed  bool
}

var _ net.Conn = (*Conn)(nil)

// Pair returns the two ends of a connection.
func Pair() (a, b *Conn) { return pair("a", "b") }

func pair(a, b Addr) (*Conn, *Conn) {
	mu := new(sync.Mutex)
	ab, ba := newStream(mu), newStream(mu)
	return &Conn{local: a, remote: b, mu: mu, in: ba, out: ab},
		&Conn{local: b, remote: a, mu: mu, in: ab, out: ba}
}

// Read waits for at least one byte. As on a socket, a deadline that has passed comes before bytes that are there.
func (c *Conn) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := c.in; ; s.cond.Wait() {
		switch {
		case c.closed:
			return 0, c.failed("read", net.ErrClosed)
		case len(p) == 0:
			return 0, nil
		case s.readDeadline.passed():
			return 0, c.failed("read", os.ErrDeadlineExceeded)
		case s.readFault.due(s.read):
			return 0, s.readFault.err
		case s.reset:
			return 0, c.failed("read", syscall.ECONNRESET)
		case s.ring.n > 0:
			return s.take(p), nil
		case s.fin:
			return 0, io.EOF
		}
	}
}

// Write returns once the peer's buffer has taken all of p; on an error, n is what it has taken until then.
// Of several Writes at the same time, one is done after the other.
func (c *Conn) Write(p []byte) (n int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.out
	// What ends the Write whose turn it is ends all that wait behind it, so there is nothing else to look for here.
	for s.writing {
		s.cond.Wait()
	}
	s.writing = true
	defer func() {
		s.writing = false
		s.cond.Broadcast()
	}()
	for {
		switch {
		case c.closed:
			return n, c.failed("write", net.ErrClosed)
		case s.writeDeadline.passed():
			return n, c.failed("write", os.ErrDeadlineExceeded)
		case len(p) == 0:
			return 0, nil
		case s.writeFault.due(s.written):
			return n, s.writeFault.err
		case s.fin:
			return n, c.failed("write", syscall.EPIPE)
		case s.reset:
			return n, c.failed("write", syscall.ECONNRESET)
		case s.gone:
			c.in.cut() // the answer to bytes for a closed end is a reset
			return n, c.failed("write", syscall.EPIPE)
		}
		room := s.room(len(p) - n)
		if room == 0 {
			s.cond.Wait()
			continue
		}
		s.put(p[n:n+room], n == 0 || s.limit > 0)
		if n += room; n == len(p) {
			return n, nil
		}
	}
}

// CloseWrite ends this end's direction: the peer reads what is left and then io.EOF. Reading goes on.
func (c *Conn) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return c.failed("close", net.ErrClosed)
	case c.out.reset:
		return c.failed("close", syscall.ECONNRESET)
	}
	c.out.fin = true
	c.out.cond.Broadcast()
	return nil
}

// Close ends the connection and all calls on this end that wait. Unread input makes it a reset.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.failed("close", net.ErrClosed)
	}
	if c.in.ring.n > 0 {
		c.in.cut()
		c.out.cut()
	}
	c.closed, c.in.gone, c.out.fin = true, true, true
	c.in.ring = ring[byte]{} // it is empty, but its memory need not wait for the peer
	c.in.readDeadline.stop()
	c.out.writeDeadline.stop()
	c.in.cond.Broadcast()
	c.out.cond.Broadcast()
	return nil
}

// Reset breaks the connection as a crash does: what is unread on either side is lost, and the calls of both ends give
// ECONNRESET. Only a direction that has been ended and read empty stays as it is, at io.EOF. It does not close this end.
func (c *Conn) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in.cut()
	c.out.cut()
}

// LocalAddr returns the address of this end.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the address of the peer.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets both deadlines. It holds for calls that are waiting already, too: one in the past ends them at
// once, and the zero time takes the deadline away, whether it has passed or not.
func (c *Conn) SetDeadline(t time.Time) error { return c.setDeadlines(t, true, true) }

// SetReadDeadline is SetDeadline for Read alone.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadlines(t, true, false) }

// SetWriteDeadline is SetDeadline for Write alone.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadlines(t, false, true) }

func (c *Conn) setDeadlines(t time.Time, read, write bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.failed("set", net.ErrClosed)
	}
	if read {
		c.in.readDeadline.set(t, c.in.cond)
	}
	if write {
		c.out.writeDeadline.set(t, c.out.cond)
	}
	return nil
}

// SetBuffer sets how many bytes of this end's the peer can have unread before Write waits: at least 1, 64 KiB if it
// is never called.
func (c *Conn) SetBuffer(n int) { c.change(c.out, func() { c.out.size = max(n, 1) }) }

// KeepSegments makes Read on this end return bytes of one Write only, so that the peer decides about the cuts. Bytes
// unread at this moment count as one Write.
func (c *Conn) KeepSegments(keep bool) { c.change(c.in, func() { c.in.keepSegments(keep) }) }

// LimitWrite makes Write hand over at most n bytes at a time, each piece as if it were a Write of its own for a peer
// that keeps segments. Below 1 there is no limit.
func (c *Conn) LimitWrite(n int) { c.change(c.out, func() { c.out.limit = n }) }

// StallWriteAfter makes Write wait once k bytes in all were taken from this end, until its deadline or until either
// end is closed or reset. A negative k lets it go on.
func (c *Conn) StallWriteAfter(k int64) { c.change(c.out, func() { c.out.stall = k }) }

// FailWriteAfter makes Write return err, as it is, once k bytes in all were taken from this end. A nil err ends that.
func (c *Conn) FailWriteAfter(k int64, err error) {
	c.change(c.out, func() { c.out.writeFault = fault{k, err} })
}

// FailReadAfter makes Read return err, as it is, once k bytes in all were read by this end. A nil err ends that.
func (c *Conn) FailReadAfter(k int64, err error) {
	c.change(c.in, func() { c.in.readFault = fault{k, err} })
}

// Unread returns how many bytes the peer has written that this end has not read.
func (c *Conn) Unread() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.in.ring.n
}

// change makes a change to s that calls which are waiting have to see.
func (c *Conn) change(s *stream, f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	s.cond.Broadcast()
}

// failed gives err the form that errors of package net have.
func (c *Conn) failed(op string, err error) error {
	if _, ok := err.(syscall.Errno); ok {
		err = os.NewSyscallError(op, err)
	}
	return &net.OpError{Op: op, Net: "mem", Source: c.local, Addr: c.remote, Err: err}
}
