package websocket

import (
	"errors"
	"net/http"
	"strings"
	"testing"
)

// admits runs the policy of the list on a request.
func admits(t *testing.T, list []string, host string, lines ...string) error {
	t.Helper()
	p, err := parseOrigins(list)
	if err != nil {
		t.Fatal(err)
	}
	r := &http.Request{Host: host, Header: http.Header{}}
	if len(lines) > 0 {
		r.Header["Origin"] = lines
	}
	return p.check(r)
}

func TestOriginPolicy(t *testing.T) {
	const host = "example.com"
	one := func(s ...string) []string { return s }
	tests := []struct {
		id      string
		list    []string
		host    string
		origins []string
		ok      bool
	}{
		{"O-01", nil, host, nil, true},
		{"O-02", nil, host, one("http://example.com"), true},
		{"O-02", nil, host, one("https://EXAMPLE.COM"), true},
		{"O-02", nil, host, one("HTTPS://example.com"), true},
		{"O-02", nil, host, one("https://example.com:443"), true},
		{"O-02", nil, host, one("http://example.com:80"), true},
		{"O-02", nil, "EXAMPLE.com", one("http://example.com"), true},
		{"O-02", nil, "example.com:443", one("https://example.com"), true},
		{"O-02", nil, "example.com:443", one("http://example.com"), false},
		{"O-02", nil, host, one("https://example.com:80"), false},
		{"O-02", nil, host, one("http://example.com:443"), false},
		{"O-02", nil, host, one("http://example.com:8080"), false},
		{"O-02", nil, host, one("http://evil.com"), false},
		{"O-02", nil, host, one("http://example.com.evil.com"), false},
		{"O-02", nil, host, one("http://sub.example.com"), false},
		{"O-02", nil, host, one("http://evilexample.com"), false},
		{"O-02", nil, host, one("http://example.com."), false},
		{"O-02", nil, "example.com:8080", one("http://example.com:8080"), true},
		{"O-02", nil, "example.com:8080", one("http://example.com"), false},
		{"O-02", nil, "[::1]:8080", one("http://[::1]:8080"), true},
		{"O-02", nil, "[::1]:8080", one("http://[::1]"), false},
		{"O-02", nil, "[::1]", one("http://[::1]"), true},
		{"O-02", nil, "[::1]", one("http://[::1]:80"), true},
		{"O-02", nil, "[::1]", one("http://[::2]"), false},
		{"O-02", nil, "[2001:DB8::A]:81", one("http://[2001:db8::a]:81"), true},
		{"O-02", nil, "127.0.0.1:3000", one("http://127.0.0.1:3000"), true},
		{"O-02", nil, "my_host-1:3000", one("http://my_host-1:3000"), true},
		{"O-02", nil, "", one("http://example.com"), false},
		{"O-02", nil, "exa mple", one("http://exa mple"), false},
		{"O-03", nil, host, one("null"), false},
		{"O-03", one("null"), host, one("null"), true},
		{"O-03", one("null"), host, one("NULL"), false},
		{"O-03", one("null"), host, one("http://null"), false},
		{"O-03", one("https://*.example.com"), "null", one("null"), false},
		{"O-05", nil, host, one("http://example.com", "http://example.com"), false},
		{"O-05", one(AnyOriginInsecure), host, one("http://example.com", "http://example.com"), false},
		{"O-05", one("null"), host, one("null", "null"), false},
		{"O-06", one("https://app.example.com"), "api.test", one("https://app.example.com"), true},
		{"O-06", one("https://app.example.com"), "api.test", one("https://app.example.com:443"), true},
		{"O-06", one("https://app.example.com:443"), "api.test", one("https://app.example.com"), true},
		{"O-06", one("HTTPS://APP.example.com"), "api.test", one("https://app.EXAMPLE.com"), true},
		{"O-06", one("https://app.example.com"), "api.test", one("http://app.example.com"), false},
		{"O-06", one("https://app.example.com"), "api.test", one("https://app.example.com:444"), false},
		{"O-06", one("https://app.example.com"), "api.test", one("https://x.app.example.com"), false},
		{"O-06", one("https://app.example.com"), host, one("http://example.com"), true}, // besides the host served
		{"O-06", one("app.example.com"), "api.test", one("http://app.example.com"), true},
		{"O-06", one("app.example.com"), "api.test", one("https://app.example.com"), true},
		{"O-06", one("app.example.com"), "api.test", one("https://app.example.com:8443"), false},
		{"O-06", one("app.example.com:8443"), "api.test", one("https://app.example.com:8443"), true},
		{"O-06", one("app.example.com:443"), "api.test", one("http://app.example.com"), false},
		{"O-06", one("*.example.com"), "api.test", one("https://a.example.com"), true},
		{"O-06", one("*.example.com"), "api.test", one("https://a.b.c.example.com"), true},
		{"O-06", one("*.example.com"), "api.test", one("https://example.com"), false},
		{"O-06", one("*.example.com"), "api.test", one("https://example.com.evil.com"), false},
		{"O-06", one("*.example.com"), "api.test", one("https://a.example.com.evil.com"), false},
		{"O-06", one("*.example.com"), "api.test", one("https://evilexample.com"), false},
		{"O-06", one("*.example.com"), "api.test", one("https://.example.com"), false},
		{"O-06", one("*.example.com"), "api.test", one("https://a.example.com:8443"), false},
		{"O-06", one("*.example.com:8443"), "api.test", one("https://a.example.com:8443"), true},
		{"O-06", one("https://*.example.com"), "api.test", one("https://a.example.com"), true},
		{"O-06", one("https://*.example.com"), "api.test", one("http://a.example.com"), false},
		{"O-06", one("chrome-extension://abcdef"), "api.test", one("chrome-extension://abcdef"), true},
		{"O-06", one("chrome-extension://abcdef"), "api.test", one("chrome-extension://abcdefg"), false},
		{"O-06", one("http://[::1]:9000"), "api.test", one("http://[::1]:9000"), true},
		{"any", one(AnyOriginInsecure), "api.test", one("https://evil.com"), true},
		{"any", one(AnyOriginInsecure), "api.test", one("null"), true},
		{"any", one(AnyOriginInsecure), "api.test", one("garbage"), false},
	}
	for _, tt := range tests {
		if err := admits(t, tt.list, tt.host, tt.origins...); (err == nil) != tt.ok {
			t.Errorf("%s: list %q, host %q, origins %q: %v, want acceptance %v", tt.id, tt.list, tt.host, tt.origins, err, tt.ok)
		}
	}
}

