package websocket

import (
	"context"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Connections that are without their net.Conn now and then.

// move has the net.Conn of c come, or go as park has it go.
func move(c *Conn) {
	_ = c.t.(interface{ Attach() error }).Attach()
	if c.turn.Take(turnLook) {
		c.t.Detach((*member)(c))
		c.turn.Give()
	}
}

// moving moves the connection until the function it returns is called.
func moving(c *Conn) (stop func()) {
	var wg sync.WaitGroup
	var over atomic.Bool
	wg.Go(func() {
		for !over.Load() {
			move(c)
			runtime.Gosched()
		}
	})
	return func() {
		over.Store(true)
		wg.Wait()
	}
}

// No wake is lost while the descriptor changes.
func TestWakesWhileMoving(t *testing.T) {
	rounds := 200
	if testing.Short() {
		rounds = 50
	}
	inDepot(t, overBare, quick, func(t *testing.T, d *depot) {
		var all sync.WaitGroup
		for range 4 {
			_, v, c := d.open("each message is heard")
			e := newTape()
			c.Start(e)
			untilParked(t, c)
			all.Go(func() {
				defer moving(c)()
				for i := range rounds {
					v.TCPConn.Write(sealed(0x82, "x"))
					select {
					case <-e.heard:
					case <-time.After(20 * time.Second):
						t.Errorf("message %d is not heard: parked %v, turn %d", i, c.parked.Load(), c.turn.Holder())
						return
					}
					for range rand.IntN(200) {
						runtime.Gosched()
					}
				}
			})
		}
		all.Wait()
	})
}

// However a connection ends while its descriptor changes, it ends.
func TestEndsWhileMoving(t *testing.T) {
	config := Config{PingInterval: -1, CloseTimeout: 20 * time.Millisecond, WriteTimeout: 50 * time.Millisecond}
	inDepot(t, overBare, config, func(t *testing.T, d *depot) {
		for i := range 40 {
			_, v, c := d.open("it ends")
			e := newTape()
			c.Start(e)
			untilParked(t, c)
			stop := moving(c)
			v.TCPConn.Write(sealed(0x82, "x"))
			_ = c.Send(Binary, make([]byte, rand.IntN(1<<18)))
			for range rand.IntN(1000) {
				runtime.Gosched()
			}
			switch i % 4 {
			case 0:
				c.Close(4000, "")
			case 1:
				c.CloseNow()
			case 2:
				v.TCPConn.Write(sealed(0x88, ""))
			case 3:
				v.TCPConn.SetLinger(0)
				v.TCPConn.Close()
			}
			go func() { // it hears the end, and hangs up
				io.Copy(io.Discard, struct{ io.Reader }{v.TCPConn})
				v.TCPConn.Close()
			}()
			select {
			case <-c.Context().Done():
			case <-time.After(20 * time.Second):
				t.Fatalf("%d: it does not end: %v", i, c.ended())
			}
			stop()
		}
	})
}

// fewDescriptors leaves room for n more until the function it returns is called.
func fewDescriptors(t *testing.T, n int) (again func()) {
	t.Helper()
	var all syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &all); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	few := all
	few.Cur = uint64(f.Fd()) + uint64(n)
	f.Close()
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
		t.Skip(err)
	}
	return func() { _ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &all) }
}

// K-13: what was accepted before Close goes out, and the peer's Close is waited
// for, also where there is no descriptor to wait with.
func TestCloseWithoutDescriptors(t *testing.T) {
	// However busy the machine, the peer's Close comes in time.
	config := quick
	config.CloseTimeout, config.WriteTimeout = time.Minute, time.Minute
	heard := make(chan StatusCode, 1)
	config.Trace = &Trace{Closed: func(_ *Conn, end Closing) { heard <- end.PeerCode }}
	for _, on := range []kind{overPlain, overBare} {
		for _, size := range []int{0, 20 << 20} {
			t.Run(string(on), func(t *testing.T) {
				inDepot(t, on, config, func(t *testing.T, d *depot) {
					_, v, c := d.open("it is closed as it should be")
					e := newTape()
					c.Start(e)
					untilParked(t, c)
					soon(t, "it is detached", func() bool { return on != overBare || c.t.NetConn() == nil })
					defer fewDescriptors(t, 0)()
					want := int64(4)
					if size > 0 {
						if err := c.Send(Binary, make([]byte, size)); err != nil {
							t.Fatal(err)
						}
						want += int64(10 + size)
					}
					c.Close(4000, "")
					if n, err := io.CopyN(io.Discard, v, want); err != nil {
						t.Fatalf("after %d bytes of %d: %v", n, want, err)
					}
					v.TCPConn.Write(sealed(0x88, "\x0f\xa0"))
					if n, err := io.Copy(io.Discard, struct{ io.Reader }{v}); n != 0 || err != nil {
						t.Errorf("then %d bytes, %v", n, err)
					}
					v.TCPConn.Close()
					<-c.Context().Done()
					if code := <-heard; code != 4000 {
						t.Errorf("the peer's Close was not heard: %d", code)
					}
				})
			})
		}
	}
}

// Very many connections are closed at once with few descriptors to spare.
func TestShutdownWithFewDescriptors(t *testing.T) {
	conns := 200
	if testing.Short() {
		conns = 50
	}
	inDepot(t, overBare, quick, func(t *testing.T, d *depot) {
		d.u.ShutdownWindow = -1
		var peers sync.WaitGroup
		var clean atomic.Int32
		var all []*valve
		for range conns {
			_, v, c := d.open("it is closed as it should be")
			c.Start(newTape())
			untilParked(t, c)
			all = append(all, v)
		}
		defer fewDescriptors(t, 8)()
		for _, v := range all {
			peers.Go(func() {
				b := make([]byte, 4)
				if _, err := io.ReadFull(v, b); err != nil {
					return
				}
				v.TCPConn.Write(sealed(0x88, "\x03\xe9"))
				if _, err := io.ReadAll(v); err == nil {
					clean.Add(1)
				}
				v.TCPConn.Close()
			})
		}
		if err := d.u.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		peers.Wait()
		if n := int(clean.Load()); n != conns {
			t.Errorf("%d of %d were closed as they should be", n, conns)
		}
	})
}
