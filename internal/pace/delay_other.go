//go:build !linux

package pace

import "time"

// Delay is not known here.
func Delay(int) (delay time.Duration, ok bool) { return 0, false }

// LinkOf is nil: nothing is known of a link here.
func LinkOf(any) Link { return nil }
