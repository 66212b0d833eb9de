package memconn

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

var past = time.Unix(1, 0)

// end is a Conn whose traffic a test writes down line by line.
type end struct {
	*Conn
	t *testing.T
}

func ends(t *testing.T) (a, b end) {
	x, y := Pair()
	return end{x, t}, end{y, t}
}

func (e end) write(s string) {
	e.t.Helper()
	if n, err := e.Write([]byte(s)); n != len(s) || err != nil {
		e.t.Fatalf("%s: Write(%q) = %d, %v", e.local, s, n, err)
	}
}

func (e end) writeFails(s string, wantN int, want error) {
	e.t.Helper()
	if n, err := e.Write([]byte(s)); n != wantN || !errors.Is(err, want) {
		e.t.Fatalf("%s: Write(%q) = %d, %v; want %d, %v", e.local, s, n, err, wantN, want)
	}
}

// reads wants each of the strings from one call of Read.
func (e end) reads(want ...string) {
	e.t.Helper()
	for _, s := range want {
		p := make([]byte, 1024)
		if n, err := e.Read(p); string(p[:n]) != s || err != nil {
			e.t.Fatalf("%s: Read = %q, %v; want %q", e.local, p[:n], err, s)
		}
	}
}

func (e end) readFails(want error) {
	e.t.Helper()
	if n, err := e.Read(make([]byte, 1)); n != 0 || !errors.Is(err, want) || want == io.EOF && err != io.EOF {
		e.t.Fatalf("%s: Read = %d, %v; want %v", e.local, n, err, want)
	}
}

func (e end) does(what string, f func() error, want error) {
	e.t.Helper()
	if err := f(); !errors.Is(err, want) {
		e.t.Fatalf("%s: %s = %v, want %v", e.local, what, err, want)
	}
}

func (e end) unread(want int) {
	e.t.Helper()
	if n := e.Unread(); n != want {
		e.t.Fatalf("%s: Unread = %d, want %d", e.local, n, want)
	}
}

func TestBuffered(t *testing.T) {
	a, b := ends(t)
	a.write("one ")
	a.write("") // nothing to wait for
	a.write("two")
	b.unread(7)
	a.unread(0)
	b.reads("one two")
	b.write("and ")
	b.write("back")
	a.reads("and back")
	if n, err := a.Read(nil); n != 0 || err != nil {
		t.Errorf("Read into no space = %d, %v; want 0, nil at once", n, err)
	}
}

func TestWriteWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := ends(t)
		a.SetBuffer(4)
		done := false
		go func() {
			a.write("abcdefghij")
			done = true
		}()
		p := make([]byte, 2)
		for _, s := range []string{"ab", "cd", "ef"} {
			synctest.Wait()
			b.unread(4)
			if done {
				t.Fatal("Write returned before the buffer had taken all")
			}
			if n, err := b.Read(p); string(p[:n]) != s || err != nil {
				t.Fatalf("Read = %q, %v; want %q", p[:n], err, s)
			}
		}
		synctest.Wait()
		if !done {
			t.Error("Write still waits though the buffer has taken all")
		}
		b.reads("ghij")
	})
}

func TestSetBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := ends(t)
		go a.Write(make([]byte, 1<<20))
		synctest.Wait()
		b.unread(64 << 10)
		for _, step := range []struct{ size, read, unread int }{
			{70_000, 0, 70_000}, // a Write that waits sees it
			{50_000, 0, 70_000}, // what is there stays
			{50_000, 19_999, 50_001},
			{50_000, 2, 50_000},
			{10, 49_991, 10},
			{0, 10, 1}, // at least 1, or nothing would ever move
			{-1, 1, 1},
		} {
			a.SetBuffer(step.size)
			if _, err := io.CopyN(io.Discard, b, int64(step.read)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			b.unread(step.unread)
		}
		a.Close()
	})
}

