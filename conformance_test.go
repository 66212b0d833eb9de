package websocket_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/conformance"
	"github.com/sockeye-ws/websocket/internal/memconn"
)

// A bench is an HTTP server and a way to connect raw peers to it.
type bench struct {
	t      testing.TB
	server *http.Server
	dial   func() (net.Conn, error)
	settle func()              // synctest.Wait in a bubble
	tune   func(*memconn.Conn) // prepares the server's end of a memconn before it is used
	served chan error          // what Serve returned
}

// start serves h on l until the bench is stopped.
func (b *bench) start(l net.Listener, h http.Handler) {
	if u, ok := h.(*websocket.Upgrader); ok && u.PingInterval == 0 {
		u.PingInterval = -1 // the tests of keepalive set it
	}
	b.server = &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
	b.served = make(chan error, 1)
	go func() { b.served <- b.server.Serve(l) }()
}

func (b *bench) stop() {
	b.server.Close()
	<-b.served
}

// tuned lets a bench see the connections that its listener accepts.
type tuned struct {
	*memconn.Listener
	b *bench
}

func (l tuned) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil && l.b.tune != nil {
		l.b.tune(c.(*memconn.Conn))
	}
	return c, err
}

// inMemory is for bubbles.
func inMemory(t testing.TB, h http.Handler) *bench {
	l := memconn.Listen()
	b := &bench{t: t, settle: synctest.Wait, dial: func() (net.Conn, error) { return l.Dial() }}
	b.start(tuned{l, b}, h)
	return b
}

func overTCP(t testing.TB, h http.Handler) *bench { return loopback(t, h, false, 0) }
func overTLS(t testing.TB, h http.Handler) *bench { return loopback(t, h, true, 0) }

// loopback is a bench on real sockets, with or without TLS, whose buffers are
// of about the given size unless that is 0.
func loopback(t testing.TB, h http.Handler, secure bool, size int) *bench {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if size > 0 {
		l = smallSockets{l, size}
	}
	server, client := tlsConfigs()
	if secure {
		l = tls.NewListener(l, server)
	}
	b := &bench{t: t, dial: func() (net.Conn, error) {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return nil, err
		}
		if size > 0 {
			c.(*net.TCPConn).SetReadBuffer(size)
		}
		if secure {
			return tls.Client(c, client), nil
		}
		return c, nil
	}}
	b.start(l, h)
	return b
}

type smallSockets struct {
	net.Listener
	size int
}

func (l smallSockets) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		c.(*net.TCPConn).SetWriteBuffer(l.size)
	}
	return c, err
}

// tlsConfigs are two ends that trust each other, made once.
var tlsConfigs = sync.OnceValues(func() (server, client *tls.Config) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS13},
		&tls.Config{RootCAs: roots, ServerName: "example.com", MinVersion: tls.VersionTLS13,
			ClientSessionCache: tls.NewLRUClientSessionCache(1)} // the handshakes are most of the time
})

// peer connects a raw peer and opens the connection.
func (b *bench) peer(rule string) *conformance.Peer {
	b.t.Helper()
	p := b.peerUnopened(rule)
	p.Handshake()
	return p
}

// peerFor opens the connection that a row is about.
func (b *bench) peerFor(row conformance.Row) *conformance.Peer {
	b.t.Helper()
	p := b.peerUnopened(row.ID)
	p.Offer = row.Options.Deflate.Offer()
	p.Handshake()
	return p
}

func (b *bench) peerUnopened(rule string) *conformance.Peer {
	b.t.Helper()
	conn, err := b.dial()
	if err != nil {
		b.t.Fatal(err)
	}
	p := conformance.NewPeer(b.t, conn)
	p.Rule, p.Settle = rule, b.settle
	return p
}

// A reading is one way of an application to take the messages of a
// connection. It returns what each returns, or the error of the connection.
type reading struct {
	name string
	all  func(c *websocket.Conn, each func(websocket.MessageType, []byte) error) error
}

