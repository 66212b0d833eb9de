package websocket_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/conformance"
	"github.com/sockeye-ws/websocket/internal/memconn"
)

// hsPatience bounds every conversation of these tests; none comes near it.
const hsPatience = time.Minute

// TestHandshakeRows plays every row in memory and in one piece.
func TestHandshakeRows(t *testing.T) {
	for _, entry := range hsEntries {
		t.Run(entry.name, func(t *testing.T) {
			t.Parallel()
			for server, rows := range hsRows() {
				served := hsServeRows(t, server, entry)
				for _, row := range rows {
					t.Run(row.Name(), func(t *testing.T) { served.play(t, row, nil, nil) })
				}
			}
		})
	}
}

// hsEvery is the distance of the cuts in TestHandshakeCut. The race detector
// makes each take ten times as long, and sees nothing new in most.
func hsEvery() int {
	info, ok := debug.ReadBuildInfo()
	if testing.Short() || ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		return 16
	}
	return 1
}

// hsCuts returns the single cuts of the n-th row: at every byte from the first
// in which it is not BASE, and at an eighth of those before, at others in the
// next row. BASE itself, with or without something behind it, is cut at all.
func hsCuts(row conformance.HandshakeRow, n, every int) (cuts []int) {
	request, base := row.Request(), hsBase.Request()
	same := 0
	for same < min(len(request), len(base)) && request[same] == base[same] {
		same++
	}
	if same == len(base) {
		same = 0
	}
	for at := 1; at < len(request); at++ {
		if step := max(every, 8); at >= same && (at+n)%every == 0 || (at+n)%step == 0 {
			cuts = append(cuts, at)
		}
	}
	return cuts
}

// TestHandshakeCut plays every row byte by byte and with single cuts, with the
// server at rest at each cut.
func TestHandshakeCut(t *testing.T) {
	every := hsEvery()
	for server, rows := range hsRows() {
		const most = 40 // rows in a bubble, so that the largest set does not come last and alone
		for rows := range slices.Chunk(rows, most) {
			t.Run(server.Name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					served := hsServeRows(t, server, hsServeHTTP)
					for n, row := range rows {
						all := make([]int, len(row.Request())-1)
						for i := range all {
							all[i] = i + 1
						}
						ok := served.play(t, row, all, synctest.Wait)
						for _, cut := range hsCuts(row, n, every) {
							ok = ok && served.play(t, row, []int{cut}, synctest.Wait)
						}
					}
				})
			})
		}
	}
}

// TestHandshakeLoopback plays every row on TCP and on TLS (S-05), in one
// piece and in seventeen.
func TestHandshakeLoopback(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(map[bool]string{false: "TCP", true: "TLS"}[secure], func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(13, 6455))
			for server, rows := range hsRows() {
				served := hsServeRows(t, server, hsServeHTTP)
				served.listen(t, secure)
				for _, row := range rows {
					cuts := make([]int, 16)
					for i := range cuts {
						cuts[i] = 1 + rng.IntN(len(row.Request())-1)
					}
					slices.Sort(cuts)
					_ = served.play(t, row, nil, nil) && served.play(t, row, slices.Compact(cuts), nil)
				}
			}
		})
	}
}

// TestHandshakeOrder is the head of section 1: of two rules that a request
// breaks, the one that stands first gives the answer.
func TestHandshakeOrder(t *testing.T) {
	rows := conformance.HandshakeViolations()
	served := hsServeRows(t, rows[0].Server, hsServeHTTP)
	// What tells the answers apart; the rest depends on HTTP's version.
	answer := func(row conformance.HandshakeRow) string {
		conn := served.connect(t)
		defer conn.Close()
		conn.Write(row.Request())
		resp, err := conformance.ReadHandshakeResponse(bufio.NewReader(conn), false)
		if err != nil {
			t.Errorf("%s: %v", row.Name(), err)
			return ""
		}
		return fmt.Sprintf("%d, Allow %q, Upgrade %q, Sec-WebSocket-Version %q: %q", resp.Status,
			resp.Values("Allow"), resp.Values("Upgrade"), resp.Values("Sec-WebSocket-Version"), resp.Body)
	}
	for i, first := range rows {
		want := answer(first)
		if !strings.HasPrefix(want, fmt.Sprint(first.Want.Status)) {
			t.Errorf("%s: %s, want %d", first.Name(), want, first.Want.Status)
		}
		for _, second := range rows[i+1:] {
			if conformance.HandshakeExclusive(first, second) {
				continue
			}
			if got := answer(first.With(second)); got != want {
				t.Errorf("%s and %s:\n\tthe answer is  %s\n\tthe first's is %s", first.ID, second.ID, got, want)
			}
		}
	}
	if n := served.upgrades.Load(); n != 0 {
		t.Errorf("%d of the requests upgraded", n)
	}
}

