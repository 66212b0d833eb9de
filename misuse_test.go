package websocket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket/internal/memconn"
)

// What a careless application, an odd connection or a hostile peer can do
// without breaking a rule that has an id.

// inPair runs f with a connection over a transport made by wrap, and the
// peer's end of it, in a bubble that must be left empty.
func inPair(t *testing.T, wrap func(*memconn.Conn) net.Conn, f func(t *testing.T, c *Conn, peer *memconn.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		peer, server := memconn.Pair()
		c := newConn(wrap(server), nil, on(Config{}), "", nil)
		f(t, c, peer)
		c.CloseNow()
		<-c.Context().Done()
		peer.Close()
	})
}

func plain(c *memconn.Conn) net.Conn { return c }

func mustWrite(t *testing.T, peer io.Writer, frames string) {
	t.Helper()
	if _, err := io.WriteString(peer, frames); err != nil {
		t.Fatal(err)
	}
}

const (
	hi  = "\x81\x82\x00\x00\x00\x00hi"
	bye = "\x82\x83\x00\x00\x00\x00bye"
)

// A message of which every byte has been read has ended, whether or not its
// io.EOF was asked for.
func TestReaderWithoutItsEOF(t *testing.T) {
	begin := func(t *testing.T, c *Conn, peer *memconn.Conn) {
		mustWrite(t, peer, hi+bye)
		_, r, err := c.Reader(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(r, make([]byte, 2)); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("Ping", func(t *testing.T) {
		inPair(t, plain, func(t *testing.T, c *Conn, peer *memconn.Conn) {
			begin(t, c, peer)
			if _, err := c.Ping(context.Background()); err != ErrUnreadMessage {
				t.Errorf("Ping: %v", err)
			}
			if _, p, err := c.Read(context.Background()); string(p) != "bye" || err != nil {
				t.Errorf("Read: %q, %v", p, err)
			}
		})
	})
	t.Run("CloseRead", func(t *testing.T) {
		inPair(t, plain, func(t *testing.T, c *Conn, peer *memconn.Conn) {
			begin(t, c, peer)
			c.CloseRead()
			<-c.Context().Done()
			var e *CloseError
			if err := context.Cause(c.Context()); !errors.As(err, &e) || e.Code != StatusUnsupportedData {
				t.Errorf("ended by %v, want 1003", err)
			}
		})
	})
}

// An error that is a nil pointer is what a handler with a named result
// returns by mistake.
func TestTypedNilErrors(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want StatusCode
	}{
		{(*CloseError)(nil), StatusNormalClosure},
		{fmt.Errorf("wrapped: %w", (*CloseError)(nil)), StatusInternalError},
	} {
		inPair(t, plain, func(t *testing.T, c *Conn, peer *memconn.Conn) {
			c.serve(func(*Conn) error { return tt.err })
			var e *CloseError
			if !errors.As(c.ended(), &e) || e.Code != tt.want {
				t.Errorf("ended by %v, want %d", c.ended(), tt.want)
			}
		})
	}
	u := &Upgrader{Open: func(*http.Request, http.Header) (func(*Conn) error, error) { return nil, (*HandshakeError)(nil) }}
	w := new(recorder)
	u.ServeHTTP(w, &http.Request{Method: "GET", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Host: "h", Header: http.Header{
		"Upgrade": {"websocket"}, "Connection": {"upgrade"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	}})
	if w.status != http.StatusInternalServerError {
		t.Errorf("Open's nil *HandshakeError is answered with %d", w.status)
	}
}

type recorder struct {
	header http.Header
	status int
}

func (w *recorder) Header() http.Header {
	if w.header == nil {
		w.header = make(http.Header)
	}
	return w.header
}
func (w *recorder) Write(p []byte) (int, error) { return len(p), nil }
func (w *recorder) WriteHeader(status int)      { w.status = status }

// A read deadline that somebody else has set cuts the connection, and does
// not make it spin.
func TestForeignDeadline(t *testing.T) {
	inPair(t, plain, func(t *testing.T, c *Conn, peer *memconn.Conn) {
		start := time.Now()
		c.t.NetConn().SetReadDeadline(start.Add(time.Second))
		_, _, err := c.Read(context.Background())
		var e *CloseError
		if !errors.As(err, &e) || e.Code != StatusAbnormalClosure || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Read: %v", err)
		}
		if d := time.Since(start); d != time.Second {
			t.Errorf("after %v", d)
		}
	})
}

// noDeadlines is a connection whose reads nothing but Close can end.
type noDeadlines struct{ net.Conn }

func (noDeadlines) SetReadDeadline(time.Time) error { return errors.New("no deadlines") }

func TestConnectionWithoutDeadlines(t *testing.T) {
	inPair(t, func(c *memconn.Conn) net.Conn { return noDeadlines{c} }, func(t *testing.T, c *Conn, peer *memconn.Conn) {
		read := make(chan error)
		go func() {
			_, _, err := c.Read(context.Background())
			read <- err
		}()
		synctest.Wait()
		start := time.Now()
		if err := c.Close(StatusNormalClosure, ""); err != nil {
			t.Error(err)
		}
		if err := <-read; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Read: %v", err)
		}
		<-c.Context().Done()
		if d := time.Since(start); d > defaultCloseTimeout {
			t.Errorf("the end took %v", d)
		}
	})
}

