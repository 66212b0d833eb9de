package memconn

import (
	"fmt"
	"net"
	"sync"
)

// backlog is how many connections may wait for Accept before Dial waits, too.
const backlog = 128

// Listener makes connections out of pairs of Dial and Accept.
type Listener struct {
	addr Addr

	mu      sync.Mutex
	cond    sync.Cond // told of every change of the following
	dialed  int
	waiting []*Conn
	closed  bool
}

var _ net.Listener = (*Listener)(nil)

// Listen returns a new listener. Nothing else can reach it than its own Dial.
func Listen() *Listener {
	l := &Listener{addr: "server:1"}
	l.cond.L = &l.mu
	return l
}

// Dial returns the client's end of a new connection. Like connect(2), it does not wait for Accept as long as not
// too many others do.
func (l *Listener) Dial() (*Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.closed && len(l.waiting) >= backlog {
		l.cond.Wait()
	}
	if l.closed {
		return nil, l.failed("dial")
	}
	l.dialed++
	client, server := pair(Addr(fmt.Sprintf("client:%d", l.dialed)), l.addr)
	l.waiting = append(l.waiting, server)
	l.cond.Broadcast()
	return client, nil
}

// Accept returns the server's end, a *Conn, of the connection that was dialed first.
func (l *Listener) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.closed && len(l.waiting) == 0 {
		l.cond.Wait()
	}
	if l.closed {
		return nil, l.failed("accept")
	}
	c := l.waiting[0]
	l.waiting = l.waiting[1:]
	l.cond.Broadcast()
	return c, nil
}

// Close ends all calls of Accept and Dial that wait and resets connections that nobody has accepted.
func (l *Listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return l.failed("close")
	}
	for _, c := range l.waiting {
		c.Reset()
	}
	l.closed, l.waiting = true, nil
	l.cond.Broadcast()
	return nil
}

// Addr returns the address of the listener.
func (l *Listener) Addr() net.Addr { return l.addr }

// failed is the one way in which calls of a Listener fail, in the form that errors of package net have.
func (l *Listener) failed(op string) error {
	return &net.OpError{Op: op, Net: "mem", Addr: l.addr, Err: net.ErrClosed}
}
