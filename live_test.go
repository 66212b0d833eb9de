package websocket_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/conformance"
	"github.com/sockeye-ws/websocket/internal/memconn"
)

// wantFull checks that a request finds no place: 503 with a time to come
// again, and nothing is hijacked.
func wantFull(t *testing.T, u *websocket.Upgrader) {
	t.Helper()
	_, server := memconn.Pair()
	w := &hijackSpy{newHSWriter(server), func(net.Conn, *bufio.ReadWriter) { t.Error("hijacked, and there is no place") }}
	u.ServeHTTP(w, hsRequest())
	answer := w.ResponseWriter.(*hsWriter)
	if answer.Code != 503 || answer.Header().Get("Retry-After") != "5" {
		t.Errorf("the answer is %d %v, want 503 with Retry-After", answer.Code, answer.Header())
	}
}

// Beyond MaxConns there is 503. What is wrong with a request is found before,
// and a place is free again once a connection is over.
func TestL10MaxConns(t *testing.T) {
	u := &websocket.Upgrader{MaxConns: 2}
	inHouse(t, u, func(t *testing.T, b *bench) {
		peers := b.peers(2, "as many as fit")
		wantFull(t, u)
		for status, spoil := range map[int]func(r *http.Request){
			405: func(r *http.Request) { r.Method = "POST" },
			426: func(r *http.Request) { r.Header.Del("Upgrade") },
			400: func(r *http.Request) { r.Header.Del("Sec-WebSocket-Key") },
			403: func(r *http.Request) { r.Header.Set("Origin", "https://elsewhere.example") },
		} {
			r := hsRequest()
			spoil(r)
			if w := wantAnswer(t, u, r, status); w.Header().Get("Retry-After") != "" {
				t.Errorf("%d has Retry-After", status)
			}
		}
		for i := range 20 {
			p := peers[i%2]
			p.Write("88 82 z 03e8")
			p.Want("88 02 03e8")
			wantFull(t, u) // it has not ended before the transport is closed
			p.WantEOF()
			p.Close()
			synctest.Wait()
			peers[i%2] = b.peers(1, "a free place is taken again")[0]
			wantFull(t, u)
		}
		for _, p := range peers {
			p.Close()
		}
		synctest.Wait()
	})
}

// A handshake that is being answered has its place already.
func TestMaxConnsCountsHandshakes(t *testing.T) {
	u := &websocket.Upgrader{MaxConns: 1}
	inHouse(t, u, func(t *testing.T, b *bench) {
		var server *memconn.Conn
		b.tune = func(c *memconn.Conn) { server = c; c.StallWriteAfter(0) }
		opened := async(func() *conformance.Peer { return b.peer("a 101 that takes a while") })
		synctest.Wait()
		wantFull(t, u)
		server.StallWriteAfter(-1)
		p := done(t, "the handshake", opened)
		wantFull(t, u)
		p.Close()
		synctest.Wait()
	})
}

// A faulty conn fails where it is told to.
type faultyConn struct {
	*memconn.Conn
	deadlines int // that can be set before one fails
}

func (c *faultyConn) SetDeadline(at time.Time) error {
	if c.deadlines--; c.deadlines < 0 {
		return errors.New("no more deadlines")
	}
	return c.Conn.SetDeadline(at)
}

