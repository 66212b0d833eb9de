package websocket_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sockeye-ws/websocket"
)

// echoServer is an HTTP server with an echo at every path.
func echoServer(t *testing.T, change func(*httptest.Server)) *httptest.Server {
	t.Helper()
	u := &websocket.Upgrader{Config: quiet(websocket.Config{}), Handler: func(c *websocket.Conn) error {
		for m, err := range c.Messages(context.Background()) {
			if err == nil {
				err = c.Write(context.Background(), m.Type, m.Data)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}}
	s := httptest.NewUnstartedServer(u)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if change == nil {
		s.Start()
	} else {
		change(s)
	}
	t.Cleanup(func() {
		if err := u.Shutdown(timeLimit(t)); err != nil {
			t.Error(err)
		}
		s.Close()
	})
	return s
}

func timeLimit(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// wantEcho dials, has messages of all sizes echoed, and closes.
func wantEcho(t *testing.T, url string, o *websocket.DialOptions) {
	t.Helper()
	ctx := timeLimit(t)
	c, resp, err := websocket.Dial(ctx, url, o)
	if err != nil {
		t.Fatalf("%v, %v", err, resp)
	}
	defer c.CloseNow()
	for _, size := range []int{0, 1, 125, 126, 65535, 65536, 1 << 20} {
		text := strings.Repeat("x", size)
		wrote := async(func() error { return c.Write(ctx, websocket.Text, []byte(text)) })
		if m := readOne(ctx, c); m != (message{websocket.Text, text, nil}) {
			t.Fatalf("%d bytes: %v, %d bytes, %v", size, m.typ, len(m.data), m.err)
		}
		if err := <-wrote; err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Ping(ctx); err != nil {
		t.Error(err)
	}
	if err := c.Close(websocket.StatusNormalClosure, "bye"); err != nil {
		t.Error(err)
	}
	select {
	case <-c.Context().Done():
	case <-ctx.Done():
		t.Error("the connection is not over")
	}
	wantClosed(t, context.Cause(c.Context()), websocket.StatusNormalClosure, false)
}

func TestDialTCP(t *testing.T) {
	s := echoServer(t, nil)
	wantEcho(t, s.URL, nil)
	o := new(websocket.DialOptions) // of which one is enough for many
	for range 3 {
		wantEcho(t, strings.Replace(s.URL, "http", "ws", 1), o)
	}
}

// the certificate is checked against the name, which the server is told,
// and HTTP/2 is not offered. The caller's Transport stays as it is.
func TestQ09TLS(t *testing.T) {
	var mu sync.Mutex
	var hellos []tls.ClientHelloInfo
	s := echoServer(t, func(s *httptest.Server) {
		s.EnableHTTP2 = true
		s.TLS = &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			mu.Lock()
			defer mu.Unlock()
			hellos = append(hellos, *h)
			return nil, nil
		}}
		s.StartTLS()
	})
	port := s.Listener.Addr().(*net.TCPAddr).Port
	trusting := s.Client().Transport.(*http.Transport)
	here := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.Listener.Addr().String())
	}
	trusting.DialContext = here
	wantEcho(t, fmt.Sprintf("wss://example.com:%d/", port), &websocket.DialOptions{Transport: trusting})
	wantEcho(t, "https://example.com/", &websocket.DialOptions{Transport: trusting})
	mu.Lock()
	for _, h := range hellos {
		if h.ServerName != "example.com" || slices.ContainsFunc(h.SupportedProtos, func(p string) bool { return p != "http/1.1" }) {
			t.Errorf("Q-09: SNI %q, ALPN %q", h.ServerName, h.SupportedProtos)
		}
	}
	if len(hellos) != 2 {
		t.Errorf("%d TLS handshakes", len(hellos))
	}
	mu.Unlock()

	_, resp, err := websocket.Dial(timeLimit(t), "wss://example.org/", &websocket.DialOptions{Transport: trusting})
	if !errors.As(err, new(*websocket.DialError)) || !errors.As(err, new(x509.HostnameError)) || resp != nil {
		t.Errorf("Q-09: a certificate of another name: %v", err)
	}
	_, resp, err = websocket.Dial(timeLimit(t), "wss://example.com/", &websocket.DialOptions{Transport: &http.Transport{DialContext: here}})
	if !errors.As(err, new(*websocket.DialError)) || !errors.As(err, new(x509.UnknownAuthorityError)) || resp != nil {
		t.Errorf("Q-09: a certificate of nobody known: %v", err)
	}
	_, _, err = websocket.Dial(timeLimit(t), "ws://example.com/", &websocket.DialOptions{Transport: &http.Transport{DialContext: here}})
	if !errors.As(err, new(*websocket.DialError)) {
		t.Errorf("plain text to a TLS server: %v", err)
	}

	resp, err = (&http.Client{Transport: trusting}).Get("https://example.com/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.ProtoMajor != 2 || trusting.DisableKeepAlives {
		t.Errorf("the caller's Transport speaks %s now", resp.Proto)
	}
	trusting.CloseIdleConnections()
}

func TestDialUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Skip(err)
	}
	echoServer(t, func(s *httptest.Server) { s.Listener.Close(); s.Listener = l; s.Start() })
	wantEcho(t, "ws://localhost/chat", &websocket.DialOptions{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}})
}

// A proxy is one that knows CONNECT and nothing else.
type proxy struct {
	*httptest.Server
	mu    sync.Mutex
	asked []string // what it was asked for, with whose authorization
	deny  int      // the status of all its answers; 0: it connects
}

func startProxy(t *testing.T, secure bool, to string) *proxy {
	p := new(proxy)
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.asked = append(p.asked, r.Method+" "+r.RequestURI+" "+r.Header.Get("Proxy-Authorization")+r.Header.Get("X-Proxy"))
		deny := p.deny
		p.mu.Unlock()
		if deny != 0 || r.Method != http.MethodConnect {
			w.WriteHeader(max(deny, http.StatusMethodNotAllowed))
			return
		}
		there, err := net.Dial("tcp", to)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		here, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { io.Copy(there, here); there.(*net.TCPConn).CloseWrite() }()
		io.Copy(here, there)
		here.Close()
		there.Close()
	}))
	p.Config.ErrorLog = log.New(io.Discard, "", 0)
	if secure {
		p.StartTLS()
	} else {
		p.Start()
	}
	t.Cleanup(p.Close)
	return p
}

func (p *proxy) wantAsked(t *testing.T, want ...string) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Equal(p.asked, want) {
		t.Errorf("the proxy was asked for %q, want %q", p.asked, want)
	}
	p.asked = nil
}

