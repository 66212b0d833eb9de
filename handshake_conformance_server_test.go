package websocket_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/conformance"
	"github.com/sockeye-ws/websocket/internal/memconn"
)

// hsBase is BASE, and hsStatus BASE with another answer.
var hsBase = hsStatus(http.StatusSwitchingProtocols)

func hsStatus(status int, header ...string) conformance.HandshakeRow {
	return conformance.HandshakeRow{Want: conformance.HandshakeAnswer{Status: status, Header: header}}
}

// hsMount serves u in memory.
func hsMount(t testing.TB, entry hsEntry, u *websocket.Upgrader, serve func(*websocket.Conn) error, change ...func(*http.Server)) *hsServed {
	var s *hsServed
	handler := entry.mount(u, serve, func(err error) { s.failed(err) })
	s = hsServe(t, handler, change...)
	return s
}

// hsTalk opens a connection for requests.
func hsTalk(t testing.TB, s *hsServed) (net.Conn, *bufio.Reader) {
	conn := s.connect(t)
	t.Cleanup(func() { conn.Close() })
	return conn, bufio.NewReader(conn)
}

// hsWantOpen is OPEN, and CLEAN, so that no byte is left unseen.
func hsWantOpen(t testing.TB, conn net.Conn, br *bufio.Reader) {
	t.Helper()
	hsSend(t, conn, "89 80 z")
	hsWant(t, br, "8a 00")
	hsSend(t, conn, "88 82 z 03e8")
	hsWant(t, br, "88 02 03e8")
	if rest, err := io.ReadAll(br); err != nil || len(rest) > 0 {
		t.Errorf("received %x and %v, want the end of the stream", rest, err)
	}
}

// hsRefusedTwice asks twice on one connection (H-24).
func hsRefusedTwice(t testing.TB, s *hsServed, row conformance.HandshakeRow) {
	t.Helper()
	conn, br := hsTalk(t, s)
	hsAsk(t, conn, br, row)
	hsAsk(t, conn, br, row)
}

// TestHandshakeEarlyFrames is H-19 with more than net/http's buffer holds, so
// that a frame begins in it and ends in the socket.
func TestHandshakeEarlyFrames(t *testing.T) {
	hsEachEntry(t, func(t *testing.T, entry hsEntry) {
		s := hsMount(t, entry, new(websocket.Upgrader), hsEcho)
		early, err := conformance.Bytes("82 fe 1388 z rep(61,5000) 81 82 z 6869")
		if err != nil {
			t.Fatal(err)
		}
		conn, br := hsTalk(t, s)
		row := hsBase
		row.Behind = string(early)
		hsAsk(t, conn, br, row)
		hsWant(t, br, "82 7e 1388 rep(61,5000) 81 02 6869")
		hsWantOpen(t, conn, br)

		row.Behind = "\x88\x82\x00\x00\x00\x00\x03\xe8" // CLEAN
		conn, br = hsTalk(t, s)
		hsAsk(t, conn, br, row)
		hsWant(t, br, "88 02 03e8")
		if rest, err := io.ReadAll(br); err != nil || len(rest) > 0 {
			t.Errorf("received %x and %v, want the end of the stream", rest, err)
		}
	})
}

// TestHandshakeReserved is E-09: an offer that was declined allows no RSV1.
func TestHandshakeReserved(t *testing.T) {
	s := hsMount(t, hsServeHTTP, new(websocket.Upgrader), hsEcho)
	conn, br := hsTalk(t, s)
	row := hsBase
	row.Set = "Sec-WebSocket-Extensions: permessage-deflate"
	hsAsk(t, conn, br, row)
	hsSend(t, conn, "c1 80 z")
	rest, err := io.ReadAll(br)
	if err != nil || len(rest) < 4 || rest[0] != 0x88 || rest[2] != 0x03 || rest[3] != 0xea {
		t.Errorf("received %x and %v, want FAIL(1002)", rest, err)
	}
}

// hsLogConn logs what is done to a connection.
type hsLogConn struct {
	*memconn.Conn
	mu  sync.Mutex
	log []string
}

