//go:build linux

package poll

import (
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Len returns how many descriptors there are.
func (p *Poller[W]) Len() int {
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	return p.table.used
}

// A sleeper counts its wakes.
type sleeper struct {
	wakes chan struct{}
	woken func()
}

func (s *sleeper) Wake() {
	if s.woken != nil {
		s.woken()
	}
	s.wakes <- struct{}{}
}

func newSleeper() *sleeper { return &sleeper{wakes: make(chan struct{}, 1000)} }

func (s *sleeper) want(t *testing.T, what string) {
	t.Helper()
	select {
	case <-s.wakes:
	case <-time.After(time.Minute):
		t.Fatalf("%s: no wake", what)
	}
}

// A room has a Poller and one descriptor, canary, whose wake comes after all
// those that were due before it.
type room struct {
	t *testing.T
	p *Poller[*sleeper]

	canary     *sleeper
	raw        syscall.RawConn
	here, peer *net.TCPConn
	token      Token
}

func inRoom(t *testing.T, f func(r *room)) {
	t.Helper()
	p, err := New[*sleeper]()
	if err != nil {
		t.Fatal(err)
	}
	r := &room{t: t, p: p, canary: newSleeper()}
	r.here, r.peer, r.raw = pair(t)
	r.token = r.add(r.raw, r.canary)
	f(r)
	p.Close()
	if n := len(r.canary.wakes); n != 0 {
		t.Errorf("%d wakes too many", n)
	}
}

// pair are two ends of a connection.
func pair(t *testing.T) (here, peer *net.TCPConn, raw syscall.RawConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	here, peer = b.(*net.TCPConn), a.(*net.TCPConn)
	if raw, err = here.SyscallConn(); err != nil {
		t.Fatal(err)
	}
	return here, peer, raw
}

func (r *room) add(raw syscall.RawConn, s *sleeper) Token {
	r.t.Helper()
	token, err := r.p.Add(raw, s)
	if err != nil {
		r.t.Fatal(err)
	}
	return token
}

func (r *room) arm(raw syscall.RawConn, token Token) {
	r.t.Helper()
	if err := r.p.Arm(raw, token); err != nil {
		r.t.Fatal(err)
	}
}

// settle returns when what was due has been told.
func (r *room) settle() {
	r.t.Helper()
	for range 2 { // one may have been on its way beside another
		r.arm(r.raw, r.token)
		r.peer.Write([]byte("x"))
		r.canary.want(r.t, "the canary")
		r.here.Read(make([]byte, 10))
	}
}

func TestOneWakeForOneArm(t *testing.T) {
	inRoom(t, func(r *room) {
		here, peer, raw := pair(t)
		s := newSleeper()
		token := r.add(raw, s)
		peer.Write([]byte("a"))
		if r.settle(); len(s.wakes) != 0 {
			t.Fatal("woken without Arm")
		}
		for range 3 { // with what is there still
			r.arm(raw, token)
			s.want(t, "armed with input there")
			peer.Write([]byte("b"))
			if r.settle(); len(s.wakes) != 0 {
				t.Fatal("woken twice for one Arm")
			}
		}
		io.ReadFull(here, make([]byte, len("abbb"))) // the last may be on its way still
		r.arm(raw, token)
		if r.settle(); len(s.wakes) != 0 {
			t.Fatal("woken with nothing there")
		}
		peer.Write([]byte("c"))
		s.want(t, "input comes")
		here.Read(make([]byte, 100))
		r.arm(raw, token)
		r.arm(raw, token) // again: one wake all the same
		peer.Write([]byte("d"))
		s.want(t, "input comes")
		if r.settle(); len(s.wakes) != 0 {
			t.Fatal("woken twice for one Arm after another")
		}
	})
}

func TestWakeOnTheEnd(t *testing.T) {
	for name, end := range map[string]func(peer *net.TCPConn){
		"FIN":        func(peer *net.TCPConn) { peer.CloseWrite() },
		"close":      func(peer *net.TCPConn) { peer.Close() },
		"RST":        func(peer *net.TCPConn) { peer.SetLinger(0); peer.Close() },
		"data, FIN":  func(peer *net.TCPConn) { peer.Write([]byte("x")); peer.CloseWrite() },
		"FIN, close": func(peer *net.TCPConn) { peer.CloseWrite(); peer.Close() },
	} {
		for _, early := range []bool{false, true} {
			inRoom(t, func(r *room) {
				_, peer, raw := pair(t)
				s := newSleeper()
				token := r.add(raw, s)
				if early {
					end(peer)
				}
				r.arm(raw, token)
				if !early {
					end(peer)
				}
				s.want(t, name)
			})
		}
	}
}

func TestNoWakeForWhoIsRemoved(t *testing.T) {
	inRoom(t, func(r *room) {
		_, peer, raw := pair(t)
		gone := newSleeper()
		old := r.add(raw, gone)
		r.arm(raw, old)
		if n := r.p.Len(); n != 2 {
			t.Errorf("%d descriptors, want 2", n)
		}
		r.p.Remove(old)
		r.p.Remove(old) // once more does nothing
		if n := r.p.Len(); n != 1 {
			t.Errorf("%d descriptors, want 1", n)
		}
		// Another one has its slot; the descriptor of the old one is watched
		// still.
		_, peer2, raw2 := pair(t)
		s := newSleeper()
		token := r.add(raw2, s)
		if token.slot != old.slot || token == old {
			t.Fatalf("the slot of %v is not used again for %v", old, token)
		}
		peer.Write([]byte("x"))
		if r.settle(); len(gone.wakes)+len(s.wakes) != 0 {
			t.Errorf("who was removed is woken %d times, who has its slot %d times", len(gone.wakes), len(s.wakes))
		}
		r.p.Remove(old) // late: the slot is another's
		r.arm(raw2, token)
		peer2.Write([]byte("x"))
		s.want(t, "who has the slot")
		r.p.Remove(token)
		if w := r.p.table.find(token); w != nil {
			t.Error("a token that was removed finds somebody")
		}
	})
}

func TestSlotsAreUsedAgain(t *testing.T) {
	var tb table[*sleeper]
	rng := rand.New(rand.NewPCG(1, 2))
	model := map[Token]*sleeper{}
	seen := map[Token]bool{}
	var tokens []Token
	for range 20_000 {
		if len(tokens) == 0 || len(tokens) < 50 && rng.IntN(2) == 0 {
			w := new(sleeper)
			k := tb.add(w)
			if seen[k] {
				t.Fatalf("the token %v is given twice", k)
			}
			seen[k], model[k] = true, w
			tokens = append(tokens, k)
		} else {
			i := rng.IntN(len(tokens))
			k := tokens[i]
			tokens[i] = tokens[len(tokens)-1]
			tokens = tokens[:len(tokens)-1]
			tb.remove(k)
			delete(model, k)
			if tb.find(k) != nil {
				t.Fatalf("%v is removed and found", k)
			}
		}
		for _, k := range tokens {
			if tb.find(k) != model[k] {
				t.Fatalf("%v finds another", k)
			}
		}
		if tb.used != len(model) {
			t.Fatalf("%d used, want %d", tb.used, len(model))
		}
	}
	if len(tb.slots) > 50 {
		t.Errorf("%d slots for at most 50 at a time", len(tb.slots))
	}
}

func TestClosedDescriptor(t *testing.T) {
	inRoom(t, func(r *room) {
		here, _, raw := pair(t)
		s := newSleeper()
		token := r.add(raw, s)
		r.arm(raw, token)
		here.Close()
		if r.settle(); len(s.wakes) != 0 {
			t.Error("woken by this side's close")
		}
		if err := r.p.Arm(raw, token); err == nil {
			t.Error("a closed descriptor can be armed")
		}
		before := r.p.Len()
		if _, err := r.p.Add(raw, s); err == nil || r.p.Len() != before {
			t.Errorf("a closed descriptor is added: %v, %d of %d", err, r.p.Len(), before)
		}
	})
}

// Close waits for the wake in progress; after it nobody is woken, and Arm and
// Add fail.
func TestCloseDuringAWake(t *testing.T) {
	p, err := New[*sleeper]()
	if err != nil {
		t.Fatal(err)
	}
	_, peer, raw := pair(t)
	_, peer2, raw2 := pair(t)
	inside, release := make(chan struct{}), make(chan struct{})
	s := newSleeper()
	s.woken = func() {
		close(inside)
		<-release
	}
	token, _ := p.Add(raw, s)
	late := newSleeper()
	token2, _ := p.Add(raw2, late)
	if err := p.Arm(raw, token); err != nil {
		t.Fatal(err)
	}
	peer.Write([]byte("x"))
	<-inside
	if err := p.Arm(raw2, token2); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		p.Close()
		close(done)
	}()
	for p.Arm(raw2, token2) == nil { // until it is being closed
		runtime.Gosched()
	}
	peer2.Write([]byte("x"))
	select {
	case <-done:
		t.Error("Close returns while a wake is in progress")
	case <-time.After(20 * time.Millisecond):
	}
	close(release)
	<-done
	if len(late.wakes) != 0 {
		t.Error("woken after Close")
	}
	if err := p.Arm(raw2, token2); err == nil {
		t.Error("Arm after Close succeeds")
	}
	if _, err := p.Add(raw2, late); err == nil {
		t.Error("Add after Close succeeds")
	}
	p.Remove(token2)
}

