package conformance

import (
	"errors"
	"net/http"
	"slices"
)

var (
	hsOriginFull     = &HandshakeServer{Name: "one origin", Origins: []string{"https://app.example.com"}}
	hsOriginHost     = &HandshakeServer{Name: "host pattern", Origins: []string{"app.example.com:8080"}}
	hsOriginWild     = &HandshakeServer{Name: "wildcard", Origins: []string{"*.example.com"}}
	hsOriginWildFull = &HandshakeServer{Name: "wildcard origin", Origins: []string{"https://*.example.com"}}
	hsOriginNull     = &HandshakeServer{Name: "null", Origins: []string{"null"}}
	hsOriginSeveral  = &HandshakeServer{Name: "several", Origins: []string{"https://a.test", "b.test", "https://*.c.test:8443"}}
	hsOriginAny      = &HandshakeServer{Name: "any origin", AnyOrigin: true}

	hsCheckAccepts = &HandshakeServer{Name: "accepting check", CheckOrigin: func(*http.Request) error { return nil }}
	hsCheckRefuses = &HandshakeServer{Name: "check by header", CheckOrigin: func(r *http.Request) error {
		if r.Header.Get("Origin") == "" {
			return nil
		}
		return errors.New(HandshakeMarker)
	}}
)

// hsOrigins gives Origin one value after the other, on a host if it is not
// empty.
func hsOrigins(host string, want HandshakeAnswer, origins ...string) []HandshakeRow {
	rows := hsValues("Origin", want, origins...)
	for i := range rows {
		if host != "" {
			rows[i].Set = "Host: " + host + "\n" + rows[i].Set
		}
	}
	return rows
}

