// Package peer has the servers that are compared: for each library one that
// uses it as its documentation recommends, and one that echoes raw bytes and
// shows what the machine can do at best.
package peer

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"
)

// A Mode is what a server does with its connections.
type Mode string

const (
	Echo    Mode = "echo"    // sends every message back when it is whole
	Stream  Mode = "stream"  // sends every message back while it comes
	Writers Mode = "writers" // has many goroutines repeat the first message, for ever
	Fanout  Mode = "fanout"  // sends every message to all connections
	Large   Mode = "large"   // like Echo, but the raw server, too, copies through copySize
	Upgrade Mode = "upgrade" // like Echo, but the raw server, too, answers a handshake
	// Keepalive is like Echo with pings of the server in between.
	Keepalive Mode = "keepalive"
	// Deflate and DeflateTakeover are like Echo with permessage-deflate for
	// whoever offers it, without and with context takeover in both directions.
	Deflate         Mode = "deflate"
	DeflateTakeover Mode = "deflate-takeover"
)

// deflates reports whether mode is one of those with compression. Thresholds
// below which messages are not compressed are set to 1 byte in them: so what is
// measured of small messages is compression, and not who leaves it.
func (m Mode) deflates() bool { return m == Deflate || m == DeflateTakeover }

// WriterCount is how many goroutines write in mode Writers.
const WriterCount = 64

// readLimit is for the libraries that have one: above all that is sent.
const readLimit = 32 << 20

// copySize is the buffer of those who copy from a reader to a writer.
const copySize = 32 << 10

// A Server is one of those compared.
type Server struct {
	Name     string
	Module   string // its module path; "": the standard library
	Page     string // where its use is documented
	Settings string // and what of it applies here
	Raw      bool   // it does not speak WebSocket
	Only     []Mode // what it is there for; nil: everything
	Lacks    map[Mode]string
	Splits   string   // why it fails on fragmented messages; "": it does not
	Plain    string   // why it cannot take a TLS listener; "": it can
	Pings    bool     // it does so by itself
	Sockets  bool     // it drives the sockets itself and can do without none
	Command  []string // what to start, from the benchmark's directory; nil: it is in this program

	serve func(net.Listener, *work) error
}

// Serve serves the connections of ln in the given mode, until ln is closed. In
// mode Keepalive one is pinged when nothing has come for the time of ping. With
// idle set no handler of an echo keeps a buffer of its own while it waits.
func (s *Server) Serve(ln net.Listener, mode Mode, idle bool, ping time.Duration, stats *Stats) error {
	return s.serve(ln, &work{mode: mode, idle: idle, ping: ping, stats: stats})
}

// Stats is what a server tells about itself.
type Stats struct {
	Members atomic.Int64 // connections that a fan-out reaches
}

// All are the servers. The library itself comes first, then those that do no
// more than they must: bytes on a socket, and a handshake on net/http.
var All = []*Server{sockeyeServer, rawServer, hijackServer, sockeyeEventsServer, sockeyeWideServer, sockeyeBetterServer, gorillaServer, coderServer, gwsServer, gobwasServer, gobwasLowServer, gobwasHTTPServer, xnetServer, fasthttpServer, nbioServer}

// Optional are those that need more than this module and are run when asked for
// only.
var Optional = []*Server{uwsServer}

// ByName returns the server of that name, or nil.
func ByName(name string) *Server {
	for _, s := range slices.Concat(All, Optional) {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// A conn is a library's connection.
type conn interface {
	// Echo and Stream serve their modes until the connection ends. With idle
	// set Echo keeps no buffer for the next message.
	Echo(idle bool) error
	Stream() error
	// Receive returns the next message, in p if there is room.
	Receive(p []byte) ([]byte, error)
	sender
}

// work is what a server does with its connections.
type work struct {
	mode  Mode
	idle  bool
	ping  time.Duration // of silence, before a ping
	stats *Stats
	group group
	bench func(conn) // in place of mode, for micro-benchmarks
}

// run serves one connection of a library that is asked for messages.
func (w *work) run(c conn) {
	if w.bench != nil {
		w.bench(c)
		return
	}
	switch w.mode {
	case Echo, Large, Upgrade, Keepalive, Deflate, DeflateTakeover:
		_ = c.Echo(w.idle)
	case Stream:
		_ = c.Stream()
	case Writers:
		if p, err := c.Receive(nil); err == nil {
			writers(c, p)
		}
	case Fanout:
		w.spread(c)
	}
}

// spread sends what comes from c to every member.
func (w *work) spread(c conn) {
	w.join(c)
	defer w.leave(c)
	var buf []byte
	for {
		p, err := c.Receive(buf[:0])
		if err != nil {
			return
		}
		buf = p
		w.group.send(p)
	}
}

// writers has its goroutines send p until the connection ends.
func writers(c sender, p []byte) {
	failed := make(chan struct{}, WriterCount)
	for range WriterCount {
		go func() {
			for c.Send(p) == nil {
			}
			failed <- struct{}{}
		}()
	}
	for range WriterCount {
		<-failed
	}
}

// httpServer serves h as net/http does by default.
func httpServer(ln net.Listener, h http.HandlerFunc) error {
	s := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
	if err := s.Serve(ln); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// copyMessage copies with a buffer of copySize, whatever other ways r and w
// may know.
func copyMessage(w io.Writer, r io.Reader, buf []byte) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, buf)
	return err
}

// readAll appends what is left of r to p, like io.ReadAll.
func readAll(r io.Reader, p []byte) ([]byte, error) {
	for {
		if len(p) == cap(p) {
			p = append(p, 0)[:len(p)]
		}
		n, err := r.Read(p[len(p):cap(p)])
		p = p[:len(p)+n]
		if err == io.EOF {
			return p, nil
		}
		if err != nil {
			return p, err
		}
	}
}

var background = context.Background()
