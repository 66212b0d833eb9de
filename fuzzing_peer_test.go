package websocket_test

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/conformance"
)

var peerFull = flag.Bool("peer.full", false, "TestFuzzingPeer sends 1000 messages where a case says so; that takes half an hour")

// The cases of CONTRACT.md, section 19, by their numbers: what the classical
// fuzzing peer sends to an echo, played on sockets to a server of this package
// and, with the mask the other way round, to a client of it, whichever way their
// application reads. Where the suite lets an implementation choose, or only takes
// notes, the case wants what the rest of the contract says.
//
//	go test -run TestFuzzingPeer -v .            a line for each case
//	go test -run 'TestFuzzingPeer/server/Read/9.3.4' .
//	go test -run TestFuzzingPeer -peer.full -timeout 2h .
func TestFuzzingPeer(t *testing.T) {
	t.Parallel()
	cases := peerCases()
	countCases(t, cases)
	buffers := newWireBuffers(scaleOf(false).level)
	turn := 0
	for _, role := range []string{"server", "client"} {
		t.Run(role, func(t *testing.T) {
			for _, how := range []reading{readings[0], eventMode} {
				t.Run(how.name, func(t *testing.T) { playCases(t, cases, role == "client", how, turn, buffers) })
				turn++
			}
		})
	}
}

// A peerCase is a trace, or something bulky.
type peerCase struct {
	id     string
	trace  string // in which nothing stands for a pause, and then it is played in a bubble
	reason string // of the peer's Close
	bulk   *bulk
}

