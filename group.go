package websocket

import (
	"errors"
	"iter"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sockeye-ws/websocket/internal/deflate"
	"github.com/sockeye-ws/websocket/internal/sendq"
)

// A Prepared is one message, encoded once for any number of connections:
// [Conn.SendPrepared] and [Group.Send] send it by reference. It comes from
// [NewPrepared]; the zero value is no message and is not sent.
type Prepared struct {
	frame []byte
	head  int // bytes of it before the payload
	typ   MessageType

	mu      sync.Mutex
	deflate [deflate.MaxBits + 1]*sendq.Shared // by window; compressed when first wanted
}

// errUnprepared is for what NewPrepared has not made.
var errUnprepared = errors.New("websocket: send: the message does not come from NewPrepared")

func (p *Prepared) made() bool { return p != nil && p.typ != 0 }

func (p *Prepared) data() []byte { return p.frame[p.head:] }

// NewPrepared prepares a message. p is copied. Text has to be UTF-8, else
// [ErrInvalidUTF8] is returned.
func NewPrepared(typ MessageType, p []byte) (*Prepared, error) {
	if err := checkMessage("prepare", typ, p); err != nil {
		return nil, err
	}
	frame := appendHeader(make([]byte, 0, maxHeader+len(p)), header{fin: true, op: typ.opcode(), length: int64(len(p))})
	return &Prepared{frame: append(frame, p...), head: len(frame), typ: typ}, nil
}

// compressed returns the message for peers with a window of this size, or nil
// if it does not become shorter. It refers to no other, so that it can be read
// whatever came before.
func (p *Prepared) compressed(bits int) *sendq.Shared {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.deflate[bits] == nil {
		s := new(sendq.Shared) // without a frame: it does not
		body := make([]byte, maxHeader, maxHeader+len(p.data())+deflate.Slack)
		if b, ok := deflate.Alone(body, p.data(), bits, deflate.Better); ok {
			b = b[maxHeader:]
			h := header{fin: true, rsv1: true, op: p.typ.opcode(), length: int64(len(b))}
			s.Frame = append(appendHeader(make([]byte, 0, maxHeader+len(b)), h), b...)
			s.Plain = p.data()
		}
		p.deflate[bits] = s
	}
	if p.deflate[bits].Frame == nil {
		return nil
	}
	return p.deflate[bits]
}

// A Group is a set of connections that get the same messages: a chat room, a
// topic, everybody. The zero value is empty and ready. A connection may be in
// any number of groups, and leaves them by itself when it ends, which is after
// its handler has returned, deferred calls included. Any number of goroutines
// may use a Group at once, also to send: all members get the messages in the
// same order, each message as of the members at its call. No method waits for a
// member, so all may be called under a lock of the application's.
type Group struct {
	mu      sync.Mutex // before the mu of a Conn
	index   map[*Conn]int
	members []*Conn
	shared  []*Conn // what members was when somebody last looked; nil: it has changed

	// order is held while a message is put into the members' queues, so
	// that it is the same for all. No call is made under it.
	order sync.Mutex
	owed  [][]*Conn // those whose queues are left to flush, which has been started
	left  int       // messages that were
}

// Add makes c a member. It reports false, and does nothing, if c has ended or is
// nil; adding a member again changes nothing.
func (g *Group) Add(c *Conn) bool {
	if c == nil {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.index[c]; ok {
		return true
	}
	if !c.enterGroup(g) {
		return false
	}
	if g.index == nil {
		g.index = make(map[*Conn]int)
	}
	g.index[c] = len(g.members)
	g.members = append(g.members, c)
	g.shared = nil
	return true
}

// Remove takes c out, and reports whether it was in. Messages that were sent
// before still reach it.
func (g *Group) Remove(c *Conn) bool {
	if !g.remove(c) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.rare; r != nil {
		if i := slices.Index(r.groups, g); i >= 0 {
			r.groups = slices.Delete(r.groups, i, i+1)
		}
	}
	return true
}

func (g *Group) remove(c *Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	i, ok := g.index[c]
	if !ok {
		return false
	}
	delete(g.index, c)
	last := len(g.members) - 1
	if moved := g.members[last]; moved != c {
		g.members[i] = moved
		g.index[moved] = i
	}
	g.members[last] = nil
	g.members = g.members[:last]
	g.shared = nil
	return true
}

// Len returns the number of members.
func (g *Group) Len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.members)
}

