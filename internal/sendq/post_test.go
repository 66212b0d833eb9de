package sendq

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// post posts a frame of the given size, by reference if it is shared, and has
// it flushed.
func (l *lab) post(name, size int, shared bool) (dropped int, err error) {
	if shared {
		dropped, err = l.q.Post(nil, frame(name, size), true)
	} else {
		dropped, err = l.q.Post(head(name, size-headSize), payload(name, size-headSize), false)
	}
	l.q.Flush()
	return dropped, err
}

func (l *lab) mustPost(name, size int) {
	l.t.Helper()
	dropped, err := l.post(name, size, name%2 == 0)
	if err != nil || dropped != 0 {
		l.t.Errorf("Post of %d: dropped %d, %v", name, dropped, err)
	}
}

// wantMessages checks what Queued returns.
func (l *lab) wantMessages(bytes, messages int) {
	l.t.Helper()
	synctest.Wait()
	if b, m := l.q.Queued(); b != bytes || m != messages {
		l.t.Errorf("Queued: %d bytes, %d messages; want %d, %d", b, m, bytes, messages)
	}
}

// What was posted goes out with the one call that asks for it, on every kind
// of connection, and also when others learned before that calls are to be left.
func TestPostGoesOut(t *testing.T) {
	flushes := map[string]func(*Queue){"Flush": (*Queue).Flush, "Attend": (*Queue).Attend, "Paced": (*Queue).Paced}
	for name, flush := range flushes {
		for _, takes := range []int{-1, 0, 5, 1 << 20} { // negative: it cannot tell
			for _, learned := range []bool{false, true} {
				t.Run(label(name, takes), func(t *testing.T) {
					inLab(t, func(t *testing.T, l *lab) {
						if takes >= 0 {
							l.q.out = &partTaker{Conn: l.conn, takes: takes}
						}
						if learned {
							l.q.pace = Pace{}
						}
						for i := range 20 {
							wantErr(t, "Post", second(l.q.Post(nil, frame(2*i, 50), true)), nil)
							wantErr(t, "Post", second(l.q.Post(head(2*i+1, 40), payload(2*i+1, 40), false)), nil)
							flush(&l.q)
							l.wantRead(2*i, 2*i+1)
							l.wantMessages(0, 0)
						}
						l.wantFailed(nil)
					})
				})
			}
		}
	}
}

func second(_ int, err error) error { return err }

// A message is accepted up to the limit, and one that is larger only when
// nothing is queued.
func TestPostRoom(t *testing.T) {
	tests := []struct {
		queued, size int
		want         error
	}{
		{0, limit - 1, nil}, {0, limit, nil}, {0, limit + 1, nil}, {0, 10 * limit, nil},
		{20, limit - 21, nil}, {20, limit - 20, nil}, {20, limit - 19, ErrFull}, {20, limit, ErrFull}, {20, 10 * limit, ErrFull},
		{limit - 20, 20, nil}, {limit - 20, 21, ErrFull},
		{limit, headSize, ErrFull}, {limit + 1, headSize, ErrFull},
	}
	for _, tt := range tests {
		for _, shared := range []bool{false, true} {
			t.Run(label("beside and size", tt.queued, tt.size), func(t *testing.T) {
				inLab(t, func(t *testing.T, l *lab) {
					stuck := l.stick()
					want, bytes := []int{0}, tt.queued
					if tt.queued > 0 {
						l.mustPost(1, tt.queued)
						want = append(want, 1)
					}
					start := time.Now()
					_, err := l.post(2, tt.size, shared)
					wantErr(t, "Post", err, tt.want)
					if d := time.Since(start); d != 0 {
						t.Errorf("Post waited %v", d)
					}
					if err == nil {
						want = append(want, 2)
						bytes += tt.size
					}
					l.wantMessages(bytes, len(want)-1)
					l.release()
					<-stuck
					l.wantRead(want...)
					l.mustPost(4, limit+1) // and all the room is there again
					l.wantRead(4)
				})
			})
		}
	}
}

