package transport

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// recorded makes a Deadline that writes down what it sets: "past", "none" or
// how far ahead.
func recorded(bound time.Duration) (*Deadline, *[]string) {
	log := new([]string)
	return &Deadline{bound: bound, set: func(at time.Time) error {
		switch {
		case at.Equal(past):
			*log = append(*log, "past")
		case at.IsZero():
			*log = append(*log, "none")
		default:
			*log = append(*log, time.Until(at).String())
		}
		return nil
	}}, log
}

func TestDeadline(t *testing.T) {
	const bound = 10 * time.Second
	type step func(d *Deadline)
	arm, disarm := (*Deadline).arm, (*Deadline).disarm
	interrupt, resume := (*Deadline).Interrupt, func(d *Deadline) { d.Resume() }
	after := func(d *Deadline) { d.After(3 * time.Second) }
	lower := func(d *Deadline) { d.Bound(2 * time.Second) }
	lift := func(d *Deadline) { d.Bound(-1) }
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
		{"after an interrupt", bound, []step{interrupt, after}, "[past]"},
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
	d.After(time.Second)
	if d.Resume() {
		t.Error("there was no interrupt")
	}
	d.Interrupt()
	d.disarm()
	if !d.Resume() || d.Resume() {
		t.Error("one interrupt is not taken back once")
	}
}

func TestInterruptWithoutDeadlines(t *testing.T) {
	// A connection that has none can only be closed.
	aborted := 0
	d := &Deadline{
		set:   func(time.Time) error { return errors.ErrUnsupported },
		abort: func() error { aborted++; return nil },
	}
	d.arm()
	d.After(time.Second)
	d.disarm()
	if aborted != 0 {
		t.Error("aborted without an interrupt")
	}
	if d.Interrupt(); aborted != 1 {
		t.Errorf("aborted %d times", aborted)
	}
}

// TestDeadlineRace: whatever waits begin and end meanwhile, an interrupt
// stands until it is taken back.
func TestDeadlineRace(t *testing.T) {
	var last time.Time
	d := &Deadline{bound: time.Hour, set: func(at time.Time) error { last = at; return nil }}
	for range 1000 {
		var wg sync.WaitGroup
		wg.Go(func() {
			for range 5 {
				d.arm()
				d.disarm()
			}
			d.arm()
		})
		wg.Go(func() { d.After(time.Minute) })
		wg.Go(func() { d.Bound(2 * time.Hour) })
		wg.Go(d.Interrupt)
		wg.Wait()
		if last != past {
			t.Fatalf("the deadline of an interrupted wait is %v", last)
		}
		d.Resume()
		d.disarm()
		if !last.IsZero() {
			t.Fatalf("the deadline of no wait is %v", last)
		}
	}
}
