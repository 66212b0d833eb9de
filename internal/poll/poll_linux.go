package poll

import (
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// A Poller is made by New and must be closed.
type Poller[W Waker] struct {
	file  *os.File // the epoll instance
	raw   syscall.RawConn
	table table[W]
	done  chan struct{}
}

// batch is how many wakes are taken at once. Those are let run before more are
// taken, or else a burst would have as many goroutines at a time as connections,
// and the runtime keeps something of each for good.
const batch = 32

// New starts a Poller.
func New[W Waker]() (*Poller[W], error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	// An epoll instance can itself be waited for; Go's poller takes files
	// that do not block.
	if err := syscall.SetNonblock(fd, true); err != nil {
		_ = syscall.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	p := &Poller[W]{file: os.NewFile(uintptr(fd), "epoll"), done: make(chan struct{})}
	if p.raw, err = p.file.SyscallConn(); err == nil {
		// It cannot be used if Go's poller did not take it.
		err = p.file.SetReadDeadline(time.Time{})
	}
	if err != nil {
		_ = p.file.Close()
		return nil, err
	}
	go p.run()
	return p, nil
}

// Close ends the Poller. Nobody is woken any more once it has returned.
func (p *Poller[W]) Close() {
	_ = p.file.Close()
	<-p.done
}

func (p *Poller[W]) run() {
	defer close(p.done)
	events := make([]syscall.EpollEvent, batch)
	for {
		n := 0
		err := p.raw.Read(func(fd uintptr) bool {
			for {
				var err error
				n, err = syscall.EpollWait(int(fd), events, 0)
				if err != syscall.EINTR {
					return n > 0 || err != nil
				}
			}
		})
		if err != nil || n < 0 {
			return // closed
		}
		var none W
		for _, ev := range events[:n] {
			if w := p.table.find(Token{ev.Fd, ev.Pad}); w != none {
				w.Wake()
			}
		}
		if n == batch {
			runtime.Gosched()
		}
	}
}

// Add makes a descriptor known; w is woken when it is armed and can be read.
func (p *Poller[W]) Add(c Descriptor, w W) (Token, error) {
	t := p.table.add(w)
	err := p.control(c, syscall.EPOLL_CTL_ADD, 0, t)
	if err != nil {
		p.table.remove(t)
	}
	return t, err
}

// Arm has the Waker woken, once, as soon as there is something to read, be it
// the end. Without it a Waker may be woken when the connection has broken.
func (p *Poller[W]) Arm(c Descriptor, t Token) error {
	return p.control(c, syscall.EPOLL_CTL_MOD, readable, t)
}

// Moved has to be called when the open file of t gets another descriptor, while
// the one that it had is open still: to is watched from now on, armed, and from
// is not. With an error nothing has changed.
func (p *Poller[W]) Moved(from, to int, t Token) error {
	err := p.control(number(to), syscall.EPOLL_CTL_ADD, readable, t)
	if err == nil {
		_ = p.control(number(from), syscall.EPOLL_CTL_DEL, 0, t)
	}
	return err
}

// A number is a descriptor that somebody else keeps open.
type number int

func (n number) Control(f func(fd uintptr)) error {
	f(uintptr(n))
	return nil
}

// readable is what a Waker waits for.
const readable = syscall.EPOLLIN | syscall.EPOLLRDHUP

// Remove ends the watch. A wake may be on its way still. The descriptor leaves
// by itself when it is closed.
func (p *Poller[W]) Remove(t Token) { p.table.remove(t) }

// A control is one call of epoll_ctl; the callback is made once.
type control struct {
	epoll, op int
	events    uint32
	t         Token
	err       error
	call      func(fd uintptr)
}

var controls = sync.Pool{New: func() any {
	c := new(control)
	c.call = func(fd uintptr) {
		ev := syscall.EpollEvent{
			Events: c.events | oneShot,
			Fd:     c.t.slot, Pad: c.t.turn,
		}
		c.err = syscall.EpollCtl(c.epoll, c.op, int(fd), &ev)
	}
	return c
}}

// oneShot is EPOLLONESHOT: after a wake, nothing until Arm.
const oneShot = 1 << 30

func (p *Poller[W]) control(c Descriptor, op int, events uint32, t Token) error {
	k := controls.Get().(*control)
	defer controls.Put(k)
	k.op, k.events, k.t, k.err = op, events, t, nil
	// Both descriptors are held meanwhile, so that neither is one that was
	// closed and is now something else.
	err := p.raw.Control(func(fd uintptr) {
		k.epoll = int(fd)
		if e := c.Control(k.call); e != nil && k.err == nil {
			k.err = e
		}
	})
	if err == nil {
		err = k.err
	}
	return err
}
