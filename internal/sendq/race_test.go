//go:build race

package sendq

// The race detector makes sync.Pool drop items at random.
const raceEnabled = true
