package websocket

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestR01AcceptKey(t *testing.T) {
	for key, want := range map[string]string{
		"dGhlIHNhbXBsZSBub25jZQ==": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
		"x3JJHMbDL1EzLkh9GBhXDw==": "HSmrc0sMlYUkAGmm5OPpG2HaGWk=",
		"AQIDBAUGBwgJCgsMDQ4PEA==": "C/0nmHhBztSRGR1CwL6Tf4ZjwpY=",
		"AAAAAAAAAAAAAAAAAAAAAA==": "ICX+Yqv66kxgM0FcWaLWlFLwTAI=",
		"AQIDBAUGBwgJCgsMDQ4PEC==": "OfS0wDaT5NoxF2gqm7Zj2YtetzM=", // H-10: not re-encoded
	} {
		if got, err := acceptKey(key); got != want || err != nil {
			t.Errorf("%s: %s, %v, want %s", key, got, err, want)
		}
	}
}

func TestH09Keys(t *testing.T) {
	valid := []string{"dGhlIHNhbXBsZSBub25jZQ==", "AQIDBAUGBwgJCgsMDQ4PEA==", "AQIDBAUGBwgJCgsMDQ4PEC==", "++++////++++////++++//==", "AQIDBAUGBwgJCgsMDQ4PEP=="}
	invalid := []string{
		"", "hello", "AQIDBAUGBwgJCgsMDQ4P", "AQIDBAUGBwgJCgsMDQ4PEBE=", "AQIDBAUGBwgJCgsMDQ4PEA", "AQIDBAUGBwgJCgsMDQ4PEA=", "AQIDBAUGBwgJCgsMDQ4PE-==",
		"dGhlIHNhbXBsZSBub25jZQ==x", "dGhlIHNhbXBs ZSBub25jZQ==", "AQIDBAUGBwgJCgsMDQ4PEBES", "AQIDBAUGBwgJCgsMDQ4PEA==AQIDBAUGBwgJCgsMDQ4PEA==",
		"AQIDBAUGBwgJCgsMDQ4P\r\n==", "AQIDBAUGBwgJCgsMDQ4PEA\n=", "AQIDBAUGBwgJ\nCgsMDQ4PEA=", "AQIDBAUGBwgJCgsMDQ4=EA==", "========================", "AQIDBAUGBwgJCgsMDQ4P\x00A==", "AQIDBAUGBwgJCgsMDQ4PéA==",
	}
	for _, s := range valid {
		if !validKey(s) {
			t.Errorf("%q is refused", s)
		}
	}
	for _, s := range invalid {
		if validKey(s) {
			t.Errorf("%q is accepted", s)
		}
	}
	// All that an encoder can produce is a key, nothing shorter or longer is.
	for n := range 40 {
		if s := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{byte(n)}, n)); validKey(s) != (n == 16) {
			t.Errorf("%d bytes: %q: accepted %v", n, s, n != 16)
		}
	}
}

func TestHandshakeError(t *testing.T) {
	cause := errors.New("boom")
	tests := []struct {
		err    *HandshakeError
		status int
		text   string
		cause  error
	}{
		{&HandshakeError{}, 500, "websocket: handshake refused with 500", nil},
		{&HandshakeError{Status: 404}, 404, "websocket: handshake refused with 404", nil},
		{&HandshakeError{Status: 401, Reason: "who are you?"}, 401, "websocket: handshake refused with 401: who are you?", nil},
		{&HandshakeError{Status: 200}, 200, "websocket: handshake refused with 200", nil},
		{&HandshakeError{Status: 599}, 599, "websocket: handshake refused with 599", nil},
		// Those that are no answer, or that net/http panics on.
		{&HandshakeError{Status: -1}, 500, "websocket: handshake refused with 500", nil},
		{&HandshakeError{Status: 99}, 500, "websocket: handshake refused with 500", nil},
		{&HandshakeError{Status: 101}, 500, "websocket: handshake refused with 500", nil},
		{&HandshakeError{Status: 199}, 500, "websocket: handshake refused with 500", nil},
		{&HandshakeError{Status: 600}, 500, "websocket: handshake refused with 500", nil},
		{&HandshakeError{Status: 1000}, 500, "websocket: handshake refused with 500", nil},
		{internalError(cause), 500, "websocket: handshake refused with 500: boom", cause},
		{&HandshakeError{Status: 403, Reason: "no", cause: cause}, 403, "websocket: handshake refused with 403: no: boom", cause},
	}
	for _, tt := range tests {
		if got := tt.err.Error(); got != tt.text {
			t.Errorf("Error() = %q, want %q", got, tt.text)
		}
		if got := tt.err.status(); got != tt.status {
			t.Errorf("%v: status %d, want %d", tt.err, got, tt.status)
		}
		if got := tt.err.Unwrap(); got != tt.cause || tt.cause != nil && !errors.Is(tt.err, tt.cause) {
			t.Errorf("%v: Unwrap() = %v, want %v", tt.err, got, tt.cause)
		}
	}
}

