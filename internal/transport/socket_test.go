//go:build unix

package transport

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// overTCP returns both ends of a loopback connection, one of them wrapped.
func overTCP(t testing.TB, writeTimeout time.Duration) (Conn, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	peer, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	here, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { here.Close(); peer.Close() })
	s := New(here, writeTimeout)
	if _, ok := s.(*socket); !ok {
		t.Fatalf("a TCP connection is a %T", s)
	}
	if detached {
		s.MayDetach()
		s.Detach(&watcher{})
		if s.NetConn() != nil {
			t.Fatal("there is a net.Conn")
		}
	}
	return s, peer.(*net.TCPConn)
}

// detached has overTCP return a connection that is.
var detached = false

// A watcher counts what it is told, and refuses it with err.
type watcher struct {
	moves int
	err   error
}

func (w *watcher) Moved(from, to int) error {
	w.moves++
	return w.err
}

// clog writes until the kernel takes no more, and returns how much it took.
// It may find room for a little more later on, as it moves what it has.
func clog(t testing.TB, s Conn) (total int64) {
	t.Helper()
	p := make([]byte, 1<<20)
	for {
		n, err := s.TryWrite(p)
		if err != nil {
			t.Fatal(err)
		}
		total += int64(n)
		if n == 0 {
			return total
		}
	}
}

// tooMuch does not fit into a socket that is clogged, nor into what room it finds
// later on.
var tooMuch = make([]byte, 16<<20)

// A cork is a connection whose socket is clogged. It knows how much has been taken.
type cork struct {
	s     Conn
	peer  *net.TCPConn
	taken int64
}

func clogged(t testing.TB, s Conn, peer *net.TCPConn) *cork {
	t.Helper()
	return &cork{s, peer, clog(t, s)}
}

// wantCut checks a write of tooMuch that was ended by err, and may have found some
// room before.
func (c *cork) wantCut(t testing.TB, what string, got result, err error) {
	t.Helper()
	if got.n == len(tooMuch) || !errors.Is(got.err, err) {
		t.Errorf("%s: %d, %v, want %v and not all taken", what, got.n, got.err, err)
	}
	c.taken += int64(got.n)
}

// wantTaken checks that the peer gets what was taken, to the byte.
func (c *cork) wantTaken(t testing.TB) {
	t.Helper()
	c.s.CloseWrite()
	if n, err := io.Copy(io.Discard, c.peer); n != c.taken || err != nil {
		t.Errorf("the peer reads %d bytes, %v; %d were taken", n, err, c.taken)
	}
}

func TestSocketOrStream(t *testing.T) {
	s, _ := overTCP(t, 0)
	if _, ok := New(halfless{s.NetConn()}, 0).(*stream); !ok {
		t.Error("a wrapped TCP connection bypasses its wrapper")
	}
	if _, ok := New(new(net.TCPConn), 0).(*stream); !ok {
		t.Error("a TCP connection without a descriptor is a socket")
	}
	s.NetConn().Close()
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed connection reads %v", err)
	}
}

func TestSocketFillHoldsNothing(t *testing.T) {
	// Invariant 13: the wait for input holds no buffer.
	s, peer := overTCP(t, 0)
	for _, idle := range []bool{true, false} {
		waits := make(chan struct{}, 100)
		room := &shelf{size: 1000, dropped: func() { waits <- struct{}{} }}
		fill := inBackground(func() (int, error) { return s.Fill(room, idle) })
		<-waits
		peer.Write([]byte("abc"))
		r := <-fill
		if r.n != 3 || r.err != nil || string(room.open[:3]) != "abc" {
			t.Errorf("idle %v: %d, %v", idle, r.n, r.err)
		}
		for i, use := range room.log {
			if last := i == len(room.log)-1; use != [2]string{"open false", "drop"}[i%2] || last && use != "open false" {
				t.Fatalf("idle %v: %s", idle, room.uses())
			}
		}
	}
	// What is there is read without a wait.
	peer.Write([]byte("abcdef"))
	room := &shelf{size: 4}
	if n, err := s.Fill(room, false); n < 1 || err != nil || room.log[len(room.log)-1] != "open false" {
		t.Errorf("%d, %v, %s", n, err, room.uses())
	}
}

func TestSocketFillEnds(t *testing.T) {
	tests := []struct {
		name string
		end  func(s Conn, peer *net.TCPConn)
		err  error
	}{
		{"end of input", func(_ Conn, peer *net.TCPConn) { peer.CloseWrite() }, io.EOF},
		{"reset", func(_ Conn, peer *net.TCPConn) { peer.SetLinger(0); peer.Close() }, syscall.ECONNRESET},
		{"abort", func(s Conn, _ *net.TCPConn) { s.Abort() }, net.ErrClosed},
		{"interrupt", func(s Conn, _ *net.TCPConn) { s.In().Interrupt() }, os.ErrDeadlineExceeded},
		{"deadline", func(s Conn, _ *net.TCPConn) { s.In().After(time.Millisecond) }, os.ErrDeadlineExceeded},
	}
	for _, tt := range tests {
		for _, early := range []bool{true, false} {
			s, peer := overTCP(t, 0)
			waits := make(chan struct{}, 100)
			room := &shelf{size: 10, dropped: func() { waits <- struct{}{} }}
			if early {
				tt.end(s, peer)
			}
			fill := inBackground(func() (int, error) { return s.Fill(room, true) })
			if !early {
				<-waits
				tt.end(s, peer)
			}
			r := <-fill
			if r.n != 0 || !errors.Is(r.err, tt.err) || room.open != nil {
				t.Errorf("%s: %d, %v, room %v", tt.name, r.n, r.err, room.open)
			}
			// The same, read into memory of the caller's.
			if n, err := s.Read(make([]byte, 1)); n != 0 || !errors.Is(err, tt.err) && tt.err != syscall.ECONNRESET {
				t.Errorf("%s: Read: %d, %v", tt.name, n, err)
			}
		}
	}
}

