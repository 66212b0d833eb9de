package sendq

import (
	"sync"

	"github.com/sockeye-ws/websocket/internal/bufpool"
)

const (
	// chunk is how much is gathered for one call.
	chunk = bufpool.Block + bufpool.Slack
	// small is the size up to which a frame is copied, so that its writer
	// need not wait until it is out, and it takes one call with its head.
	small = chunk
	// several is what a chunk begins with if others are to follow.
	several = 4 << 10
	// tiny is up to when a copy takes less memory than a reference.
	tiny = 64
	// single is from when on an item is written as it is, and not put
	// together with others.
	single = chunk / 2
)

// A kind says what may become of a frame that waits.
type kind uint8

const (
	kept    kind = iota // data: its writer has been told that it goes out
	part                // the same, inside a message
	loose               // data that may be dropped in favour of newer
	control             // no message: neither dropped nor counted as one
	reply               // a control frame of which only so many wait
)

// A backlog is what has been accepted and not been handed to the connection
// yet, in the order of the wire, and how much that is. Frames lie in it as they
// go on the wire, but for those that are marked: these are encoded after they
// were taken, so that nothing is encoded that is not sent.
type backlog struct {
	items []item
	first int // of them that has not been taken
	total count
	start int // the least that a chunk begins with, where others are to follow
	// encoded: something in it was marked, or was encoded elsewhere.
	encoded bool
}

// count is how much something is.
type count struct {
	bytes    int
	messages int // data, not control frames
	controls int // control frames
	replies  int // bytes of those of them that are replies
	loose    int // bytes of what may be dropped
}

func (c *count) add(d count) {
	c.bytes += d.bytes
	c.messages += d.messages
	c.controls += d.controls
	c.replies += d.replies
	c.loose += d.loose
}

func (c *count) sub(d count) {
	c.add(count{-d.bytes, -d.messages, -d.controls, -d.replies, -d.loose})
}

// frameCount is what one frame of n bytes counts.
func frameCount(n int, k kind) count {
	switch k {
	case control:
		return count{bytes: n, controls: 1}
	case reply:
		return count{bytes: n, controls: 1, replies: n}
	case part:
		return count{bytes: n}
	case loose:
		return count{bytes: n, messages: 1, loose: n}
	}
	return count{bytes: n, messages: 1}
}

// An item is a run of whole frames in one place.
type item struct {
	b   []byte
	buf *bufpool.Buf // b lies in it and may grow there; nil: b is shared
	count
	whole bool // if any of it is dropped, all is
	// It has frames that are marked, or stands for what sent says.
	marked bool
	sent   *Shared
	// What is in b, if parts of it may be dropped: the sizes of its frames,
	// negative for loose ones. What is kept may stand together as one.
	runs []int32
}

var backlogs = sync.Pool{New: func() any { return new(backlog) }}

func newBacklog() *backlog { return backlogs.Get().(*backlog) }

// free gives back the backlog and all that is in it.
func (l *backlog) free() {
	for i := l.first; i < len(l.items); i++ {
		bufpool.Put(l.items[i].buf)
	}
	clear(l.items)
	*l = backlog{items: l.items[:0]}
	if cap(l.items) <= 64 { // the list of a long backlog is not worth keeping
		backlogs.Put(l)
	}
}

func (l *backlog) empty() bool { return l.first == len(l.items) }

// copy adds a frame of two parts by copying it, and returns the copy of the
// second. trace says that the frame, or what it is put together with, may be
// dropped one day.
func (l *backlog) copy(head, payload []byte, k kind, trace bool) []byte {
	size := len(head) + len(payload)
	var it *item
	if !l.empty() {
		it = &l.items[len(l.items)-1]
	}
	if it == nil || it.buf == nil || len(it.b)+size > max(chunk, cap(it.b)) {
		it = l.push(item{buf: bufpool.Get(max(size, l.start))})
		it.b = it.buf.B[:0]
	} else if len(it.b)+size > cap(it.b) {
		grown := bufpool.Get(len(it.b) + size)
		it.b = grown.B[:copy(grown.B, it.b)]
		bufpool.Put(it.buf)
		it.buf = grown
	}
	it.b = append(append(it.b, head...), payload...)
	if k < control && len(head) > 0 && head[0]&Marked != 0 {
		it.marked, l.encoded = true, true
	}
	copied := it.b[len(it.b)-len(payload):]
	if trace {
		it.trace(size, k)
	}
	if k == kept { // the most frequent
		it.bytes += size
		it.messages++
		l.total.bytes += size
		l.total.messages++
		return copied
	}
	c := frameCount(size, k)
	it.add(c)
	l.total.add(c)
	return copied
}

