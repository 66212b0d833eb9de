package sendq

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket/internal/bufpool"
	"github.com/sockeye-ws/websocket/internal/transport"
)

func TestWriteQuiet(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		for i, size := range []int{headSize, headSize + 1, 100, small - 1, small, small + 1, small + headSize, transport.Piece, 3*transport.Piece + 5} {
			l.here.SetBuffer(size)
			wantErr(t, "Write", l.write(ctx, i, size, nil), nil)
			l.wantNothingKept()
			l.wantRead(i)
		}
		l.wantFailed(nil)
	})
}

func TestWriteQuietAllocatesNothing(t *testing.T) {
	var q Queue
	q.Init(taker{}, nil, &Options{Limit: limit, Timeout: timeout})
	h, p := head(1, 100), payload(1, 100)
	bufpool.Put(bufpool.Get(200))
	n := testing.AllocsPerRun(1000, func() {
		q.Write(ctx, aFrame(h, p, nil, false))
		answer(&q, h)
	})
	if n >= 1 && !raceEnabled {
		t.Errorf("Write and Control on a quiet queue allocate %v times", n)
	}
}

// A taker takes all that is written without waiting.
type taker struct{ transport.Conn }

func (taker) Tries() bool                    { return true }
func (taker) TryWrite(p []byte) (int, error) { return len(p), nil }

func TestOrder(t *testing.T) {
	// Queue order is wire order: what returned first was called first.
	inLab(t, func(t *testing.T, l *lab) {
		stuck := l.stick()
		size := 0
		for i := range 50 {
			n := headSize + i*i%300
			size += n
			switch i % 3 {
			case 0:
				wantErr(t, "Control", l.q.Control(frame(i+1, n)), nil)
			default:
				wantErr(t, "Write", l.write(ctx, i+1, n, nil), nil)
			}
		}
		l.wantQueued(size, 0)
		l.release()
		wantErr(t, "the stuck write", <-stuck, nil)
		l.wantRead(append([]int{0}, upTo(50)...)...)
	})
}

func TestGroupCommit(t *testing.T) {
	// What gathered behind a write goes out with one call for each chunk.
	inLab(t, func(t *testing.T, l *lab) {
		l.peer.KeepSegments(true)
		stuck := l.stick()
		const frames, size = 20, 4000 // more than a chunk
		for i := range frames {
			l.write(ctx, i+1, size, nil)
		}
		l.release()
		<-stuck
		calls, total := 0, 0
		for synctest.Wait(); l.peer.Unread() > 0; synctest.Wait() {
			n, _ := l.peer.Read(make([]byte, 1<<20))
			total += n
			calls++
		}
		if most := 1 + (frames*size)/(chunk-size) + 1; total != 10+frames*size || calls > most {
			t.Errorf("%d bytes came by %d calls, want %d by at most %d", total, calls, 10+frames*size, most)
		}
	})
}

func TestLimit(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		const size = 10 << 10 // ten of them are the limit
		stuck := l.stick()
		for i := range 10 {
			wantErr(t, "below the limit", l.write(ctx, i+1, size, nil), nil)
		}
		l.wantQueued(limit, 0)
		late := l.writing(ctx, 11, headSize, nil)
		l.wantPending(late)
		wantErr(t, "a control frame", l.q.Control(frame(12, 20)), nil) // has no limit
		l.wantQueued(limit+20, 0)
		l.release()
		<-stuck
		wantErr(t, "the one that waited", <-late, nil)
		l.wantRead(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 11)
	})
}

func TestFirstComeFirstServed(t *testing.T) {
	// A large frame waits for a quiet connection, and those that come later
	// behind it, though they would fit into the queue.
	inLab(t, func(t *testing.T, l *lab) {
		stuck := l.stick()
		l.write(ctx, 1, 100, nil)
		var calls []<-chan error
		for i, size := range []int{small + 1, 100, 50 << 10, headSize, 200 << 10, 100} {
			call := l.writing(ctx, i+2, size, nil)
			l.wantPending(call)
			calls = append(calls, call)
		}
		l.release()
		wantErr(t, "stuck", <-stuck, nil)
		l.wantRead(0, 1, 2, 3, 4, 5, 6, 7)
		for _, c := range calls {
			wantErr(t, "waiter", <-c, nil)
		}
	})
}