func TestHalfClose(t *testing.T) {
	a, b := ends(t)
	a.write("last words")
	a.does("CloseWrite", a.CloseWrite, nil)
	a.does("second CloseWrite", a.CloseWrite, nil)
	a.writeFails("more", 0, syscall.EPIPE)
	b.reads("last words")
	b.readFails(io.EOF)
	b.readFails(io.EOF)
	b.write("still heard")
	a.reads("still heard")
	b.does("Close", b.Close, nil)
	a.readFails(io.EOF)
}

func TestEndings(t *testing.T) {
	for _, test := range []struct {
		name string
		run  func(a, b end)
	}{
		{"Close without unread input: the rest, EOF, EPIPE", func(a, b end) {
			a.write("bye")
			a.does("Close", a.Close, nil)
			b.reads("bye")
			b.readFails(io.EOF)
			b.writeFails("late", 0, syscall.EPIPE)
			b.writeFails("later", 0, syscall.EPIPE)
			b.readFails(io.EOF)
			b.write("") // no bytes, no answer
		}},
		{"Close with unread input: a reset, the rest is lost", func(a, b end) {
			a.write("close frame")
			b.write("never read")
			a.does("Close", a.Close, nil)
			b.unread(0)
			b.readFails(syscall.ECONNRESET)
			b.writeFails("late", 0, syscall.ECONNRESET)
			b.does("CloseWrite", b.CloseWrite, syscall.ECONNRESET)
			b.does("Close", b.Close, nil)
		}},
		{"Close after the half-close with unread input: a reset destroys what is on the way", func(a, b end) {
			a.write("close frame")
			a.does("CloseWrite", a.CloseWrite, nil)
			b.write("never read")
			a.does("Close", a.Close, nil)
			b.readFails(syscall.ECONNRESET)
		}},
		{"Close after the half-close with unread input: what was read is not taken back", func(a, b end) {
			a.write("close frame")
			a.does("CloseWrite", a.CloseWrite, nil)
			b.reads("close frame")
			b.write("never read")
			a.does("Close", a.Close, nil)
			b.readFails(io.EOF)
			b.writeFails("late", 0, syscall.ECONNRESET)
		}},
		{"Close, then bytes from the peer: a reset destroys what it has not read", func(a, b end) {
			a.write("close frame")
			a.does("Close", a.Close, nil)
			b.writeFails("junk", 0, syscall.EPIPE)
			b.unread(0)
			b.readFails(syscall.ECONNRESET)
		}},
		{"own calls after Close", func(a, b end) {
			b.write("x")
			a.does("Close", a.Close, nil)
			a.readFails(net.ErrClosed)
			a.writeFails("x", 0, net.ErrClosed)
			a.writeFails("", 0, net.ErrClosed)
			a.does("Read(nil)", func() error { _, err := a.Read(nil); return err }, net.ErrClosed)
			a.does("CloseWrite", a.CloseWrite, net.ErrClosed)
			a.does("second Close", a.Close, net.ErrClosed)
			a.does("SetDeadline", func() error { return a.SetDeadline(past) }, net.ErrClosed)
			a.Reset() // harmless
		}},
		{"both close", func(a, b end) {
			a.does("Close", a.Close, nil)
			b.does("Close", b.Close, nil)
			b.readFails(net.ErrClosed)
		}},
		{"Reset: both ends, unread bytes are lost", func(a, b end) {
			a.write("x")
			b.write("y")
			a.Reset()
			for _, e := range []end{a, b} {
				e.unread(0)
				e.readFails(syscall.ECONNRESET)
				e.writeFails("z", 0, syscall.ECONNRESET)
				e.does("Close", e.Close, nil)
				e.readFails(net.ErrClosed)
			}
		}},
		{"Reset after Close", func(a, b end) {
			a.write("x")
			a.does("Close", a.Close, nil)
			a.Reset()
			b.readFails(syscall.ECONNRESET)
		}},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(ends(t)) })
	}
}

