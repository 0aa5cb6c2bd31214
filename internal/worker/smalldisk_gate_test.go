//go:build gate && linux

package worker

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"ndferry/array"
	"ndferry/client"
	"ndferry/store/dir"
	"ndferry/wire"
)

// smallDisk is an ext4 of its own, with a server on it.
type smallDisk struct {
	t     *testing.T
	mount string
	st    *dir.Store
	srv   *Server
	addr  string
	c     *client.Client
}

func newSmallDisk(t *testing.T, driver string, mkfs ...string) *smallDisk {
	t.Helper()
	tmp := t.TempDir()
	d := &smallDisk{t: t, mount: filepath.Join(tmp, "mnt")}
	image := filepath.Join(tmp, "image")
	f, err := os.Create(image)
	if err == nil {
		err = errors.Join(f.Truncate(24<<20), f.Close(), os.Mkdir(d.mount, 0o777))
	}
	if err != nil {
		t.Fatal(err)
	}
	d.command("mkfs.ext4", append(append([]string{"-q", "-m", "0"}, mkfs...), image)...)
	d.command("mount", "-o", "loop", image, d.mount)
	t.Cleanup(func() { d.command("umount", d.mount) })
	d.start(t, driver)
	return d
}

func (d *smallDisk) command(name string, args ...string) {
	d.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		d.t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
}

func (d *smallDisk) start(t *testing.T, driver string) {
	t.Helper()
	var err error
	if d.st, err = dir.Open(filepath.Join(d.mount, "store"), dir.Config{}); err != nil {
		t.Fatal(err)
	}
	d.srv, d.addr = serve(t, d.st, Config{Driver: driver})
	d.c = dial(t, d.addr)
}

func (d *smallDisk) put(name string, size int, opts client.PutOptions) error {
	opts.ChunkBytes = 64 << 10
	_, err := d.c.Put(d.t.Context(), name, noise(size), opts)
	return err
}

func (d *smallDisk) mustHold(name string, size int) {
	d.t.Helper()
	got, err := d.c.Get(d.t.Context(), name, client.GetOptions{})
	if err != nil || !bytes.Equal(got.Data, noise(size).Data) {
		d.t.Errorf("%s: other bytes, or error %v", name, err)
	}
}

func (d *smallDisk) wantRefused(what string, err error, want wire.Code) {
	d.t.Helper()
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Code != want || e.Closed {
		d.t.Errorf("%s: %v, want the code %s", what, err, want)
	}
}

// noise is an array that does not compress.
func noise(size int) client.Array {
	a := client.Array{Shape: array.Shape{size}, Data: make([]byte, size)}
	a.DType, _ = array.ParseDType("|u1")
	for i, x := 0, uint64(size)|1; i < size; i++ {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		a.Data[i] = byte(x)
	}
	return a
}

// fill leaves so many bytes of the file system free.
func (d *smallDisk) fill(leave int64) (free func()) {
	d.t.Helper()
	file := filepath.Join(d.mount, "ballast")
	f, err := os.Create(file)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	var st syscall.Statfs_t
	if err := syscall.Statfs(d.mount, &st); err != nil {
		d.t.Fatal(err)
	}
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, int64(st.Bavail)*st.Bsize-leave); err != nil {
		d.t.Fatal(err)
	}
	return func() {
		if err := os.Remove(file); err != nil {
			d.t.Error(err)
		}
	}
}

// TestGateSmallDisks fills real file systems, with bytes and with files, and lets one become read-only, under a server: the client is
// told so with the right code, at the header where the size is known, other transfers are unharmed, and the server serves on by itself when there is
// space again.
func TestGateSmallDisks(t *testing.T) {
	for _, test := range []struct {
		name string
		mkfs []string
		run  func(*smallDisk)
	}{
		{"full", nil, (*smallDisk).full},
		{"full on the way", nil, (*smallDisk).fullOnTheWay},
		{"no inodes", []string{"-N", "96"}, (*smallDisk).noInodes},
		{"read-only", nil, (*smallDisk).readOnly},
	} {
		for _, driver := range drivers {
			t.Run(test.name+"/"+driver, func(t *testing.T) {
				test.run(newSmallDisk(t, driver, test.mkfs...))
			})
		}
	}
	if !t.Failed() {
		t.Logf("smalldisks: tried=8 reached=8 injected=8 failed=0 seed=0")
	}
}

