package websocket_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/memconn"
)

// An exchange is one handshake with a server that answers bytes.
type exchange struct {
	dialed  []string // addresses
	request string
	conn    *websocket.Conn
	resp    *http.Response
	err     error
	server  *memconn.Conn // after its answer
}

// accepted is a 101 that passes every check; ACCEPT stands for what the key asks
// for.
const accepted = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ACCEPT\r\n\r\n"

// handshake dials with o, of which it sets the Transport, and has the server
// answer so, once it has the request.
func handshake(ctx context.Context, url string, o *websocket.DialOptions, answer string) *exchange {
	x := new(exchange)
	var served sync.WaitGroup
	o.Transport = &http.Transport{DialContext: func(_ context.Context, _, addr string) (net.Conn, error) {
		var client *memconn.Conn
		client, x.server = memconn.Pair()
		x.dialed = append(x.dialed, addr)
		served.Go(func() {
			x.request = readHead(x.server)
			answer := strings.ReplaceAll(answer, "ACCEPT", acceptOf(keyOf(x.request)))
			io.WriteString(x.server, answer)
		})
		return client, nil
	}}
	x.conn, x.resp, x.err = websocket.Dial(ctx, url, o)
	served.Wait()
	return x
}

// readHead reads up to the empty line, byte by byte.
func readHead(r io.Reader) string {
	var head []byte
	b := make([]byte, 1)
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		if _, err := io.ReadFull(r, b); err != nil {
			break
		}
		head = append(head, b[0])
	}
	return string(head)
}

func fieldOf(head, name string) (values []string) {
	for _, m := range regexp.MustCompile(`(?im)^`+name+`: *(.*?)\r$`).FindAllStringSubmatch(head, -1) {
		values = append(values, m[1])
	}
	return values
}

func acceptOf(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func keyOf(request string) string { return strings.Join(fieldOf(request, "sec-websocket-key"), "") }

// wantDialError checks that there is no connection, and that the server's end has
// been closed.
func (x *exchange) wantDialError(t *testing.T, what string, status int, text string) *websocket.DialError {
	t.Helper()
	var e *websocket.DialError
	if x.conn != nil || !errors.As(x.err, &e) {
		t.Fatalf("%s: %v, %v; want a DialError", what, x.conn, x.err)
	}
	if e.Status != status || !strings.Contains(e.Error(), text) || !strings.HasPrefix(e.Error(), "websocket: dial") {
		t.Errorf("%s: status %d, %q; want %d, %q", what, e.Status, e, status, text)
	}
	if (x.resp != nil) != (status != 0) || status != 0 && x.resp.StatusCode != status {
		t.Errorf("%s: the response is %v", what, x.resp)
	}
	if x.server != nil {
		x.server.SetReadDeadline(time.Now().Add(time.Minute))
		if b, err := io.ReadAll(x.server); len(b) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection is not closed: %q, %v", what, b, err)
		}
	}
	return e
}

