package transport

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// recorded makes deadlines that write down what they set: "past", "none" or
// how far ahead.
func recorded(bound time.Duration) (*deadlines, *[]string) {
	log := new([]string)
	return &deadlines{bound: bound, conn: &setter{set: func(_ direction, at time.Time) error {
		switch {
		case at.Equal(past):
			*log = append(*log, "past")
		case at.IsZero():
			*log = append(*log, "none")
		default:
			*log = append(*log, time.Until(at).String())
		}
		return nil
	}}}, log
}

// A setter is told what is set, and counts its ends.
type setter struct {
	net.Conn
	set     func(direction, time.Time) error
	aborted int
}

func (s *setter) SetReadDeadline(at time.Time) error  { return s.set(in, at) }
func (s *setter) SetWriteDeadline(at time.Time) error { return s.set(out, at) }
func (s *setter) Close() error                        { s.aborted++; return nil }

func TestDeadline(t *testing.T) {
	const bound = 10 * time.Second
	type step func(d *deadlines)
	arm, disarm := (*deadlines).arm, (*deadlines).disarm
	interrupt, resume := func(d *deadlines) { d.Out().Interrupt() }, func(d *deadlines) { d.Out().Resume() }
	after := func(d *deadlines) { d.In().After(3 * time.Second) }
	interruptIn, resumeIn := func(d *deadlines) { d.In().Interrupt() }, func(d *deadlines) { d.In().Resume() }
	lower := func(d *deadlines) { d.Out().Bound(2 * time.Second) }
	lift := func(d *deadlines) { d.Out().Bound(-1) }
	tests := []struct {
		name  string
		bound time.Duration
		steps []step
		want  string
	}{
		{"a wait", bound, []step{arm, disarm}, "[10s none]"},
		{"a wait without bound", -1, []step{arm, disarm}, "[]"},
		{"bound 0", 0, []step{arm, disarm}, "[]"},
		{"interrupted before", bound, []step{interrupt, arm, disarm}, "[past]"},
		{"interrupted in the wait", bound, []step{arm, interrupt, disarm}, "[10s past]"},
		{"interrupted, then resumed", bound, []step{interrupt, resume, arm, disarm}, "[past none 10s none]"},
		{"nothing to resume", bound, []step{resume, arm, resume}, "[10s]"},
		{"interrupted twice", bound, []step{interrupt, interrupt, resume, resume}, "[past past none]"},
		{"after", bound, []step{after}, "[3s]"},
		{"after an interrupt", bound, []step{interruptIn, after}, "[past]"},
		{"after one of the other direction", bound, []step{interrupt, after}, "[past 3s]"},
		{"reads interrupted twice", bound, []step{interruptIn, interruptIn, resumeIn, resumeIn}, "[past past none]"},
		{"reads interrupted, a write", bound, []step{interruptIn, arm, disarm, resume, resumeIn}, "[past 10s none none]"},
		{"bounded later", -1, []step{arm, lower, disarm}, "[2s none]"},
		{"bounded between waits", -1, []step{lower, arm, disarm}, "[2s none]"},
		{"bounded lower", bound, []step{arm, lower, disarm}, "[10s 2s none]"},
		{"bounded while interrupted", bound, []step{arm, interrupt, lower, disarm}, "[10s past]"},
		{"bound lifted", bound, []step{lift, arm, disarm}, "[]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, log := recorded(tt.bound)
				for _, step := range tt.steps {
					step(d)
				}
				if got := fmt.Sprint(*log); got != tt.want {
					t.Errorf("set %s, want %s", got, tt.want)
				}
			})
		})
	}
}

func TestResumeKnowsItsInterrupt(t *testing.T) {
	// A deadline that somebody else has set must not look like ours.
	d, _ := recorded(time.Second)
	d.arm()
	d.In().After(time.Second)
	if d.In().Resume() || d.Out().Resume() {
		t.Error("there was no interrupt")
	}
	d.In().Interrupt()
	d.Out().Interrupt()
	d.disarm()
	if !d.In().Resume() || d.In().Resume() || !d.Out().Resume() || d.Out().Resume() {
		t.Error("one interrupt is not taken back once")
	}
}

func TestInterruptWithoutDeadlines(t *testing.T) {
	// A connection that has none can only be closed.
	c := &setter{set: func(direction, time.Time) error { return errors.ErrUnsupported }}
	d := &deadlines{conn: c, bound: time.Second}
	d.arm()
	d.In().After(time.Second)
	d.disarm()
	if c.aborted != 0 {
		t.Error("aborted without an interrupt")
	}
	if d.In().Interrupt(); c.aborted != 1 {
		t.Errorf("aborted %d times", c.aborted)
	}
	if d.Out().Interrupt(); c.aborted != 2 {
		t.Errorf("aborted %d times", c.aborted)
	}
}

// TestDeadlineRace: whatever waits begin and end meanwhile, an interrupt
// stands until it is taken back.
func TestDeadlineRace(t *testing.T) {
	var last [2]time.Time
	d := &deadlines{bound: time.Hour, conn: &setter{set: func(to direction, at time.Time) error { last[to] = at; return nil }}}
	for range 1000 {
		var wg sync.WaitGroup
		wg.Go(func() {
			for range 5 {
				d.arm()
				d.disarm()
			}
			d.arm()
		})
		wg.Go(func() { d.In().After(time.Minute) })
		wg.Go(func() { d.Out().Bound(2 * time.Hour) })
		wg.Go(d.In().Interrupt)
		wg.Go(d.Out().Interrupt)
		wg.Wait()
		if last != [2]time.Time{past, past} {
			t.Fatalf("the deadlines of interrupted waits are %v", last)
		}
		d.In().Resume()
		d.Out().Resume()
		d.disarm()
		if last != [2]time.Time{} {
			t.Fatalf("the deadlines of no waits are %v", last)
		}
	}
}
