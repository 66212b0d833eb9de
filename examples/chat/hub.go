package main

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/sockeye-ws/websocket"
)

const (
	joinTimeout = 10 * time.Second // for a connection's first request
	maxRooms    = 1000
	// keepEmpty is how long a room outlives its last member, so that a person
	// who reloads the page alone finds the conversation still there.
	keepEmpty = 10 * time.Minute
)

// hub has the rooms, behind one lock. Nothing waits while it holds the lock: what
// is sent goes to queues, and Close only begins the end.
type hub struct {
	mu    sync.Mutex
	rooms map[string]*room // by lower-case name
}

func newHub() *hub {
	return &hub{rooms: make(map[string]*room)}
}

// serve is one connection's life: it joins, then speaks, until it ends. What it
// returns goes to the page as the close code and reason.
func (h *hub) serve(c *websocket.Conn) error {
	m, err := h.admit(c)
	if err != nil {
		return err
	}
	defer h.leave(m)

	rate := newAllowance()
	for msg, err := range c.Messages(c.Context()) {
		if err != nil {
			return err
		}
		if !rate.take() {
			return refuse(statusRefused, "Too many messages at once.")
		}
		req, err := parse(msg)
		if err != nil {
			return err
		}
		if err := h.handle(m, req); err != nil {
			return err
		}
	}
	return nil
}

// admit waits for the join. It comes as a message and not in the URL because a
// page sees nothing of a refused handshake, but does see a close reason.
func (h *hub) admit(c *websocket.Conn) (*member, error) {
	ctx, cancel := context.WithTimeout(c.Context(), joinTimeout)
	defer cancel()
	typ, p, err := c.Read(ctx)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return nil, refuse(statusBadRequest, "join first")
		}
		return nil, err
	}
	req, err := parse(websocket.Message{Type: typ, Data: p})
	if err != nil {
		return nil, err
	}
	return h.join(c, req)
}

func (h *hub) join(c *websocket.Conn, req request) (*member, error) {
	req, err := checkJoin(req)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	key := strings.ToLower(req.Room)
	r := h.rooms[key]
	if r == nil {
		if len(h.rooms) >= maxRooms {
			return nil, refuse(websocket.StatusTryAgainLater, "There are too many rooms.")
		}
		r = newRoom(req.Room)
		h.rooms[key] = r
	}
	m := &member{person: person{ID: personID(req.Session), Name: req.Name}, conn: c}
	if err := r.join(m); err != nil {
		return nil, err
	}
	if r.expiry != nil {
		r.expiry.Stop()
	}
	return m, nil
}

// handle does what a member asks for.
func (h *hub) handle(m *member, req request) error {
	switch req.Type {
	case "say":
		req, err := checkSay(req)
		if err != nil {
			return err
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		m.room.say(m, req.Text, req.Key)
	case "typing":
		h.mu.Lock()
		defer h.mu.Unlock()
		m.room.typing(m)
	default:
		return refuse(statusBadRequest, "unknown request")
	}
	return nil
}

func (h *hub) leave(m *member) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := m.room
	if r.leave(m) && len(r.members) == 0 {
		r.expiry = time.AfterFunc(keepEmpty, func() { h.forget(r) })
	}
}

// forget drops a room, unless somebody came in while the timer was firing, or a
// later room has the name by now.
func (h *hub) forget(r *room) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if key := strings.ToLower(r.name); h.rooms[key] == r && len(r.members) == 0 {
		delete(h.rooms, key)
	}
}
