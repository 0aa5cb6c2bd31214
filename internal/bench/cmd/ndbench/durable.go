package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"

	"ndferry/internal/bench"
)

// durable compares a put that is on stable storage with what else brings an array to a disk, and a resumed transfer with a whole one.
var durable = bench.Scenario{
	Name: "durable",
	Doc:  "an array of a file to the disk: durable and relaxed put over TCP, dd, np.save, rsync, scp, zarr; resume",
	New: func(f *flag.FlagSet) func() ([]bench.Side, error) {
		size := f.Int("size", 1<<30, "bytes of the array, float32")
		sides := f.String("sides", "dd,durable,relaxed,np.save", "what to compare; np.save-fsync, durable-once and relaxed-once (nothing to resume), memory, rsync, scp, zarr, resume-put, get, resume-get too")
		dir := f.String("dir", ".cache/bench-durable", "on the file system to measure; must not exist")
		file := f.String("file", "/dev/shm/ndferry-durable.npy", "the array, made when it is missing, and kept")
		bin := f.String("bin", "bin", "where ndferry is")
		python := f.String("python", ".venv/bin/python", "Python with numpy, and zarr for the side of that name")
		port := f.Int("port", 20600, "of the server")
		return func() ([]bench.Side, error) {
			if err := os.MkdirAll(*dir, 0o755); err != nil {
				return nil, err
			}
			ndferry, err := filepath.Abs(filepath.Join(*bin, "ndferry"))
			if err != nil {
				return nil, err
			}
			if info, err := os.Stat(*file); err != nil || info.Size() < int64(*size) || info.Size() > int64(*size)+4096 {
				if out, err := exec.Command(*python, "bench/peers/durable.py", "make", *file, strconv.Itoa(*size)).CombinedOutput(); err != nil {
					return nil, fmt.Errorf("make %s: %w\n%s", *file, err, out)
				}
			}
			var list []bench.Side
			for i, name := range strings.Split(*sides, ",") {
				addr := fmt.Sprintf("tcp://127.0.0.1:%d", *port+i)
				side := bench.Side{Name: name, Bytes: int64(*size), Values: func(stdout []byte) (values map[string]float64, err error) {
					err = json.Unmarshal(stdout, &values)
					return values, err
				}}
				side.Client = bench.Proc{Path: *python, Args: []string{"bench/peers/durable.py", name, *file, *dir, addr, ndferry},
					Env: []string{"XDG_STATE_HOME=" + filepath.Join(*dir, "home"), "TMPDIR=" + *dir}}
				store := filepath.Join(*dir, "store-"+name)
				switch name {
				case "memory":
					store = "mem:"
					fallthrough
				case "durable", "relaxed", "durable-once", "relaxed-once", "resume-put", "get", "resume-get":
					side.Servers = []bench.Proc{{Path: ndferry, ReadyLine: "serving", Args: []string{"serve", "--store", store, "--listen", addr}}}
				}
				list = append(list, side)
			}
			return list, nil
		}
	},
}
