// Package websocket makes WebSocket servers (RFC 6455) of net/http handlers. It
// has a client, too: [Dial].
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
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/sockeye-ws/websocket/internal/httpfield"
	"github.com/sockeye-ws/websocket/internal/sendq"
)

// An Upgrader answers WebSocket handshakes and serves the connections. It is
// an [http.Handler]: mount it on a mux, for all methods. Set Handler or Open.
// Its fields must not be changed after the first request. Any number of
// goroutines may use it.
type Upgrader struct {
	// Handler serves one connection, on a goroutine of its own. The
	// connection ends with it, unless [Conn.Start] has been called and it
	// returns nil: with 1000 when it returns nil, with the
	// code and reason of a [*CloseError], which may be wrapped, with 1011 and
	// no reason for any other error, for a code that must not be sent, and for
	// a panic, all of which are logged. A reason that is too long is cut.
	Handler func(*Conn) error

	// Open, if not nil, decides about a request that has passed every
	// check, and returns what serves the connection in place of Handler.
	// It runs on net/http's goroutine before anything is answered. What the
	// connection needs of r must be taken here: r must not be kept. header
	// goes out with the 101, for cookies, say; fields of the handshake must not
	// be in it. What is accepted here can
	// still come to nothing, when the server is full or the client gone:
	// acquire nothing that only the returned function gives back.
	//
	// With a [*HandshakeError] the request is answered as that says; with
	// any other error with 500, and the error is logged.
	Open func(r *http.Request, header http.Header) (func(*Conn) error, error)

	// Subprotocols are those that the server supports. The first of the
	// client's offers that is among them is agreed on (RFC 6455 §4.2.2);
	// if none is, the connection opens without one. With one that is not a
	// token (RFC 9110 §5.6.2) every handshake is answered with 500.
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

	// MaxConns is how many connections may be open at a time; further
	// handshakes are answered with 503 and Retry-After. 0: no limit.
	MaxConns int

	// PartialLimit is how many bytes of messages that have not come whole may
	// be held for all connections together; one that goes beyond it is closed
	// with 1013. Each connection counts in steps of 4 KiB; what a Reader
	// streams, and messages of one frame that come at once, are not held.
	// 0: 1 GiB; negative: no limit.
	PartialLimit int64

	// ReleaseConns lets a connection in event mode (see [Conn.Start]) that is
	// silent give up its net.Conn and keep the bare socket, which saves
	// almost half of its memory (on Linux, over TCP without TLS). When it has to wait,
	// for a peer that takes slowly, say, it gets another one, for some 20 µs
	// and two descriptors more for a moment: let there be a few to spare.
	//
	// Set it if nobody but the http.Server and this package has the net.Conn.
	// A listener or a middleware that keeps it, to close it or to set its
	// options later on, would not reach the socket any more. It has no
	// effect with a listener that wraps the connections, and with a server
	// that has ConnContext or ConnState, as those of httptest have.
	ReleaseConns bool

	// ShutdownCode and ShutdownReason are what [Upgrader.Shutdown] closes
	// connections with, for example 1012 for a restart. 0: 1001.
	ShutdownCode   StatusCode
	ShutdownReason string

	// ShutdownWindow is the time over which Shutdown spreads the closing,
	// so that not all clients come back in the same moment. 0: 1 s;
	// negative: all are closed at once.
	ShutdownWindow time.Duration

	Config

	once   sync.Once
	frozen settings
	live   live
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

	// WriteQueue is how many bytes are accepted ahead of a peer that takes
	// them slowly; then Write waits, and Send does what Overflow says. A
	// single message may be larger: it is accepted when nothing else is
	// queued. What is to be compressed counts as it was written. Where a
	// large message, such as a snapshot, is followed by
	// smaller ones before it can be out, there has to be room for all of
	// them. 0: 256 KiB; negative makes every handshake fail.
	WriteQueue int

	// Overflow says what Send and [Group.Send] do with a message that
	// finds no room in the queue. 0: Disconnect.
	Overflow Overflow

	// PingInterval is how long nothing may come from the peer until it is
	// pinged. So that not all are pinged at once, it is up to a quarter
	// less for some connections. The clock ticks each half second, or
	// sixteen times in the shortest of this and the next three times, which
	// are rounded up to that. 0: 30 s; negative: no keepalive.
	PingInterval time.Duration

	// PingTimeout is how long nothing may come after that ping; then the
	// connection is over. Anything that comes is a sign of life, also what
	// waits because the application does not read. 0: 20 s.
	PingTimeout time.Duration

	// MessageTimeout is how long a message whose beginning has come may be
	// waited for until it is whole: so long, and one second more for each
	// KiB of it that has come. A peer that is slower is closed with 1008,
	// never early and up to a tick late; see PingInterval. Only time in
	// which somebody waits for it counts, and pauses of the application do
	// not. A control frame may take no longer. 0: 60 s; negative: no limit.
	MessageTimeout time.Duration

	// FirstMessageTimeout is how soon after the handshake the peer has to
	// begin its first data message, or it is closed with 1008, up to a tick
	// later: for servers whose clients speak first. Pings are no message,
	// and what waits because the application does not read may be one.
	// 0: no limit.
	FirstMessageTimeout time.Duration

	// ControlRate and MessageRate are how many control frames and data
	// messages are accepted in a second, in the long run; after a second of
	// quiet so many may come at once. One more closes the connection with
	// 1008, but a Close is never too much. 0: no limit.
	ControlRate int
	MessageRate int

	// Compression is off unless it is enabled.
	Compression Compression

	// CloseTimeout is how long the peer's Close is waited for, in the
	// background, after this side's has been sent. 0: 5 s; negative: it is
	// not waited for.
	CloseTimeout time.Duration

	// Logger is told about panics and errors of handlers and failed
	// handshakes, about peers that were disconnected over
	// [Config.Overflow], and on the debug level about refused handshakes
	// and the ends of connections. nil: slog.Default().
	Logger *slog.Logger

	// Trace is told what happens on the connections. nil: nothing is.
	Trace *Trace
}

