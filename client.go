package websocket

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sockeye-ws/websocket/internal/httpfield"
	"github.com/sockeye-ws/websocket/internal/tunnel"
)

// DialOptions say how to connect to a server. The zero value is ready to use.
//
// Connections that are dialed with the same DialOptions share a clock, and on
// Linux what event mode waits with. So keep one for many connections; its
// fields must not be changed after the first use, and it must not be copied.
// Any number of goroutines may use it.
type DialOptions struct {
	// Header is sent with the request: Origin, Authorization or cookies, for
	// example. The fields of the handshake itself, Sec-WebSocket-* among
	// them, cannot be set.
	Header http.Header

	// Host is the name that the server is asked for, if not that of the URL.
	Host string

	// Subprotocols are offered to the server, the preferred one first.
	// [Conn.Subprotocol] tells which one it chose, if any.
	Subprotocols []string

	// RequireSubprotocol makes Dial fail if Subprotocols are offered and the
	// server chooses none, as browsers do. RFC 6455 allows such a
	// connection.
	RequireSubprotocol bool

	// Jar, if not nil, has the cookies for the request, and gets those of
	// the answer.
	Jar http.CookieJar

	// Transport, if not nil, says how to connect: its proxies, TLS
	// configuration, dial functions (for a Unix socket, say) and time-outs
	// are used, and its connections are not. HTTP/2, keep-alive and
	// compression are off, whatever it says. nil: http.DefaultTransport, or,
	// if that has been replaced by another type, the proxies of the
	// environment and a time-out of 30 s for connecting.
	//
	// It is not a RoundTripper, since a connection has to come from it, and
	// not an http.Client, whose time-out and redirects have no place here.
	Transport *http.Transport

	// Config has the limits of the connection, with the same defaults as a
	// server's. CloseTimeout is also how long the server may take to close
	// the transport after both sides have sent their Close.
	Config

	once   sync.Once
	frozen dialSettings
	live   live
}

// dialSettings are DialOptions as they were at their first use.
type dialSettings struct {
	terms     terms
	transport *http.Transport
	err       error
}

func (o *DialOptions) settings() *dialSettings {
	o.once.Do(func() {
		s := &o.frozen
		s.terms.setClient(o.Config)
		o.live.initClock(&s.terms)
		s.transport = handshakeTransport(o.Transport)
		s.err = o.check()
	})
	return &o.frozen
}

// check says what is wrong with o.
func (o *DialOptions) check() error {
	for i, p := range o.Subprotocols {
		if !httpfield.IsToken(p) {
			return fmt.Errorf("the subprotocol %q is not a token", p)
		}
		if slices.Contains(o.Subprotocols[:i], p) { // §4.1
			return fmt.Errorf("the subprotocol %q is offered twice", p)
		}
	}
	for name := range o.Header {
		key := http.CanonicalHeaderKey(name)
		if key == "Host" || slices.Contains(reserved, key) {
			return fmt.Errorf("the application sets the header %q, which belongs to the handshake", name)
		}
	}
	return o.Config.check()
}

// handshakeTransport is base, with HTTP/1.1 alone and no connection shared.
func handshakeTransport(base *http.Transport) *http.Transport {
	if base == nil {
		base, _ = http.DefaultTransport.(*http.Transport)
	}
	if base == nil {
		base = &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
			TLSHandshakeTimeout: 10 * time.Second,
		}
	}
	t := base.Clone()
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	t.TLSNextProto = make(map[string]func(string, *tls.Conn) http.RoundTripper)
	t.ForceAttemptHTTP2 = false
	t.DisableKeepAlives = true
	t.DisableCompression = true
	if t.TLSClientConfig != nil {
		t.TLSClientConfig.NextProtos = nil
	}
	//lint:ignore SA1019 a caller may still use it
	if t.DialContext == nil && t.Dial == nil {
		t.DialContext = new(net.Dialer).DialContext
	}
	t.DialContext, t.DialTLSContext = attended(t.DialContext), attended(t.DialTLSContext)
	return t
}

