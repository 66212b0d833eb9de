package transport

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket/internal/memconn"
)

// A shelf is a Room that writes down how it is used.
type shelf struct {
	size    int
	log     []string
	open    []byte
	opened  func()
	dropped func()
}

func (s *shelf) Open(held bool) []byte {
	s.log = append(s.log, fmt.Sprintf("open %v", held))
	s.open = make([]byte, s.size)
	if s.opened != nil {
		s.opened()
	}
	return s.open
}

func (s *shelf) Drop() {
	s.log = append(s.log, "drop")
	s.open = nil
	if s.dropped != nil {
		s.dropped()
	}
}

func (s *shelf) uses() string { return strings.Join(s.log, ", ") }

// A result is what a call returned, and when.
type result struct {
	n   int
	err error
	in  time.Duration
}

// inBackground runs a call and returns where its result comes.
func inBackground(call func() (int, error)) <-chan result {
	c := make(chan result, 1)
	start := time.Now()
	go func() {
		n, err := call()
		c <- result{n, err, time.Since(start)}
	}()
	return c
}

func want(t testing.TB, what string, got result, n int, err error, in time.Duration) {
	t.Helper()
	if got.n != n || !errors.Is(got.err, err) || got.in != in {
		t.Errorf("%s: %d, %v after %v, want %d, %v after %v", what, got.n, got.err, got.in, n, err, in)
	}
}

// inMemory runs f on a stream over an in-memory connection.
func inMemory(t *testing.T, writeTimeout time.Duration, f func(t *testing.T, s Conn, here, peer *memconn.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		here, peer := memconn.Pair()
		defer here.Close()
		defer peer.Close()
		f(t, New(here, writeTimeout), here, peer)
	})
}

func TestStreamFill(t *testing.T) {
	inMemory(t, time.Second, func(t *testing.T, s Conn, here, peer *memconn.Conn) {
		room := &shelf{size: 1000}
		idle := inBackground(func() (int, error) { return s.Fill(room, true) })
		synctest.Wait()
		if room.uses() != "" {
			t.Errorf("an idle connection uses the room: %s", room.uses())
		}
		// More than an idle connection waits with.
		text := bytes.Repeat([]byte("0123456789"), 30)
		peer.Write(text)
		r := <-idle
		if r.err != nil || r.n < 1 || r.n > len(text) || !bytes.Equal(room.open[:r.n], text[:r.n]) || room.uses() != "open false" {
			t.Errorf("idle: %d, %v, %q; %s", r.n, r.err, room.open, room.uses())
		}
		got := append([]byte{}, room.open[:r.n]...)
		room.log = nil
		n, err := s.Fill(room, false)
		got = append(got, room.open[:n]...)
		if err != nil || !bytes.Equal(got, text) || room.uses() != "open true" {
			t.Errorf("the rest: %d, %v, %q; %s", n, err, got, room.uses())
		}

		// A small room gets no more than fits.
		room = &shelf{size: 5}
		for _, idle := range []bool{true, false} {
			peer.Write([]byte("abc"))
			if n, err := s.Fill(room, idle); n != 3 || err != nil || string(room.open[:n]) != "abc" {
				t.Errorf("idle %v: %d, %v, %q", idle, n, err, room.open)
			}
		}

		// An interrupt in the wait drops what was opened.
		for _, idle := range []bool{true, false} {
			room.log = nil
			waiting := inBackground(func() (int, error) { return s.Fill(room, idle) })
			synctest.Wait()
			s.In().Interrupt()
			want(t, "interrupted", <-waiting, 0, os.ErrDeadlineExceeded, 0)
			if uses := room.uses(); uses != "" && uses != "open true, drop" {
				t.Errorf("idle %v: interrupted: %s", idle, uses)
			}
			s.In().Resume()
		}

		peer.CloseWrite()
		for _, idle := range []bool{true, false} {
			room.log = nil
			n, err := s.Fill(room, idle)
			if n != 0 || err != io.EOF {
				t.Errorf("idle %v: at the end: %d, %v", idle, n, err)
			}
			if uses := room.uses(); uses != "" && uses != "open true, drop" {
				t.Errorf("idle %v: at the end: %s", idle, uses)
			}
		}
	})
}

func TestStreamFirstBytesLoseNothing(t *testing.T) {
	// An idle connection waits with a few bytes of room: whatever number of
	// bytes comes, all of them are read.
	inMemory(t, time.Second, func(t *testing.T, s Conn, here, peer *memconn.Conn) {
		for size := 1; size <= 200; size++ {
			text := bytes.Repeat([]byte{byte(size)}, size)
			peer.Write(text)
			room := &shelf{size: 256}
			var got []byte
			for len(got) < size {
				n, err := s.Fill(room, len(got) == 0)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, room.open[:n]...)
			}
			if !bytes.Equal(got, text) {
				t.Fatalf("%d bytes: %x", size, got)
			}
		}
	})
}

