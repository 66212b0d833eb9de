package sendq

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// begin gets a hold, or returns where it comes.
func (l *lab) begin(ctx context.Context) <-chan *Hold {
	c := make(chan *Hold, 1)
	go func() {
		h, err := l.q.Begin(ctx, l.cut)
		if err == nil {
			c <- h
		} else if h != nil {
			l.t.Errorf("a hold beside %v", err)
		}
		close(c)
	}()
	synctest.Wait()
	return c
}

func (l *lab) mustBegin() *Hold {
	l.t.Helper()
	return l.mustBeginUnder(ctx)
}

func (l *lab) mustBeginUnder(ctx context.Context) *Hold {
	l.t.Helper()
	h, err := l.q.Begin(ctx, l.cut)
	if err != nil {
		l.t.Fatal(err)
	}
	return h
}

func TestHold(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		h := l.mustBegin()
		wantErr(t, "inside", l.write(ctx, 1, 20, h), nil)
		outside := l.writing(ctx, 9, 20, nil)
		large := l.writing(ctx, 10, small+100, nil)
		next := l.begin(ctx)
		behind := l.writing(ctx, 11, 20, nil)
		l.wantPending(outside, large, behind)
		wantErr(t, "a control frame", l.q.Control(frame(2, 20)), nil)
		wantErr(t, "inside, large", l.write(ctx, 3, small+1000, h), nil)
		l.wantRead(1, 2, 3)
		l.q.End(h)
		wantErr(t, "outside", <-outside, nil)
		wantErr(t, "outside, large", <-large, nil)
		h = <-next
		l.wantPending(behind)
		l.wantRead(9, 10)
		l.q.End(h)
		wantErr(t, "behind", <-behind, nil)
		l.wantRead(11)
		l.q.End(h) // once more changes nothing
		wantErr(t, "free", l.write(ctx, 12, 20, nil), nil)
		l.wantRead(12)
	})
}

func TestHoldGoesBeforeItsWaiters(t *testing.T) {
	// The holder waits for room, and those who wait for the holder are in
	// line before it: it must pass them, or all would wait for ever.
	inLab(t, func(t *testing.T, l *lab) {
		h := l.mustBegin()
		l.here.StallWriteAfter(0)
		control := make(chan error, 1)
		go func() { control <- l.q.Control(frame(1, 20)) }()
		outside := l.writing(ctx, 9, 20, nil)
		inside := l.writing(ctx, 2, small+100, h)
		l.wantPending(outside, inside)
		l.release()
		wantErr(t, "control", <-control, nil)
		wantErr(t, "inside", <-inside, nil)
		l.wantPending(outside)
		l.wantRead(1, 2)
		l.q.End(h)
		wantErr(t, "outside", <-outside, nil)
		l.wantRead(9)
	})
}

func TestHoldWaiterGivesUp(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		h := l.mustBegin()
		given, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		second := l.begin(given)
		write := l.writing(given, 1, 20, nil)
		third := l.begin(ctx)
		if _, ok := <-second; ok {
			t.Error("two hold it")
		}
		wantErr(t, "Write", <-write, context.DeadlineExceeded)
		l.q.End(h)
		l.q.End(<-third)
		wantErr(t, "at last", l.write(ctx, 2, 20, nil), nil)
		l.wantRead(2)
	})
}

