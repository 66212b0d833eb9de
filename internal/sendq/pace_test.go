package sendq

import (
	"bytes"
	"runtime"
	"testing"

	"github.com/sockeye-ws/websocket/internal/transport"
)

// play asks a pace n times, with the same number of messages in each call that
// was left, and returns how many were.
func (p *Pace) play(n, gathered int) (left int) {
	for range n {
		if !p.Now() {
			left++
			p.Gathered(gathered)
		}
	}
	return left
}

// Who writes one message at a time makes nearly every call: it costs one try
// in 256 in the long run, and few on the way there.
func TestPaceOfSingleWrites(t *testing.T) {
	for gathered := range worth {
		p := NewPace()
		for i := range firstWait {
			if !p.Now() {
				t.Fatalf("call %d is left", i)
			}
		}
		if left := p.play(1000, gathered); left > 6 {
			t.Errorf("%d of the first 1000 calls are left", left)
		}
		const n = 100 * (longest + 1)
		if left := p.play(n, gathered); left != 100 {
			t.Errorf("%d of %d calls are left, want one in %d", left, n, longest+1)
		}
	}
}

// Who writes in a loop leaves all calls from the first that was worth it.
func TestPaceLearns(t *testing.T) {
	for _, gathered := range []int{worth, worth + 1, 1000} {
		p := NewPace()
		if left := p.play(firstWait+1000, gathered); left != 1000 {
			t.Errorf("%d messages in a call: %d of %d calls are left", gathered, left, firstWait+1000)
		}
	}
}

// When the loop is over, calls are made again: the tries get rarer with each
// one that was not worth it.
func TestPaceUnlearns(t *testing.T) {
	p := NewPace()
	p.play(1000, 100)
	for want := 1; want <= longest; want = 2*want + 1 {
		if p.Now() {
			t.Fatalf("before %d calls: not left", want)
		}
		p.Gathered(1)
		for i := range want {
			if !p.Now() {
				t.Fatalf("call %d of %d is left", i, want)
			}
		}
	}
	// And one that is worth it brings back all of them.
	if p.Now() {
		t.Fatal("it has ceased to try")
	}
	p.Gathered(worth)
	if left := p.play(10, worth); left != 10 {
		t.Errorf("%d of 10 are left", left)
	}
}

// Until a call that was left is made, others are left to it too.
func TestPaceLeavesMoreToTheSameCall(t *testing.T) {
	p := Pace{}
	for range 1000 {
		if p.Now() {
			t.Fatal("a call is made while another one gathers")
		}
	}
}

// A counter takes everything without waiting, and counts the calls.
type counter struct {
	transport.Conn
	calls, flushes int // of these, by the flusher
}

func (c *counter) Tries() bool { return true }

func (c *counter) TryWrite(p []byte) (int, error) {
	c.calls++
	var stack [4 << 10]byte
	if bytes.Contains(stack[:runtime.Stack(stack[:], false)], []byte("(*Queue).flush(")) {
		c.flushes++
	}
	return c.Conn.Write(p)
}

// A queue tells its pace how much has gathered: what is written in a loop goes
// out with few calls, and what is written now and then by calls of its writer.
func TestQueuePaces(t *testing.T) {
	for name, write := range map[string]func(l *lab, name int){
		"Write": func(l *lab, name int) { wantErr(l.t, "Write", l.write(ctx, name, 50, nil), nil) },
		"Post": func(l *lab, name int) {
			wantErr(l.t, "Post", second(l.q.Post(nil, frame(name, 50), true)), nil)
			l.q.Paced()
		},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *lab) {
				c := &counter{Conn: l.conn}
				l.q.out = c
				const n = 1000
				for i := range n {
					write(l, i)
					l.wantRead(i)
				}
				if f := c.flushes; f > 6 || f == 0 || c.calls != n {
					t.Errorf("%d calls for %d single messages, %d left to the flusher", c.calls, n, f)
				}
				// Loops that each fill a call, as far as the flusher is not
				// faster than the loop.
				l.q.pace = Pace{}
				c.calls, c.flushes = 0, 0
				for i := range n / 10 {
					for j := range 10 {
						l.q.Post(nil, frame(10*i+j, 50), true)
					}
					l.q.Paced()
					if got := len(l.read()); got != 10 {
						t.Errorf("loop %d: %d messages came", i, got)
					}
				}
				if f := c.flushes; c.calls != n/10 || f < n/10 {
					t.Errorf("%d calls for %d loops, %d left to the flusher", c.calls, n/10, f)
				}
			})
		})
	}
}