// Every way to end a call that waits, and what the call then returns.
func TestEndWhileWaiting(t *testing.T) {
	type result struct {
		n   int
		err error
	}
	boom := errors.New("boom")
	for _, test := range []struct {
		name        string
		end         func(a, b *Conn)
		read, write error // of a
	}{
		{"own Close", func(a, b *Conn) { a.Close() }, net.ErrClosed, net.ErrClosed},
		{"own CloseWrite", func(a, b *Conn) { a.CloseWrite(); b.Close() }, syscall.ECONNRESET, syscall.EPIPE},
		{"peer's Close", func(a, b *Conn) { b.Close() }, syscall.ECONNRESET, syscall.ECONNRESET},
		{"own Reset", func(a, b *Conn) { a.Reset() }, syscall.ECONNRESET, syscall.ECONNRESET},
		{"peer's Reset", func(a, b *Conn) { b.Reset() }, syscall.ECONNRESET, syscall.ECONNRESET},
		{"faults", func(a, b *Conn) { a.FailReadAfter(0, boom); a.FailWriteAfter(3, boom) }, boom, boom},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := Pair()
				a.SetBuffer(3)
				reads, writes := make(chan result, 2), make(chan result, 2)
				for range 2 {
					go func() {
						n, err := a.Read(make([]byte, 10))
						reads <- result{n, err}
					}()
					go func() {
						n, err := a.Write([]byte("12345"))
						writes <- result{n, err}
					}()
				}
				synctest.Wait()
				test.end(a, b)
				synctest.Wait()
				sum := 0
				for range 2 {
					if r := <-reads; r.n != 0 || !errors.Is(r.err, test.read) {
						t.Errorf("Read = %d, %v; want 0, %v", r.n, r.err, test.read)
					}
					r := <-writes
					if sum += r.n; !errors.Is(r.err, test.write) {
						t.Errorf("Write = %d, %v; want %v", r.n, r.err, test.write)
					}
				}
				if sum != 3 {
					t.Errorf("Writes say that %d bytes were taken, want 3", sum)
				}
			})
		})
	}
}

func TestErrorsLookLikeThoseOfNet(t *testing.T) {
	a, b := Pair()
	b.Write([]byte("x"))
	a.Close()
	_, err := b.Read(make([]byte, 1))
	var op *net.OpError
	var sys interface{ Timeout() bool }
	if !errors.As(err, &op) || op.Op != "read" || op.Net != "mem" || op.Source != b.LocalAddr() || op.Addr != b.RemoteAddr() {
		t.Errorf("%#v is not the *net.OpError of a read on b", err)
	}
	if !errors.As(err, &sys) || sys.Timeout() {
		t.Errorf("%v claims to be a time-out", err)
	}
	if !strings.HasPrefix(err.Error(), "read mem b->a: read: ") {
		t.Errorf("error text is %q", err)
	}
	for _, c := range []*Conn{a, b} {
		if c.LocalAddr().Network() != "mem" || c.LocalAddr().String() == c.RemoteAddr().String() {
			t.Errorf("addresses are %v and %v", c.LocalAddr(), c.RemoteAddr())
		}
	}
}

// Writes of several goroutines do not mix, whatever the buffer, and nothing is lost or doubled.
func TestConcurrentUse(t *testing.T) {
	const writers, each = 8, 200
	for _, size := range []int{1, 7, 64 << 10} {
		t.Run(fmt.Sprint("buffer ", size), func(t *testing.T) {
			a, b := Pair()
			a.SetBuffer(size)
			var wg sync.WaitGroup
			for w := range writers {
				wg.Go(func() {
					for range each {
						a.Write(bytes.Repeat([]byte{byte('a' + w)}, 5))
					}
				})
			}
			go func() {
				wg.Wait()
				a.Close()
			}()
			got, err := io.ReadAll(b)
			if err != nil || len(got) != writers*each*5 {
				t.Fatalf("read %d bytes, %v; want %d", len(got), err, writers*each*5)
			}
			for i := 0; i < len(got); i += 5 {
				if !bytes.Equal(got[i:i+5], bytes.Repeat(got[i:i+1], 5)) {
					t.Fatalf("Writes are mixed at %d: %q", i, got[i:i+5])
				}
			}
		})
	}
}

