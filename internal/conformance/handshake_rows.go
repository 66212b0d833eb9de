package conformance

import (
	"fmt"
	"slices"
	"strings"
)

// A handshakeRule is one item of the contract with its rows, in which id,
// rule and (if it is the default one) server are left out.
type handshakeRule struct {
	id, rule string
	rows     []HandshakeRow
}

// HandshakeRows returns the rows of sections 1 to 4, 14 and 15 that are
// answers to a request.
func HandshakeRows() []HandshakeRow {
	var rows []HandshakeRow
	for _, rules := range [][]handshakeRule{
		handshakeRequestRules, handshakeOriginRules, handshakeResponseRules,
		handshakeSubprotocolRules, handshakeExtensionRules, handshakeSecurityRules, handshakeDeflateRules,
	} {
		for _, rule := range rules {
			for _, row := range rule.rows {
				row.ID, row.Rule = rule.id, rule.rule
				if row.Server == nil {
					row.Server = handshakeDefault
				}
				rows = append(rows, row)
				if row.Server == handshakeDefault && (strings.HasPrefix(rule.id, "E-") || rule.id == "B-05") {
					row.Server, row.Want.Extension = handshakeCompressing, row.Want.Deflate
					if row.Want.Deflate != "" {
						row.Want.Absent = nil
					}
					rows = append(rows, row)
				}
			}
		}
	}
	return rows
}

var (
	handshakeDefault = &HandshakeServer{Name: "default", Subprotocols: []string{"chat", "superchat"}}
	// handshakeCompressing compresses and is like the default otherwise.
	handshakeCompressing = &HandshakeServer{Name: "compression", Subprotocols: []string{"chat", "superchat"}, Compression: HandshakeCompression{Enable: true}}
	handshakeBare        = &HandshakeServer{Name: "no subprotocols"}
)

var (
	hsOpen      = HandshakeAnswer{Status: 101}
	hsBad       = HandshakeAnswer{Status: 400}
	hsForbidden = HandshakeAnswer{Status: 403}
	hsMethod    = HandshakeAnswer{Status: 405, Header: []string{"Allow: GET"}}
	hsUpgrade   = HandshakeAnswer{Status: 426, Header: []string{"Upgrade: websocket", "Connection: Upgrade"}}
	hsVersion   = HandshakeAnswer{Status: 426,
		Header: []string{"Sec-WebSocket-Version: 13", "Upgrade: websocket", "Connection: Upgrade"}}
	hsNoVersion = HandshakeAnswer{Status: 400, Header: []string{"Sec-WebSocket-Version: 13"}}
	hsNet400    = HandshakeAnswer{Status: 400, NetHTTP: true}
	hsNet501    = HandshakeAnswer{Status: 501, NetHTTP: true}
	hsNet505    = HandshakeAnswer{Status: 505, NetHTTP: true}

	// net/http takes Connection out of an answer after which it closes.
	hsHTTP10 = HandshakeAnswer{Status: 426, Header: []string{"Upgrade: websocket"}, Closes: true}
)

// hsValues gives the line one value after the other.
func hsValues(name string, want HandshakeAnswer, values ...string) []HandshakeRow {
	var rows []HandshakeRow
	for _, v := range values {
		rows = append(rows, HandshakeRow{Set: name + ": " + v, Want: want})
	}
	return rows
}

// hsOn puts rows on a server.
func hsOn(server *HandshakeServer, rows ...[]HandshakeRow) []HandshakeRow {
	all := slices.Concat(rows...)
	for i := range all {
		all[i].Server = server
	}
	return all
}

func hsMethods(methods ...string) []HandshakeRow {
	var rows []HandshakeRow
	for _, m := range methods {
		rows = append(rows, HandshakeRow{Method: m, Want: hsMethod})
	}
	return rows
}

