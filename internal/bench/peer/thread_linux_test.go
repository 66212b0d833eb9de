package peer

import (
	"time"

	"golang.org/x/sys/unix"
)

// threadTime is the CPU time that this thread has used. getrusage would know it
// as of the last tick only.
func threadTime() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
