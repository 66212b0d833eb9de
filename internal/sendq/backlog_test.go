package sendq

import (
	"bytes"
	"io"
	"math/rand"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/sockeye-ws/websocket/internal/bufpool"
	"github.com/sockeye-ws/websocket/internal/transport"
)

// A sheet is a backlog as a list: what backlog is held against.
type sheet []struct {
	b []byte
	k kind
}

func (s sheet) count() (c count) {
	for _, e := range s {
		c.add(frameCount(len(e.b), e.k))
	}
	return c
}

func (s sheet) bytes() (all []byte) {
	for _, e := range s {
		all = append(all, e.b...)
	}
	return all
}

// drop drops the oldest loose ones until n bytes are gained.
func (s sheet) drop(n int) (rest sheet, dropped count) {
	for _, e := range s {
		if e.k == loose && dropped.bytes < n {
			dropped.add(frameCount(len(e.b), e.k))
		} else {
			rest = append(rest, e)
		}
	}
	return rest, dropped
}

// held is what the items of a backlog lie in, which is borrowed.
func held(l *backlog) (n int) {
	for _, it := range l.items[l.first:] {
		if it.buf != nil {
			n += cap(it.buf.B)
		}
	}
	return n
}

func contents(l *backlog) (all []byte) {
	for _, it := range l.items[l.first:] {
		all = append(all, it.b...)
	}
	return all
}

// A backlog is a list, whatever is done to it: the same bytes, the same counts,
// the same frames dropped. What it borrows is bounded by what lies in it.
func TestBacklogAgainstList(t *testing.T) {
	for seed := range 40 {
		rng := rand.New(rand.NewSource(int64(seed)))
		l, traced := newBacklog(), seed%2 == 0
		var model sheet
		var shared [][2][]byte // frames lent to it, and what they were
		add := func(l *backlog, model *sheet) {
			size := 1 + rng.Intn(300)
			switch rng.Intn(16) {
			case 0:
				size = rng.Intn(2 * chunk)
			case 1:
				if rng.Intn(4) > 0 {
					break
				}
				size = []int{small - 1, small, small + 1, chunk - 1, chunk, chunk + 1, bufpool.Min}[rng.Intn(7)]
			}
			b := make([]byte, max(size, 1))
			first := rng.Intn(256)
			for i := range b {
				b[i] = byte(first + i*7)
			}
			k := kind(rng.Intn(int(reply) + 1))
			if rng.Intn(3) == 0 {
				k = loose
			}
			if k == loose && rng.Intn(2) == 0 {
				l.share(b, k, nil)
				shared = append(shared, [2][]byte{b, bytes.Clone(b)})
			} else {
				cut := rng.Intn(len(b) + 1)
				l.copy(b[:cut], b[cut:], k, traced)
			}
			*model = append(*model, struct {
				b []byte
				k kind
			}{bytes.Clone(b), k})
		}
		for step := range 150 {
			switch op := rng.Intn(20); {
			case op < 13:
				add(l, &model)
			case op < 17 && !l.empty():
				it := l.take()
				if len(it.b) == 0 || len(it.b) > 8*chunk { // small ones fill up what a large one leaves of its room
					t.Fatalf("seed %d, step %d: takes %d bytes at once", seed, step, len(it.b))
				}
				n, c := 0, count{}
				for i := 0; n < len(it.b); i++ {
					c.add(frameCount(len(model[i].b), model[i].k))
					n += len(model[i].b)
				}
				if n != len(it.b) || it.count != c {
					t.Fatalf("seed %d, step %d: takes %d bytes, %+v; want %d, %+v", seed, step, len(it.b), it.count, n, c)
				}
				if want := model.bytes()[:n]; !bytes.Equal(it.b, want) {
					t.Fatalf("seed %d, step %d: takes what was not put in", seed, step)
				}
				for i := 0; n > 0; i++ {
					n -= len(model[0].b)
					model = model[1:]
				}
				bufpool.Put(it.buf)
			case op < 19 && traced:
				n := rng.Intn(2*chunk + 1)
				var want count
				model, want = model.drop(n)
				if got, _ := l.drop(n, 0); got != want {
					t.Fatalf("seed %d, step %d: drops %+v for %d bytes, want %+v", seed, step, got, n, want)
				}
			case op == 19:
				more, modelOfMore := newBacklog(), sheet(nil)
				for range rng.Intn(5) {
					add(more, &modelOfMore)
				}
				l.append(more)
				if !more.empty() || more.total != (count{}) {
					t.Fatalf("seed %d, step %d: %+v is left of what was moved", seed, step, more.total)
				}
				more.free()
				model = append(model, modelOfMore...)
			}
			if l.total != model.count() || l.empty() != (len(model) == 0) {
				t.Fatalf("seed %d, step %d: counts %+v, empty %v; want %+v", seed, step, l.total, l.empty(), model.count())
			}
			if step%10 == 0 && !bytes.Equal(contents(l), model.bytes()) {
				t.Fatalf("seed %d, step %d: holds what was not put in", seed, step)
			}
			if h, most := held(l), 4*l.total.bytes+bufpool.Min*(len(l.items)-l.first); h > most {
				t.Fatalf("seed %d, step %d: %d bytes are borrowed for %d", seed, step, h, l.total.bytes)
			}
		}
		l.free()
		for _, s := range shared {
			if !bytes.Equal(s[0], s[1]) {
				t.Fatalf("seed %d: a frame that was lent has been changed", seed)
			}
		}
	}
}

