package websocket

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket/internal/memconn"
)

// attach gives u a connection over memory, and returns the peer's end too.
func attach(t testing.TB, u *Upgrader) (*Conn, *memconn.Conn) {
	t.Helper()
	return attachWith(t, u, "")
}

// attachWith is attach where input has come with the request.
func attachWith(t testing.TB, u *Upgrader, input string) (*Conn, *memconn.Conn) {
	t.Helper()
	settings, err := u.settings()
	if err != nil {
		t.Fatal(err)
	}
	if refused := u.live.reserve(u.MaxConns); refused != nil {
		t.Fatal(refused)
	}
	peer, server := memconn.Pair()
	c := newConn(server, []byte(input), &settings.terms, "", nil)
	u.live.add(c)
	return c, peer
}

const kib = 1 << 10

// part is the first fragment of a message with n bytes.
func part(n int) string {
	b := appendHeader(nil, header{op: opBinary, masked: true, length: int64(n)})
	return string(b) + strings.Repeat("a", n)
}

const rest = "\x80\x80\x00\x00\x00\x00" // the last fragment, empty

// What is held for all connections together is bounded; the one that goes
// beyond it is closed with 1013, and the others go on. However it ends, what
// it held is given back.
func TestPartialLimit(t *testing.T) {
	ctx := context.Background()
	for name, end := range map[string]func(t *testing.T, c *Conn, peer *memconn.Conn, read <-chan error){
		"comes whole": func(t *testing.T, c *Conn, peer *memconn.Conn, read <-chan error) { mustWrite(t, peer, rest) },
		"peer closes": func(t *testing.T, c *Conn, peer *memconn.Conn, read <-chan error) {
			mustWrite(t, peer, "\x88\x80\x00\x00\x00\x00")
		},
		"violation": func(t *testing.T, c *Conn, peer *memconn.Conn, read <-chan error) { mustWrite(t, peer, "\xff") },
		"loss":      func(t *testing.T, c *Conn, peer *memconn.Conn, read <-chan error) { peer.Close() },
		"CloseNow":  func(t *testing.T, c *Conn, peer *memconn.Conn, read <-chan error) { c.CloseNow() },
		"Close":     func(t *testing.T, c *Conn, peer *memconn.Conn, read <-chan error) { c.Close(1000, "") },
	} {
		for _, events := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					u := &Upgrader{PartialLimit: 100 * kib, Config: Config{Logger: slog.New(slog.DiscardHandler), MessageTimeout: -1}}
					held := func(want int64) {
						t.Helper()
						synctest.Wait()
						if got := u.live.partial.Load(); got != want*kib {
							t.Errorf("%d bytes are held, want %d KiB", got, want)
						}
					}
					var peers []*memconn.Conn
					var conns []*Conn
					var reads []<-chan error
					for range 5 {
						c, peer := attach(t, u)
						read := make(chan error, 10)
						if events {
							c.Start(tellEvents{read})
						} else {
							go func() {
								_, _, err := c.Read(ctx)
								read <- err
							}()
						}
						peers, conns, reads = append(peers, peer), append(conns, c), append(reads, read)
						mustWrite(t, peer, part(20*kib))
					}
					held(100)
					mustWrite(t, peers[4], "\x00\x81\x00\x00\x00\x00a")
					synctest.Wait()
					var closed *CloseError
					if err := conns[4].ended(); !errors.As(err, &closed) || closed.Code != StatusTryAgainLater || closed.Remote {
						t.Fatalf("the one beyond the limit: %v, want 1013", err)
					}
					b := make([]byte, 100)
					if n, _ := peers[4].Read(b); n < 4 || string(b[2:4]) != "\x03\xf5" {
						t.Errorf("the peer is told %x", b[:n])
					}
					peers[4].Close()
					held(80)
					for i := range 4 {
						if conns[i].ended() != nil {
							t.Fatalf("connection %d: %v", i, conns[i].ended())
						}
					}
					end(t, conns[0], peers[0], reads[0])
					if name == "Close" {
						mustWrite(t, peers[0], "\x88\x80\x00\x00\x00\x00")
					}
					held(60)
					if name == "comes whole" {
						if err := <-reads[0]; err != nil {
							t.Error(err)
						}
					}
					mustWrite(t, peers[1], "\x00\x81\x00\x00\x00\x00a")
					held(64) // in steps
					for i := range 4 {
						conns[i].CloseNow()
						peers[i].Close()
					}
					held(0)
				})
			})
		}
	}
}