// An odd connection returns from Read and Write what it is told to.
type odd struct {
	net.Conn
	reads, writes []result
	calls         int
}

func (o *odd) next(list []result) (int, error) {
	r := list[min(o.calls, len(list)-1)]
	o.calls++
	return r.n, r.err
}

func (o *odd) Read([]byte) (int, error)         { return o.next(o.reads) }
func (o *odd) Write([]byte) (int, error)        { return o.next(o.writes) }
func (o *odd) SetReadDeadline(time.Time) error  { return nil }
func (o *odd) SetWriteDeadline(time.Time) error { return nil }

func TestStreamOddReads(t *testing.T) {
	failure := errors.New("boom")
	tests := []struct {
		name  string
		reads []result
		n     int
		err   error
		calls int // 0: some, but not for ever
	}{
		{"nothing for a while", []result{{}, {}, {n: 3}}, 3, nil, 3},
		{"nothing for ever", []result{{}}, 0, io.ErrNoProgress, 0},
		{"bytes and an error", []result{{n: 2, err: failure}}, 2, nil, 1},
		{"an error", []result{{err: failure}}, 0, failure, 1},
		{"nothing, then the end", []result{{}, {err: io.EOF}}, 0, io.EOF, 2},
	}
	for _, tt := range tests {
		for _, idle := range []bool{true, false} {
			o := &odd{reads: tt.reads}
			n, err := New(o, 0).Fill(&shelf{size: 10}, idle)
			if n != tt.n || err != tt.err || tt.calls > 0 && o.calls != tt.calls {
				t.Errorf("%s: %d, %v after %d calls, want %d, %v after %d", tt.name, n, err, o.calls, tt.n, tt.err, tt.calls)
			}
		}
	}
}

func TestStreamOddWrites(t *testing.T) {
	// io.Writer forbids it; still, what has left must not count as nothing.
	for _, tt := range []struct{ wrote, min int }{{0, 1}, {3, 3}} {
		n, err := New(&odd{writes: []result{{n: tt.wrote}}}, 0).Write(make([]byte, 10))
		if n != tt.min || err == nil {
			t.Errorf("a write of 10 that takes %d: %d, %v", tt.wrote, n, err)
		}
	}
}

func TestStreamTryWriteTakesNothing(t *testing.T) {
	// There is no telling whether a write would block.
	o := &odd{writes: []result{{n: 1}}}
	if n, err := New(o, time.Second).TryWrite([]byte("abc")); n != 0 || err != nil || o.calls != 0 {
		t.Errorf("%d, %v, %d calls", n, err, o.calls)
	}
}

func TestStreamWriteTimeout(t *testing.T) {
	const timeout = 10 * time.Second
	take := func(peer *memconn.Conn, n int) { io.CopyN(io.Discard, peer, int64(n)) }

	t.Run("each piece in time", func(t *testing.T) {
		inMemory(t, timeout, func(t *testing.T, s Conn, here, peer *memconn.Conn) {
			here.SetBuffer(Piece)
			const pieces = 5
			call := inBackground(func() (int, error) { return s.Write(make([]byte, pieces*Piece+1)) })
			for range pieces {
				time.Sleep(timeout - time.Nanosecond)
				take(peer, Piece)
			}
			want(t, "slow, but never too slow", <-call, pieces*Piece+1, nil, pieces*(timeout-time.Nanosecond))
		})
	})
	t.Run("a piece too late", func(t *testing.T) {
		inMemory(t, timeout, func(t *testing.T, s Conn, here, peer *memconn.Conn) {
			here.SetBuffer(Piece)
			call := inBackground(func() (int, error) { return s.Write(make([]byte, 3*Piece)) })
			time.Sleep(5 * time.Second)
			take(peer, Piece-1) // the second piece is not taken whole
			want(t, "stuck", <-call, 2*Piece-1, os.ErrDeadlineExceeded, 10*time.Second)
		})
	})
	t.Run("nothing is left of it", func(t *testing.T) {
		inMemory(t, timeout, func(t *testing.T, s Conn, here, peer *memconn.Conn) {
			s.Write([]byte("abc"))
			time.Sleep(time.Hour)
			here.SetBuffer(3)
			call := inBackground(func() (int, error) { return here.Write([]byte("d")) })
			time.Sleep(time.Hour)
			take(peer, 3)
			want(t, "a write without bound", <-call, 1, nil, time.Hour)
		})
	})
	t.Run("none", func(t *testing.T) {
		inMemory(t, -1, func(t *testing.T, s Conn, here, peer *memconn.Conn) {
			here.StallWriteAfter(0)
			call := inBackground(func() (int, error) { return s.Write([]byte("abc")) })
			time.Sleep(time.Hour)
			s.Out().Bound(time.Minute)
			want(t, "bounded at last", <-call, 0, os.ErrDeadlineExceeded, time.Hour+time.Minute)
		})
	})
}

