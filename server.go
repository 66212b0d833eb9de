// Package websocket makes WebSocket servers (RFC 6455) of net/http handlers.
//
// Mount an [Upgrader]; its Handler serves one connection:
//
//	http.Handle("/ws", &websocket.Upgrader{Handler: func(c *websocket.Conn) error {
//		for m, err := range c.Messages(context.Background()) {
//			if err != nil {
//				return err
//			}
//			if err := c.Write(context.Background(), m.Type, m.Data); err != nil {
//				return err
//			}
//		}
//		return nil
//	}})
//
// # Limits
//
// The zero Config is safe: messages of at most 1 MiB, in at most 16384
// frames; a peer that takes nothing is cut after 10 s, one that does not
// answer a Close after 5 s. Memory grows with what a peer has sent, never with
// what it has announced. A browser may connect from pages of the host that it
// connects to, unless [Upgrader.Origins] allows more.
//
// # Cancellation
//
// A context given to a method ends that call; the connection goes on, and so
// does the message that was being read. The exception is a frame or message
// that is partly on the wire already: then the connection ends.
//
// # The end
//
// A connection ends once: by [Conn.Close] or [Conn.CloseNow], by the return
// of its handler, by the peer's Close, by a violation of the protocol, or by
// loss. From then on every method returns the same [*CloseError], which says
// who ended it, with which code and why. The closing handshake goes on in the
// background; [Conn.Context] is done when it is over.
package websocket

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"
)

// An Upgrader answers WebSocket handshakes and serves the connections. It is
// an [http.Handler]: mount it on a mux, for all methods. Set Handler or Open.
// Its fields must not be changed after the first request. Any number of
// goroutines may use it.
type Upgrader struct {
	// Handler serves one connection, on a goroutine of its own. The
	// connection ends with it: with 1000 when it returns nil, with the
	// code and reason of a [*CloseError], with 1011 and no reason for any
	// other error and for a panic, both of which are logged.
	Handler func(*Conn) error

	// Open, if not nil, decides about a request that has passed every
	// check, and returns what serves the connection in place of Handler.
	// It runs on net/http's goroutine before anything is answered. What the
	// connection needs of r must be taken here: r must not be kept. header
	// goes out with the 101, for cookies, say.
	//
	// With a [*HandshakeError] the request is answered as that says; with
	// any other error with 500, and the error is logged.
	Open func(r *http.Request, header http.Header) (func(*Conn) error, error)

	// Subprotocols are those that the server supports. The first of the
	// client's offers that is among them is agreed on (RFC 6455 §4.2.2);
	// if none is, the connection opens without one.
	Subprotocols []string

	// SelectSubprotocol, if not nil, replaces that choice. It returns one of
	// offered, or "" for none; anything else is answered with 500.
	SelectSubprotocol func(r *http.Request, offered []string) string

	// Origins are those from which browsers may connect besides the host
	// that serves the request: "https://app.example.com", or
	// "app.example.com" for http and https; "https://*.example.com" for its
	// subdomains of any depth; with a port if it is not the scheme's own;
	// "null" for opaque origins; or [AnyOriginInsecure]. A malformed
	// element makes every handshake fail with 500 and is logged.
	//
	// Requests without an Origin header do not come from a browser and are
	// accepted. An origin proves nothing about a client that is not one.
	Origins []string

	// CheckOrigin, if not nil, replaces Origins and the check of the host.
	// An error refuses the request with 403; its text is not sent.
	CheckOrigin func(*http.Request) error

	Config

	once   sync.Once
	frozen settings
}

// A Config has the limits of a connection. The zero value of each field
// stands for its default.
type Config struct {
	// ReadLimit is the size of the largest message that is accepted, in
	// bytes; a larger one closes the connection with 1009 as soon as its
	// size is announced. 0: 1 MiB; negative: no limit.
	ReadLimit int64

	// MaxFragments is the number of frames that a message may come in;
	// more close the connection with 1009. 0: 16384; negative: no limit.
	MaxFragments int

	// WriteTimeout is how long the peer may take to accept a piece of at
	// most 64 KiB of what is written; then the connection is cut. It also
	// bounds the writing of the handshake, and how long an idle writer of
	// [Conn.Writer] may keep others waiting. 0: 10 s; negative: no limit,
	// but for what is left to write when the connection closes.
	WriteTimeout time.Duration

	// CloseTimeout is how long the peer's Close is waited for, in the
	// background, after this side's has been sent. 0: 5 s; negative: it is
	// not waited for.
	CloseTimeout time.Duration

	// Logger is told about panics and errors of handlers and failed
	// handshakes, and on the debug level about refused ones. nil:
	// slog.Default().
	Logger *slog.Logger
}