func (d *smallDisk) full() {
	if err := d.put("a", 1<<20, client.PutOptions{}); err != nil {
		d.t.Fatal(err)
	}
	nc, err := net.Dial("unix", strings.TrimPrefix(d.addr, "unix://"))
	if err != nil {
		d.t.Fatal(err)
	}
	defer nc.Close()
	other := newPeer(d.t, nc)
	u := newUpload(d.t, "b", 1)
	other.send(u.put(1), u.chunk(1, 0))
	other.ping()
	free := d.fill(512 << 10)
	// No cell is sent: the answer to PUT alone says it.
	meta := array.Meta{Shape: array.Shape{4 << 20}, DType: dtype(d.t, "|u1"), Cell: array.Shape{1 << 20}, DimNames: array.DefaultDimNames("a", 1)}
	text, err := meta.AppendWire(nil)
	if err != nil {
		d.t.Fatal(err)
	}
	msg := wire.PutMessage{Name: "c", ID: wire.ID{2}, Array: text, NumPy: []byte(`"|u1"`)}
	other.send(wire.AppendFrame(nil, wire.Header{Kind: wire.Put, Flags: wire.Critical, Stream: 3}, wire.Encode(msg)))
	other.wantError(wire.CodeNoSpace)
	d.wantRefused("put", d.put("c", 4<<20, client.PutOptions{}), wire.CodeNoSpace)
	other.send(u.chunk(1, 1), u.finish(1))
	for f := other.next(); f.Kind != wire.Receipt; f = other.next() {
		if f.Kind == wire.Fail || f.Kind == 0 {
			d.t.Fatalf("the one that had its space: %v %s", f.Kind, f.Payload)
		}
	}
	d.mustHold("a", 1<<20)
	free()
	if err := d.put("c", 4<<20, client.PutOptions{}); err != nil {
		d.t.Errorf("with space again: %v", err)
	}
	d.mustHold("c", 4<<20)
}

func (d *smallDisk) fullOnTheWay() {
	if err := d.put("a", 1<<20, client.PutOptions{}); err != nil {
		d.t.Fatal(err)
	}
	free := d.fill(1 << 20)
	opts := client.PutOptions{Codec: "lz4", Resume: true, ID: wire.ID{9}}
	d.wantRefused("put", d.put("c", 4<<20, opts), wire.CodeNoSpace)
	d.mustHold("a", 1<<20)
	if err := d.put("small", 1000, client.PutOptions{}); err != nil {
		d.t.Errorf("what fits: %v", err)
	}
	free()
	if err := d.put("c", 4<<20, opts); err != nil {
		d.t.Errorf("with space again: %v", err)
	}
	d.mustHold("c", 4<<20)
}

func (d *smallDisk) noInodes() {
	var err error
	n := 0
	for ; err == nil && n < 200; n++ {
		err = d.put(fmt.Sprintf("g/%d", n), 1000, client.PutOptions{})
	}
	d.wantRefused(fmt.Sprintf("put %d", n), err, wire.CodeNoSpace)
	d.mustHold("g/0", 1000)
	for i := range 2 {
		if err := d.c.Delete(d.t.Context(), fmt.Sprintf("g/%d", i)); err != nil {
			d.t.Error(err)
		}
	}
	if err := d.put("g/new", 1000, client.PutOptions{}); err != nil {
		d.t.Errorf("with inodes again: %v", err)
	}
	d.mustHold("g/new", 1000)
}

func (d *smallDisk) readOnly() {
	if err := d.put("a", 1<<20, client.PutOptions{}); err != nil {
		d.t.Fatal(err)
	}
	// What ext4 does when its device fails; an orderly remount is refused while files are open for writing.
	d.command("mount", "-o", "remount,abort", d.mount)
	d.wantRefused("put", d.put("b", 1000, client.PutOptions{}), wire.CodePermission)
	d.wantRefused("delete", d.c.Delete(d.t.Context(), "a"), wire.CodePermission)
	d.mustHold("a", 1<<20)
}
