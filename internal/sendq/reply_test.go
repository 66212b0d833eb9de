package sendq

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/sockeye-ws/websocket/internal/transport"
)

func (l *lab) reply(name, size int) {
	l.t.Helper()
	wantErr(l.t, "Control", answer(&l.q, frame(name, size)), nil)
}

func TestC05RepliesCoalesce(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		stuck := l.stick()
		const size = 64
		for i := range MaxReplies / size {
			l.reply(i+1, size)
		}
		l.wantQueued(MaxReplies, MaxReplies)
		for i := range 1000 {
			l.reply(1000+i, size)
		}
		l.wantQueued(MaxReplies, MaxReplies)
		wantErr(t, "Control", l.q.Control(frame(5000, size)), nil) // no reply
		l.release()
		<-stuck
		l.wantRead(append([]int{0}, append(upTo(MaxReplies/size), 5000, 1999)...)...)
		l.wantNothingKept()
		// There is room again.
		stuck = l.stickAgain()
		l.reply(2, size)
		l.release()
		<-stuck
		l.wantRead(1, 2)
	})
}

// stickAgain is stick for a queue that has been used.
func (l *lab) stickAgain() <-chan error {
	l.t.Helper()
	l.here.StallWriteAfter(0)
	return l.writing(ctx, 1, 10, nil)
}

func TestC05RepliesStayInOrder(t *testing.T) {
	// A reply that found room after another one did not must not come before
	// that one: the peer would take the older for the newest.
	inLab(t, func(t *testing.T, l *lab) {
		stuck := l.stick()
		const size = 1 << 10
		for i := range MaxReplies / size {
			l.reply(i+1, size)
		}
		// Enough data that the replies go out with a call of their own.
		data := []int{}
		for i := 0; l.q.queued+small <= limit; i++ {
			data = append(data, 100+i)
			wantErr(t, "Write", l.write(ctx, 100+i, small, nil), nil)
		}
		l.reply(5, size) // finds no room
		// The first call after the stuck one goes out, the next is stuck.
		sent := int64(10 + len(l.q.back.items[0].b))
		if l.q.back.items[0].replies != MaxReplies || len(l.q.back.items) < 2 {
			t.Fatalf("%d items, the first with %d bytes of replies", len(l.q.back.items), l.q.back.items[0].replies)
		}
		l.here.SetBuffer(1 << 20)
		l.here.StallWriteAfter(sent)
		wantErr(t, "stuck", <-stuck, nil)
		synctest.Wait()
		if l.q.replies != size { // the one that found no room, behind the data
			t.Errorf("%d bytes of replies wait", l.q.replies)
		}
		l.reply(6, size)
		l.reply(7, size)
		l.release()
		got := l.read()
		replies := slices.DeleteFunc(slices.Clone(got), func(name int) bool { return name >= 100 || name == 0 })
		if !slices.IsSorted(replies) || !slices.Contains(replies, 7) {
			t.Errorf("replies come as %v", replies)
		}
		if got := slices.DeleteFunc(got, func(name int) bool { return name < 100 }); !slices.Equal(got, data) {
			t.Errorf("data comes as %v", got)
		}
	})
}

func TestReplyThatFoundNoRoomIsSentAtTheEnd(t *testing.T) {
	for name, closing := range map[string]bool{"Close": true, "in time": false} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				stuck := l.stick()
				l.reply(1, MaxReplies)
				l.reply(2, 20)
				l.reply(3, 30)
				if closing {
					l.q.Close(frame(4, 20))
				}
				l.release()
				<-stuck
				if closing {
					l.wantRead(0, 1, 3, 4)
					l.wantDrained(true)
				} else {
					l.wantRead(0, 1, 3)
				}
				l.wantFailed(nil)
			})
		})
	}
}

func TestControlOnAQuietQueue(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		answer(&l.q, frame(1, 20))
		l.wantRead(1)
		l.wantNothingKept()
		l.q.Control(frame(2, transport.Piece+5))
		l.wantRead(2)
		l.wantFailed(nil)
	})
}

// A partTaker takes so many bytes without waiting, and an action meanwhile.
type partTaker struct {
	transport.Conn
	takes     int
	err       error
	meanwhile func()
}

func (p *partTaker) Tries() bool { return true }

func (p *partTaker) TryWrite(b []byte) (int, error) {
	n := min(p.takes, len(b))
	p.Conn.Write(b[:n])
	if p.meanwhile != nil {
		p.meanwhile()
	}
	return n, p.err
}

func TestControlTakenInPart(t *testing.T) {
	// Invariant 6: the rest of a frame comes before all that was queued
	// while its beginning was written.
	for takes := range 21 {
		inLab(t, func(t *testing.T, l *lab) {
			p := &partTaker{Conn: l.conn, takes: takes}
			l.q.out = p
			p.meanwhile = func() {
				p.meanwhile = nil
				l.write(ctx, 2, 30, nil)
				answer(&l.q, frame(3, 20))
			}
			wantErr(t, "Control", answer(&l.q, frame(1, 20)), nil)
			l.wantRead(1, 2, 3)
			l.wantFailed(nil)
		})
		inLab(t, func(t *testing.T, l *lab) {
			p := &partTaker{Conn: l.conn, takes: takes}
			l.q.out = p
			p.meanwhile = func() { l.q.Close(frame(2, 20)) }
			wantErr(t, "Control", answer(&l.q, frame(1, 20)), nil)
			l.wantRead(1, 2)
			l.wantDrained(true)
			l.wantFailed(nil)
		})
		inLab(t, func(t *testing.T, l *lab) {
			p := &partTaker{Conn: l.conn, takes: takes}
			l.q.out = p
			p.meanwhile = l.q.Drop
			wantErr(t, "Control", answer(&l.q, frame(1, 20)), nil)
			if got := l.readBytes(); string(got) != string(frame(1, 20)[:takes]) {
				t.Errorf("after Drop %x came", got)
			}
			l.wantDrained(true)
		})
	}
}

func TestWriteTakenInPart(t *testing.T) {
	for takes := range 41 {
		inLab(t, func(t *testing.T, l *lab) {
			p := &partTaker{Conn: l.conn, takes: takes}
			l.q.out = p
			p.meanwhile = func() {
				p.meanwhile = nil
				l.write(ctx, 2, 30, nil)
				answer(&l.q, frame(3, 20))
			}
			wantErr(t, "Write", l.write(ctx, 1, 40, nil), nil)
			l.wantRead(1, 2, 3)
			l.wantFailed(nil)
		})
	}
}
