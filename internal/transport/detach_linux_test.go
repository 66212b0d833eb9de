package transport

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Everything that holds for a socket holds for one without a net.Conn.
func TestDetachedIsASocket(t *testing.T) {
	detached = true
	defer func() { detached = false }()
	for name, f := range map[string]func(*testing.T){
		"Fill holds nothing":      TestSocketFillHoldsNothing,
		"Fill ends":               TestSocketFillEnds,
		"TryFill":                 TestSocketTryFill,
		"TryFill ends":            TestSocketTryFillEnds,
		"TryFill: data, then end": TestSocketTryFillDataThenEnd,
		"HasInput beside a Fill":  TestSocketHasInputBesideAFill,
		"TryWrite never blocks":   TestSocketTryWriteNeverBlocks,
		"Write waits":             TestSocketWriteWaits,
		"Write: timeout":          TestSocketWriteTimeout,
		"interrupts":              TestSocketInterruptRace,
		"Abort":                   TestSocketAbort,
		"CloseWrite":              TestSocketCloseWrite,
	} {
		t.Run(name, f)
	}
}

func attach(s Conn) error { return s.(*socket).Attach() }

func descriptor(t *testing.T, d Descriptor) (fd int) {
	t.Helper()
	if err := d.Control(func(n uintptr) { fd = int(n) }); err != nil {
		t.Fatal(err)
	}
	return fd
}

// The descriptor changes, what it stands for does not, and whoever watches it
// knows.
func TestDetachAndAttach(t *testing.T) {
	s, peer := overTCP(t, time.Hour)
	tcp := s.NetConn().(*net.TCPConn)
	tcp.SetNoDelay(false)
	tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 77 * time.Second, Interval: 11 * time.Second, Count: 3})
	options := func() (values [len(kept)]int) {
		for i, o := range kept {
			values[i], _ = syscall.GetsockoptInt(descriptor(t, s.Raw()), o.level, o.name)
		}
		return values
	}
	local, remote, before := s.LocalAddr().String(), s.RemoteAddr().String(), options()
	w := new(watcher)
	s.Detach(w)
	if s.NetConn() != tcp || w.moves != 0 {
		t.Error("it was detached although somebody else may have the net.Conn")
	}
	s.MayDetach()
	for i := range 3 {
		fd := descriptor(t, s.Raw())
		s.Detach(w)
		s.Detach(w)
		if other := descriptor(t, s.Raw()); s.NetConn() != nil || w.moves != 2*i+1 || other == fd {
			t.Errorf("detached: %v, %d moves, descriptor %d", s.NetConn(), w.moves, other)
		}
		if tcp.SetNoDelay(true); options() != before {
			t.Error("the net.Conn of before has the socket still")
		}
		check := func() {
			t.Helper()
			if l, r := s.LocalAddr().String(), s.RemoteAddr().String(); l != local || r != remote || options() != before {
				t.Errorf("between %s and %s with %v, before %s and %s with %v", l, r, options(), local, remote, before)
			}
			peer.Write([]byte("in"))
			waitInput(t, s)
			if n, err := s.Read(make([]byte, 10)); n != 2 || err != nil {
				t.Errorf("Read: %d, %v", n, err)
			}
			b := make([]byte, 3)
			if n, err := s.Write([]byte("out")); n != 3 || err != nil {
				t.Errorf("Write: %d, %v", n, err)
			} else if _, err := io.ReadFull(peer, b); err != nil || string(b) != "out" {
				t.Errorf("the peer reads %q, %v", b, err)
			}
		}
		waitInputOf(t, s, peer)
		check()
		if s.NetConn() != nil {
			t.Error("what does not wait has made a net.Conn")
		}
		for range 2 {
			if err := attach(s); err != nil || s.NetConn() == nil || w.moves != 2*i+2 {
				t.Errorf("attached: %v, %v, %d moves", err, s.NetConn(), w.moves)
			}
		}
		check()
	}
	s.Detach(w)
	tcp.Close() // is another's by now
	s.Abort()
	if n, err := peer.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("after Abort the peer reads %d, %v", n, err)
	}
	if s.RemoteAddr().String() != remote || s.LocalAddr().String() != local {
		t.Error("the addresses are forgotten")
	}
	for what, err := range map[string]error{
		"Abort": s.Abort(), "Attach": attach(s), "Control": s.Raw().Control(func(uintptr) { t.Error("a descriptor that is closed is used") }),
	} {
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s after Abort: %v", what, err)
		}
	}
	s.Detach(w)
}

