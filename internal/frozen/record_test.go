package frozen

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/go-json-experiment/json"

	"ndferry/client"
	"ndferry/internal/worker"
	"ndferry/wire"
)

var (
	update = flag.Bool("update", false, "write spec/frozen/v1 anew")
	python = flag.String("python", "../../.venv/bin/python", "a Python that has the package ndferry, for -update")
)

// sealed is the SHA-256 of spec/frozen/v1/SHA256SUMS since 0.1.0. It never changes; another version gets a directory and a seal of its own.
const sealed = "b587788e252881c7f021b017f2b13a09c95c3e4d87d5b3966c980c1f54fe9ed2"

// TestRecord writes the recordings, with -update, of a version that is not sealed.
func TestRecord(t *testing.T) {
	if !*update {
		return
	}
	if sealed != "" {
		t.Fatal("version 1 is frozen since 0.1.0: what differs from it is another version, or a mistake")
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // cells are stored in the order in which they come
	for _, dir := range []string{"conversations", "store"} {
		if err := os.RemoveAll(filepath.Join(root, dir)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(root, "conversations"), 0o755); err != nil {
		t.Fatal(err)
	}
	buildStore(t)
	for _, r := range recordings() {
		t.Run(r.name, func(t *testing.T) {
			tr := r.record(t)
			tr.settle()
			if err := os.WriteFile(filepath.Join(root, "conversations", r.name+".txt"), tr.text(), 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
	if !t.Failed() {
		writeSums(t)
	}
}

// recording is how a transcript is made.
type recording struct {
	name, about, store string
	calls              []call                                                   // by a client
	script             func(s *script)                                          // or frame by frame
	tamper             func(from byte, conn, n int, frame []byte) (break_ bool) // damages the n-th frame of its kind before it is passed on
}

func (r *recording) record(t *testing.T) *transcript {
	tr := &transcript{name: r.name, about: r.about, store: r.store, calls: r.calls}
	s := startServer(t, r.store, worker.GoroutineDriver)
	if r.script != nil {
		sc := &script{t: t, s: s, tr: tr, conns: map[int]net.Conn{}}
		r.script(sc)
		return tr
	}
	p := newProxy(t, s, tr, r.tamper)
	if strings.HasPrefix(r.name, "go-") {
		c, err := client.Dial(t.Context(), "unix://"+p.path, client.Config{Software: "ndferry-go"})
		if err != nil {
			t.Fatal(err)
		}
		for i := range tr.calls {
			tr.calls[i].Result = perform(t, c, tr.calls[i])
		}
		c.Close()
	} else {
		p.python(t, tr)
	}
	p.end()
	checkRoundTrips(t, tr)
	return tr
}

// checkRoundTrips makes sure that what a get returned is what was put.
func checkRoundTrips(t *testing.T, tr *transcript) {
	put := map[string]string{}
	for _, c := range tr.calls {
		var r struct {
			SHA256 string `json:"sha256"`
			Error  string `json:"error"`
		}
		if err := json.Unmarshal(c.Result, &r, json.RejectUnknownMembers(false)); err != nil {
			t.Fatalf("%s %s: %v", c.Op, c.Name, err)
		}
		switch {
		case c.Op == "put" && r.Error == "" && c.Broadcast == nil:
			a, _, err := c.put()
			if err != nil {
				t.Fatal(err)
			}
			put[c.Name] = fmt.Sprintf("%x", sha256.Sum256(a.Data))
		case c.Op == "get" && put[c.Name] != "" && put[c.Name] != r.SHA256:
			t.Errorf("%s was put as %s and came back as %s", c.Name, put[c.Name], r.SHA256)
		}
	}
}

// proxy passes frames between a client and a server and writes them down.
type proxy struct {
	t      testing.TB
	path   string
	ln     net.Listener
	s      *server
	tr     *transcript
	tamper func(from byte, conn, n int, frame []byte) bool
	tasks  sync.WaitGroup

	mu    sync.Mutex
	conns int
	seen  map[string]int
}

func newProxy(t testing.TB, s *server, tr *transcript, tamper func(from byte, conn, n int, frame []byte) bool) *proxy {
	p := &proxy{t: t, path: filepath.Join(t.TempDir(), "p"), s: s, tr: tr, tamper: tamper, seen: map[string]int{}}
	var err error
	if p.ln, err = net.Listen("unix", p.path); err != nil {
		t.Fatal(err)
	}
	p.tasks.Go(func() {
		for {
			nc, err := p.ln.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("unix", s.path)
			if err != nil {
				t.Error(err)
				nc.Close()
				return
			}
			p.mu.Lock()
			p.conns++
			n := p.conns
			p.mu.Unlock()
			p.tasks.Go(func() { p.pass('C', n, nc, to) })
			p.tasks.Go(func() { p.pass('S', n, to, nc) })
		}
	})
	return p
}

func (p *proxy) pass(from byte, conn int, src, dst net.Conn) {
	broken := false
	defer func() {
		if !broken { // else the other direction ends when the server has taken what was said
			dst.Close()
			src.Close()
		}
	}()
	for {
		b, err := readFrame(src)
		if err != nil {
			return
		}
		h, _ := wire.ParseHeader(b)
		p.mu.Lock()
		key := fmt.Sprintf("%c %v", from, h.Kind)
		p.seen[key]++
		broken = p.tamper != nil && p.tamper(from, conn, p.seen[key], b)
		p.tr.lines = append(p.tr.lines, line{from: from, conn: conn, data: b})
		if broken {
			p.tr.lines = append(p.tr.lines, line{from: 'D', conn: conn})
		}
		_, err = dst.Write(b)
		p.mu.Unlock()
		if broken {
			dst.(*net.UnixConn).CloseWrite()
		}
		if broken || err != nil {
			return
		}
	}
}

func (p *proxy) end() {
	p.ln.Close()
	p.tasks.Wait()
}

// python makes the calls with the Python client.
func (p *proxy) python(t testing.TB, tr *transcript) {
	t.Helper()
	todo, err := json.Marshal(tr.calls, json.Deterministic(true))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(*python, "../../python/tests/frozen.py", "unix://"+p.path)
	cmd.Stdin = bytes.NewReader(todo)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", cmd, err)
	}
	if err := json.Unmarshal(out, &tr.calls); err != nil {
		t.Fatal(err)
	}
}

// writeSums lists every file of the recordings by hash.
func writeSums(t testing.TB) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(root, "SHA256SUMS"), sums(t), 0o644); err != nil {
		t.Fatal(err)
	}
}

func sums(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	total := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "SHA256SUMS" || d.Name() == "README.md" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		fmt.Fprintf(&b, "%x  %s\n", sha256.Sum256(text), filepath.ToSlash(name))
		total += len(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if total > 1<<20 {
		t.Errorf("%d bytes are frozen, more than 1 MiB", total)
	}
	return b.Bytes()
}

// TestSums compares every file with its hash: none is missing, changed or new.
func TestSums(t *testing.T) {
	if *update {
		t.Skip("the conversations are being recorded")
	}
	want, err := os.ReadFile(filepath.Join(root, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%x", sha256.Sum256(want)); got != sealed {
		t.Errorf("SHA256SUMS has the SHA-256 %s, sealed was %s", got, sealed)
	}
	if got := sums(t); !bytes.Equal(got, want) {
		t.Errorf("spec/frozen/v1 is not what SHA256SUMS lists; it is never changed. It has:\n%s", got)
	}
}
