//go:build unix

package websocket_test

import "syscall"

// descriptorLimit is how many descriptors this process may have. The Go
// runtime raises the limit that is in force to it at the start.
func descriptorLimit() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 1024
	}
	return int(min(uint64(l.Max), 1<<20))
}
