package tunnel

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket/internal/memconn"
)

// dial asks a proxy that answers so.
func dial(ctx context.Context, proxy, answer string, change func(*http.Transport)) (nc net.Conn, dialed string, asked *http.Request, err error) {
	there := make(chan *http.Request, 1)
	t := &http.Transport{DialContext: func(_ context.Context, network, addr string) (net.Conn, error) {
		dialed = addr
		here, peer := memconn.Pair()
		go func() {
			r, _ := http.ReadRequest(bufio.NewReader(peer))
			io.WriteString(peer, answer)
			there <- r
		}()
		return here, nil
	}}
	if change != nil {
		change(t)
	}
	u, err := url.Parse(proxy)
	if err != nil {
		return nil, "", nil, err
	}
	nc, err = Dial(ctx, t, u, "example.com:80")
	if dialed != "" {
		asked = <-there
	}
	return nc, dialed, asked, err
}

func TestDial(t *testing.T) {
	for proxy, want := range map[string]string{
		"http://proxy": "proxy:80", "http://proxy:8080": "proxy:8080", "http://[::1]": "[::1]:80", "http://[::1]:1": "[::1]:1",
	} {
		nc, dialed, asked, err := dial(context.Background(), proxy, "HTTP/1.1 200 OK\r\n\r\n", nil)
		if err != nil || dialed != want {
			t.Errorf("%s: dialed %s, %v", proxy, dialed, err)
			continue
		}
		if asked.Method != "CONNECT" || asked.RequestURI != "example.com:80" || asked.Host != "example.com:80" || asked.Header.Get("Proxy-Authorization") != "" {
			t.Errorf("%s: asked for %v", proxy, asked)
		}
		nc.Close()
	}
	_, _, asked, err := dial(context.Background(), "http://ada:s3cret@proxy", "HTTP/1.1 200 OK\r\n\r\n", func(t *http.Transport) {
		t.GetProxyConnectHeader = func(_ context.Context, u *url.URL, to string) (http.Header, error) {
			return http.Header{"X-To": {to}}, nil
		}
	})
	if err != nil || asked.Header.Get("X-To") != "example.com:80" || asked.Header.Get("Proxy-Authorization") != "Basic YWRhOnMzY3JldA==" {
		t.Errorf("%v, %v", asked, err)
	}
}

func TestDialRefused(t *testing.T) {
	no := errors.New("no")
	for answer, text := range map[string]string{
		"HTTP/1.1 407 X\r\n\r\n":              "proxy: it answered 407 Proxy Authentication Required",
		"HTTP/1.1 201 X\r\n\r\n":              "proxy: it answered 201",
		"SSH\r\n\r\n":                         "malformed",
		"HTTP/1.1 200 OK\r\nX: " + long + "x": "proxy: ",
	} {
		nc, _, _, err := dial(context.Background(), "http://proxy", answer, nil)
		if nc != nil || err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%.30q: %v, %v", answer, nc, err)
		}
	}
	for what, change := range map[string]func(*http.Transport){
		"dialing": func(t *http.Transport) {
			t.DialContext = func(context.Context, string, string) (net.Conn, error) { return nil, no }
		},
		"the answer": func(t *http.Transport) {
			t.OnProxyConnectResponse = func(context.Context, *url.URL, *http.Request, *http.Response) error { return no }
		},
	} {
		if nc, _, _, err := dial(context.Background(), "http://proxy", "HTTP/1.1 200 OK\r\n\r\n", change); nc != nil || !errors.Is(err, no) {
			t.Errorf("%s: %v, %v", what, nc, err)
		}
	}
	_, err := Dial(context.Background(), &http.Transport{
		DialContext:           func(context.Context, string, string) (net.Conn, error) { a, _ := memconn.Pair(); return a, nil },
		GetProxyConnectHeader: func(context.Context, *url.URL, string) (http.Header, error) { return nil, no },
	}, &url.URL{Scheme: "http", Host: "proxy"}, "example.com:80")
	if !errors.Is(err, no) {
		t.Errorf("%v", err)
	}
}

var long = strings.Repeat("x", maxAnswer)

func TestDialContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := errors.New("late")
		ctx, cancel := context.WithTimeoutCause(context.Background(), time.Second, late)
		defer cancel()
		start := time.Now()
		nc, _, _, err := dial(ctx, "http://proxy", "HTTP/1.1 200", nil)
		if nc != nil || !errors.Is(err, late) || time.Since(start) != time.Second {
			t.Errorf("%v, %v after %v", nc, err, time.Since(start))
		}
	})
}