// A proxy is asked for a tunnel, for ws as for wss.
func TestDialProxy(t *testing.T) {
	plain := echoServer(t, nil)
	secret := echoServer(t, (*httptest.Server).StartTLS)
	for _, secure := range []bool{false, true} {
		roots := x509.NewCertPool()
		roots.AddCert(secret.Certificate())
		cfg := &tls.Config{RootCAs: roots}
		through := func(p *proxy, user *url.Userinfo) *websocket.DialOptions {
			if secure {
				roots.AddCert(p.Certificate())
			}
			u, _ := url.Parse(p.URL)
			u.User = user
			return &websocket.DialOptions{Transport: &http.Transport{Proxy: http.ProxyURL(u), TLSClientConfig: cfg,
				ProxyConnectHeader: http.Header{"X-Proxy": {"mine"}}}}
		}
		p := startProxy(t, secure, plain.Listener.Addr().String())
		o := through(p, nil)
		wantEcho(t, "ws://chat.example/", o)
		p.wantAsked(t, "CONNECT chat.example:80 mine")
		wantEcho(t, "ws://chat.example:8080/", through(p, url.UserPassword("ada", "s3cret")))
		p.wantAsked(t, "CONNECT chat.example:8080 Basic YWRhOnMzY3JldA==mine")

		q := startProxy(t, secure, secret.Listener.Addr().String())
		wantEcho(t, "wss://example.com:4433/", through(q, nil))
		q.wantAsked(t, "CONNECT example.com:4433 mine")

		p.deny = http.StatusProxyAuthRequired
		_, resp, err := websocket.Dial(timeLimit(t), "ws://chat.example/", o)
		var e *websocket.DialError
		if !errors.As(err, &e) || e.Status != 0 || resp != nil || !strings.Contains(err.Error(), "proxy: it answered 407 Proxy Authentication Required") {
			t.Errorf("refused by the proxy: %v", err)
		}
	}

	failed := errors.New("no proxy today")
	_, _, err := websocket.Dial(timeLimit(t), "ws://chat.example/", &websocket.DialOptions{Transport: &http.Transport{
		Proxy: func(*http.Request) (*url.URL, error) { return nil, failed },
	}})
	if !errors.Is(err, failed) || !errors.As(err, new(*websocket.DialError)) {
		t.Errorf("%v", err)
	}
	wantEcho(t, plain.URL, &websocket.DialOptions{Transport: &http.Transport{ // none for this one
		Proxy: func(*http.Request) (*url.URL, error) { return nil, nil },
	}})
}

// mute is a server that answers nothing. It calls heard with the one connection
// that it gets; the channel says when the other end has left that.
func mute(t *testing.T, heard func(nc net.Conn)) (address string, left <-chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String(), async(func() error {
		nc, err := l.Accept()
		if err != nil {
			return err
		}
		defer nc.Close()
		heard(nc)
		io.Copy(io.Discard, nc)
		return nil
	})
}

// A proxy that does not answer is not waited for longer than the context lasts.
func TestDialProxyContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	address, left := mute(t, func(nc net.Conn) {
		http.ReadRequest(bufio.NewReader(nc))
		cancel()
	})
	u, _ := url.Parse("http://" + address)
	_, _, err := websocket.Dial(ctx, "ws://chat.example/", &websocket.DialOptions{Transport: &http.Transport{Proxy: http.ProxyURL(u)}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := <-left; err != nil {
		t.Error(err)
	}
}

// A server that does not answer in TLS is not waited for either.
func TestDialTLSContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	address, left := mute(t, func(nc net.Conn) {
		nc.Read(make([]byte, 1<<10))
		cancel()
	})
	_, _, err := websocket.Dial(ctx, "wss://"+address, &websocket.DialOptions{Transport: new(http.Transport)})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := <-left; err != nil {
		t.Error(err)
	}
}

// Cookies go both ways.
func TestDialCookies(t *testing.T) {
	seen := make(chan string, 2)
	u := &websocket.Upgrader{Config: quiet(websocket.Config{}), Open: func(r *http.Request, h http.Header) (func(*websocket.Conn) error, error) {
		seen <- r.Header.Get("Cookie")
		h.Set("Set-Cookie", "session=1; Path=/")
		return func(*websocket.Conn) error { return nil }, nil
	}}
	s := httptest.NewServer(u)
	defer s.Close()
	defer u.Shutdown(timeLimit(t))
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"", "session=1"} {
		c, _, err := websocket.Dial(timeLimit(t), s.URL, &websocket.DialOptions{Jar: jar})
		if err != nil {
			t.Fatal(err)
		}
		c.CloseRead()
		<-c.Context().Done()
		if got := <-seen; got != want {
			t.Errorf("the cookies are %q, want %q", got, want)
		}
	}
}

// Where http.DefaultTransport is something else, there is one like it.
func TestDialReplacedDefaultTransport(t *testing.T) {
	s := echoServer(t, nil)
	old := http.DefaultTransport
	defer func() { http.DefaultTransport = old }()
	http.DefaultTransport = http.NewFileTransport(http.Dir("."))
	wantEcho(t, s.URL, nil)
}
