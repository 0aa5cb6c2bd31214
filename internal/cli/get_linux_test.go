package cli

import (
	"context"
	"strings"
	"testing"
)

// TestGetToTerminal keeps the bytes of an array off the user's screen.
func TestGetToTerminal(t *testing.T) {
	tty, _ := openPTY(t)
	var stderr strings.Builder
	none := func(string) (string, bool) { return "", false }
	code := run(context.Background(), []string{"get", "a", "-"}, strings.NewReader(""), tty, &stderr, none)
	if code != ExitUsage || !strings.Contains(stderr.String(), "is a terminal") {
		t.Errorf("exit code %d: %s", code, &stderr)
	}
}
