package conformance

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket/internal/memconn"
)

// A naive server does what a Model says: it gathers all input, asks again
// after every read and sends what is new.
func naive(conn net.Conn, m Model, done chan<- Record) {
	defer conn.Close()
	var in []byte
	buf := make([]byte, 64<<10)
	sent, shaken := 0, false
	var rec Record
	for {
		n, err := conn.Read(buf)
		in = append(in, buf[:n]...)
		if !shaken {
			end := bytes.Index(in, []byte("\r\n\r\n"))
			if end < 0 {
				if err != nil {
					return
				}
				continue
			}
			shaken, in = true, in[end+4:]
			io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
		}
		v := m.Judge(in)
		conn.Write(v.Out[sent:])
		sent = len(v.Out)
		rec.Messages = v.Messages
		switch {
		case v.End == Open && err == nil:
			continue
		case v.End == Open:
			rec.Code, rec.Remote = 1006, true
		default:
			rec.Code, rec.Reason, rec.Remote = v.Code, v.Reason, v.End == Clean
		}
		break
	}
	conn.(interface{ CloseWrite() error }).CloseWrite()
	done <- rec
	io.Copy(io.Discard, conn)
}

// failures collects what a peer reports instead of failing a test.
type failures []string

func (f *failures) Helper() {}
func (f *failures) Errorf(format string, args ...any) {
	*f = append(*f, fmt.Sprintf(format, args...))
}

// playNaive plays the row against a naive server in the given way.
func playNaive(t *testing.T, row Row, m Model, cut Cutting) (found failures) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		client, server := memconn.Pair()
		done := make(chan Record, 1)
		go naive(server, m, done)
		p := NewPeer(&found, client)
		p.Settle = synctest.Wait
		p.Handshake()
		start := time.Now()
		row.Play(p, cut)
		if d := time.Since(start); d > time.Microsecond && !p.Failed() {
			p.Errorf("took %v", d)
		}
		p.Close()
		synctest.Wait()
		select {
		case rec := <-done:
			row.Check(p, rec)
		default:
			p.Errorf("the connection has not ended")
		}
	})
	return found
}

func echoRows() (rows []Row) {
	for _, row := range Rows() {
		if row.Handler == Echo && row.Options.Deflate == NoDeflate {
			rows = append(rows, row)
		}
	}
	return rows
}

// size is the number of bytes that the peer sends: naive has no speed.
func (r Row) size() (n int) {
	for _, b := range r.sends() {
		n += len(b)
	}
	return n
}

func (r Row) model() Model {
	m := Model{ReadLimit: 1 << 20, MaxFragments: r.Options.MaxFragments}
	if r.Options.ReadLimit != 0 {
		m.ReadLimit = uint64(max(r.Options.ReadLimit, 0))
	}
	return m
}

// The rows and the second reading of the rules agree.
func TestModel(t *testing.T) {
	for _, row := range echoRows() {
		cuttings := []Cutting{Whole}
		if row.size() <= 200 {
			cuttings = row.Cuttings()
		}
		for _, cut := range cuttings {
			if found := playNaive(t, row, row.model(), cut); len(found) > 0 {
				t.Errorf("%s, %s: %s", row, cut.Name, found)
				break
			}
		}
	}
}

// A server that breaks one rule is found by a row of that rule: the suite can
// fail, and for the right reason.
func TestSuiteCanFail(t *testing.T) {
	for _, rule := range ModelRules {
		rows, red := 0, 0
		for _, row := range echoRows() {
			if row.ID != rule || row.size() > 200 {
				continue
			}
			rows++
			m := row.model()
			m.Without = rule
			if len(playNaive(t, row, m, Bytewise)) > 0 {
				red++
			}
		}
		if red == 0 {
			t.Errorf("a server without %s passes all %d rows of %s", rule, rows, rule)
		}
	}
}