// A dialing is a call of Dial. net/http goes on with connecting, for others that
// may come, when the context of a request has ended: here nobody comes.
type dialing struct {
	context.Context

	mu   sync.Mutex
	held []func() bool // of the connections that are closed with the context
}

type dialingKey struct{}

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// attended makes a connection, or the attempt, end with the dialing.
func attended(dial dialFunc) dialFunc {
	if dial == nil {
		return nil
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		d := ctx.Value(dialingKey{}).(*dialing)
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(d, cancel)()
		nc, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.held = append(d.held, context.AfterFunc(d, func() { nc.Close() }))
		return nc, nil
	}
}

// release lets the connections outlive the dialing. It reports false if its
// context has ended.
func (d *dialing) release() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	in := true
	for _, stop := range d.held {
		in = stop() && in
	}
	return in
}

// A DialError is why [Dial] made no connection. Unwrap gives the cause, if
// there is one: an error of the network or of TLS, or one that Is ctx.Err()
// and context.Cause(ctx).
type DialError struct {
	// Status is the HTTP status that the server answered with, 0 if there
	// was no answer. With 101 the server has agreed, but in a way that
	// RFC 6455 forbids.
	Status int
	// Reason says what is wrong with an answer of 101.
	Reason string

	cause error
}

// Error says what went wrong.
func (e *DialError) Error() string {
	s := "websocket: dial"
	if e.Status != 0 && e.Status != http.StatusSwitchingProtocols {
		s += ": the server answered " + strings.TrimSpace(strconv.Itoa(e.Status)+" "+http.StatusText(e.Status))
	}
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	if e.cause != nil {
		s += ": " + strings.TrimPrefix(strings.TrimPrefix(e.cause.Error(), "websocket: "), "dial: ")
	}
	return s
}

// Unwrap returns what was the cause, or nil.
func (e *DialError) Unwrap() error { return e.cause }

const (
	// maxAnswer is how much is kept of the body of an answer that is no
	// connection, and answerTime how long it may take.
	maxAnswer  = 4 << 10
	answerTime = time.Second
)

// Dial connects to a WebSocket server at a URL like "wss://example.com/chat";
// the schemes are ws and wss, or http and https, which mean the same. A user
// and password in it are sent as basic authentication, unless o has an
// Authorization. o may be nil.
//
// ctx bounds the dialing, not the connection; give it a deadline, since a
// server may take its time. On an error, which is always a [*DialError], the
// response is what the server answered, with the first 4 KiB of its body, or
// nil if it did not. Redirects are not followed. The body of the response need
// not be closed.
//
// The connection is the caller's to close. Somebody has to read from it, as on
// a server; see [Conn]. What it sends is masked (RFC 6455 §5.3), in a copy, each
// frame with a key of its own.
func Dial(ctx context.Context, url string, o *DialOptions) (*Conn, *http.Response, error) {
	if o == nil {
		// Alone with its clock, it would be alone with its poller, which
		// costs more than a goroutine that waits.
		o = &DialOptions{live: live{unpolled: true}}
	}
	s := o.settings()
	if s.err != nil {
		return nil, nil, &DialError{cause: s.err}
	}
	r, key, err := o.request(ctx, url)
	if err != nil {
		return nil, nil, &DialError{cause: err}
	}
	t, err := viaProxy(s.transport, r)
	if err != nil {
		return nil, nil, &DialError{cause: fmt.Errorf("proxy: %w", err)}
	}
	own, cancel := context.WithCancel(ctx)
	defer cancel() // and all that has been dialed, but for what is released
	d := &dialing{Context: own}
	var nc net.Conn
	resp, err := t.RoundTrip(r.WithContext(httptrace.WithClientTrace(
		context.WithValue(ctx, dialingKey{}, d),
		&httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { nc = i.Conn }},
	)))
	if err != nil {
		if ctx.Err() != nil {
			err = contextEnded(ctx, "dial")
		}
		return nil, nil, &DialError{cause: err}
	}
	if o.Jar != nil {
		o.Jar.SetCookies(r.URL, resp.Cookies())
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		keepAnswer(resp, nc)
		return nil, resp, &DialError{Status: resp.StatusCode}
	}
	subprotocol, agreed, wrong := o.judge(resp.Header, key)
	if !resp.ProtoAtLeast(1, 1) { // RFC 6455 §4.2.2; HTTP/1.0 knows no Upgrade
		wrong = &DialError{Status: resp.StatusCode, Reason: fmt.Sprintf("the server speaks %.20q", resp.Proto)}
	}
	var early []byte
	if wrong == nil {
		early, wrong = takeConn(resp, nc, max(t.ReadBufferSize, maxAnswer))
	}
	if wrong == nil && !d.release() {
		wrong = &DialError{Status: resp.StatusCode, cause: contextEnded(ctx, "dial")}
	}
	if wrong != nil {
		resp.Body.Close()
	}
	resp.Body = http.NoBody
	if wrong != nil {
		return nil, resp, wrong
	}
	c := newConn(nc, early, &s.terms, subprotocol, nil)
	c.compressing(agreed)
	c.join(&o.live)
	return c, resp, nil
}