// wantCall is want where the clock is real.
func wantCall(t *testing.T, what string, got result, n int, err error) {
	t.Helper()
	if got.n != n || !errors.Is(got.err, err) {
		t.Errorf("%s: %d, %v, want %d, %v", what, got.n, got.err, n, err)
	}
}

// waitInputOf leaves one byte that has come for certain, and reads it.
func waitInputOf(t *testing.T, s Conn, peer net.Conn) {
	t.Helper()
	peer.Write([]byte("x"))
	waitInput(t, s)
	if n, err := s.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	peer.Write([]byte("x"))
	waitInput(t, s)
	if n, err := s.TryFill(&shelf{size: 1}); n != 1 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
}

// Who uses the connection keeps the net.Conn, and a watcher's refusal too.
func TestDetachRefused(t *testing.T) {
	s, peer := overTCP(t, time.Hour)
	s.MayDetach()
	clog(t, s)
	w := &watcher{err: errors.New("too many")}
	if s.Detach(w); w.moves != 1 || s.NetConn() == nil {
		t.Errorf("against the watcher's will: %d, %v", w.moves, s.NetConn())
	}
	w.err = nil
	waits := make(chan struct{}, 100)
	read := inBackground(func() (int, error) {
		return s.Fill(&shelf{size: 1, dropped: func() { waits <- struct{}{} }}, true)
	})
	<-waits
	if s.Detach(w); s.NetConn() == nil {
		t.Error("detached under a read that waits")
	}
	peer.Write([]byte("x"))
	wantCall(t, "the read", <-read, 1, nil)

	s.Detach(w)
	w.err = errors.New("too many")
	if err := attach(s); err == nil || s.NetConn() != nil {
		t.Errorf("attached against the watcher's will: %v, %v", err, s.NetConn())
	}
	w.err = nil
	s.Abort()
	if s, _ := overTCP(t, 0); true {
		s.MayDetach()
		s.Abort()
		if s.Detach(w); s.NetConn() == nil {
			t.Error("detached after Abort")
		}
	}
}

// Deadlines that were asked for while there was no net.Conn hold for the next.
func TestDeadlinesOfTheDetached(t *testing.T) {
	detached = true
	defer func() { detached = false }()
	s, _ := overTCP(t, time.Hour)
	s.In().Interrupt()
	wantCall(t, "a read", <-inBackground(func() (int, error) { return s.Read(make([]byte, 1)) }), 0, os.ErrDeadlineExceeded)
	if s.NetConn() != nil {
		t.Error("a net.Conn was made for nothing")
	}
	if attach(s); !s.In().Resume() {
		t.Error("the interrupt is forgotten")
	}
	s, _ = overTCP(t, time.Hour)
	s.In().Interrupt()
	attach(s)
	wantCall(t, "a read", <-inBackground(func() (int, error) { return s.Read(make([]byte, 1)) }), 0, os.ErrDeadlineExceeded)

	s, peer := overTCP(t, time.Hour)
	c := clogged(t, s, peer)
	s.Out().Interrupt()
	c.wantCut(t, "a write", <-inBackground(func() (int, error) { return s.Write(tooMuch) }), os.ErrDeadlineExceeded)
	s.Out().Resume()
	s.Out().Bound(time.Millisecond)
	c.wantCut(t, "a write", <-inBackground(func() (int, error) { return s.Write(tooMuch) }), os.ErrDeadlineExceeded)
	c.wantTaken(t)
}

// withoutDescriptors runs f while none can be made.
func withoutDescriptors(t *testing.T, f func(again func())) {
	t.Helper()
	var all syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &all); err != nil {
		t.Fatal(err)
	}
	none := all
	none.Cur = 3
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		t.Skip(err)
	}
	again := func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &all); err != nil {
			t.Fatal(err)
		}
	}
	defer again()
	f(again)
}