const (
	defaultReadLimit    = 1 << 20
	defaultMaxFragments = 16 << 10
	defaultWriteTimeout = 10 * time.Second
	defaultCloseTimeout = 5 * time.Second
)

func (c Config) withDefaults() Config {
	if c.ReadLimit == 0 {
		c.ReadLimit = defaultReadLimit
	}
	if c.MaxFragments == 0 {
		c.MaxFragments = defaultMaxFragments
	}
	if c.WriteTimeout == 0 {
		c.WriteTimeout = defaultWriteTimeout
	}
	if c.CloseTimeout == 0 {
		c.CloseTimeout = defaultCloseTimeout
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// settings are an Upgrader's fields as they were at its first use.
type settings struct {
	config  Config
	origins originPolicy
	err     error
}

func (u *Upgrader) settings() (*settings, error) {
	u.once.Do(func() {
		u.frozen.config = u.Config.withDefaults()
		u.frozen.origins, u.frozen.err = parseOrigins(u.Origins)
	})
	return &u.frozen, u.frozen.err
}

func (u *Upgrader) logger() *slog.Logger {
	s, _ := u.settings()
	return s.config.Logger
}

var errNilRefusal = errors.New("a nil *HandshakeError was returned by Open")

var errNoHandler = errors.New("the Upgrader has neither Handler nor Open")

// ServeHTTP answers a handshake and returns. The connection then lives on a
// goroutine of its own, which runs Handler, or what Open returned: nothing of
// the request is kept alive by it.
//
// http.Server counts the connection as hijacked: its Shutdown and Close
// neither close it nor wait for it.
func (u *Upgrader) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a, refused := u.negotiate(r)
	if refused != nil {
		u.answer(w, r, refused)
		return
	}
	handler, header := u.Handler, http.Header(nil)
	if u.Open != nil {
		header = make(http.Header)
		var err error
		if handler, err = u.Open(r, header); err != nil {
			var chosen *HandshakeError
			if !errors.As(err, &chosen) {
				chosen = internalError(err)
			} else if chosen == nil {
				chosen = internalError(errNilRefusal)
			}
			u.answer(w, r, chosen)
			return
		}
	}
	if handler == nil {
		u.answer(w, r, internalError(errNoHandler))
		return
	}
	c, err := u.hijack(w, r, a, nil, w.Header(), header)
	if err != nil {
		var refused *HandshakeError
		if !errors.As(err, &refused) { // which has been logged already
			u.logger().Debug("websocket: handshake failed", "remote", r.RemoteAddr, "error", err)
		}
		return
	}
	go c.serve(handler)
}

// serve runs the application's handler for a connection and ends the
// connection with it. The handler's own panic is its connection's end, not
// the server's (http.Server does the same).
func (c *Conn) serve(handler func(*Conn) error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		// A panic, or runtime.Goexit, for which there is nothing to recover.
		if v := recover(); v != nil && v != http.ErrAbortHandler {
			c.cfg.Logger.Error("websocket: handler panicked", "remote", c.RemoteAddr(), "panic", v, "stack", string(debug.Stack()))
		}
		c.failWith(&CloseError{Code: StatusInternalError, cause: net.ErrClosed})
	}()
	err := handler(c)
	if e, ok := err.(*CloseError); err == nil || ok && e == nil {
		_ = c.Close(StatusNormalClosure, "")
	} else {
		c.failWith(c.verdict(err))
	}
	returned = true
}

// verdict turns the error that a handler returned into how its connection
// ends, if it has not ended yet. The error's text goes to the log, not to the
// peer.
func (c *Conn) verdict(err error) *CloseError {
	var e *CloseError
	if errors.As(err, &e) && e != nil && e.Code.sendable() {
		return &CloseError{Code: e.Code, Reason: strings.ToValidUTF8(e.Reason, "\uFFFD"), cause: net.ErrClosed}
	}
	if ended := c.ended(); ended == nil || !errors.Is(err, ended) {
		c.cfg.Logger.Error("websocket: handler failed", "remote", c.RemoteAddr(), "error", err)
	}
	return &CloseError{Code: StatusInternalError, cause: asked{err}}
}