func TestIdleHold(t *testing.T) {
	t.Run("before its first frame", func(t *testing.T) {
		inLab(t, func(t *testing.T, l *lab) {
			h := l.mustBegin()
			time.Sleep(time.Hour) // nobody else waits: it may
			wantErr(t, "Touch", l.q.Touch(h), nil)
			time.Sleep(time.Hour)
			start := time.Now()
			first, second := l.writing(ctx, 1, 20, nil), l.writing(ctx, 2, 20, nil)
			wantErr(t, "a waiter", <-first, nil)
			if d := time.Since(start); d != timeout {
				t.Errorf("it waited %v for an idle hold", d)
			}
			wantErr(t, "a waiter", <-second, nil)
			wantErr(t, "Touch", l.q.Touch(h), ErrRevoked)
			wantErr(t, "inside", l.write(ctx, 3, 20, h), ErrRevoked)
			other := l.mustBegin()
			if l.q.End(h); l.q.hold != other {
				t.Error("the end of a lost hold ends another")
			}
			l.q.End(other)
			l.wantRead(1, 2)
			l.wantFailed(nil)
		})
	})
	t.Run("and the line keeps its order", func(t *testing.T) {
		// At the moment when the hold is taken away, the first in line
		// cannot write yet and the second could.
		inLab(t, func(t *testing.T, l *lab) {
			l.mustBegin()
			first, second := l.writing(ctx, 2, small+100, nil), l.writing(ctx, 3, 20, nil)
			time.Sleep(timeout / 2)
			l.here.StallWriteAfter(0)
			wantErr(t, "control", l.q.Control(frame(1, 20)), nil)
			time.Sleep(timeout/2 + time.Second)
			l.wantPending(first, second)
			l.release()
			wantErr(t, "the first", <-first, nil)
			wantErr(t, "the second", <-second, nil)
			l.wantRead(1, 2, 3)
		})
	})
	t.Run("touched", func(t *testing.T) {
		inLab(t, func(t *testing.T, l *lab) {
			h := l.mustBegin()
			start := time.Now()
			waiter := l.writing(ctx, 1, 20, nil)
			for range 5 {
				time.Sleep(timeout - 1)
				wantErr(t, "Touch", l.q.Touch(h), nil)
			}
			wantErr(t, "the waiter", <-waiter, nil)
			if d := time.Since(start); d != 5*(timeout-1)+timeout {
				t.Errorf("it waited %v", d)
			}
			l.wantRead(1)
		})
	})
	t.Run("after its first frame", func(t *testing.T) {
		inLab(t, func(t *testing.T, l *lab) {
			h := l.mustBegin()
			wantErr(t, "inside", l.write(ctx, 1, 20, h), nil)
			start := time.Now()
			first, second, third := l.writing(ctx, 2, 20, nil), l.writing(ctx, 3, 20, nil), l.begin(ctx)
			wantErr(t, "a waiter", <-first, ErrAbandoned)
			wantErr(t, "a waiter", <-second, ErrAbandoned)
			if _, ok := <-third; ok {
				t.Error("another message begins inside the cut one")
			}
			if d := time.Since(start); d != timeout {
				t.Errorf("they waited %v", d)
			}
			wantErr(t, "inside", l.write(ctx, 4, 20, h), ErrRevoked)
			wantErr(t, "control", l.q.Control(frame(5, 20)), nil)
			l.q.Close(frame(6, 20))
			l.wantRead(1, 5, 6)
			l.wantDrained(true)
			l.wantFailed(nil)
		})
	})
	t.Run("a holder that writes is not idle", func(t *testing.T) {
		inLab(t, func(t *testing.T, l *lab) {
			h := l.mustBegin()
			l.here.SetBuffer(64 << 10)
			start := time.Now()
			inside := l.writing(ctx, 1, 3<<20, h)
			outside := l.writing(ctx, 2, 20, nil)
			for range 20 { // a slow peer, but a peer
				time.Sleep(timeout - 1)
				l.wantPending(inside, outside)
				if l.peer.Unread() == 0 {
					t.Error("the peer has nothing to read")
				}
				l.peer.Read(make([]byte, 64<<10))
			}
			go func() {
				for {
					if _, err := l.peer.Read(make([]byte, 64<<10)); err != nil {
						return
					}
				}
			}()
			wantErr(t, "inside", <-inside, nil)
			written := time.Since(start)
			wantErr(t, "outside", <-outside, ErrAbandoned)
			if d := time.Since(start); d < written+timeout-1 || d > written+timeout {
				t.Errorf("outside gives up after %v, the write took %v", d, written)
			}
			l.wantFailed(nil)
		})
	})
	t.Run("no timeout", func(t *testing.T) {
		inLab(t, func(t *testing.T, l *lab) {
			l.q.opt.Timeout = -1
			h := l.mustBegin()
			waiter := l.writing(ctx, 1, 20, nil)
			time.Sleep(1000 * time.Hour)
			l.wantPending(waiter)
			l.q.End(h)
			wantErr(t, "the waiter", <-waiter, nil)
			l.wantRead(1)
		})
	})
}