// countCases compares the numbers of cases with section 19, line by line and in all.
func countCases(t *testing.T, cases []peerCase) {
	file, err := os.ReadFile("internal/conformance/CONTRACT.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(file), "\n## 19. ")
	lines := regexp.MustCompile(`(?m)^\| (\d[^|]*) \| (\d+) \|`).FindAllStringSubmatch(section, -1)
	all := regexp.MustCompile(`(\d+) cases in all`).FindStringSubmatch(section)
	if len(lines) == 0 || all == nil {
		t.Fatal("CONTRACT.md has no table of groups in section 19")
	}
	seen := map[string]int{} // the lines that a case belongs to
	for _, line := range lines {
		n := 0
		for _, c := range cases {
			if inGroup(line[1], c.id) {
				n++
				seen[c.id]++
			}
		}
		if strconv.Itoa(n) != line[2] {
			t.Errorf("group %s has %d cases, section 19 has %s", line[1], n, line[2])
		}
	}
	chapters := make([]int, 14)
	for _, c := range cases {
		if seen[c.id] != 1 {
			t.Errorf("case %s is in %d groups, or there are so many of it", c.id, seen[c.id])
		}
		chapter, _, _ := strings.Cut(c.id, ".")
		n, _ := strconv.Atoi(chapter)
		chapters[n]++
	}
	for n, cases := range chapters {
		if cases > 0 {
			t.Logf("group %d: %d cases", n, cases)
		}
	}
	t.Logf("%d cases in all", len(cases))
	if strconv.Itoa(len(cases)) != all[1] {
		t.Errorf("%d cases, section 19 has %s", len(cases), all[1])
	}
}

// inGroup says whether a case has one of the numbers that a line of the table is
// for: 7.7.1–13, or 6.8, 6.10 with all that begins so.
func inGroup(label, id string) bool {
	for span := range strings.SplitSeq(label, ", ") {
		from, to, ok := strings.Cut(span, "–")
		if !ok {
			to = from
		}
		dot := strings.LastIndex(from, ".")
		rest, ok := strings.CutPrefix(id, from[:dot+1])
		number, _, _ := strings.Cut(rest, ".")
		n, _ := strconv.Atoi(number)
		least, _ := strconv.Atoi(from[dot+1:])
		most, _ := strconv.Atoi(to[strings.LastIndex(to, ".")+1:])
		if ok && least <= n && n <= most {
			return true
		}
	}
	return false
}

// A peerPlay plays cases in one role, to one way of reading.
type peerPlay struct {
	client bool
	how    reading
	config websocket.Config

	// One of each is used: a server for traces and one for what is bulky, or
	// their clients.
	runs    chan *run
	servers [2]*bench
	clients [2]*mirrorBench
	ended   chan error // of the application of what is bulky
	buffers *wireBuffers
}

func playCases(t *testing.T, cases []peerCase, client bool, how reading, turn int, buffers *wireBuffers) {
	p := &peerPlay{client: client, how: how, runs: make(chan *run, 1), ended: make(chan error, 1), buffers: buffers}
	p.config = websocket.Config{
		ReadLimit: 16 << 20, MaxFragments: -1, CloseTimeout: time.Hour, Logger: slog.New(slog.DiscardHandler),
		Compression: websocket.Compression{Enable: true, Threshold: -1},
	}
	if how.name == eventMode.name {
		// This is the window of compress/flate: in a smaller one its context does
		// not go through messages of all sizes.
		p.config.Compression.ClientWindowBits = 15
	}
	if client {
		p.clients = [2]*mirrorBench{clientsOnLoopback(t, rowConfig(p.row(peerCase{})), false), clientsOnLoopback(t, p.config, false)}
		defer p.clients[0].stop()
		defer p.clients[1].stop()
	} else {
		p.servers = [2]*bench{
			overTCP(t, upgrader(p.row(peerCase{}), how, p.runs)),
			overTCP(t, &websocket.Upgrader{Config: p.config, Handler: func(c *websocket.Conn) error {
				err := echoOn(c, how)
				p.ended <- err
				return err
			}}),
		}
		defer p.servers[0].stop()
		defer p.servers[1].stop()
	}
	if client {
		p.clients[0].accept = unheard(p.clients[0].accept)
	} else {
		p.servers[0].dial = unheard(p.servers[0].dial)
	}
	scale := scaleOf(client)
	for i, c := range cases {
		if c.bulk != nil && scale.once && i%4 != turn {
			continue
		}
		t.Run(c.id, func(t *testing.T) {
			switch row := p.row(c); {
			case c.bulk != nil:
				p.playBulk(t, c.bulk, scale)
			case strings.Contains(c.trace, "nothing"):
				p.playPaused(t, row)
			case client:
				p.clients[0].t = t
				p.clients[0].play(row.Mirrored(), conformance.Whole, how, 20*time.Second)
			default:
				p.servers[0].t = t
				playInTime(p.servers[0], row, conformance.Whole, p.runs)
			}
		})
	}
}

func (p *peerPlay) row(c peerCase) conformance.Row {
	return conformance.Row{ID: c.id, Rule: "CONTRACT.md, section 19", Trace: c.trace, Reason: c.reason,
		Options: conformance.Options{ReadLimit: 16 << 20, MaxFragments: -1}}
}

// playPaused plays a trace in a bubble, where each "nothing" of it takes a second,
// and nothing else takes any time: what is sent after a pause is not what answers
// to what was sent before it.
func (p *peerPlay) playPaused(t *testing.T, row conformance.Row) {
	synctest.Test(t, func(t *testing.T) {
		runs := make(chan *run, 1)
		var peer *conformance.Peer
		if p.client {
			row = row.Mirrored()
			b := clientsInMemory(t, rowConfig(row))
			defer b.stop()
			var c *websocket.Conn
			peer, c = b.open(row.ID, "")
			defer c.CloseNow()
			go application(row, p.how, runs)(c)
		} else {
			b := inMemory(t, upgrader(row, p.how, runs))
			defer b.stop()
			peer = b.peerFor(row)
		}
		pauses := strings.Count(row.Trace, "nothing")
		left := pauses
		peer.Settle = func() {
			synctest.Wait()
			if left > 0 {
				left--
				time.Sleep(time.Second)
				synctest.Wait()
			}
		}
		start := time.Now()
		row.Play(peer, conformance.Whole)
		if d := time.Since(start) - time.Duration(pauses)*time.Second; d < 0 || d > time.Microsecond {
			peer.Errorf("%d pauses and the answers took %v more than the pauses", pauses, d)
		}
		peer.Close()
		synctest.Wait()
		select {
		case r := <-runs:
			row.Check(peer, r.record(peer, closedTimer()))
		default:
			peer.Errorf("L-14: the application has not returned")
		}
	})
}

// playBulk plays what no trace would show.
func (p *peerPlay) playBulk(t *testing.T, c *bulk, scale peerScale) {
	w := &wire{server: p.client, wireBuffers: p.buffers}
	agreed, err := p.open(t, w, c)
	if err == nil && c.wishes != nil {
		err = w.agree(agreed, c.wishes[0])
	} else if err == nil && agreed != "" {
		err = fmt.Errorf("compression was not offered and the answer is %q", agreed)
	}
	if err == nil {
		err = c.play(w, scale)
	}
	if err == nil {
		err = w.close()
	}
	if err != nil {
		t.Error(err)
	}
	w.conn.Close()
	select {
	case end := <-p.ended:
		var closed *websocket.CloseError
		if err == nil && (!errors.As(end, &closed) || closed.Code != websocket.StatusNormalClosure || !closed.Remote) {
			t.Errorf("the application is told %v, want the peer's 1000", end)
		}
	case <-time.After(peerPatience):
		t.Fatal("L-14: the application has not returned")
	}
}

// open connects w to an echo and says what was agreed on.
func (p *peerPlay) open(t *testing.T, w *wire, c *bulk) (agreed string, err error) {
	if !p.client {
		conn, err := p.servers[1].dial()
		if err != nil {
			t.Fatal(err)
		}
		w.over(conn)
		return w.upgrade(c.offer())
	}
	var lines []string
	if c.wishes != nil {
		agreed = c.wishes[0].field("client")
		lines = append(lines, "Sec-WebSocket-Extensions: "+agreed)
	}
	p.clients[1].t = t
	peer, dialed := p.clients[1].open(t.Name(), "", lines...)
	w.over(peer.Conn())
	go func() {
		end := echoOn(dialed, p.how)
		dialed.CloseNow()
		p.ended <- end
	}()
	return agreed, nil
}

func echoOn(c *websocket.Conn, how reading) error {
	return how.all(c, func(typ websocket.MessageType, data []byte) error {
		return c.Write(c.Context(), typ, data)
	})
}