// hostileOrigins are no origins, though each contains one.
var hostileOrigins = []string{
	"", " ", "garbage", "null ", "http://", "file://", "://example.com", "//example.com", "http:example.com", "http:/example.com",
	"http://a@example.com", "http://a:b@example.com", "http://evil.com@example.com", "http://example.com@evil.com",
	"http://example.com/", "http://example.com?", "http://example.com#", "http://example.com/x", `http://example.com\`, `http:\\example.com`,
	"http://example.com, http://example.com", "http://example.com http://example.com", " http://example.com", "http://example.com ",
	"http://example.com\x00", "http://example.com\x00.evil.com", "http://evil.com\x00example.com", "http://example.com\r\nX: y", "http://example.com\t",
	"http://example.com%00", "http://example%2ecom", "http://*.example.com", "http://*", "http://éxample.com", "http://example。com", "http://ﬂ.com",
	"http://example.com:", "http://example.com:0080", "http://example.com:080", "http://example.com:65536", "http://example.com:99999999999999999999",
	"http://example.com:-80", "http://example.com:+80", "http://example.com:80 ", "http://example.com:8O", "http://example.com:80:80", "http://example.com:80a",
	"http://:80", "http://[::1", "http://::1", "http://[]", "http://[]:80", "http://[::1]x", "http://[::1]:", "http://[::1]]", "http://[[::1]]", "http://[::1%25eth0]",
	"http://x[::1]", "http://[example-com]", "http://[::1]@example.com", "http://]:80", "http://[:80",
	"1http://example.com", "-http://example.com", "ht tp://example.com", "ht_tp://example.com", "htt\x00p://example.com", "http://http://example.com",
	"https://example.com://", "{http://example.com", "[http://example.com", "@http://example.com", "`http://example.com",
	strings.Repeat("a", 1<<16), "http://" + strings.Repeat(":", 1<<16), "http://" + strings.Repeat("[", 1<<16), strings.Repeat("http://", 1<<14),
}

func TestO04HostileOrigins(t *testing.T) {
	for _, s := range hostileOrigins {
		if o, ok := parseOrigin(s); ok {
			t.Errorf("%.80q: taken for %+v", s, o)
		}
		for _, list := range [][]string{nil, {AnyOriginInsecure}, {"*.com"}, {"example.com"}} {
			for _, host := range []string{"example.com", "", s} {
				if admits(t, list, host, s) == nil {
					t.Errorf("%.80q: accepted with %q for host %.80q", s, list, host)
				}
			}
		}
	}
}

