package sendq

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket/internal/memconn"
)

// wantOver checks that nothing can be sent any more.
func (l *lab) wantOver() {
	l.t.Helper()
	wantErr(l.t, "Write", l.write(ctx, 77, 20, nil), ErrClosed)
	wantErr(l.t, "Write, large", l.write(ctx, 77, small+20, nil), ErrClosed)
	wantErr(l.t, "Control", l.q.Control(frame(77, 20)), ErrClosed)
	wantErr(l.t, "a reply", answer(&l.q, frame(77, 20)), ErrClosed)
	_, err := l.q.Begin(ctx, l.cut)
	wantErr(l.t, "Begin", err, ErrClosed)
	l.q.Close(frame(78, 20))
	l.q.Drop()
	l.q.Close(frame(79, 20))
	synctest.Wait()
	l.wantNothingKept()
	l.wantDrained(true)
}

func TestCloseQuiet(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.wantDrained(false)
		l.q.Close(frame(1, 20))
		l.q.Close(frame(2, 20))
		l.wantDrained(true)
		l.wantRead(1)
		l.wantFailed(nil)
		wantErr(t, "Write", l.write(ctx, 77, 20, nil), ErrClosed)
		l.wantRead()
	})
	inLab(t, func(t *testing.T, l *lab) {
		l.q.Close(nil)
		l.wantDrained(true)
		l.wantFailed(nil)
		l.wantOver()
	})
}

func TestK21CloseWhileBusy(t *testing.T) {
	// The last frame goes behind what was accepted; who waits gets nothing.
	inLab(t, func(t *testing.T, l *lab) {
		stuck := l.stick()
		l.write(ctx, 1, 100, nil)
		answer(&l.q, frame(2, 20))
		large, behind := l.writing(ctx, 8, small+100, nil), l.writing(ctx, 9, 100, nil)
		l.q.Close(frame(3, 20))
		wantErr(t, "a waiter", <-large, ErrClosed)
		wantErr(t, "a waiter", <-behind, ErrClosed)
		wantErr(t, "Control", answer(&l.q, frame(10, 20)), ErrClosed)
		l.wantPending(stuck)
		l.wantDrained(false)
		l.release()
		wantErr(t, "the write in progress", <-stuck, nil)
		l.wantDrained(true)
		l.wantRead(0, 1, 2, 3)
		l.wantFailed(nil)
	})
}

func TestCloseThatNobodyReads(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.here.StallWriteAfter(0)
		start := time.Now()
		l.q.Close(frame(1, 20))
		<-l.q.Drained()
		if d := time.Since(start); d != timeout {
			t.Errorf("given up after %v", d)
		}
		l.wantFailed(os.ErrDeadlineExceeded)
	})
}

func TestDropWhileBusy(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		stuck := l.stick()
		l.write(ctx, 1, 100, nil)
		answer(&l.q, frame(2, 20))
		l.reply(3, MaxReplies)
		large := l.writing(ctx, 9, small+100, nil)
		l.q.Drop()
		wantErr(t, "a waiter", <-large, ErrClosed)
		l.wantQueued(0, 0)
		l.wantPending(stuck)
		l.wantDrained(false) // the call that is made is not interrupted
		l.release()
		wantErr(t, "the write in progress", <-stuck, nil)
		l.wantDrained(true)
		l.wantRead(0)
		if !l.q.Failed() {
			t.Error("what was accepted was not written, and Failed does not know")
		}
		l.wantOver()
	})
	inLab(t, func(t *testing.T, l *lab) {
		// The flusher is in a call.
		stuck := l.stick()
		for i := range 7 { // more than one piece
			l.write(ctx, i+1, 10<<10, nil)
		}
		l.here.StallWriteAfter(20)
		wantErr(t, "the first", <-stuck, nil)
		synctest.Wait()
		l.q.Drop()
		l.wantDrained(false)
		l.conn.Abort()
		l.wantDrained(true)
		l.wantNothingKept()
		l.wantOver()
	})
	inLab(t, func(t *testing.T, l *lab) {
		// After Close, while the last frame is on its way.
		stuck := l.stick()
		l.q.Close(frame(1, 20))
		l.q.Drop()
		l.conn.Abort()
		if err := <-stuck; err == nil {
			t.Error("written to a connection that was aborted")
		}
		l.wantOver()
	})
}

