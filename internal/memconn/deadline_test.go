package memconn

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// waits wants f to take exactly d and to end with a time-out.
func waits(t *testing.T, d time.Duration, f func() (int, error)) (n int) {
	t.Helper()
	start := time.Now()
	n, err := f()
	if took := time.Since(start); took != d {
		t.Errorf("took %v, want %v", took, d)
	}
	wantTimeout(t, err)
	return n
}

func wantTimeout(t *testing.T, err error) {
	t.Helper()
	var netErr net.Error
	if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &netErr) || !netErr.Timeout() {
		t.Errorf("error is %v, want a time-out", err)
	}
}

func (e end) readOne() (int, error)   { return e.Read(make([]byte, 1)) }
func (e end) writeFive() (int, error) { return e.Write([]byte("12345")) }

func TestDeadlineEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := ends(t)
		a.SetBuffer(3)
		a.SetReadDeadline(time.Now().Add(2 * time.Second))
		a.SetWriteDeadline(time.Now().Add(5 * time.Second))
		waits(t, 2*time.Second, a.readOne)
		if n := waits(t, 3*time.Second, a.writeFive); n != 3 {
			t.Errorf("Write says %d bytes were taken, want 3", n)
		}
		waits(t, 0, a.readOne)
		waits(t, 0, a.writeFive)
		b.reads("123") // and not one byte more
		b.unread(0)

		a.SetDeadline(time.Time{})
		b.write("x")
		a.reads("x")
		a.write("y")
		b.reads("y")

		a.SetDeadline(time.Now().Add(time.Second))
		waits(t, time.Second, a.readOne)
		waits(t, 0, a.writeFive)
	})
}

func TestDeadlineComesBeforeAllElse(t *testing.T) {
	a, b := ends(t)
	b.write("x")
	for _, e := range []end{a, b} {
		e.SetDeadline(past)
		e.readFails(os.ErrDeadlineExceeded)
		e.writeFails("x", 0, os.ErrDeadlineExceeded)
		e.writeFails("", 0, os.ErrDeadlineExceeded)
		e.SetDeadline(time.Time{})
	}
	a.reads("x")
	b.does("CloseWrite", b.CloseWrite, nil)
	a.SetDeadline(past)
	a.readFails(os.ErrDeadlineExceeded)
	a.Reset()
	a.writeFails("x", 0, os.ErrDeadlineExceeded)
	a.SetDeadline(time.Time{})
	a.writeFails("x", 0, syscall.ECONNRESET)
}

// Each row sets the read deadline again and again while a Read waits.
func TestDeadlineMoves(t *testing.T) {
	type move struct{ at, to time.Duration } // since the start; to < 0: none
	for _, test := range []struct {
		name  string
		moves []move
		ends  time.Duration // < 0: only when the peer closes after an hour
	}{
		{"set while waiting", []move{{1, 5}}, 5},
		{"earlier", []move{{0, 10}, {2, 4}}, 4},
		{"later", []move{{0, 3}, {2, 10}}, 10},
		{"later and earlier", []move{{0, 3}, {1, 20}, {2, 5}}, 5},
		{"now", []move{{0, 10}, {2, 2}}, 2},
		{"to the past", []move{{0, 10}, {2, 1}}, 2},
		{"cleared", []move{{0, 3}, {2, -1}}, -1},
		{"cleared and set", []move{{0, 3}, {1, -1}, {2, 4}}, 4},
		{"the same once more", []move{{0, 3}, {1, 3}, {2, 3}}, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := ends(t)
				start := time.Now()
				go func() {
					for _, m := range test.moves {
						time.Sleep(time.Until(start.Add(m.at * time.Second)))
						var to time.Time
						if m.to >= 0 {
							to = start.Add(m.to * time.Second)
						}
						a.SetReadDeadline(to)
					}
					if test.ends < 0 {
						time.Sleep(time.Until(start.Add(time.Hour)))
						b.Close()
					}
				}()
				if test.ends >= 0 {
					waits(t, test.ends*time.Second, a.readOne)
					return
				}
				if _, err := a.readOne(); err == nil || time.Since(start) != time.Hour {
					t.Errorf("Read ended with %v after %v, want EOF after an hour", err, time.Since(start))
				}
			})
		})
	}
}

