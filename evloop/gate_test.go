//go:build gate && linux

package evloop

import "testing"

// TestGateModel runs schedules until every error was met in every state. One
// goroutine runs all of it, so the race detector would only make it slow.
func TestGateModel(t *testing.T) {
	audit(t)
	n := 100_000
	if raceDetector {
		n = 5_000
	}
	runModel(t, n, !raceDetector)
}