// More than one batch that is ready at once: all are woken, each once.
func TestManyAtOnce(t *testing.T) {
	const many = 2*batch + 10
	inRoom(t, func(r *room) {
		inside := make(chan struct{})
		held := newSleeper()
		held.woken = func() { <-inside } // holds the poller up
		_, peer, raw := pair(t)
		token := r.add(raw, held)
		peer.Write([]byte("x"))
		r.arm(raw, token)
		sleepers := make([]*sleeper, many)
		for i := range sleepers {
			_, peer, raw := pair(t)
			sleepers[i] = newSleeper()
			peer.Write([]byte("x"))
			r.arm(raw, r.add(raw, sleepers[i]))
		}
		close(inside)
		for _, s := range sleepers {
			s.want(t, "one of many")
		}
		r.settle()
		for _, s := range sleepers {
			if len(s.wakes) != 0 {
				t.Error("woken twice")
			}
		}
	})
}

// No wake is lost, wherever input meets Arm, and beside others that come and
// go.
func TestWakeRace(t *testing.T) {
	inRoom(t, func(r *room) {
		var wg sync.WaitGroup
		for i := range 8 {
			here, peer, raw := pair(t)
			s := newSleeper()
			token := r.add(raw, s)
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(i), 1))
				for range 300 {
					wrote := make(chan struct{})
					go func() {
						peer.Write([]byte("x"))
						close(wrote)
					}()
					for range rng.IntN(20) {
						runtime.Gosched()
					}
					if err := r.p.Arm(raw, token); err != nil {
						t.Error(err)
						return
					}
					select {
					case <-s.wakes:
					case <-time.After(time.Minute):
						t.Error("a wake is lost")
						return
					}
					<-wrote
					here.Read(make([]byte, 10))
				}
			})
		}
		wg.Go(func() {
			for range 300 {
				here, peer, raw := pair(t)
				s := newSleeper()
				token := r.add(raw, s)
				r.arm(raw, token)
				peer.Write([]byte("x"))
				here.Close()
				peer.Close()
				r.p.Remove(token)
			}
		})
		wg.Wait()
	})
}

