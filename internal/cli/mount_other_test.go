//go:build !linux

package cli

import (
	"errors"

	"github.com/rogpeppe/go-internal/testscript"
)

func mountTmpfs(*testscript.TestScript, []string) error {
	return errors.New("tmpfs: this test needs Linux")
}
