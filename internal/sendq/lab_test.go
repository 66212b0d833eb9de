package sendq

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket/internal/memconn"
	"github.com/sockeye-ws/websocket/internal/transport"
)

// ctx is for calls that nothing bounds.
var ctx = context.Background()

const (
	limit   = 100 << 10
	timeout = 10 * time.Second
)

// A lab is a queue over an in-memory connection, and its peer.
type lab struct {
	key        uint32 // the next
	t          *testing.T
	q          Queue
	conn       transport.Conn
	here, peer *memconn.Conn

	mu       sync.Mutex
	failures []error
	cuts     int // messages that were cut by their context
}

// inLab runs f in a bubble, and checks that it leaves nothing in the queue.
func inLab(t *testing.T, f func(t *testing.T, l *lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &lab{t: t}
		l.here, l.peer = memconn.Pair()
		defer l.peer.Close()
		defer l.here.Close()
		l.conn = transport.New(l.here, timeout)
		l.q.Init(l.conn, l, &Options{Limit: limit, Timeout: timeout})
		f(t, l)
		synctest.Wait()
		l.wantNothingKept()
	})
}

// Key implements Owner: each is a thousand more than the one before.
func (l *lab) Key() uint32 {
	key := l.key
	l.key += 1000
	return key
}

// Failed implements Owner.
func (l *lab) Failed(err error) {
	// Others may have the lock for a moment, but not as long as this call.
	free := false
	for tries := 0; tries < 1e6 && !free; tries++ {
		if free = l.q.mu.TryLock(); free {
			l.q.mu.Unlock()
		} else {
			runtime.Gosched()
		}
	}
	if !free {
		l.t.Error("failed is called with the lock held")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures = append(l.failures, err)
}

// cut is told when a message was cut.
func (l *lab) cut(error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cuts++
}

func (l *lab) wantCuts(n int) {
	l.t.Helper()
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cuts != n {
		l.t.Errorf("told of %d messages that were cut, want %d", l.cuts, n)
	}
}

// wantNothingKept checks the accounts of a queue that has come to rest: each
// byte that was counted in was counted out.
func (l *lab) wantNothingKept() {
	l.t.Helper()
	q := &l.q
	q.lock() // a flow that has been used before, if there is none
	defer q.unlock()
	if q.queued != 0 || q.replies != 0 || q.something() || q.parked != nil || q.newest != nil || q.waiters != nil || q.busy || q.stuck {
		l.t.Errorf("at rest: queued %d, replies %d, something %v, parked %v, newest %x, %d waiters, busy %v, stuck %v",
			q.queued, q.replies, q.something(), q.parked, q.newest, len(q.waiters), q.busy, q.stuck)
	}
	if q.inCall != (count{}) || q.pending.Load() {
		l.t.Errorf("at rest: in a call %+v, pending %v", q.inCall, q.pending.Load())
	}
}

// wantQueued checks how many bytes are counted.
func (l *lab) wantQueued(queued, replies int) {
	l.t.Helper()
	synctest.Wait()
	l.q.lock()
	defer l.q.unlock()
	if l.q.queued != queued || l.q.replies != replies {
		l.t.Errorf("queued %d, of them replies %d, want %d, %d", l.q.queued, l.q.replies, queued, replies)
	}
}

// wantFailed checks that the owner was told about a failure, once, or never
// if err is nil.
func (l *lab) wantFailed(err error) {
	l.t.Helper()
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil && len(l.failures) > 0:
		l.t.Errorf("told of %v", l.failures)
	case err != nil && (len(l.failures) != 1 || !errors.Is(l.failures[0], err)):
		l.t.Errorf("told of %v, want %v, once", l.failures, err)
	}
	if l.q.Failed() != (err != nil) {
		l.t.Errorf("Failed() = %v", l.q.Failed())
	}
}

func (l *lab) wantDrained(want bool) {
	l.t.Helper()
	synctest.Wait()
	select {
	case <-l.q.Drained():
		if !want {
			l.t.Error("drained too early")
		}
	default:
		if want {
			l.t.Error("not drained")
		}
	}
}