func TestO04WellFormed(t *testing.T) {
	for s, want := range map[string]origin{
		"http://example.com":            {"http", "example.com", ""},
		"HTTP://Example.COM:1":          {"http", "example.com", "1"},
		"https://a.b-c_d.1:65535":       {"https", "a.b-c_d.1", "65535"},
		"http://[::FFFF:1.2.3.4]:80":    {"http", "[::ffff:1.2.3.4]", "80"},
		"moz-extension://0123-4567":     {"moz-extension", "0123-4567", ""},
		"a1+-.://x":                     {"a1+-.", "x", ""},
		"capacitor://localhost":         {"capacitor", "localhost", ""},
		"http://xn--bcher-kva.example":  {"http", "xn--bcher-kva.example", ""},
		"http://localhost:0":            {"http", "localhost", "0"},
		"https://255.255.255.255:10000": {"https", "255.255.255.255", "10000"},
	} {
		if got, ok := parseOrigin(s); !ok || got != want {
			t.Errorf("%q: %+v, %v, want %+v", s, got, ok, want)
		}
	}
}

func TestO06MalformedLists(t *testing.T) {
	for _, s := range []string{
		"", " ", "*", "*.", "**.example.com", "*.*.example.com", "a.*.example.com", "*example.com", "example.*", "https://", "https://*", "https://*.",
		"https://example.com/", "example.com/path", "https://a@example.com", "example.com:", "example.com:x", "example.com:*", "://example.com",
		"1https://example.com", "https://example.com, https://other.com", "Null ", "all origins", "https://exa mple.com", "http://[::1", "*.éxample.com",
	} {
		_, err := parseOrigins([]string{"https://ok.example", s})
		if err == nil {
			t.Errorf("%q is accepted in a list", s)
		} else if text := internalError(err).Error(); !strings.HasPrefix(text, "websocket: ") || strings.Count(text, "websocket: ") != 1 || !strings.Contains(text, "Upgrader.Origins: ") {
			t.Errorf("%q: %s", s, text)
		}
		// An Upgrader with such a list serves nobody, and says so each time.
		u := &Upgrader{Origins: []string{s}}
		for range 2 {
			if _, got := u.settings(); got == nil || err != nil && got.Error() != err.Error() {
				t.Errorf("%q: the Upgrader reports %v", s, got)
			}
		}
	}
}

func TestS10OriginIsQuoted(t *testing.T) {
	for _, lines := range [][]string{{"http://evil.com\n\x1b[31m"}, {"\x1b]0;x\x07"}, {"http://evil.com", "\n"}} {
		err := admits(t, nil, "host\n\x1b", lines...)
		if err == nil || strings.ContainsAny(err.Error(), "\n\x1b\x07") {
			t.Errorf("%q: %v", lines, err)
		}
	}
	if err := admits(t, nil, "host\n\x1b", "http://evil.com"); err == nil || strings.ContainsAny(err.Error(), "\n\x1b") {
		t.Errorf("the host is not quoted: %v", err)
	}
	if errors.Unwrap(admits(t, nil, "example.com", "null")) != nil {
		t.Error("a refusal wraps an error")
	}
}

// A host alone speaks for web pages; the origins of other schemes have to be
// listed whole.
func TestO02OtherSchemes(t *testing.T) {
	for _, tt := range []struct {
		list    []string
		origin  string
		refused bool
	}{
		{nil, "foo://example.com", true},
		{nil, "ftp://example.com", true},
		{[]string{"example.com"}, "foo://example.com", true},
		{[]string{"foo://example.com"}, "foo://example.com", false},
		{[]string{"foo://example.com"}, "foo://example.com:1", true},
		{[]string{"*.example.com"}, "https://a.example.com", false},
		{[]string{"*.example.com"}, "https://..example.com", true},
		{[]string{"*.example.com"}, "https://a..example.com", true},
		{[]string{"*.example.com"}, "https://.example.com", true},
	} {
		policy, err := parseOrigins(tt.list)
		if err != nil {
			t.Fatal(err)
		}
		r := &http.Request{Host: "example.com", Header: http.Header{"Origin": {tt.origin}}}
		if err := policy.check(r); (err != nil) != tt.refused {
			t.Errorf("%s with %q: %v", tt.origin, tt.list, err)
		}
	}
	for _, s := range []string{"https://a..b", ".example.com", "*..example.com", "https://.b"} {
		if _, err := parseOrigins([]string{s}); err == nil {
			t.Errorf("%q is accepted as a pattern", s)
		}
	}
}
