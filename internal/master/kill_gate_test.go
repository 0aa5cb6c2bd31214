//go:build linux && gate

package master

import (
	"os"
	"strconv"
	"testing"
)

// TestGateWorkerKills kills 1,000 workers, NDFERRY_KILLS for another number.
func TestGateWorkerKills(t *testing.T) {
	n := 1000
	if text := os.Getenv("NDFERRY_KILLS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	killing(t, n)
}
