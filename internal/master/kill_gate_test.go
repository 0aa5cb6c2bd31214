//go:build linux && gate

package master

import (
	"os"
	"strconv"
	"testing"
)

// TestGateWorkerKills kills 150 workers, NDFERRY_KILLS for another number: the campaign is 1,000 (make kills).
func TestGateWorkerKills(t *testing.T) {
	n := 150
	if text := os.Getenv("NDFERRY_KILLS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	killing(t, n)
}