// request makes the opening handshake and returns its key (RFC 6455 §4.1).
func (o *DialOptions) request(ctx context.Context, raw string) (_ *http.Request, key string, _ error) {
	u, err := url.Parse(raw)
	if err != nil {
		var e *url.Error
		if errors.As(err, &e) { // whose text has the URL, and what is secret in it
			err = e.Err
		}
		return nil, "", fmt.Errorf("malformed URL: %w", err)
	}
	port := ""
	switch u.Scheme { // in lower case
	case "ws", "http":
		u.Scheme, port = "http", "80"
	case "wss", "https":
		u.Scheme, port = "https", "443"
	default:
		return nil, "", fmt.Errorf("the scheme %q of the URL is neither ws nor wss", u.Scheme)
	}
	switch {
	case u.Hostname() == "":
		return nil, "", errors.New("the URL has no host")
	case strings.Contains(raw, "#"): // §3
		return nil, "", errors.New("the URL has a fragment")
	case strings.Contains(u.RawQuery, " "):
		return nil, "", errors.New("the URL has a blank in its query")
	}
	host := o.Host
	if host == "" {
		host = u.Host
		if p := u.Port(); p == "" || p == port {
			host = strings.TrimSuffix(host, ":"+p)
		}
	}
	h := make(http.Header, len(o.Header)+8)
	for name, values := range o.Header {
		h[http.CanonicalHeaderKey(name)] = append(h[http.CanonicalHeaderKey(name)], values...)
	}
	var nonce [16]byte
	rand.Read(nonce[:])
	h["Upgrade"] = []string{"websocket"}
	h["Connection"] = []string{"Upgrade"}
	key = base64.StdEncoding.EncodeToString(nonce[:])
	h["Sec-WebSocket-Key"] = []string{key} // spelt as in the RFC, for those who compare bytes
	h["Sec-WebSocket-Version"] = []string{"13"}
	if len(o.Subprotocols) > 0 {
		h["Sec-WebSocket-Protocol"] = []string{strings.Join(o.Subprotocols, ", ")}
	}
	if offers := o.frozen.terms.Compression.offers(); len(offers) > 0 {
		var elements []string
		for _, offer := range offers {
			elements = append(elements, offer.String())
		}
		h["Sec-WebSocket-Extensions"] = []string{strings.Join(elements, ", ")}
	}
	r := (&http.Request{Method: http.MethodGet, URL: u, Host: host, Header: h}).WithContext(ctx)
	if u.User != nil && len(h["Authorization"]) == 0 {
		password, _ := u.User.Password()
		r.SetBasicAuth(u.User.Username(), password)
	}
	u.User = nil
	if o.Jar != nil {
		for _, cookie := range o.Jar.Cookies(u) {
			r.AddCookie(cookie)
		}
	}
	return r, key, nil
}