func (c *hsLogConn) note(s string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log = append(c.log, s)
}

func (c *hsLogConn) Read(p []byte) (int, error) {
	c.note("read")
	return c.Conn.Read(p)
}

func (c *hsLogConn) Write(p []byte) (int, error) {
	c.note(fmt.Sprintf("write %.12q", p))
	return c.Conn.Write(p)
}

// hsWriter is a ResponseWriter that is hijacked to conn.
type hsWriter struct {
	*httptest.ResponseRecorder
	conn   net.Conn
	buffer *bufio.ReadWriter
}

func newHSWriter(conn net.Conn) *hsWriter {
	return &hsWriter{httptest.NewRecorder(), conn, bufio.NewReadWriter(bufio.NewReader(conn), bufio.NewWriter(conn))}
}

func (w *hsWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) { return w.conn, w.buffer, nil }

func hsRequest() *http.Request {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(string(hsBase.Request()))))
	if err != nil {
		panic(err)
	}
	return r
}

// TestHandshakeWritesFirst is H-20.
func TestHandshakeWritesFirst(t *testing.T) {
	hsEachEntry(t, func(t *testing.T, entry hsEntry) {
		client, server := memconn.Pair()
		defer client.Close()
		client.SetDeadline(time.Now().Add(hsPatience))
		logged := &hsLogConn{Conn: server}
		w := newHSWriter(logged)
		// A frame and a half are there already, half of them in the buffer.
		hsSend(t, client, "81 82 z 6869 81 82")
		if _, err := w.buffer.Peek(4); err != nil {
			t.Fatal(err)
		}
		logged.log = nil

		var done sync.WaitGroup
		handler := entry.mount(new(websocket.Upgrader), hsEcho, func(err error) { t.Error(err) })
		done.Go(func() { handler.ServeHTTP(w, hsRequest()) })
		br := bufio.NewReader(client)
		resp, err := conformance.ReadHandshakeResponse(br, false)
		if err == nil {
			err = hsBase.Want.Check(resp)
		}
		if err != nil {
			t.Errorf("%v\n%s", err, resp)
		}
		hsSend(t, client, "z 6f6f")
		hsWant(t, br, "81 02 6869 81 02 6f6f")
		hsWantOpen(t, client, br)
		client.Close()
		done.Wait()

		logged.mu.Lock()
		defer logged.mu.Unlock()
		if len(logged.log) == 0 || logged.log[0] != `write "HTTP/1.1 101"` {
			t.Errorf("the calls on the connection are %q, want the 101 first", logged.log)
		}
		if w.Body.Len() > 0 {
			t.Errorf("the response writer got %q", w.Body)
		}
	})
}

// TestHandshakeOpenRefuses is H-21: the application's answer, and nothing but
// it.
func TestHandshakeOpenRefuses(t *testing.T) {
	for _, test := range []struct {
		refusal websocket.HandshakeError
		want    conformance.HandshakeRow
	}{
		{websocket.HandshakeError{Status: 401, Header: http.Header{"Www-Authenticate": {`Basic realm="x"`}}}, hsStatus(401, `WWW-Authenticate: Basic realm="x"`)},
		{websocket.HandshakeError{Status: 302, Header: http.Header{"Location": {"https://example.com/login"}}, Reason: "log in first"},
			hsStatus(302, "Location: https://example.com/login")},
		{websocket.HandshakeError{Status: 404}, hsStatus(404)},
		{websocket.HandshakeError{Status: 429, Reason: "too many"}, hsStatus(429)},
		{websocket.HandshakeError{Status: 503, Header: http.Header{"Retry-After": {"7"}, "X-A": {"b"}}}, hsStatus(503, "Retry-After: 7", "X-A: b")},
		{websocket.HandshakeError{Status: 204}, hsStatus(204)},
		// Nothing of this may make the answer incomplete or look like success.
		{websocket.HandshakeError{Status: 401, Header: http.Header{"Content-Length": {"999"}, "Sec-Websocket-Accept": {"x"}}}, hsStatus(401)},
		{websocket.HandshakeError{Status: 403, Header: http.Header{"content-length": {"1"}, "sec-websocket-accept": {"x"}}}, hsStatus(403)},
	} {
		t.Run(fmt.Sprintf("%d %v", test.refusal.Status, test.refusal.Header), func(t *testing.T) {
			header := test.refusal.Header.Clone()
			refuse := func(*http.Request, http.Header) (func(*websocket.Conn) error, error) { return nil, &test.refusal }
			s := hsMount(t, hsServeHTTP, &websocket.Upgrader{Open: refuse}, nil)
			hsRefusedTwice(t, s, test.want)
			if fmt.Sprint(header) != fmt.Sprint(test.refusal.Header) {
				t.Errorf("the error's header became %v, want %v", test.refusal.Header, header)
			}
		})
	}
}