func TestDropQuiet(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.q.Drop()
		l.wantDrained(true)
		l.wantOver()
		l.wantRead()
	})
}

// A conversation sends frames of several kinds, some of them at the same
// time, and closes the queue. It returns the frames that must be on the wire,
// up to where the connection failed.
func conversation(l *lab) []int {
	l.here.SetBuffer(1 << 20)
	l.write(ctx, 1, 20, nil)
	answer(&l.q, frame(2, 15))
	h, err := l.q.Begin(ctx, l.cut)
	if err == nil {
		l.write(ctx, 3, 12, h)
		l.q.Control(frame(4, 9))
		l.write(ctx, 5, 30, h)
		l.q.End(h)
	}
	l.write(ctx, 6, 25, nil)
	l.q.Close(frame(7, 10))
	return upTo(7)
}

func TestFaults(t *testing.T) {
	// Whatever happens to the connection after whatever byte: what came is
	// the beginning of what was to come, the owner is told once, waiters
	// return, and the accounts are even.
	const total = 20 + 15 + 12 + 9 + 30 + 25 + 10
	failure := errors.New("boom")
	faults := []struct {
		name string
		set  func(l *lab, k int)
		err  error
	}{
		{"fails", func(l *lab, k int) { l.here.FailWriteAfter(int64(k), failure) }, failure},
		{"stalls", func(l *lab, k int) { l.here.StallWriteAfter(int64(k)) }, os.ErrDeadlineExceeded},
		{"fails, in pieces", func(l *lab, k int) { l.here.LimitWrite(3); l.here.FailWriteAfter(int64(k), failure) }, failure},
		{"aborted while it stalls", func(l *lab, k int) {
			l.here.StallWriteAfter(int64(k))
			time.AfterFunc(time.Second, func() { l.conn.Abort() })
		}, os.ErrClosed},
		{"reset while it stalls", func(l *lab, k int) {
			l.here.StallWriteAfter(int64(k))
			time.AfterFunc(time.Second, l.peer.Reset)
		}, syscall.ECONNRESET},
	}
	for _, fault := range faults {
		for k := range total + 1 {
			t.Run(label(fault.name, k), func(t *testing.T) {
				inLab(t, func(t *testing.T, l *lab) {
					var got []byte
					read := make(chan struct{})
					go func() {
						defer close(read)
						p := make([]byte, 1000)
						for {
							n, err := l.peer.Read(p)
							got = append(got, p[:n]...)
							if err != nil {
								return
							}
						}
					}()
					fault.set(l, k)
					want := conversation(l)
					<-l.q.Drained()
					if k == total {
						l.wantFailed(nil)
					} else {
						want, _ = parse(t, wireOf(total)[:k])
						synctest.Wait()
						l.mu.Lock()
						if len(l.failures) != 1 {
							t.Errorf("told of %v", l.failures)
						} else if err := l.failures[0]; !errors.Is(err, fault.err) && fault.err != os.ErrClosed {
							t.Errorf("told of %v, want %v", err, fault.err)
						}
						l.mu.Unlock()
						if !l.q.Failed() {
							t.Error("Failed() = false")
						}
					}
					l.wantOver()
					l.here.Close()
					<-read
					names, rest := parse(t, got)
					if !slices.Equal(names, want) || len(got) != k {
						t.Errorf("%d bytes, frames %v and %d bytes, want %d bytes, frames %v", len(got), names, rest, k, want)
					}
				})
			})
		}
	}
}

// wireOf is what the conversation sends.
func wireOf(total int) (b []byte) {
	for i, size := range []int{20, 15, 12, 9, 30, 25, 10} {
		b = append(b, frame(i+1, size)...)
	}
	if len(b) != total {
		panic("the conversation has changed")
	}
	return b
}

func TestShortWrites(t *testing.T) {
	for n := 1; n <= 40; n++ {
		inLab(t, func(t *testing.T, l *lab) {
			l.here.LimitWrite(n)
			want := conversation(l)
			l.wantDrained(true)
			l.wantRead(want...)
			l.wantFailed(nil)
		})
	}
}

