package websocket

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket/internal/memconn"
	"github.com/sockeye-ws/websocket/internal/tls13"
)

// secretly runs f on one end of a connection over TLS, a client's if cfg is of one.
// The peer takes nothing from the moment on in which stalls asks it for new keys.
func secretly(t *testing.T, cfg *terms, f func(t *testing.T, c *Conn, peer *tls13.Peer, stalls func())) {
	t.Helper()
	tls13.Config() // the key is made outside the bubble
	synctest.Test(t, func(t *testing.T) {
		c, here, peer := overSecrets(t, cfg)
		defer func() { c.CloseNow(); <-c.Context().Done() }()
		f(t, c, peer, func() {
			synctest.Wait()
			here.StallWriteAfter(0)
			if err := errors.Join(peer.KeyUpdate(), peer.Flush()); err != nil {
				t.Error(err)
			}
		})
	})
}

// overSecrets returns a connection, what is below its TLS, and its peer.
func overSecrets(t *testing.T, cfg *terms) (*Conn, *memconn.Conn, *tls13.Peer) {
	t.Helper()
	here, there := memconn.Pair()
	t.Cleanup(func() { there.Close() })
	own, shake := tls.Server(here, tls13.Config()), tls13.Client
	if cfg.newKey != nil {
		own, shake = tls.Client(here, tls13.Config()), tls13.Server
	}
	shaken := make(chan error, 1)
	go func() { shaken <- own.Handshake() }()
	peer, err := shake(there, tls13.Config())
	if err == tls13.ErrSuite {
		t.Skip(err)
	}
	if err := errors.Join(err, <-shaken); err != nil {
		t.Fatal(err)
	}
	return newConn(own, nil, cfg, "", nil), here, peer
}

// alertTime is what crypto/tls gives its closing alert.
const alertTime = 5 * time.Second

// K-14, Q-08, L-06: the closing handshake has its bound though the peer asks for
// new keys, whose announcement it does not take.
func TestKeyUpdateWhileClosing(t *testing.T) {
	const timeout = 3 * time.Second
	cfg := Config{CloseTimeout: timeout, PingInterval: -1}
	secretly(t, on(cfg), func(t *testing.T, c *Conn, peer *tls13.Peer, stalls func()) {
		go func() {
			_, _, _ = c.Read(context.Background())
		}()
		synctest.Wait()
		began := time.Now()
		c.Close(StatusNormalClosure, "")
		stalls()
		<-c.Context().Done()
		if took := time.Since(began); took != timeout+alertTime {
			t.Errorf("a server that waits for the Close is done after %v", took)
		}
	})
	client := new(terms)
	client.setClient(cfg)
	secretly(t, client, func(t *testing.T, c *Conn, peer *tls13.Peer, stalls func()) {
		began := time.Now()
		peer.Data([]byte("\x88\x02\x03\xe8"))
		if err := peer.Flush(); err != nil {
			t.Fatal(err)
		}
		_, _, err := c.Read(context.Background())
		if e, ok := err.(*CloseError); !ok || e.Code != StatusNormalClosure {
			t.Fatal(err)
		}
		stalls()
		<-c.Context().Done()
		if took := time.Since(began); took != timeout+alertTime {
			t.Errorf("a client that waits for the server to close is done after %v", took)
		}
	})
}

// L-19: a read ends with its context, and the connection can be closed, while it
// announces new keys to a peer that takes nothing.
func TestKeyUpdateInRead(t *testing.T) {
	cfg := Config{CloseTimeout: -1, PingInterval: -1}
	const soon, atMost = time.Second, time.Second + 100*time.Millisecond
	secretly(t, on(cfg), func(t *testing.T, c *Conn, peer *tls13.Peer, stalls func()) {
		ctx, cancel := context.WithTimeout(context.Background(), soon)
		defer cancel()
		began := time.Now()
		go stalls()
		_, _, err := c.Read(ctx)
		if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took < soon || took > atMost {
			t.Errorf("Read: %v after %v", err, took)
		}
	})
}

// A connection whose reads announce new keys to a peer that takes nothing is ended
// by Close all the same. The Close frame has to wait for the announcement.
func TestKeyUpdateBeforeClose(t *testing.T) {
	for range 5 {
		c, here, peer := overSecrets(t, on(Config{CloseTimeout: -1, PingInterval: -1, WriteTimeout: 50 * time.Millisecond}))
		here.StallWriteAfter(0)
		if err := errors.Join(peer.KeyUpdate(), peer.Flush()); err != nil {
			t.Fatal(err)
		}
		read := make(chan error, 1)
		go func() {
			_, _, err := c.Read(context.Background())
			read <- err
		}()
		runtime.Gosched()
		c.Close(StatusNormalClosure, "")
		if err := <-read; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Read: %v", err)
		}
		<-c.Context().Done()
	}
}