// TestHandshakeOpenFails is H-21 with errors that say no status, or none that
// ends a request: a complete refusal, and nothing internal in it.
func TestHandshakeOpenFails(t *testing.T) {
	marker := errors.New(conformance.HandshakeMarker)
	for _, err := range []error{marker, fmt.Errorf("%s: %w", conformance.HandshakeMarker, context.Canceled),
		&websocket.HandshakeError{}, &websocket.HandshakeError{Status: 101}, &websocket.HandshakeError{Status: 100},
		&websocket.HandshakeError{Status: 99}, &websocket.HandshakeError{Status: -1}, &websocket.HandshakeError{Status: 1000},
	} {
		t.Run(fmt.Sprint(err), func(t *testing.T) {
			s := hsMount(t, hsServeHTTP, &websocket.Upgrader{
				Open: func(_ *http.Request, header http.Header) (func(*websocket.Conn) error, error) {
					header.Set("X-Marker", conformance.HandshakeMarker) // meant for the 101
					return nil, err
				},
			}, nil)
			hsRefusedTwice(t, s, hsStatus(500))
		})
	}
}

type (
	// hsHiding has none of the methods of what it wraps but the three.
	hsHiding struct{ http.ResponseWriter }

	hsUnwrapping struct{ http.ResponseWriter }

	hsBroken struct{ http.ResponseWriter }
)

func (w hsUnwrapping) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (hsBroken) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, errors.New(conformance.HandshakeMarker)
}

// TestHandshakeWrappedWriter is H-22.
func TestHandshakeWrappedWriter(t *testing.T) {
	hide := func(w http.ResponseWriter) http.ResponseWriter { return hsHiding{w} }
	hidePointer := func(w http.ResponseWriter) http.ResponseWriter { return &hsHiding{w} }
	unwrap := func(w http.ResponseWriter) http.ResponseWriter { return hsUnwrapping{w} }
	breaks := func(w http.ResponseWriter) http.ResponseWriter { return hsBroken{w} }
	type layers []func(http.ResponseWriter) http.ResponseWriter // the outermost last
	for _, test := range []struct {
		name   string
		layers layers
		says   string // in the application's error; empty: 101
	}{
		{"unwrapping", layers{unwrap}, ""},
		{"unwrapping twice", layers{unwrap, unwrap}, ""},
		{"hiding", layers{hide}, "websocket_test.hsHiding"},
		{"hiding pointer", layers{hidePointer}, "*websocket_test.hsHiding"},
		{"hiding inside", layers{hide, unwrap}, "websocket_test.hsHiding"},
		{"hiding inside two", layers{hidePointer, unwrap, unwrap}, "*websocket_test.hsHiding"},
		{"hiding outside", layers{unwrap, hide}, "websocket_test.hsHiding"},
		{"hiding twice", layers{unwrap, hide, unwrap}, "websocket_test.hsHiding"},
		{"failing", layers{breaks}, conformance.HandshakeMarker},
		{"failing inside", layers{breaks, unwrap}, conformance.HandshakeMarker},
	} {
		t.Run(test.name, func(t *testing.T) {
			hsEachEntry(t, func(t *testing.T, entry hsEntry) {
				var s *hsServed
				inner := entry.mount(new(websocket.Upgrader), hsEcho, func(err error) { s.failed(err) })
				s = hsServe(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					for _, wrap := range test.layers {
						w = wrap(w)
					}
					inner.ServeHTTP(w, r)
				}))
				if test.says == "" {
					conn, br := hsTalk(t, s)
					hsAsk(t, conn, br, hsBase)
					hsWantOpen(t, conn, br)
					return
				}
				conn, br := hsTalk(t, s)
				for range 2 {
					resp := hsAsk(t, conn, br, hsStatus(500))
					if strings.Contains(resp.Body, "hsHiding") {
						t.Errorf("the peer is told %q", resp.Body)
					}
				}
				hsHangUp(conn, br)
				if err := s.failure(); err == nil || !strings.Contains(err.Error(), test.says) {
					t.Errorf("the application hears %v, want it to name %s", err, test.says)
				}
			})
		})
	}
}

