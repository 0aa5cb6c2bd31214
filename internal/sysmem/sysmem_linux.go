package sysmem

import (
	"bufio"
	"bytes"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// limits are the files of a version of control groups, as the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst name them.
type limits struct {
	root, most, used, stat string
	reclaimable            string // of stat: bytes of files that nobody uses just now
}

var (
	version1 = limits{"sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat", "total_inactive_file"}
	version2 = limits{"sys/fs/cgroup", "memory.max", "memory.current", "memory.stat", "inactive_file"}
)

func total() int64 { return totalOf(os.DirFS("/")) }

func available() int64 { return availableOf(os.DirFS("/")) }

func totalOf(root fs.FS) int64 {
	n := field(root, "proc/meminfo", "MemTotal:") << 10
	for most := range groups(root) {
		n = least(n, most)
	}
	return n
}

func availableOf(root fs.FS) int64 {
	n := field(root, "proc/meminfo", "MemAvailable:") << 10
	for most, left := range groups(root) {
		if most > 0 {
			n = least(n, max(left, 1))
		}
	}
	return n
}

// least is the smaller of two sizes, of which 0 is none.
func least(a, b int64) int64 {
	if a == 0 || b == 0 {
		return a + b
	}
	return min(a, b)
}

// groups yields the limit of each control group that this process is in, and what is left of it. A container may see its own group as the
// root of all, while its path still begins at the machine's: so parents are looked at up to the root, and those that are not there are left out.
func groups(root fs.FS) func(yield func(most, left int64) bool) {
	return func(yield func(most, left int64) bool) {
		text, err := fs.ReadFile(root, "proc/self/cgroup")
		if err != nil {
			return
		}
		for line := range strings.Lines(string(text)) {
			parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
			if len(parts) < 3 {
				continue
			}
			v := version2
			if parts[1] != "" {
				if v = version1; !slices.Contains(strings.Split(parts[1], ","), "memory") {
					continue
				}
			}
			for dir := path.Join("/", parts[2]); ; dir = path.Dir(dir) {
				at := path.Join(v.root, dir)
				if most := number(root, path.Join(at, v.most)); most > 0 {
					used := number(root, path.Join(at, v.used)) - field(root, path.Join(at, v.stat), v.reclaimable)
					if !yield(most, most-used) {
						return
					}
				}
				if dir == "/" {
					break
				}
			}
		}
	}
}

// number is that in a file; 0 when there is none, as in "max".
func number(root fs.FS, file string) int64 {
	text, err := fs.ReadFile(root, file)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	if err != nil {
		return 0
	}
	return max(n, 0)
}

// field is the number behind a name in a file of lines; 0 when there is none.
func field(root fs.FS, file, name string) int64 {
	text, err := fs.ReadFile(root, file)
	if err != nil {
		return 0
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if f := strings.Fields(lines.Text()); len(f) > 1 && f[0] == name {
			n, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				return 0
			}
			return max(n, 0)
		}
	}
	return 0
}
