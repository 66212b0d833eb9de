//go:build race

package transport

// The race detector makes sync.Pool drop items at random.
const raceEnabled = true
