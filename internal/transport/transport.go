// Package transport is the seam between a connection and its bytes. There are
// two kinds: a TCP socket whose descriptor can be waited for and written to
// without blocking, and any other net.Conn (TLS, wrapped listeners, in
// memory), which can only be read and written with deadlines. A socket that is
// silent can do without its net.Conn; see Detach.
//
// One goroutine at a time reads and one writes; Abort and the deadlines may be
// used from anywhere. No method runs a caller's code
// while it holds a lock or is inside a syscall.RawConn callback, but for
// Room's, which only handle buffers.
package transport

import (
	"cmp"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"syscall"
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
	// TryFill is like Fill, but returns ErrNotReady instead of waiting. It
	// may wait nevertheless on a kind that cannot tell.
	TryFill(room Room) (int, error)
	// Raw is the descriptor that becomes readable with input, or nil.
	Raw() Descriptor
	// Read reads once into p, waiting for input.
	Read(p []byte) (int, error)
	// HasInput reports, without waiting, whether input may be there. It is
	// true on a kind that cannot tell, which asks the net.Conn's own method
	// of this name, if there is one.
	HasInput() bool
	// TryWrite writes what is taken of p without waiting, which is
	// nothing on a kind that cannot tell: one where Tries is false.
	TryWrite(p []byte) (int, error)
	Tries() bool
	// Write writes all of p, each Piece within the write timeout. With an
	// error, n says how much may have left: 0 means that the peer has
	// seen nothing of p and the connection can still be written to.
	Write(p []byte) (n int, err error)

	// In and Out are the deadlines of reads and writes.
	In() *Reads
	Out() *Writes

	// CloseWrite ends our direction and leaves the other open. It reports
	// false where the connection has no such thing.
	CloseWrite() (bool, error)
	// Abort closes at once, whatever other calls are doing.
	Abort() error
	// NetConn is the connection below; nil while detached.
	NetConn() net.Conn
	LocalAddr() net.Addr
	RemoteAddr() net.Addr

	// MayDetach says, before the first use, that nobody else has the
	// net.Conn, so that Detach may close it.
	MayDetach()
	// Detach lets go of the net.Conn and keeps a bare descriptor, which
	// takes a fraction of the memory, where that can be and nothing is
	// using the connection. It is for who reads, between two reads: what
	// After has asked for ends with it. A call that has to wait, which needs
	// Go's poller, makes a net.Conn again. Whoever watches the descriptor is
	// told of each change.
	Detach(w Watcher)
}

// A Descriptor lends the number of an open file, which stays open during f. It
// is what syscall.RawConn and a socket have in common.
type Descriptor interface {
	Control(f func(fd uintptr)) error
}

// A Watcher waits for a descriptor elsewhere. Moved says that from, open still,
// is going to be closed and to takes its place. With an error all stays as it
// was.
type Watcher interface {
	Moved(from, to int) error
}

// New wraps c; each Piece of a write has to be taken within writeTimeout,
// unless that is negative.
func New(c net.Conn, writeTimeout time.Duration) Conn {
	if t := newSocket(c, writeTimeout); t != nil {
		return t
	}
	return newStream(c, writeTimeout)
}

// ErrNotReady is returned by TryFill when there is no input.
var ErrNotReady = errors.New("transport: no input")

// rawConn returns the descriptor of a socket, and nil for any other connection,
// whose bytes may be elsewhere.
func rawConn(c net.Conn) syscall.RawConn {
	var raw syscall.RawConn
	var err error
	switch c := c.(type) {
	case *net.TCPConn:
		raw, err = c.SyscallConn()
	case *net.UnixConn:
		raw, err = c.SyscallConn()
	}
	if err != nil {
		return nil
	}
	return raw
}

// past is a deadline that has been missed whatever the clock says.
var past = time.Unix(1, 0)

// deadlines are those of both directions, each shared by the one who waits on
// it and those who interrupt it: an interrupt must not be lost to a wait that
// sets its own deadline a moment later.
type deadlines struct {
	conn net.Conn // nil: detached. Changed with both mu held

	mu          [2]sync.Mutex // by direction
	interrupted [2]bool
	armed       bool // a write that is bounded is in progress
	bound       time.Duration
	readBy      time.Duration // since epoch; while detached, or with TLS; 0: no deadline
}

// epoch is what readBy counts from.
var epoch = time.Now()

type direction uint8

const (
	in direction = iota
	out
)

// Reads are the reads of a connection, as who interrupts them knows it, and
// Writes its writes.
type (
	Reads  deadlines
	Writes deadlines
)

// In implements Conn.
func (d *deadlines) In() *Reads { return (*Reads)(d) }

// Out implements Conn.
func (d *deadlines) Out() *Writes { return (*Writes)(d) }

// NetConn implements Conn.
func (d *deadlines) NetConn() net.Conn { return d.conn }

// LocalAddr implements Conn.
func (d *deadlines) LocalAddr() net.Addr { return d.conn.LocalAddr() }

// RemoteAddr implements Conn.
func (d *deadlines) RemoteAddr() net.Addr { return d.conn.RemoteAddr() }

// MayDetach implements Conn: without effect on what cannot be detached.
func (d *deadlines) MayDetach() {}

// Detach implements Conn.
func (d *deadlines) Detach(Watcher) {}

// Abort implements Conn.
func (d *deadlines) Abort() error { return Abort(d.conn) }

