//go:build linux || darwin || freebsd

package control

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

type state struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
}

func TestControl(t *testing.T) {
	audit(t)
	path := filepath.Join(t.TempDir(), "d", "control.sock")
	var got state
	if err := Ask(t.Context(), path, "status", &got); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nobody there: %v", err)
	}
	s, err := Listen(path, map[string]func() any{"status": func() any { return state{"x", 7} }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path, nil); !errors.Is(err, ErrInUse) {
		t.Errorf("a second one: %v", err)
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory: %v, %v", info, err)
	}
	if err := Ask(t.Context(), path, "status", &got); err != nil || got != (state{"x", 7}) {
		t.Errorf("%+v, %v", got, err)
	}
	if err := Ask(t.Context(), path, "reboot", &got); err == nil || !strings.Contains(err.Error(), "unknown request") {
		t.Errorf("another request: %v", err)
	}
	// Who says too much or nothing keeps nobody from an answer.
	for _, text := range []string{strings.Repeat("x", 2*maxRequest), ""} {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.Write([]byte(text))
	}
	if err := Ask(t.Context(), path, "status", &got); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
	if ln, err := net.Listen("unix", path); err == nil { // a dead server's
		ln.(*net.UnixListener).SetUnlinkOnClose(false)
		ln.Close()
		if err := Ask(t.Context(), path, "status", &got); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a dead server's: %v", err)
		}
	}
}

func TestDefaultPath(t *testing.T) {
	audit(t)
	env := func(v string) func(string) (string, bool) {
		return func(name string) (string, bool) { return v, name == "XDG_RUNTIME_DIR" && v != "" }
	}
	if got := DefaultPath(env("/run/user/7")); got != "/run/user/7/ndferry/control.sock" {
		t.Error(got)
	}
	for _, v := range []string{"", "relative"} {
		if got := DefaultPath(env(v)); !filepath.IsAbs(got) || filepath.Base(got) != "control.sock" || strings.Contains(got, "relative") {
			t.Error(got)
		}
	}
}
