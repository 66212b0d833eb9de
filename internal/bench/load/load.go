// Package load is the load generator: it opens connections to a WebSocket
// server, keeps messages outstanding on each, checks every answer byte by byte
// and measures how long they take. It has its own frame code and no WebSocket
// library, so that it costs every server the same.
package load

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/sockeye-ws/websocket/internal/bench/hist"
)

// A Kind is what the connections do.
type Kind uint8

const (
	Echo      Kind = iota // every message comes back where it was sent
	Fragments             // the same, in fragments with pings between
	Receive               // one message starts an endless stream of copies
	Fanout                // what the first connection sends comes on all
	Upgrade               // connections are opened and dropped
	Idle                  // one echo each or a few, then nothing
	Keepalive             // pings of the server are answered
)

// warmMessages is how many messages each connection has had back before the
// window, however long that takes: for the first large ones buffers grow.
const warmMessages = 3

// Options say what to measure.
type Options struct {
	Addr        string
	Kind        Kind
	Conns       int
	Size        int // payload bytes of a message
	Frames      int // of a message, for Fragments
	Outstanding int
	Raw         bool          // the server knows no WebSocket
	Deflate     Deflate       // of Echo and Idle
	Echoes      int           // of each connection, for Idle; 0: one
	Cert        []byte        // the server's certificate: use TLS
	Warm, Time  time.Duration // before and in the measured window

	// Begin and End are called at the edges of the window, while the
	// generator stands still.
	Begin, End func() error
	// Opened is called when all connections of Idle and Fanout are open,
	// those of Idle after their echo.
	Opened func() error
}

// A Result is what the window saw.
type Result struct {
	Messages int64
	Elapsed  time.Duration
	Latency  hist.Histogram // empty where there is nothing to measure

	// With Deflate, the payload of what has come back, and what it stands
	// for.
	Received, Plain int64
}

// Run measures. It returns an error as soon as anything is not as it should
// be, or when ctx ends.
func Run(ctx context.Context, o Options) (*Result, error) {
	var key [4]byte
	_, _ = rand.Read(key[:])
	m := newMessage(o.Size, key, o.Raw)
	switch o.Kind {
	case Fragments:
		m = newFragmented(o.Size, o.Frames, key, o.Raw)
	case Receive:
		// The server repeats the first message.
		m.outSeq, m.wantSeq = -1, -1
	}
	if o.Deflate != NoDeflate {
		if o.Kind != Echo && o.Kind != Idle {
			return nil, errors.New("only echoes are measured with compression")
		}
		var err error
		if m.pool, err = newPool(o.Size, key, o.Deflate); err != nil {
			return nil, err
		}
		m.op = opText
	}
	o.Outstanding = max(o.Outstanding, 1)
	if o.Cert != nil {
		return runTLS(ctx, o, m)
	}
	return runEpoll(ctx, o, m)
}
