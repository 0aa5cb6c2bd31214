package client

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"ndferry/array"
	"ndferry/wire"
)

// NPYFile is a .npy file to put from. It reads one cell at a time with pread, so that memory stays bounded and a file that
// shrinks meanwhile is an error and no signal. Owned by one goroutine.
type NPYFile struct {
	file   *os.File
	header array.NPYHeader
	size   int64 // bytes of the elements
	window window
}

// OpenNPY opens a .npy file and compares its size with what its header says. The caller closes it. Errors wrap array.ErrNPY,
// array.ErrUnsupportedDType or array.ErrShape when the file is not one that can be put, and those of package fs.
func OpenNPY(path string) (*NPYFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	n, err := openNPY(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("client: %s: %w", path, err)
	}
	return n, nil
}

func openNPY(f *os.File) (*NPYFile, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, fmt.Errorf("%w: it is a directory", array.ErrNPY)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: it is no regular file; read a stream from standard input", array.ErrNPY)
	}
	h, err := array.ParseNPYHeader(f)
	if err != nil {
		return nil, err
	}
	n := &NPYFile{file: f, header: h, size: npyBytes(h)}
	if err := n.checkSize(info); err != nil {
		return nil, err
	}
	return n, nil
}

// npyBytes is the number of bytes of the elements; the header was checked when it was parsed.
func npyBytes(h array.NPYHeader) int64 {
	size, err := h.Shape.Bytes(h.DType.ItemSize())
	if err != nil {
		panic(err)
	}
	return int64(size)
}

// truncated is the error of a file or stream that ends after have bytes of elements.
func truncated(h array.NPYHeader, have int64) error {
	return fmt.Errorf("%w: truncated: %d bytes of elements, the header (%v of %v) says %d", array.ErrNPY, have, h.Shape, h.DType, npyBytes(h))
}

func (n *NPYFile) checkSize(info fs.FileInfo) error {
	body := info.Size() - n.header.DataOffset
	switch {
	case body < n.size:
		return truncated(n.header, body)
	case body > n.size:
		return fmt.Errorf("%w: %d bytes behind the last element; save each array to a file of its own", array.ErrNPY, body-n.size)
	}
	return nil
}

// Header is what the file says.
func (n *NPYFile) Header() array.NPYHeader { return n.header }

// Close closes the file.
func (n *NPYFile) Close() error { return n.file.Close() }

// Describe implements Source.
func (n *NPYFile) Describe() (array.DType, array.Shape, array.Order) {
	return n.header.DType, n.header.Shape, n.header.Order()
}

// Cell implements Source.
func (n *NPYFile) Cell(g array.Grid, i int, buf []byte) ([]byte, error) {
	item := n.header.DType.ItemSize()
	order := n.header.Order()
	runs := g.RunLen(i, order)
	if runs < g.CellElements() {
		clear(buf)
	}
	read := n.window.readAt
	if runs*item >= windowSize {
		read = readFullAt
	}
	var failed error
	g.Runs(i, order, func(r array.Run) bool {
		failed = read(n.file, buf[r.Cell*item:][:r.Len*item], n.header.DataOffset+int64(r.Array)*int64(item))
		return failed == nil
	})
	n.window.forget()
	if errors.Is(failed, io.EOF) || errors.Is(failed, io.ErrUnexpectedEOF) {
		failed = fmt.Errorf("%s shrank while it was read: %w", n.file.Name(), array.ErrNPY)
	}
	return buf, failed
}

// NPYStream is a .npy stream to put from, such as standard input. Cells must come in the order of the stream: those of the
// default grid do. Owned by one goroutine.
type NPYStream struct {
	r      io.Reader
	header array.NPYHeader
	size   int64 // bytes of the elements
	at     int64 // how many of them were read
}

// NewNPYStream reads the header. Errors are those of OpenNPY and of r, which stays the caller's.
func NewNPYStream(r io.Reader) (*NPYStream, error) {
	h, err := array.ParseNPYHeader(r)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	s := &NPYStream{r: r, header: h, size: npyBytes(h)}
	if s.size == 0 {
		err = s.end()
	}
	return s, err
}

// Header is what the stream says.
func (s *NPYStream) Header() array.NPYHeader { return s.header }

// Describe implements Source.
func (s *NPYStream) Describe() (array.DType, array.Shape, array.Order) {
	return s.header.DType, s.header.Shape, s.header.Order()
}

// Cell implements Source.
func (s *NPYStream) Cell(g array.Grid, i int, buf []byte) ([]byte, error) {
	off, n, err := inOrder(g, i, s.header.DType.ItemSize(), s.at)
	if err != nil {
		return nil, err
	}
	clear(buf[n:])
	got, err := io.ReadFull(s.r, buf[:n])
	s.at = off + int64(got)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, truncated(s.header, s.at)
	}
	if err == nil && s.at == s.size {
		err = s.end()
	}
	return buf, err
}

// end makes sure that nothing follows.
func (s *NPYStream) end() error {
	var one [1]byte
	switch n, err := io.ReadFull(s.r, one[:]); {
	case n > 0:
		return fmt.Errorf("%w: the stream goes on behind the last element; one array at a time", array.ErrNPY)
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}

// errStream is what a grid gets whose cells are not one after the other in memory.
var errStream = wire.Failf(wire.CodeInvalid, "chunks that are not one after the other cannot be streamed; use a file")

// inOrder returns where cell i lies in bytes, and how many it has without padding, when it begins at the byte at.
func inOrder(g array.Grid, i, item int, at int64) (off int64, n int, err error) {
	first, count, ok := g.Contiguous(i)
	off = int64(first) * int64(item)
	if !ok || off != at {
		return 0, 0, errStream
	}
	return off, count * item, nil
}

// windowSize is how much is read or written at once of runs that are shorter.
const windowSize = 16 << 10

// window is a piece of a file, for runs so short that a system call each would be slow. The zero value is ready.
type window struct {
	off   int64
	buf   []byte // what is known of the file from off on
	dirty bool
}

func (w *window) holds(off int64, n int) bool {
	return off >= w.off && off+int64(n) <= w.off+int64(len(w.buf))
}

// load makes the window hold n bytes at off. Less than n of them are an error.
func (w *window) load(f *os.File, off int64, n int) error {
	if w.holds(off, n) {
		return nil
	}
	if err := w.flush(f); err != nil {
		return err
	}
	if w.buf == nil {
		w.buf = make([]byte, 0, windowSize)
	}
	got, err := f.ReadAt(w.buf[:windowSize], off)
	w.off, w.buf = off, w.buf[:got]
	if got < n {
		return err
	}
	return nil
}

func (w *window) readAt(f *os.File, p []byte, off int64) error {
	err := w.load(f, off, len(p))
	if err == nil {
		copy(p, w.buf[off-w.off:])
	}
	return err
}

// writeAt changes the file when flush is called, or before. The file must be that long already.
func (w *window) writeAt(f *os.File, p []byte, off int64) error {
	err := w.load(f, off, len(p))
	if err == nil {
		copy(w.buf[off-w.off:], p)
		w.dirty = true
	}
	return err
}

func (w *window) flush(f *os.File) error {
	if !w.dirty {
		return nil
	}
	w.dirty = false
	_, err := f.WriteAt(w.buf, w.off)
	return err
}

// forget makes the next call read the file again.
func (w *window) forget() { w.buf, w.dirty = w.buf[:0], false }

func readFullAt(f *os.File, p []byte, off int64) error {
	n, err := f.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	return err
}
