package websocket

import (
	"bytes"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"
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
