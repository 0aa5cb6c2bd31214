//go:build linux

package fdtest

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Hung is an open file on a file system that does not answer: close, stat and
// read of it wait until Release. It is what a hostile peer can pass to whoever
// takes descriptors. After 80 s, or when this process ends, it fails what waits. Do not start a process while this one has such a
// descriptor open: exec would close it in the child, and wait.
type Hung struct {
	fd   int
	dev  int // of the file system's server, this process
	dir  string
	done chan struct{}

	guard *exec.Cmd // ends it when this process has ended, or after 80 s

	mu       sync.Mutex
	released bool     // guarded by mu
	waiting  []uint64 // guarded by mu; requests that have no answer
	closes   int      // guarded by mu; how many of them are of close, ever
}

// Requests of a FUSE server that are answered here, linux/fuse.h.
const (
	fuseLookup  = 1
	fuseForget  = 2
	fuseGetattr = 3
	fuseOpen    = 14
	fuseRead    = 15
	fuseFlush   = 25
	fuseInit    = 26
	fuseForgets = 42
)

// HungFile mounts such a file system, which needs root and /dev/fuse, and opens
// its file. Everything is released and closed when the test ends, or after a minute:
// then the test waited for the file, and fails.
func HungFile(t testing.TB) *Hung {
	t.Helper()
	dir, err := os.MkdirTemp("", "hung")
	if err != nil {
		t.Fatal(err)
	}
	h, err := hang(dir)
	if err != nil {
		os.Remove(dir)
		t.Fatalf("a file system that hangs (needs root and /dev/fuse): %v", err)
	}
	late := time.AfterFunc(time.Minute, h.Release)
	t.Cleanup(func() {
		if !late.Stop() {
			t.Error("the test waited a minute for a file that hangs")
		}
		h.Close()
		os.Remove(dir)
	})
	return h
}

// HungMount is HungFile without opening the file, which is the entry "file" of the
// directory that it returns, for another process to open.
func HungMount(t testing.TB) (h *Hung, dir string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "hung")
	if err == nil {
		h, err = mount(dir)
	}
	if err != nil {
		os.Remove(dir)
		t.Fatalf("a file system that hangs (needs root and /dev/fuse): %v", err)
	}
	t.Cleanup(func() {
		h.Close()
		os.Remove(dir)
	})
	return h, dir
}

