//go:build unix

package main

import "syscall"

// descriptors is how many a process may have. The Go runtime raises the limit
// that is in force to it at the start.
func descriptors() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 256
	}
	return int(min(uint64(l.Max), 1<<20))
}
