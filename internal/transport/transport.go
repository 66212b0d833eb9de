// Package transport is the seam between a connection and its bytes. There are
// two kinds: a TCP socket whose descriptor can be waited for and written to
// without blocking, and any other net.Conn (TLS, wrapped listeners, in
// memory), which can only be read and written with deadlines.
//
// One goroutine at a time reads and one writes; Abort and the deadlines may be
// used from anywhere. No method runs a caller's code
// while it holds a lock or is inside a syscall.RawConn callback, but for
// Room's, which only handle buffers.
package transport

import (
	"net"
	"sync"
	"time"
)

// Piece is the most that is handed to one write call. Each piece has to be
// taken within the write timeout, so that "no progress" has a measure on a
// connection that does not tell how far a call has come.
const Piece = 64 << 10

// Room lends the place that input is read into.
type Room interface {
	// Open returns the room, never empty. It is called when input is
	// there or, with held set, before waiting for it.
	Open(held bool) []byte
	// Drop gives back what Open returned, as nothing was read into it.
	Drop()
}

// Conn is a connection as the layers above see it. Errors of interrupted or
// timed-out calls are os.ErrDeadlineExceeded.
type Conn interface {
	// Fill waits for input and reads once into room, which it opens as
	// late as this kind of connection allows: after the wait where
	// readiness can be seen. With idle set, the wait may be long and no
	// buffer should be held over it. It returns 0 only with an error,
	// io.EOF included; the room is dropped then.
	Fill(room Room, idle bool) (int, error)
	// Read reads once into p, waiting for input.
	Read(p []byte) (int, error)
	// TryWrite writes what is taken of p without waiting, which is
	// nothing on a kind that cannot tell.
	TryWrite(p []byte) (int, error)
	// Write writes all of p, each Piece within the write timeout. With an
	// error, n says how much may have left: 0 means that the peer has
	// seen nothing of p and the connection can still be written to.
	Write(p []byte) (n int, err error)

	// In and Out are the deadlines of reads and writes. Out's bound is
	// the write timeout.
	In() *Deadline
	Out() *Deadline

	// CloseWrite ends our direction and leaves the other open. It reports
	// false where the connection has no such thing.
	CloseWrite() (bool, error)
	// Abort closes at once, whatever other calls are doing.
	Abort() error
	// NetConn is the connection below, for its addresses.
	NetConn() net.Conn
}

// New wraps c; each Piece of a write has to be taken within writeTimeout,
// unless that is negative.
func New(c net.Conn, writeTimeout time.Duration) Conn {
	if t := newSocket(c, writeTimeout); t != nil {
		return t
	}
	return newStream(c, writeTimeout)
}

// past is a deadline that has been missed whatever the clock says.
var past = time.Unix(1, 0)

// A Deadline is one direction's, shared by the one who waits on it and those
// who interrupt it: an interrupt must not be lost to a wait that sets its own
// deadline a moment later.
type Deadline struct {
	set   func(time.Time) error
	abort func() error

	mu          sync.Mutex
	interrupted bool
	bound       time.Duration // of each armed wait; negative or 0: none
	armed       bool
}

// Interrupt makes the call that waits, or the next one that would, fail,
// until Resume.
func (d *Deadline) Interrupt() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.interrupted = true
	if d.set(past) != nil {
		// Closed already, or a connection without deadlines, whose calls
		// nothing else can end.
		d.abort()
	}
}

// Resume takes an interrupt back, and reports whether there was one.
func (d *Deadline) Resume() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.interrupted {
		return false
	}
	d.interrupted = false
	d.set(time.Time{})
	return true
}

// After makes calls fail once timeout has passed.
func (d *Deadline) After(timeout time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.interrupted {
		d.set(time.Now().Add(timeout))
	}
}

// Bound sets how long each call may take from now on, and limits the one in
// progress by it as well.
func (d *Deadline) Bound(bound time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bound = bound
	if d.armed && !d.interrupted && bound > 0 {
		d.set(time.Now().Add(bound))
	}
}

// arm gives the call that follows its bound.
func (d *Deadline) arm() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.armed = true
	if d.bound > 0 && !d.interrupted {
		d.set(time.Now().Add(d.bound))
	}
}

// disarm ends what arm began: an idle connection keeps no timer.
func (d *Deadline) disarm() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.armed = false
	if d.bound > 0 && !d.interrupted {
		d.set(time.Time{})
	}
}

// closeWriter is what *net.TCPConn, *net.UnixConn and *tls.Conn have.
type closeWriter interface{ CloseWrite() error }
