//go:build linux

package fdpass

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// peerPrograms are the peers that this package must understand: one in C by
// sendmsg and recvmsg, one in Python by socket.send_fds and recv_fds. Each is
//
//	PROGRAM seqpacket|stream send|recv COUNT     descriptor 3 is the channel
//
// send: COUNT memfds with the contents "file 0", "file 1"… go with the message
// "from c" or "from python". recv: prints the message and what each received
// file holds, one a line.
var peerPrograms = map[string]func(t testing.TB) []string{
	"c":      func(t testing.TB) []string { return []string{compileC(t, "peer.c")} },
	"python": func(t testing.TB) []string { return []string{python(t), "testdata/peer.py"} },
}

var cBinaries sync.Map

// compileC compiles a program in testdata; a machine without gcc fails.
func compileC(t testing.TB, source string) string {
	t.Helper()
	if bin, ok := cBinaries.Load(source); ok {
		return bin.(string)
	}
	bin := filepath.Join(os.TempDir(), fmt.Sprintf("fdpass-%d-%s", os.Getpid(), strings.TrimSuffix(source, ".c")))
	out, err := exec.Command("gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", bin, filepath.Join("testdata", source)).CombinedOutput()
	if err != nil {
		t.Fatalf("gcc %s: %v\n%s", source, err, out)
	}
	cBinaries.Store(source, bin)
	return bin
}

func removeBinaries() {
	cBinaries.Range(func(_, bin any) bool {
		os.Remove(bin.(string))
		return true
	})
}

func python(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err != nil {
		t.Fatalf("the interoperation tests need python3: %v", err)
	}
	return path
}

func startPeer(t testing.TB, argv []string, typ Type, verb string, n int) (*Conn, *child) {
	t.Helper()
	c, f, err := PairFile(typ)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	kind := "seqpacket"
	if typ == Stream {
		kind = "stream"
	}
	cmd := exec.Command(argv[0], append(argv[1:], kind, verb, fmt.Sprint(n))...)
	cmd.ExtraFiles = []*os.File{f}
	return c, startChild(t, cmd)
}

func TestInterop(t *testing.T) {
	defer removeBinaries()
	for lang, argv := range peerPrograms {
		for _, typ := range []Type{Seqpacket, Stream} {
			for _, n := range []int{1, 3, MaxFiles} {
				t.Run(fmt.Sprintf("%s/%v/%d/to", lang, typ, n), func(t *testing.T) {
					program := argv(t)
					audit(t)
					interopTo(t, program, typ, n)
				})
				t.Run(fmt.Sprintf("%s/%v/%d/from", lang, typ, n), func(t *testing.T) {
					program := argv(t)
					audit(t)
					interopFrom(t, program, lang, typ, n)
				})
			}
		}
	}
}

func interopTo(t *testing.T, program []string, typ Type, n int) {
	c, peer := startPeer(t, program, typ, "recv", n)
	files, _ := memfds(t, n)
	for i, f := range files {
		fmt.Fprintf(f, "file %d", i)
	}
	if err := c.Send([]byte("from go"), conns(files)...); err != nil {
		t.Fatal(err)
	}
	if got := peer.line(t); got != "from go" {
		t.Fatalf("message %q", got)
	}
	for i := range n {
		if got, want := peer.line(t), fmt.Sprintf("file %d", i); got != want {
			t.Fatalf("descriptor %d holds %q", i, got)
		}
	}
	if err := peer.Wait(); err != nil {
		t.Fatal(err)
	}
}

func interopFrom(t *testing.T, program []string, lang string, typ Type, n int) {
	c, peer := startPeer(t, program, typ, "send", n)
	buf := make([]byte, 100)
	got, set, err := c.Recv(buf)
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	if err := set.Expect(n); err != nil || string(buf[:got]) != "from "+lang {
		t.Fatalf("message %q, %v", buf[:got], err)
	}
	for i := range n {
		if text := pread(t, set.Peek(i)); text != fmt.Sprintf("file %d", i) {
			t.Fatalf("descriptor %d holds %q", i, text)
		}
	}
	if err := peer.Wait(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Recv(buf); !errors.Is(err, ErrPeerGone) {
		t.Fatalf("after the peer's exit: %v", err)
	}
}

func pread(t testing.TB, fd int) string {
	t.Helper()
	buf := make([]byte, 100)
	n, err := unix.Pread(fd, buf, 0)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

// The tutorial's interface, written afresh in Python: its sender to our
// FrameServer, our SendFrame to its receiver.
func TestInterop_tutorial(t *testing.T) {
	t.Run("from", func(t *testing.T) {
		audit(t)
		path := filepath.Join(privateDir(t), "s")
		l, err := ListenPath(path, PathConfig{Type: Stream})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		for i := range 3 {
			cmd := exec.Command(python(t), "testdata/tutorial.py", "send", path, fmt.Sprintf("file %d", i))
			peer := startChild(t, cmd)
			c, err := l.AcceptConn()
			if err != nil {
				t.Fatal(err)
			}
			meta, set, err := c.RecvFrame(t.Context())
			c.Close()
			if err != nil {
				t.Fatal(err)
			}
			if text := pread(t, set.Peek(0)); text != fmt.Sprintf("file %d", i) || !strings.Contains(string(meta), `"client_address"`) {
				t.Errorf("descriptor holds %q, metadata %s", text, meta)
			}
			set.Close()
			if got := peer.line(t); got != "True" {
				t.Errorf("its sender says %s", got)
			}
		}
	})
	t.Run("to", func(t *testing.T) {
		audit(t)
		path := filepath.Join(privateDir(t), "s")
		peer := startChild(t, exec.Command(python(t), "testdata/tutorial.py", "recv", path))
		if got := peer.line(t); got != "listening" {
			t.Fatal(got)
		}
		c, err := DialPath(t.Context(), path, DialConfig{Type: Stream})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		files, _ := memfds(t, 1)
		fmt.Fprint(files[0], "hello")
		meta := map[string]any{"client_address": "127.0.0.1:1", "timestamp": 2.5}
		if err := c.SendFrame(t.Context(), meta, files[0]); err != nil {
			t.Fatal(err)
		}
		if got := peer.line(t); got != "hello 127.0.0.1:1 2.5" {
			t.Errorf("its receiver got %q", got)
		}
	})
}