// BenchmarkManySubprotocols reads the longest list that net/http lets
// through. It takes milliseconds; comparing each offer with each would take
// many seconds of a server's time for a request that costs its sender nothing.
func BenchmarkManySubprotocols(b *testing.B) {
	var list strings.Builder
	n := 0
	for ; list.Len() < http.DefaultMaxHeaderBytes; n++ {
		fmt.Fprintf(&list, "%x,", n)
	}
	h := http.Header{"Sec-Websocket-Protocol": {list.String()}}
	b.SetBytes(int64(list.Len()))
	for b.Loop() {
		if offered, ok := offeredSubprotocols(h); !ok || len(offered) != n {
			b.Fatalf("%d of %d offers, %v", len(offered), n, ok)
		}
	}
}

// A Prepared that NewPrepared has not made is no message: nobody gets any of it,
// and the group and other connections go on.
func TestUnprepared(t *testing.T) {
	for name, p := range map[string]*Prepared{"nil": nil, "zero": new(Prepared)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, client := Pipe(nil)
				defer server.CloseNow()
				defer client.CloseNow()
				g := new(Group)
				for _, c := range []*Conn{server, client} {
					g.Add(c)
					if err := c.SendPrepared(p); err != errUnprepared {
						t.Errorf("SendPrepared: %v", err)
					}
				}
				if accepted, dropped := g.Send(p); accepted != 0 || dropped != 0 {
					t.Errorf("Group.Send: %d and %d", accepted, dropped)
				}
				good, err := NewPrepared(Text, []byte("hello"))
				if err != nil {
					t.Fatal(err)
				}
				if accepted, dropped := g.Send(good); accepted != 2 || dropped != 0 {
					t.Errorf("Group.Send of a good one: %d and %d", accepted, dropped)
				}
				for _, c := range []*Conn{server, client} {
					if _, got, err := c.Read(context.Background()); err != nil || string(got) != "hello" {
						t.Errorf("%q, %v", got, err)
					}
				}
			})
		})
	}
}

// A hook may send, also when it is told that the connection takes no more.
func TestDroppedSends(t *testing.T) {
	prepared, err := NewPrepared(Binary, make([]byte, 100))
	if err != nil {
		t.Fatal(err)
	}
	ways := map[string]func(c *Conn) error{
		"Send":         func(c *Conn) error { return c.Send(Binary, make([]byte, 100)) },
		"SendPrepared": func(c *Conn) error { return c.SendPrepared(prepared) },
		"Group.Send":   func(c *Conn) error { g := new(Group); g.Add(c); g.Send(prepared); return c.ended() },
		"Write":        func(c *Conn) error { return c.Write(context.Background(), Binary, make([]byte, 10)) },
	}
	for first, send := range ways {
		if first == "Write" {
			continue // which waits for room
		}
		for then, again := range ways {
			t.Run(first+", then "+then, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					told := 0
					var err, hooked error
					config := Config{WriteQueue: 64, Logger: slog.New(slog.DiscardHandler)}
					config.Trace = &Trace{Dropped: func(c *Conn, n int) {
						told += n
						hooked = again(c)
					}}
					server, client := Pipe(&PipeOptions{Server: config, Buffer: 1})
					defer server.CloseNow()
					defer client.CloseNow()
					start := time.Now()
					for range 9 { // the first are taken
						if err = send(server); err != nil {
							break
						}
					}
					var e *CloseError
					if !errors.As(err, &e) || e.Code != StatusPolicyViolation || hooked != err || told != 1 {
						t.Errorf("%v; in the hook %v; told of %d", err, hooked, told)
					}
					if d := time.Since(start); d != 0 {
						t.Errorf("it took %v", d)
					}
				})
			})
		}
	}
}