// With DropOldest, just as many of the oldest posted messages give way as it
// takes, and only if that makes the room.
func TestPostDropsOldest(t *testing.T) {
	const loose, data, ping = 'p', 'w', 'c'
	const size = limit / 10
	tests := []struct {
		name    string
		queued  string // ten of size fill the queue
		post    int    // size of the message that comes
		dropped []int  // of those queued, counted from 1
		err     error
	}{
		{"one of the same size", "pppppppppp", size, []int{1}, nil},
		{"half of one is one", "pppppppppp", size / 2, []int{1}, nil},
		{"one and a byte are two", "pppppppppp", size + 1, []int{1, 2}, nil},
		{"all of them", "pppppppppp", limit, upTo(10), nil},
		{"all of them, for one that is larger", "pppppppppp", limit + 1, upTo(10), nil},
		{"none while there is room", "ppppp", 5 * size, nil, nil},
		{"those that were written stay", "wwpwpwpppp", 2 * size, []int{3, 5}, nil},
		{"pings stay", "cpppppcppp", 3 * size, []int{2, 3, 4}, nil},
		{"the last ones", "wwwwwwwwpp", 2 * size, []int{9, 10}, nil},
		{"no room even so: nothing is lost for it", "wwwwwwwwpp", 2*size + 1, nil, ErrFull},
		{"nothing was posted", "wwwwwwwwww", headSize, nil, ErrFull},
		{"larger than the queue, and not alone", "wppppppppp", limit + 1, nil, ErrFull},
	}
	for _, tt := range tests {
		for _, shared := range []bool{false, true} {
			t.Run(tt.name, func(t *testing.T) {
				inLab(t, func(t *testing.T, l *lab) {
					l.q.opt.DropOldest = true
					stuck := l.stick()
					want := []int{0}
					for i, what := range tt.queued {
						name := i + 1
						switch what {
						case loose:
							dropped, err := l.post(name, size, shared)
							if dropped != 0 || err != nil {
								t.Fatalf("Post: %d, %v", dropped, err)
							}
						case data:
							wantErr(t, "Write", l.write(ctx, name, size, nil), nil)
						case ping:
							wantErr(t, "Control", l.q.Control(frame(name, size)), nil)
						}
						if !slices.Contains(tt.dropped, name) {
							want = append(want, name)
						}
					}
					dropped, err := l.post(100, tt.post, shared)
					wantErr(t, "Post", err, tt.err)
					if dropped != len(tt.dropped) {
						t.Errorf("%d dropped, want %d", dropped, len(tt.dropped))
					}
					if err == nil {
						want = append(want, 100)
					}
					l.release()
					<-stuck
					l.wantRead(want...)
					l.wantFailed(nil)
				})
			})
		}
	}
}

// What has begun to be written is not dropped, however much is taken of it.
func TestDropSparesWhatIsInACall(t *testing.T) {
	for takes := range headSize + 2 {
		for _, shared := range []bool{false, true} {
			inLab(t, func(t *testing.T, l *lab) {
				l.q.opt.DropOldest = true
				l.q.out = &partTaker{Conn: l.conn, takes: takes}
				l.here.StallWriteAfter(int64(takes))
				l.post(1, 60, shared)
				l.wantMessages(60-takes, 1)
				l.post(2, limit-60, shared)
				if dropped, err := l.post(3, limit-60, shared); dropped != 1 || err != nil {
					t.Errorf("Post: %d, %v", dropped, err)
				}
				_, err := l.post(4, limit, shared)
				wantErr(t, "Post of what would need all the room", err, ErrFull)
				l.release()
				l.wantRead(1, 3)
			})
		}
	}
}

// A message that is posted during a hold waits for its end, in order, and
// needs nobody to be sent then.
func TestPostDuringAHold(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		h := l.mustBegin()
		l.mustPost(10, 30)
		wantErr(t, "inside", l.write(ctx, 1, 20, h), nil)
		l.mustPost(11, 40)
		wantErr(t, "a control frame", l.q.Control(frame(2, 20)), nil)
		wantErr(t, "inside, large", l.write(ctx, 3, small+100, h), nil)
		l.wantRead(1, 2, 3)
		l.wantMessages(70, 2)
		outside := l.writing(ctx, 12, 20, nil)
		l.wantPending(outside)
		l.q.End(h)
		wantErr(t, "outside", <-outside, nil)
		l.wantRead(10, 11, 12)
		l.wantFailed(nil)
	})
	t.Run("and makes room by those that wait too", func(t *testing.T) {
		inLab(t, func(t *testing.T, l *lab) {
			l.q.opt.DropOldest = true
			h := l.mustBegin()
			l.mustPost(1, limit/2)
			l.mustPost(2, limit/2)
			if dropped, err := l.post(3, 20, false); dropped != 1 || err != nil {
				t.Errorf("Post: %d, %v", dropped, err)
			}
			l.q.End(h)
			l.wantRead(2, 3)
		})
	})
	t.Run("and does not keep the holder from its room", func(t *testing.T) {
		inLab(t, func(t *testing.T, l *lab) {
			h := l.mustBegin()
			l.mustPost(1, limit)
			wantErr(t, "inside", done(t, l.writing(ctx, 2, small, h)), nil)
			l.q.End(h)
			l.wantRead(2, 1)
		})
	})
}

