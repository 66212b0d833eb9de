//go:build race

package deflate

// The race detector makes sync.Pool drop items at random.
const raceEnabled = true