func TestHoldUsedByTwo(t *testing.T) {
	// A hold is for one goroutine; two that use it get errors, at worst.
	for _, lost := range []bool{false, true} {
		inLab(t, func(t *testing.T, l *lab) {
			ofHold, lose := context.WithCancel(ctx)
			defer lose()
			h := l.mustBeginUnder(ofHold)
			l.here.StallWriteAfter(0)
			stuck := make(chan error, 1)
			go func() { stuck <- l.q.Control(frame(0, 20)) }()
			synctest.Wait()
			given, giveUp := context.WithCancel(ctx)
			first := l.writing(given, 1, small+100, h)
			second := l.writing(ctx, 2, small+100, h)
			giveUp()
			wantErr(t, "the first", <-first, context.Canceled)
			outside := l.writing(ctx, 3, 20, nil)
			if lost {
				lose()
				wantErr(t, "the second", <-second, ErrRevoked)
			}
			l.release()
			wantErr(t, "control", <-stuck, nil)
			if !lost {
				wantErr(t, "the second", <-second, nil)
			}
			l.q.End(h)
			wantErr(t, "outside", <-outside, nil)
			if lost {
				l.wantRead(0, 3)
			} else {
				l.wantRead(0, 2, 3)
			}
			l.wantCuts(0)
		})
	}
}