// A handshake that fails in whichever way leaves its place to others.
func TestMaxConnsAfterFailedHandshakes(t *testing.T) {
	faulty := func(deadlines int, prepare func(server, client *memconn.Conn)) func() http.ResponseWriter {
		return func() http.ResponseWriter {
			client, server := memconn.Pair()
			prepare(server, client)
			return newHSWriter(&faultyConn{server, deadlines})
		}
	}
	sound := func(server, client *memconn.Conn) {}
	for _, test := range []struct {
		name   string
		writer func() http.ResponseWriter
		open   func(header http.Header) error
	}{
		{"nothing to hijack", func() http.ResponseWriter { return newHSWriter(nil).ResponseRecorder }, nil},
		{"the first deadline fails", faulty(0, sound), nil},
		{"the second deadline fails", faulty(1, sound), nil},
		{"the write of the 101 fails", faulty(9, func(s, _ *memconn.Conn) { s.FailWriteAfter(7, io.ErrClosedPipe) }), nil},
		{"the client is gone", faulty(9, func(_, c *memconn.Conn) { c.Close() }), nil},
		{"the client does not take the 101", faulty(9, func(s, _ *memconn.Conn) { s.StallWriteAfter(7) }), nil},
		{"Open refuses", faulty(9, sound), func(http.Header) error { return &websocket.HandshakeError{Status: 401} }},
		{"Open fails", faulty(9, sound), func(http.Header) error { return io.EOF }},
		{"Open panics", faulty(9, sound), func(http.Header) error { panic(http.ErrAbortHandler) }},
		{"Open sets a header that it may not", faulty(9, sound), func(h http.Header) error { h.Set("Upgrade", "x"); return nil }},
	} {
		t.Run(test.name, func(t *testing.T) {
			fail := test.open
			u := &websocket.Upgrader{MaxConns: 1}
			u.Open = func(_ *http.Request, header http.Header) (func(*websocket.Conn) error, error) {
				if fail != nil {
					return nil, fail(header)
				}
				return func(c *websocket.Conn) error { return <-readingOn(c) }, nil
			}
			if test.name == "Open sets a header that it may not" {
				u.Open = func(_ *http.Request, header http.Header) (func(*websocket.Conn) error, error) {
					if fail != nil {
						fail(header)
					}
					return func(c *websocket.Conn) error { return <-readingOn(c) }, nil
				}
			}
			inHouse(t, u, func(t *testing.T, b *bench) {
				for range 3 {
					func() {
						defer func() { recover() }()
						u.ServeHTTP(test.writer(), hsRequest())
					}()
				}
				synctest.Wait()
				if n := count(u); n > 0 {
					t.Errorf("%d connections", n)
				}
				fail = nil
				p := b.peers(1, "there is a place after handshakes that failed")[0]
				wantFull(t, u)
				result := shutdown(context.Background(), u) // it does not wait for them either
				p.Want("88 02 03e9")
				answers(p)
				if err := done(t, "Shutdown", result); err != nil {
					t.Errorf("Shutdown: %v", err)
				}
			})
		})
	}
}

// Connections of Upgrade count as those of ServeHTTP do, and are closed by
// Shutdown too, which cannot wait for their callers.
func TestLiveUpgrade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &websocket.Upgrader{MaxConns: 1, Config: websocket.Config{Logger: slog.New(slog.DiscardHandler)}}
		client, server := memconn.Pair()
		c, err := u.Upgrade(newHSWriter(server), hsRequest())
		if err != nil {
			t.Fatal(err)
		}
		io.ReadFull(client, make([]byte, client.Unread()))
		var full *websocket.HandshakeError
		if _, err := u.Upgrade(newHSWriter(nil), hsRequest()); !errors.As(err, &full) || full.Status != 503 {
			t.Errorf("Upgrade: %v, want 503", err)
		}
		p := conformance.NewPeer(t, client)
		p.Rule = "a connection of Upgrade is closed by Shutdown"
		result := shutdown(context.Background(), u)
		p.Want("88 02 03e9")
		answers(p)
		if err := done(t, "Shutdown", result); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		wantClosed(t, wantOver(t, c), 1001, false)
		if _, err := u.Upgrade(newHSWriter(nil), hsRequest()); !errors.As(err, &full) || full.Status != 503 {
			t.Errorf("Upgrade after Shutdown: %v, want 503", err)
		}
	})
}

