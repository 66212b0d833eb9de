package websocket

import (
	"fmt"

	"github.com/sockeye-ws/websocket/internal/memconn"
)

// PipeOptions say what the two ends made by [Pipe] are like. The zero value is
// ready to use.
type PipeOptions struct {
	// Handler, if not nil, serves the server's end on a goroutine of its
	// own, as that of an [Upgrader] would: its return is the end of the
	// connection.
	Handler func(*Conn) error

	// Subprotocol is what both ends return from [Conn.Subprotocol].
	Subprotocol string

	// Buffer is how many bytes one side may have written that the other has
	// not read, until writing waits, as on a socket. 0: 64 KiB.
	Buffer int

	// Server and Client are the limits of the two ends. Messages are
	// compressed if both enable it, as a handshake would agree on.
	Server, Client Config
}

// Pipe returns the two ends of a connection in memory, on which the handshake
// is done: for tests of what reads and writes a Conn. It works in a bubble of
// testing/synctest, where the time-outs of a connection take no time; close
// one of the ends before the bubble's function returns. o may be nil.
//
// The ends behave as over TCP: writing does not wait for a reader until the
// buffer is full, frames are real and masked by the client, the closing
// handshake takes place, and keepalive pings (after 30 s of silence: an end
// that nobody reads from does not answer). What is missing is the HTTP request,
// and so all that an [Upgrader] or [Dial] decide by it; for that, use
// httptest.NewServer and Dial. Nor is there latency, loss, or a network that
// cuts the bytes anywhere it likes.
//
// Pipe panics if a Config is one with which every handshake would fail.
func Pipe(o *PipeOptions) (server, client *Conn) {
	if o == nil {
		o = new(PipeOptions)
	}
	a, b := memconn.Pair()
	if o.Buffer > 0 {
		a.SetBuffer(o.Buffer)
		b.SetBuffer(o.Buffer)
	}
	var here, there terms
	here.set(o.Server)
	there.setClient(o.Client)
	server = newConn(pipeEnd{a}, nil, pipeTerms(&here), o.Subprotocol, nil)
	client = newConn(pipeEnd{b}, nil, pipeTerms(&there), o.Subprotocol, nil)
	if agreed := agree(&here.Compression, &there.Compression); agreed != nil {
		server.compressing(agreed)
		client.compressing(agreed)
	}
	for _, c := range []*Conn{server, client} {
		// Each has a clock of its own, which ends with it.
		l := &live{unpolled: true}
		l.initClock(c.cfg)
		c.join(l)
	}
	if o.Handler != nil {
		go server.serve(o.Handler)
	}
	return server, client
}

// A pipeEnd can be looked into without reading, like a socket. Of a connection that
// cannot, keepalive has to assume that something has come, while nobody reads.
type pipeEnd struct{ *memconn.Conn }

// HasInput is what the transport asks for.
func (p pipeEnd) HasInput() bool { return p.Unread() > 0 }

// agree is what a handshake between the two would agree on.
func agree(server, client *Compression) *deflation {
	if !server.Enable {
		return nil
	}
	for _, offer := range client.offers() {
		if a, ok := server.answer(offer); ok {
			return &a
		}
	}
	return nil
}

func pipeTerms(t *terms) *terms {
	if err := t.check(); err != nil {
		panic(fmt.Sprintf("websocket: pipe: %v", err))
	}
	return t
}