// Abort closes c at once, whatever other calls are doing. tls.Conn.Close would wait
// for the write lock and then for its alert.
func Abort(c net.Conn) error {
	if secret, ok := c.(*tls.Conn); ok {
		return secret.NetConn().Close()
	}
	return c.Close()
}

func (d *deadlines) set(to direction, t time.Time) error {
	if d.conn == nil {
		// Nothing waits; the next net.Conn is told, by what is noted.
		if to == in && !t.Equal(past) {
			d.note(t)
		}
		return nil
	}
	if to == out {
		return d.conn.SetWriteDeadline(t)
	}
	if d.secret() != nil {
		d.answerBy(t)
	}
	return d.conn.SetReadDeadline(t)
}

// note keeps the deadline of reads.
func (d *deadlines) note(t time.Time) {
	d.readBy = 0
	if !t.IsZero() {
		d.readBy = cmp.Or(t.Sub(epoch), 1)
	}
}

// answerTime is what crypto/tls has at least for an answer that it writes, when a
// read has been interrupted or its time is over. A peer that reads has taken it long
// before, and one that does not take it in time is lost: crypto/tls cannot go on.
const answerTime = time.Second

// secret is the connection if it is TLS, or nil.
func (d *deadlines) secret() *tls.Conn {
	c, _ := d.conn.(*tls.Conn)
	return c
}

// answerBy has reads of a TLS connection end though they write: crypto/tls answers
// a KeyUpdate before it reads on (RFC 8446 §4.6.3), and the peer may take nothing.
// Writes in progress have a bound of their own, and while one is, the answer has to
// wait for it. It is called with mu of reads held.
func (d *deadlines) answerBy(t time.Time) {
	if t.Equal(past) {
		t = time.Now()
	}
	d.mu[out].Lock()
	defer d.mu[out].Unlock()
	d.note(t)
	if !d.armed && !d.interrupted[out] {
		_ = d.set(out, d.between())
	}
}

// mayAnswer begins a read of a TLS connection: one that follows an interrupt that
// found nobody may have an answer to write, too.
func (d *deadlines) mayAnswer() {
	d.mu[out].Lock()
	defer d.mu[out].Unlock()
	if d.readBy != 0 && !d.armed && !d.interrupted[out] {
		_ = d.set(out, d.between())
	}
}

// between returns the deadline of what is written while no write is in progress,
// with mu of writes held.
func (d *deadlines) between() time.Time {
	if d.readBy == 0 || d.secret() == nil {
		return time.Time{}
	}
	by, least := epoch.Add(d.readBy), time.Now().Add(answerTime)
	if by.Before(least) {
		return least
	}
	return by
}

func (d *deadlines) interrupt(to direction) {
	d.mu[to].Lock()
	defer d.mu[to].Unlock()
	d.interrupted[to] = true
	if d.set(to, past) != nil {
		// Closed already, or a connection without deadlines, whose calls
		// nothing else can end.
		_ = d.Abort()
	}
}

func (d *deadlines) resume(to direction) bool {
	d.mu[to].Lock()
	defer d.mu[to].Unlock()
	if !d.interrupted[to] {
		return false
	}
	d.interrupted[to] = false
	var none time.Time
	if to == out && !d.armed {
		none = d.between()
	}
	_ = d.set(to, none)
	return true
}

// Interrupt makes the call that waits, or the next one that would, fail,
// until Resume.
func (r *Reads) Interrupt() { (*deadlines)(r).interrupt(in) }

// Resume takes an interrupt back, and reports whether there was one.
func (r *Reads) Resume() bool { return (*deadlines)(r).resume(in) }

// After makes calls fail once timeout has passed.
func (r *Reads) After(timeout time.Duration) {
	r.mu[in].Lock()
	defer r.mu[in].Unlock()
	if !r.interrupted[in] {
		_ = (*deadlines)(r).set(in, time.Now().Add(timeout))
	}
}

// Interrupt makes the call that waits, or the next one that would, fail,
// until Resume.
func (w *Writes) Interrupt() { (*deadlines)(w).interrupt(out) }

// Resume takes an interrupt back, and reports whether there was one.
func (w *Writes) Resume() bool { return (*deadlines)(w).resume(out) }

// Bound sets how long each Piece may take from now on, in place of the write
// timeout, and limits the one in progress by it as well.
func (w *Writes) Bound(bound time.Duration) {
	d := (*deadlines)(w)
	d.mu[out].Lock()
	defer d.mu[out].Unlock()
	d.bound = bound
	if d.armed {
		d.apply()
	}
}

// apply sets the bound, with mu of writes held.
func (d *deadlines) apply() {
	switch {
	case d.interrupted[out]:
	case d.bound > 0:
		_ = d.set(out, time.Now().Add(d.bound))
	case d.readBy != 0:
		_ = d.set(out, time.Time{})
	}
}

// arm gives the write that follows its bound.
func (d *deadlines) arm() {
	d.mu[out].Lock()
	defer d.mu[out].Unlock()
	d.armed = true
	d.apply()
}

// disarm ends what arm began: an idle connection keeps no timer.
func (d *deadlines) disarm() {
	d.mu[out].Lock()
	defer d.mu[out].Unlock()
	d.armed = false
	if (d.bound > 0 || d.readBy != 0) && !d.interrupted[out] {
		_ = d.set(out, d.between())
	}
}

// closeWriter is what *net.TCPConn, *net.UnixConn and *tls.Conn have.
type closeWriter interface{ CloseWrite() error }
