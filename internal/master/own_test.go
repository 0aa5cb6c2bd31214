//go:build linux

package master

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ndferry/internal/handover"
)

// Test workers write down what they own: a file named by the connection's cookie in this directory, with the process and the
// socket's number in /proc. The file is made anew for each connection that is touched and stays when it has ended, so that
// whoever touches a connection as second finds it.
const ownEnv = "MASTER_TEST_OWNERS"

// own says that this process owns a connection, and returns what says that it does not any more.
func own(cookie uint64, s syscall.Conn) (disown func()) {
	dir := os.Getenv(ownEnv)
	if dir == "" {
		return func() {}
	}
	inode := uint64(0)
	if raw, err := s.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			var st syscall.Stat_t
			if syscall.Fstat(int(fd), &st) == nil {
				inode = st.Ino
			}
		})
	}
	path := filepath.Join(dir, strconv.FormatUint(cookie, 16))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		os.WriteFile(path+".second", []byte(fmt.Sprint(os.Getpid())), 0o600)
		return func() {}
	}
	fmt.Fprintf(f, "%d %d", os.Getpid(), inode)
	f.Close()
	return func() { os.WriteFile(path, nil, 0o600) }
}

// owners watches the directory while a test runs.
type owners struct {
	t    *testing.T
	dir  string
	stop chan struct{}
	done chan int
}

// watchOwners makes the directory and looks, again and again, whether each owner that lives has the connection open.
func watchOwners(t *testing.T) *owners {
	o := &owners{t: t, dir: t.TempDir(), stop: make(chan struct{}), done: make(chan int)}
	t.Setenv(ownEnv, o.dir)
	go func() {
		looks := 0
		for {
			select {
			case <-o.stop:
				o.done <- looks
				return
			case <-time.After(2 * time.Millisecond):
				looks += o.look()
			}
		}
	}()
	return o
}

// look checks what is owned now in /proc and returns how many it found.
func (o *owners) look() (n int) {
	list, _ := filepath.Glob(filepath.Join(o.dir, "*[0-9a-f]"))
	for _, path := range list {
		text, err := os.ReadFile(path)
		var pid, inode int
		if _, scan := fmt.Sscan(string(text), &pid, &inode); err != nil || scan != nil || strings.Contains(filepath.Base(path), ".") {
			continue
		}
		if holds(pid, inode) {
			n++
			continue
		}
		// It may have ended just now.
		now, _ := os.ReadFile(path)
		if string(now) == string(text) && syscall.Kill(pid, 0) == nil && !holds(pid, inode) && !exiting(pid) {
			o.t.Errorf("process %d owns the connection %s and does not have it open", pid, filepath.Base(path))
		}
	}
	return n
}

func holds(pid, inode int) bool {
	want := fmt.Sprintf("socket:[%d]", inode)
	list, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, p := range list {
		if name, err := os.Readlink(p); err == nil && name == want {
			return true
		}
	}
	return false
}

// exiting tells whether a process has ended or is about to.
func exiting(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	rest := string(stat[strings.LastIndexByte(string(stat), ')')+1:])
	return strings.HasPrefix(strings.TrimSpace(rest), "Z") || strings.HasPrefix(strings.TrimSpace(rest), "X") || len(mustGlob(pid)) == 0
}

func mustGlob(pid int) []string {
	list, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	return list
}

// end stops watching and fails when a connection was owned twice. It returns how many were ever owned.
func (o *owners) end() int {
	close(o.stop)
	looks := <-o.done
	second, _ := filepath.Glob(filepath.Join(o.dir, "*.second"))
	for _, p := range second {
		by, _ := os.ReadFile(p)
		o.t.Errorf("the connection %s was touched a second time, by process %s", strings.TrimSuffix(filepath.Base(p), ".second"), by)
	}
	ever := 0
	list, _ := os.ReadDir(o.dir)
	for _, e := range list {
		if !strings.Contains(e.Name(), ".") {
			ever++
		}
	}
	if ever > 0 {
		o.t.Logf("%d connections were owned, each once; seen in /proc %d times", ever, looks)
	}
	return ever
}

// words checks that no word contradicts what the master thinks: an offer that it has in custody has the word of its sequence.
func (r *running) words() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.workers {
		if w.words == nil {
			continue
		}
		for _, o := range w.offers {
			s := w.words.State(o.slot, o.seq)
			switch {
			case s == handover.Free:
				r.t.Errorf("offer %d of worker %d is outstanding and has no word", o.seq, w.index)
			case o.custody == nil && s != handover.Revoked:
				r.t.Errorf("offer %d of worker %d went elsewhere and its word is %v", o.seq, w.index, s)
			}
		}
	}
}
