//go:build unix && !linux

package dir

import "golang.org/x/sys/unix"

// rename2 stands in for renameat2: one server owns the directory and holds its lock on names meanwhile, so nobody
// comes between the check and the rename. The exchange is three renames, so a crash in the middle of a replacement may leave
// the name empty; Linux has no such moment.
func rename2(fromDir int, from string, toDir int, to string, mode RenameMode) error {
	var there unix.Stat_t
	err := unix.Fstatat(toDir, to, &there, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case mode == RenameNoReplace && err == nil:
		return unix.EEXIST
	case mode == RenameNoReplace && err == unix.ENOENT:
		return unix.Renameat(fromDir, from, toDir, to)
	case err != nil:
		return err
	}
	aside := from + ".old"
	if err := unix.Renameat(toDir, to, fromDir, aside); err != nil {
		return err
	}
	if err := unix.Renameat(fromDir, from, toDir, to); err != nil {
		_ = unix.Renameat(fromDir, aside, toDir, to)
		return err
	}
	return unix.Renameat(fromDir, aside, fromDir, from)
}

func dataSync(fd int) error { return unix.Fsync(fd) }

func allocate(fd int, size int64) error { return unix.Ftruncate(fd, size) }

func writeBack(int, int64, int64) error { return nil }
