package websocket

import (
	"maps"
	"net/http"
	"sync/atomic"
)

// Stats are what an [Upgrader] has counted since its first request. They are
// ready for expvar:
//
//	expvar.Publish("websocket", expvar.Func(func() any { return upgrader.Stats() }))
type Stats struct {
	// Open is how many connections there are.
	Open int
	// Upgraded is how many there have been.
	Upgraded uint64
	// Refused counts handshakes that were refused, by HTTP status.
	Refused map[int]uint64

	// Received and Sent are of all connections, also of those that are over.
	Received, Sent Traffic
	// Dropped counts messages that were dropped because a peer takes them too
	// slowly; see [Config.Overflow]. Those that are lost with a connection
	// that ends are not counted.
	Dropped uint64
	// QueuedMax is the most bytes that were ever queued on a connection.
	QueuedMax int64
	// PingsLost counts connections that ended because nothing came after a
	// ping.
	PingsLost uint64

	// Closed counts connections that are over, by status code. The codes
	// from 3000 on, which belong to applications, are counted as 3000.
	Closed map[StatusCode]Closed
}

// Closed counts connections that are over by who ended them.
type Closed struct {
	Local, Remote uint64
}

// counters are what is counted while it happens. Messages and bytes are
// counted by each connection for itself, so that no two meet there.
type counters struct {
	dropped, pingsLost atomic.Uint64

	// The mu of the live set guards these.
	refused        map[int]uint64
	closed         [ofApplications + 1]Closed // by indexOf
	received, sent Traffic                    // of connections that are over
}

// traffic is what a connection counts of one direction.
type traffic struct{ messages, bytes atomic.Uint64 }

func (t *traffic) load() Traffic { return Traffic{t.messages.Load(), t.bytes.Load()} }

// refuse counts a handshake that is answered with this status.
func (l *live) refuse(status int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count.refused == nil {
		l.count.refused = make(map[int]uint64)
	}
	l.count.refused[status]++
}

// countEnd counts a connection that is over, with mu held.
func (l *live) countEnd(end *Closing) {
	l.count.received.add(end.Received)
	l.count.sent.add(end.Sent)
	n := &l.count.closed[indexOf(end.Err.Code)]
	if end.Err.Remote {
		n.Remote++
	} else {
		n.Local++
	}
}

// ofApplications is where all codes of applications are counted. The registered
// ones before it go on from StatusNormalClosure without a gap (RFC 6455 §7.4.1).
const ofApplications = StatusTLSHandshake + 1 - StatusNormalClosure

// indexOf is where a code is counted, and codeAt the code that is counted there.
func indexOf(code StatusCode) StatusCode { return min(code-StatusNormalClosure, ofApplications) }

func codeAt(i int) StatusCode {
	if i == int(ofApplications) {
		return 3000
	}
	return StatusNormalClosure + StatusCode(i)
}

// Stats returns what has been counted. It looks at every connection: it is for
// once in a while. Any goroutine may call it.
func (u *Upgrader) Stats() Stats {
	_, _ = u.settings()
	l := &u.live
	// Connections go from the set to the totals under mu, so that none is
	// counted twice or not at all.
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Stats{
		Open:      l.open,
		Upgraded:  l.added,
		Refused:   make(map[int]uint64),
		Received:  l.count.received,
		Sent:      l.count.sent,
		Dropped:   l.count.dropped.Load(),
		QueuedMax: u.frozen.terms.queue.High.Load(),
		PingsLost: l.count.pingsLost.Load(),
		Closed:    make(map[StatusCode]Closed),
	}
	maps.Copy(s.Refused, l.count.refused)
	for i, n := range l.count.closed {
		if n != (Closed{}) {
			s.Closed[codeAt(i)] = n
		}
	}
	for _, m := range l.wheel.Snapshot() {
		c := (*Conn)(m)
		s.Received.add(c.received.load())
		s.Sent.add(c.sent())
	}
	return s
}

// refused counts and reports the refusal of a handshake.
func (u *Upgrader) refused(r *http.Request, e *HandshakeError) {
	u.live.refuse(e.status())
	log := u.logger()
	if e.status() >= 500 && (e.cause != nil || e.Status != e.status()) {
		log.Error("websocket: handshake failed", "remote", r.RemoteAddr, "status", e.status(), "error", e)
	} else {
		log.Debug("websocket: handshake refused", "remote", r.RemoteAddr, "status", e.status(), "error", e)
	}
}