func TestFailureWakesAll(t *testing.T) {
	failure := errors.New("boom")
	inLab(t, func(t *testing.T, l *lab) {
		stuck := l.stick()
		l.write(ctx, 1, 100, nil)
		l.reply(2, MaxReplies)
		l.reply(3, 20)
		calls := []<-chan error{l.writing(ctx, 4, small+100, nil), l.writing(ctx, 5, 100, nil)}
		hold := l.begin(ctx)
		l.here.FailWriteAfter(0, failure)
		wantErr(t, "the write that failed", <-stuck, failure)
		for _, c := range calls {
			wantErr(t, "a waiter", <-c, ErrClosed)
		}
		if _, ok := <-hold; ok {
			t.Error("a hold on a queue that has failed")
		}
		l.wantFailed(failure)
		l.wantOver()
	})
}

func TestControlFails(t *testing.T) {
	failure := errors.New("boom")
	inLab(t, func(t *testing.T, l *lab) {
		l.q.out = &partTaker{Conn: l.conn, err: failure, meanwhile: func() {
			l.write(ctx, 2, 100, nil)
			answer(&l.q, frame(3, 20))
		}}
		wantErr(t, "Control", l.q.Control(frame(1, 20)), failure)
		l.wantFailed(failure)
		l.wantOver()
	})
}

func TestPeerIsGone(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.peer.Close()
		wantErr(t, "Write", l.write(ctx, 1, 20, nil), syscall.EPIPE)
		l.wantFailed(syscall.EPIPE)
		l.wantOver()
	})
}

// TestAccounts does all at once, with chance, and ends it in each way; run
// with -race.
func TestAccounts(t *testing.T) {
	ends := map[string]func(l *lab){
		"Close": func(l *lab) { l.q.Close(frame(9, 10)) },
		"Drop":  func(l *lab) { l.q.Drop(); l.conn.Abort() },
		"fault": func(l *lab) { l.here.FailWriteAfter(0, errors.New("boom")); l.q.Close(nil) },
		"reset": func(l *lab) { l.peer.Reset(); l.q.Close(frame(9, 10)) },
		"stuck": func(l *lab) { l.here.StallWriteAfter(0); l.q.Close(frame(9, 10)) },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			for range 20 {
				inLab(t, func(t *testing.T, l *lab) {
					l.here.SetBuffer(500)
					var drinker, wg sync.WaitGroup
					drinker.Go(func() { drink(l.peer) })
					for w := range 6 {
						wg.Go(func() { l.chatter(w) })
					}
					time.Sleep(time.Duration(rand.N(50)) * time.Millisecond)
					end(l)
					wg.Wait()
					<-l.q.Drained()
					l.wantOver()
					l.here.Close()
					drinker.Wait()
				})
			}
		})
	}
}

// drink reads slowly.
func drink(peer *memconn.Conn) {
	p := make([]byte, 300)
	for {
		if _, err := peer.Read(p); err != nil {
			return
		}
		time.Sleep(time.Duration(rand.N(1000)) * time.Microsecond)
	}
}

// chatter uses the queue until it has ended.
func (l *lab) chatter(w int) {
	for i := 0; ; i++ {
		size := headSize + rand.N(300)
		if rand.N(10) == 0 {
			size += small
		}
		given, cancel := context.WithTimeout(ctx, time.Duration(rand.N(5000))*time.Microsecond)
		var err error
		switch rand.N(5) {
		case 0:
			err = answer(&l.q, frame(i, size%125+headSize))
		case 1:
			err = l.q.Control(frame(i, 20))
		case 2:
			var h *Hold
			if h, err = l.q.Begin(ctx, l.cut); err == nil {
				// A context that ends in the second frame would leave a
				// message that is cut.
				err = l.q.Write(given, aFrame(head(i, 10), payload(i, 10), h, false))
				if err == nil {
					err = l.write(ctx, i, size, h)
				}
				l.q.End(h)
			}
		default:
			err = l.write(given, i, size, nil)
		}
		cancel()
		switch {
		case err == nil, err == context.DeadlineExceeded:
		case errors.Is(err, ErrClosed):
			return
		default: // of the connection, or torn: the queue has ended
			if !l.q.Failed() {
				l.t.Errorf("%d: %v, and the queue goes on", w, err)
			}
			return
		}
	}
}
