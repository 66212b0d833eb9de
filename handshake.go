package websocket

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sockeye-ws/websocket/internal/bufpool"
	"github.com/sockeye-ws/websocket/internal/httpfield"
	"github.com/sockeye-ws/websocket/internal/sha1"
	"github.com/sockeye-ws/websocket/internal/transport"
)

// A HandshakeError is why a request did not become a connection. It is
// returned by [Upgrader.Upgrade] after the answer has been written, and by an
// application's [Upgrader.Open] to choose the answer.
type HandshakeError struct {
	// Status is the HTTP status of the answer, 200 to 599; others mean 500.
	Status int
	// Header is added to the answer, for example WWW-Authenticate.
	Header http.Header
	// Reason is the body of the answer, as plain text. If it is empty, the
	// text of the status is.
	Reason string

	cause error
}

// Error describes the refusal, with what is not told to the peer.
func (e *HandshakeError) Error() string {
	s := "websocket: handshake refused with " + strconv.Itoa(e.status())
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	if e.cause != nil {
		s += ": " + e.cause.Error()
	}
	return s
}

// Unwrap returns what was the cause, or nil.
func (e *HandshakeError) Unwrap() error { return e.cause }

func (e *HandshakeError) status() int {
	if e.Status < 200 || e.Status > 599 { // net/http panics on some of them
		return http.StatusInternalServerError
	}
	return e.Status
}

// refuse makes the error for a request that is not a valid handshake. pairs
// are header names and values.
func refuse(status int, reason string, pairs ...string) *HandshakeError {
	e := &HandshakeError{Status: status, Reason: reason}
	for i := 0; i < len(pairs); i += 2 {
		if e.Header == nil {
			e.Header = make(http.Header)
		}
		e.Header.Set(pairs[i], pairs[i+1])
	}
	return e
}

func internalError(cause error) *HandshakeError {
	return &HandshakeError{Status: http.StatusInternalServerError, cause: cause}
}

// checkRequest says whether r is an opening handshake (RFC 6455 §4.2.1). The
// first check that fails decides the answer; their order is part of the wire
// contract.
func checkRequest(r *http.Request) *HandshakeError {
	h := r.Header
	switch {
	case r.Method != http.MethodGet:
		return refuse(http.StatusMethodNotAllowed, "a WebSocket handshake is a GET request", "Allow", "GET")
	case r.ProtoMajor >= 2:
		return refuse(http.StatusBadRequest, "WebSocket is spoken over HTTP/1.1 only")
	case !r.ProtoAtLeast(1, 1), !httpfield.HasToken(h["Upgrade"], "websocket"):
		// HTTP/1.0 has no Upgrade (RFC 9110 §7.8).
		return refuse(http.StatusUpgradeRequired, "this is a WebSocket endpoint",
			"Upgrade", "websocket", "Connection", "Upgrade")
	case !httpfield.HasToken(h["Connection"], "upgrade"):
		return refuse(http.StatusBadRequest, "the Connection header lacks the token upgrade")
	}
	switch versions := h["Sec-Websocket-Version"]; {
	case len(versions) != 1:
		return refuse(http.StatusBadRequest, "exactly one Sec-WebSocket-Version header is needed",
			"Sec-WebSocket-Version", "13")
	case httpfield.Trim(versions[0]) != "13":
		return refuse(http.StatusUpgradeRequired, "the WebSocket version spoken here is 13",
			"Sec-WebSocket-Version", "13", "Upgrade", "websocket", "Connection", "Upgrade")
	}
	if keys := h["Sec-Websocket-Key"]; len(keys) != 1 || !validKey(httpfield.Trim(keys[0])) {
		return refuse(http.StatusBadRequest, "exactly one Sec-WebSocket-Key header with 16 bytes in base64 is needed")
	}
	if r.ContentLength != 0 || len(r.TransferEncoding) > 0 {
		// A body would be taken for frames.
		return refuse(http.StatusBadRequest, "a WebSocket handshake has no body")
	}
	return nil
}

// validKey reports whether s is the base64 form of 16 bytes. The bits that
// decoding discards may be set: the RFC's own example has that (§4.1).
func validKey(s string) bool {
	var nonce [18]byte
	if len(s) != 24 || strings.ContainsAny(s, "\r\n") { // which the decoder would skip
		return false
	}
	var b [24]byte
	copy(b[:], s)
	n, err := base64.StdEncoding.Decode(nonce[:], b[:])
	return err == nil && n == 16
}

