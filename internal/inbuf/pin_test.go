package inbuf

import (
	"errors"
	"testing"

	"github.com/sockeye-ws/websocket/internal/bufpool"
	"github.com/sockeye-ws/websocket/internal/transport"
)

// A feed is a transport that has the given pieces, and then no input.
type feed struct {
	transport.Conn
	pieces []string
	err    error
}

func (f *feed) TryFill(room transport.Room) (int, error) {
	if len(f.pieces) == 0 {
		room.Open(false)
		room.Drop()
		if f.err != nil {
			return 0, f.err
		}
		return 0, transport.ErrNotReady
	}
	n := copy(room.Open(false), f.pieces[0])
	f.pieces = f.pieces[1:]
	return n, nil
}

func (f *feed) Fill(room transport.Room, _ bool) (int, error) { return f.TryFill(room) }

// churn uses all buffers that the pool has, so that one which went back while
// somebody uses it is overwritten (under the race detector it is anyway).
func churn() {
	var lent []*bufpool.Buf
	for range 50 {
		for _, size := range []int{bufpool.Min, 8 << 10, 32 << 10} {
			b := bufpool.Get(size)
			for i := range b.B {
				b.B[i] = '!'
			}
			lent = append(lent, b)
		}
	}
	for _, b := range lent {
		bufpool.Put(b)
	}
}

// TryFill adds to what is unread, and changes nothing when there is nothing.
func TestTryFill(t *testing.T) {
	var in Input
	boom := errors.New("boom")
	f := &feed{}
	for range 3 {
		if err := in.TryFill(f); err != transport.ErrNotReady || !in.Empty() || in.buf != nil || in.next != nil {
			t.Fatalf("nothing is there: %v, %+v", err, in)
		}
		f.pieces = []string{"abc", "def"}
		if err := in.TryFill(f); err != nil || string(in.Unread()) != "abc" {
			t.Fatalf("%q, %v", in.Unread(), err)
		}
		in.Consume(1)
		if err := in.TryFill(f); err != nil || string(in.Unread()) != "bcdef" {
			t.Fatalf("%q, %v", in.Unread(), err)
		}
		for _, err := range []error{nil, boom} {
			f.err = err
			if got := in.TryFill(f); got == nil || err != nil && got != err || string(in.Unread()) != "bcdef" || in.next != nil {
				t.Fatalf("%q, %v", in.Unread(), got)
			}
			if len(in.buf.B) > bufpool.Min {
				t.Errorf("5 bytes are held in %d", len(in.buf.B))
			}
		}
		f.err = nil
		in.Consume(5)
		in.Rest()
	}
}

// What is pinned stays as it is, whatever others do with the input meanwhile.
func TestPin(t *testing.T) {
	for name, others := range map[string]func(in *Input, f *feed){
		"release":                  func(in *Input, _ *feed) { in.Release() },
		"rest":                     func(in *Input, _ *feed) { in.Rest() },
		"consume all, then rest":   func(in *Input, _ *feed) { in.Consume(len(in.Unread())); in.Rest() },
		"skip all, then rest":      func(in *Input, _ *feed) { n := int64(1000); in.Skip(&n); in.Rest() },
		"fill":                     func(in *Input, f *feed) { in.Fill(f) },
		"fill, and fill again":     func(in *Input, f *feed) { in.Fill(f); in.Fill(f) },
		"fill, that finds nothing": func(in *Input, f *feed) { f.pieces = nil; in.TryFill(f) },
		"release, then fill":       func(in *Input, f *feed) { in.Release(); in.Fill(f); in.Release() },
	} {
		for _, unread := range []string{"", "next"} {
			var in Input
			f := &feed{pieces: []string{"message" + unread, "more", "and more"}}
			in.TryFill(f)
			p := in.Unread()[:7]
			in.Consume(7)
			in.Pin()
			others(&in, f)
			churn()
			if string(p) != "message" {
				t.Errorf("%s, %q unread: what is pinned becomes %q", name, unread, p)
			}
			if got := string(in.Unread()); name == "fill" && got != unread+"more" {
				t.Errorf("fill: unread is %q", got)
			}
			in.Unpin()
			in.Release()
			if in.pinned || in.buf != nil {
				t.Errorf("%s: %+v is left", name, in)
			}
		}
	}
}

// After Unpin the buffer goes back to the pool as ever: nothing is lost by a
// pin that nobody made use of. An empty input has nothing to pin.
func TestUnpin(t *testing.T) {
	var in Input
	in.Pin()
	if in.pinned {
		t.Error("an empty input is pinned")
	}
	f := &feed{pieces: []string{"message"}}
	in.TryFill(f)
	in.Pin()
	buf := in.buf
	in.Unpin()
	if in.pinned || in.buf != buf || string(in.Unread()) != "message" {
		t.Errorf("after Unpin: %+v", in)
	}
	in.Release()
	if buf.B != nil { // as it is in the pool
		t.Error("the buffer does not go back after Unpin")
	}
	in.TryFill(&feed{pieces: []string{"message"}})
	in.Pin()
	buf = in.buf
	in.Release()
	if buf.B == nil {
		t.Error("the buffer goes back while it is pinned")
	}
}