// A few bytes that stay when others are dropped do not keep a large buffer.
func TestDropsKeepNoMemory(t *testing.T) {
	l := newBacklog()
	defer l.free()
	for range 20 {
		for range 3 {
			l.copy(nil, make([]byte, 9<<10), loose, true)
		}
		l.copy(nil, make([]byte, 20), kept, true)
	}
	before := held(l)
	l.drop(1<<30, 0)
	if n := len(contents(l)); n != 20*20 {
		t.Fatalf("%d bytes stay", n)
	}
	if after := held(l); before < 20*27<<10 || after > 20*bufpool.Min {
		t.Errorf("%d bytes are borrowed, %d after all but 400 were dropped", before, after)
	}
}

// What has been given back is not kept: the next backlog finds nothing of it.
func TestFreedBacklogIsEmpty(t *testing.T) {
	for range 10 {
		l := newBacklog()
		if !l.empty() || l.total != (count{}) || l.first != 0 {
			t.Fatalf("a new backlog has %+v", *l)
		}
		for _, it := range l.items[:cap(l.items)] {
			if it.b != nil || it.buf != nil || it.runs != nil {
				t.Fatal("a new backlog keeps what an old one had")
			}
		}
		for i := range 20 {
			l.share(make([]byte, 10), loose, nil)
			l.copy(nil, make([]byte, 10), kept, true)
			if i == 10 {
				bufpool.Put(l.take().buf)
				l.drop(100, 0)
			}
		}
		l.free()
	}
}