// hsEntry is one of the two ways into the library. It serves the connections
// of u with serve, and tells failed the error when there is none.
type hsEntry struct {
	name    string
	mounted bool
	mount   func(u *websocket.Upgrader, serve func(*websocket.Conn) error, failed func(error)) http.Handler
}

var (
	hsServeHTTP = hsEntry{"ServeHTTP", true, func(u *websocket.Upgrader, serve func(*websocket.Conn) error, failed func(error)) http.Handler {
		if u.Open == nil {
			u.Handler = serve
		}
		u.Logger = slog.New(slog.NewTextHandler(hsLogFunc(func(s string) { failed(errors.New(s)) }), nil))
		return u
	}}
	hsUpgrade = hsEntry{"Upgrade", false, func(u *websocket.Upgrader, serve func(*websocket.Conn) error, failed func(error)) http.Handler {
		u.Logger = slog.New(slog.DiscardHandler)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, err := u.Upgrade(w, r)
			if err != nil {
				failed(err)
				return
			}
			serve(c)
		})
	}}
	hsEntries = []hsEntry{hsServeHTTP, hsUpgrade}
)

func hsEachEntry(t *testing.T, f func(t *testing.T, entry hsEntry)) {
	for _, entry := range hsEntries {
		t.Run(entry.name, func(t *testing.T) { f(t, entry) })
	}
}

type hsLogFunc func(string)

func (f hsLogFunc) Write(p []byte) (int, error) {
	f(string(p))
	return len(p), nil
}

func hsEcho(c *websocket.Conn) error {
	ctx := context.Background()
	for m, err := range c.Messages(ctx) {
		if err != nil {
			return err
		}
		if err := c.Write(ctx, m.Type, m.Data); err != nil {
			return err
		}
	}
	return nil
}

// hsServed is a server in memory or on loopback, and what is seen in it.
type hsServed struct {
	handler  http.Handler
	log      *log.Logger
	dial     func() (net.Conn, error)
	requests atomic.Int64
	upgrades atomic.Int64

	mu          sync.Mutex
	subprotocol string   // of the latest connection
	failures    []error  // of the library
	complaints  []string // of net/http
	expected    string   // what a complaint may contain
	stalled     int      // rows that ended at their time limit
}

// hsServe serves handler in memory until the test ends.
func hsServe(t testing.TB, handler http.Handler, change ...func(*http.Server)) *hsServed {
	s := new(hsServed)
	s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		handler.ServeHTTP(w, r)
	})
	s.log = log.New(hsLogFunc(func(line string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.expected == "" || !strings.Contains(line, s.expected) {
			s.complaints = append(s.complaints, line)
		}
	}), "", 0)
	listener := memconn.Listen()
	server := &http.Server{Handler: s.handler, ErrorLog: s.log}
	for _, f := range change {
		f(server)
	}
	s.dial = func() (net.Conn, error) { return listener.Dial() }
	var done sync.WaitGroup
	done.Go(func() { server.Serve(listener) })
	t.Cleanup(func() {
		server.Close()
		done.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, line := range s.complaints {
			t.Errorf("net/http complains: %s", line)
		}
	})
	return s
}

// listen puts the server on loopback, too, and has dial reach it there.
func (s *hsServed) listen(t *testing.T, secure bool) {
	server := httptest.NewUnstartedServer(s.handler)
	server.Config.ErrorLog = s.log
	if secure {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	config := &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(0)}
	s.dial = func() (net.Conn, error) {
		addr := server.Listener.Addr().String()
		if secure {
			return tls.Dial("tcp", addr, config)
		}
		return net.Dial("tcp", addr)
	}
}

// hsFailed takes the failures of the library.
func (s *hsServed) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = append(s.failures, err)
}

// failure is what the library said since the last call.
func (s *hsServed) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := errors.Join(s.failures...)
	s.failures = nil
	return err
}

func (s *hsServed) connect(t testing.TB) net.Conn {
	t.Helper()
	conn, err := s.dial()
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(hsPatience))
	return conn
}

// hsRows yields the rows of each server.
func hsRows() func(yield func(*conformance.HandshakeServer, []conformance.HandshakeRow) bool) {
	var servers []*conformance.HandshakeServer
	rows := make(map[*conformance.HandshakeServer][]conformance.HandshakeRow)
	for _, row := range conformance.HandshakeRows() {
		if rows[row.Server] == nil {
			servers = append(servers, row.Server)
		}
		rows[row.Server] = append(rows[row.Server], row)
	}
	return func(yield func(*conformance.HandshakeServer, []conformance.HandshakeRow) bool) {
		for _, server := range servers {
			if !yield(server, rows[server]) {
				return
			}
		}
	}
}