// wantErr checks what a call returned.
func wantErr(t testing.TB, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) || want == nil && got != nil {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// headSize is the size of the head of a test's frame: its name and the
// length of its payload, whose bytes follow from the name.
const headSize = 8

func head(name, payload int) []byte {
	h := binary.BigEndian.AppendUint32(nil, uint32(name))
	return binary.BigEndian.AppendUint32(h, uint32(payload))
}

func payload(name, size int) []byte {
	p := make([]byte, size)
	for i := range p {
		p[i] = byte(name*31 + i*7)
	}
	return p
}

// frame is a whole frame of the given size.
func frame(name, size int) []byte {
	return append(head(name, size-headSize), payload(name, size-headSize)...)
}

// write writes a frame of the given size.
func (l *lab) write(ctx context.Context, name, size int, within *Hold) error {
	return l.q.Write(ctx, aFrame(head(name, size-headSize), payload(name, size-headSize), within, false))
}

// writing writes in the background, and returns where the error comes. It
// returns when the call has come to its first wait.
func (l *lab) writing(ctx context.Context, name, size int, within *Hold) <-chan error {
	c := make(chan error, 1)
	go func() { c <- l.write(ctx, name, size, within) }()
	synctest.Wait()
	return c
}

// wantPending checks that a call still waits.
func (l *lab) wantPending(calls ...<-chan error) {
	l.t.Helper()
	synctest.Wait()
	for i, c := range calls {
		select {
		case err := <-c:
			l.t.Errorf("call %d has returned %v", i, err)
		default:
		}
	}
}

// parse returns the names of the frames in b, and how many bytes of a cut
// frame follow them.
func parse(t testing.TB, b []byte) (names []int, rest int) {
	t.Helper()
	for len(b) >= headSize {
		name, n := int(binary.BigEndian.Uint32(b)), int(binary.BigEndian.Uint32(b[4:]))
		if len(b) < headSize+n {
			break
		}
		if !slices.Equal(b[headSize:headSize+n], payload(name, n)) {
			t.Fatalf("frame %d, of %d bytes after frames %v, is torn", name, n, names)
		}
		names = append(names, name)
		b = b[headSize+n:]
	}
	return names, len(b)
}

// read returns the names of the frames that the peer gets without the clock
// moving on.
func (l *lab) read() (names []int) {
	l.t.Helper()
	names, rest := parse(l.t, l.readBytes())
	if rest > 0 {
		l.t.Errorf("%d bytes of a cut frame behind frames %v", rest, names)
	}
	return names
}

func (l *lab) readBytes() (all []byte) {
	l.t.Helper()
	for synctest.Wait(); l.peer.Unread() > 0; synctest.Wait() {
		p := make([]byte, l.peer.Unread())
		n, err := io.ReadFull(l.peer, p)
		all = append(all, p[:n]...)
		if err != nil {
			l.t.Error(err)
			return all
		}
	}
	return all
}

func (l *lab) wantRead(names ...int) {
	l.t.Helper()
	if got := l.read(); !slices.Equal(got, names) {
		l.t.Errorf("on the wire %v, want %v", got, names)
	}
}

// answer sends a reply, as a reader does that has nothing more to read.
func answer(q *Queue, frame []byte) error {
	err := q.Reply(frame)
	q.Flush()
	return err
}

// stick makes the connection take nothing more, with a frame of 10 bytes, its
// name 0, stuck in it.
func (l *lab) stick() <-chan error {
	l.t.Helper()
	l.here.StallWriteAfter(0)
	call := l.writing(ctx, 0, 10, nil)
	l.wantPending(call)
	return call
}

func (l *lab) release() { l.here.StallWriteAfter(-1) }

// upTo returns 1 … n.
func upTo(n int) (names []int) {
	for i := range n {
		names = append(names, i+1)
	}
	return names
}

// label names a subtest after numbers.
func label(what string, n ...int) string { return fmt.Sprint(what, " ", n) }

// aFrame makes a Frame with this header.
func aFrame(head, payload []byte, within *Hold, more bool) *Frame {
	f := &Frame{Payload: payload, Within: within, More: more}
	f.Header = uint8(copy(f.Head[:], head))
	return f
}
