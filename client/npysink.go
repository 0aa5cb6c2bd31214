package client

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"ndferry/array"
	"ndferry/wire"
)

// NPYSink writes what Get returns to a .npy file. Until Commit it is a file of another name in the same directory, with its
// space reserved. Memory stays bounded: a cell at a time. Owned by one goroutine.
type NPYSink struct {
	path    string // immutable after CreateNPY, as is replace
	replace bool
	file    *os.File // nil after Commit and Close

	grid   array.Grid
	order  array.Order // of the file; nil is C
	item   int
	offset int64 // of the first element
	window window
	part   *part // nil when nothing is kept after a failure
}

// ResumeOptions say how ResumeNPY begins. The zero value works.
type ResumeOptions struct {
	Replace bool              // as of CreateNPY
	Verify  bool              // read every cell that came before; default is 16 of them, when the file has the size and times that it was left with
	Note    func(text string) // is told in a sentence what becomes of an earlier attempt
}

// CreateNPY begins a .npy file at path. It fails with fs.ErrExist when something is there already, unless replace is set and
// it is a regular file. The caller calls Commit when all came, and Close in any case.
func CreateNPY(path string, replace bool) (*NPYSink, error) {
	path, err := targetNPY(path, replace)
	if err != nil {
		return nil, err
	}
	s := &NPYSink{path: path, replace: replace}
	var random [6]byte
	rand.Read(random[:])
	f, err := os.OpenFile(partPath(path)+"-"+hex.EncodeToString(random[:]), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, fmt.Errorf("client: create %s: %w", path, err)
	}
	s.file = f
	return s, nil
}

// ResumeNPY is CreateNPY of a file that goes on where an earlier attempt broke off: Close, without Commit, leaves what came beside it, and
// the next ResumeNPY of the same path takes it up when it is of the same commit of the same array. What is not in the file as it
// came is fetched again. While another process fetches to the path it is CreateNPY.
func ResumeNPY(path string, opts ResumeOptions) (*NPYSink, error) {
	target, err := targetNPY(path, opts.Replace)
	if err != nil {
		return nil, err
	}
	p, err := openPart(partPath(target))
	if errors.Is(err, errPartBusy) {
		return CreateNPY(path, opts.Replace)
	}
	if err != nil {
		return nil, fmt.Errorf("client: create %s: %w", target, err)
	}
	f, err := openPartFile(partPath(target))
	if err != nil {
		return nil, fmt.Errorf("client: create %s: %w", target, errors.Join(err, p.state.Close()))
	}
	if p.verify = opts.Verify; opts.Note != nil {
		p.note = opts.Note
	}
	return &NPYSink{path: target, replace: opts.Replace, file: f, part: p}, nil
}

// DiscardNPY removes what an earlier attempt of ResumeNPY has left beside path, unless a process is at work on it.
func DiscardNPY(path string) error {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if _, err := os.Stat(partPath(path) + ".state"); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	p, err := openPart(partPath(path))
	if errors.Is(err, errPartBusy) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("client: discard what is left of %s: %w", path, err)
	}
	err = os.Remove(partPath(path))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, p.remove())
}

// targetNPY is the path of the file that is made or replaced.
func targetNPY(path string, replace bool) (string, error) {
	switch info, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return path, nil
	case err != nil:
		return "", fmt.Errorf("client: %w", err)
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("client: %s: %w and is no regular file, which is never replaced", path, fs.ErrExist)
	case !replace:
		return "", fmt.Errorf("client: %s: %w", path, fs.ErrExist)
	}
	// The file that a symbolic link leads to is replaced, not the link.
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", fmt.Errorf("client: %w", err)
	}
	return path, nil
}

// partPath is the path of a file in the making.
func partPath(path string) string {
	dir, base := filepath.Split(path)
	return dir + "." + base[:min(len(base), 200)] + ".part"
}

// Path is where the file will be.
func (s *NPYSink) Path() string { return s.path }

// Begin implements Sink.
func (s *NPYSink) Begin(st *Stat, g array.Grid) error {
	header, order := npyHeader(st)
	size, err := st.Shape.Bytes(st.DType.ItemSize())
	if err != nil {
		return err
	}
	s.grid, s.order, s.item, s.offset = g, order, st.DType.ItemSize(), int64(len(header))
	if s.part != nil {
		if err := s.part.begin(s, st); err != nil {
			return fmt.Errorf("begin %s: %w", s.path, err)
		}
	}
	if err := reserve(s.file, s.offset+int64(size)); err != nil {
		return fmt.Errorf("reserve %d bytes for %s: %w", s.offset+int64(size), s.path, err)
	}
	_, err = s.file.WriteAt(header, 0)
	return err
}

// npyHeader returns the header of the array, and the memory order that it says. A .npy file is in C or Fortran order; any other
// is written in C order.
func npyHeader(st *Stat) ([]byte, array.Order) {
	var order array.Order
	fortran := st.Order.IsF() && !st.Order.IsC()
	if fortran {
		order = st.Order
	}
	return array.AppendNPYHeader(nil, st.DType, st.Shape, fortran), order
}