// judge says whether the header of a 101 is what a server may answer to a
// handshake with this key (RFC 6455 §4.1), and what the server chose.
func (o *DialOptions) judge(h http.Header, key string) (subprotocol string, agreed *deflation, wrong *DialError) {
	bad := func(format string, field ...string) (string, *deflation, *DialError) {
		e := &DialError{Status: http.StatusSwitchingProtocols, Reason: format}
		if len(field) > 0 { // the server's text is quoted, and no longer than it has to be
			e.Reason = fmt.Sprintf(format, fmt.Sprintf("%.80q", strings.Join(field, ", ")))
		}
		return "", nil, e
	}
	upgrade, connection, accept := h["Upgrade"], h["Connection"], h["Sec-Websocket-Accept"]
	if len(upgrade) != 1 || !httpfield.EqualFold(httpfield.Trim(upgrade[0]), "websocket") {
		return bad("the Upgrade header is not websocket")
	}
	if !httpfield.HasToken(connection, "upgrade") {
		return bad("the Connection header lacks the token upgrade")
	}
	want, err := acceptKey(key)
	if err != nil {
		return "", nil, &DialError{Status: http.StatusSwitchingProtocols, cause: err}
	}
	if len(accept) != 1 || httpfield.Trim(accept[0]) != want {
		return bad("the Sec-WebSocket-Accept header does not answer the key")
	}
	extensions := h["Sec-Websocket-Extensions"]
	elements, ok := httpfield.Elements(extensions)
	if ok {
		agreed, ok = o.frozen.terms.Compression.agreed(elements)
	}
	if !ok {
		return bad("the server agrees to the extension %s, which was not offered like that", extensions...)
	}
	protocols := h["Sec-Websocket-Protocol"]
	chosen, ok := httpfield.Tokens(protocols)
	switch {
	case !ok || len(chosen) > 1:
		return bad("the Sec-WebSocket-Protocol header %s names not exactly one", protocols...)
	case len(chosen) == 1 && !slices.Contains(o.Subprotocols, chosen[0]):
		return bad("the server chose the subprotocol %s, which was not offered", chosen[0])
	case len(chosen) == 1:
		return chosen[0], agreed, nil
	case o.RequireSubprotocol && len(o.Subprotocols) > 0:
		return bad("the server chose none of the subprotocols")
	}
	return "", agreed, nil
}

// keepAnswer keeps the beginning of the body of a response, and lets go of the
// connection.
func keepAnswer(resp *http.Response, nc net.Conn) {
	if nc != nil {
		// Of writes too: over TLS, who reads may have to announce new keys.
		_ = nc.SetDeadline(time.Now().Add(answerTime))
	}
	b, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(b))
}

// takeConn takes the connection of a 101 from net/http, with what has come
// behind the head: as many bytes as the buffer of net/http has at most.
func takeConn(resp *http.Response, nc net.Conn, most int) (early []byte, wrong *DialError) {
	failed := func(err error) ([]byte, *DialError) {
		return nil, &DialError{Status: resp.StatusCode, cause: err}
	}
	if nc == nil { // as where net/http is not what connects
		return failed(errors.New("the Transport does not show its connection"))
	}
	// The body gives first, in one piece, what net/http has read ahead. A
	// deadline that has passed keeps it from waiting for more.
	_ = nc.SetWriteDeadline(time.Now().Add(answerTime)) // as in keepAnswer
	if err := nc.SetReadDeadline(time.Unix(1, 0)); err != nil {
		return failed(err)
	}
	early = make([]byte, most)
	n, err := resp.Body.Read(early)
	if n == 0 && err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return failed(err)
	}
	if err := nc.SetDeadline(time.Time{}); err != nil {
		return failed(err)
	}
	return early[:n], nil
}

// viaProxy returns what reaches the server of r. To a proxy, net/http speaks
// plain HTTP for URLs that are not TLS, where many proxies know nothing of
// Upgrade: ask it for a tunnel instead (RFC 6455 §4.1).
func viaProxy(t *http.Transport, r *http.Request) (*http.Transport, error) {
	if t.Proxy == nil || r.URL.Scheme != "http" {
		return t, nil
	}
	proxy, err := t.Proxy(r)
	if err != nil || proxy == nil || proxy.Scheme != "http" && proxy.Scheme != "https" {
		return t, err
	}
	tunnelled := t.Clone()
	tunnelled.Proxy = nil
	tunnelled.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		return tunnel.Dial(ctx, t, proxy, addr)
	}
	return tunnelled, nil
}