// the request is what RFC 6455 §4.1 asks for.
func TestQ01Request(t *testing.T) {
	tests := []struct{ url, addr, target, host string }{
		{"ws://example.com", "example.com:80", "/", "example.com"},
		{"ws://example.com/", "example.com:80", "/", "example.com"},
		{"ws://example.com:80/chat", "example.com:80", "/chat", "example.com"},
		{"ws://example.com:8080/chat", "example.com:8080", "/chat", "example.com:8080"},
		{"ws://example.com:443/", "example.com:443", "/", "example.com:443"},
		{"ws://example.com:/", "example.com:80", "/", "example.com"},
		{"WS://Example.com/Chat", "Example.com:80", "/Chat", "Example.com"},
		{"http://example.com/", "example.com:80", "/", "example.com"},
		{"hTTp://example.com:80", "example.com:80", "/", "example.com"},
		{"ws://example.com?a=b", "example.com:80", "/?a=b", "example.com"},
		{"ws://example.com/?", "example.com:80", "/?", "example.com"},
		{"ws://example.com/a%2Fb/../%23?q=%20&r=/?x", "example.com:80", "/a%2Fb/../%23?q=%20&r=/?x", "example.com"},
		{"ws://example.com//a", "example.com:80", "//a", "example.com"},
		{"ws://127.0.0.1:81/", "127.0.0.1:81", "/", "127.0.0.1:81"},
		{"ws://[::1]/", "[::1]:80", "/", "[::1]"},
		{"ws://[::1]:80/", "[::1]:80", "/", "[::1]"},
		{"ws://[::1]:8080/", "[::1]:8080", "/", "[::1]:8080"},
		{"ws://bücher.example/", "xn--bcher-kva.example:80", "/", "xn--bcher-kva.example"},
	}
	seen := map[string]bool{}
	for _, tt := range tests {
		x := handshake(context.Background(), tt.url, new(websocket.DialOptions), "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
		x.wantDialError(t, tt.url, 404, "the server answered 404 Not Found")
		if !slices.Equal(x.dialed, []string{tt.addr}) {
			t.Errorf("%s: dialed %v, want %s", tt.url, x.dialed, tt.addr)
		}
		if line := "GET " + tt.target + " HTTP/1.1\r\n"; !strings.HasPrefix(x.request, line) {
			t.Errorf("%s: the request is %q, want %q first", tt.url, x.request, line)
		}
		for name, want := range map[string]string{
			"Host": tt.host, "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
		} {
			if got := fieldOf(x.request, name); !slices.Equal(got, []string{want}) {
				t.Errorf("%s: %s is %q, want %q", tt.url, name, got, want)
			}
		}
		for _, name := range []string{"Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "Origin", "Authorization", "Cookie", "Content-Length", "Transfer-Encoding", "Accept-Encoding"} {
			if got := fieldOf(x.request, name); got != nil {
				t.Errorf("%s: %s is %q, want none", tt.url, name, got)
			}
		}
		key := keyOf(x.request)
		if b, err := base64.StdEncoding.DecodeString(key); len(b) != 16 || err != nil || seen[key] {
			t.Errorf("%s: the key %q is not 16 fresh bytes", tt.url, key)
		}
		seen[key] = true
		if !strings.Contains(x.request, "\r\nSec-WebSocket-Key: ") {
			t.Errorf("%s: the name of the key is spelt differently: %q", tt.url, x.request)
		}
	}
}

// what is no ws URL is refused before anything is dialed, and nothing that
// is secret in it gets into the error.
func TestQ01BadURL(t *testing.T) {
	for _, bad := range []struct{ url, text string }{
		{"ws://example.com/#", "fragment"},
		{"ws://example.com/#a", "fragment"},
		{"ws://example.com/?a#b", "fragment"},
		{"ftp://example.com/", "neither ws nor wss"},
		{"example.com", "neither ws nor wss"},
		{"//example.com/", "neither ws nor wss"},
		{"", "neither ws nor wss"},
		{"ws:example.com", "no host"},
		{"ws:///chat", "no host"},
		{"ws://:80/chat", "no host"},
		{"ws://a:secret@example.com:x/", "malformed URL"},
		{"ws://example.com/%zz", "malformed URL"},
		{"ws://a:secret@example.com/\n", "malformed URL"},
		{"ws://example.com/?a b", "blank"},
	} {
		x := handshake(context.Background(), bad.url, new(websocket.DialOptions), "")
		e := x.wantDialError(t, bad.url, 0, bad.text)
		if len(x.dialed) > 0 || strings.Contains(e.Error(), "secret") {
			t.Errorf("%q: dialed %v, %v", bad.url, x.dialed, e)
		}
	}
}

// The request has what the options say.
func TestQ01Options(t *testing.T) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	jar.SetCookies(&url.URL{Scheme: "http", Host: "example.com"}, []*http.Cookie{{Name: "jar", Value: "1"}})
	o := &websocket.DialOptions{
		Header: http.Header{
			"Origin": {"http://example.com"}, "x-any": {"1", "2"}, "Cookie": {"own=2"}, "User-Agent": {"tester"},
		},
		Host: "other:8080", Subprotocols: []string{"chat", "superchat"}, Jar: jar,
	}
	header := o.Header.Clone()
	x := handshake(context.Background(), "ws://ada:s3cret@example.com/", o, strings.Replace(accepted, "\r\n\r\n",
		"\r\nSet-Cookie: set=3; Path=/\r\nSec-WebSocket-Protocol: superchat\r\n\r\n", 1))
	if x.err != nil {
		t.Fatal(x.err)
	}
	defer x.conn.CloseNow()
	for name, want := range map[string][]string{
		"Host": {"other:8080"}, "Origin": {"http://example.com"}, "X-Any": {"1", "2"}, "User-Agent": {"tester"},
		"Cookie": {"own=2; jar=1"}, "Authorization": {"Basic YWRhOnMzY3JldA=="}, "Sec-WebSocket-Protocol": {"chat, superchat"},
	} {
		if got := fieldOf(x.request, name); !slices.Equal(got, want) {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if x.conn.Subprotocol() != "superchat" || x.resp.StatusCode != 101 || x.resp.Header.Get("Set-Cookie") == "" {
		t.Errorf("the answer is %q, %v", x.conn.Subprotocol(), x.resp)
	}
	if b, err := io.ReadAll(x.resp.Body); len(b) > 0 || err != nil {
		t.Errorf("the body of the answer: %q, %v", b, err)
	}
	if cookies := fmt.Sprint(jar.Cookies(&url.URL{Scheme: "https", Host: "example.com", Path: "/"})); cookies != "[jar=1 set=3]" {
		t.Errorf("the jar has %s", cookies)
	}
	if fmt.Sprint(o.Header) != fmt.Sprint(header) {
		t.Errorf("the caller's header has become %v", o.Header)
	}
	if strings.Contains(fmt.Sprint(x.resp.Request.URL), "s3cret") {
		t.Error("the password is in the response's request")
	}

	// An Authorization of the application's goes before that of the URL, and
	// cookies of a refusal are kept, too.
	o = &websocket.DialOptions{Header: http.Header{"Authorization": {"Bearer x"}}, Jar: jar}
	x = handshake(context.Background(), "ws://ada@example.com/", o, "HTTP/1.1 403 Forbidden\r\nSet-Cookie: set=4\r\nContent-Length: 0\r\n\r\n")
	x.wantDialError(t, "403", 403, "403 Forbidden")
	if got := fieldOf(x.request, "Authorization"); !slices.Equal(got, []string{"Bearer x"}) {
		t.Errorf("Authorization is %q", got)
	}
	if cookies := fmt.Sprint(jar.Cookies(&url.URL{Scheme: "http", Host: "example.com", Path: "/"})); cookies != "[jar=1 set=4]" {
		t.Errorf("the jar has %s", cookies)
	}
}

func TestDialOptionsRefused(t *testing.T) {
	for what, o := range map[string]*websocket.DialOptions{
		"belongs to the handshake": {Header: http.Header{"sec-websocket-key": {"x"}}},
		`"Host"`:                   {Header: http.Header{"Host": {"x"}}},
		`"Upgrade"`:                {Header: http.Header{"Upgrade": {"h2c"}}},
		`"Connection"`:             {Header: http.Header{"Connection": {"close"}}},
		`"Content-Length"`:         {Header: http.Header{"Content-Length": {"1"}}},
		"not a token":              {Subprotocols: []string{"a b"}},
		"offered twice":            {Subprotocols: []string{"a", "b", "a"}},
		"WriteQueue":               {Config: websocket.Config{WriteQueue: -1}},
		"PingTimeout":              {Config: websocket.Config{PingTimeout: -1}},
		"Overflow":                 {Config: websocket.Config{Overflow: 9}},
		"invalid header":           {Header: http.Header{"X": {"a\nb"}}}, // by net/http
	} {
		x := handshake(context.Background(), "ws://example.com/", o, accepted)
		x.wantDialError(t, what, 0, what)
		if len(x.dialed) > 0 && what != "invalid header" {
			t.Errorf("%s: dialed %v", what, x.dialed)
		}
	}
}

// with101 is accepted, with one line replaced or, if it begins with "+", added.
func with101(lines ...string) string {
	answer := accepted
	for _, line := range lines {
		if added, ok := strings.CutPrefix(line, "+"); ok {
			answer = strings.Replace(answer, "\r\n\r\n", "\r\n"+added+"\r\n\r\n", 1)
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		if value == "" {
			line = ""
		} else {
			line += "\r\n"
		}
		answer = regexp.MustCompile(name+`: .*\r\n`).ReplaceAllLiteralString(answer, line)
	}
	return answer
}

// B-03: what is accepted as an answer, and what is not.
func TestQ02Q03Q04Answers(t *testing.T) {
	chat := func() *websocket.DialOptions {
		return &websocket.DialOptions{Subprotocols: []string{"chat", "superchat"}}
	}
	browser := func() *websocket.DialOptions { o := chat(); o.RequireSubprotocol = true; return o }
	none := func() *websocket.DialOptions { return new(websocket.DialOptions) }
	const protocol = "+Sec-WebSocket-Protocol: "
	for _, tt := range []struct {
		rule    string
		options func() *websocket.DialOptions
		answer  string
		refused string // text of the error; "": accepted
	}{
		{"Q-02: a plain 101", none, accepted, ""},
		{"Q-02: HTTP/1.0", none, strings.Replace(accepted, "HTTP/1.1", "HTTP/1.0", 1), "HTTP/1.0"},
		{"Q-02: any case of websocket", none, with101("Upgrade: WebSocket"), ""},
		{"Q-02: any case of websocket", none, with101("Upgrade: WEBSOCKET"), ""},
		{"Q-02: no Upgrade", none, with101("Upgrade:"), "Upgrade"},
		{"Q-02: another Upgrade", none, with101("Upgrade: h2c"), "Upgrade"},
		{"Q-02: a version", none, with101("Upgrade: websocket/13"), "Upgrade"},
		{"Q-02: a longer one", none, with101("Upgrade: websockets"), "Upgrade"},
		{"Q-02: a Kelvin sign is no k", none, with101("Upgrade: websoc\u212aet"), "Upgrade"},
		{"Q-02: two in one", none, with101("Upgrade: websocket, h2c"), "Upgrade"},
		{"Q-02: two lines", none, with101("+Upgrade: h2c"), "Upgrade"},
		{"Q-02: any case and place of upgrade", none, with101("Connection: keep-alive, uPGRADE"), ""},
		{"Q-02: on any line", none, with101("+Connection: foo"), ""},
		{"Q-02: no Connection", none, with101("Connection:"), "Connection"},
		{"Q-02: another Connection", none, with101("Connection: upgraded"), "Connection"},
		{"Q-02: another Connection", none, with101("Connection: close"), "Connection"},
		{"Q-02: the accept value is trimmed", none, with101("Sec-WebSocket-Accept: \t ACCEPT \t"), ""},
		{"Q-02: no accept value", none, with101("Sec-WebSocket-Accept:"), "Accept"},
		{"Q-02: that of another key", none, with101("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "Accept"},
		{"Q-02: more behind it", none, with101("Sec-WebSocket-Accept: ACCEPTx"), "Accept"},
		{"Q-02: another one too", none, with101("+Sec-WebSocket-Accept: ACCEPT"), "Accept"},
		{"Q-02: other headers do not matter", none, with101("+X: 1", "+Content-Length: 5", "+Sec-WebSocket-Version: 13"), ""},
		{"Q-02: a 103 before it does not either", none, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + accepted, ""},

		{"Q-03: none chosen", none, accepted, ""},
		{"Q-03: none of those offered", chat, accepted, ""},
		{"Q-03: one of them", chat, with101(protocol + "superchat"), ""},
		{"Q-03: one of them, blanks around it", chat, with101(protocol + " \tchat "), ""},
		{"Q-03: one that was not offered", chat, with101(protocol + "foo"), `"foo", which was not offered`},
		{"Q-03: another case", chat, with101(protocol + "Chat"), "not offered"},
		{"Q-03: one though none was offered", none, with101(protocol + "chat"), "not offered"},
		{"Q-03: two", chat, with101(protocol + "chat, superchat"), "not exactly one"},
		{"Q-03: two lines", chat, with101(protocol+"chat", protocol+"superchat"), "not exactly one"},
		{"Q-03: twice the same", chat, with101(protocol+"chat", protocol+"chat"), "not exactly one"},
		{"Q-03: an empty one", chat, with101(protocol), "not exactly one"},
		{"Q-03: no token", chat, with101(protocol + "a b"), "not exactly one"},

		{"Q-04: an extension, though none was offered", none, with101("+Sec-WebSocket-Extensions: permessage-deflate"), "not offered"},
		{"Q-04: an unknown one", none, with101("+Sec-WebSocket-Extensions: foo"), `"foo", which was not offered`},
		{"Q-04: an empty one", none, with101("+Sec-WebSocket-Extensions: "), "not offered"},

		{"B-03: a browser wants one", browser, with101(protocol + "chat"), ""},
		{"B-03: a browser refuses none", browser, accepted, "none of the subprotocols"},
		{"B-03: a browser refuses an empty one", browser, with101(protocol), "not exactly one"},
		{"B-03: a browser that offers none wants none", func() *websocket.DialOptions {
			return &websocket.DialOptions{RequireSubprotocol: true}
		}, accepted, ""},
	} {
		x := handshake(context.Background(), "ws://example.com/", tt.options(), tt.answer)
		if tt.refused != "" {
			x.wantDialError(t, tt.rule, 101, tt.refused)
			if b, err := io.ReadAll(x.resp.Body); len(b) > 0 || err != nil {
				t.Errorf("%s: the body of the answer: %q, %v", tt.rule, b, err)
			}
			continue
		}
		if x.err != nil {
			t.Errorf("%s: %v\n%s", tt.rule, x.err, tt.answer)
			continue
		}
		want := ""
		if got := fieldOf(tt.answer, "Sec-WebSocket-Protocol"); len(got) > 0 {
			want = strings.TrimSpace(got[0])
		}
		if x.conn.Subprotocol() != want {
			t.Errorf("%s: the subprotocol is %q", tt.rule, x.conn.Subprotocol())
		}
		x.conn.CloseNow()
	}
}

// S-10: what a server says in a header is quoted, and cut, in the error.
func TestS10DialErrorIsQuoted(t *testing.T) {
	x := handshake(context.Background(), "ws://example.com/", new(websocket.DialOptions),
		with101("+Sec-WebSocket-Extensions: \u202e\""+strings.Repeat("x", 10000)))
	e := x.wantDialError(t, "S-10", 101, `"\u202e\"xxx`)
	if len(e.Error()) > 300 {
		t.Errorf("an error of %d bytes", len(e.Error()))
	}
}

// any other answer is the caller's, with as much of its body as is
// worth keeping. Nothing is followed.
func TestQ02Q10Refusals(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 1000)
	for _, tt := range []struct {
		status int
		header string
		body   string
	}{
		{200, "", "hello"},
		{204, "", ""},
		{301, "Location: http://example.org/\r\n", "moved"},
		{302, "Location: ws://example.org/\r\n", "moved"},
		{307, "Location: /other\r\n", "moved"},
		{308, "Location: /other\r\n", "moved"},
		{400, "", ""},
		{401, "WWW-Authenticate: Basic realm=x\r\n", "please sign in"},
		{407, "Proxy-Authenticate: Basic realm=x\r\n", "please sign in"},
		{426, "Sec-WebSocket-Version: 13\r\n", "which version?"},
		{503, "Retry-After: 5\r\n", long},
		{599, "", long[:4096]},
		{599, "", long[:4097]},
	} {
		// In a bubble, as the body has a second to come.
		synctest.Test(t, func(t *testing.T) {
			length := fmt.Sprintf("Content-Length: %d\r\n", len(tt.body))
			if tt.status == 204 {
				length = ""
			}
			answer := fmt.Sprintf("HTTP/1.1 %d X\r\n%s%s\r\n%s", tt.status, tt.header, length, tt.body)
			x := handshake(context.Background(), "ws://example.com/", new(websocket.DialOptions), answer)
			what := fmt.Sprint("Q-02: ", tt.status)
			e := x.wantDialError(t, what, tt.status, fmt.Sprint("the server answered ", tt.status))
			if len(x.dialed) != 1 {
				t.Errorf("Q-10: %d: dialed %v", tt.status, x.dialed)
			}
			if e.Reason != "" || errors.Unwrap(e) != nil {
				t.Errorf("%s: %#v", what, e)
			}
			if name, value, ok := strings.Cut(strings.TrimSpace(tt.header), ": "); ok && x.resp.Header.Get(name) != value {
				t.Errorf("%s: %s is %q", what, name, x.resp.Header.Get(name))
			}
			if b, err := io.ReadAll(x.resp.Body); string(b) != tt.body[:min(len(tt.body), 4096)] || err != nil {
				t.Errorf("%s: a body of %d bytes, %v", what, len(b), err)
			}
		})
	}
}

// The body of a refusal is waited for, but not for long.
func TestQ02SlowRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		x := handshake(context.Background(), "ws://example.com/", new(websocket.DialOptions),
			"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1")
		wantElapsed(t, start, time.Second)
		x.wantDialError(t, "slow", 200, "200 OK")
		if b, err := io.ReadAll(x.resp.Body); string(b) != "data: 1" || err != nil {
			t.Errorf("the body is %q, %v", b, err)
		}
	})
}

// Answers that are no HTTP, or none at all.
func TestDialNoAnswer(t *testing.T) {
	for _, answer := range []string{"SSH-2.0-x\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/1.1 101 X\r\nbroken\r\n\r\n"} {
		x := handshake(context.Background(), "ws://example.com/", new(websocket.DialOptions), answer)
		x.wantDialError(t, answer, 0, "malformed")
	}
	refused := errors.New("refused")
	_, resp, err := websocket.Dial(context.Background(), "ws://example.com/", &websocket.DialOptions{Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, refused },
	}})
	if !errors.As(err, new(*websocket.DialError)) || !errors.Is(err, refused) || resp != nil {
		t.Errorf("%v, %v", resp, err)
	}
	client, server := memconn.Pair()
	server.Close()
	_, resp, err = websocket.Dial(context.Background(), "ws://example.com/", &websocket.DialOptions{Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return client, nil },
	}})
	if !errors.As(err, new(*websocket.DialError)) || resp != nil {
		t.Errorf("%v, %v", resp, err)
	}
}

