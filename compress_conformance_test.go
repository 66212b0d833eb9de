package websocket_test

import (
	"bytes"
	"context"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/conformance"
)

// Where compression is agreed on, plain messages and all other frames go on as
// without: every row, in memory, whole and byte by byte, by every way to read.
func TestRowsWithDeflate(t *testing.T) {
	t.Parallel()
	for _, row := range conformance.WithDeflate() {
		for _, how := range readings {
			if how.name != readings[0].name && how.name != eventMode.name {
				continue
			}
			cuttings := row.Cuttings()
			cuttings = []conformance.Cutting{cuttings[0], cuttings[len(cuttings)-1]}
			synctest.Test(t, func(t *testing.T) {
				runs := make(chan *run, 1)
				b := inMemory(t, upgrader(row, how, runs))
				defer b.stop()
				for _, cut := range cuttings {
					cut.Name += ", by " + how.name
					if !playInMemory(t, b, row, cut, runs) {
						return
					}
				}
			})
			if row.ForServers() && (how.name != eventMode.name || row.ID == "B-08") {
				continue
			}
			synctest.Test(t, func(t *testing.T) {
				b := clientsInMemory(t, rowConfig(row))
				defer b.stop()
				for _, cut := range cuttings[:1] {
					cut.Name += ", by " + how.name
					if !b.play(row.Mirrored(), cut, how, time.Minute) {
						return
					}
				}
			})
		}
	}
}

// And where time passes by itself.
func TestRowsWithDeflateTCP(t *testing.T) { t.Parallel(); rowsWithDeflateOver(t, overTCP) }
func TestRowsWithDeflateTLS(t *testing.T) { t.Parallel(); rowsWithDeflateOver(t, overTLS) }

func rowsWithDeflateOver(t *testing.T, over func(testing.TB, http.Handler) *bench) {
	if testing.Short() {
		t.Skip("the rows are the same in memory")
	}
	seed := mathrand.Uint64()
	rng := mathrand.New(mathrand.NewPCG(seed, 0))
	for i, row := range conformance.WithDeflate() {
		runs := make(chan *run, 1)
		b := over(t, upgrader(row, []reading{readings[0], eventMode}[i%2], runs))
		for _, cut := range row.Drawn(rng, 1) {
			cut.Name += fmt.Sprintf(", seed %#x", seed)
			if !playInTime(b, row, cut, runs) {
				break
			}
		}
		b.stop()
	}
}

// F-01, F-02: where compression is agreed on, RSV1 is legal on the first frame of
// a message; everything else is as without.
func TestF01TwoBytesWithDeflate(t *testing.T) {
	second := []byte{0x00, 0x01, 0x7d, 0x7e, 0x7f, 0x80, 0x81, 0xfd, 0xfe, 0xff}
	if testing.Short() {
		second = []byte{0x00, 0x80, 0xfe}
	}
	legal := func(b0, b1 byte, inMessage bool) bool {
		op := b0 & 15
		switch {
		case b0&0x30 != 0, b1&0x80 == 0, op > 2 && op < 8, op > 10:
			return false
		case op >= 8:
			return b0&0xc0 == 0x80 && b1&0x7f <= 125
		case op == 0:
			return inMessage && b0&0x40 == 0
		}
		return !inMessage
	}
	for _, beginning := range []string{"", "01 81 z 61 ", "41 82 z f248 "} {
		synctest.Test(t, func(t *testing.T) {
			row := conformance.Row{ID: "F-01", Rule: "the header rule with permessage-deflate"}
			row.Options.Deflate = conformance.Takeover
			runs := make(chan *run, 1)
			b := inMemory(t, upgrader(row, readings[0], runs))
			defer b.stop()
			for b0 := range 256 {
				for _, b1 := range second {
					row.Trace = fmt.Sprintf("C> %s%02x%02x FAIL(1002)", beginning, b0, b1)
					if legal(byte(b0), b1, beginning != "") {
						row.Trace = strings.Replace(row.Trace, "FAIL(1002)", "nothing FIN DROP", 1)
					}
					if !playInMemory(t, b, row, conformance.Whole, runs) {
						return
					}
				}
			}
		})
	}
}

