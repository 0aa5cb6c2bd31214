package dir_test

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"ndferry/array"
	"ndferry/store"
	"ndferry/store/dir"
)

// BenchmarkPut puts 1 GiB in cells of 4 MiB durably, beside dd on the same file system, in turns. It reports the ratio of the
// times and by how much the resident memory of the process grew.
func BenchmarkPut(b *testing.B) {
	const cell, cells = 4 << 20, 256
	path := b.TempDir()
	s, err := dir.Open(path+"/store", dir.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	data := bytes.Repeat([]byte("0123456789abcdef"), cell/16)
	crc := crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))
	d, err := array.ParseDType("|u1")
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(cell * cells)
	before := resident(b)
	var ours, theirs time.Duration
	for i := range b.N {
		b.StopTimer()
		theirs += ddOnce(b, path)
		b.StartTimer()
		begun := time.Now()
		spec := store.Spec{ID: store.ID{1, byte(i), byte(i >> 8)}, Name: "x", Meta: array.Meta{DType: d, Shape: array.Shape{cell * cells}, Cell: array.Shape{cell}}}
		u, _, err := s.Begin(b.Context(), spec)
		if err != nil {
			b.Fatal(err)
		}
		for c := range cells {
			if err := u.Write(b.Context(), store.Cell{Index: c, CRC: crc}, data); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := u.Commit(b.Context(), [32]byte{}); err != nil {
			b.Fatal(err)
		}
		ours += time.Since(begun)
		b.StopTimer()
		if err := s.Delete(b.Context(), "x"); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(theirs)/float64(ours), "x-dd")
	b.ReportMetric(float64(resident(b)-before)/(1<<20), "RSS-MiB")
}

func ddOnce(b *testing.B, path string) time.Duration {
	begun := time.Now()
	out, err := exec.Command("dd", "if=/dev/zero", "of="+path+"/dd", "bs=4M", "count=256", "conv=fdatasync").CombinedOutput()
	if err != nil {
		b.Fatalf("dd: %v: %s", err, out)
	}
	elapsed := time.Since(begun)
	if err := os.Remove(path + "/dd"); err != nil {
		b.Fatal(err)
	}
	return elapsed
}

// resident returns the resident memory of this process in bytes; 0 where the system does not tell.
func resident(b *testing.B) int64 {
	if runtime.GOOS != "linux" {
		return 0
	}
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	var kib int64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		b.Fatal(err)
	}
	return kib << 10
}
