package dir

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
)

// serverLock is state/lock: there is one server of a directory. Its processes share the store without it.
type serverLock struct{ f File }

// Lock makes this process the one server of the directory, which it makes when it is missing, without opening the store: processes of
// the server do that, with Config.Shared. ErrLocked when there is another one. The lock ends with Close or with the process.
func Lock(directory string) (io.Closer, error) {
	f, err := openDirectory(directory)
	if err != nil {
		return nil, fmt.Errorf("dir: lock %s: %w", directory, err)
	}
	s := &Store{fs: f}
	err = s.checkFormat()
	if err == nil {
		err = s.makeDir(stateDir)
	}
	if err == nil {
		s.server, err = s.takeLock()
	}
	if err != nil {
		return nil, fmt.Errorf("dir: lock %s: %w", directory, withClass(errors.Join(err, f.Close())))
	}
	return closers{s.server.f, f}, nil
}

// closers closes one after another.
type closers []io.Closer

func (c closers) Close() error {
	var errs []error
	for _, each := range c {
		errs = append(errs, each.Close())
	}
	return errors.Join(errs...)
}

// takeLock takes the lock and writes the pid into it, for the error that the next one meets.
func (s *Store) takeLock() (*serverLock, error) {
	f, err := s.openLockFile(lockFile)
	if err != nil {
		return nil, err
	}
	if err := f.Lock(LockTry); err != nil {
		var pid [20]byte
		n, _ := f.ReadAt(pid[:], 0)
		return nil, errors.Join(fmt.Errorf("%w (pid %q in %s)", err, pid[:n], lockFile), f.Close())
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt(strconv.AppendInt(nil, int64(os.Getpid()), 10), 0)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &serverLock{f}, nil
}