func hsUpgrader(server *conformance.HandshakeServer) *websocket.Upgrader {
	u := &websocket.Upgrader{
		Subprotocols:      server.Subprotocols,
		SelectSubprotocol: server.SelectSubprotocol,
		Origins:           server.Origins,
		CheckOrigin:       server.CheckOrigin,
		Config:            websocket.Config{Compression: hsCompression(server)},
	}
	if server.AnyOrigin {
		u.Origins = append(u.Origins, websocket.AnyOriginInsecure)
	}
	return u
}

func hsCompression(server *conformance.HandshakeServer) websocket.Compression {
	c := server.Compression
	return websocket.Compression{
		Enable: c.Enable, ServerWindowBits: c.ServerWindowBits, ClientWindowBits: c.ClientWindowBits,
		ServerNoContextTakeover: c.ServerNoContextTakeover, ClientNoContextTakeover: c.ClientNoContextTakeover,
	}
}

func hsServeRows(t testing.TB, server *conformance.HandshakeServer, entry hsEntry) *hsServed {
	var s *hsServed
	u := hsUpgrader(server)
	serve := func(c *websocket.Conn) error {
		if u.Open == nil {
			s.upgrades.Add(1)
		}
		s.mu.Lock()
		s.subprotocol = c.Subprotocol()
		s.mu.Unlock()
		return hsEcho(c)
	}
	if entry.mounted {
		// O-10: what counts is that the application was asked at all.
		u.Open = func(*http.Request, http.Header) (func(*websocket.Conn) error, error) {
			s.upgrades.Add(1)
			return serve, nil
		}
	}
	handler := entry.mount(u, serve, func(err error) { s.failed(err) })
	s = hsServe(t, handler)
	return s
}

// play plays a row and checks what the server's side saw of it.
func (s *hsServed) play(t *testing.T, row conformance.HandshakeRow, cuts []int, pause func()) bool {
	t.Helper()
	if s.stalled == 3 {
		t.Skip("the server does not answer")
	}
	requests, upgrades := s.requests.Load(), s.upgrades.Load()
	s.failure()
	conn := s.connect(t)
	defer conn.Close()
	errs := []error{row.Play(conn, cuts, pause)}
	if errors.Is(errs[0], os.ErrDeadlineExceeded) {
		s.stalled++
	}
	if got := int(s.requests.Load() - requests); got != row.Requests() {
		errs = append(errs, fmt.Errorf("%d requests reached the handler, want %d", got, row.Requests()))
	}
	if got := int(s.upgrades.Load() - upgrades); got != row.Upgrades() {
		errs = append(errs, fmt.Errorf("%d connections came to the application, want %d", got, row.Upgrades()))
	}
	s.mu.Lock()
	if s.subprotocol != row.Want.Subprotocol && row.Want.Status == 101 {
		errs = append(errs, fmt.Errorf("P-10: Subprotocol() is %q, want %q", s.subprotocol, row.Want.Subprotocol))
	}
	s.mu.Unlock()
	errs = append(errs, hsJudgeFailure(s.failure(), row.Want.Status))
	err := errors.Join(errs...)
	if err != nil {
		where := fmt.Sprintf("cut at %d", cuts)
		if len(cuts) == len(row.Request())-1 {
			where = "byte by byte"
		}
		t.Errorf("%s: %s\n\trequest %q\n\t%s\n%v", row.ID, row.Rule, row.Request(), where, err)
	}
	return err == nil
}

// hsJudgeFailure checks what the library told the application: S-10, and no
// other status than the peer.
func hsJudgeFailure(err error, status int) error {
	if err == nil {
		return nil
	}
	if text := strings.ReplaceAll(err.Error(), "\n", ""); strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return fmt.Errorf("S-10: control characters of the peer in %q", text)
	}
	if refusal := (*websocket.HandshakeError)(nil); errors.As(err, &refusal) && refusal.Status != status {
		return fmt.Errorf("the application hears %v, the peer got %d", err, status)
	}
	return nil
}

// hsAsk sends one request and checks the answer to it.
func hsAsk(t testing.TB, conn net.Conn, br *bufio.Reader, row conformance.HandshakeRow) conformance.HandshakeResponse {
	t.Helper()
	if _, err := conn.Write(row.Request()); err != nil {
		t.Fatal(err)
	}
	resp, err := conformance.ReadHandshakeResponse(br, row.Method == "HEAD")
	if err == nil {
		err = row.Want.Check(resp)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, resp)
	}
	return resp
}

// hsWant reads exactly the bytes given in notation.
func hsWant(t testing.TB, r io.Reader, notation string) {
	t.Helper()
	want, err := conformance.Bytes(notation)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if n, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("received %x and %v, want %x", got[:n], err, want)
	}
}

// hsSend writes bytes given in notation.
func hsSend(t testing.TB, w io.Writer, notation string) {
	t.Helper()
	b, err := conformance.Bytes(notation)
	if err == nil {
		_, err = w.Write(b)
	}
	if err != nil {
		t.Error(err)
	}
}