// Any method against any other, for the race detector, and at the end Close against all: nobody may be left waiting.
func TestConcurrentEverything(t *testing.T) {
	for seed := range uint64(50) {
		a, b := Pair()
		var wg sync.WaitGroup
		for g := range uint64(7) {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(seed, g))
				p := make([]byte, 1000)
				for range 100 {
					c, op := []*Conn{a, b}[r.IntN(2)], r.IntN(16)
					if g == 0 { // never waits, so that it comes to the end
						op = 6 + r.IntN(10)
					}
					switch op {
					case 0, 1, 2:
						c.Write(p[:r.IntN(1000)])
					case 3, 4, 5:
						c.Read(p)
					case 6:
						c.SetBuffer(r.IntN(1000))
					case 7:
						c.KeepSegments(r.IntN(2) == 0)
					case 8:
						c.LimitWrite(r.IntN(100))
					case 9:
						c.StallWriteAfter(int64(r.IntN(1000)))
					case 10, 11:
						c.SetReadDeadline(past)
						c.SetWriteDeadline(past)
					case 12, 13:
						c.SetDeadline(time.Time{})
					case 14:
						c.SetDeadline(time.Now().Add(time.Duration(r.IntN(100_000))))
					case 15:
						c.Unread()
					}
				}
				if g != 0 {
					return
				}
				switch seed % 3 {
				case 0:
					a.Reset()
				case 1:
					a.CloseWrite()
				}
				a.Close()
				b.Close()
			})
		}
		wg.Wait()
	}
}

// The ring against a plain slice, and its memory.
func TestRing(t *testing.T) {
	var r ring[byte]
	var want []byte
	rnd := rand.New(rand.NewPCG(1, 2))
	most := 0
	for i := range 20_000 {
		if rnd.IntN(2) == 0 {
			p := make([]byte, min(rnd.IntN(300), 1000-len(want)))
			for j := range p {
				p[j] = byte(i + j)
			}
			r.put(p)
			want = append(want, p...)
		} else {
			p := make([]byte, rnd.IntN(len(want)+1))
			r.take(p)
			if !bytes.Equal(p, want[:len(p)]) {
				t.Fatalf("step %d: the ring gives other bytes than were put", i)
			}
			want = want[len(p):]
		}
		if r.n != len(want) {
			t.Fatalf("step %d: the ring has %d bytes, want %d", i, r.n, len(want))
		}
		most = max(most, r.n)
	}
	if len(r.buf) > 2*most {
		t.Errorf("the ring has grown to %d bytes for %d", len(r.buf), most)
	}
}

func TestMemory(t *testing.T) {
	a, b := Pair()
	b.KeepSegments(true)
	p, q := make([]byte, 3000), make([]byte, 4096)
	a.Write(p)
	if allocs := testing.AllocsPerRun(1000, func() {
		a.Write(p)
		b.Read(q)
	}); allocs > 0 {
		t.Errorf("%v allocations for a Write and a Read", allocs)
	}
	if n := len(b.in.ring.buf); n > 12_000 {
		t.Errorf("the buffer has grown to %d bytes for 6000", n)
	}
	if n := len(b.in.segments.buf); n > 4 {
		t.Errorf("the list of segments has grown to %d for 2", n)
	}
	for range 2 { // with unread input, and without
		b.Close()
		if b.in.ring.buf != nil {
			t.Error("the buffer outlives its reader")
		}
		a, b = Pair()
		a.Write(p)
		b.Read(q)
	}
}
