package websocket_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/conformance"
)

// hsReserved are the lines of R-06.
var hsReserved = []string{"Upgrade", "Connection", "Sec-Websocket-Accept", "Sec-Websocket-Extensions", "Sec-Websocket-Version",
	"Content-Length", "Transfer-Encoding", "upgrade", "cONNECTION", "sec-websocket-accept", "content-length", "transfer-encoding"}

// hsWithHeader upgrades with a header of the application's.
func hsWithHeader(t *testing.T, entry hsEntry, header http.Header) *hsServed {
	add := func(h http.Header) {
		for name, values := range header {
			h[name] = slices.Clone(values)
		}
	}
	u := new(websocket.Upgrader)
	if entry.mounted {
		u.Open = func(_ *http.Request, h http.Header) (func(*websocket.Conn) error, error) {
			add(h)
			return hsEcho, nil
		}
		return hsMount(t, entry, u, nil)
	}
	var s *hsServed
	inner := entry.mount(u, hsEcho, func(err error) { s.failed(err) })
	s = hsServe(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		add(w.Header())
		inner.ServeHTTP(w, r)
	}))
	return s
}

// TestHandshakeHeader is R-06: what the application may add.
func TestHandshakeHeader(t *testing.T) {
	hsEachEntry(t, func(t *testing.T, entry hsEntry) {
		s := hsWithHeader(t, entry, http.Header{"Set-Cookie": {"a=b", "c=d"}, "X-Request-Id": {"7"}})
		conn, br := hsTalk(t, s)
		if _, err := conn.Write(hsBase.Request()); err != nil {
			t.Fatal(err)
		}
		resp, err := conformance.ReadHandshakeResponse(br, false)
		if cookies := resp.Values("Set-Cookie"); err != nil || !slices.Equal(cookies, []string{"a=b", "c=d"}) {
			t.Errorf("cookies %q and %v", cookies, err)
		}
		want := hsStatus(101, "X-Request-Id: 7").Want
		resp.Header = slices.DeleteFunc(resp.Header, func(h [2]string) bool { return h[0] == "Set-Cookie" })
		if err := want.Check(resp); err != nil {
			t.Errorf("%v\n%s", err, resp)
		}
		hsWantOpen(t, conn, br)
	})
}

// TestHandshakeHeaderRefused is: what it may not add.
func TestHandshakeHeaderRefused(t *testing.T) {
	type field struct{ name, value string }
	fields := []field{
		{"X", "a\r\nSet-Cookie: b"}, {"X", "a\nSet-Cookie: b"}, {"X", "a\rb"}, {"X", "a\x00b"}, {"X", "\n"}, {"X", "a\r\n\r\nb"},
		{"X\r\nSet-Cookie: b\r\nY", "c"}, {"X\nY", "b"}, {"X\rY", "b"}, {"X\x00", "b"}, {"X: y\r\nSet-Cookie", "b"},
	}
	for _, name := range hsReserved {
		fields = append(fields, field{name, map[string]string{"content-length": "3", "transfer-encoding": "chunked"}[strings.ToLower(name)]})
		if f := &fields[len(fields)-1]; f.value == "" {
			f.value = conformance.HandshakeMarker
		}
	}
	for _, f := range fields {
		t.Run(fmt.Sprintf("%q", f.name+": "+f.value), func(t *testing.T) {
			hsEachEntry(t, func(t *testing.T, entry hsEntry) {
				s := hsWithHeader(t, entry, http.Header{f.name: {f.value}})
				row := hsStatus(500)
				row.Want.Absent = []string{"Set-Cookie", "Y"}
				hsRefusedTwice(t, s, row)
				conn, br := hsTalk(t, s)
				hsAsk(t, conn, br, row)
				hsHangUp(conn, br)
				if s.failure() == nil {
					t.Error("the application hears nothing")
				}
			})
		})
	}
}

// TestHandshakeHeaderSubprotocol is R-04: a line of the application's does
// not stand beside, or in the place of, the agreed subprotocol.
func TestHandshakeHeaderSubprotocol(t *testing.T) {
	hsEachEntry(t, func(t *testing.T, entry hsEntry) {
		s := hsWithHeader(t, entry, http.Header{"Sec-Websocket-Protocol": {conformance.HandshakeMarker}})
		conn, br := hsTalk(t, s)
		conn.Write(hsBase.Request())
		resp, err := conformance.ReadHandshakeResponse(br, false)
		want := hsStatus(http.StatusInternalServerError)
		if resp.Status == http.StatusSwitchingProtocols {
			want = hsBase
		}
		if err = errors.Join(err, want.Want.Check(resp)); err != nil {
			t.Errorf("%v\n%s", err, resp)
		}
	})
}

// TestHandshakeSplitRefusal is R-07 for the headers of a refusal.
func TestHandshakeSplitRefusal(t *testing.T) {
	for _, header := range []http.Header{
		{"X": {"a\r\nSet-Cookie: b"}}, {"X": {"a\nSet-Cookie: b"}}, {"X\r\nSet-Cookie: b\r\nY": {"c"}}, {"X: y\r\nSet-Cookie": {"b"}},
	} {
		refuse := func(*http.Request, http.Header) (func(*websocket.Conn) error, error) {
			return nil, &websocket.HandshakeError{Status: 401, Header: header}
		}
		s := hsMount(t, hsServeHTTP, &websocket.Upgrader{Open: refuse}, nil)
		conn, br := hsTalk(t, s)
		if _, err := conn.Write(hsBase.Request()); err != nil {
			t.Fatal(err)
		}
		resp, err := conformance.ReadHandshakeResponse(br, false)
		if err != nil || resp.Status != 401 && resp.Status != 500 || len(resp.Values("Set-Cookie")) > 0 {
			t.Errorf("%q: %v\n%s", header, err, resp)
		}
	}
}