func TestStreamInterrupt(t *testing.T) {
	inMemory(t, 10*time.Second, func(t *testing.T, s Conn, here, peer *memconn.Conn) {
		here.StallWriteAfter(3)
		write := func() (int, error) { return s.Write([]byte("abcdef")) }
		read := func() (int, error) { return s.Read(make([]byte, 10)) }

		call := inBackground(write)
		time.Sleep(time.Second)
		s.Out().Interrupt()
		want(t, "a write in progress", <-call, 3, os.ErrDeadlineExceeded, time.Second)
		want(t, "a write that begins", <-inBackground(write), 0, os.ErrDeadlineExceeded, 0)
		s.Out().Resume()
		want(t, "a write after Resume", <-inBackground(write), 0, os.ErrDeadlineExceeded, 10*time.Second)

		call = inBackground(read)
		time.Sleep(time.Hour)
		s.In().Interrupt()
		want(t, "a read in progress", <-call, 0, os.ErrDeadlineExceeded, time.Hour)
		peer.Write([]byte("x"))
		want(t, "a read that begins", <-inBackground(read), 0, os.ErrDeadlineExceeded, 0)
		s.In().Resume()
		want(t, "a read after Resume", <-inBackground(read), 1, nil, 0)

		s.In().After(time.Minute)
		want(t, "a read within a bound", <-inBackground(read), 0, os.ErrDeadlineExceeded, time.Minute)
	})
}

// TestStreamInterruptRace: an interrupt that comes as a wait sets its own
// deadline is not lost, which would let the call run into that.
func TestStreamInterruptRace(t *testing.T) {
	inMemory(t, 10*time.Second, func(t *testing.T, s Conn, here, peer *memconn.Conn) {
		here.StallWriteAfter(0)
		for range 2000 {
			call := inBackground(func() (int, error) { return s.Write([]byte("x")) })
			go s.Out().Interrupt()
			want(t, "interrupted", <-call, 0, os.ErrDeadlineExceeded, 0)
			synctest.Wait()
			s.Out().Resume()
		}
	})
}

// A timeless connection has no deadlines.
type timeless struct{ net.Conn }

func (timeless) SetReadDeadline(time.Time) error  { return errors.ErrUnsupported }
func (timeless) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }

func TestStreamWithoutDeadlines(t *testing.T) {
	for _, interrupt := range []func(s Conn){func(s Conn) { s.In().Interrupt() }, func(s Conn) { s.Out().Interrupt() }} {
		inMemory(t, time.Second, func(t *testing.T, _ Conn, here, peer *memconn.Conn) {
			s := New(timeless{here}, time.Second)
			here.StallWriteAfter(0)
			read := inBackground(func() (int, error) { return s.Fill(&shelf{size: 1}, true) })
			write := inBackground(func() (int, error) { return s.Write([]byte("x")) })
			time.Sleep(time.Hour)
			interrupt(s)
			want(t, "the read", <-read, 0, net.ErrClosed, time.Hour)
			want(t, "the write", <-write, 0, net.ErrClosed, time.Hour)
		})
	}
}

// halfless is a connection without a half-close.
type halfless struct{ net.Conn }

func TestStreamClose(t *testing.T) {
	inMemory(t, time.Second, func(t *testing.T, s Conn, here, peer *memconn.Conn) {
		if s.NetConn() != net.Conn(here) {
			t.Error("NetConn is another")
		}
		if half, err := s.CloseWrite(); !half || err != nil {
			t.Errorf("CloseWrite: %v, %v", half, err)
		}
		peer.Write([]byte("x"))
		if n, err := s.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Errorf("reading after CloseWrite: %d, %v", n, err)
		}
		if _, err := peer.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the peer sees %v", err)
		}
		if half, err := New(halfless{here}, 0).CloseWrite(); half || err != nil {
			t.Errorf("without a half-close: %v, %v", half, err)
		}

		read := inBackground(func() (int, error) { return s.Fill(&shelf{size: 1}, false) })
		synctest.Wait()
		if err := s.Abort(); err != nil {
			t.Error(err)
		}
		want(t, "a read that waits", <-read, 0, net.ErrClosed, 0)
		if _, err := s.CloseWrite(); err == nil {
			t.Error("CloseWrite after Abort succeeds")
		}
	})
	inMemory(t, time.Second, func(t *testing.T, s Conn, here, peer *memconn.Conn) {
		here.StallWriteAfter(2)
		write := inBackground(func() (int, error) { return s.Write([]byte("abc")) })
		synctest.Wait()
		s.Abort()
		want(t, "a write that is stuck", <-write, 2, net.ErrClosed, 0)
	})
	inMemory(t, time.Second, func(t *testing.T, s Conn, here, peer *memconn.Conn) {
		peer.Reset()
		want(t, "a write", <-inBackground(func() (int, error) { return s.Write([]byte("abc")) }), 0, syscall.ECONNRESET, 0)
		want(t, "a read", <-inBackground(func() (int, error) { return s.Read(make([]byte, 1)) }), 0, syscall.ECONNRESET, 0)
	})
}