// an answer that is not one to the client's offers fails the connection;
// one that is says what both sides do.
func TestQ04DeflateAnswers(t *testing.T) {
	def := websocket.Compression{}
	alone := websocket.Compression{ServerNoContextTakeover: true, ClientNoContextTakeover: true}
	small := websocket.Compression{ServerWindowBits: 9, ClientWindowBits: 10}
	large := websocket.Compression{ServerWindowBits: 15, ClientWindowBits: 15}
	for _, tt := range []struct {
		c     websocket.Compression
		offer string
		good  []string
		bad   []string
	}{
		{def, "permessage-deflate; server_max_window_bits=12; client_max_window_bits, permessage-deflate; client_max_window_bits",
			[]string{"", "; server_max_window_bits=12", "; server_max_window_bits=8", "; server_max_window_bits=15", "; server_no_context_takeover",
				"; client_no_context_takeover", "; client_max_window_bits=8", "; client_max_window_bits=15", "; server_max_window_bits=9; client_max_window_bits=9",
				"; client_no_context_takeover; server_no_context_takeover", `; server_max_window_bits="11"`, " ;\tclient_max_window_bits = 9"},
			[]string{"; client_max_window_bits", "; server_max_window_bits", "; server_max_window_bits=7", "; server_max_window_bits=16", "; server_max_window_bits=08",
				"; client_max_window_bits=7", "; client_max_window_bits=16", "; client_max_window_bits=+9", "; client_max_window_bits=0", "; client_max_window_bits=x",
				"; server_no_context_takeover=1", "; client_no_context_takeover=true", "; foo", "; foo=1", "; server_no_context_takeover; server_no_context_takeover",
				"; client_max_window_bits=9; client_max_window_bits=9", "; server_max_window_bits=9; server_max_window_bits=10", ", permessage-deflate", ", foo",
				";", "; server_max_window_bits="}},
		{alone, "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits",
			[]string{"; server_no_context_takeover", "; server_no_context_takeover; client_no_context_takeover", "; server_no_context_takeover; server_max_window_bits=10"},
			[]string{"", "; client_no_context_takeover", "; server_max_window_bits=12", "; server_no_context_takeover=x"}},
		{small, "permessage-deflate; server_max_window_bits=9; client_max_window_bits=10",
			[]string{"; server_max_window_bits=9", "; server_max_window_bits=8", "; server_max_window_bits=9; client_max_window_bits=10",
				"; server_max_window_bits=9; client_max_window_bits=8", "; server_max_window_bits=9; client_no_context_takeover"},
			[]string{"", "; server_max_window_bits=10", "; server_max_window_bits=15", "; client_max_window_bits=10",
				"; server_max_window_bits=9; client_max_window_bits=11", "; server_max_window_bits=9; client_max_window_bits"}},
		{large, "permessage-deflate; server_max_window_bits=15; client_max_window_bits=15",
			[]string{"; server_max_window_bits=15", "; server_max_window_bits=8; client_max_window_bits=8"}, []string{"", "; client_max_window_bits=15"}},
	} {
		tt.c.Enable, tt.c.Threshold = true, -1
		synctest.Test(t, func(t *testing.T) {
			b := clientsInMemory(t, websocket.Config{Compression: tt.c})
			defer b.stop()
			dial := func(answer string) (p *conformance.Peer, c *websocket.Conn, err error) {
				done := make(chan *conformance.Peer)
				go func() {
					nc, err := b.accept()
					if err != nil {
						t.Error(err)
					}
					p := conformance.NewPeer(t, nc)
					p.Rule, p.Settle, p.Server, p.Offer = "Q-04", b.settle, true, answer
					if request := p.Accept(""); !strings.Contains(request, "\r\nSec-WebSocket-Extensions: "+tt.offer+"\r\n") {
						t.Errorf("%+v: the request is\n%s\nwant an offer of %s", tt.c, request, tt.offer)
					}
					done <- p
				}()
				c, _, err = websocket.Dial(context.Background(), b.url, b.options)
				return <-done, c, err
			}
			for _, answer := range tt.good {
				p, c, err := dial("permessage-deflate" + answer)
				if err != nil {
					t.Errorf("%+v, answered by %q: %v", tt.c, answer, err)
					continue
				}
				deflateAgreed(t, p, c, answer)
				p.Close()
				c.CloseNow()
				<-c.Context().Done()
			}
			for _, answer := range append(tt.bad, ", permessage-deflate"+tt.good[0], "; foo, permessage-deflate"+tt.good[0]) {
				p, c, err := dial("permessage-deflate" + answer)
				if err == nil {
					t.Errorf("%+v, answered by %q: no error", tt.c, answer)
					c.CloseNow()
				} else if !strings.Contains(err.Error(), "extension") && !strings.Contains(err.Error(), "xtensions") {
					t.Errorf("%+v, answered by %q: %v", tt.c, answer, err)
				}
				p.Close()
			}
			for _, answer := range []string{"foo", "permessage-deflatex", "Permessage-Deflate; server_max_window_bits=8", "x-webkit-deflate-frame"} {
				p, c, err := dial(answer)
				if err == nil {
					t.Errorf("%+v, answered by %q: no error", tt.c, answer)
					c.CloseNow()
				}
				p.Close()
			}
		})
	}
}