type tellEvents struct{ read chan error }

func (e tellEvents) Message(*Conn, MessageType, []byte) error { e.read <- nil; return nil }
func (e tellEvents) Closed(*Conn, error)                      {}

// What a cancelled Read leaves is held; a later Read, a Reader that takes it, one
// that skips it and event mode let it go. What is not held does not count:
// messages of one frame that came whole, and what a Reader streams.
func TestPartialIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &Upgrader{PartialLimit: 40 * kib, Config: Config{Logger: slog.New(slog.DiscardHandler), ReadLimit: -1}}
		c, peer := attach(t, u)
		held := func(what string, want int64) {
			t.Helper()
			synctest.Wait()
			if got := u.live.partial.Load(); got != want*kib {
				t.Errorf("%s: %d bytes are held, want %d KiB", what, got, want)
			}
		}
		give := func() {
			t.Helper()
			mustWrite(t, peer, part(30*kib))
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			if _, _, err := c.Read(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("Read: %v", err)
			}
			held("a Read that gave up", 32)
		}
		bg := context.Background()
		for range 3 {
			give()
			mustWrite(t, peer, rest)
			if _, p, err := c.Read(bg); len(p) != 30*kib || err != nil {
				t.Fatal(len(p), err)
			}
			held("read", 0)

			give()
			mustWrite(t, peer, rest)
			_, r, err := c.Reader(bg)
			if err != nil {
				t.Fatal(err)
			}
			held("a Reader has it", 32)
			if n, err := io.ReadFull(r, make([]byte, 20*kib)); err != nil {
				t.Fatal(n, err)
			}
			held("a Reader has taken some", 12)
			if p, err := io.ReadAll(r); len(p) != 10*kib || err != nil {
				t.Fatal(len(p), err)
			}
			held("a Reader has taken all", 0)

			give()
			if _, _, err := c.Reader(bg); err != nil {
				t.Fatal(err)
			}
			mustWrite(t, peer, rest+hi)
			if _, p, err := c.Read(bg); string(p) != "hi" || err != nil {
				t.Fatal(p, err)
			}
			held("a Reader is skipped", 0)

			for range 100 { // far more than the limit
				mustWrite(t, peer, hi)
				if _, _, err := c.Read(bg); err != nil {
					t.Fatal(err)
				}
				held("a whole frame", 0)
			}
			go io.WriteString(peer, part(200*kib)+rest)
			if _, r, err = c.Reader(bg); err != nil {
				t.Fatal(err)
			}
			for n, buf := 0, make([]byte, kib); n < 200*kib; {
				m, err := r.Read(buf)
				if err != nil {
					t.Fatal(err)
				}
				n += m
				if u.live.partial.Load() != 0 {
					t.Fatal("what is streamed is counted")
				}
			}
			if _, err := r.Read(make([]byte, 1)); err != io.EOF {
				t.Fatal(err)
			}
		}
		give()
		heard := make(chan error, 1)
		c.Start(tellEvents{heard})
		held("event mode", 32)
		mustWrite(t, peer, rest)
		<-heard
		held("event mode has delivered it", 0)
		mustWrite(t, peer, part(41*kib))
		synctest.Wait()
		if e, _ := c.ended().(*CloseError); e == nil || e.Code != StatusTryAgainLater {
			t.Errorf("41 KiB: %v", c.ended())
		}
		peer.Close()
		<-c.Context().Done()
		held("all is over", 0)
	})
	for limit, whole := range map[int64]bool{0: true, -1: true, 4 << 10: false} {
		synctest.Test(t, func(t *testing.T) {
			u := &Upgrader{PartialLimit: limit, Config: Config{Logger: slog.New(slog.DiscardHandler)}}
			c, peer := attach(t, u)
			go func() {
				io.WriteString(peer, part(500*kib)+rest)
			}()
			if _, p, err := c.Read(context.Background()); (err == nil) != whole || whole && len(p) != 500*kib {
				t.Errorf("limit %d: %d bytes, %v", limit, len(p), err)
			}
			if u.live.partial.Load() != 0 && whole {
				t.Error("something is counted")
			}
			c.CloseNow()
			peer.Close()
			<-c.Context().Done()
			synctest.Wait()
		})
	}
}