// done returns what a call that has come to its end returned.
func done(t *testing.T, call <-chan error) error {
	t.Helper()
	select {
	case err := <-call:
		return err
	default:
		t.Fatal("the call waits")
		return nil
	}
}

// A holder that does nothing while something is posted loses its hold when the
// timeout is over, though nobody waits who would look.
func TestPostDuringAnIdleHold(t *testing.T) {
	for _, begun := range []bool{false, true} {
		inLab(t, func(t *testing.T, l *lab) {
			h := l.mustBegin()
			time.Sleep(time.Hour) // nothing waits: it may
			want := []int{7, 8}
			if begun {
				wantErr(t, "inside", l.write(ctx, 1, 20, h), nil)
				l.wantRead(1)
				want = nil
			}
			time.Sleep(time.Minute)
			l.mustPost(7, 20)
			time.Sleep(timeout - time.Second)
			wantErr(t, "Touch", l.q.Touch(h), nil) // it lives, and has as long again
			l.mustPost(8, 20)
			time.Sleep(timeout - 1)
			l.wantRead()
			l.wantCuts(0)
			time.Sleep(time.Nanosecond)
			l.wantRead(want...)
			wantErr(t, "Touch", l.q.Touch(h), ErrRevoked)
			wantErr(t, "inside", l.write(ctx, 2, 20, h), ErrRevoked)
			if begun {
				l.wantCuts(1)
				l.q.Close(frame(9, 20)) // as who is told does
				l.wantRead(9)
				l.wantDrained(true)
			} else {
				l.wantCuts(0)
				l.mustPost(3, 20)
				l.wantRead(3)
			}
			l.wantFailed(nil)
		})
	}
}

// What was posted during a hold is sent before the last frame, unless that
// comes inside a message, which must not look whole.
func TestCloseDuringAHold(t *testing.T) {
	for _, begun := range []bool{false, true} {
		inLab(t, func(t *testing.T, l *lab) {
			h := l.mustBegin()
			if begun {
				wantErr(t, "inside", l.write(ctx, 1, 20, h), nil)
				l.wantRead(1)
			}
			l.mustPost(7, 20)
			l.mustPost(8, 20)
			l.q.Close(frame(9, 20))
			wantErr(t, "Post", second(l.post(10, 20, false)), ErrClosed)
			if begun {
				l.wantRead(9)
			} else {
				l.wantRead(7, 8, 9)
			}
			l.wantMessages(0, 0)
			l.wantDrained(true)
		})
	}
}

// Pings and pongs overtake data that is stuck behind a full socket, but not
// the frame that is partly taken, no other ping or pong, and nothing at all
// when the connection does not tell that it is full.
func TestControlOvertakes(t *testing.T) {
	for _, takes := range []int{-1, 0, 1, 30} {
		t.Run(label("takes", takes), func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				want := []int{1, 2, 3, 4, 5, 6, 7, 99}
				if takes >= 0 {
					l.q.out = &partTaker{Conn: l.conn, takes: takes}
					want = []int{1, 3, 5, 6, 2, 4, 7, 99}
				}
				l.here.StallWriteAfter(int64(max(takes, 0)))
				l.mustPost(1, 50)
				l.mustPost(2, 50)
				wantErr(t, "Control", l.q.Control(frame(3, 20)), nil)
				l.mustPost(4, small+100)
				wantErr(t, "Reply", answer(&l.q, frame(5, 20)), nil)
				wantErr(t, "Control", l.q.Control(frame(6, 20)), nil)
				wantErr(t, "Write", l.write(ctx, 7, 30, nil), nil)
				l.q.Close(frame(99, 20)) // is last
				l.release()
				l.wantRead(want...)
				l.wantDrained(true)
			})
		})
	}
	t.Run("none that was there before", func(t *testing.T) {
		inLab(t, func(t *testing.T, l *lab) {
			p := &partTaker{Conn: l.conn}
			l.q.out = p
			l.here.StallWriteAfter(0)
			p.meanwhile = func() { // the first is in its call, and not stuck yet
				p.meanwhile = nil
				l.mustPost(2, 50)
				wantErr(t, "Control", l.q.Control(frame(3, 20)), nil)
			}
			l.mustPost(1, 50)
			wantErr(t, "Control", l.q.Control(frame(4, 20)), nil)
			l.release()
			l.wantRead(1, 2, 3, 4)
		})
	})
}