// hang mounts and opens the file.
func hang(dir string) (*Hung, error) {
	h, err := mount(dir)
	if err != nil {
		return nil, err
	}
	// Not by package os, which would ask whether the file can be polled.
	h.fd, err = unix.Open(filepath.Join(dir, "file"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

func mount(dir string) (*Hung, error) {
	dev, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	h := &Hung{fd: -1, dev: dev, dir: dir, done: make(chan struct{})}
	// A process that ends while it waits for its own file system would stay for ever: its descriptors are gone then, or its first thread
	// has SIGKILL pending.
	h.guard = exec.Command("sh", "-c", `n=0
		while [ $n -lt 400 ] && [ -n "$(ls "/proc/$PPID/fd" 2>/dev/null)" ] && ! grep -q "^SigPnd:.*1..$" "/proc/$PPID/status"; do sleep 0.2; n=$((n+1)); done
		umount -f "$0"; umount -l "$0"`, dir)
	h.guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := h.guard.Start(); err != nil {
		unix.Close(dev)
		return nil, err
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=%d,group_id=%d", dev, os.Getuid(), os.Getgid())
	if err := unix.Mount("hung", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		h.unguard()
		unix.Close(dev)
		return nil, err
	}
	go h.serve()
	return h, nil
}

// FD lends the descriptor.
func (h *Hung) FD() int { return h.fd }

// AwaitClose waits until n closes of the file have begun, at most a minute, and
// reports whether they did. They wait until Release.
func (h *Hung) AwaitClose(n int) bool {
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		h.mu.Lock()
		closes := h.closes
		h.mu.Unlock()
		if closes >= n {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// Release answers all that waits, and from now on at once.
func (h *Hung) Release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.released = true
	for _, unique := range h.waiting {
		h.answer(unique, 0, nil)
	}
	h.waiting = nil
}

// Close releases and unmounts.
func (h *Hung) Close() {
	h.Release()
	if h.fd >= 0 {
		unix.Close(h.fd)
		h.fd = -1
	}
	unix.Unmount(h.dir, unix.MNT_DETACH)
	<-h.done
	h.unguard()
}

func (h *Hung) unguard() {
	unix.Kill(-h.guard.Process.Pid, unix.SIGKILL)
	h.guard.Wait()
}

// serve answers requests until the file system is unmounted and nobody has a file
// of it open.
func (h *Hung) serve() {
	defer close(h.done)
	defer unix.Close(h.dev)
	buf := make([]byte, 1<<17)
	for {
		n, err := unix.Read(h.dev, buf)
		if err == unix.EINTR || err == unix.ENOENT || err == unix.EAGAIN {
			continue
		}
		if err != nil || n < 40 {
			return
		}
		op := binary.NativeEndian.Uint32(buf[4:])
		unique := binary.NativeEndian.Uint64(buf[8:])
		node := binary.NativeEndian.Uint64(buf[16:])
		h.mu.Lock()
		h.request(op, unique, node)
		h.mu.Unlock()
	}
}

// request answers one request or lets it wait. Called with mu held.
func (h *Hung) request(op uint32, unique, node uint64) {
	u64, u32 := binary.NativeEndian.AppendUint64, binary.NativeEndian.AppendUint32
	hangs := op == fuseFlush || op == fuseRead || op == fuseGetattr && node != 1
	if op == fuseFlush {
		h.closes++
	}
	if hangs && !h.released {
		h.waiting = append(h.waiting, unique)
		return
	}
	switch op {
	case fuseInit:
		out := u32(u32(u32(u32(nil, 7), 31), 0), 0) // version, read ahead, flags
		h.answer(unique, 0, append(u32(append(out, 0, 0, 0, 0), 4096), make([]byte, 40)...))
	case fuseLookup:
		out := u64(u64(u64(u64(nil, 2), 0), 3600), 0) // node, generation, how long name and attributes are good
		h.answer(unique, 0, append(append(out, make([]byte, 8)...), attributes(2, unix.S_IFREG|0o600)...))
	case fuseGetattr:
		mode := uint32(unix.S_IFDIR | 0o700)
		if node != 1 {
			mode = unix.S_IFREG | 0o600
		}
		h.answer(unique, 0, append(make([]byte, 16), attributes(node, mode)...))
	case fuseOpen:
		h.answer(unique, 0, make([]byte, 16))
	case fuseForget, fuseForgets:
	case fuseFlush, 18, 29: // close, and the last one, of files and directories
		h.answer(unique, 0, nil)
	default:
		h.answer(unique, unix.ENOSYS, nil)
	}
}

func attributes(node uint64, mode uint32) []byte {
	b := binary.NativeEndian.AppendUint64(nil, node)
	b = append(b, make([]byte, 5*8+3*4)...)
	b = binary.NativeEndian.AppendUint32(b, mode)
	b = binary.NativeEndian.AppendUint32(b, 1)
	b = binary.NativeEndian.AppendUint32(b, uint32(os.Getuid()))
	b = binary.NativeEndian.AppendUint32(b, uint32(os.Getgid()))
	return append(b, make([]byte, 3*4)...)
}

func (h *Hung) answer(unique uint64, errno unix.Errno, body []byte) {
	b := binary.NativeEndian.AppendUint32(nil, uint32(16+len(body)))
	b = binary.NativeEndian.AppendUint32(b, uint32(-int32(errno)))
	b = binary.NativeEndian.AppendUint64(b, unique)
	unix.Write(h.dev, append(b, body...)) // whoever asked may have been killed
}