// An Overflow says what happens when a message that is sent without waiting
// finds more than [Config.WriteQueue] bytes queued.
type Overflow uint8

const (
	// Disconnect drops what is queued and closes the connection with 1008,
	// so that the peer never misses a message without knowing.
	Disconnect Overflow = iota
	// DropNewest drops the message.
	DropNewest
	// DropOldest drops those messages that were sent first and have not
	// begun to leave, to make room for this one: for values that are out of
	// date when the next comes. Messages of Write and Writer are not dropped;
	// where no other is left, this one is.
	DropOldest
)

const (
	defaultPingInterval   = 30 * time.Second
	defaultPingTimeout    = 20 * time.Second
	defaultShutdownWindow = time.Second
	defaultMessageTimeout = time.Minute
	defaultPartialLimit   = 1 << 30

	defaultWriteQueue   = 256 << 10
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
	if c.WriteQueue == 0 {
		c.WriteQueue = defaultWriteQueue
	}
	if c.PingInterval == 0 {
		c.PingInterval = defaultPingInterval
	}
	if c.PingTimeout == 0 {
		c.PingTimeout = defaultPingTimeout
	}
	if c.MessageTimeout == 0 {
		c.MessageTimeout = defaultMessageTimeout
	}
	if c.CloseTimeout == 0 {
		c.CloseTimeout = defaultCloseTimeout
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// terms are what a connection goes by: a Config with its defaults, and what
// follows from it.
type terms struct {
	Config
	queue sendq.Options
	// newKey makes the masking keys of what a client sends; nil: this is a
	// server, which does not mask (RFC 6455 §5.1).
	newKey func() maskKey
	// newKeys is that for some of them, at least one, and returns how many.
	newKeys func([]maskKey) int
}

func (t *terms) set(c Config) {
	t.Config = c.withDefaults()
	t.queue.Limit = t.WriteQueue
	t.queue.Timeout = t.WriteTimeout
	t.queue.DropOldest = t.Overflow == DropOldest
	t.queue.Disconnect = t.Overflow == Disconnect
}

// check says what is wrong with c, where nothing sensible can be made of it.
func (c *Config) check() error {
	switch {
	case c.WriteQueue < 0:
		return fmt.Errorf("Config.WriteQueue is %d, and nothing could be sent", c.WriteQueue)
	case c.Overflow > DropOldest:
		return fmt.Errorf("Config.Overflow is %d, which has no meaning", c.Overflow)
	case c.PingTimeout < 0:
		return fmt.Errorf("Config.PingTimeout is %v, and no peer could answer", c.PingTimeout)
	case c.Compression.check() != nil:
		return c.Compression.check()
	case c.ControlRate < 0 || c.MessageRate < 0 || c.FirstMessageTimeout < 0:
		return errors.New("Config.ControlRate, MessageRate or FirstMessageTimeout is negative, which has no meaning")
	}
	return nil
}

// check says what is wrong with u.
func (u *Upgrader) check() error {
	if err := u.Config.check(); err != nil {
		return err
	}
	for _, p := range u.Subprotocols {
		if !httpfield.IsToken(p) {
			return fmt.Errorf("the subprotocol %q is not a token", p)
		}
	}
	switch {
	case u.ShutdownCode != 0 && !u.ShutdownCode.sendable():
		return fmt.Errorf("a server cannot send ShutdownCode %d", u.ShutdownCode)
	case len(u.ShutdownReason) > maxReason || !utf8.ValidString(u.ShutdownReason):
		return fmt.Errorf("ShutdownReason is not UTF-8 of at most %d bytes", maxReason)
	}
	return nil
}

// settings are an Upgrader's fields as they were at its first use.
type settings struct {
	terms   terms
	origins originPolicy
	err     error
}

func (u *Upgrader) settings() (*settings, error) {
	u.once.Do(func() {
		u.frozen.terms.set(u.Config)
		u.frozen.origins, u.frozen.err = parseOrigins(u.Origins)
		if u.frozen.err == nil {
			u.frozen.err = u.check()
		}
		u.live.init(u, &u.frozen.terms)
	})
	return &u.frozen, u.frozen.err
}

func (u *Upgrader) logger() *slog.Logger {
	s, _ := u.settings()
	return s.terms.Logger
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
	// Counted before there is a connection that could be over before it.
	u.live.change(func() { u.live.handlers++ })
	begun := false
	defer func() {
		if !begun {
			u.live.served()
		}
	}()
	c, err := u.hijack(w, r, a, nil, w.Header(), header)
	if err != nil {
		var refused *HandshakeError
		if !errors.As(err, &refused) { // which has been logged already
			u.logger().Debug("websocket: handshake failed", "remote", r.RemoteAddr, "error", err)
		}
		return
	}
	begun = true
	go func() {
		defer c.live.served()
		c.serve(handler)
	}()
}

// serve runs the application's handler for a connection and ends the
// connection with it. The handler's own panic is its connection's end, not
// the server's (http.Server does the same).
func (c *Conn) serve(handler func(*Conn) error) {
	returned := false
	defer func() {
		if !returned {
			// A panic, or runtime.Goexit, for which there is nothing to recover.
			c.logPanic(recover())
			c.failWith(&CloseError{Code: StatusInternalError, cause: net.ErrClosed})
		}
	}()
	c.obey(handler(c))
	returned = true
}

// obey ends a connection as its handler's result says.
func (c *Conn) obey(err error) {
	if !c.failed(err) && !c.started() {
		_ = c.Close(StatusNormalClosure, "")
	}
}

// failed ends a connection if what the application returned is an error, and
// reports whether it is.
func (c *Conn) failed(err error) bool {
	if e, ok := err.(*CloseError); err == nil || ok && e == nil {
		return false
	}
	c.failWith(c.verdict(err))
	return true
}

// logPanic logs what the application panicked with, if it did, as net/http
// does.
func (c *Conn) logPanic(v any) {
	if v != nil && v != http.ErrAbortHandler {
		c.log(slog.LevelError, "websocket: handler panicked", slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
	}
}

// verdict turns the error that a handler returned into how its connection
// ends, if it has not ended yet. The error's text goes to the log, not to the
// peer.
func (c *Conn) verdict(err error) *CloseError {
	var e *CloseError
	if errors.As(err, &e) && e != nil && c.maySend(e.Code) {
		return &CloseError{Code: e.Code, Reason: strings.ToValidUTF8(e.Reason, "\uFFFD"), cause: net.ErrClosed}
	}
	if ended := c.ended(); ended == nil || !errors.Is(err, ended) {
		text := "websocket: handler failed"
		if e != nil {
			text = fmt.Sprintf("websocket: handler failed with code %d, which a %s cannot send", e.Code, c.role())
		}
		c.log(slog.LevelError, text, slog.Any("error", err))
	}
	return &CloseError{Code: StatusInternalError, cause: asked{err}}
}
