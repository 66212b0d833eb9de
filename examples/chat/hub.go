package main

import (
	"context"
	"errors"
	"maps"
	"slices"
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

// hub has the rooms and the connections, behind one lock. Nothing waits while it
// holds the lock: members are reached through their outboxes.
type hub struct {
	mu    sync.Mutex
	rooms map[string]*room // by lower-case name
	conns map[*websocket.Conn]struct{}
	down  bool
}

func newHub() *hub {
	return &hub{rooms: make(map[string]*room), conns: make(map[*websocket.Conn]struct{})}
}

// serve is one connection's life: it joins, then speaks, until it ends. What it
// returns goes to the page as the close code and reason.
func (h *hub) serve(c *websocket.Conn) error {
	if !h.track(c) {
		return refuse(websocket.StatusServiceRestart, "")
	}
	defer h.untrack(c)

	m, err := h.admit(c)
	if err != nil {
		return err
	}
	defer h.leave(m)
	go m.deliver(c)

	rate := newAllowance()
	for msg, err := range c.Messages(c.Context()) {
		if err != nil {
			return err
		}
		if !rate.take() {
			return refuse(websocket.StatusPolicyViolation, "Too many messages at once.")
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
			return nil, refuse(websocket.StatusPolicyViolation, "join first")
		}
		return nil, err
	}
	req, err := parse(websocket.Message{Type: typ, Data: p})
	if err != nil {
		return nil, err
	}
	return h.join(req, c.Close)
}

func (h *hub) join(req request, close func(websocket.StatusCode, string) error) (*member, error) {
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
	m := newMember(person{ID: personID(req.Session), Name: req.Name}, close)
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
		return refuse(websocket.StatusPolicyViolation, "unknown request")
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

// track counts c among the connections that shutdown closes.
func (h *hub) track(c *websocket.Conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.down {
		return false
	}
	h.conns[c] = struct{}{}
	return true
}

func (h *hub) untrack(c *websocket.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.conns, c)
}

// shutdown tells everybody that the server restarts, upon which the pages come
// back by themselves, and waits until all are gone or ctx is done.
func (h *hub) shutdown(ctx context.Context) {
	h.mu.Lock()
	h.down = true
	conns := slices.Collect(maps.Keys(h.conns))
	h.mu.Unlock()
	for _, c := range conns {
		c.Close(websocket.StatusServiceRestart, "The server restarts.")
	}
	for _, c := range conns {
		select {
		case <-c.Context().Done():
		case <-ctx.Done():
			return
		}
	}
}