// deflateAgreed looks whether both directions are what was agreed on: what comes
// compressed is understood, what is sent is held against the window by the peer.
func deflateAgreed(t *testing.T, p *conformance.Peer, c *websocket.Conn, answer string) {
	t.Helper()
	p.Rule = "N-20: both directions do what the answer says: " + answer
	text := strings.Repeat("an answer ", 30)
	far := strings.Repeat(fmt.Sprintf("%x", mathrand.Perm(200)), 2)
	for range 3 {
		for _, s := range []string{text, far} {
			if err := c.Write(context.Background(), websocket.Text, []byte(s)); err != nil {
				t.Fatal(err)
			}
			f, ok := p.Next()
			if ok && (string(f.Payload) != s || !f.RSV1) {
				t.Errorf("%s: received %v, want it compressed", answer, f)
			}
		}
	}
	p.Write("c1 07 f248cdc9c90700")
	if typ, m, err := c.Read(context.Background()); err != nil || typ != websocket.Text || string(m) != "Hello" {
		t.Errorf("%s: %v %q %v", answer, typ, m, err)
	}
	p.Write("c1 05 f200110000")
	_, m, err := c.Read(context.Background())
	if alone := strings.Contains(answer, "server_no_context_takeover"); alone != (err != nil) || err == nil && string(m) != "Hello" {
		t.Errorf("%s: a reference to the message before: %q, %v", answer, m, err)
	}
}

// N-20, N-21: what was agreed on is what the answer says, and both directions do
// it, for every row with an agreement.
func TestN20AgreementIsKept(t *testing.T) {
	for server, rows := range hsRows() {
		synctest.Test(t, func(t *testing.T) {
			c := hsCompression(server)
			c.Threshold = -1
			runs := make(chan *run, 1)
			row := conformance.Row{}
			u := upgrader(row, readings[0], runs)
			u.Compression = c
			b := inMemory(t, u)
			defer b.stop()
			for _, row := range rows {
				if row.Want.Extension == "" || !strings.Contains(row.Add, "permessage-deflate") || strings.Contains(row.Add, "\n") {
					continue
				}
				p := b.peerUnopened(row.Name())
				p.Offer = strings.TrimPrefix(row.Add, "Sec-WebSocket-Extensions: ")
				p.Handshake()
				keepsTo(t, p, row.Want.Extension)
				p.Close()
				synctest.Wait()
				<-runs
			}
		})
	}
}

// keepsTo has a server's echo do what was agreed on.
func keepsTo(t *testing.T, p *conformance.Peer, agreed string) {
	t.Helper()
	if p.Failed() {
		return
	}
	text := strings.Repeat("an answer ", 30)
	rng := mathrand.New(mathrand.NewPCG(7692, 0))
	noise := make([]byte, 40<<10)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	far := bytes.Repeat(noise[:3<<p.Inflater.Bits/4], 4) // what is near the end of the window comes again
	send := func(s []byte) {
		p.WritePieces(masked(0x82, string(s)))
		if f, ok := p.Next(); ok && string(f.Payload) != string(s) {
			p.Errorf("received %v for %d bytes", f, len(s))
		}
	}
	for range 2 {
		send([]byte(text))
		send(far)
	}
	if p.Inflated < 2 {
		p.Errorf("only %d messages have come compressed", p.Inflated)
	}
	bits := p.Inflater.Bits
	if p.Inflater.Farthest > 1<<bits || p.Inflater.Farthest <= 1<<(bits-1) {
		p.Errorf("D-22: references go back %d bytes, the window is of %d", p.Inflater.Farthest, 1<<bits)
	}
	client := conformance.NewInflater(agreed, false)
	// A window full, and a message that refers to its first bytes.
	window := noise[:1<<client.Bits]
	p.WritePieces(masked(0xc2, string(conformance.Stored(window))))
	p.Next()
	p.Write(conformance.CopyOf(1 << client.Bits))
	if client.Takeover {
		f, ok := p.Next()
		if ok && string(f.Payload) != string(window[:3]) {
			p.Errorf("D-23: a reference to the start of the window: received %v", f)
		}
		if client.Bits == 15 { // no reference goes further
			p.WantOpen()
			return
		}
		p.Write(conformance.CopyOf(1<<client.Bits + 1))
	}
	p.WantFail(1007)
}
