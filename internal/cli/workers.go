package cli

import (
	"fmt"
	"strconv"

	"ndferry/internal/master"
)

// autoWorkers is the number of workers that serve chooses.
const autoWorkers workersValue = -1

// workersValue is a flag that holds a number of worker processes, or auto.
type workersValue int

// Set parses the flag's text.
func (v *workersValue) Set(s string) error {
	if s == "auto" {
		*v = autoWorkers
		return nil
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n > master.MaxWorkers {
		return fmt.Errorf("workers %q: want auto or a number up to %d", s, master.MaxWorkers)
	}
	*v = workersValue(n)
	return nil
}

// Type names the kind of value in help.
func (v *workersValue) Type() string { return "N" }

func (v *workersValue) String() string {
	if *v == autoWorkers {
		return "auto"
	}
	return strconv.Itoa(int(*v))
}
