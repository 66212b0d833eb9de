//go:build unix

package transport

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket/internal/memconn"
)

// TryFill takes what is there and says ErrNotReady when nothing is. It holds
// no room then.
func TestSocketTryFill(t *testing.T) {
	s, peer := overTCP(t, 0)
	room := &shelf{size: 4}
	for range 2 {
		if n, err := s.TryFill(room); n != 0 || err != ErrNotReady || room.open != nil {
			t.Fatalf("nothing is there: %d, %v, room %v", n, err, room.open)
		}
		if s.HasInput() {
			t.Error("nothing is there, HasInput says otherwise")
		}
		peer.Write([]byte("abcdef"))
		waitInput(t, s)
		var got []byte
		for len(got) < 6 {
			n, err := s.TryFill(room)
			if err == ErrNotReady {
				continue
			}
			if err != nil || n < 1 || n > 4 {
				t.Fatalf("%d, %v", n, err)
			}
			got = append(got, room.open[:n]...)
		}
		if string(got) != "abcdef" {
			t.Errorf("read %q", got)
		}
	}
	if room.log[0] != "open false" {
		t.Errorf("the room: %s", room.uses())
	}
	if n := testing.AllocsPerRun(100, func() { s.TryFill(one) }); n >= 1 && !raceEnabled {
		t.Errorf("TryFill allocates %v times", n)
	}
}

// A closet is a Room that allocates nothing.
type closet []byte

func (c closet) Open(bool) []byte { return c }
func (c closet) Drop()            {}

var one Room = closet(make([]byte, 1))

func waitInput(t *testing.T, s Conn) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !s.HasInput(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("nothing comes")
		}
	}
}

// TryFill tells of every end, with the same error as Fill, and of an interrupt
// until that is taken back, whether input is there or not.
func TestSocketTryFillEnds(t *testing.T) {
	for name, tt := range map[string]struct {
		end func(s Conn, peer *net.TCPConn)
		err error
	}{
		"end of input": {func(_ Conn, peer *net.TCPConn) { peer.CloseWrite() }, io.EOF},
		"reset":        {func(_ Conn, peer *net.TCPConn) { peer.SetLinger(0); peer.Close() }, syscall.ECONNRESET},
		"abort":        {func(s Conn, _ *net.TCPConn) { s.Abort() }, net.ErrClosed},
		"interrupt":    {func(s Conn, _ *net.TCPConn) { s.In().Interrupt() }, os.ErrDeadlineExceeded},
	} {
		s, peer := overTCP(t, 0)
		room := &shelf{size: 10}
		tt.end(s, peer)
		var n int
		err := ErrNotReady
		for end := time.Now().Add(30 * time.Second); err == ErrNotReady && time.Now().Before(end); runtime.Gosched() {
			n, err = s.TryFill(room)
		}
		if n != 0 || !errors.Is(err, tt.err) || room.open != nil {
			t.Errorf("%s: %d, %v, room %v", name, n, err, room.open)
		}
		if s.HasInput() {
			t.Errorf("%s: HasInput", name)
		}
	}
	s, peer := overTCP(t, 0)
	peer.Write([]byte("abc"))
	waitInput(t, s)
	room := &shelf{size: 10}
	s.In().Interrupt()
	if _, err := s.TryFill(room); !errors.Is(err, os.ErrDeadlineExceeded) || !s.HasInput() {
		t.Errorf("interrupted with input there: %v, input %v", err, s.HasInput())
	}
	s.In().Resume()
	if n, err := s.TryFill(room); n != 3 || err != nil {
		t.Errorf("after Resume: %d, %v", n, err)
	}
}

