package websocket

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
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

func clientTerms(cfg Config) *terms {
	t := new(terms)
	t.setClient(cfg)
	return t
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
	secretly(t, clientTerms(cfg), func(t *testing.T, c *Conn, peer *tls13.Peer, stalls func()) {
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
	const soon, atMost = time.Second, 2 * time.Second
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

// L-10: a place among MaxConns is free again though the read of net/http, which has
// to end before the connection can be taken, announces new keys to a peer that takes
// nothing.
func TestKeyUpdateInHandshake(t *testing.T) {
	tls13.Config()
	synctest.Test(t, func(t *testing.T) {
		u := &Upgrader{MaxConns: 1, Config: Config{Logger: slog.New(slog.DiscardHandler)}}
		l := &lastListener{Listener: memconn.Listen()}
		inside, stuck, upgraded := make(chan bool), make(chan bool), make(chan error, 1)
		srv := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			inside <- true
			<-stuck
			_, err := u.Upgrade(w, r)
			upgraded <- err
		})}
		go srv.Serve(tls.NewListener(l, tls13.Config()))
		defer srv.Close()
		nc, err := l.Listener.Dial()
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		peer, err := tls13.Client(nc, tls13.Config())
		if err == tls13.ErrSuite {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		peer.Data([]byte("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"))
		if err := peer.Flush(); err != nil {
			t.Fatal(err)
		}
		<-inside
		synctest.Wait() // the read waits for what follows the request
		l.last.StallWriteAfter(0)
		if err := errors.Join(peer.KeyUpdate(), peer.Flush()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		close(stuck)
		err = <-upgraded
		if took := time.Since(began); err == nil || took != hijackTime {
			t.Errorf("Upgrade: %v after %v", err, took)
		}
		if refused := u.live.reserve(u.MaxConns); refused != nil {
			t.Error(refused)
		}
	})
}

// A lastListener knows what it has accepted last.
type lastListener struct {
	*memconn.Listener
	last *memconn.Conn
}

func (l *lastListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.last = c.(*memconn.Conn)
	}
	return c, err
}

// A dial ends in its time though the server asks for new keys behind its answer, and
// does not take their announcement.
func TestKeyUpdateInDial(t *testing.T) {
	tls13.Config()
	ends := map[string]func(resp *http.Response, nc net.Conn) *DialError{
		"101": func(resp *http.Response, nc net.Conn) *DialError {
			_, wrong := takeConn(resp, nc, maxAnswer)
			return wrong
		},
		"404": func(resp *http.Response, nc net.Conn) *DialError {
			keepAnswer(resp, nc)
			return nil
		},
	}
	for name, end := range ends {
		synctest.Test(t, func(t *testing.T) {
			c, here, peer := overSecrets(t, clientTerms(Config{}))
			defer func() { c.CloseNow(); <-c.Context().Done() }()
			here.StallWriteAfter(0)
			peer.Data([]byte("\n")) // with which the answer ends
			if err := errors.Join(peer.KeyUpdate(), peer.Flush()); err != nil {
				t.Fatal(err)
			}
			nc := c.t.NetConn()
			if _, err := nc.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if wrong := end(&http.Response{Body: io.NopCloser(nc)}, nc); wrong != nil {
				t.Errorf("%s: %v", name, wrong)
			}
			if took := time.Since(began); took != answerTime {
				t.Errorf("%s: it took %v", name, took)
			}
		})
	}
}

// What a writer that cannot be hijacked is left with is what its server gives an
// answer.
func TestDeadlineAfterFailedHijack(t *testing.T) {
	for _, timeout := range []time.Duration{0, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			w := &hopeless{ResponseRecorder: httptest.NewRecorder()}
			r := httptest.NewRequest("GET", "https://example.com/", nil)
			for name, value := range map[string]string{"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
				r.Header.Set(name, value)
			}
			r = r.WithContext(context.WithValue(r.Context(), http.ServerContextKey, &http.Server{WriteTimeout: timeout}))
			u := &Upgrader{Config: Config{Logger: slog.New(slog.DiscardHandler)}}
			if _, err := u.Upgrade(w, r); err == nil || w.Code != http.StatusInternalServerError {
				t.Fatal(err, w.Code)
			}
			want := []time.Duration{hijackTime, timeout}
			if !slices.Equal(w.deadlines, want) {
				t.Errorf("the deadlines are %v, want %v", w.deadlines, want)
			}
		})
	}
}

// A hopeless ResponseWriter cannot be hijacked.
type hopeless struct {
	*httptest.ResponseRecorder
	deadlines []time.Duration // ahead; 0: none
}

func (w *hopeless) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, errors.New("hopeless")
}

func (w *hopeless) SetWriteDeadline(at time.Time) error {
	d := time.Duration(0)
	if !at.IsZero() {
		d = time.Until(at)
	}
	w.deadlines = append(w.deadlines, d)
	return nil
}
