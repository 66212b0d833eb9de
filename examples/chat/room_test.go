package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
)

// fake is a member without a connection.
type fake struct {
	*member
	closed []websocket.StatusCode
}

func newFake(id, name string) *fake {
	f := new(fake)
	f.member = newMember(person{ID: id, Name: name}, func(code websocket.StatusCode, _ string) error {
		f.closed = append(f.closed, code)
		return nil
	})
	return f
}

// events empties the outbox.
func (f *fake) events(t *testing.T) []event {
	var all []event
	for {
		select {
		case p := <-f.outbox:
			var e event
			if err := json.Unmarshal(p, &e); err != nil {
				t.Fatal(err)
			}
			all = append(all, e)
		default:
			return all
		}
	}
}

// lines is the events in short.
func (f *fake) lines(t *testing.T) []string {
	var all []string
	for _, e := range f.events(t) {
		s := e.Type
		if e.Who != nil {
			s += " " + e.Who.Name
		}
		all = append(all, s)
	}
	return all
}

func TestNames(t *testing.T) {
	for _, tt := range []struct {
		there []string
		want  string
		got   string
	}{
		{nil, "Ada", "Ada"},
		{[]string{"Ada"}, "Ada", "Ada 2"},
		{[]string{"Ada"}, "ADA", "ADA 2"},
		{[]string{"Ada", "Ada"}, "Ada", "Ada 3"},
		{[]string{"Ada 2", "Ada"}, "Ada", "Ada 3"},
		{[]string{"Ada 2"}, "Ada", "Ada"},
		{[]string{"Κώστας"}, "ΚΏΣΤΑΣ", "ΚΏΣΤΑΣ 2"},
	} {
		r := newRoom("tea")
		for i, name := range tt.there {
			if err := r.join(newFake(fmt.Sprint(i), name).member); err != nil {
				t.Fatal(err)
			}
		}
		m := newFake("new", tt.want)
		if err := r.join(m.member); err != nil || m.Name != tt.got {
			t.Errorf("%q among %q is called %q, want %q; %v", tt.want, tt.there, m.Name, tt.got, err)
		}
	}
}

func TestNameIsFreeAgain(t *testing.T) {
	r := newRoom("tea")
	first, second := newFake("1", "Ada"), newFake("2", "Ada")
	r.join(first.member)
	if !r.leave(first.member) || r.leave(first.member) {
		t.Error("a member leaves once")
	}
	if r.join(second.member); second.Name != "Ada" {
		t.Errorf("called %q", second.Name)
	}
}

func TestHistoryBound(t *testing.T) {
	r := newRoom("tea")
	ada := newFake("1", "Ada")
	r.join(ada.member)
	for i := range maxHistory + 10 {
		r.say(ada.member, fmt.Sprint(i), "")
		ada.events(t)
	}
	eve := newFake("2", "Eve")
	r.join(eve.member)
	got := eve.events(t)[0].Messages
	if len(got) != maxHistory || got[0].Text != "10" || got[maxHistory-1].Text != fmt.Sprint(maxHistory+9) {
		t.Errorf("%d messages, from %q to %q", len(got), got[0].Text, got[len(got)-1].Text)
	}
	if !slices.IsSortedFunc(got, func(a, b message) int { return int(a.Seq - b.Seq) }) {
		t.Error("the numbers do not rise")
	}
}

// A page that was open while the server restarted must not take new messages for
// ones it has shown.
func TestNumbersRiseOverRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ada := newFake("1", "Ada")
		before := newRoom("tea")
		before.join(ada.member)
		before.say(ada.member, "x", "")
		time.Sleep(time.Second)
		after := newRoom("tea")
		after.say(ada.member, "y", "")
		if a, b := before.history[0].Seq, after.history[0].Seq; a >= b {
			t.Errorf("%d before, %d after", a, b)
		}
	})
}

// Nobody waits for a member that takes nothing: a wait would stop the bubble.
func TestFullOutboxCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom("tea")
		slow, quick := newFake("1", "Slow"), newFake("2", "Quick")
		r.join(slow.member) // the welcome is the first in the outbox
		r.join(quick.member)
		got := len(quick.events(t))
		for range outboxSize - 2 {
			r.say(quick.member, "x", "")
			got += len(quick.events(t))
		}
		if slow.closed != nil {
			t.Fatalf("closed with %d events in the outbox", len(slow.outbox))
		}
		r.say(quick.member, "one too many", "")
		got += len(quick.events(t))
		if !slices.Equal(slow.closed, []websocket.StatusCode{websocket.StatusTryAgainLater}) {
			t.Errorf("closed with %v", slow.closed)
		}
		if quick.closed != nil || got != outboxSize {
			t.Errorf("the other: closed with %v, %d events", quick.closed, got)
		}
	})
}

func TestSameSessionTakesThePlace(t *testing.T) {
	for _, tt := range []struct {
		name   string // with which the page comes back
		called string
		others []string // what the others see of it
	}{
		{"Ada", "Ada", nil},
		{"Eve", "Eve 2", []string{"left Ada", "joined Eve 2"}},
	} {
		r := newRoom("tea")
		old, eve, back := newFake("1", "Ada"), newFake("2", "Eve"), newFake("1", tt.name)
		r.join(old.member)
		r.join(eve.member)
		eve.events(t)
		if err := r.join(back.member); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(old.closed, []websocket.StatusCode{statusReplaced}) {
			t.Errorf("the old one closed with %v", old.closed)
		}
		if got := eve.lines(t); !slices.Equal(got, tt.others) {
			t.Errorf("the others saw %q, want %q", got, tt.others)
		}
		if got := r.people(); len(got) != 2 || got[0] != (person{"1", tt.called}) {
			t.Errorf("people: %v", got)
		}
		if r.leave(old.member) {
			t.Error("the old one was still in")
		}
	}
}

func TestFullRoom(t *testing.T) {
	r := newRoom("tea")
	for i := range maxMembers {
		m := newFake(fmt.Sprint(i), "Ada")
		if err := r.join(m.member); err != nil {
			t.Fatal(err)
		}
		for _, m := range r.members { // as pages do
			for len(m.outbox) > 0 {
				<-m.outbox
			}
		}
	}
	wantCode(t, r.join(newFake("more", "Eve").member), websocket.StatusTryAgainLater)
	if err := r.join(newFake("0", "Ada").member); err != nil {
		t.Errorf("a member that came back: %v", err)
	}
}

func TestTypingGoesToTheOthers(t *testing.T) {
	r := newRoom("tea")
	ada, eve := newFake("1", "Ada"), newFake("2", "Eve")
	r.join(ada.member)
	r.join(eve.member)
	ada.events(t)
	eve.events(t)
	r.typing(ada.member)
	if got := eve.lines(t); !slices.Equal(got, []string{"typing Ada"}) {
		t.Errorf("the other saw %q", got)
	}
	if got := ada.lines(t); got != nil {
		t.Errorf("the typist saw %q", got)
	}
}

func TestAllowance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAllowance()
		burst := func(want int) {
			t.Helper()
			got := 0
			for a.take() {
				got++
			}
			if got != want {
				t.Errorf("%d requests passed, want %d", got, want)
			}
		}
		burst(allowBurst)
		time.Sleep(time.Second / allowPerSec)
		burst(1)
		time.Sleep(time.Hour)
		burst(allowBurst)
	})
}
