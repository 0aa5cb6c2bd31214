package sysmem

import (
	"os"
	"testing"
	"testing/fstest"
)

func TestSizes(t *testing.T) {
	const meminfo = "MemTotal:       25165824 kB\nMemFree:         1024 kB\nMemAvailable:   20971520 kB\n"
	for _, c := range []struct {
		name             string
		files            map[string]string
		total, available int64
	}{
		{name: "nothing is told"},
		{"a machine", map[string]string{"proc/meminfo": meminfo}, 24 << 30, 20 << 30},
		{"version 2, no limit", map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "0::/user.slice\n", "sys/fs/cgroup/user.slice/memory.max": "max\n",
		}, 24 << 30, 20 << 30},
		{"version 2, a container that sees itself as the root", map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "0::/\n",
			"sys/fs/cgroup/memory.max": "4294967296\n", "sys/fs/cgroup/memory.current": "3221225472\n",
			"sys/fs/cgroup/memory.stat": "anon 1\ninactive_file 1073741824\n",
		}, 4 << 30, 2 << 30},
		{"version 2, the parent is smaller", map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "0::/job/step\n",
			"sys/fs/cgroup/job/step/memory.max": "8589934592\n", "sys/fs/cgroup/job/memory.max": "4294967296\n",
			"sys/fs/cgroup/job/memory.current": "1073741824\n",
		}, 4 << 30, 3 << 30},
		{"version 1, the path is the machine's", map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "5:cpuset:/\n4:hugetlb,memory:/docker/abc\n0::/docker/abc\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "2147483648\n", "sys/fs/cgroup/memory/memory.usage_in_bytes": "1073741824\n",
			"sys/fs/cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 536870912\n",
		}, 2 << 30, 3 << 29},
		{"version 1, no limit", map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
		}, 24 << 30, 20 << 30},
		{"used up", map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1073741824\n", "sys/fs/cgroup/memory.current": "1073750000\n",
		}, 1 << 30, 1},
		{"a path out of the root, and lines of no sense", map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "0::/../../other\nx\n1:memory\n", "sys/fs/cgroup/memory.max": "-1\n",
		}, 24 << 30, 20 << 30},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := fstest.MapFS{}
			for name, text := range c.files {
				root[name] = &fstest.MapFile{Data: []byte(text)}
			}
			if got := totalOf(root); got != c.total {
				t.Errorf("total %d, want %d", got, c.total)
			}
			if got := availableOf(root); got != c.available {
				t.Errorf("available %d, want %d", got, c.available)
			}
		})
	}
}

// TestHere asks this machine, by the files that it has.
func TestHere(t *testing.T) {
	total, available := Total(), Available()
	t.Logf("%d MiB, %d available", total>>20, available>>20)
	if machine := field(os.DirFS("/"), "proc/meminfo", "MemTotal:") << 10; total <= 0 || total > machine {
		t.Errorf("total %d of %d", total, machine)
	}
	if available <= 0 || available > total {
		t.Errorf("available %d of %d", available, total)
	}
}