// acceptKey computes Sec-WebSocket-Accept (§4.2.2).
func acceptKey(key string) (string, error) {
	var b [24 + 36]byte
	sum, err := sha1.Sum(append(append(b[:0], key...), "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"...))
	var accept [28]byte
	base64.StdEncoding.Encode(accept[:], sum[:])
	return string(accept[:]), err
}

// An agreement is what the handshake of a valid request will answer.
type agreement struct {
	accept      string
	subprotocol string
	deflate     *deflation // nil: no compression
}

// negotiate judges a request and works out the answer to it. It changes
// nothing and runs before anything is made for the connection.
func (u *Upgrader) negotiate(r *http.Request) (agreement, *HandshakeError) {
	var a agreement
	settings, err := u.settings()
	if err != nil {
		return a, internalError(err)
	}
	if refused := checkRequest(r); refused != nil {
		return a, refused
	}
	offered, ok := offeredSubprotocols(r.Header)
	if !ok {
		return a, refuse(http.StatusBadRequest, "malformed Sec-WebSocket-Protocol header")
	}
	extensions, ok := httpfield.Elements(r.Header["Sec-Websocket-Extensions"])
	if !ok {
		return a, refuse(http.StatusBadRequest, "malformed Sec-WebSocket-Extensions header")
	}
	check := settings.origins.check
	if u.CheckOrigin != nil {
		check = u.CheckOrigin
	}
	if err := check(r); err != nil {
		e := refuse(http.StatusForbidden, "this origin may not connect")
		e.cause = err
		return a, e
	}
	a.deflate = settings.terms.Compression.accept(extensions)
	// Where SHA-1 cannot be had no connection can be made; say so early.
	if a.accept, err = acceptKey(httpfield.Trim(r.Header.Get("Sec-Websocket-Key"))); err != nil {
		return a, internalError(err)
	}
	if u.SelectSubprotocol == nil {
		a.subprotocol = selectSubprotocol(offered, u.Subprotocols)
		return a, nil
	}
	a.subprotocol = u.SelectSubprotocol(r, offered)
	if a.subprotocol != "" && !slices.Contains(offered, a.subprotocol) {
		return a, internalError(fmt.Errorf("SelectSubprotocol chose %q, which was not offered", a.subprotocol))
	}
	return a, nil
}

// reserved are the fields of a 101 that the application cannot set.
var reserved = []string{
	"Upgrade", "Connection", "Content-Length", "Transfer-Encoding",
	"Sec-Websocket-Accept", "Sec-Websocket-Protocol", "Sec-Websocket-Extensions", "Sec-Websocket-Version", "Sec-Websocket-Key",
}

