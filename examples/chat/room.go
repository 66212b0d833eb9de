package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sockeye-ws/websocket"
)

const (
	maxHistory = 50  // messages that a newcomer sees
	maxMembers = 200 // in one room: every event costs one step for each

	// maxBehind is how many bytes may wait for a page. For what finds no more
	// room a chat wants Config.Overflow's default: the page is disconnected,
	// comes back, and finds what it missed in the history. The longest welcome
	// has to leave room for more, or a newcomer would be too far behind at once.
	maxBehind = 1 << 20
)

// member is one connection in one room.
type member struct {
	person
	conn *websocket.Conn
	room *room
}

// room is who is there and what was said. The hub holds its lock around every
// call, so that the events come to all members in the order of what is in here.
type room struct {
	name    string
	members []*member       // in the order of coming
	conns   websocket.Group // theirs, who get the events
	history []message       // the newest last
	lastSeq int64
	expiry  *time.Timer // runs while the room is empty
}

func newRoom(name string) *room {
	// Counting from the clock keeps the numbers rising over a restart of the
	// server, so a page that comes back can tell what it has already shown.
	return &room{name: name, lastSeq: time.Now().UnixMilli()}
}

// join brings m in, under a free name, and welcomes it. A page that lost its
// connection is often back before the server has noticed: the same person then
// takes the old member's place, and to the others nothing has happened.
func (r *room) join(m *member) error {
	at := slices.IndexFunc(r.members, func(o *member) bool { return o.ID == m.ID })
	if at < 0 && len(r.members) >= maxMembers {
		return refuse(websocket.StatusTryAgainLater, "The room is full.")
	}
	var old *member
	if at >= 0 {
		old = r.members[at]
		r.members = slices.Delete(r.members, at, at+1)
		old.conn.Close(statusReplaced, "This chat was opened in another place.")
	} else {
		at = len(r.members)
	}
	m.Name = r.freeName(m.Name)
	m.room = r
	r.members = slices.Insert(r.members, at, m)

	// m gets the events from its welcome on.
	if old != nil && old.Name != m.Name {
		r.send(event{Type: "left", Who: &old.person})
	}
	if old == nil || old.Name != m.Name {
		r.send(event{Type: "joined", Who: &m.person})
	}
	m.conn.SendPrepared(encode(event{Type: "welcome", Room: r.name, Who: &m.person, People: r.people(), Messages: r.history}))
	r.conns.Add(m.conn)
	return nil
}

// leave takes m out and reports whether it was in: one that was replaced is not.
func (r *room) leave(m *member) bool {
	at := slices.Index(r.members, m)
	if at < 0 {
		return false
	}
	r.members = slices.Delete(r.members, at, at+1)
	r.conns.Remove(m.conn) // if the server hangs up, it has not ended yet
	r.send(event{Type: "left", Who: &m.person})
	return true
}

// say sends a text to everybody, its author too: what a page shows as said has
// been heard.
func (r *room) say(m *member, text, key string) {
	r.lastSeq++
	msg := message{Seq: r.lastSeq, At: time.Now().UnixMilli(), From: m.person, Text: text, Key: key}
	if len(r.history) == maxHistory {
		r.history = slices.Delete(r.history, 0, 1)
	}
	r.history = append(r.history, msg)
	r.send(event{Type: "message", Messages: []message{msg}})
}

// typing tells the others. It is never taken back: pages let it fade.
func (r *room) typing(m *member) {
	r.send(event{Type: "typing", Who: &m.person}, m.conn)
}

func (r *room) send(e event, except ...*websocket.Conn) { r.conns.Send(encode(e), except...) }

func (r *room) people() []person {
	all := make([]person, len(r.members))
	for i, m := range r.members {
		all[i] = m.person
	}
	return all
}

// freeName adds a number to a name that is taken, whatever its case. The number
// may go over maxName: that limit is for what people type.
func (r *room) freeName(want string) string {
	name := want
	for n := 2; r.hasName(name); n++ {
		name = fmt.Sprintf("%s %d", want, n)
	}
	return name
}

func (r *room) hasName(name string) bool {
	return slices.ContainsFunc(r.members, func(m *member) bool { return strings.EqualFold(m.Name, name) })
}
