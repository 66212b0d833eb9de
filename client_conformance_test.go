package websocket_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/conformance"
	"github.com/sockeye-ws/websocket/internal/memconn"
)

// A mirrorBench makes connections of clients whose servers are raw peers.
type mirrorBench struct {
	t       testing.TB
	url     string
	options *websocket.DialOptions
	settle  func()
	answer  string                   // with the extensions agreed on
	accept  func() (net.Conn, error) // the server's end of what is dialed next or has been just now
	stop    func()
}

func quiet(config websocket.Config) websocket.Config {
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.PingInterval == 0 {
		config.PingInterval = -1
	}
	return config
}

// clientsInMemory is for bubbles.
func clientsInMemory(t testing.TB, config websocket.Config) *mirrorBench {
	l := memconn.Listen()
	return &mirrorBench{t: t, url: "ws://example.com/ws", settle: synctest.Wait, accept: l.Accept, stop: func() { l.Close() },
		options: &websocket.DialOptions{Config: quiet(config), Transport: &http.Transport{
			DialContext: func(context.Context, string, string) (net.Conn, error) { return l.Dial() },
		}},
	}
}

// clientsOnLoopback is for real sockets.
func clientsOnLoopback(t testing.TB, config websocket.Config, secure bool) *mirrorBench {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	scheme := "ws"
	server, client := tlsConfigs()
	if secure {
		scheme = "wss"
		l = tls.NewListener(l, server)
	}
	return &mirrorBench{t: t, url: scheme + "://" + address + "/ws", accept: l.Accept, stop: func() { l.Close() },
		options: &websocket.DialOptions{Config: quiet(config), Transport: &http.Transport{TLSClientConfig: client.Clone()}},
	}
}

// open dials, and returns both ends. What stands behind comes with the answer.
func (b *mirrorBench) open(rule, behind string, lines ...string) (*conformance.Peer, *websocket.Conn) {
	b.t.Helper()
	return b.openWith(context.Background(), rule, behind, lines...)
}

func (b *mirrorBench) openWith(ctx context.Context, rule, behind string, lines ...string) (*conformance.Peer, *websocket.Conn) {
	b.t.Helper()
	accepted := make(chan *conformance.Peer, 1)
	go func() {
		nc, err := b.accept()
		if err != nil {
			b.t.Error(err)
			accepted <- nil
			return
		}
		p := conformance.NewPeer(b.t, nc)
		p.Rule, p.Settle, p.Server, p.Offer = rule, b.settle, true, b.answer
		p.Accept(behind, lines...)
		accepted <- p
	}()
	c, _, err := websocket.Dial(ctx, b.url, b.options)
	if err != nil {
		b.t.Fatalf("%s: %v", rule, err)
	}
	return <-accepted, c
}

// mirroredRows calls f in a subtest for each id that is about clients too.
func mirroredRows(t *testing.T, f func(t *testing.T, row conformance.Row, how reading)) {
	rowsByID(t, func(t *testing.T, row conformance.Row) {
		for _, how := range readings {
			// What a handler returns is a server's affair, but in event
			// mode the application's errors end a client's connection too.
			if row.ForServers() && (how.name != eventMode.name || row.ID == "B-08") {
				continue
			}
			f(t, row.Mirrored(), how)
		}
	})
}

func (b *mirrorBench) play(row conformance.Row, cut conformance.Cutting, how reading, patience time.Duration) bool {
	b.t.Helper()
	b.answer = row.Options.Deflate.Answer()
	p, c := b.open(row.ID, "")
	p.Patience = patience
	runs := make(chan *run, 1)
	go application(row, how, runs)(c)
	start := time.Now()
	row.Play(p, cut)
	if d := time.Since(start); b.settle != nil && d > time.Microsecond {
		p.Errorf("the answer took %v", d)
	}
	p.Close()
	over := closedTimer()
	if b.settle != nil {
		synctest.Wait()
	} else {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case r := <-runs:
		row.Check(p, r.record(p, over))
	default:
		if b.settle != nil {
			p.Errorf("L-14: the application has not returned")
			break
		}
		select {
		case r := <-runs:
			row.Check(p, r.record(p, over))
		case <-over:
			p.Errorf("L-14: the application has not returned")
		}
	}
	c.CloseNow()
	return !p.Failed()
}

func rowConfig(row conformance.Row) websocket.Config {
	if row.Options.CloseTimeout == 0 {
		row.Options.CloseTimeout = time.Hour
	}
	return websocket.Config{
		ReadLimit: row.Options.ReadLimit, MaxFragments: row.Options.MaxFragments,
		CloseTimeout: row.Options.CloseTimeout, WriteTimeout: row.Options.WriteTimeout,
		Compression: compressionOf(row),
	}
}

// a client keeps to the same frame rules, with the mask the other way
// round.
func TestQ07ClientConformanceInMemory(t *testing.T) {
	mirroredRows(t, func(t *testing.T, row conformance.Row, how reading) {
		cuttings := row.Cuttings()
		if how.name != readings[0].name {
			cuttings = []conformance.Cutting{cuttings[0], cuttings[len(cuttings)-1]}
		}
		synctest.Test(t, func(t *testing.T) {
			b := clientsInMemory(t, rowConfig(row))
			defer b.stop()
			for _, cut := range cuttings {
				cut.Name += ", by " + how.name
				if !b.play(row, cut, how, time.Minute) {
					return
				}
			}
		})
	})
}

func TestQ07ClientConformanceTCP(t *testing.T) { t.Parallel(); clientConformanceOver(t, false) }
func TestQ07ClientConformanceTLS(t *testing.T) { t.Parallel(); clientConformanceOver(t, true) }

func clientConformanceOver(t *testing.T, secure bool) {
	draws := 4
	if testing.Short() || underRace() {
		draws = 1
	}
	seed := mathrand.Uint64()
	rng := mathrand.New(mathrand.NewPCG(seed, 0))
	mirroredRows(t, func(t *testing.T, row conformance.Row, how reading) {
		if how.name != readings[0].name && how.name != eventMode.name {
			return
		}
		b := clientsOnLoopback(t, rowConfig(row), secure)
		defer b.stop()
		b.accept = unheard(b.accept)
		for _, cut := range row.Drawn(rng, draws) {
			cut.Name += fmt.Sprintf(", by %s, seed %#x", how.name, seed)
			if !b.play(row, cut, how, 20*time.Second) {
				return
			}
		}
	})
}