func TestContextOfAHold(t *testing.T) {
	t.Run("before its first frame", func(t *testing.T) {
		inLab(t, func(t *testing.T, l *lab) {
			given, giveUp := context.WithCancel(ctx)
			h := l.mustBeginUnder(given)
			waiter := l.writing(ctx, 1, 20, nil)
			giveUp()
			wantErr(t, "the waiter", <-waiter, nil)
			wantErr(t, "Touch", l.q.Touch(h), ErrRevoked)
			wantErr(t, "inside", l.write(ctx, 2, 20, h), ErrRevoked)
			l.q.End(h)
			l.wantRead(1)
			l.wantCuts(0)
			l.wantFailed(nil)
		})
	})
	t.Run("which has ended before it began", func(t *testing.T) {
		inLab(t, func(t *testing.T, l *lab) {
			given, giveUp := context.WithCancel(ctx)
			giveUp()
			l.q.Begin(given, l.cut) // may, and then loses it
			wantErr(t, "another", l.write(ctx, 1, 20, nil), nil)
			l.wantRead(1)
			l.wantCuts(0)
		})
	})
	t.Run("after its first frame", func(t *testing.T) {
		inLab(t, func(t *testing.T, l *lab) {
			given, giveUp := context.WithCancel(ctx)
			h := l.mustBeginUnder(given)
			wantErr(t, "inside", l.write(given, 1, 20, h), nil)
			waiter := l.writing(ctx, 2, 20, nil)
			giveUp()
			l.wantCuts(1)
			l.wantPending(waiter) // nothing may follow the cut message
			wantErr(t, "inside", l.write(ctx, 3, 20, h), ErrRevoked)
			l.q.Close(frame(4, 20))
			wantErr(t, "the waiter", <-waiter, ErrClosed)
			l.wantRead(1, 4)
			l.wantCuts(1)
		})
	})
	t.Run("after its end", func(t *testing.T) {
		inLab(t, func(t *testing.T, l *lab) {
			given, giveUp := context.WithCancel(ctx)
			h := l.mustBeginUnder(given)
			l.write(given, 1, 20, h)
			l.q.End(h)
			other := l.mustBegin()
			giveUp()
			l.wantCuts(0)
			wantErr(t, "inside another", l.write(ctx, 2, 20, other), nil)
			l.q.End(other)
			l.wantRead(1, 2)
		})
	})
	t.Run("after the end of all", func(t *testing.T) {
		inLab(t, func(t *testing.T, l *lab) {
			given, giveUp := context.WithCancel(ctx)
			h := l.mustBeginUnder(given)
			l.write(given, 1, 20, h)
			l.q.Close(frame(2, 20))
			giveUp()
			l.wantCuts(0)
			l.wantRead(1, 2)
		})
	})
	t.Run("in a frame of which nothing was sent", func(t *testing.T) {
		// The context of a streamed message ends while its first frame
		// waits for the network, which has taken nothing of it: nothing
		// was sent, so the connection has to go on.
		inLab(t, func(t *testing.T, l *lab) {
			given, giveUp := context.WithCancel(ctx)
			h := l.mustBeginUnder(given)
			l.here.StallWriteAfter(0)
			inside := l.writing(given, 1, 20, h)
			outside := l.writing(ctx, 2, 20, nil)
			giveUp()
			wantErr(t, "inside", <-inside, context.Canceled)
			l.release()
			wantErr(t, "outside", <-outside, nil)
			wantErr(t, "inside", l.write(ctx, 3, 20, h), ErrRevoked)
			l.q.End(h)
			l.wantRead(2)
			l.wantCuts(0)
			l.wantFailed(nil)
		})
	})
	t.Run("in the wait for room for its first frame", func(t *testing.T) {
		inLab(t, func(t *testing.T, l *lab) {
			given, giveUp := context.WithCancel(ctx)
			h := l.mustBeginUnder(given)
			l.here.StallWriteAfter(0)
			stuck := make(chan error, 1)
			go func() { stuck <- l.q.Control(frame(0, 20)) }()
			synctest.Wait()
			inside := l.writing(given, 1, small+100, h)
			giveUp()
			wantErr(t, "inside", <-inside, context.Canceled)
			l.release()
			wantErr(t, "control", <-stuck, nil)
			wantErr(t, "another", l.write(ctx, 2, 20, nil), nil)
			l.wantRead(0, 2)
			l.wantCuts(0)
		})
	})
	t.Run("in a later frame of which nothing was sent", func(t *testing.T) {
		inLab(t, func(t *testing.T, l *lab) {
			given, giveUp := context.WithCancel(ctx)
			h := l.mustBeginUnder(given)
			wantErr(t, "inside", l.write(given, 1, 20, h), nil)
			l.here.StallWriteAfter(20)
			inside := l.writing(given, 2, 20, h)
			outside := l.writing(ctx, 3, 20, nil)
			giveUp()
			wantErr(t, "inside", <-inside, context.Canceled)
			l.wantCuts(1)
			l.release()
			l.wantPending(outside)
			l.q.Close(frame(4, 20))
			wantErr(t, "outside", <-outside, ErrClosed)
			l.wantRead(1, 4)
			l.wantFailed(nil)
		})
	})
	t.Run("in a frame that is written all the same", func(t *testing.T) {
		// Write looks at its own context; that of the hold has ended
		// meanwhile, and is seen afterwards.
		inLab(t, func(t *testing.T, l *lab) {
			given, giveUp := context.WithCancel(ctx)
			h := l.mustBeginUnder(given)
			l.here.StallWriteAfter(0)
			inside := l.writing(ctx, 1, 20, h)
			giveUp()
			l.wantPending(inside)
			l.wantCuts(0)
			l.release()
			wantErr(t, "inside", <-inside, nil)
			l.wantCuts(1)
			wantErr(t, "Touch", l.q.Touch(h), ErrRevoked)
			l.q.Close(nil)
			l.wantRead(1)
		})
	})
}

func TestHoldAtTheEnd(t *testing.T) {
	for name, end := range map[string]func(l *lab){
		"Close": func(l *lab) { l.q.Close(nil) },
		"Drop":  func(l *lab) { l.q.Drop() },
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				h := l.mustBegin()
				l.write(ctx, 1, 20, h)
				outside, next := l.writing(ctx, 2, 20, nil), l.begin(ctx)
				end(l)
				wantErr(t, "outside", <-outside, ErrClosed)
				if _, ok := <-next; ok {
					t.Error("a hold on a queue that has ended")
				}
				wantErr(t, "inside", l.write(ctx, 3, 20, h), ErrClosed)
				wantErr(t, "Touch", l.q.Touch(h), nil)
				if _, err := l.q.Begin(ctx, l.cut); err != ErrClosed {
					t.Errorf("Begin: %v", err)
				}
				l.q.End(h)
				l.wantRead(1)
				l.wantDrained(true)
			})
		})
	}
}