// A queue in steady use allocates nothing for a message.
func TestPostAllocatesNothing(t *testing.T) {
	for name, send := range map[string]func(q *Queue, h, p []byte){
		"copied":            func(q *Queue, h, p []byte) { q.Post(h, p, false); q.Flush() },
		"shared":            func(q *Queue, h, p []byte) { q.Post(nil, p, true); q.Flush() },
		"eight in one call": func(q *Queue, h, p []byte) { postAll(q, h, p, 8); q.Flush() },
		"paced":             func(q *Queue, h, p []byte) { q.Post(h, p, false); q.Paced() },
	} {
		t.Run(name, func(t *testing.T) {
			q := new(Queue)
			q.Init(taker{}, nil, &Options{Limit: limit, Timeout: timeout})
			h, p := head(1, 100), payload(1, 100)
			if n := testing.AllocsPerRun(2000, func() { send(q, h, p) }); n >= 1 && !raceEnabled {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

func postAll(q *Queue, h, p []byte, n int) {
	for range n {
		q.Post(h, p, false)
	}
}

// A sluice is a socket that takes everything while it is open and nothing else.
type sluice struct {
	transport.Conn
	mu      sync.Mutex
	change  *sync.Cond
	open    bool
	err     error
	current int // bytes of the call that nothing was taken of
	taken   []byte
}

func newSluice(c transport.Conn) *sluice {
	s := &sluice{Conn: c}
	s.change = sync.NewCond(&s.mu)
	return s
}

func (s *sluice) Tries() bool { return true }

func (s *sluice) TryWrite(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.take(p)
}

func (s *sluice) take(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	if !s.open {
		s.current = len(p)
		return 0, nil
	}
	s.current = 0
	s.taken = append(s.taken, p...)
	return len(p), nil
}

func (s *sluice) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if n, err := s.take(p); n > 0 || err != nil {
			return n, err
		}
		s.change.Wait()
	}
}

func (s *sluice) set(open bool, err error) {
	s.mu.Lock()
	s.open, s.err = open, err
	s.mu.Unlock()
	s.change.Broadcast()
	synctest.Wait()
}

// The account is that of a simple model at every moment, whatever is posted,
// written and dropped, and nothing is left of it after every kind of end.
func TestPostAgainstModel(t *testing.T) {
	ends := map[string]func(l *lab, s *sluice){
		"Close": func(l *lab, s *sluice) { l.q.Close(frame(99999, 20)) },
		"Cut":   func(l *lab, s *sluice) { l.q.Cut(frame(99999, 20)) },
		"Drop":  func(l *lab, s *sluice) { l.q.Drop() },
		"fault": func(l *lab, s *sluice) { s.set(false, io.ErrClosedPipe); _ = l.q.Control(frame(88888, 20)) },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			for seed := range 25 {
				inLab(t, func(t *testing.T, l *lab) { playModel(t, l, rand.New(rand.NewSource(int64(seed))), name, end) })
			}
		})
	}
}

func playModel(t *testing.T, l *lab, rng *rand.Rand, how string, end func(*lab, *sluice)) {
	l.q.opt.DropOldest = rng.Intn(3) > 0
	s := newSluice(l.conn)
	l.q.out = s
	type entry struct {
		name, size int
		loose      bool
	}
	var waits []entry // data not taken; the model of the queue
	var controls, data []int
	controlBytes := 0
	for i := range 120 {
		size := headSize + rng.Intn(200)
		if rng.Intn(4) == 0 {
			size = headSize + rng.Intn(limit/6)
		}
		room := func() bool {
			sum := controlBytes
			for _, e := range waits {
				sum += e.size
			}
			return sum == 0 || sum+size <= limit
		}
		switch op := rng.Intn(12); {
		case op < 7: // Post
			handed := 0 // of those that wait, in the call
			for left := s.current; left > 0 && handed < len(waits); handed++ {
				left -= waits[handed].size
			}
			var dropped []int
			after := slices.Clone(waits)
			before := waits
			if l.q.opt.DropOldest {
				for j := handed; j < len(waits) && !room(); {
					if waits[j].loose {
						dropped = append(dropped, waits[j].name)
						waits = slices.Delete(slices.Clone(waits), j, j+1)
					} else {
						j++
					}
				}
			}
			fits := room()
			if !fits {
				dropped, waits = nil, before
			}
			n, err := l.post(i, size, rng.Intn(2) == 0)
			if (err == nil) != fits || n != len(dropped) {
				t.Fatalf("message %d of %d bytes beside %v, %d in a call: dropped %d, %v; want %v", i, size, after, handed, n, err, dropped)
			}
			if fits {
				waits = append(waits, entry{i, size, true})
				data = append(data, i)
			}
			data = slices.DeleteFunc(data, func(name int) bool { return slices.Contains(dropped, name) })
		case op < 9: // Write, if it need not wait
			if size <= small && room() {
				wantErr(t, "Write", l.q.Write(ctx, aFrame(head(i, size-headSize), payload(i, size-headSize), nil, true)), nil)
				waits = append(waits, entry{i, size, false})
				data = append(data, i)
			}
		case op == 9 && s.current > 0: // a control frame, which overtakes
			wantErr(t, "Control", l.q.Control(frame(i, 20)), nil)
			controlBytes += 20
			controls = append(controls, i)
		case op >= 10:
			s.set(true, nil)
			s.set(false, nil)
			waits, controlBytes = nil, 0
		}
		synctest.Wait()
		bytes := controlBytes
		for _, e := range waits {
			bytes += e.size
		}
		l.wantMessages(bytes, len(waits))
		if t.Failed() {
			return
		}
	}
	end(l, s)
	var err error
	if how == "fault" {
		err = io.ErrClosedPipe
	}
	s.set(err == nil, err)
	if how == "Drop" || how == "fault" {
		s.set(false, io.ErrClosedPipe) // the connection is closed under the call
	}
	names, rest := parse(t, s.taken)
	isControl := func(name int) bool { return slices.Contains(controls, name) }
	gotControls := slices.DeleteFunc(slices.Clone(names), func(name int) bool { return !isControl(name) && name != 99999 })
	gotData := slices.DeleteFunc(slices.Clone(names), func(name int) bool { return isControl(name) || name == 99999 })
	if how == "Close" {
		if want := append(controls, 99999); !slices.Equal(gotControls, want) || !slices.Equal(gotData, data) {
			t.Errorf("on the wire %v, of them control frames %v; want %v and %v", names, gotControls, data, want)
		}
	} else if n := len(gotData); n > len(data) || !slices.Equal(gotData, data[:n]) {
		t.Errorf("on the wire %v, which is no beginning of %v", gotData, data)
	}
	if how == "Cut" && len(gotControls) != len(controls)-controlBytes/20+1 {
		t.Errorf("control frames %v of %v are sent, though %d bytes of them were cut off", gotControls, controls, controlBytes)
	}
	if how == "Cut" && names[len(names)-1] != 99999 || rest > 0 {
		t.Errorf("the last frame is %d, %d bytes follow", names[len(names)-1], rest)
	}
	l.wantMessages(0, 0)
	wantErr(t, "Post", second(l.post(1, 20, false)), ErrClosed)
}

// What a call has left is given up with the rest, before anybody has come to
// write it.
func TestDropOfARest(t *testing.T) {
	for range 100 {
		inLab(t, func(t *testing.T, l *lab) {
			l.q.out = newSluice(l.conn)
			wantErr(t, "Post", second(l.post(1, 50, false)), nil)
			l.q.Drop()
			l.q.out.(*sluice).set(false, io.ErrClosedPipe)
			l.wantMessages(0, 0)
			l.wantDrained(true)
		})
	}
}
