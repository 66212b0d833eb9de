// Package tunnel asks an HTTP proxy for a connection to somewhere else, where
// net/http's Transport would rather send it a plain request.
package tunnel

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
)

// maxAnswer is how long the head of a proxy's answer may be.
const maxAnswer = 64 << 10

// Dial connects to addr by way of proxy, an http or https URL, with the
// settings of t for dialing, for TLS and for proxies (RFC 9110 §9.3.6). ctx
// bounds it.
func Dial(ctx context.Context, t *http.Transport, proxy *url.URL, addr string) (net.Conn, error) {
	dial := (&net.Dialer{}).DialContext
	if t.DialContext != nil {
		dial = t.DialContext
	}
	port := cmp.Or(proxy.Port(), map[string]string{"http": "80", "https": "443"}[proxy.Scheme])
	nc, err := dial(ctx, "tcp", net.JoinHostPort(proxy.Hostname(), port))
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	conn := nc
	if proxy.Scheme == "https" {
		cfg := new(tls.Config)
		if t.TLSClientConfig != nil {
			cfg = t.TLSClientConfig.Clone()
		}
		cfg.ServerName = cmp.Or(cfg.ServerName, proxy.Hostname())
		conn = tls.Client(nc, cfg)
	}
	cut := context.AfterFunc(ctx, func() { nc.Close() }) // and so the calls below
	err = ask(ctx, conn, t, proxy, addr)
	if !cut() {
		err = context.Cause(ctx)
	}
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("proxy: %w", err)
	}
	return conn, nil
}

func ask(ctx context.Context, conn net.Conn, t *http.Transport, proxy *url.URL, addr string) (err error) {
	h := t.ProxyConnectHeader
	if t.GetProxyConnectHeader != nil {
		if h, err = t.GetProxyConnectHeader(ctx, proxy, addr); err != nil {
			return err
		}
	}
	if h = h.Clone(); h == nil {
		h = make(http.Header)
	}
	if u := proxy.User; u != nil {
		password, _ := u.Password()
		h.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)))
	}
	r := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: h}
	if err := r.Write(conn); err != nil {
		return err
	}
	// Who is behind the proxy does not speak first, so that nothing but the
	// answer can be in this buffer.
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxAnswer)), r)
	if err != nil {
		return err
	}
	if t.OnProxyConnectResponse != nil {
		if err := t.OnProxyConnectResponse(ctx, proxy, r, resp); err != nil {
			return err
		}
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("it answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	return nil
}
