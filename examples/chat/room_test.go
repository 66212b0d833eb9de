package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/memconn"
)

// newMember returns a member and its page.
func newMember(t *testing.T, id, name string) (*member, *client) {
	t.Helper()
	c, page := attach(t)
	return &member{person: person{ID: id, Name: name}, conn: c}, page
}

// lines is the pending events in short.
func (c *client) lines() []string {
	c.t.Helper()
	var all []string
	for _, e := range c.pending() {
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
		synctest.Test(t, func(t *testing.T) {
			r := newRoom("tea")
			for i, name := range tt.there {
				m, _ := newMember(t, fmt.Sprint(i), name)
				if err := r.join(m); err != nil {
					t.Fatal(err)
				}
			}
			m, _ := newMember(t, "new", tt.want)
			if err := r.join(m); err != nil || m.Name != tt.got {
				t.Errorf("%q among %q is called %q, want %q; %v", tt.want, tt.there, m.Name, tt.got, err)
			}
		})
	}
}

func TestNameIsFreeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom("tea")
		first, page := newMember(t, "1", "Ada")
		second, _ := newMember(t, "2", "Ada")
		r.join(first)
		page.want("welcome")
		if !r.leave(first) || r.leave(first) {
			t.Error("a member leaves once")
		}
		if r.join(second); second.Name != "Ada" {
			t.Errorf("called %q", second.Name)
		}
		if got := page.lines(); got != nil {
			t.Errorf("who has left still saw %q", got)
		}
	})
}

// Each page gets its welcome first, and from then on all that happens.
func TestWelcomeComesFirst(t *testing.T) {
	inServer(t, nil, func(t *testing.T, ln *memconn.Listener, stop func() error) {
		const pages, each = 8, allowBurst
		var all sync.WaitGroup
		for i := range pages {
			all.Go(func() {
				c, welcome := enter(t, ln, fmt.Sprint("Page ", i))
				for range each {
					c.ask(request{Type: "say", Text: "x"})
				}
				var last int64
				for _, m := range welcome.Messages {
					last = m.Seq
				}
				people := len(welcome.People)
				for heard := 0; heard < each || people < pages; {
					switch e := c.event(); e.Type {
					case "joined":
						people++
					case "message":
						m := e.Messages[0]
						if last != 0 && m.Seq != last+1 {
							t.Errorf("message %d comes after %d", m.Seq, last)
						}
						if last = m.Seq; m.From == *welcome.Who {
							heard++
						}
					}
				}
				go io.Copy(io.Discard, c.br) // a page reads what it is sent
			})
		}
		all.Wait()
	})
}

func TestHistoryBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom("tea")
		ada, _ := newMember(t, "1", "Ada")
		r.join(ada)
		for i := range maxHistory + 10 {
			r.say(ada, fmt.Sprint(i), "")
		}
		eve, page := newMember(t, "2", "Eve")
		r.join(eve)
		got := page.want("welcome").Messages
		if len(got) != maxHistory || got[0].Text != "10" || got[maxHistory-1].Text != fmt.Sprint(maxHistory+9) {
			t.Errorf("%d messages, from %q to %q", len(got), got[0].Text, got[len(got)-1].Text)
		}
		if !slices.IsSortedFunc(got, func(a, b message) int { return int(a.Seq - b.Seq) }) {
			t.Error("the numbers do not rise")
		}
	})
}

// A page that was open while the server restarted must not take new messages for
// ones it has shown.
func TestNumbersRiseOverRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ada := &member{person: person{ID: "1", Name: "Ada"}}
		before := newRoom("tea")
		before.say(ada, "x", "")
		time.Sleep(time.Second)
		after := newRoom("tea")
		after.say(ada, "y", "")
		if a, b := before.history[0].Seq, after.history[0].Seq; a >= b {
			t.Errorf("%d before, %d after", a, b)
		}
	})
}

// A newcomer that has yet to take the longest welcome is not too far behind.
func TestLongestWelcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(strings.Repeat("<", maxRoom))
		ada, page := newMember(t, "ada", "Ada")
		page.nc.Close() // nobody there has to read
		for i := range maxMembers - 1 {
			m := *ada
			m.ID, m.Name = personID(fmt.Sprint(i)), strings.Repeat("<", maxName)+fmt.Sprint(" ", i)
			r.members = append(r.members, &m)
		}
		for range maxHistory {
			r.say(r.members[0], strings.Repeat("<", maxText), strings.Repeat("<", maxKey))
		}
		eve, page := newMember(t, personID("eve"), strings.Repeat("<", maxName))
		if err := r.join(eve); err != nil {
			t.Fatal(err)
		}
		const meanwhile = 20
		for range meanwhile {
			r.say(eve, strings.Repeat("<", maxText), "")
		}
		if w := page.want("welcome"); len(w.People) != maxMembers || len(w.Messages) != maxHistory {
			t.Errorf("%d people, %d messages", len(w.People), len(w.Messages))
		}
		for range meanwhile {
			page.want("message")
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
		synctest.Test(t, func(t *testing.T) {
			r := newRoom("tea")
			old, oldPage := newMember(t, "1", "Ada")
			eve, evePage := newMember(t, "2", "Eve")
			back, backPage := newMember(t, "1", tt.name)
			r.join(old)
			r.join(eve)
			oldPage.lines()
			evePage.lines()
			if err := r.join(back); err != nil {
				t.Fatal(err)
			}
			if n, _ := oldPage.wantClose(statusReplaced); n != 0 {
				t.Errorf("the old one saw %d events", n)
			}
			if got := evePage.lines(); !slices.Equal(got, tt.others) {
				t.Errorf("the others saw %q, want %q", got, tt.others)
			}
			if got := backPage.lines(); !slices.Equal(got, []string{"welcome " + tt.called}) {
				t.Errorf("the new one saw %q", got)
			}
			if got := r.people(); len(got) != 2 || got[0] != (person{"1", tt.called}) {
				t.Errorf("people: %v", got)
			}
			if r.leave(old) {
				t.Error("the old one was still in")
			}
		})
	}
}

func TestFullRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom("tea")
		c, page := attach(t) // one connection will do for all of them
		join := func(id, name string) error {
			return r.join(&member{person: person{ID: id, Name: name}, conn: c})
		}
		for i := range maxMembers {
			if err := join(fmt.Sprint(i), "Ada"); err != nil {
				t.Fatal(err)
			}
			page.pending()
		}
		wantCode(t, join("more", "Eve"), websocket.StatusTryAgainLater)
		if err := join("0", "Ada"); err != nil {
			t.Errorf("a member that came back: %v", err)
		}
	})
}

func TestTypingGoesToTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom("tea")
		ada, adaPage := newMember(t, "1", "Ada")
		eve, evePage := newMember(t, "2", "Eve")
		r.join(ada)
		r.join(eve)
		adaPage.lines()
		evePage.lines()
		r.typing(ada)
		if got := evePage.lines(); !slices.Equal(got, []string{"typing Ada"}) {
			t.Errorf("the other saw %q", got)
		}
		if got := adaPage.lines(); got != nil {
			t.Errorf("the typist saw %q", got)
		}
	})
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