const (
	hsTwoKeys   = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
	hsOtherKey  = "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA=="
	hsChunked   = "Transfer-Encoding: chunked"
	hsBaseAgain = "GET /ws HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

var (
	hsHi   = string(mustBytes("81 82 z 6869"))
	hsPing = string(mustBytes("89 80 z"))
	// A frame whose payload ends a line: net/http answers it with its own 400.
	hsLine = string(mustBytes("82 82 z 0d0a"))
)

var handshakeRequestRules = []handshakeRule{
	{"H-01", "only GET upgrades, and method names are case-sensitive: 405 with Allow: GET",
		hsMethods("POST", "HEAD", "PUT", "OPTIONS", "CONNECT", "get", "Get", "DELETE", "PATCH", "TRACE", "GETS")},

	{"H-02", "HTTP/1.0 cannot upgrade: as without Upgrade", []HandshakeRow{
		{Proto: "HTTP/1.0", Want: hsHTTP10},
		{Proto: "HTTP/1.0", Drop: "Host", Want: hsHTTP10},
		{Proto: "HTTP/1.2", Want: hsOpen},
	}},

	{"H-03", "Upgrade must contain the token websocket, any case, any position, any line: else 426", slices.Concat(
		[]HandshakeRow{{Drop: "Upgrade", Want: hsUpgrade}},
		hsValues("Upgrade", hsUpgrade, "h2c", "websocket/13", "websocketx", "xwebsocket", "", ",", "web socket",
			`"websocket"`, "websocket;q=1", "h2c, websocket/13", "h2c websocket"),
		// H-14: what folds to ASCII letters in Unicode is not equal in ASCII.
		hsValues("Upgrade", hsUpgrade, "web\u017focket", "websoc\u212aet"),
		hsValues("Upgrade", hsOpen, "WebSocket", "WEBSOCKET", "h2c, WEBSOCKET", "websocket, h2c", "websocket,", ", websocket",
			",,websocket,,", "h2c,\twebsocket", "h2c ,websocket ,x", "websocket/13, websocket"),
		[]HandshakeRow{
			{Set: "Upgrade: h2c", Add: "Upgrade: websocket", Want: hsOpen},
			{Add: "Upgrade: h2c", Want: hsOpen},
			{Set: "Upgrade: h2c", Add: "Upgrade: h3", Want: hsUpgrade},
			{Set: "Upgrade: web", Add: "Upgrade: socket", Want: hsUpgrade},
		})},

	{"H-04", "Connection must contain the token upgrade, any case, any position, any line: else 400", slices.Concat(
		[]HandshakeRow{{Drop: "Connection", Want: hsBad}},
		hsValues("Connection", hsBad, "keep-alive", "upgraded", "xupgrade", "", ",", `"upgrade"`, "upgrade;q=1", "keep-alive upgrade"),
		hsValues("Connection", hsOpen, "upgrade", "UPGRADE", "keep-alive, Upgrade", "close, upgrade", "Upgrade, keep-alive",
			"upgrade,", ",, upgrade", "x,\tupgrade\t,y"),
		[]HandshakeRow{
			{Set: "Connection: keep-alive", Add: "Connection: uPGRADE", Want: hsOpen},
			{Add: "Connection: keep-alive", Want: hsOpen},
		})},

	{"H-05", "no Sec-WebSocket-Version: 400", []HandshakeRow{{Drop: "Sec-WebSocket-Version", Want: hsNoVersion}}},

	{"H-06", "a version that is not exactly 13: 426 with the version spoken", slices.Concat(
		hsValues("Sec-WebSocket-Version", hsVersion, "8", "0", "7", "12", "14", "25", "013", "13, 8", "8, 13", "13,", "13, 13", "13;", "abc", "",
			"+13", "-13", "1 3", "13.0", "0x0d", `"13"`, "131", "1", "113", "\uff11\uff13", "18446744073709551629"),
		hsValues("Sec-WebSocket-Version", hsOpen, " 13 ", "\t13\t ", "13"))},

	{"H-07", "more than one Sec-WebSocket-Version line: 400", []HandshakeRow{
		{Add: "Sec-WebSocket-Version: 13", Want: hsNoVersion},
		{Set: "Sec-WebSocket-Version: 8", Add: "Sec-WebSocket-Version: 13", Want: hsNoVersion},
		{Add: "Sec-WebSocket-Version: 8", Want: hsNoVersion},
		{Add: "Sec-WebSocket-Version:", Want: hsNoVersion},
	}},

	{"H-08", "exactly one Sec-WebSocket-Key line: else 400", slices.Concat(
		[]HandshakeRow{
			{Drop: "Sec-WebSocket-Key", Want: hsBad},
			{Add: hsTwoKeys, Want: hsBad},
			{Add: hsOtherKey, Want: hsBad},
			{Add: "Sec-WebSocket-Key:", Want: hsBad},
			{Set: "Sec-WebSocket-Key:", Add: hsTwoKeys, Want: hsBad},
		},
		hsValues("Sec-WebSocket-Key", hsBad, "", "key1, key2", "dGhlIHNhbXBsZSBub25jZQ==, AQIDBAUGBwgJCgsMDQ4PEA=="))},

	{"H-09", "the key is standard base64, with padding, of exactly 16 bytes: else 400",
		hsValues("Sec-WebSocket-Key", hsBad, "AQIDBAUGBwgJCgsMDQ4P", "AQIDBAUGBwgJCgsMDQ4PEBE=", "AQIDBAUGBwgJCgsMDQ4PEA",
			"AQIDBAUGBwgJCgsMDQ4PE-==", "AQIDBAUGBwgJCgsMDQ4P_A==", "dGhlIHNhbXBsZSBub25jZQ==x", "dGhlIHNhbXBs ZSBub25jZQ==", "hello",
			"AQIDBAUGBwgJCgsMDQ4PEBES", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZQ===", "dGhlIHNhbXBsZSBub25jZ===",
			"dGhlIHNhbXBsZSBub25jZQ=A", "=GhlIHNhbXBsZSBub25jZQ==", "========================", "dGhlIHNhbXBs\tSBub25jZQ==",
			"dGhlIHNhbXBsZSBub25j\u00e9==", "dGhlIHNhbXBsZSBub25jZQ==dGhlIHNhbXBsZSBub25jZQ==")},

	{"H-10", "non-zero discarded bits in the last character of the key are accepted", []HandshakeRow{
		{Set: "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEC==",
			Want: HandshakeAnswer{Status: 101, Accept: "OfS0wDaT5NoxF2gqm7Zj2YtetzM="}},
	}},

	{"H-11", "a handshake with a body: 400", []HandshakeRow{
		{Add: "Content-Length: 5", Behind: "hello", Want: hsBad},
		{Add: hsChunked, Behind: "0\r\n\r\n", Want: hsBad},
		{Add: hsChunked, Behind: "5\r\nhello\r\n0\r\n\r\n", Want: hsBad},
		{Add: "Content-Length: 0", Want: hsOpen},
		{Add: "Content-Length: 0", Behind: hsHi, Want: HandshakeAnswer{Status: 101, Frames: "81 02 6869"}},
		// net/http closes, since it cannot know whether the body will come.
		{Add: "Content-Length: 5\nExpect: 100-continue", Behind: "hello", Want: HandshakeAnswer{Status: 400, Continue: true, Closes: true}},
	}},

	{"H-14", "header names compare case-insensitively", []HandshakeRow{
		{Set: handshakeNames(strings.ToLower), Want: hsOpen},
		{Set: handshakeNames(strings.ToUpper), Want: hsOpen},
	}},

	{"H-15", "unknown headers are ignored", []HandshakeRow{
		{Add: "X-Any: 1\nSec-WebSocket-Foo: 1\nSec-WebSocket-Accept: x", Want: hsOpen},
		{Add: "Sec-WebSocket-Accept: " + HandshakeMarker + "\nSec-WebSocket-Location: x\nSec-WebSocket-Key1: x", Want: hsOpen},
	}},

	{"H-16", "Host is required, by net/http", []HandshakeRow{
		{Drop: "Host", Want: hsNet400},
		{Add: "Host: example.com", Want: hsNet400},
		{Set: "Host: exa mple", Want: hsNet400},
	}},

	{"H-17", "the host of an absolute-form target replaces Host", []HandshakeRow{
		{Target: "http://example.com/ws", Set: "Host: other\nOrigin: http://example.com", Want: hsOpen},
		{Target: "http://example.com/ws", Set: "Host: other\nOrigin: http://other", Want: hsForbidden},
		{Target: "http://example.com:8080/ws", Set: "Host: other\nOrigin: http://example.com:8080", Want: hsOpen},
		{Target: "http://example.com/ws", Set: "Host: other", Want: hsOpen},
	}},

	{"H-18", "malformed HTTP never reaches the library", []HandshakeRow{
		{Set: "Upgrade : websocket", Want: hsNet400},
		{Add: "X-Any: a\x00b", Want: hsNet400},
		{Set: "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\x00", Want: hsNet400},
		{Target: "/%zz", Want: hsNet400},
		{Proto: "HTTP/2.0", Want: hsNet505},
		{Proto: "HTTP/3.0", Want: hsNet505},
	}},

	{"H-19", "frames in the same segment as the request are processed after the 101", []HandshakeRow{
		{Behind: hsHi, Want: HandshakeAnswer{Status: 101, Frames: "81 02 6869"}},
		{Behind: hsPing + hsHi + hsPing, Want: HandshakeAnswer{Status: 101, Frames: "8a 00 81 02 6869 8a 00"}},
		{Behind: hsLine, Want: HandshakeAnswer{Status: 101, Frames: "82 02 0d0a"}},
	}},

	{"H-23", "Expect: 100-continue without a body: optional 100, then 101", []HandshakeRow{
		{Add: "Expect: 100-continue", Want: HandshakeAnswer{Status: 101, Continue: true}},
	}},
}

// handshakeNames is BASE with its names changed.
func handshakeNames(change func(string) string) string {
	var lines []string
	for _, line := range handshakeBase {
		name, value, _ := strings.Cut(line, ":")
		lines = append(lines, change(name)+":"+value)
	}
	return strings.Join(lines, "\n")
}

var handshakeResponseRules = []handshakeRule{
	{"R-01", "the accept value is made of the key as received, trimmed, not of what it decodes to", []HandshakeRow{
		{Want: HandshakeAnswer{Status: 101, Accept: "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="}},
		{Set: "Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==", Want: HandshakeAnswer{Status: 101, Accept: "HSmrc0sMlYUkAGmm5OPpG2HaGWk="}},
		{Set: "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==", Want: HandshakeAnswer{Status: 101, Accept: "C/0nmHhBztSRGR1CwL6Tf4ZjwpY="}},
		{Set: "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", Want: HandshakeAnswer{Status: 101, Accept: "ICX+Yqv66kxgM0FcWaLWlFLwTAI="}},
		{Set: "Sec-WebSocket-Key: \t dGhlIHNhbXBsZSBub25jZQ== \t", Want: hsOpen},
	}},
}

var handshakeSecurityRules = []handshakeRule{
	{"B-05", "the offers that browsers make are no obstacle", hsValues("Sec-WebSocket-Extensions", hsDeflate,
		"permessage-deflate")},
	{"B-05", "nor is that of today's", hsValues("Sec-WebSocket-Extensions", hsAgree("permessage-deflate; server_max_window_bits=12; client_max_window_bits=12"),
		"permessage-deflate; client_max_window_bits")},

	{"B-11", "Firefox sends Connection: keep-alive, Upgrade", hsValues("Connection", hsOpen, "keep-alive, Upgrade")},

	{"S-01", "cross-origin requests of browsers are refused by default", []HandshakeRow{
		{Set: "Origin: https://evil.example\nCookie: session=1", Want: hsForbidden},
		{Server: handshakeBare, Set: "Origin: https://evil.example", Want: hsForbidden},
	}},

	{"S-09", "nothing after a refused handshake is read as frames, no body as a request", []HandshakeRow{
		{Set: "Sec-WebSocket-Version: 8", Behind: hsHi + hsPing + hsLine,
			Want: HandshakeAnswer{Status: 426, Header: hsVersion.Header, Closes: true}},
		{Set: "Origin: http://evil.com", Behind: hsHi + hsPing + hsLine, Want: HandshakeAnswer{Status: 403, Closes: true}},
		{Add: hsChunked, Behind: "0\r\n\r\n" + hsHi + hsLine, Want: HandshakeAnswer{Status: 400, Closes: true}},
		{Add: fmt.Sprintf("Content-Length: %d", len(hsBaseAgain)), Behind: hsBaseAgain, Want: hsBad},
		{Add: hsChunked, Behind: fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(hsBaseAgain), hsBaseAgain), Want: hsBad},
		{Add: "Content-Length: 6", Behind: hsPing, Want: hsBad},
		{Add: "Content-Length: 5\nContent-Length: 5", Behind: "hello", Want: hsBad},
		{Add: "Content-Length: 5\nContent-Length: 0", Behind: "hello", Want: hsNet400},
		{Add: "Content-Length: -1", Want: hsNet400},
		{Add: "Content-Length: 0\n" + hsChunked, Behind: "5\r\nhello\r\n0\r\n\r\n", Want: hsBad},
		{Add: "Transfer-Encoding: identity", Want: hsNet501},
		{Add: "Transfer-Encoding: gzip, chunked", Behind: "0\r\n\r\n", Want: hsNet501},
	}},

	{"S-11", "a refusal does not reflect the request", []HandshakeRow{
		{Method: "ZQ7XW", Want: hsMethod},
		{Target: "/zq7xw?zq7xw=1", Set: "Upgrade: h2c", Want: hsUpgrade},
		{Set: "Upgrade: zq7xw", Want: hsUpgrade},
		{Set: "Connection: zq7xw", Want: hsBad},
		{Set: "Sec-WebSocket-Version: zq7xw", Want: hsVersion},
		{Add: "Sec-WebSocket-Version: zq7xw", Want: hsNoVersion},
		{Set: "Sec-WebSocket-Key: zq7xw", Want: hsBad},
		{Add: "Content-Length: 5", Behind: HandshakeMarker, Want: hsBad},
		{Set: "Sec-WebSocket-Protocol: zq7xw zq7xw", Want: hsBad},
		{Set: "Sec-WebSocket-Protocol: zq7xw, zq7xw", Want: hsBad},
		{Set: "Sec-WebSocket-Extensions: zq7xw; =zq7xw", Want: hsBad},
		{Set: "Origin: http://zq7xw.example", Want: hsForbidden},
		{Set: "Origin: zq7xw", Want: hsForbidden},
		{Set: "Host: zq7xw.example\nOrigin: http://evil.com", Want: hsForbidden},
	}},
}

