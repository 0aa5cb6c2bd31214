package worker

import (
	"errors"
	"fmt"
	"testing"

	"ndferry/store"
)

// TestElsewhere finds the worker that a transfer belongs to, when it is one of the same master and not this one.
func TestElsewhere(t *testing.T) {
	audit(t)
	for _, c := range []struct {
		own, its string
		want     int
	}{
		{OwnerName(700, 2), OwnerName(700, 3), 3},
		{OwnerName(700, 2), OwnerName(700, 2), 0}, // a life before this one
		{OwnerName(700, 2), OwnerName(701, 3), 0}, // a server before this one, whose workers finish
		{OwnerName(700, 2), "", 0},
		{OwnerName(700, 2), "4711", 0},
		{"", OwnerName(700, 3), 0}, // it serves alone
	} {
		s := New(nil, Config{Owner: c.own})
		owned := &store.OwnedError{Owner: c.its}
		for _, err := range []error{owned, fmt.Errorf("begin: %w", owned), errors.Join(store.ErrBusy, owned)} {
			if got := s.elsewhere(err); got != c.want {
				t.Errorf("%q asks for what %q has: %d, want %d", c.own, c.its, got, c.want)
			}
		}
		if got := s.elsewhere(store.ErrBusy); got != 0 {
			t.Errorf("another error: %d", got)
		}
	}
}