// All returns the members as they are when the loop begins, in no order.
func (g *Group) All() iter.Seq[*Conn] {
	return func(yield func(*Conn) bool) {
		for _, c := range g.snapshot() {
			if !yield(c) {
				return
			}
		}
	}
}

// snapshot returns the members. Nobody may change it.
func (g *Group) snapshot() []*Conn {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shared == nil {
		g.shared = slices.Clone(g.members)
	}
	return g.shared
}

// Send sends p to all members but those in except, without ever waiting for
// one, as [Conn.Send] does. It returns how many accepted it and how many did
// not because their queues are full: they have been disconnected or miss it, as
// their [Config.Overflow] says. Those that end meanwhile count for neither, and
// nobody does for a p that is nil or does not come from [NewPrepared].
func (g *Group) Send(p *Prepared, except ...*Conn) (accepted, dropped int) {
	if !p.made() {
		return 0, 0
	}
	var slow []*Conn
	var told []outcome // for counters and hooks, when no lock is held
	more := false      // a member has more to handle, which it may send to all
	g.order.Lock()
	members := g.snapshot()
	for _, c := range members {
		more = more || c.more.Load()
		if len(except) > 0 && slices.Contains(except, c) {
			continue
		}
		gone, err := c.postPrepared(p)
		if err == sendq.ErrFull {
			gone++
		}
		if gone > 0 || c.cfg.Trace != nil {
			told = append(told, outcome{c, gone, err == nil})
		}
		switch err {
		case nil:
			accepted++
		case sendq.ErrFull:
			dropped++
			if c.cfg.Overflow == Disconnect {
				slow = append(slow, c)
			}
		}
	}
	if more {
		g.leave(members)
	}
	g.order.Unlock()

	for _, c := range slow { // before hooks, see posted
		c.overflow()
	}
	for _, o := range told {
		o.c.dropped(o.dropped)
		if o.accepted {
			o.c.traceSent(p.typ.bare(), int64(len(p.data())))
		}
	}
	if !more {
		flushAll(members)
	}
	return accepted, dropped
}

// An outcome is what has become of a message for a member.
type outcome struct {
	c        *Conn
	dropped  int // this one, or earlier ones that gave way
	accepted bool
}

// leave leaves it to another goroutine to flush the queues of the members, soon
// and with what is sent meanwhile.
func (g *Group) leave(members []*Conn) {
	if n := len(g.owed); len(members) > 0 && (n == 0 || &g.owed[n-1][0] != &members[0]) {
		g.owed = append(g.owed, members) // others than those of the last message
	}
	if g.left++; g.left == 1 {
		go g.flush()
	}
}

// flush flushes the queues that were left to it, once nothing more comes.
func (g *Group) flush() {
	g.order.Lock()
	sendq.LetGather(&g.order, func() int { return g.left })
	owed := g.owed
	g.owed, g.left = nil, 0
	g.order.Unlock()
	for _, members := range owed {
		flushAll(members)
	}
}

// flushAll makes one attempt to write for each of the members. Of a large
// group every processor takes a share; nobody waits for the others.
func flushAll(members []*Conn) {
	workers := min(len(members)/shareOut, runtime.GOMAXPROCS(0))
	if workers <= 1 {
		for _, c := range members {
			c.out.Flush()
		}
		return
	}
	var taken atomic.Int64
	work := func() {
		for {
			end := int(taken.Add(share))
			if end-share >= len(members) {
				return
			}
			for _, c := range members[end-share : min(end, len(members))] {
				c.out.Flush()
			}
		}
	}
	for range workers - 1 {
		go work()
	}
	work()
}

const (
	shareOut = 256 // members for one more processor
	share    = 32  // that it takes at a time
)

// enterGroup notes that c is a member of g, unless c has ended.
func (c *Conn) enterGroup(g *Group) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended() != nil {
		return false
	}
	r := c.rarely()
	r.groups = append(r.groups, g)
	return true
}

// leaveGroups takes c out of all groups. It has ended, so that no other can be
// added.
func (c *Conn) leaveGroups() {
	c.mu.Lock()
	var groups []*Group
	if c.rare != nil {
		groups, c.rare.groups = c.rare.groups, nil
	}
	c.mu.Unlock()
	for _, g := range groups {
		g.remove(c)
	}
}