// Where there are no descriptors, what would wait for input or room is served
// all the same, and ends when it should.
func TestWithoutDescriptors(t *testing.T) {
	detached = true
	defer func() { detached = false }()
	// reading is a read that has found nothing, more than once.
	reading := func(s Conn) <-chan result {
		tries := make(chan struct{}, 10_000)
		read := inBackground(func() (int, error) {
			return s.Fill(&shelf{size: 1, dropped: func() { tries <- struct{}{} }}, true)
		})
		<-tries
		<-tries
		return read
	}
	writing := func(s Conn, p []byte) <-chan result {
		write := inBackground(func() (int, error) { return s.Write(p) })
		for armed := false; !armed; runtime.Gosched() {
			d := &s.(*socket).deadlines
			d.mu[out].Lock()
			armed = d.armed
			d.mu[out].Unlock()
		}
		return write
	}
	for _, tt := range []struct {
		name string
		f    func(t *testing.T, s Conn, peer *net.TCPConn, again func())
	}{
		{"a read sees what comes", func(t *testing.T, s Conn, peer *net.TCPConn, _ func()) {
			if err := attach(s); !errors.Is(err, syscall.EMFILE) {
				t.Fatalf("attach: %v", err)
			}
			read := reading(s)
			peer.Write([]byte("x"))
			wantCall(t, "the read", <-read, 1, nil)
		}},
		{"a read is interrupted", func(t *testing.T, s Conn, _ *net.TCPConn, _ func()) {
			read := reading(s)
			s.In().Interrupt()
			wantCall(t, "the read", <-read, 0, os.ErrDeadlineExceeded)
		}},
		{"a read has a deadline", func(t *testing.T, s Conn, _ *net.TCPConn, _ func()) {
			start := time.Now()
			s.In().After(10 * time.Millisecond)
			r := <-inBackground(func() (int, error) { return s.Read(make([]byte, 1)) })
			if wantCall(t, "the read", r, 0, os.ErrDeadlineExceeded); time.Since(start) < 10*time.Millisecond {
				t.Errorf("after %v", time.Since(start))
			}
		}},
		{"a deadline is taken back", func(t *testing.T, s Conn, peer *net.TCPConn, _ func()) {
			s.In().After(time.Nanosecond)
			s.In().Interrupt()
			s.In().Resume()
			read := reading(s)
			peer.Write([]byte("x"))
			wantCall(t, "the read", <-read, 1, nil)
		}},
		{"a read ends with the connection", func(t *testing.T, s Conn, _ *net.TCPConn, _ func()) {
			read := reading(s)
			s.Abort()
			wantCall(t, "the read", <-read, 0, net.ErrClosed)
		}},
		{"a write goes on when there is room", func(t *testing.T, s Conn, peer *net.TCPConn, _ func()) {
			before := clog(t, s)
			write := writing(s, tooMuch)
			go io.CopyN(io.Discard, peer, before+int64(len(tooMuch)))
			wantCall(t, "the write", <-write, len(tooMuch), nil)
		}},
		{"a write is interrupted", func(t *testing.T, s Conn, peer *net.TCPConn, _ func()) {
			c := clogged(t, s, peer)
			write := writing(s, tooMuch)
			s.Out().Interrupt()
			c.wantCut(t, "the write", <-write, os.ErrDeadlineExceeded)
			c.wantTaken(t)
		}},
		{"a write has its bound", func(t *testing.T, s Conn, peer *net.TCPConn, _ func()) {
			c := clogged(t, s, peer)
			s.Out().Bound(20 * time.Millisecond)
			r := <-inBackground(func() (int, error) { return s.Write(tooMuch) })
			if c.wantCut(t, "the write", r, os.ErrDeadlineExceeded); r.in < 20*time.Millisecond {
				t.Errorf("after %v", r.in)
			}
			c.wantTaken(t)
		}},
		{"descriptors come back", func(t *testing.T, s Conn, peer *net.TCPConn, again func()) {
			read := reading(s)
			again()
			for s.NetConn() == nil {
				runtime.Gosched()
			}
			peer.Write([]byte("x"))
			wantCall(t, "the read", <-read, 1, nil)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, peer := overTCP(t, time.Hour)
			withoutDescriptors(t, func(again func()) { tt.f(t, s, peer, again) })
		})
	}
}

