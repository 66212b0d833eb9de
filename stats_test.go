package websocket_test

import (
	"context"
	"encoding/json"
	"errors"
	"expvar"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/memconn"
)

// A meter counts what a raw peer writes and reads.
type meter struct {
	net.Conn
	written, read atomic.Int64
}

func (m *meter) Write(p []byte) (int, error) {
	n, err := m.Conn.Write(p)
	m.written.Add(int64(n))
	return n, err
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.Conn.Read(p)
	m.read.Add(int64(n))
	return n, err
}

func (m *meter) CloseWrite() error { return m.Conn.(*memconn.Conn).CloseWrite() }

// metered has the connections of l counted, from their 101 on.
func (l *lab) metered() *[]*meter {
	all, dial := new([]*meter), l.dial
	l.dial = func() (net.Conn, error) {
		c, err := dial()
		m := &meter{Conn: c}
		*all = append(*all, m)
		return m, err
	}
	return all
}

// Bytes are those of the wire, messages are whole ones, of each kind of
// traffic, in blocking and in event mode, and after the end.
func TestStatsOfTraffic(t *testing.T) {
	for _, how := range readings {
		t.Run(how.name, func(t *testing.T) {
			u := new(websocket.Upgrader)
			inSight(t, u, func(t *testing.T, l *lab) {
				meters := l.metered()
				p, c := l.open("what is counted is what the peer counts")
				m := (*meters)[0]
				written0, read0 := m.written.Load(), m.read.Load()
				end := async(func() error {
					return how.all(c, func(websocket.MessageType, []byte) error { return nil })
				})
				in, out := uint64(0), uint64(0)
				want := func(what string) {
					t.Helper()
					synctest.Wait()
					s := u.Stats()
					wire := websocket.Traffic{Messages: in, Bytes: uint64(m.written.Load() - written0)}
					if s.Received != wire {
						t.Errorf("%s: received %+v, the peer has sent %+v", what, s.Received, wire)
					}
					wire = websocket.Traffic{Messages: out, Bytes: uint64(m.read.Load() - read0)}
					if s.Sent != wire {
						t.Errorf("%s: sent %+v, the peer has got %+v", what, s.Sent, wire)
					}
				}
				want("nothing")
				for _, step := range []struct {
					bytes, answer string
					messages      uint64
				}{
					{"81 82 z 6869", "", 1},
					{"82 80 z 81 80 z 82 81 z 61", "", 3},
					{"82 fe 0100 z rep(61,256)", "", 1},
					{"82 ff 0000000000020000 z rep(61,131072)", "", 1},
					{"01 81 z 61 00 80 z", "", 0},
					{"89 82 z 6869", "8a 02 6869", 0},
					{"80 81 z 62", "", 1},
					{"8a 80 z", "", 0},
					{"82 82 z", "", 0},
					{"6869", "", 1},
					{"82 81 z 61 82 82 z 61", "", 1},
					{"62", "", 1},
				} {
					p.Write(step.bytes)
					p.Want(step.answer)
					in += step.messages
					want("receiving " + step.bytes)
				}
				ctx := context.Background()
				check := func(err error) {
					t.Helper()
					if err != nil {
						t.Error(err)
					}
				}
				for _, n := range []int{0, 1, 125, 126, 1 << 10, 70_000, 300_000} {
					data := make([]byte, n)
					wrote := async(func() error { return c.Write(ctx, websocket.Binary, data) })
					p.WantBytes(binaryFrame(string(data)))
					check(<-wrote)
					out++
					want(fmt.Sprintf("Write of %d bytes", n))
					if n <= 256<<10 {
						check(c.Send(websocket.Binary, data))
						p.WantBytes(binaryFrame(string(data)))
						out++
						want("Send")
						check(c.SendPrepared(prepared(data)))
						p.WantBytes(binaryFrame(string(data)))
						out++
						want("SendPrepared")
						var g websocket.Group
						g.Add(c)
						g.Send(prepared(data))
						p.WantBytes(binaryFrame(string(data)))
						out++
						want("Group")
					}
				}
				for range 3 {
					check(c.Send(websocket.Binary, []byte("together")))
					out++
				}
				for range 3 {
					p.WantBytes(binaryFrame("together"))
				}
				want("three that share a call")
				w, err := c.Writer(ctx, websocket.Text)
				check(err)
				_, err = w.Write([]byte(strings.Repeat("a", 20<<10)))
				check(err)
				check(w.Close())
				synctest.Wait()
				for f, ok := p.Next(); ok && !f.Fin; f, ok = p.Next() {
				}
				out++
				want("Writer")
				if how.name != "Start" {
					pinging := ping(ctx, c)
					f, _ := p.Next()
					p.WritePieces(masked(0x8a, string(f.Payload)))
					check((<-pinging).err)
					want("Ping")
				}
				if s := u.Stats(); s.Open != 1 || s.Upgraded != 1 || len(s.Closed) != 0 || len(s.Refused) != 0 || s.Dropped != 0 || s.PingsLost != 0 {
					t.Errorf("%+v", s)
				}
				// The Close frames count, and what comes behind ours.
				c.Close(4321, "bye")
				p.Want("88 05 10e1 627965")
				p.Write("81 82 z 6869 89 80 z 88 82 z 03e8")
				p.WantEOF()
				p.Close()
				done(t, "the loop", end)
				want("the end")
				if s := u.Stats(); s.Open != 0 || s.Upgraded != 1 || !maps.Equal(s.Closed, map[websocket.StatusCode]websocket.Closed{3000: {Local: 1}}) {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

// What had been read behind the request counts.
func TestStatsOfEarlyBytes(t *testing.T) {
	u := new(websocket.Upgrader)
	u.Logger = slog.New(slog.DiscardHandler)
	peer, server := memconn.Pair()
	w := newHSWriter(server)
	go peer.Write(masked(0x81, "early"))
	if _, err := w.buffer.Peek(11); err != nil {
		t.Fatal(err)
	}
	c, err := u.Upgrade(w, hsRequest())
	if err != nil {
		t.Fatal(err)
	}
	if s := u.Stats(); s.Received != (websocket.Traffic{Bytes: 11}) {
		t.Errorf("received %+v", s.Received)
	}
	if m := readOne(context.Background(), c); m.data != "early" {
		t.Error(m)
	}
	c.CloseNow()
	peer.Close()
	<-c.Context().Done()
	if settled(func() string { return strings.Repeat("x", u.Stats().Open) }) != "" {
		t.Error("it is not over")
	}
	if s := u.Stats(); s.Received != (websocket.Traffic{Bytes: 11, Messages: 1}) {
		t.Errorf("received %+v", s.Received)
	}
}

// Connections are counted by code and by who ended them, those of applications
// as one.
func TestStatsOfEnds(t *testing.T) {
	u := &websocket.Upgrader{Config: websocket.Config{MessageTimeout: time.Second, ControlRate: 5}}
	inSight(t, u, func(t *testing.T, l *lab) {
		want := map[websocket.StatusCode]websocket.Closed{}
		upgraded := uint64(0)
		run := func(name string, code websocket.StatusCode, remote bool, f func(c *websocket.Conn, write func(string))) {
			t.Helper()
			p, c := l.open(name)
			upgraded++
			end := readingOn(c)
			synctest.Wait()
			if s := u.Stats(); s.Open != 1 || s.Upgraded != upgraded {
				t.Errorf("%s: %d open of %d", name, s.Open, s.Upgraded)
			}
			f(c, p.Write)
			p.Rest()
			p.Close()
			wantClosed(t, <-end, code, remote)
			n := want[min(code, 3000)]
			if remote {
				n.Remote++
			} else {
				n.Local++
			}
			want[min(code, 3000)] = n
			synctest.Wait()
			if s := u.Stats(); s.Open != 0 || s.Upgraded != upgraded || !maps.Equal(s.Closed, want) {
				t.Errorf("%s: %d open of %d, closed %v; want %v of %d", name, s.Open, s.Upgraded, s.Closed, want, upgraded)
			}
		}
		for _, code := range []websocket.StatusCode{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 1013, 1014, 3000, 3001, 3999, 4000, 4999} {
			for range 2 {
				run("own", code, false, func(c *websocket.Conn, write func(string)) {
					c.Close(code, "")
					write("88 80 z")
				})
			}
			run("peer's", code, true, func(_ *websocket.Conn, write func(string)) { write(fmt.Sprintf("88 82 z %04x", uint16(code))) })
		}
		run("peer's 1010", 1010, true, func(_ *websocket.Conn, write func(string)) { write("88 82 z 03f2") })
		run("peer's without a code", 1005, true, func(_ *websocket.Conn, write func(string)) { write("88 80 z") })
		run("violation", 1002, false, func(_ *websocket.Conn, write func(string)) { write("ff") })
		run("rate", 1008, false, func(_ *websocket.Conn, write func(string)) { write(strings.Repeat("8a 80 z ", 6)) })
		run("late", 1008, false, func(_ *websocket.Conn, write func(string)) { write("81") })
		run("CloseNow", 1006, false, func(c *websocket.Conn, _ func(string)) { c.CloseNow() })
		run("loss", 1006, true, func(c *websocket.Conn, _ func(string)) { l.peers[len(l.peers)-1].Fin() })
		if s := u.Stats(); s.PingsLost != 0 {
			t.Errorf("%d pings are lost", s.PingsLost)
		}
		l.peers, l.given = nil, nil
	})
}

// The sums do not belong to the Upgrader any more.
func TestStatsIsACopy(t *testing.T) {
	u := new(websocket.Upgrader)
	inSight(t, u, func(t *testing.T, l *lab) {
		p, c := l.open("one")
		c.CloseNow()
		p.Close()
		u.ServeHTTP(newHSWriter(nil), spoiled(func(r *http.Request) { r.Method = "PUT" }))
		synctest.Wait()
		s := u.Stats()
		s.Closed[1006], s.Refused[405] = websocket.Closed{}, 100
		if s := u.Stats(); s.Closed[1006].Local != 1 || s.Refused[405] != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// Refusals are counted by status, whoever decides them, and each once.
func TestStatsOfRefusals(t *testing.T) {
	var open error
	u := &websocket.Upgrader{MaxConns: 1}
	u.Open = func(*http.Request, http.Header) (func(*websocket.Conn) error, error) {
		return func(c *websocket.Conn) error { return <-readingOn(c) }, open
	}
	inSight(t, u, func(t *testing.T, l *lab) {
		want := map[int]uint64{}
		refuse := func(status int, r *http.Request) {
			t.Helper()
			_, server := memconn.Pair()
			w := newHSWriter(server)
			u.ServeHTTP(w, r)
			want[status]++
			if s := u.Stats(); w.Code != status || !maps.Equal(s.Refused, want) {
				t.Errorf("answered %d, refused %v; want %v", w.Code, s.Refused, want)
			}
		}
		for range 2 {
			for status, spoil := range map[int]func(r *http.Request){
				405: func(r *http.Request) { r.Method = "POST" },
				426: func(r *http.Request) { r.Header.Set("Sec-WebSocket-Version", "8") },
				400: func(r *http.Request) { r.Header.Del("Sec-WebSocket-Key") },
				403: func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") },
			} {
				refuse(status, spoiled(spoil))
			}
			for err, status := range map[error]int{
				&websocket.HandshakeError{Status: 401}:                            401,
				&websocket.HandshakeError{Status: 302}:                            302,
				&websocket.HandshakeError{Status: 599}:                            599,
				&websocket.HandshakeError{Status: 600}:                            500,
				errors.New("broken"):                                              500,
				fmt.Errorf("wrapped: %w", &websocket.HandshakeError{Status: 429}): 429,
			} {
				open = err
				refuse(status, hsRequest())
			}
		}
		open = nil
		if s := u.Stats(); s.Upgraded != 0 || s.Open != 0 || len(s.Closed) != 0 {
			t.Errorf("%+v", s)
		}
		p := l.peer("the only one")
		refuse(503, hsRequest())
		p.Close()
		synctest.Wait()
		// A ResponseWriter without Hijack.
		w := &recorder{}
		u.ServeHTTP(w, hsRequest())
		want[500]++
		u.Shutdown(context.Background())
		refuse(503, hsRequest())
		if s := u.Stats(); s.Upgraded != 1 || s.Open != 0 || s.Closed[1006].Remote != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func spoiled(spoil func(r *http.Request)) *http.Request {
	r := hsRequest()
	spoil(r)
	return r
}

type recorder struct{ header http.Header }

func (w *recorder) Header() http.Header {
	if w.header == nil {
		w.header = make(http.Header)
	}
	return w.header
}
func (w *recorder) Write(p []byte) (int, error) { return len(p), nil }
func (w *recorder) WriteHeader(int)             {}

// Dropped messages are counted in each mode, and the most that was queued.
func TestStatsOfDrops(t *testing.T) {
	for overflow, want := range map[websocket.Overflow]struct{ sent, dropped uint64 }{
		websocket.Disconnect: {0, 1}, websocket.DropNewest: {10, 5}, websocket.DropOldest: {10, 5},
	} {
		for _, group := range []bool{false, true} {
			var dropped, sent, accepted int
			u := &websocket.Upgrader{Config: websocket.Config{WriteQueue: 1000, Overflow: overflow, Trace: &websocket.Trace{
				Dropped: func(_ *websocket.Conn, n int) { dropped += n },
				Sent:    func(*websocket.Conn, websocket.MessageType, int64) { sent++ },
			}}}
			inSight(t, u, func(t *testing.T, l *lab) {
				p, c, server := l.stalled("a peer that takes nothing")
				var g websocket.Group
				g.Add(c)
				for i := range 15 {
					data := sized(fmt.Sprint(i), 98)
					if group {
						n, _ := g.Send(prepared(data))
						accepted += n
					} else if c.Send(websocket.Binary, data) == nil {
						accepted++
					}
				}
				synctest.Wait()
				s := u.Stats()
				if s.Dropped != want.dropped || dropped != int(want.dropped) {
					t.Errorf("%v: %d dropped, the hook says %d, want %d", overflow, s.Dropped, dropped, want.dropped)
				}
				if s.QueuedMax < 900 || s.QueuedMax > 1100 { // a frame may be in a call
					t.Errorf("%v: at most %d bytes were queued", overflow, s.QueuedMax)
				}
				if sent != accepted {
					t.Errorf("%v: Sent was called %d times, want %d", overflow, sent, accepted)
				}
				// How many give way to newer ones depends on what has been
				// taken for a call already.
				if accepted < 10 || accepted > 10 && overflow != websocket.DropOldest {
					t.Errorf("%v: %d were accepted, want 10", overflow, accepted)
				}
				server.StallWriteAfter(-1)
				synctest.Wait()
				if s := u.Stats(); overflow != websocket.Disconnect && s.Sent.Messages != want.sent {
					t.Errorf("%v: %d messages have left, want %d", overflow, s.Sent.Messages, want.sent)
				}
				high := u.Stats().QueuedMax
				p.Close()
				c.CloseNow()
				synctest.Wait()
				if s := u.Stats(); s.QueuedMax != high || s.Dropped != want.dropped {
					t.Errorf("%v: %+v after the end", overflow, s)
				}
			})
		}
	}
}

// A peer that answers no ping is counted once, also where the Close frame that
// is tried takes no time.
func TestStatsOfLostPings(t *testing.T) {
	u := &websocket.Upgrader{Config: websocket.Config{PingInterval: time.Second, PingTimeout: time.Second}}
	inSight(t, u, func(t *testing.T, l *lab) {
		p, c := l.open("silent")
		end := readingOn(c)
		wantPing(t, p)
		time.Sleep(2 * time.Second)
		wantTimeout(t, done(t, "Read", end))
		if s := u.Stats(); s.PingsLost != 1 || s.Closed[1006].Remote != 1 || s.Open != 0 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("TCP", func(t *testing.T) {
		var end atomic.Pointer[websocket.Closing]
		over := make(chan bool)
		u := &websocket.Upgrader{Handler: func(c *websocket.Conn) error { return <-readingOn(c) }}
		u.Config = websocket.Config{PingInterval: 50 * time.Millisecond, PingTimeout: 50 * time.Millisecond, Trace: &websocket.Trace{
			Closed: func(_ *websocket.Conn, e websocket.Closing) { end.Store(&e); close(over) },
		}}
		b := overTCP(t, u)
		defer b.stop()
		p := b.peer("silent over TCP")
		defer p.Close()
		frames, err := p.Rest()
		bytes := uint64(0)
		for _, f := range frames {
			bytes += uint64(2 + len(f.Payload))
		}
		<-over
		if e := end.Load(); e.Sent.Bytes != bytes || e.Clean || e.PeerCode != 0 || e.Err.Code != 1006 || !e.Err.Timeout() {
			t.Errorf("%+v; the peer has got %d bytes, %v, and %v", e, bytes, frames, err)
		}
	})
}

// What had been taken of a write that the end cuts counts.
func TestStatsOfACutWrite(t *testing.T) {
	var end websocket.Closing
	u := &websocket.Upgrader{Config: websocket.Config{Trace: &websocket.Trace{
		Closed: func(_ *websocket.Conn, e websocket.Closing) { end = e },
	}}}
	inSight(t, u, func(t *testing.T, l *lab) {
		_, c, server := l.openServer("a Write is cut")
		server.StallWriteAfter(5000)
		wrote := async(func() error { return c.Write(context.Background(), websocket.Binary, make([]byte, 100_000)) })
		wantPending(t, "Write", wrote)
		c.CloseNow()
		done(t, "Write", wrote)
		if s := u.Stats(); s.Sent != end.Sent || s.Sent.Messages != 0 || s.Sent.Bytes == 0 {
			t.Errorf("%+v in all, %+v of the only one", s.Sent, end.Sent)
		}
	})
}

// Stats are for expvar: every number has its name.
func TestStatsAsJSON(t *testing.T) {
	u := new(websocket.Upgrader)
	inSight(t, u, func(t *testing.T, l *lab) {
		p, c := l.open("one")
		p.Write("81 82 z 6869")
		wantMessage(t, c, websocket.Text, "hi")
		c.Close(4000, "")
		p.Write("88 82 z 03e8")
		p.Want("88 02 0fa0")
		p.WantEOF()
		p.Close()
		u.ServeHTTP(newHSWriter(nil), spoiled(func(r *http.Request) { r.Method = "PUT" }))
		synctest.Wait()
		var v expvar.Var = expvar.Func(func() any { return u.Stats() })
		const want = `{"Open":0,"Upgraded":1,"Refused":{"405":1},"Received":{"Messages":1,"Bytes":16},"Sent":{"Messages":0,"Bytes":4},` +
			`"Dropped":0,"QueuedMax":4,"PingsLost":0,"Closed":{"3000":{"Local":1,"Remote":0}}}`
		if got := v.String(); got != want {
			t.Errorf("%s, want\n%s", got, want)
		}
		var back websocket.Stats
		if err := json.NewDecoder(strings.NewReader(v.String())).Decode(&back); err != nil || back.Closed[3000].Local != 1 || back.Refused[405] != 1 {
			t.Errorf("%+v, %v", back, err)
		}
	})
}