var handshakeOriginRules = []handshakeRule{
	{"O-01", "no Origin: accepted", []HandshakeRow{
		{Want: hsOpen},
		{Server: hsOriginFull, Want: hsOpen},
		{Server: hsOriginWild, Set: "Host: localhost:8080", Want: hsOpen},
	}},

	{"O-02", "host and port of the origin equal those of the request; a missing port is the default of the origin's scheme", slices.Concat(
		hsOrigins("", hsOpen, "http://example.com", "https://EXAMPLE.COM", "https://example.com:443", "http://example.com:80", "https://example.com"),
		hsOrigins("", hsForbidden, "http://example.com:8080", "http://evil.com", "http://example.com.evil.com", "http://sub.example.com",
			"http://evilexample.com", "http://example.co", "http://xample.com", "http://com", "http://example.com.", "http://example.com:443",
			"https://example.com:80", "http://example.com:1", "http://127.0.0.1", "http://localhost"),
		hsOrigins("EXAMPLE.com", hsOpen, "http://example.COM"),
		hsOrigins("example.com:8080", hsOpen, "http://example.com:8080", "https://example.com:8080"),
		hsOrigins("example.com:8080", hsForbidden, "http://example.com", "https://example.com", "http://example.com:80", "http://example.com:808",
			"http://example.com:80800"),
		hsOrigins("example.com:80", hsOpen, "http://example.com", "http://example.com:80"),
		hsOrigins("example.com:80", hsForbidden, "https://example.com"),
		hsOrigins("example.com:443", hsOpen, "https://example.com", "https://example.com:443"),
		hsOrigins("example.com:443", hsForbidden, "http://example.com"),
		hsOrigins("[::1]:8080", hsOpen, "http://[::1]:8080"),
		hsOrigins("[::1]:8080", hsForbidden, "http://[::1]", "http://[::2]:8080", "http://::1:8080", "http://[::1:8080", "http://[::1]8080"),
		hsOrigins("[::1]", hsOpen, "http://[::1]", "https://[::1]"),
		// What folds to an ASCII letter in Unicode is another host.
		hsOrigins("kiosk.example.com", hsForbidden, "http://\u212aiosk.example.com", "http://kio\u017fk.example.com"),
		[]HandshakeRow{{Set: "Host:\nOrigin: http://example.com", Want: hsForbidden}})},

	{"O-03", "null: refused unless listed", slices.Concat(
		hsOrigins("", hsForbidden, "null"),
		hsOn(hsOriginFull, hsOrigins("", hsForbidden, "null")),
		hsOn(hsOriginWild, hsOrigins("", hsForbidden, "null")),
		hsOrigins("null", hsForbidden, "null"),
		hsOn(hsOriginNull, hsOrigins("", hsOpen, "null", "http://example.com"), hsOrigins("", hsForbidden, "http://evil.com", "http://null", "")))},

	{"O-04", "an Origin that is not scheme://host[:port]: refused", slices.Concat(
		hsOrigins("", hsForbidden, "", "garbage", "http://", "file://", "http://a@example.com", "http://a:b@example.com", "http://@example.com",
			"http://example.com/", "http://example.com, http://example.com", "http://example.com http://example.com", "http://example.com/path",
			"http://example.com?", "http://example.com?x", "http://example.com#", "http://example.com#x", "http://exa mple.com", "http:// example.com",
			"http ://example.com", "http://example\t.com", "http://example.com:80x", "http://example.com:-80", "http://example.com:80:80", "http:///example.com",
			"http:/example.com", "http:example.com", "//example.com", "example.com", "://example.com", "1http://example.com", "http://http://example.com",
			"http://%65xample.com", "http://example.com%00", `http://example.com\`, `http://example.com\@evil.com`, `http:\\example.com`, `"http://example.com"`,
			"<http://example.com>", "http://[example.com]", "http://example.com,", ",http://example.com", "http://evil.com#@example.com", "http://\u00e9xample.com"),
		hsOn(hsOriginWild, hsOrigins("", hsForbidden, "", "garbage", "https://app.example.com/", "https://a@app.example.com",
			"https://evil.com/.example.com", "https://evil.com#.example.com", "https://evil.com?.example.com", "https://evil.com:80.example.com", "https://evil.com:80.example.com:443",
			`https://evil.com\.example.com`, "https://evil.com .example.com", "https://evil.com@app.example.com", "https://evil.com,app.example.com",
			"https://%2f.example.com", "https://[::1].example.com")),
		hsOn(hsOriginFull, hsOrigins("", hsForbidden, "https://app.example.com/", "https://app.example.com, https://app.example.com", "app.example.com")))},

	{"O-05", "more than one Origin line: refused", []HandshakeRow{
		{Add: "Origin: http://example.com\nOrigin: http://example.com", Want: hsForbidden},
		{Add: "Origin: http://example.com\nOrigin: http://evil.com", Want: hsForbidden},
		{Add: "Origin: http://example.com\nOrigin:", Want: hsForbidden},
		{Add: "Origin:\nOrigin: http://example.com", Want: hsForbidden},
		{Server: hsOriginFull, Add: "Origin: https://app.example.com\nOrigin: https://app.example.com", Want: hsForbidden},
	}},

	{"O-06", "an allow-list holds full origins, scheme compared, or host patterns; *. is one or more labels", slices.Concat(
		hsOn(hsOriginFull,
			hsOrigins("", hsOpen, "https://app.example.com", "https://APP.example.com", "https://app.example.com:443",
				"http://example.com"), // the host served stays acceptable
			hsOrigins("", hsForbidden, "http://app.example.com", "https://app.example.com:444", "https://app.example.com:80", "http://app.example.com:443",
				"https://x.app.example.com", "https://app.example.com.evil.com", "https://xapp.example.com", "https://evil.com")),
		hsOn(hsOriginHost,
			hsOrigins("", hsOpen, "https://app.example.com:8080", "http://APP.example.com:8080", "https://example.com"),
			hsOrigins("", hsForbidden, "http://app.example.com", "https://app.example.com", "https://app.example.com:80", "https://x.app.example.com:8080")),
		hsOn(hsOriginWild,
			hsOrigins("api.test", hsOpen, "https://a.example.com", "http://a.example.com", "https://a.b.example.com", "https://A.Example.COM", "http://api.test"),
			hsOrigins("api.test", hsForbidden, "https://example.com", "https://example.com.evil.com", "https://evilexample.com", "https://a.example.com.evil.com",
				"https://.example.com", "https://a.example.co", "https://example.com.", "https://*example.com", "null")),
		hsOn(hsOriginWildFull,
			hsOrigins("api.test", hsOpen, "https://a.example.com", "https://a.b.example.com:443"),
			hsOrigins("api.test", hsForbidden, "http://a.example.com", "https://example.com", "https://a.example.com:444", "https://evilexample.com",
				"https://a.example.com.evil.com")),
		hsOn(hsOriginSeveral,
			hsOrigins("", hsOpen, "https://a.test", "http://b.test", "https://b.test", "https://x.c.test:8443"),
			hsOrigins("", hsForbidden, "http://a.test", "https://x.b.test", "https://x.c.test", "https://c.test:8443", "http://x.c.test:8443")),
		hsOn(hsOriginAny, hsOrigins("", hsOpen, "http://evil.com", "https://example.com:8443", "http://example.com")))},

	{"O-07", "a check of the application's own replaces the policy; its refusal is 403", slices.Concat(
		hsOn(hsCheckAccepts, hsOrigins("", hsOpen, "http://evil.com", "null", "http://example.com")),
		hsOn(hsCheckRefuses, hsOrigins("", hsForbidden, "http://example.com", "http://evil.com")))},

	{"O-08", "the check also runs when cookies or Authorization are present", []HandshakeRow{
		{Add: "Cookie: a=b\nOrigin: http://evil.com", Want: hsForbidden},
		{Add: "Authorization: Bearer x\nOrigin: http://evil.com", Want: hsForbidden},
		{Add: "Authorization: Bearer x\nCookie: a=b\nOrigin: http://example.com", Want: hsOpen},
		{Add: "Sec-Fetch-Site: same-origin\nOrigin: http://evil.com", Want: hsForbidden},
		{Add: "X-Forwarded-Host: evil.com\nOrigin: http://evil.com", Want: hsForbidden},
		{Add: "Referer: http://example.com/\nOrigin: http://evil.com", Want: hsForbidden},
	}},
}
