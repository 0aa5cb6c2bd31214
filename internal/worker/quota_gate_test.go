//go:build gate && linux

package worker

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ndferry/client"
	"ndferry/wire"
)

// TestFaultQuota sets a quota on a real file system, btrfs, which holds root to it too: what is over it is refused with the right code, at the
// header where the size is known, what fits is stored, and the same server serves on when the quota is lifted. It asks for mkfs.btrfs and btrfs
// (Debian: btrfs-progs), which the gate does not: make faults-quota.
func TestFaultQuota(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			tmp := t.TempDir()
			d := &smallDisk{t: t, mount: filepath.Join(tmp, "mnt")}
			image := filepath.Join(tmp, "image")
			f, err := os.Create(image)
			if err == nil {
				err = errors.Join(f.Truncate(512<<20), f.Close(), os.Mkdir(d.mount, 0o777))
			}
			if err != nil {
				t.Fatal(err)
			}
			d.command("mkfs.btrfs", "-q", image)
			d.command("mount", "-o", "loop", image, d.mount)
			t.Cleanup(func() { d.command("umount", filepath.Join(tmp, "mnt")) })
			d.command("btrfs", "quota", "enable", d.mount)
			d.mount = filepath.Join(d.mount, "sub")
			d.command("btrfs", "subvolume", "create", d.mount)
			d.start(t, driver)
			d.overQuota()
		})
	}
	if !t.Failed() {
		t.Logf("quota: tried=4 reached=4 injected=4 failed=0 seed=0")
	}
}

func (d *smallDisk) overQuota() {
	if err := d.put("a", 1<<20, client.PutOptions{}); err != nil {
		d.t.Fatal(err)
	}
	d.command("btrfs", "qgroup", "limit", "6M", d.mount)
	refused := func(what string, err error) {
		d.t.Helper()
		d.wantRefused(what, err, wire.CodeNoSpace)
		if err != nil && !strings.Contains(err.Error(), "quota") {
			d.t.Errorf("%s: the cause is not named: %v", what, err)
		}
	}
	refused("put", d.put("c", 16<<20, client.PutOptions{}))
	opts := client.PutOptions{Codec: "lz4", Resume: true, ID: wire.ID{9}}
	refused("put on the way", d.put("d", 16<<20, opts))
	d.mustHold("a", 1<<20)
	// What was thrown away counts until btrfs has committed its removal.
	err := d.put("small", 1000, client.PutOptions{})
	for deadline := time.Now().Add(patience); err != nil && time.Now().Before(deadline); err = d.put("small", 1000, client.PutOptions{}) {
		d.command("btrfs", "filesystem", "sync", d.mount)
	}
	if err != nil {
		out, _ := exec.Command("sh", "-c", "find "+d.mount+" -ls; btrfs qgroup show -r "+d.mount).CombinedOutput()
		d.t.Errorf("what fits: %v\n%s", err, out)
	}
	d.command("btrfs", "qgroup", "limit", "none", d.mount)
	if err := d.put("c", 16<<20, client.PutOptions{}); err != nil {
		d.t.Errorf("without the quota: %v", err)
	}
	if err := d.put("d", 16<<20, opts); err != nil {
		d.t.Errorf("without the quota, on the way: %v", err)
	}
	d.mustHold("c", 16<<20)
	d.mustHold("d", 16<<20)
	d.mustHold("small", 1000)
}
