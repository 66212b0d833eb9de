//go:build !unix

package transport

import (
	"net"
	"time"
)

// newSocket: descriptors cannot be used here the way socket_unix.go does, so
// that TCP is a stream like any other.
func newSocket(net.Conn, time.Duration) Conn { return nil }

// hasInput: sockets cannot be looked into here.
func hasInput(net.Conn) bool { return true }
