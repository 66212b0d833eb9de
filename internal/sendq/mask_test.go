package sendq

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"syscall"
	"testing"
	"testing/synctest"
)

// shift is a mask whose key moves on by one with each byte and has no short
// period, so that it shows where in the payload a piece stands.
func shift(key uint32, p []byte) uint32 {
	for i := range p {
		p[i] += byte(key) + byte(key>>16)
		key++
	}
	return key
}

func keyed(key uint32) []byte { return binary.LittleEndian.AppendUint32([]byte{'!'}, key) }

// masked is a frame as it has to arrive.
func masked(key uint32, p []byte) []byte {
	b := append(keyed(key), p...)
	shift(key, b[5:])
	return b
}

// What is written of each payload is masked once, with a key of its own, from its first byte to its
// last, whichever way it takes; control frames are not, nor is the caller's memory.
func TestMask(t *testing.T) {
	for _, oldest := range []bool{false, true} {
		for _, room := range []int{100, 64 << 10, 4 << 20} {
			inLab(t, func(t *testing.T, l *lab) {
				l.q.opt.Mask, l.q.opt.DropOldest, l.q.opt.Limit = shift, oldest, 4<<20
				l.here.SetBuffer(room)
				var want bytes.Buffer
				read := make(chan []byte)
				go func() {
					b, _ := io.ReadAll(l.peer)
					read <- b
				}()
				key := uint32(0)
				for _, size := range []int{0, 1, 100, small - 5, small - 4, small, maskAtOnce, maskAtOnce + small, 3*maskAtOnce + 7} {
					p := bytes.Repeat([]byte("abcdefg"), size/7+1)[:size]
					kept := bytes.Clone(p)
					send := func(how string, err error) {
						t.Helper()
						if err != nil {
							t.Errorf("%s: %v", how, err)
						}
						if !bytes.Equal(p, kept) {
							t.Fatalf("%s of %d bytes changes them", how, size)
						}
						want.Write(masked(key, p))
						key += 1000
					}
					send("Write", l.q.Write(ctx, aFrame(keyed(0), p, nil, false)))
					send("Write", l.q.Write(ctx, aFrame(keyed(0), p, nil, true)))
					_, err := l.q.Post(keyed(0), p, false)
					send("Post", err)
					h, err := l.q.Begin(ctx, l.cut)
					if err != nil {
						t.Fatal(err)
					}
					send("a part", l.q.Write(ctx, aFrame(keyed(0), p, h, false)))
					h.Final()
					after := key
					key += 1000
					_, err = l.q.Post(keyed(0), p, false)
					send("the last part", l.q.Write(ctx, aFrame(keyed(0), p, h, false)))
					l.q.End(h)
					if err != nil {
						t.Error(err)
					}
					want.Write(masked(after, p)) // it waited for the end
					if err := l.q.Control([]byte("control")); err != nil {
						t.Error(err)
					}
					want.WriteString("control")
					l.q.Flush()
					synctest.Wait()
				}
				l.q.Close([]byte("last"))
				want.WriteString("last")
				<-l.q.Drained()
				l.here.CloseWrite()
				if got := <-read; !bytes.Equal(got, want.Bytes()) {
					t.Errorf("room for %d: %d bytes, want %d; they differ", room, len(got), want.Len())
				}
			})
		}
	}
}

// A long frame that fails in the middle fails as any other.
func TestMaskFails(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		l.q.opt.Mask = shift
		l.here.SetBuffer(4 << 20)
		l.here.FailWriteAfter(200<<10, syscall.EPIPE)
		err := l.q.Write(ctx, aFrame(keyed(1), make([]byte, 1<<20), nil, false))
		if !errors.Is(err, syscall.EPIPE) {
			t.Errorf("%v", err)
		}
		l.wantFailed(syscall.EPIPE)
	})
}