// nothing follows the request until it has been answered.
func TestQ05WaitsForTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := memconn.Pair()
		o := &websocket.DialOptions{Transport: &http.Transport{
			DialContext: func(context.Context, string, string) (net.Conn, error) { return client, nil },
		}}
		type dialed struct {
			c   *websocket.Conn
			err error
		}
		d := async(func() dialed {
			c, _, err := websocket.Dial(context.Background(), "ws://example.com/", o)
			return dialed{c, err}
		})
		request := readHead(server)
		time.Sleep(time.Hour)
		wantPending(t, "Dial", d)
		if n := server.Unread(); n > 0 {
			t.Errorf("Q-05: %d bytes behind the request", n)
		}
		io.WriteString(server, strings.ReplaceAll(accepted, "ACCEPT", acceptOf(keyOf(request))))
		if r := done(t, "Dial", d); r.err != nil {
			t.Error(r.err)
		} else {
			r.c.CloseNow()
		}
	})
}

// A context bounds the dialing, in all its stages, and nothing else.
func TestDialContext(t *testing.T) {
	cause := errors.New("enough")
	for stage, answer := range map[string]string{
		"connecting": "", "waiting": "", "in the head": "HTTP/1.1 101 Switch", "in the body": "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeoutCause(context.Background(), time.Second/2, cause)
			defer cancel()
			var server *memconn.Conn
			o := &websocket.DialOptions{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				if stage == "connecting" {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				var client *memconn.Conn
				client, server = memconn.Pair()
				go func() { readHead(server); io.WriteString(server, answer) }()
				return client, nil
			}}}
			start := time.Now()
			c, resp, err := websocket.Dial(ctx, "ws://example.com/", o)
			wantElapsed(t, start, time.Second/2)
			var e *websocket.DialError
			if c != nil || !errors.As(err, &e) {
				t.Fatalf("%s: %v, %v", stage, c, err)
			}
			if stage == "in the body" { // of which there is as much as had come
				if b, _ := io.ReadAll(resp.Body); e.Status != 200 || string(b) != "abc" {
					t.Errorf("%v, %q", err, b)
				}
			} else if resp != nil || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, cause) {
				t.Errorf("%s: %v, %v", stage, resp, err)
			}
			if server != nil {
				if _, err := io.ReadAll(server); errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%s: the connection is not closed", stage)
				}
				server.Close()
			}
		})
	}
}