var readings = []reading{
	{"Read", func(c *websocket.Conn, each func(websocket.MessageType, []byte) error) error {
		for {
			typ, data, err := c.Read(context.Background())
			if err == nil {
				err = each(typ, data)
			}
			if err != nil {
				return err
			}
		}
	}},
	{"ReadAppend", func(c *websocket.Conn, each func(websocket.MessageType, []byte) error) error {
		var buf []byte
		for {
			typ, data, err := c.ReadAppend(context.Background(), buf[:0])
			if err == nil {
				buf = data
				err = each(typ, data)
			}
			if err != nil {
				return err
			}
		}
	}},
	{"Reader", func(c *websocket.Conn, each func(websocket.MessageType, []byte) error) error {
		for {
			typ, r, err := c.Reader(context.Background())
			if err != nil {
				return err
			}
			data, err := io.ReadAll(r)
			if err == nil {
				err = each(typ, data)
			}
			if err != nil {
				return err
			}
		}
	}},
	{"Messages", func(c *websocket.Conn, each func(websocket.MessageType, []byte) error) error {
		for m, err := range c.Messages(context.Background()) {
			if err == nil {
				err = each(m.Type, m.Data)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}},
	eventMode,
}

// eventMode is the way of an application that is told; it stays until the end
// all the same, as the tests want to know how that was.
var eventMode = reading{"Start", func(c *websocket.Conn, each func(websocket.MessageType, []byte) error) error {
	e := &listener{each: each, closed: make(chan error, 1)}
	c.Start(e)
	return <-e.closed
}}

type listener struct {
	each   func(websocket.MessageType, []byte) error
	err    error // of the application
	closed chan error
}

func (l *listener) Message(c *websocket.Conn, typ websocket.MessageType, p []byte) error {
	if l.err = l.each(typ, bytes.Clone(p)); l.err == errReturn { // there is no return but by closing
		return c.Close(websocket.StatusNormalClosure, "")
	}
	return l.err
}

func (l *listener) Closed(_ *websocket.Conn, err error) { l.closed <- cmp.Or(l.err, err) }

// A run is what the application saw of one connection.
type run struct {
	conn     *websocket.Conn
	messages []conformance.Message
	err      error // what ended its loop
}

// application is the handler that a row names. It reports each connection.
func application(row conformance.Row, how reading, runs chan<- *run) func(*websocket.Conn) error {
	return func(c *websocket.Conn) (err error) {
		r := &run{conn: c}
		defer func() { r.err = err; runs <- r }()
		return how.all(c, func(typ websocket.MessageType, data []byte) error {
			r.messages = append(r.messages, conformance.Message{Text: typ == websocket.Text, Data: string(data)})
			switch row.Handler {
			case conformance.Echo:
			case conformance.TextOnly:
				if typ != websocket.Text {
					return &websocket.CloseError{Code: websocket.StatusUnsupportedData, Reason: "text only"}
				}
			case conformance.BinaryOnly:
				if typ != websocket.Binary {
					return &websocket.CloseError{Code: websocket.StatusUnsupportedData, Reason: "bytes only"}
				}
			case conformance.Policy:
				return &websocket.CloseError{Code: websocket.StatusPolicyViolation, Reason: "enough"}
			case conformance.Errors:
				return errors.New("secret")
			case conformance.Panics:
				panic("secret")
			case conformance.Returns:
				return errReturn
			case conformance.Closes:
				return c.Close(websocket.StatusGoingAway, "bye")
			default:
				panic("no handler " + row.Handler)
			}
			return c.Write(context.Background(), typ, data)
		})
	}
}

var errReturn = errors.New("return without an error")

// upgrader serves a row. No row needs the wait for the peer's Close to end by
// itself, so it does not.
func upgrader(row conformance.Row, how reading, runs chan<- *run) *websocket.Upgrader {
	handler := application(row, how, runs)
	if row.Options.CloseTimeout == 0 {
		row.Options.CloseTimeout = time.Hour
	}
	return &websocket.Upgrader{
		Handler: func(c *websocket.Conn) error {
			err := handler(c)
			if err == errReturn {
				return nil
			}
			return err
		},
		Subprotocols: []string{"chat", "superchat"},
		Config: websocket.Config{
			ReadLimit: row.Options.ReadLimit, MaxFragments: row.Options.MaxFragments,
			CloseTimeout: row.Options.CloseTimeout, WriteTimeout: row.Options.WriteTimeout,
			Logger:      slog.New(slog.DiscardHandler),
			Compression: compressionOf(row),
		},
	}
}

// compressionOf is what a row's connection agrees on, if it is about that.
func compressionOf(row conformance.Row) websocket.Compression {
	return websocket.Compression{Enable: row.Options.Deflate != conformance.NoDeflate, Threshold: -1}
}

// record is what a row compares: what every call of the connection returns
// once it is over. over is closed when there is no more patience.
func (r *run) record(p *conformance.Peer, over <-chan time.Time) conformance.Record {
	if !isDone(r.conn) {
		select {
		case <-r.conn.Context().Done():
		case <-over:
			p.Errorf("the connection's Context is not done after its end")
			return conformance.Record{}
		}
	}
	var closed *websocket.CloseError
	if cause := context.Cause(r.conn.Context()); !errors.As(cause, &closed) {
		p.Errorf("X-17: the cause of the Context is %v, not a CloseError", cause)
		return conformance.Record{}
	}
	// The application's own errors end its loop too; those of the
	// connection must be the one that everything else reports (K-23).
	var read *websocket.CloseError
	if errors.As(r.err, &read) && (read.Code != closed.Code || read.Remote != closed.Remote || read.Reason != closed.Reason) {
		p.Errorf("K-23: reading reports %v, the Context %v", read, closed)
	}
	return conformance.Record{Messages: r.messages, Code: int(closed.Code), Reason: closed.Reason, Remote: closed.Remote}
}

// isDone says whether all is over.
func isDone(c *websocket.Conn) bool {
	select {
	case <-c.Context().Done():
		return true
	default:
		return false
	}
}

// rowsByID calls f in a subtest for each id, with the rows of it.
func rowsByID(t *testing.T, f func(t *testing.T, row conformance.Row)) {
	var ids []string
	rows := map[string][]conformance.Row{}
	for _, row := range conformance.Rows() {
		if rows[row.ID] == nil {
			ids = append(ids, row.ID)
		}
		rows[row.ID] = append(rows[row.ID], row)
	}
	for _, id := range ids {
		t.Run(id, func(t *testing.T) {
			for _, row := range rows[id] {
				f(t, row)
			}
		})
	}
}

// TestConformanceInMemory plays every row in every cutting, with exact times:
// no verdict waits for anything, so none takes any time at all.
func TestConformanceInMemory(t *testing.T) {
	rowsByID(t, func(t *testing.T, row conformance.Row) {
		for i, how := range readings {
			cuttings := row.Cuttings()
			if i > 0 { // the cut meets the same code, whoever reads
				cuttings = []conformance.Cutting{cuttings[0], cuttings[len(cuttings)-1]}
			}
			synctest.Test(t, func(t *testing.T) {
				runs := make(chan *run, 1)
				b := inMemory(t, upgrader(row, how, runs))
				defer b.stop()
				for _, cut := range cuttings {
					cut.Name += ", by " + how.name
					if !playInMemory(t, b, row, cut, runs) {
						return // the other cuts would say the same again
					}
				}
			})
		}
	})
}

func playInMemory(t *testing.T, b *bench, row conformance.Row, cut conformance.Cutting, runs <-chan *run) bool {
	t.Helper()
	p := b.peerFor(row)
	start := time.Now()
	row.Play(p, cut)
	if d := time.Since(start); d > time.Microsecond { // what looking for nothing takes
		p.Errorf("the answer took %v", d)
	}
	p.Close()
	synctest.Wait()
	select {
	case r := <-runs:
		row.Check(p, r.record(p, closedTimer()))
	default:
		p.Errorf("L-14: the handler has not returned")
	}
	return !p.Failed()
}

// closedTimer is patience that has run out.
func closedTimer() <-chan time.Time {
	over := make(chan time.Time)
	close(over)
	return over
}

// TestConformanceTCP plays every row where time passes by itself, in drawn
// cuts.
func TestConformanceTCP(t *testing.T) { t.Parallel(); conformanceOver(t, overTCP, readings[0]) }

// TestConformanceTCPEvents does so in event mode.
func TestConformanceTCPEvents(t *testing.T) { t.Parallel(); conformanceOver(t, overTCP, eventMode) }

// TestConformanceTLS does so on an encrypted transport (S-05, M-07).
func TestConformanceTLS(t *testing.T) { t.Parallel(); conformanceOver(t, overTLS, readings[0]) }

// TestConformanceTLSEvents does so in event mode.
func TestConformanceTLSEvents(t *testing.T) { t.Parallel(); conformanceOver(t, overTLS, eventMode) }

func conformanceOver(t *testing.T, over func(testing.TB, http.Handler) *bench, how reading) {
	draws := 16
	if testing.Short() || underRace() {
		draws = 2
	}
	seed := mathrand.Uint64()
	rng := mathrand.New(mathrand.NewPCG(seed, 0))
	rowsByID(t, func(t *testing.T, row conformance.Row) {
		runs := make(chan *run, 1)
		b := over(t, upgrader(row, how, runs))
		defer b.stop()
		b.dial = unheard(b.dial)
		for _, cut := range row.Drawn(rng, draws) {
			cut.Name += fmt.Sprintf(", seed %#x", seed)
			if !playInTime(b, row, cut, runs) {
				return
			}
		}
	})
}

func playInTime(b *bench, row conformance.Row, cut conformance.Cutting, runs <-chan *run) bool {
	b.t.Helper()
	p := b.peerFor(row)
	p.Patience = 20 * time.Second
	row.Play(p, cut)
	p.Close()
	patience := time.NewTimer(p.Patience)
	defer patience.Stop()
	select {
	case r := <-runs:
		row.Check(p, r.record(p, patience.C))
	case <-patience.C:
		p.Errorf("L-14: the handler has not returned")
	}
	return !p.Failed()
}
