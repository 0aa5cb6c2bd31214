//go:build gate

package cli

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"ndferry/array"
)

// TestGateMemory puts a large array into a directory and gets it back: neither the server nor the client may grow with it.
// NDFERRY_MEMORY_GIB=8 does it with 8 GiB.
func TestGateMemory(t *testing.T) {
	const limit = 64 << 10 // KiB
	gib := 1
	if s := os.Getenv("NDFERRY_MEMORY_GIB"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		gib = n
	}
	dir := t.TempDir()
	bin := filepath.Join(dir, "ndferry")
	build := exec.Command("go", "build", "-o", bin, "ndferry/cmd/ndferry")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	input := filepath.Join(dir, "in.npy")
	writeRandom(t, input, gib)

	addr := "unix://" + filepath.Join(dir, "s")
	server := exec.Command(bin, "serve", "--store", filepath.Join(dir, "store"), "--listen", addr)
	server.Stderr = os.Stderr
	stdout, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		server.Process.Signal(syscall.SIGTERM)
		if err := server.Wait(); err != nil {
			t.Errorf("serve: %v", err)
		}
	}()
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	before := familyPeakKiB(t, server.Process.Pid)
	output := filepath.Join(dir, "out.npy")
	for _, args := range [][]string{{"put", input, "big", "--addr", addr}, {"get", "big", output, "--addr", addr}} {
		c := exec.Command(bin, args...)
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		client := int(c.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)
		server := familyPeakKiB(t, server.Process.Pid)
		t.Logf("%s of %d GiB: client %d KiB, server %d KiB, %d before", args[0], gib, client, server, before)
		if client > limit {
			t.Errorf("%s: the client had %d KiB, at most %d are allowed", args[0], client, limit)
		}
		if server-before > limit {
			t.Errorf("%s: the server grew by %d KiB, at most %d are allowed", args[0], server-before, limit)
		}
	}
	if out, err := exec.Command("cmp", input, output).CombinedOutput(); err != nil {
		t.Errorf("what came back differs: %v %s", err, out)
	}
}

// writeRandom writes an array of gib GiB of float64: one random block after another.
func writeRandom(t *testing.T, path string, gib int) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dtype, err := array.ParseDType("<f8")
	if err != nil {
		t.Fatal(err)
	}
	head := array.AppendNPYHeader(nil, dtype, array.Shape{gib * 128, 1 << 20}, false)
	if _, err := f.Write(head); err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 8<<20)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := 0; i < len(block); i += 8 {
		binary.LittleEndian.PutUint64(block[i:], rng.Uint64())
	}
	for i := range gib * 128 {
		binary.LittleEndian.PutUint64(block, uint64(i))
		if _, err := f.Write(block); err != nil {
			t.Fatal(err)
		}
	}
}

// familyPeakKiB is peakKiB of a server with its workers.
func familyPeakKiB(t *testing.T, pid int) int {
	t.Helper()
	sum := peakKiB(t, pid)
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range tasks {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, field := range strings.Fields(string(text)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			sum += peakKiB(t, child)
		}
	}
	return sum
}

// peakKiB is the largest resident size that a process has had.
func peakKiB(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		if rest, ok := strings.CutPrefix(string(line), "VmHWM:"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no VmHWM")
	return 0
}