func TestRefuse(t *testing.T) {
	if e := refuse(400, "no"); e.Header != nil || e.Status != 400 || e.Reason != "no" {
		t.Errorf("%#v", e)
	}
	e := refuse(426, "old", "Upgrade", "websocket", "sec-websocket-version", "13")
	if len(e.Header) != 2 || e.Header.Get("Upgrade") != "websocket" || e.Header.Get("Sec-WebSocket-Version") != "13" {
		t.Errorf("%#v", e.Header)
	}
}

func TestR06R07Response(t *testing.T) {
	start := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: abc=\r\n"
	tests := []struct {
		id      string
		a       agreement
		headers []http.Header
		want    string // "": refused
	}{
		{"R-02", agreement{accept: "abc="}, nil, start + "\r\n"},
		{"R-04", agreement{accept: "abc=", subprotocol: "chat"}, nil, start + "Sec-WebSocket-Protocol: chat\r\n\r\n"},
		{"R-06", agreement{accept: "abc="}, []http.Header{{"X-B": {"2"}, "X-A": {"1", ""}}, nil, {"Set-Cookie": {"a=b", "c=d"}}},
			start + "X-A: 1\r\nX-A: \r\nX-B: 2\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n\r\n"},
		{"R-06", agreement{accept: "abc="}, []http.Header{{"Upgrade": {"x"}}}, ""},
		{"R-06", agreement{accept: "abc="}, []http.Header{{"Upgrade": {}}}, ""},
		{"R-06", agreement{accept: "abc="}, []http.Header{{"connection": {"close"}}}, ""},
		{"R-06", agreement{accept: "abc="}, []http.Header{nil, {"SEC-WEBSOCKET-ACCEPT": {"x"}}}, ""},
		{"R-06", agreement{accept: "abc="}, []http.Header{{"Sec-WebSocket-Protocol": {"x"}}}, ""},
		{"R-06", agreement{accept: "abc="}, []http.Header{{"Sec-WebSocket-Extensions": {"x"}}}, ""},
		{"R-06", agreement{accept: "abc="}, []http.Header{{"Sec-Websocket-Version": {"13"}}}, ""},
		{"R-06", agreement{accept: "abc="}, []http.Header{{"content-length": {"0"}}}, ""},
		{"R-06", agreement{accept: "abc="}, []http.Header{{"Transfer-Encoding": {"chunked"}}}, ""},
		{"R-07", agreement{accept: "abc="}, []http.Header{{"X": {"a\r\nSet-Cookie: b"}}}, ""},
		{"R-07", agreement{accept: "abc="}, []http.Header{{"X": {"ok", "a\nb"}}}, ""},
		{"R-07", agreement{accept: "abc="}, []http.Header{{"X": {"a\x00b"}}}, ""},
		{"R-07", agreement{accept: "abc="}, []http.Header{{"X\r\nY": {"a"}}}, ""},
		{"R-07", agreement{accept: "abc="}, []http.Header{{"X ": {"a"}}}, ""},
		{"R-07", agreement{accept: "abc="}, []http.Header{{"X:": {"a"}}}, ""},
		{"R-07", agreement{accept: "abc="}, []http.Header{{"": {"a"}}}, ""},
		{"R-07", agreement{accept: "abc="}, []http.Header{{"X": {"\x7f"}}}, ""},
	}
	for _, tt := range tests {
		got, err := tt.a.appendResponse(nil, tt.headers...)
		if (err == nil) != (tt.want != "") || string(got) != tt.want {
			t.Errorf("%s: %q: %q, %v, want %q", tt.id, tt.headers, got, err, tt.want)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\r\n\x00\x7f") {
			t.Errorf("%s: %q is in the error unescaped: %v", tt.id, tt.headers, err)
		}
	}
}

// baseRequest is a valid handshake, changed.
func baseRequest(change func(r *http.Request)) *http.Request {
	r, err := http.NewRequest("GET", "http://example.com/ws", nil)
	if err != nil {
		panic(err)
	}
	for name, value := range map[string]string{
		"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
	} {
		r.Header.Set(name, value)
	}
	if change != nil {
		change(r)
	}
	return r
}