// hsHangUp ends the client's side and waits for the server's, so that
// its handler has returned.
func hsHangUp(conn net.Conn, br *bufio.Reader) {
	conn.(interface{ CloseWrite() error }).CloseWrite()
	io.Copy(io.Discard, br)
}

// TestHandshakeDeadlines is R-08.
func TestHandshakeDeadlines(t *testing.T) {
	hsEachEntry(t, func(t *testing.T, entry hsEntry) {
		synctest.Test(t, func(t *testing.T) {
			const timeout = 100 * time.Millisecond
			s := hsMount(t, entry, new(websocket.Upgrader), hsEcho, func(server *http.Server) {
				server.ReadTimeout, server.WriteTimeout = timeout, timeout
				server.ReadHeaderTimeout, server.IdleTimeout = timeout, timeout
			})
			conn, br := hsTalk(t, s)
			hsAsk(t, conn, br, hsBase)
			time.Sleep(3 * timeout)
			hsSend(t, conn, "81 82 z 6869")
			hsWant(t, br, "81 02 6869")
			time.Sleep(15 * time.Second) // nor does one that the 101 was written under
			conn.SetDeadline(time.Now().Add(hsPatience))
			hsWantOpen(t, conn, br)
		})
	})
}

// TestHandshakeServerFirst is R-09.
func TestHandshakeServerFirst(t *testing.T) {
	hsEachEntry(t, func(t *testing.T, entry hsEntry) {
		s := hsMount(t, entry, new(websocket.Upgrader), func(c *websocket.Conn) error {
			if err := c.Write(context.Background(), websocket.Text, []byte("hi")); err != nil {
				return err
			}
			return hsEcho(c)
		})
		conn, br := hsTalk(t, s)
		hsAsk(t, conn, br, hsBase)
		hsWant(t, br, "81 02 6869")
		hsWantOpen(t, conn, br)
	})
}

// TestHandshakeCheckOrigin is O-07: a panic does not upgrade, and the
// application's words do not reach the peer. The rows have the rest.
func TestHandshakeCheckOrigin(t *testing.T) {
	for name, u := range map[string]*websocket.Upgrader{
		"CheckOrigin":       {CheckOrigin: func(*http.Request) error { panic("hsPanic") }},
		"SelectSubprotocol": {SelectSubprotocol: func(*http.Request, []string) string { panic("hsPanic") }},
		"Open":              {Open: func(*http.Request, http.Header) (func(*websocket.Conn) error, error) { panic("hsPanic") }},
	} {
		t.Run(name, func(t *testing.T) {
			s := hsMount(t, hsServeHTTP, u, func(*websocket.Conn) error { t.Error("a connection"); return nil })
			s.expected = "hsPanic"
			conn, br := hsTalk(t, s)
			row := hsBase
			row.Set = "Origin: http://example.com\nSec-WebSocket-Protocol: chat"
			conn.Write(row.Request())
			if got, err := io.ReadAll(br); len(got) > 0 {
				t.Errorf("received %q and %v", got, err)
			}
		})
	}
}

