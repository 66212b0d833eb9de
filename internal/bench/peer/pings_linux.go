package peer

import (
	"net"
	"os"
	"syscall"
	"time"
)

// rawPing is as long as a ping with eight bytes of payload.
var rawPing = []byte("\x89\x08keepaliv")

// pingTurns says how pings are spread: at each tick those of one turn go out.
// It is as often as the library does so, whose intervals are up to a quarter
// shorter and on average as long as all turns here.
func pingTurns(interval time.Duration) (tick time.Duration, turns int) {
	tick = min(interval/16, 500*time.Millisecond)
	return tick, int(interval * 7 / 8 / tick)
}

// rawPings accepts the connections of ln, writes a ping to each in its turn and
// reads what comes: one goroutine, and no more calls than that takes.
func rawPings(ln net.Listener, interval time.Duration) error {
	raw, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = pingAll(int(fd), interval) })
	if err == nil {
		err = failed
	}
	return err
}

func pingAll(listener int, interval time.Duration) error {
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	defer syscall.Close(epoll)
	add := func(fd int) error {
		ev := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}
		return os.NewSyscallError("epoll_ctl", syscall.EpollCtl(epoll, syscall.EPOLL_CTL_ADD, fd, &ev))
	}
	if err := add(listener); err != nil {
		return err
	}
	tick, count := pingTurns(interval)
	turns := make([][]int, count) // the connections that are pinged together
	accepted := 0
	events, in := make([]syscall.EpollEvent, 256), make([]byte, rawBuffer)
	next := time.Now().Add(tick)
	for now := 0; ; {
		wait := time.Until(next)
		if wait <= 0 {
			next = next.Add(tick)
			for _, fd := range turns[now%len(turns)] {
				_, _ = syscall.Write(fd, rawPing)
			}
			now++
			continue
		}
		n, err := syscall.EpollWait(epoll, events, int((wait+time.Millisecond-1)/time.Millisecond))
		if err != nil && err != syscall.EINTR {
			return os.NewSyscallError("epoll_wait", err)
		}
		for _, ev := range events[:max(n, 0)] {
			fd := int(ev.Fd)
			if fd == listener {
				fd, _, err = syscall.Accept4(listener, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
				if err != nil {
					continue // it has gone again
				}
				if err := add(fd); err != nil {
					return err
				}
				turns[accepted%len(turns)] = append(turns[accepted%len(turns)], fd)
				accepted++
				continue
			}
			if n, err := syscall.Read(fd, in); n <= 0 && err != syscall.EAGAIN {
				// Not closed, so that its number is no other's; all end together.
				_ = syscall.EpollCtl(epoll, syscall.EPOLL_CTL_DEL, fd, nil)
			}
		}
	}
}