// What only the peer checks: frames that no server may send, in a
// conversation that would pass otherwise.
func TestPeerCanFail(t *testing.T) {
	const head = "HTTP/1.1 101 Switching Protocols\r\n\r\n"
	for _, test := range []struct {
		name  string
		sends string // in notation, after which the stream ends
		want  func(p *Peer)
		ok    bool
	}{
		{"a good frame", "81 02 6869", func(p *Peer) { p.Want("81 02 6869"); p.WantDrop() }, true},
		{"another payload", "81 02 6868", func(p *Peer) { p.Want("81 02 6869") }, false},
		{"another type", "82 02 6869", func(p *Peer) { p.Want("81 02 6869") }, false},
		{"fragments", "01 01 68 80 01 69", func(p *Peer) { p.Want("81 02 6869") }, false},
		{"one frame too few", "81 02 6869", func(p *Peer) { p.Want("81 02 6869 81 02 6869") }, false},
		{"F-09: a long form of a short length", "81 7e 0002 6869", func(p *Peer) { p.Next() }, false},
		{"F-09: 64 bits for 16", "82 7f 0000000000000080 rep(61,128)", func(p *Peer) { p.Next() }, false},
		{"F-15: RSV1", "c1 00", func(p *Peer) { p.Next() }, false},
		{"F-15: RSV2 on a Close", "a8 02 03e8", func(p *Peer) { p.WantClean("03e8") }, false},
		{"F-15: opcode 3", "83 00", func(p *Peer) { p.Next() }, false},
		{"M-06: a mask", "81 82 z 6869", func(p *Peer) { p.Next() }, false},
		{"a long Ping", "89 7e 007e rep(61,126)", func(p *Peer) { p.Next() }, false},
		{"a fragmented Pong", "0a 00", func(p *Peer) { p.Next() }, false},
		{"G-06: a continuation of nothing", "80 00", func(p *Peer) { p.Next() }, false},
		{"G-06: a message in a message", "01 00 81 00", func(p *Peer) { p.Next(); p.Next() }, false},
		{"G-06: fragments", "01 01 61 89 00 00 00 80 01 62", func(p *Peer) { p.Want("01 01 61 89 00 00 00 80 01 62"); p.WantDrop() }, true},
		{"a failure", "88 04 03ea 6869", func(p *Peer) { p.WantFail(1002) }, true},
		{"another code", "88 02 03eb", func(p *Peer) { p.WantFail(1002) }, false},
		{"no code", "88 00", func(p *Peer) { p.WantFail(1002) }, false},
		{"a reason that is not UTF-8", "88 03 03ea ff", func(p *Peer) { p.WantFail(1002) }, false},
		{"K-08: two Close frames", "88 02 03ea 88 02 03ea", func(p *Peer) { p.WantFail(1002) }, false},
		{"K-12: a Pong after the Close", "88 02 03ea 8a 00", func(p *Peer) { p.WantFail(1002) }, false},
		{"a Pong before the Close", "8a 00 88 02 03ea", func(p *Peer) { p.WantFail(1002) }, false},
		{"half a frame after the Close", "88 02 03ea 81", func(p *Peer) { p.WantFail(1002) }, false},
		{"a clean end", "88 02 03e8", func(p *Peer) { p.WantClean("03e8") }, true},
		{"a reason in the answer", "88 05 03e8 627965", func(p *Peer) { p.WantClean("03e8") }, false},
		{"a Close where none may be", "88 02 03ee", func(p *Peer) { p.WantDrop() }, false},
		{"nothing, but the end", "", func(p *Peer) { p.WantNothing() }, false},
		{"something", "8a 00", func(p *Peer) { p.WantNothing() }, false},
		{"an end that is none", "", func(p *Peer) { p.WantOpen() }, false},
	} {
		for _, reset := range []bool{false, true} {
			var found failures
			synctest.Test(t, func(t *testing.T) {
				client, server := memconn.Pair()
				p := NewPeer(&found, client)
				p.Settle = synctest.Wait
				server.Write([]byte(head))
				p.Handshake()
				server.Write(mustBytes(test.sends))
				if reset {
					server.Reset()
				} else {
					server.CloseWrite()
				}
				test.want(p)
				p.Close()
				server.Close()
			})
			if ok := test.ok && !reset; ok != (len(found) == 0) {
				t.Errorf("%s, reset %v: reported %q", test.name, reset, found)
			}
		}
	}
}