func TestCheckRequest(t *testing.T) {
	// H-01 to H-11: the first check that fails decides, so each row has the
	// faults of the rows below as well.
	faults := []struct {
		id     string
		status int
		header string // that must be in the answer
		change func(r *http.Request)
	}{
		{"H-11", 400, "", func(r *http.Request) { r.ContentLength = 5 }},
		{"H-11", 400, "", func(r *http.Request) { r.ContentLength, r.TransferEncoding = 0, []string{"chunked"} }},
		{"H-09", 400, "", func(r *http.Request) { r.Header["Sec-Websocket-Key"] = []string{"hello"} }},
		{"H-08", 400, "", func(r *http.Request) { delete(r.Header, "Sec-Websocket-Key") }},
		{"H-06", 426, "Sec-Websocket-Version", func(r *http.Request) { r.Header["Sec-Websocket-Version"] = []string{"8"} }},
		{"H-07", 400, "Sec-Websocket-Version", func(r *http.Request) { r.Header["Sec-Websocket-Version"] = []string{"13", "13"} }},
		{"H-05", 400, "Sec-Websocket-Version", func(r *http.Request) { delete(r.Header, "Sec-Websocket-Version") }},
		{"H-04", 400, "", func(r *http.Request) { delete(r.Header, "Connection") }},
		{"H-03", 426, "Upgrade", func(r *http.Request) { delete(r.Header, "Upgrade") }},
		{"H-02", 426, "Upgrade", func(r *http.Request) { r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.0", 1, 0 }},
		{"HTTP/2", 400, "", func(r *http.Request) { r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0 }},
		{"HTTP/3", 400, "", func(r *http.Request) { r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/3.0", 3, 0 }},
		{"H-01", 405, "Allow", func(r *http.Request) { r.Method = "get" }},
	}
	if refused := checkRequest(baseRequest(nil)); refused != nil {
		t.Fatalf("BASE: %v", refused)
	}
	if refused := checkRequest(baseRequest(func(r *http.Request) { r.ProtoMinor = 2 })); refused != nil {
		t.Errorf("HTTP/1.2: %v", refused)
	}
	all := baseRequest(nil)
	for _, fault := range faults {
		fault.change(all)
		for _, r := range []*http.Request{baseRequest(fault.change), all} {
			e := checkRequest(r)
			if e == nil || e.Status != fault.status || e.Reason == "" || fault.header != "" && e.Header.Get(fault.header) == "" || fault.header == "" && e.Header != nil {
				t.Errorf("%s: %#v, want %d with %q", fault.id, e, fault.status, fault.header)
			}
		}
	}
}

// A grounded connection fails at one of its calls.
type grounded struct {
	mill
	at     string
	calls  []string
	closed bool
}

var errGrounded = errors.New("boom")

func (g *grounded) call(name string) error {
	g.calls = append(g.calls, name)
	if strings.Join(g.calls, ", ") == g.at {
		return errGrounded
	}
	return nil
}

func (g *grounded) SetDeadline(time.Time) error { return g.call("deadline") }
func (g *grounded) Close() error                { g.closed = true; return nil }
func (g *grounded) Write(p []byte) (int, error) { return len(p), g.call("write") }

// A runway hijacks to a given connection.
type runway struct {
	*httptest.ResponseRecorder
	conn net.Conn
}

func (w runway) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return w.conn, bufio.NewReadWriter(bufio.NewReader(w.conn), bufio.NewWriter(w.conn)), nil
}

func TestUpgradeThatCannotAnswer(t *testing.T) {
	for _, at := range []string{"deadline", "deadline, write", "deadline, write, deadline"} {
		g := &grounded{at: at}
		u := &Upgrader{Handler: func(*Conn) error { t.Error("served"); return nil }}
		c, err := u.Upgrade(runway{httptest.NewRecorder(), g}, baseRequest(nil))
		var refused *HandshakeError
		if c != nil || !errors.Is(err, errGrounded) || errors.As(err, &refused) || !g.closed {
			t.Errorf("fails at %s: %v, %v, closed %v", at, c, err, g.closed)
		}
		g = &grounded{at: at}
		u.ServeHTTP(runway{httptest.NewRecorder(), g}, baseRequest(nil))
		if !g.closed {
			t.Errorf("ServeHTTP fails at %s, and keeps the connection", at)
		}
	}
}

func TestMisusedUpgraders(t *testing.T) {
	// S-11: what is wrong goes to the log, not to the peer.
	for name, u := range map[string]*Upgrader{
		"no handler":      {},
		"malformed list":  {Handler: func(*Conn) error { return nil }, Origins: []string{"*"}},
		"Open gives none": {Open: func(*http.Request, http.Header) (func(*Conn) error, error) { return nil, nil }},
	} {
		var log strings.Builder
		u.Logger = slog.New(slog.NewTextHandler(&log, nil))
		g := &grounded{}
		w := runway{httptest.NewRecorder(), g}
		u.ServeHTTP(w, baseRequest(nil))
		if w.Code != 500 || strings.TrimSpace(w.Body.String()) != http.StatusText(500) || len(g.calls) > 0 || !strings.Contains(log.String(), "level=ERROR") {
			t.Errorf("%s: %d %q, calls %q, log %q", name, w.Code, w.Body, g.calls, log.String())
		}
	}
}