// The timer of a deadline fires while the deadline is moved: it comes too late to count.
func TestDeadlineMovedAsItFires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := ends(t)
		a.SetReadDeadline(time.Now().Add(time.Second))
		a.mu.Lock()
		time.Sleep(time.Second) // the timer's function now waits for the mutex
		a.in.readDeadline.set(time.Now().Add(time.Minute), a.in.cond)
		a.mu.Unlock()
		waits(t, time.Minute, a.readOne)
	})
}

// A deadline in the past ends what waits at once, and cleared it leaves nothing behind: this is how a context is
// turned into the end of a call.
func TestDeadlineInThePastAndCleared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := ends(t)
		a.SetBuffer(3)
		for round := range 3 {
			read, wrote := make(chan error), make(chan error)
			go func() { _, err := a.readOne(); read <- err }()
			go func() { _, err := a.writeFive(); wrote <- err }()
			time.Sleep(time.Second)
			start := time.Now()
			if round == 0 {
				a.SetDeadline(past)
			} else {
				a.SetReadDeadline(past)
				a.SetWriteDeadline(past)
			}
			wantTimeout(t, <-read)
			wantTimeout(t, <-wrote)
			if time.Since(start) != 0 {
				t.Errorf("calls ended %v after the deadline was set", time.Since(start))
			}
			a.SetDeadline(time.Time{})
			b.reads("123")
			b.write("ok")
			a.reads("ok")
		}
	})
}

// One direction's deadline is none of the other's business.
func TestDeadlinesAreApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := ends(t)
		a.SetReadDeadline(past)
		a.write("x")
		b.reads("x")
		a.SetReadDeadline(time.Time{})
		a.SetWriteDeadline(past)
		b.write("y")
		a.reads("y")
		b.SetDeadline(time.Now().Add(time.Second))
		time.Sleep(time.Second) // a Read that begins at the very moment is late, whatever ran first
		waits(t, 0, b.readOne)
		go func() {
			time.Sleep(time.Minute)
			b.Close()
		}()
		if _, err := a.readOne(); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("the peer's deadline has ended a Read of ours")
		}
	})
}

// The writers behind the one that waits are ended by the same deadline.
func TestDeadlineOfWritersInLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := ends(t)
		a.SetBuffer(3)
		a.SetWriteDeadline(time.Now().Add(time.Second))
		done := make(chan int)
		for range 3 {
			go func() { done <- waits(t, time.Second, a.writeFive) }()
		}
		if sum := <-done + <-done + <-done; sum != 3 {
			t.Errorf("%d bytes were taken, want 3", sum)
		}
	})
}

// A deadline that was read off a wall clock has no monotonic part.
func TestDeadlineWithoutMonotonicClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := ends(t)
		a.SetDeadline(time.Now().Round(0).Add(time.Second))
		waits(t, time.Second, a.readOne)
	})
}

func TestNoTimerWithoutDeadlineAhead(t *testing.T) {
	a, _ := Pair()
	hour := time.Now().Add(time.Hour)
	var timers []*time.Timer
	for _, test := range []struct {
		name string
		do   func()
		want bool
	}{
		{"new", func() {}, false},
		{"set", func() { a.SetDeadline(hour) }, true},
		{"cleared", func() { a.SetDeadline(time.Time{}) }, false},
		{"set again", func() { a.SetDeadline(hour) }, true},
		{"in the past", func() { a.SetDeadline(past) }, false},
		{"set again", func() { a.SetDeadline(hour) }, true},
		{"closed", func() { a.Close() }, false},
	} {
		test.do()
		if got := a.in.readDeadline.timer != nil; got != test.want {
			t.Errorf("%s: read timer %v, want %v", test.name, got, test.want)
		}
		if got := a.out.writeDeadline.timer != nil; got != test.want {
			t.Errorf("%s: write timer %v, want %v", test.name, got, test.want)
		}
		if test.want {
			timers = append(timers, a.in.readDeadline.timer, a.out.writeDeadline.timer)
		}
	}
	for i, timer := range timers {
		if timer.Stop() {
			t.Errorf("timer %d was dropped and not stopped", i)
		}
	}
}