func TestSocketTryWriteNeverBlocks(t *testing.T) {
	s, peer := overTCP(t, time.Hour)
	total := clog(t, s) // does not return if it blocks
	// An interrupt is about waits, which this is not.
	s.Out().Interrupt()
	total += clog(t, s)
	s.Out().Resume()
	go io.CopyN(io.Discard, peer, total)
	if n, err := s.Write([]byte("yz")); n != 2 || err != nil {
		t.Errorf("once there is room: %d, %v", n, err)
	}
	s.Abort()
	if n, err := s.TryWrite([]byte("x")); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %d, %v", n, err)
	}

	s, peer = overTCP(t, time.Hour)
	peer.SetLinger(0)
	peer.Close()
	s.Read(make([]byte, 1)) // the reset has come
	if n, err := s.TryWrite([]byte("x")); n != 0 || !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("reset: %d, %v", n, err)
	}
}

func TestSocketWriteWaits(t *testing.T) {
	s, peer := overTCP(t, time.Hour)
	clogged := clog(t, s)
	text := make([]byte, 5*Piece+3)
	for i := range text {
		text[i] = byte(i * 7)
	}
	call := inBackground(func() (int, error) { return s.Write(text) })
	io.CopyN(io.Discard, peer, clogged)
	got := make([]byte, len(text))
	if _, err := io.ReadFull(peer, got); err != nil || !bytes.Equal(got, text) {
		t.Errorf("the peer reads something else: %v", err)
	}
	if r := <-call; r.n != len(text) || r.err != nil {
		t.Errorf("Write: %d, %v", r.n, r.err)
	}
}

func TestSocketWriteTimeout(t *testing.T) {
	const timeout = 20 * time.Millisecond
	s, peer := overTCP(t, timeout)
	c := clogged(t, s, peer)
	for range 2 {
		r := <-inBackground(func() (int, error) { return s.Write(tooMuch) })
		if c.wantCut(t, "Write", r, os.ErrDeadlineExceeded); r.in < timeout {
			t.Errorf("after %v", r.in)
		}
	}
	c.wantTaken(t)
	s, peer = overTCP(t, timeout)
	r := <-inBackground(func() (int, error) { return s.Write(make([]byte, 64<<20)) })
	if r.n == 0 || r.n == 64<<20 || !errors.Is(r.err, os.ErrDeadlineExceeded) {
		t.Errorf("%d, %v after %v", r.n, r.err, r.in)
	}
	s.CloseWrite()
	if n, err := io.Copy(io.Discard, peer); n != int64(r.n) || err != nil {
		t.Errorf("the peer reads %d bytes, %v; Write says %d", n, err, r.n)
	}
}

func TestSocketInterruptRace(t *testing.T) {
	// An interrupt that is lost shows as a call that runs into its bound.
	const bound = 5 * time.Minute
	s, _ := overTCP(t, bound)
	clog(t, s)
	for range 1000 {
		interrupted := make(chan struct{})
		call := inBackground(func() (int, error) { return s.Write(tooMuch) })
		go func() {
			s.Out().Interrupt()
			close(interrupted)
		}()
		if r := <-call; !errors.Is(r.err, os.ErrDeadlineExceeded) || r.in >= bound {
			t.Fatalf("%d, %v after %v", r.n, r.err, r.in)
		}
		<-interrupted
		s.Out().Resume()

		call = inBackground(func() (int, error) { return s.Fill(&shelf{size: 1}, true) })
		go func() { s.In().Interrupt() }()
		if r := <-call; r.n != 0 || !errors.Is(r.err, os.ErrDeadlineExceeded) {
			t.Fatalf("%d, %v after %v", r.n, r.err, r.in)
		}
		s.In().Resume()
	}
}

func TestSocketAbort(t *testing.T) {
	s, _ := overTCP(t, time.Hour)
	clog(t, s)
	waits := make(chan struct{}, 100)
	write := inBackground(func() (int, error) { return s.Write(tooMuch) })
	read := inBackground(func() (int, error) {
		return s.Fill(&shelf{size: 1, dropped: func() { waits <- struct{}{} }}, true)
	})
	<-waits
	s.Abort()
	if w, r := <-write, <-read; !errors.Is(w.err, net.ErrClosed) || !errors.Is(r.err, net.ErrClosed) || r.n != 0 {
		t.Errorf("the write: %+v, the read: %+v", w, r)
	}
}

func TestSocketCloseWrite(t *testing.T) {
	s, peer := overTCP(t, time.Hour)
	s.Write([]byte("bye"))
	if half, err := s.CloseWrite(); !half || err != nil {
		t.Fatal(half, err)
	}
	if got, err := io.ReadAll(peer); string(got) != "bye" || err != nil {
		t.Errorf("the peer reads %q, %v", got, err)
	}
	peer.Write([]byte("too"))
	p := make([]byte, 10)
	if n, err := s.Read(p); string(p[:n]) != "too" || err != nil {
		t.Errorf("read %q, %v", p[:n], err)
	}
}

func TestSocketDoesNotAllocate(t *testing.T) {
	s, peer := overTCP(t, time.Hour)
	p, q := []byte("ping"), make([]byte, 4)
	n := testing.AllocsPerRun(100, func() {
		s.TryWrite(p)
		io.ReadFull(peer, q)
		peer.Write(q)
		s.Read(q)
	})
	if n != 0 && !raceEnabled {
		t.Errorf("TryWrite and Read allocate %v times", n)
	}
}
