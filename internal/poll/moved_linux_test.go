package poll

import (
	"errors"
	"os"
	"syscall"
	"testing"
)

// A descriptor that becomes another one is watched on, under the token that it
// had, and a thing that is open under two is told of once.
func TestMoved(t *testing.T) {
	inRoom(t, func(r *room) {
		here, peer, raw := pair(t)
		s := newSleeper()
		token := r.add(raw, s)
		f, err := here.File() // the same socket
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		file, err := f.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		move := func(from, to syscall.RawConn) (err error) {
			from.Control(func(old uintptr) {
				to.Control(func(fd uintptr) { err = r.p.Moved(int(old), int(fd), token) })
			})
			return err
		}
		from, to := raw, file
		for range 3 {
			if err := move(from, to); err != nil {
				t.Fatal(err)
			}
			peer.Write([]byte("x"))
			s.want(t, "it is armed") // and only one of the two is
			r.settle()
			if len(s.wakes) != 0 {
				t.Error("woken twice")
			}
			here.Read(make([]byte, 10))
			r.arm(to, token)
			peer.Write([]byte("x"))
			s.want(t, "armed again")
			here.Read(make([]byte, 10))
			if err := r.p.Arm(from, token); !errors.Is(err, syscall.ENOENT) {
				t.Errorf("the old descriptor is watched still: %v", err)
			}
			from, to = to, from
		}
		// What cannot be watched stays as it was.
		null, err := os.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer null.Close()
		dir, err := null.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if err := move(file, dir); err == nil {
			t.Error("a directory can be watched")
		}
		r.arm(file, token)
		peer.Write([]byte("x"))
		s.want(t, "after a failure")
	})
}
