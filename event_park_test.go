package websocket

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http/httptest"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sockeye-ws/websocket/internal/conformance"
	"github.com/sockeye-ws/websocket/internal/memconn"
)

// quick makes the ticks of a server's clock 10 ms, and pings nobody.
var quick = Config{PingInterval: time.Hour, PingTimeout: 160 * time.Millisecond}

// A depot serves connections on sockets; tests have both ends of each.
type depot struct {
	t      *testing.T
	u      *Upgrader
	server *httptest.Server
	kind   kind
	conns  chan *Conn
}

// A kind is one of the transports that can be parked.
type kind string

const (
	overPlain kind = "TCP"
	overBare  kind = "TCP without a net.Conn"
	overTLS   kind = "TLS"
)

func inDepot(t *testing.T, on kind, config Config, f func(t *testing.T, d *depot)) {
	if runtime.GOOS != "linux" {
		t.Skip("nothing is parked here")
	}
	config.Logger = slog.New(slog.DiscardHandler)
	d := &depot{t: t, kind: on, conns: make(chan *Conn)}
	d.u = &Upgrader{Config: config, Handler: func(c *Conn) error {
		d.conns <- c
		<-c.Context().Done()
		return nil
	}}
	d.server = httptest.NewUnstartedServer(d.u)
	d.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	if on == overTLS {
		d.server.StartTLS()
	} else {
		d.server.Start()
	}
	defer d.server.Close()
	f(t, d)
}

// onAll calls f for each kind.
func onAll(t *testing.T, config Config, f func(t *testing.T, d *depot)) {
	for _, on := range []kind{overPlain, overBare, overTLS} {
		t.Run(string(on), func(t *testing.T) { inDepot(t, on, config, f) })
	}
}

// open opens a connection. What the peer writes passes the valve.
func (d *depot) open(rule string) (*conformance.Peer, *valve, *Conn) {
	d.t.Helper()
	nc, err := net.Dial("tcp", d.server.Listener.Addr().String())
	if err != nil {
		d.t.Fatal(err)
	}
	v := &valve{TCPConn: nc.(*net.TCPConn)}
	var conn net.Conn = v
	if d.kind == overTLS {
		conn = tls.Client(v, &tls.Config{InsecureSkipVerify: true})
	}
	p := conformance.NewPeer(d.t, conn)
	p.Rule, p.Patience = rule, 20*time.Second
	p.Handshake()
	c := <-d.conns
	if d.kind == overBare { // httptest has hooks of its own
		c.t.MayDetach()
	}
	d.t.Cleanup(func() { nc.Close(); c.CloseNow() })
	return p, v, c
}

// A valve holds back what is written while it is shut.
type valve struct {
	*net.TCPConn
	shut bool
	held []byte
}

func (v *valve) Write(p []byte) (int, error) {
	if v.shut {
		v.held = append(v.held, p...)
		return len(p), nil
	}
	return v.TCPConn.Write(p)
}

// CloseWrite has to be called again when the valve is open.
func (v *valve) CloseWrite() error {
	if v.shut {
		return nil
	}
	return v.TCPConn.CloseWrite()
}

// pass lets n of the bytes through that are held, in one piece.
func (v *valve) pass(n int) {
	v.SetWriteDeadline(time.Time{}) // which crypto/tls leaves in the past after its alert
	_, _ = v.TCPConn.Write(v.held[:n])
	v.held = v.held[n:]
}

// A tape records what it is told.
type tape struct {
	heard  chan string
	closed chan error
}

func newTape() *tape { return &tape{make(chan string, 1000), make(chan error, 10)} }

func (e *tape) Message(_ *Conn, _ MessageType, p []byte) error {
	e.heard <- string(p)
	return nil
}

func (e *tape) Closed(_ *Conn, err error) { e.closed <- err }

