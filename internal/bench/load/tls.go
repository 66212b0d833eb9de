package load

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sockeye-ws/websocket/internal/bench/hist"
)

// runTLS keeps a goroutine for each connection. Records cannot be taken from
// crypto/tls without blocking, and this, too, costs every server the same.
func runTLS(ctx context.Context, o Options, m *message) (*Result, error) {
	if o.Kind != Echo || o.Deflate != NoDeflate {
		return nil, errors.New("only echoes without compression are measured over TLS")
	}
	cert, err := x509.ParseCertificate(o.Cert)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	g := &tlsGroup{o: o, m: m, start: time.Now(), failed: make(chan error, o.Conns)}
	g.dialer = &tls.Dialer{Config: &tls.Config{RootCAs: roots, NextProtos: []string{"http/1.1"}}}
	for i := range o.Conns {
		c := &tlsConn{sent: make([]time.Duration, o.Outstanding)}
		if err = c.open(ctx, g); err != nil {
			err = fmt.Errorf("connection %d: %w", i, err)
			break
		}
		g.conns = append(g.conns, c)
	}
	for _, c := range g.conns {
		if err == nil {
			g.running.Go(func() {
				if err := c.run(g); !g.over.Load() {
					g.failed <- err
				}
			})
		}
	}
	if err == nil {
		err = g.window(ctx)
	}
	g.over.Store(true)
	for _, c := range g.conns {
		_ = c.net.(*tls.Conn).NetConn().Close()
	}
	g.running.Wait()
	if err != nil {
		return nil, err
	}
	return g.result(), nil
}

type tlsGroup struct {
	o       Options
	m       *message
	start   time.Time
	dialer  *tls.Dialer
	conns   []*tlsConn
	running sync.WaitGroup
	failed  chan error
	began   atomic.Int64 // when the window opened, since start; 0: it has not
	ended   atomic.Bool
	over    atomic.Bool
	// What the window has seen.
	messages atomic.Int64
	elapsed  time.Duration
}

func (g *tlsGroup) window(ctx context.Context) error {
	if err := g.pause(ctx, g.o.Warm); err != nil {
		return err
	}
	if err := g.o.Begin(); err != nil {
		return err
	}
	began := time.Since(g.start)
	g.began.Store(int64(began))
	for first := true; first || g.messages.Load() == 0; first = false {
		if err := g.pause(ctx, g.o.Time); err != nil {
			return err
		}
	}
	g.ended.Store(true)
	g.elapsed = time.Since(g.start) - began
	return g.o.End()
}

func (g *tlsGroup) pause(ctx context.Context, d time.Duration) error {
	select {
	case err := <-g.failed:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

func (g *tlsGroup) result() *Result {
	res := &Result{Elapsed: g.elapsed, Messages: g.messages.Load()}
	for _, c := range g.conns {
		res.Latency.Merge(&c.latency)
	}
	return res
}

type tlsConn struct {
	net     net.Conn
	dec     decoder
	next    uint64
	sent    []time.Duration
	latency hist.Histogram
}

// open leaves nothing unread: the server has nothing to say yet.
func (c *tlsConn) open(ctx context.Context, g *tlsGroup) (err error) {
	if c.net, err = g.dialer.DialContext(ctx, "tcp", g.o.Addr); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = c.net.Close()
		}
	}()
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.net.SetDeadline(deadline)
	}
	if g.o.Raw {
		return nil
	}
	if _, err = c.net.Write(handshakeRequest(g.o.Addr, NoDeflate)); err != nil {
		return err
	}
	head := make([]byte, 0, maxResponse)
	for {
		n, err := c.net.Read(head[len(head):cap(head)])
		if err != nil {
			return err
		}
		head = head[:len(head)+n]
		if n, _, err = checkResponse(head, NoDeflate); n > 0 || err != nil {
			return err
		}
	}
}

// run echoes until something fails, the end of the group included.
func (c *tlsConn) run(g *tlsGroup) error {
	in := make([]byte, 64<<10)
	var out []byte
	for n := g.o.Outstanding; ; {
		out = out[:0]
		now := time.Since(g.start)
		for range n {
			c.sent[c.next%uint64(len(c.sent))] = now
			out = g.m.appendTo(out, c.next)
			c.next++
		}
		if _, err := c.net.Write(out); err != nil {
			return err
		}
		for n = 0; n == 0; {
			got, err := c.net.Read(in)
			if err != nil {
				return err
			}
			if n, err = c.dec.feed(in[:got], g.m); err != nil {
				return err
			}
		}
		c.count(g, n)
	}
}

func (c *tlsConn) count(g *tlsGroup, n int) {
	began := time.Duration(g.began.Load())
	if began == 0 || g.ended.Load() {
		return
	}
	g.messages.Add(int64(n))
	now := time.Since(g.start)
	for i := range n {
		if at := c.sent[(c.dec.seq-uint64(n-i))%uint64(len(c.sent))]; at >= began {
			c.latency.Add(now-at, 1)
		}
	}
}