// What a server cannot send, and what no peer could keep up with, fails every
// handshake with 500, and the log says why.
func TestBadSettings(t *testing.T) {
	for said, u := range map[string]*websocket.Upgrader{
		"ShutdownCode 999":                           {ShutdownCode: 999},
		"ShutdownCode 1005":                          {ShutdownCode: 1005},
		"ShutdownCode 1006":                          {ShutdownCode: 1006},
		"ShutdownCode 1010":                          {ShutdownCode: 1010},
		"ShutdownCode 1015":                          {ShutdownCode: 1015},
		"ShutdownCode 5000":                          {ShutdownCode: 5000},
		"ShutdownReason is not UTF-8":                {ShutdownReason: "\xff"},
		"ShutdownReason is not UTF-8 of at most 123": {ShutdownReason: strings.Repeat("r", 124)},
		"PingTimeout is -1":                          {Config: websocket.Config{PingTimeout: -1}},
	} {
		var log bytes.Buffer
		u.Logger = slog.New(slog.NewTextHandler(&log, nil))
		u.Handler = func(*websocket.Conn) error { t.Error("a handler runs"); return nil }
		w := wantAnswer(t, u, hsRequest(), 500)
		if !strings.Contains(log.String(), said) || strings.Contains(w.Body.String(), "Shutdown") {
			t.Errorf("the log is %q, want %q; the answer is %q", &log, said, w.Body)
		}
		if err := u.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	}
}

// Conns yields those that are open, no more and no less.
func TestConns(t *testing.T) {
	u := &websocket.Upgrader{Handler: func(c *websocket.Conn) error { <-c.Context().Done(); return nil }}
	for range u.Conns() {
		t.Error("an unused Upgrader has connections")
	}
	var mu sync.Mutex
	open := map[*websocket.Conn]bool{}
	handler := u.Handler
	u.Handler = func(c *websocket.Conn) error {
		mu.Lock()
		open[c] = true
		mu.Unlock()
		return handler(c)
	}
	inHouse(t, u, func(t *testing.T, b *bench) {
		check := func(when string) {
			t.Helper()
			synctest.Wait()
			yielded := map[*websocket.Conn]bool{}
			for c := range u.Conns() {
				if yielded[c] {
					t.Errorf("%s: one is yielded twice", when)
				}
				yielded[c] = true
			}
			mu.Lock()
			defer mu.Unlock()
			if !maps.Equal(yielded, open) {
				t.Errorf("%s: %d connections, %d are open", when, len(yielded), len(open))
			}
		}
		all := u.Conns()
		peers := b.peers(30, "open")
		check("all")
		n := 0
		for c := range all { // made before they were
			if n++; n > 10 {
				break
			}
			mu.Lock()
			delete(open, c)
			mu.Unlock()
			c.CloseNow() // and none of those that follow is left out
			b.peers(1, "opened meanwhile")
		}
		check("some have been cut, others opened")
		for range u.Conns() {
			n--
		}
		if n != 11-30 {
			t.Errorf("%d, want 30 connections", 11-n)
		}
		p := b.peers(1, "one that is closing is open")[0]
		for c := range u.Conns() {
			c.Close(1000, "")
		}
		check("all are closing")
		p.Close()
		for _, p := range peers {
			p.Close()
		}
		time.Sleep(7 * time.Second)
		clear(open)
		check("all have closed")
	})
}

// A Hijack that panics, which net/http survives, gives its place back.
func TestMaxConnsAfterAPanic(t *testing.T) {
	u := &websocket.Upgrader{
		MaxConns: 1,
		Handler:  func(*websocket.Conn) error { return nil },
		Config:   websocket.Config{PingInterval: -1, Logger: slog.New(slog.DiscardHandler)},
	}
	func() {
		defer func() { recover() }()
		u.ServeHTTP(panicsOnHijack{newHSWriter(nil)}, hsRequest())
		t.Error("Hijack did not panic")
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := u.Shutdown(ctx); err != nil { // there is nobody to wait for
		t.Error(err)
	}
}

type panicsOnHijack struct{ *hsWriter }

func (panicsOnHijack) Hijack() (net.Conn, *bufio.ReadWriter, error) { panic(http.ErrAbortHandler) }
