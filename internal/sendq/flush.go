package sendq

import "github.com/sockeye-ws/websocket/internal/bufpool"

// Who makes the calls that write the backlog. All of it is under mu, but for
// the calls themselves.

// attend sees to it, with mu held, that what is queued goes out. With now set,
// the caller makes a call itself if the connection can tell how much it takes
// without waiting; mu is let go meanwhile. The error is that of the call.
func (q *Queue) attend(now bool) error {
	if q.busy || q.stuck || !q.something() {
		return nil
	}
	if !now || !q.out.Tries() {
		q.schedule()
		return nil
	}
	q.busy = true
	err := q.try()
	if err != nil {
		q.fail(err)
		return err
	}
	q.done()
	return nil
}

func (f *flow) something() bool {
	return f.left.b != nil || f.back != nil || f.urgent != nil
}

// schedule starts the flusher, with mu held.
func (q *Queue) schedule() {
	if !q.scheduled {
		q.scheduled = true
		go q.flow.call()
	}
}

// try makes one call that does not wait. The caller is busy, with mu held.
func (q *Queue) try() error {
	it := q.take()
	q.inCall.add(it.count)
	q.mu.Unlock()
	it = q.encoded(it)
	n, err := q.out.TryWrite(it.b)
	q.mu.Lock()
	q.inCall.sub(it.count)
	q.sent.Bytes += uint64(n)
	if err != nil || n == len(it.b) || q.dead {
		q.took(it, err)
		return err
	}
	it.b = it.b[n:]
	q.queued -= it.bytes - len(it.b)
	it.bytes = len(it.b)
	q.keepRest(it)
	return nil
}

// keep is what remains of a frame that its caller wrote, with mu held.
func (q *Queue) keep(it item) {
	q.add(it.bytes)
	q.keepRest(it)
}

// keepRest leaves what a full socket did not take to the flusher.
func (q *Queue) keepRest(it item) {
	q.left, q.stuck = it, true
	q.inCall.add(it.count)
}

// take returns what the next call is to write, once it has been encoded.
func (q *Queue) take() item {
	if it := q.left; it.b != nil {
		q.left = item{}
		q.inCall.sub(it.count)
		return it
	}
	from := &q.urgent
	if q.urgent == nil {
		from = &q.back
		if q.guess {
			q.pace.Gathered(q.back.total.messages)
			q.guess = false
		}
	}
	var it item
	if (*from).encoded {
		it, q.parts = (*from).takeParts(q.parts)
	} else {
		it = (*from).take()
	}
	if from == &q.back {
		q.pass(it.bytes)
	}
	if (*from).empty() {
		q.letGo(from)
	}
	return it
}

// took settles the account of what has been written, or never will be.
func (q *Queue) took(it item, err error) {
	if err == nil {
		q.sent.Messages += uint64(it.messages)
	}
	q.queued -= it.bytes
	q.replies -= it.replies
	bufpool.Put(it.buf)
	if q.newest != nil && !q.dead && q.replies == 0 {
		q.append(q.newest, nil, reply)
		q.replies += len(q.newest)
		q.newest = nil
	}
}

// letGo gives back a backlog, with all that is still in it.
func (q *Queue) letGo(l **backlog) {
	(*l).free()
	*l = nil
	q.pending.Store(q.back != nil)
}

// discard forgets a backlog and settles its account.
func (q *Queue) discard(l **backlog) {
	if *l == nil {
		return
	}
	q.queued -= (*l).total.bytes
	q.replies -= (*l).total.replies
	q.letGo(l)
}

// tidy lets go of what has been emptied by dropping.
func (q *Queue) tidy() {
	for _, l := range []**backlog{&q.back, &q.parked} {
		if *l != nil && (*l).empty() {
			q.letGo(l)
		}
	}
}

// flush is the flusher: it writes what is queued, and what comes meanwhile.
func (q *Queue) flush() {
	q.lock()
	defer q.unlock()
	LetGather(&q.mu, func() int {
		if q.busy || q.stuck {
			return 0
		}
		return q.queued
	})
	q.scheduled = false
	if q.busy || q.dead {
		return // who is busy goes on
	}
	q.busy = true
	for !q.dead && q.something() {
		it := q.take()
		q.inCall.add(it.count)
		tries := !q.stuck && q.out.Tries()
		q.mu.Unlock()
		it = q.encoded(it)
		n := 0
		var err error
		if tries {
			if n, err = q.out.TryWrite(it.b); err == nil && n < len(it.b) {
				q.mu.Lock()
				q.stuck = true
				q.sent.Bytes += uint64(n)
				it.b = it.b[n:]
				gone := it.bytes - len(it.b)
				q.queued -= gone
				q.inCall.bytes -= gone
				q.mu.Unlock()
				it.bytes, n = len(it.b), 0
			}
		}
		if err == nil && n < len(it.b) {
			n, err = q.out.Write(it.b)
		}
		q.mu.Lock()
		q.stuck = false
		q.inCall.sub(it.count)
		q.sent.Bytes += uint64(n)
		q.took(it, err)
		if err != nil {
			q.fail(err)
			return
		}
		if q.handOn() {
			return
		}
		q.wakeFirst()
	}
	q.done()
}

// done ends a call, with mu held by who was busy.
func (q *Queue) done() {
	if q.dead {
		q.busy = false
		q.over()
		return
	}
	if q.flow == nil {
		q.busy = false
		if q.closed {
			q.over()
		}
		return
	}
	if q.handOn() {
		return
	}
	q.busy = false
	switch {
	case q.something():
		q.schedule()
	case q.closed:
		q.over()
	}
	q.wakeFirst()
}

// over says, with mu held, that nothing more will be written.
func (q *Queue) over() {
	if q.flow != nil {
		q.watch.Drop()
		q.release()
	}
	q.drained.Set()
}

// fail tells the owner of a failed call, with mu held and let go meanwhile.
func (q *Queue) fail(err error) {
	q.die()
	q.mu.Unlock()
	q.owner.Failed(err)
	q.lock()
}

// die ends the queue after a failed call, with mu held.
func (q *Queue) die() {
	q.need()
	q.busy, q.closed = false, true
	q.kill()
	q.wakeAll()
	q.over()
}

// kill forgets what is queued, with mu held.
func (q *Queue) kill() {
	q.dead, q.stuck = true, false
	if it := q.left; it.b != nil {
		q.left = item{}
		q.inCall.sub(it.count)
		q.queued -= it.bytes
		q.replies -= it.replies
		bufpool.Put(it.buf)
	}
	q.discard(&q.back)
	q.discard(&q.urgent)
	q.discard(&q.parked)
	q.newest = nil
}