// Place implements Sink: cells come through memory of the client's.
func (s *NPYSink) Place(int) []byte { return nil }

// Cell implements Sink.
func (s *NPYSink) Cell(i int, data []byte) error {
	write := s.window.writeAt
	if s.grid.RunLen(i, s.order)*s.item >= windowSize {
		write = writeFullAt
	}
	var failed error
	crc, n := uint32(0), 0
	s.grid.Runs(i, s.order, func(r array.Run) bool {
		run := data[r.Cell*s.item:][:r.Len*s.item]
		if s.part != nil {
			crc = wire.Update(crc, run)
		}
		n += len(run)
		failed = write(s.file, run, s.offset+int64(r.Array)*int64(s.item))
		return failed == nil
	})
	if failed == nil {
		failed = s.window.flush(s.file)
	}
	s.window.forget()
	if failed == nil && s.part != nil {
		failed = s.part.came(s, i, crc, n)
	}
	if failed != nil {
		return fmt.Errorf("write %s: %w", s.path, s.fail(failed))
	}
	return nil
}

// fail makes the file worthless: after an error of the disk nobody knows what is in it.
func (s *NPYSink) fail(err error) error {
	if s.part == nil {
		return err
	}
	return errors.Join(err, s.part.forget())
}

// Kept is how many cells are in the file that a later attempt need not ask for.
func (s *NPYSink) Kept() int {
	if s.part == nil {
		return 0
	}
	return s.part.kept()
}

func writeFullAt(f *os.File, p []byte, off int64) error {
	_, err := f.WriteAt(p, off)
	return err
}

// Commit syncs the file and gives it its name. It fails with fs.ErrExist when something has taken the name meanwhile.
func (s *NPYSink) Commit() error {
	var saved error
	if s.part != nil {
		saved = s.part.wait()
	}
	if err := errors.Join(saved, s.file.Sync()); err != nil {
		return fmt.Errorf("client: sync %s: %w", s.path, s.fail(err))
	}
	if err := s.publish(); err != nil {
		return fmt.Errorf("client: publish %s: %w", s.path, err)
	}
	err := s.file.Close()
	s.file = nil
	if s.part != nil {
		err = errors.Join(err, s.part.remove())
	}
	dir, openErr := os.Open(filepath.Dir(s.path))
	if openErr == nil {
		openErr = errors.Join(dir.Sync(), dir.Close())
	}
	if err := errors.Join(err, openErr); err != nil {
		return fmt.Errorf("client: sync %s: %w", s.path, err)
	}
	return nil
}

func (s *NPYSink) publish() error {
	if s.replace {
		return os.Rename(s.file.Name(), s.path)
	}
	// A link, unlike a rename, never replaces.
	err := os.Link(s.file.Name(), s.path)
	if err == nil {
		return os.Remove(s.file.Name())
	}
	if errors.Is(err, fs.ErrExist) {
		return fs.ErrExist
	}
	if _, statErr := os.Lstat(s.path); !errors.Is(statErr, fs.ErrNotExist) {
		return fs.ErrExist
	}
	return os.Rename(s.file.Name(), s.path) // the file system has no links
}

// Close gives the file up unless Commit has succeeded. What came stays beside it when it was made by ResumeNPY.
func (s *NPYSink) Close() error {
	if s.file == nil {
		return nil
	}
	keep, err := false, error(nil)
	if s.part != nil {
		keep, err = s.part.settle(s)
	}
	if !keep {
		err = errors.Join(err, os.Remove(s.file.Name()))
	}
	err = errors.Join(err, s.file.Close())
	switch {
	case s.part != nil && keep:
		err = errors.Join(err, s.part.state.Close())
	case s.part != nil:
		err = errors.Join(err, s.part.remove())
	}
	s.file = nil
	return err
}

// NPYWriter is a Sink that writes a .npy stream, such as to standard output. Cells must come in the order of memory; those of
// other grids, and orders that are neither C nor Fortran, are refused with advice. Owned by one goroutine.
type NPYWriter struct {
	W io.Writer

	grid array.Grid
	item int
	at   int64 // bytes of elements written
}

// Begin implements Sink.
func (w *NPYWriter) Begin(st *Stat, g array.Grid) error {
	header, order := npyHeader(st)
	if !g.Slabs() || order == nil && !st.Order.IsC() {
		return errStream
	}
	w.grid, w.item, w.at = g, st.DType.ItemSize(), 0
	_, err := w.W.Write(header)
	return err
}

// Place implements Sink.
func (w *NPYWriter) Place(int) []byte { return nil }

func (w *NPYWriter) inOrder() {}

// Cell implements Sink.
func (w *NPYWriter) Cell(i int, data []byte) error {
	_, n, err := inOrder(w.grid, i, w.item, w.at)
	if err != nil {
		return err
	}
	w.at += int64(n)
	_, err = w.W.Write(data[:n])
	return err
}