// A deadline that was set without a net.Conn is that of the next one.
func TestDeadlineIsHandedOn(t *testing.T) {
	detached = true
	defer func() { detached = false }()
	s, _ := overTCP(t, time.Hour)
	start := time.Now()
	s.In().After(20 * time.Millisecond)
	attach(s)
	r := <-inBackground(func() (int, error) { return s.Read(make([]byte, 1)) })
	if wantCall(t, "the read", r, 0, os.ErrDeadlineExceeded); time.Since(start) < 20*time.Millisecond {
		t.Errorf("after %v", time.Since(start))
	}
	s, peer := overTCP(t, time.Hour)
	s.In().After(time.Nanosecond)
	s.In().Interrupt()
	s.In().Resume()
	attach(s)
	read := inBackground(func() (int, error) { return s.Read(make([]byte, 1)) })
	peer.Write([]byte("x"))
	wantCall(t, "a read after that", <-read, 1, nil)
}

// A net.Conn may know no peer: that of net.FileConn of a socket that was reset.
func TestDetachWithoutAddresses(t *testing.T) {
	s, peer := overTCP(t, 0)
	peer.SetLinger(0)
	peer.Close()
	s.Read(make([]byte, 1))
	var c net.Conn
	s.Raw().Control(func(fd uintptr) {
		nc, err := connOf(int(fd))
		if err != nil {
			t.Fatal(err)
		}
		c = nc
	})
	other := New(c, 0)
	defer other.Abort()
	other.MayDetach()
	if other.Detach(&watcher{}); other.NetConn() == nil {
		t.Error("detached, and nobody knows the peer any more")
	}
	if got := other.RemoteAddr(); got != c.RemoteAddr() {
		t.Errorf("the peer is %v, before %v", got, c.RemoteAddr())
	}
}

// The net.Conn comes and goes while everything else goes on, and not a byte is
// lost. At the end it is cut in the midst of that.
func TestDetachRace(t *testing.T) {
	for range 10 {
		s, peer := overTCP(t, time.Hour)
		s.MayDetach()
		const size = 1 << 20
		sent := make([]byte, size)
		for i := range sent {
			sent[i] = byte(i * 31 >> 3)
		}
		var both sync.WaitGroup
		both.Go(func() { // the peer echoes
			io.CopyN(peer, peer, size)
		})
		both.Go(func() {
			for p := sent; len(p) > 0; {
				n := min(len(p), 1+len(p)%5000)
				if m, err := s.Write(p[:n]); err != nil || m != n {
					t.Errorf("Write: %d, %v", m, err)
					s.Abort()
					return
				}
				p = p[n:]
			}
		})
		got := make([]byte, 0, size)
		both.Go(func() {
			for len(got) < size {
				room := &shelf{size: 4000}
				fill := s.TryFill
				if len(got)%3 == 0 {
					fill = func(room Room) (int, error) { return s.Fill(room, true) }
				}
				n, err := fill(room)
				got = append(got, room.open[:n]...)
				switch {
				case err == ErrNotReady:
				case errors.Is(err, os.ErrDeadlineExceeded):
					s.In().Resume()
				case err != nil:
					t.Errorf("reading: %v", err)
					return
				}
			}
		})
		done := make(chan struct{})
		var others sync.WaitGroup
		for _, f := range []func(){
			func() { s.Detach(&watcher{}) },
			func() { s.HasInput() },
			func() { s.In().Interrupt() },
			func() { _ = s.RemoteAddr().String() },
			func() { attach(s) },
		} {
			others.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
						f()
					}
				}
			})
		}
		both.Wait()
		if !bytes.Equal(got, sent) {
			t.Error("something else has arrived")
		}
		s.Abort()
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("after Abort: %v", err)
		}
		close(done)
		others.Wait()
	}
}

// A listener of Go's accepts multipath TCP where the client asks for it.
func TestDetachMultipath(t *testing.T) {
	var config net.ListenConfig
	config.SetMultipathTCP(true)
	l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var dialer net.Dialer
	dialer.SetMultipathTCP(true)
	peer, err := dialer.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	here, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if multi, _ := here.(*net.TCPConn).MultipathTCP(); !multi {
		t.Log("this system has plain TCP only")
	}
	s := New(here, time.Hour)
	defer s.Abort()
	s.MayDetach()
	for range 3 {
		if s.Detach(&watcher{}); s.NetConn() != nil {
			t.Fatal("attached")
		}
		waitInputOf(t, s, peer)
		if n, err := s.Write([]byte("x")); n != 1 || err != nil {
			t.Errorf("Write: %d, %v", n, err)
		} else if n, err := peer.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Errorf("the peer reads %d, %v", n, err)
		}
		if err := attach(s); err != nil {
			t.Error(err)
		}
	}
}