// share adds a frame by reference.
func (l *backlog) share(frame []byte, k kind, s *Shared) {
	it := l.push(item{b: frame, count: frameCount(len(frame), k), whole: true, sent: s})
	l.encoded = l.encoded || s != nil
	l.total.add(it.count)
}

func (l *backlog) push(it item) *item {
	if l.first > 0 && len(l.items) == cap(l.items) {
		n := copy(l.items, l.items[l.first:])
		clear(l.items[n:])
		l.items, l.first = l.items[:n], 0
	}
	l.items = append(l.items, it)
	return &l.items[len(l.items)-1]
}

// append moves what is in m to the end of l.
func (l *backlog) append(m *backlog) {
	for i := m.first; i < len(m.items); i++ {
		l.push(m.items[i])
		m.items[i] = item{}
	}
	l.total.add(m.total)
	l.encoded = l.encoded || m.encoded
	m.first, m.total = len(m.items), count{}
}

func (it *item) trace(size int, k kind) {
	if k == loose {
		it.runs = append(it.runs, int32(-size))
	} else if n := len(it.runs); n > 0 && it.runs[n-1] > 0 {
		it.runs[n-1] += int32(size)
	} else {
		it.runs = append(it.runs, int32(size))
	}
}

// take returns what the next call writes, and forgets it. Small items are put
// together, since a call costs more than a copy.
func (l *backlog) take() item {
	it := l.items[l.first]
	if l.first+1 == len(l.items) || len(it.b) >= single {
		l.pop()
		return it
	}
	all := item{buf: bufpool.Get(min(l.total.bytes, chunk))}
	all.b = all.buf.B[:0]
	for !l.empty() && len(all.b)+len(l.items[l.first].b) <= cap(all.b) {
		it := l.pop()
		all.b = append(all.b, it.b...)
		all.add(it.count)
		bufpool.Put(it.buf)
	}
	return all
}

func (l *backlog) pop() item {
	it := l.items[l.first]
	l.items[l.first] = item{}
	l.first++
	l.total.sub(it.count)
	it.runs = nil
	return it
}

// drop drops the oldest loose messages until n bytes are gained or none is
// left, and returns what was dropped, and how much of that was within the first
// so many bytes.
func (l *backlog) drop(n, within int) (dropped count, before int) {
	keep := l.items[:l.first]
	for i := l.first; i < len(l.items); i++ {
		it := &l.items[i]
		size := len(it.b)
		if dropped.bytes < n {
			gone, early := it.drop(n-dropped.bytes, within)
			dropped.add(gone)
			before += early
		}
		within -= size
		if len(it.b) > 0 {
			keep = append(keep, *it)
		} else {
			bufpool.Put(it.buf)
		}
	}
	clear(l.items[len(keep):])
	l.items = keep
	l.total.sub(dropped)
	return dropped, before
}

func (it *item) drop(n, within int) (dropped count, before int) {
	if it.whole {
		if it.loose == 0 {
			return count{}, 0
		}
		it.b = nil
		if within > 0 {
			before = it.bytes
		}
		return it.count, before
	}
	at, runs, b := 0, it.runs[:0], it.b[:0]
	for _, run := range it.runs {
		size := int(max(run, -run))
		if run < 0 && dropped.bytes < n {
			dropped.add(frameCount(size, loose))
			if at < within {
				before += size
			}
		} else {
			runs = append(runs, run)
			b = append(b, it.b[at:at+size]...)
		}
		at += size
	}
	if dropped.messages == 0 {
		return dropped, 0
	}
	it.b, it.runs = b, runs
	it.sub(dropped)
	if len(b) > 0 && 4*len(b) <= cap(it.buf.B) && cap(it.buf.B) > bufpool.Min {
		// A few bytes that stay must not keep a large buffer.
		less := bufpool.Get(len(b))
		it.b = less.B[:copy(less.B, b)]
		bufpool.Put(it.buf)
		it.buf = less
	}
	return dropped, before
}