// Data and the end of input together: the data first.
func TestSocketTryFillDataThenEnd(t *testing.T) {
	s, peer := overTCP(t, 0)
	peer.Write([]byte("abc"))
	peer.CloseWrite()
	waitInput(t, s)
	room := &shelf{size: 10}
	if n, err := s.TryFill(room); n != 3 || err != nil {
		t.Errorf("the data: %d, %v", n, err)
	}
	if n, err := s.Fill(room, true); n != 0 || err != io.EOF {
		t.Errorf("the end: %d, %v", n, err)
	}
	if n, err := s.TryFill(room); n != 0 || err != io.EOF {
		t.Errorf("the end again: %d, %v", n, err)
	}
}

// HasInput looks beside a Fill that waits, and takes nothing from it.
func TestSocketHasInputBesideAFill(t *testing.T) {
	s, peer := overTCP(t, 0)
	waits := make(chan struct{}, 100)
	room := &shelf{size: 10, dropped: func() { waits <- struct{}{} }}
	fill := inBackground(func() (int, error) { return s.Fill(room, true) })
	<-waits
	for range 100 {
		if s.HasInput() {
			t.Fatal("nothing is there")
		}
	}
	peer.Write([]byte("abc"))
	for s.HasInput() {
		runtime.Gosched()
	}
	if r := <-fill; r.n != 3 || r.err != nil {
		t.Errorf("%+v", r)
	}
}

// Raw is the descriptor of a socket, also below TLS, and nil where bytes may
// be elsewhere than in one.
func TestRaw(t *testing.T) {
	s, _ := overTCP(t, 0)
	descriptor := func(raw Descriptor) (fd uintptr) {
		if raw != nil {
			raw.Control(func(d uintptr) { fd = d })
		}
		return fd
	}
	direct, err := s.NetConn().(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	want := descriptor(direct)
	if got := descriptor(s.Raw()); got != want || got == 0 {
		t.Errorf("the descriptor is %d, want %d", got, want)
	}
	if got := descriptor(New(tls.Server(s.NetConn(), &tls.Config{}), 0).Raw()); got != want {
		t.Errorf("below TLS the descriptor is %d, want %d", got, want)
	}
	if raw := New(tls.Server(halfless{s.NetConn()}, &tls.Config{}), 0).Raw(); raw != nil {
		t.Error("a wrapper below TLS is bypassed")
	}
	if raw := New(halfless{s.NetConn()}, 0).Raw(); raw != nil {
		t.Error("a wrapper is bypassed")
	}
	a, _ := memconn.Pair()
	if raw := New(a, 0).Raw(); raw != nil {
		t.Error("memory has a descriptor")
	}
}

// TLS over a Unix socket can be looked into as well.
func TestRawUnix(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Skip(err)
	}
	defer l.Close()
	client, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	s := New(tls.Server(server, &tls.Config{}), 0)
	if s.Raw() == nil || s.HasInput() {
		t.Errorf("raw %v, input %v", s.Raw(), s.HasInput())
	}
	client.Write([]byte("x"))
	waitInput(t, s)
}

// A stream cannot tell what it has: TryFill waits, for input, the end or an
// interrupt, and never says ErrNotReady.
func TestStreamTryFillWaits(t *testing.T) {
	inMemory(t, time.Second, func(t *testing.T, s Conn, here, peer *memconn.Conn) {
		room := &shelf{size: 1000}
		try := func() (int, error) { return s.TryFill(room) }
		if !s.HasInput() || s.Tries() {
			t.Error("it says that it can tell")
		}
		filled := inBackground(try)
		time.Sleep(time.Minute)
		text := bytes.Repeat([]byte("x"), 300)
		peer.Write(text)
		want(t, "input", <-filled, 300, nil, time.Minute)
		filled = inBackground(try)
		synctest.Wait()
		s.In().Interrupt()
		want(t, "an interrupt", <-filled, 0, os.ErrDeadlineExceeded, 0)
		if room.open != nil {
			t.Error("the room is not dropped")
		}
		s.In().Resume()
		peer.CloseWrite()
		want(t, "the end", <-inBackground(try), 0, io.EOF, 0)
	})
}