// The connection outlives the context of its dialing.
func TestDialContextEndsBeforeTheConnection(t *testing.T) {
	for _, secure := range []bool{false, true} {
		b := clientsOnLoopback(t, websocket.Config{}, secure)
		ctx, cancel := context.WithCancel(context.Background())
		p, c := b.openWith(ctx, "the dial's context ends", "")
		cancel()
		p.Write("81 02 6869")
		if m := readOne(context.Background(), c); m != (message{websocket.Text, "hi", nil}) {
			t.Errorf("%v", m)
		}
		if err := c.Write(context.Background(), websocket.Binary, []byte("x")); err != nil {
			t.Error(err)
		}
		p.Want("82 01 78")
		c.CloseNow()
		p.Close()
		b.stop()
	}
}

// what a server sends right behind its answer is not lost, and what is
// not there is not waited for.
func TestQ12EarlyBytes(t *testing.T) {
	long := strings.Repeat("x", 20000)
	for _, tt := range []struct {
		name, early, later string
		messages           []string
	}{
		{"none", "", "81 02 6869", []string{"hi"}},
		{"a message", "81 02 6869", "", []string{"hi"}},
		{"several", "81 02 6869 81 00 89 00 01 01 61 80 01 62", "", []string{"hi", "", "ab"}},
		{"a part of a header", "81", "02 6869", []string{"hi"}},
		{"a part of a message", "81 02 68", "69", []string{"hi"}},
		{"more than a buffer", "82 7e 4e20 rep(78,20000)", "81 01 61", []string{long, "a"}},
		{"as much as a buffer", "82 7e 0ffc rep(78,4092) 81 01 61", "", []string{long[:4092], "a"}},
	} {
		play := func(p interface{ Write(string) }, c *websocket.Conn) {
			p.Write(tt.later)
			for i, want := range tt.messages {
				if m := readOne(context.Background(), c); m.data != want || m.err != nil {
					t.Errorf("Q-12: %s: message %d is %v, %q, %v", tt.name, i, m.typ, short(m.data), m.err)
				}
			}
			c.CloseNow()
		}
		synctest.Test(t, func(t *testing.T) {
			b := clientsInMemory(t, websocket.Config{})
			defer b.stop()
			start := time.Now()
			p, c := b.open("Q-12: "+tt.name, tt.early)
			play(p, c)
			wantElapsed(t, start, 0)
			p.Close()
		})
		for _, secure := range []bool{false, true} {
			b := clientsOnLoopback(t, websocket.Config{}, secure)
			p, c := b.open("Q-12: "+tt.name, tt.early)
			play(p, c)
			p.Close()
			b.stop()
		}
	}
}