// TestHandshakeCrossOriginProtection is O-09: net/http's protection lets GET
// pass and does not make this check superfluous.
func TestHandshakeCrossOriginProtection(t *testing.T) {
	protected := http.NewCrossOriginProtection().Handler(
		&websocket.Upgrader{Handler: hsEcho, Config: websocket.Config{Logger: slog.New(slog.DiscardHandler)}})
	row := hsStatus(http.StatusForbidden)
	row.Set = "Origin: http://evil.com\nSec-Fetch-Site: cross-site"
	hsRefusedTwice(t, hsServe(t, protected), row)
}

// TestHandshakeSelectSubprotocol is P-09: the callback sees the client's list.
func TestHandshakeSelectSubprotocol(t *testing.T) {
	hsEachEntry(t, func(t *testing.T, entry hsEntry) {
		var seen []string
		s := hsMount(t, entry, &websocket.Upgrader{
			Subprotocols: []string{"other"},
			SelectSubprotocol: func(r *http.Request, offered []string) string {
				if r.URL.Path == "/ws" {
					seen = slices.Clone(offered)
				}
				return "b.c"
			},
		}, hsEcho)
		conn, br := hsTalk(t, s)
		row := hsBase
		row.Set = "Sec-WebSocket-Protocol: ,a ,\tb.c"
		row.Add = "Sec-WebSocket-Protocol: A"
		row.Want.Subprotocol = "b.c"
		hsAsk(t, conn, br, row)
		if want := []string{"a", "b.c", "A"}; !slices.Equal(seen, want) {
			t.Errorf("the callback was offered %q, want %q", seen, want)
		}
		hsWantOpen(t, conn, br)
	})
}

// TestHandshakeKeepAlive is H-24, one after the other and in one segment.
func TestHandshakeKeepAlive(t *testing.T) {
	refused := conformance.HandshakeViolations()
	refused = slices.DeleteFunc(refused, func(row conformance.HandshakeRow) bool { return row.Proto != "" })
	served := hsServeRows(t, refused[0].Server, hsServeHTTP)
	conn, br := hsTalk(t, served)
	for _, row := range refused {
		hsAsk(t, conn, br, row)
	}
	hsAsk(t, conn, br, hsBase)
	hsWantOpen(t, conn, br)

	conn, br = hsTalk(t, served)
	var pipelined []byte
	for _, row := range refused {
		pipelined = append(pipelined, row.Request()...)
	}
	pipelined = append(pipelined, hsBase.Request()...)
	if _, err := conn.Write(pipelined); err != nil {
		t.Fatal(err)
	}
	for _, row := range append(refused, hsBase) {
		resp, err := conformance.ReadHandshakeResponse(br, false)
		if err = errors.Join(err, row.Want.Check(resp)); err != nil {
			t.Errorf("%s: %v\n%s", row.Name(), err, resp)
		}
	}
	hsWantOpen(t, conn, br)
}

// TestHandshakeHooks looks from net/http's side: the connection is hijacked,
// no longer net/http's business, and does not hold up its shutdown.
func TestHandshakeHooks(t *testing.T) {
	hsEachEntry(t, func(t *testing.T, entry hsEntry) {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			var states []http.ConnState
			var server *http.Server
			s := hsMount(t, entry, new(websocket.Upgrader), hsEcho, func(s *http.Server) {
				server = s
				s.ConnState = func(_ net.Conn, state http.ConnState) {
					mu.Lock()
					defer mu.Unlock()
					states = append(states, state)
				}
			})
			conn, br := hsTalk(t, s)
			bad := hsStatus(http.StatusMethodNotAllowed, "Allow: GET")
			bad.Method = "POST"
			hsAsk(t, conn, br, bad)
			hsAsk(t, conn, br, hsBase)
			synctest.Wait()
			want := []http.ConnState{http.StateNew, http.StateActive, http.StateIdle, http.StateActive, http.StateHijacked}
			mu.Lock()
			if !slices.Equal(states, want) {
				t.Errorf("the connection went through %v, want %v", states, want)
			}
			mu.Unlock()

			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := server.Shutdown(ctx); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
			hsSend(t, conn, "81 82 z 6869")
			hsWant(t, br, "81 02 6869")
			hsWantOpen(t, conn, br)
		})
	})
}