// One call is made at a time: a flusher that comes while a caller is in its
// call leaves, whatever of the frame has been taken by then.
func TestFlusherMeetsACaller(t *testing.T) {
	for takes := range 21 {
		inLab(t, func(t *testing.T, l *lab) {
			p := &partTaker{Conn: l.conn, takes: takes}
			l.q.out = p
			calls := 0
			p.meanwhile = func() {
				if calls++; calls == 1 {
					wantErr(t, "Post", second(l.q.Post(nil, frame(2, 20), true)), nil)
					synctest.Wait()
				}
			}
			wantErr(t, "Post", second(l.q.Post(nil, frame(1, 20), true)), nil)
			l.q.mu.Lock()
			l.q.schedule() // it has not begun when the caller makes its call
			_ = l.q.attend(true)
			l.q.mu.Unlock()
			l.wantRead(1, 2)
			l.wantFailed(nil)
		})
	}
}

// A Write that has returned precedes a large one that began later, also when
// messages that were posted behind that are dropped while it waits.
func TestDropsBehindALargeWrite(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.q.opt.DropOldest = true
		stuck := l.stick()
		for i := range 4 { // more than goes into one call
			wantErr(t, "Write", l.write(ctx, i+1, 15<<10, nil), nil)
		}
		large := l.writing(ctx, 5, small+100, nil)
		l.here.StallWriteAfter(10)
		wantErr(t, "the stuck one", <-stuck, nil) // and the first of the four are in the next call
		for i := range 20 {
			wantErr(t, "Post", second(l.post(100+i, 10<<10, false)), nil)
		}
		l.release()
		names := l.read()
		wantErr(t, "the large one", <-large, nil)
		if slices.Contains(names, 100) || !slices.Contains(names, 119) {
			t.Errorf("on the wire %v; want the oldest to be dropped", names)
		}
		names = slices.DeleteFunc(names, func(name int) bool { return name >= 100 })
		if !slices.Equal(names, []int{0, 1, 2, 3, 4, 5}) {
			t.Errorf("on the wire %v, want 0 to 5 in order", names)
		}
	})
}

// A Write that waits for room is not overtaken by messages that are small
// enough for what is left: they would keep it waiting for ever.
func TestPostBehindAWriteThatWaitsForRoom(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		stuck := l.stick()
		for i := range 9 {
			wantErr(t, "Write", l.write(ctx, i+1, 10<<10, nil), nil)
		}
		waits := l.writing(ctx, 10, 12<<10, nil)
		l.wantPending(waits)
		_, err := l.post(11, 1<<10, false)
		l.release()
		<-stuck
		names := l.read()
		wantErr(t, "the Write that waited", <-waits, nil)
		if i := slices.Index(names, 11); err == nil && i < slices.Index(names, 10) {
			t.Errorf("on the wire %v: what was posted last overtakes a Write", names)
		}
	})
}

// What a full socket has taken of a message is not counted any more, whoever
// made the call.
func TestQueuedInPart(t *testing.T) {
	for name, flush := range map[string]func(*Queue){"Flush": (*Queue).Flush, "Attend": (*Queue).Attend} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				l.q.out = &partTaker{Conn: l.conn, takes: 30}
				l.here.StallWriteAfter(30)
				wantErr(t, "Post", second(l.q.Post(nil, frame(1, 1000), true)), nil)
				flush(&l.q)
				l.wantMessages(970, 1)
				l.release()
				l.wantRead(1)
			})
		})
	}
}

// The frames of a hold count for one message by the first of them.
func TestQueuedDuringAHold(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		p := &partTaker{Conn: l.conn, takes: 0}
		l.q.out = p
		h := l.mustBegin()
		l.here.StallWriteAfter(0)
		wantErr(t, "the first", l.write(ctx, 1, 100, h), nil)
		wantErr(t, "the second", l.write(ctx, 2, 100, h), nil)
		l.wantMessages(200, 1)
		l.release()
		l.wantRead(1, 2)
		l.here.StallWriteAfter(200)
		wantErr(t, "the third", l.write(ctx, 3, 100, h), nil)
		l.wantMessages(100, 0)
		l.release()
		l.q.End(h)
		l.wantRead(3)
	})
}
