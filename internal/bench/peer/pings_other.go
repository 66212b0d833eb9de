//go:build !linux

package peer

import (
	"errors"
	"net"
	"time"
)

func rawPings(net.Listener, time.Duration) error { return errors.New("there is no epoll here") }
