package dir

import "golang.org/x/sys/unix"

func rename2(fromDir int, from string, toDir int, to string, mode RenameMode) error {
	flags := uint(unix.RENAME_NOREPLACE)
	if mode == RenameExchange {
		flags = unix.RENAME_EXCHANGE
	}
	return unix.Renameat2(fromDir, from, toDir, to, flags)
}

func dataSync(fd int) error { return unix.Fdatasync(fd) }

func allocate(fd int, size int64) error {
	err := unix.Fallocate(fd, 0, 0, size)
	if err == unix.EOPNOTSUPP {
		return unix.Ftruncate(fd, size)
	}
	return err
}

func writeBack(fd int, off, length int64) error {
	return unix.SyncFileRange(fd, off, length, unix.SYNC_FILE_RANGE_WRITE)
}