func (e *tape) want(t *testing.T, data ...string) {
	t.Helper()
	for _, want := range data {
		select {
		case got := <-e.heard:
			if got != want {
				t.Fatalf("heard %d bytes %.20q, want %d %.20q", len(got), got, len(want), want)
			}
		case err := <-e.closed:
			e.closed <- err // it comes after the messages
			select {
			case got := <-e.heard:
				if got != want {
					t.Fatalf("heard %d bytes %.20q, want %d %.20q", len(got), got, len(want), want)
				}
			default:
				t.Fatalf("closed with %v, want the message %.20q", err, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("the message %.20q is not heard", want)
		}
	}
}

func (e *tape) wantClosed(t *testing.T, c *Conn, code StatusCode, remote bool) {
	t.Helper()
	select {
	case err := <-e.closed:
		if err != c.ended() || c.ended().(*CloseError).Code != code || c.ended().(*CloseError).Remote != remote {
			t.Errorf("closed with %#v, want code %d, remote %v; the methods say %v", err, code, remote, c.ended())
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Closed is not called")
	}
	if len(e.heard) > 0 {
		t.Errorf("heard %q too", <-e.heard)
	}
}

// soon waits for what has to become true.
func soon(t *testing.T, what string, is func() bool) {
	t.Helper()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(20 * time.Second); !is(); <-again.C {
		if time.Now().After(end) {
			t.Fatalf("it is not so, and should be: %s", what)
		}
	}
}

func untilParked(t *testing.T, c *Conn) {
	t.Helper()
	soon(t, "the connection is parked", c.parked.Load)
}

// look calls f with the read turn of a connection that is parked.
func look(t *testing.T, c *Conn, f func()) {
	t.Helper()
	untilParked(t, c)
	soon(t, "the turn is free", func() bool { return c.turn.Take(turnLook) })
	f()
	c.turn.Give()
}

// parksAgain waits until a connection that is parked has been woken by f and is
// parked once more, which may be over before anybody looks.
func parksAgain(t *testing.T, c *Conn, f func()) {
	t.Helper()
	var at time.Duration
	look(t, c, func() { at = c.parkedAt })
	f()
	soon(t, "the connection was woken and is parked again", func() bool {
		if !c.parked.Load() || !c.turn.Take(turnLook) {
			return false
		}
		defer c.turn.Give()
		return c.parkedAt != at
	})
}

// sealed is one frame of a client.
func sealed(b0 byte, payload string) []byte {
	return conformance.MaskedFrame(b0, [4]byte{1, 2, 3, 4}, []byte(payload))
}

// A connection that is parked holds no read buffer, no write buffer, and
// nothing that is needed to read or write.
func TestParkedHoldsNothing(t *testing.T) {
	onAll(t, quick, func(t *testing.T, d *depot) {
		p, _, c := d.open("parked, it is served all the same")
		e := newTape()
		c.Start(e)
		for range 3 {
			// The peer has the pong before its writer has settled the account.
			soon(t, "nothing is queued", func() bool { n, _ := c.out.Queued(); return n == 0 })
			look(t, c, func() {
				if bare := c.t.NetConn() == nil; bare != (d.kind == overBare) {
					t.Errorf("parked without a net.Conn: %v", bare)
				}
				if c.inflow != nil {
					t.Errorf("parked with an inflow: %+v", c.inflow)
				}
				if !reflect.ValueOf(&c.out).Elem().FieldByName("flow").IsNil() {
					t.Error("parked with a flow of the queue")
				}
				if c.more.Load() || c.lingering.Load() != 0 {
					t.Error("parked, and it says that more is to come, or that somebody waits")
				}
			})
			if err := c.Write(context.Background(), Text, []byte("hi")); err != nil {
				t.Fatal(err)
			}
			p.Want("81 02 6869")
			p.WritePieces(sealed(0x81, "hello"), sealed(0x89, "ping"))
			e.want(t, "hello")
			p.Want("8a 04 70696e67")
		}
	})
}

// What has come of a message or a header survives parking, held in no more
// than it needs.
func TestParkedKeepsWhatHasCome(t *testing.T) {
	big := strings.Repeat("0123456789", 10_000)
	tests := []struct {
		name  string
		bytes []byte
		cut   int
		heard []string
		back  string
	}{
		{"one byte of a header", sealed(0x81, "hello"), 1, []string{"hello"}, ""},
		{"a header but for its mask", sealed(0x81, "hello"), 3, []string{"hello"}, ""},
		{"a long header in part", sealed(0x82, big), 9, []string{big}, ""},
		{"a header", sealed(0x81, "hello"), 6, []string{"hello"}, ""},
		{"a part of a payload", sealed(0x81, "hello"), 8, []string{"hello"}, ""},
		{"a part of a character", sealed(0x81, "hello€"), 6 + 6, []string{"hello€"}, ""},
		{"a large part of a large payload", sealed(0x82, big), 70_000, []string{big}, ""},
		{"a fragment", append(sealed(0x01, "hel"), sealed(0x80, "lo")...), 9, []string{"hello"}, ""},
		{"a fragment and a part", append(sealed(0x01, "hel"), sealed(0x80, "lo")...), 16, []string{"hello"}, ""},
		{"a part of a ping", sealed(0x89, "ping"), 8, nil, "8a 04 70696e67"},
		{"a part of a ping inside a message", bytes.Join([][]byte{
			sealed(0x01, "hel"), sealed(0x89, "ping"), sealed(0x80, "lo")}, nil), 16, []string{"hello"}, "8a 04 70696e67"},
	}
	onAll(t, quick, func(t *testing.T, d *depot) {
		p, _, c := d.open("a message may come in parts with any time between them")
		e := newTape()
		c.Start(e)
		for _, tt := range tests {
			// The pong says that the first part is being handled.
			p.WritePieces(append(sealed(0x89, "?"), tt.bytes[:tt.cut]...))
			p.Want("8a 01 3f")
			look(t, c, func() {
				if c.inflow == nil {
					t.Fatalf("%s: nothing is left of it", tt.name)
				}
				if in := reflect.ValueOf(&c.in).Elem().FieldByName("buf"); !in.IsNil() {
					if size := in.Elem().FieldByName("whole").Len(); size > 512 {
						t.Errorf("%s: the read buffer has %d bytes", tt.name, size)
					}
				}
			})
			p.WritePieces(tt.bytes[tt.cut:])
			e.want(t, tt.heard...)
			if tt.back != "" {
				p.Want(tt.back)
			}
			if p.Failed() {
				t.Fatal(tt.name)
			}
		}
		look(t, c, func() {
			if c.inflow != nil {
				t.Error("all is read, and something is held")
			}
		})
	})
}

// An interrupt may come when the wait that it was meant for is over: that ends
// nothing, as for Read.
func TestLateInterruptEndsNothing(t *testing.T) {
	onAll(t, quick, func(t *testing.T, d *depot) {
		p, _, c := d.open("the connection lives")
		e := newTape()
		c.t.In().Interrupt() // as of a Ping that gives way, before Start has the turn
		c.Start(e)
		for range 3 {
			p.WritePieces(sealed(0x81, "hello"))
			e.want(t, "hello")
			untilParked(t, c)
			c.t.In().Interrupt() // as of the clock, when a goroutine waited a moment ago
		}
	})
}

// A wake that finds the turn taken for a moment, by the clock that looks or by
// a Ping or Read that began before Start, is not lost.
func TestWakeFindsTheTurnTaken(t *testing.T) {
	inDepot(t, overPlain, quick, func(t *testing.T, d *depot) {
		p, _, c := d.open("each message is heard")
		e := newTape()
		c.Start(e)
		for _, who := range []int32{turnLook, turnPing, turnRead} {
			p.WritePieces(sealed(0x81, "before"))
			e.want(t, "before")
			look(t, c, func() { // takes it as turnLook
				c.turn.Rename(turnLook, who)
				p.WritePieces(sealed(0x81, "hello"))
				soon(t, "the wake has come", func() bool { return !c.parked.Load() })
			})
			e.want(t, "hello")
		}
	})
}

// Closed is called once also if Start is called while the end is being told.
func TestStartMeetsTheEnd(t *testing.T) {
	client, server := memconn.Pair()
	defer client.Close()
	c := newConn(server, nil, on(Config{}), "", nil)
	for range 50_000 { // so many that telling them takes a while
		_, cancel := context.WithCancel(c.Context())
		defer cancel()
	}
	e := newTape()
	c.CloseNow()
	<-c.Context().Done()
	c.Start(e)
	e.wantClosed(t, c, StatusAbnormalClosure, false)
	_, cancel := context.WithCancel(c.Context()) // waits until all have been told
	defer cancel()
	again := time.After(50 * time.Millisecond)
	select {
	case err := <-e.closed:
		t.Errorf("Closed is called again, with %v", err)
	case <-again:
	}
}

// A parked connection sees every kind of end, and what came before it.
func TestParkedEnds(t *testing.T) {
	tests := []struct {
		name   string
		end    func(p *conformance.Peer, v *valve, c *Conn)
		heard  []string
		code   StatusCode
		remote bool
		cause  error
	}{
		{"the peer closes", func(p *conformance.Peer, _ *valve, _ *Conn) { p.Write("88 82 z 03e8"); p.WantClean("03e8") }, nil, 1000, true, nil},
		{"a message and a Close at once", func(p *conformance.Peer, _ *valve, _ *Conn) {
			p.WritePieces(append(sealed(0x81, "last"), sealed(0x88, "\x03\xe8")...))
			p.WantClean("03e8")
		}, []string{"last"}, 1000, true, nil},
		{"end of stream", func(p *conformance.Peer, _ *valve, _ *Conn) { p.Fin(); p.WantDrop() }, nil, 1006, true, io.ErrUnexpectedEOF},
		{"a message and the end of stream at once", func(p *conformance.Peer, v *valve, _ *Conn) {
			v.shut = true
			p.WritePieces(sealed(0x81, "a"), sealed(0x81, "b"))
			p.Fin()
			v.shut = false
			v.pass(len(v.held))
			v.CloseWrite()
			p.WantDrop()
		}, []string{"a", "b"}, 1006, true, io.ErrUnexpectedEOF},
		{"half a message and the end of stream", func(p *conformance.Peer, v *valve, _ *Conn) {
			p.WritePieces(sealed(0x81, "hello")[:8])
			p.Fin()
			v.CloseWrite()
			p.WantDrop()
		}, nil, 1006, true, io.ErrUnexpectedEOF},
		{"reset", func(p *conformance.Peer, v *valve, _ *Conn) { v.SetLinger(0); v.TCPConn.Close() }, nil, 1006, true, nil},
		{"a violation", func(p *conformance.Peer, _ *valve, _ *Conn) { p.Write("c1 80 z"); p.WantFail(1002) }, nil, 1002, false, nil},
		{"Close", func(p *conformance.Peer, _ *valve, c *Conn) {
			c.Close(4000, "")
			p.Want("88 02 0fa0")
			p.Write("88 82 z 0fa0")
			p.WantEOF()
		}, nil, 4000, false, net.ErrClosed},
		{"CloseNow", func(p *conformance.Peer, _ *valve, c *Conn) { c.CloseNow(); p.Rest() }, nil, 1006, false, net.ErrClosed},
	}
	onAll(t, quick, func(t *testing.T, d *depot) {
		for _, tt := range tests {
			p, v, c := d.open(tt.name)
			e := newTape()
			c.Start(e)
			untilParked(t, c)
			tt.end(p, v, c)
			v.TCPConn.Close() // else it is waited for
			e.want(t, tt.heard...)
			e.wantClosed(t, c, tt.code, tt.remote)
			if tt.cause != nil && !errors.Is(c.ended(), tt.cause) {
				t.Errorf("%s: the cause of %v is not %v", tt.name, c.ended(), tt.cause)
			}
			soon(t, "the connection has left its set", func() bool { return len(d.u.live.wheel.Snapshot()) == 0 })
			if len(e.closed) > 0 {
				t.Errorf("%s: Closed is called twice", tt.name)
			}
			if t.Failed() {
				t.Fatal(tt.name)
			}
		}
	})
}

// However crypto/tls has the records, all of them are heard, and nothing is
// left behind in it when the connection is parked.
func TestParkedTLSRecords(t *testing.T) {
	// Ticks that are long enough to see a goroutine wait on a busy machine.
	slow := Config{PingInterval: time.Hour, PingTimeout: 16 * 60 * time.Millisecond}
	inDepot(t, overTLS, slow, func(t *testing.T, d *depot) {
		p, v, c := d.open("all records are read")
		e := newTape()
		c.Start(e)
		sizes := []int{1, 100, 512, 1000, 8 << 10, 16 << 10, 40 << 10}
		for round := range 3 {
			for _, size := range sizes {
				untilParked(t, c)
				text := strings.Repeat("x", size)
				v.shut = true
				p.WritePieces(sealed(0x82, "first"), sealed(0x82, text), sealed(0x82, "last"))
				v.shut = false
				switch n := len(v.held); round {
				case 0: // all at once
					v.pass(n)
				case 1: // the last record is cut
					v.pass(n - 7)
					e.want(t, "first", text)
					untilParked(t, c)
					v.pass(7)
				case 2: // so is the head of the first
					parksAgain(t, c, func() { v.pass(3) })
					v.pass(n - 3)
				}
				if round != 1 {
					e.want(t, "first", text)
				}
				e.want(t, "last")
			}
			v.shut = true
			var all []string
			for i := range 100 { // small ones, which it reads ahead
				all = append(all, strings.Repeat("y", i))
				p.WritePieces(sealed(0x82, all[i]))
			}
			v.shut = false
			v.pass(len(v.held))
			e.want(t, all...)
		}
	})
}