// HandshakeViolations returns one request for each of H-01 … H-13, in the
// order in which the checks run. Those of the same id, and those for which
// Exclusive is true, cannot be put into one request.
func HandshakeViolations() []HandshakeRow {
	rows := []HandshakeRow{
		{ID: "H-01", Method: "POST", Want: hsMethod},
		{ID: "H-02", Proto: "HTTP/1.0", Want: HandshakeAnswer{Status: 426, Header: []string{"Upgrade: websocket"}}},
		{ID: "H-03", Set: "Upgrade: h2c", Want: hsUpgrade},
		{ID: "H-04", Set: "Connection: keep-alive", Want: hsBad},
		{ID: "H-05", Drop: "Sec-WebSocket-Version", Want: hsNoVersion},
		{ID: "H-06", Set: "Sec-WebSocket-Version: 8", Want: hsVersion},
		{ID: "H-07", Add: "Sec-WebSocket-Version: 13", Want: hsNoVersion},
		{ID: "H-08", Add: hsTwoKeys, Want: hsBad},
		{ID: "H-09", Set: "Sec-WebSocket-Key: hello", Want: hsBad},
		{ID: "H-11", Add: "Content-Length: 5", Behind: "hello", Want: hsBad},
		{ID: "H-12", Set: "Sec-WebSocket-Protocol: ch at", Want: hsBad},
		{ID: "H-12", Set: "Sec-WebSocket-Extensions: ;", Want: hsBad},
		{ID: "H-13", Set: "Origin: http://evil.com", Want: hsForbidden},
	}
	for i := range rows {
		rows[i].Server = handshakeDefault
	}
	return rows
}

// HandshakeExclusive says whether the two violations are of the same line.
func HandshakeExclusive(a, b HandshakeRow) bool {
	version := func(r HandshakeRow) bool { return strings.Contains(r.Set+r.Drop+r.Add, "Sec-WebSocket-Version") }
	return a.ID == b.ID || version(a) && version(b)
}
