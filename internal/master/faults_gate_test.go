//go:build linux && gate

package master

import (
	"flag"
	"testing"
)

var dispatchRounds = flag.Int("dispatch-rounds", 2, "at how many of its times each step of dispatch has its faults")

// TestGateFaultsDispatch runs every fault at every step of dispatch; make faults-dispatch is the long form.
func TestGateFaultsDispatch(t *testing.T) { faultsDispatch(t, *dispatchRounds) }