func TestWaiterGivesUp(t *testing.T) {
	// Wherever in the line somebody gives up, the others are served in order.
	for quits := range 4 {
		inLab(t, func(t *testing.T, l *lab) {
			stuck := l.stick()
			l.write(ctx, 1, 100, nil)
			var calls []<-chan error
			given, giveUp := context.WithCancel(ctx)
			var want []int
			for i := range 4 {
				ctx := ctx
				if i == quits {
					ctx = given
				} else {
					want = append(want, i+2)
				}
				calls = append(calls, l.writing(ctx, i+2, small+100, nil))
			}
			giveUp()
			wantErr(t, "the one that gives up", <-calls[quits], context.Canceled)
			l.release()
			<-stuck
			l.wantRead(append([]int{0, 1}, want...)...)
			for i, c := range calls {
				if i != quits {
					wantErr(t, "a waiter", <-c, nil)
				}
			}
			l.wantFailed(nil)
		})
	}
}

func TestManyWriters(t *testing.T) {
	// L-17: whole frames, those of one goroutine in its order, with control
	// frames and messages of several frames between; run with -race.
	inLab(t, func(t *testing.T, l *lab) {
		l.here.SetBuffer(1000)
		const writers, each = 8, 30
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := range each {
					name, size := w*1000+i, headSize+(w*7919+i*104729)%300
					if i%7 == 3 {
						size = small + 500
					}
					var err error
					switch w {
					case 0:
						err = l.q.Control(frame(name, size))
					case 1, 2:
						var h *Hold
						if h, err = l.q.Begin(ctx, l.cut); err == nil {
							err = l.write(ctx, name, size, h)
							if err == nil {
								err = l.write(ctx, 100000+name, size, h)
							}
							l.q.End(h)
						}
					default:
						err = l.write(ctx, name, size, nil)
					}
					if err != nil {
						t.Errorf("%d: %v", name, err)
					}
				}
			})
		}
		names := make(chan []int)
		go func() {
			var all []byte
			p := make([]byte, 700)
			for {
				n, err := l.peer.Read(p)
				all = append(all, p[:n]...)
				if err != nil {
					break
				}
			}
			got, rest := parse(t, all)
			if rest > 0 {
				t.Errorf("%d bytes of a cut frame at the end", rest)
			}
			names <- got
		}()
		wg.Wait()
		l.q.Close(frame(999999, 20))
		<-l.q.Drained()
		l.here.CloseWrite()
		next := make([]int, writers)
		got := <-names
		holder := -1
		for i, name := range got[:len(got)-1] {
			if name >= 100000 {
				if name != 100000+holder {
					t.Fatalf("frame %d of %d ends another's message", i, name)
				}
				holder = -1
				continue
			}
			w := name / 1000
			if name%1000 != next[w] {
				t.Fatalf("writer %d: frame %d, want %d", w, name%1000, next[w])
			}
			next[w]++
			if w == 1 || w == 2 {
				holder = name
			} else if w > 2 && holder >= 0 {
				t.Fatalf("%d stands inside a message of %d", name, holder)
			}
		}
		for w, n := range next {
			if n != each {
				t.Errorf("writer %d: %d frames came", w, n)
			}
		}
		if got[len(got)-1] != 999999 {
			t.Errorf("the last frame is %d", got[len(got)-1])
		}
		l.wantFailed(nil)
	})
}