// appendResponse appends the 101 with the application's headers (§4.2.2).
func (a agreement) appendResponse(b []byte, headers ...http.Header) ([]byte, error) {
	b = append(b, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	b = append(append(b, a.accept...), "\r\n"...)
	if a.subprotocol != "" {
		b = append(append(append(b, "Sec-WebSocket-Protocol: "...), a.subprotocol...), "\r\n"...)
	}
	if a.deflate != nil {
		b = append(append(append(b, "Sec-WebSocket-Extensions: "...), a.deflate.String()...), "\r\n"...)
	}
	for _, h := range headers {
		if len(h) == 0 {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(h)) {
			if slices.Contains(reserved, http.CanonicalHeaderKey(name)) {
				return nil, fmt.Errorf("the application sets the header %q, which belongs to the handshake", name)
			}
			if !httpfield.IsToken(name) {
				return nil, fmt.Errorf("the application sets a header with the invalid name %q", name)
			}
			for _, value := range h[name] {
				if !httpfield.IsValue(value) {
					return nil, fmt.Errorf("the application sets the header %q to the invalid value %q", name, value)
				}
				b = append(append(append(append(b, name...), ": "...), value...), "\r\n"...)
			}
		}
	}
	return append(b, "\r\n"...), nil
}

// Upgrade makes a WebSocket connection of a request, for handlers that want
// to own the loop; [Upgrader.ServeHTTP] is cheaper in memory. Neither Handler
// nor Open is called. w.Header() goes out with the 101, or with the refusal; the
// fields of the handshake (Upgrade, Connection, Sec-WebSocket-Protocol and the
// like) are not for the application to set: that is answered with 500.
//
// On an error the answer has been written and the error says why; it is a
// [*HandshakeError] unless the connection failed while the 101 was written.
//
// The connection is the caller's to close, and is not closed when the HTTP
// handler returns. Requests over HTTP/2 are refused.
func (u *Upgrader) Upgrade(w http.ResponseWriter, r *http.Request) (*Conn, error) {
	a, refused := u.negotiate(r)
	if refused != nil {
		return nil, u.answer(w, r, refused)
	}
	return u.hijack(w, r, a, context.WithoutCancel(r.Context()), w.Header())
}

// hijack takes the connection from net/http and writes the 101.
func (u *Upgrader) hijack(w http.ResponseWriter, r *http.Request, a agreement, values context.Context, headers ...http.Header) (*Conn, error) {
	buf := bufpool.Get(bufpool.Min)
	defer bufpool.Put(buf)
	response, err := a.appendResponse(buf.B[:0], headers...)
	if err != nil {
		return nil, u.answer(w, r, internalError(err))
	}
	if refused := u.live.reserve(u.MaxConns); refused != nil {
		return nil, u.answer(w, r, refused)
	}
	added := false
	defer func() {
		if !added { // Hijack may panic, too
			u.live.unreserve()
		}
	}()
	rc := http.NewResponseController(w)
	if r.TLS != nil {
		// Hijack waits for a read of net/http, which may have to announce new
		// keys to a peer that takes nothing.
		_ = rc.SetWriteDeadline(time.Now().Add(hijackTime))
	}
	nc, rw, err := rc.Hijack()
	if err != nil {
		if r.TLS != nil {
			_ = rc.SetWriteDeadline(writeDeadline(r))
		}
		return nil, u.answer(w, r, internalError(hijackError(w, err)))
	}
	// What came behind the request belongs to the connection. Nothing else
	// of net/http is kept: not its buffers, not the request.
	var early []byte
	if n := rw.Reader.Buffered(); n > 0 {
		b, _ := rw.Reader.Peek(n)
		early = bytes.Clone(b)
	}
	cfg := &u.frozen.terms
	var deadline time.Time // clears what http.Server has set
	if cfg.WriteTimeout > 0 {
		deadline = time.Now().Add(cfg.WriteTimeout)
	}
	err = nc.SetDeadline(deadline)
	if err == nil {
		_, err = nc.Write(response)
	}
	if err == nil {
		err = nc.SetDeadline(time.Time{})
	}
	if err != nil {
		_ = transport.Abort(nc)
		return nil, fmt.Errorf("websocket: handshake: the answer could not be written: %w", err)
	}
	c := newConn(nc, early, cfg, a.subprotocol, values)
	c.compressing(a.deflate)
	if u.ReleaseConns && unhooked(r) {
		c.t.MayDetach()
	}
	u.live.add(c)
	added = true
	return c, nil
}

// hijackTime is more than Hijack takes, where nothing holds it up.
const hijackTime = 5 * time.Second

// writeDeadline is what the server that r came to gives an answer.
func writeDeadline(r *http.Request) time.Time {
	if s, _ := r.Context().Value(http.ServerContextKey).(*http.Server); s != nil && s.WriteTimeout > 0 {
		return time.Now().Add(s.WriteTimeout)
	}
	return time.Time{}
}

// unhooked reports whether the server that r came to shows its connections to
// nobody.
func unhooked(r *http.Request) bool {
	s, _ := r.Context().Value(http.ServerContextKey).(*http.Server)
	return s != nil && s.ConnContext == nil && s.ConnState == nil
}

// hijackError names the type that hides the Hijacker, since that is what has
// to be mended: the innermost that w unwraps to.
func hijackError(w http.ResponseWriter, err error) error {
	if !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	for {
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return fmt.Errorf("the ResponseWriter %T has neither Hijack nor Unwrap: %w", w, err)
		}
		w = u.Unwrap()
	}
}

// answered are the reserved fields that a refusal with this status needs.
var answered = map[int][]string{
	http.StatusUpgradeRequired: {"Upgrade", "Connection", "Sec-Websocket-Version"},
	http.StatusBadRequest:      {"Sec-Websocket-Version"},
}

func allValues(values []string) bool {
	for _, v := range values {
		if !httpfield.IsValue(v) {
			return false
		}
	}
	return true
}

// answer writes the HTTP response for a refused request and returns e.
func (u *Upgrader) answer(w http.ResponseWriter, r *http.Request, e *HandshakeError) error {
	u.refused(r, e)
	h := w.Header()
	for name, values := range e.Header {
		h[http.CanonicalHeaderKey(name)] = values
	}
	// The answer is an HTTP response of its own: no field of a 101, of
	// another body or with a value that does not belong on a line.
	for name, values := range h {
		key := http.CanonicalHeaderKey(name)
		ours := slices.Contains(reserved, key) && !slices.Contains(answered[e.status()], key)
		if ours || !httpfield.IsToken(name) || !allValues(values) {
			delete(h, name)
		}
	}
	body := e.Reason
	if body == "" {
		body = http.StatusText(e.status())
	}
	http.Error(w, body, e.status())
	return e
}
