//go:build linux

package evloop

import (
	"testing"
	"unsafe"
)

// TestConn_layout holds that what every message touches lies together, and that
// an idle connection costs little.
func TestConn_layout(t *testing.T) {
	audit(t)
	var c Conn
	if end := unsafe.Offsetof(c.st) + unsafe.Offsetof(c.st.outPeak) + unsafe.Sizeof(c.st.outPeak); end > 144 {
		t.Errorf("a message touches the first %d bytes of a connection, want 144 at most", end)
	}
	if size := unsafe.Sizeof(c); size > 288 {
		t.Errorf("a connection takes %d bytes, want 288 at most", size)
	}
}