func TestCancelStages(t *testing.T) {
	// ctx ends before the first byte is taken: nothing is sent. After it:
	// the frame is torn. After the last: it has succeeded.
	for _, size := range []int{headSize, 40, small, small + headSize, small + 200, transport.Piece + small + 100} {
		taken := []int{0, 1, headSize, size / 2, small, small + headSize, transport.Piece, size - 1, size}
		for _, k := range taken {
			if k > size {
				continue
			}
			t.Run(label("write", size, k), func(t *testing.T) {
				inLab(t, func(t *testing.T, l *lab) {
					l.here.SetBuffer(1 << 20)
					l.here.StallWriteAfter(int64(k))
					given, giveUp := context.WithCancel(ctx)
					call := l.writing(given, 1, size, nil)
					if k < size {
						l.wantPending(call)
					}
					time.Sleep(time.Second)
					giveUp()
					err := <-call
					switch k {
					case size:
						wantErr(t, "all was taken", err, nil)
						l.wantFailed(nil)
					case 0:
						wantErr(t, "nothing was taken", err, context.Canceled)
						if err != context.Canceled {
							t.Errorf("%v is more than ctx.Err()", err)
						}
						l.wantFailed(nil)
					default:
						wantErr(t, "some was taken", err, context.Canceled)
						var torn *TornError
						if !errors.As(err, &torn) || torn.Context != given {
							t.Errorf("some was taken: %v", err)
						}
						l.wantFailed(torn)
						l.wantFailed(context.Canceled)
						l.wantDrained(true)
						wantErr(t, "a later write", l.write(ctx, 2, 20, nil), ErrClosed)
						if got := l.readBytes(); string(got) != string(frame(1, size)[:k]) {
							t.Errorf("%d bytes came, of which %d were taken", len(got), k)
						}
						return
					}
					l.release()
					wantErr(t, "a later write", l.write(ctx, 2, 20, nil), nil)
					if k == size {
						l.wantRead(1, 2)
					} else {
						l.wantRead(2)
					}
				})
			})
		}
	}
}

func TestCancelOfWhatIsQueued(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		stuck := l.stick()
		given, giveUp := context.WithCancel(ctx)
		wantErr(t, "queued", l.write(given, 1, 100, nil), nil)
		giveUp()
		wantErr(t, "with room, and a context that has ended", l.write(given, 2, 100, nil), nil)
		l.release()
		<-stuck
		l.wantRead(0, 1, 2)
		// On a quiet connection that would have to wait, it is looked at.
		l.here.StallWriteAfter(0)
		wantErr(t, "quiet", l.write(given, 3, 100, nil), context.Canceled)
		l.wantFailed(nil)
	})
}

func TestDeadlineOfACallIsItsOwn(t *testing.T) {
	// The interrupt of one call is taken back before the next.
	inLab(t, func(t *testing.T, l *lab) {
		l.here.StallWriteAfter(0)
		for i := range 5 {
			given, cancel := context.WithTimeout(ctx, time.Second)
			start := time.Now()
			wantErr(t, "Write", l.write(given, i, 100, nil), context.DeadlineExceeded)
			if d := time.Since(start); d != time.Second {
				t.Errorf("it took %v", d)
			}
			cancel()
		}
		call := l.writing(ctx, 9, 100, nil)
		time.Sleep(timeout - 1)
		l.wantPending(call)
		l.release()
		wantErr(t, "Write", <-call, nil)
		l.wantRead(9)
	})
}

// A registry counts who waits for its end.
type registry struct {
	context.Context
	done       chan struct{}
	registered int
}

func (r *registry) Done() <-chan struct{} { return r.done }
func (r *registry) AfterFunc(func()) func() bool {
	r.registered++
	return func() bool { r.registered--; return true }
}

func TestContextIsLetGo(t *testing.T) {
	// A context that outlives many connections must not keep them all.
	// A hold that its holder never ends does not keep it either.
	ends := map[string]func(l *lab){
		"Close": func(l *lab) { l.q.Close(frame(9, 10)) },
		"Drop":  func(l *lab) { l.q.Drop() },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				r := &registry{Context: ctx, done: make(chan struct{})}
				for i := range 3 {
					wantErr(t, "Write", l.write(r, i, 100, nil), nil)
				}
				if r.registered > 1 {
					t.Errorf("%d registrations for one context", r.registered)
				}
				if _, err := l.q.Begin(r, l.cut); err != nil {
					t.Error(err)
				}
				end(l)
				<-l.q.Drained()
				if r.registered != 0 {
					t.Error("the context still knows a queue that has ended")
				}
			})
		})
	}
}