// Those who are woken in a burst run before more are woken, or there would be as
// many of them at a time as descriptors.
func TestBurst(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	inRoom(t, func(r *room) {
		const n = 500
		here, peer, _ := pair(t)
		peer.Write([]byte("x"))
		waitReadable(t, here)
		var mu sync.Mutex
		var at, most int
		var done sync.WaitGroup
		done.Add(n)
		tokens := make([]Token, 0, n)
		fds := make([]syscall.RawConn, 0, n)
		for range n {
			// Each is another descriptor of the socket, which can be read.
			f, err := here.File()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			fd, err := f.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			s := newSleeper()
			s.woken = func() {
				mu.Lock()
				at++
				most = max(most, at)
				mu.Unlock()
				go func() {
					defer done.Done()
					mu.Lock()
					at--
					mu.Unlock()
				}()
			}
			fds, tokens = append(fds, fd), append(tokens, r.add(fd, s))
		}
		for i, token := range tokens {
			r.arm(fds[i], token)
		}
		done.Wait()
		if most > n/4 {
			t.Errorf("%d of %d at a time", most, n)
		}
		for _, token := range tokens {
			r.p.Remove(token)
		}
	})
}

// waitReadable returns when conn can be read.
func waitReadable(t *testing.T, conn *net.TCPConn) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if err := raw.Read(func(fd uintptr) bool {
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return n > 0 || err != syscall.EAGAIN
	}); err != nil {
		t.Fatal(err)
	}
}
