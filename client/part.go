package client

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"golang.org/x/sys/unix"

	"ndferry/array"
	"ndferry/wire"
)

// A part is what a Get that broke off leaves beside its file: the file in the making, .NAME.part, and .NAME.part.state, which says of
// which array it is and which cells of it are on the disk. The state has the form of the records of spec/STORE.md §3: 16 bytes (magic,
// version, CRC32C of both), then records of 12 bytes (length, type, CRC32C of these 8 and the body) and a body:
//
//	1 ARRAY: JSON, first: a partArray
//	2 CELLS: device, inode, size, mtime and ctime of the file when they were durable (u64 each, times in ns), then of each cell its
//	  number u64, the CRC32C of its elements in the file u32, 4 zero bytes, and with sha256 its leaf
//
// A record is appended after the fdatasync of the cells that it names. A torn last record ends the state.
const (
	partMagic   = "NDFPART\n"
	partVersion = 1
	partHead    = 16
	recordHead  = 12

	recordArray = 1
	recordCells = 2

	partIdentity = 5 * 8
	maxPartBody  = 4 << 20
)

// A part is made durable at the first cell that completes partBytes since the last time, or that comes partTime after it.
const (
	partBytes = 64 << 20
	partTime  = 250 * time.Millisecond
)

// partSamples is how many cells of a file that nobody touched are read before it is gone on with.
const partSamples = 16

// partArray is which array a part is of.
type partArray struct {
	Name   string      `json:"name"`
	ID     wire.ID     `json:"id"` // of the commit: an array that was replaced has another
	DType  string      `json:"dtype"`
	Shape  array.Shape `json:"shape"`
	Order  array.Order `json:"order"`
	Cell   array.Shape `json:"cell"`
	Digest string      `json:"digest"`
	Root   string      `json:"root,omitzero"`
}

// partCell is what is known of a cell in the file.
type partCell struct {
	has  bool
	crc  uint32 // CRC32C of its elements as they lie in the file
	leaf [32]byte
}

// part is the state of an NPYSink that can go on later. Owned by the goroutine of the sink but for save, which runs beside it.
type part struct {
	state  *os.File // locked with flock(2)
	verify bool     // every cell is read, whatever the file looks like
	note   func(string)
	now    func() time.Time

	off    bool // nothing is kept of this array
	cells  []partCell
	leaves [][32]byte // of the download; nil without sha256
	end    int64      // of the state
	fresh  []int      // cells that came and that the state does not have
	bytes  int64      // of them
	at     time.Time  // of the last save
	had    bool       // there was a state when it was opened
	saving chan error // capacity 1; a save is under way when it is not nil
}

// openPart opens or makes the state of path and locks it. errPartBusy: another process has it.
func openPart(path string) (*part, error) {
	for {
		f, err := os.OpenFile(path+".state", os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o666)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil { // or a file system without locks
			return nil, errors.Join(errPartBusy, err, f.Close())
		}
		mine, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if named, err := os.Stat(path + ".state"); err == nil && os.SameFile(mine, named) {
			return &part{state: f, had: mine.Size() > 0, now: time.Now, note: func(string) {}}, nil
		}
		f.Close() // who had it has ended meanwhile
	}
}

var errPartBusy = errors.New("another process fetches to the same file")

// openPartFile opens the file in the making. One that has the name of a finished file too is left to it.
func openPartFile(path string) (*os.File, error) {
	if info, err := os.Lstat(path); err == nil {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil || st.Nlink > 1 || !info.Mode().IsRegular() {
			if err := os.Remove(path); err != nil {
				return nil, err
			}
		}
	}
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o666)
}

// begin takes up what the state has of the array, or begins a new state. It reports which cells are in the file.
func (p *part) begin(s *NPYSink, st *Stat) error {
	if err := p.wait(); err != nil {
		return err
	}
	p.off = st.Digest == "none" || s.grid.Len() < 2
	p.cells, p.fresh, p.bytes, p.at = make([]partCell, s.grid.Len()), nil, 0, p.now()
	head, err := json.Marshal(partArray{
		Name: st.Name, ID: st.ID, DType: st.DType.Name(), Shape: st.Shape, Order: st.Order, Cell: st.Chunks, Digest: st.Digest, Root: st.Root,
	}, json.Deterministic(true))
	if err != nil {
		return err
	}
	identity, why, err := p.read(head, st.Digest == SHA256)
	if err != nil {
		return err
	}
	if why == "" && !p.off {
		before := p.kept()
		kept, how := p.check(s, identity)
		if kept > 0 {
			p.note(fmt.Sprintf("going on with %d of %d chunks that came before (%s)", kept, len(p.cells), how))
			return nil
		}
		if before > 0 {
			p.note("what came before is not in the file any more: it comes anew")
		}
	} else if p.had && why != "" {
		p.note(why)
	}
	p.had = false
	return p.renew(s, head)
}

// renew makes file and state empty.
func (p *part) renew(s *NPYSink, head []byte) error {
	clear(p.cells)
	if err := errors.Join(s.file.Truncate(0), p.state.Truncate(0)); err != nil {
		return err
	}
	b := append([]byte(nil), partMagic...)
	b = binary.LittleEndian.AppendUint32(b, partVersion)
	b = binary.LittleEndian.AppendUint32(b, wire.Checksum(b))
	b = appendPartRecord(b, recordArray, head)
	_, err := p.state.WriteAt(b, 0)
	p.end = int64(len(b))
	return err
}

func appendPartRecord(b []byte, kind uint32, body []byte) []byte {
	at := len(b)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(body)))
	b = binary.LittleEndian.AppendUint32(b, kind)
	b = binary.LittleEndian.AppendUint32(b, wire.Update(wire.Checksum(b[at:]), body))
	return append(b, body...)
}

// read reads the state into cells. why says what makes it useless for the array of head, "" when nothing does.
func (p *part) read(head []byte, leaves bool) (identity [partIdentity]byte, why string, err error) {
	b, err := io.ReadAll(io.NewSectionReader(p.state, 0, 1<<40))
	if err != nil {
		return identity, "", err
	}
	const anew = ": it comes anew"
	switch {
	case len(b) < partHead || string(b[:8]) != partMagic || binary.LittleEndian.Uint32(b[12:]) != wire.Checksum(b[:12]):
		return identity, "what is remembered of an earlier attempt is damaged" + anew, nil
	case binary.LittleEndian.Uint32(b[8:]) != partVersion:
		return identity, fmt.Sprintf("an earlier attempt was remembered in version %d, and this program reads version %d%s", binary.LittleEndian.Uint32(b[8:]), partVersion, anew), nil
	}
	at, first := partHead, true
	for ; ; first = false {
		kind, body, ok := nextPartRecord(b[at:])
		switch {
		case first && (!ok || kind != recordArray):
			return identity, "what is remembered of an earlier attempt is damaged" + anew, nil
		case first && !bytes.Equal(body, head):
			return identity, "the array was replaced since the earlier attempt" + anew, nil
		case !first && (!ok || kind != recordCells || !p.take(body, leaves)):
			p.end = int64(at)
			return identity, "", nil
		case !first:
			copy(identity[:], body)
		}
		at += recordHead + len(body)
	}
}

func nextPartRecord(b []byte) (kind uint32, body []byte, ok bool) {
	if len(b) < recordHead {
		return 0, nil, false
	}
	n := int64(binary.LittleEndian.Uint32(b))
	if n > maxPartBody || n > int64(len(b)-recordHead) {
		return 0, nil, false
	}
	body = b[recordHead:][:n]
	return binary.LittleEndian.Uint32(b[4:]), body, wire.Update(wire.Checksum(b[:8]), body) == binary.LittleEndian.Uint32(b[8:])
}

// take notes the cells of a record; false when it is none of ours.
func (p *part) take(body []byte, leaves bool) bool {
	size := 16
	if leaves {
		size += 32
	}
	if len(body) < partIdentity || (len(body)-partIdentity)%size != 0 {
		return false
	}
	for e := body[partIdentity:]; len(e) > 0; e = e[size:] {
		i := binary.LittleEndian.Uint64(e)
		if i >= uint64(len(p.cells)) {
			return false
		}
		c := partCell{has: true, crc: binary.LittleEndian.Uint32(e[8:])}
		if leaves {
			copy(c.leaf[:], e[16:])
		}
		p.cells[i] = c
	}
	return true
}

// check reads cells of the file and forgets those that are not what they were: all of them, or when the file is the one that was
// saved, with its size and times, and nothing else was asked for, some at random places. It returns how many are left.
func (p *part) check(s *NPYSink, identity [partIdentity]byte) (kept int, how string) {
	var have []int
	for i, c := range p.cells {
		if c.has {
			have = append(have, i)
		}
	}
	now, err := fileIdentity(s.file)
	if err == nil && now == identity && !p.verify {
		some := slices.Clone(have)
		if len(have) > partSamples {
			some = make([]int, partSamples)
			for k := range some {
				some[k] = have[rand.IntN(len(have))]
			}
		}
		if p.forgetBad(s, some) == 0 {
			return len(have), fmt.Sprintf("the file is as it was left; %d of them were read", len(some))
		}
	}
	p.forgetBad(s, have)
	return p.kept(), "all of them were read"
}

// fileIdentity is device, inode, size, mtime and ctime of a file.
func fileIdentity(f *os.File) (id [partIdentity]byte, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return id, os.NewSyscallError("fstat", err)
	}
	for i, v := range []uint64{uint64(st.Dev), st.Ino, uint64(st.Size), uint64(st.Mtim.Nano()), uint64(st.Ctim.Nano())} {
		binary.LittleEndian.PutUint64(id[8*i:], v)
	}
	return id, nil
}

// came notes a cell that was written.
func (p *part) came(s *NPYSink, i int, crc uint32, n int) error {
	if p.off {
		return nil
	}
	p.cells[i] = partCell{has: true, crc: crc}
	if p.leaves != nil {
		p.cells[i].leaf = p.leaves[i]
	}
	p.fresh = append(p.fresh, i)
	p.bytes += int64(n)
	if p.bytes < partBytes && p.now().Sub(p.at) < partTime {
		return nil
	}
	if p.saving != nil {
		select {
		case err := <-p.saving:
			if p.saving = nil; err != nil {
				return err
			}
		default:
			return nil // with the next cell
		}
	}
	p.save(s)
	return nil
}

// save begins to make what came durable, and to say so in the state.
func (p *part) save(s *NPYSink) {
	entries := make([]byte, 0, len(p.fresh)*(16+32))
	for _, i := range p.fresh {
		entries = binary.LittleEndian.AppendUint64(entries, uint64(i))
		entries = binary.LittleEndian.AppendUint32(entries, p.cells[i].crc)
		entries = binary.LittleEndian.AppendUint32(entries, 0)
		if p.leaves != nil {
			entries = append(entries, p.cells[i].leaf[:]...)
		}
	}
	p.fresh, p.bytes, p.at = p.fresh[:0], 0, p.now()
	p.saving = make(chan error, 1)
	file, done := s.file, p.saving
	go func() { done <- p.append(file, entries) }()
}

// append writes records of entries of cells that are in the file, once they are durable. Alone with end and state.
func (p *part) append(file *os.File, entries []byte) error {
	if err := dataSync(file); err != nil {
		return os.NewSyscallError("fdatasync", err)
	}
	id, err := fileIdentity(file)
	if err != nil {
		return err
	}
	const most = (maxPartBody - partIdentity) / (16 * 48) * (16 * 48) // whole entries of both kinds
	var b []byte
	for len(entries) > 0 {
		n := min(len(entries), most)
		b = appendPartRecord(b, recordCells, append(id[:len(id):len(id)], entries[:n]...))
		entries = entries[n:]
	}
	if _, err := p.state.WriteAt(b, p.end); err != nil {
		return err
	}
	p.end += int64(len(b))
	return dataSync(p.state)
}

// wait waits for a save that is under way.
func (p *part) wait() error {
	if p.saving == nil {
		return nil
	}
	err := <-p.saving
	p.saving = nil
	return err
}

// settle saves everything that came and reports whether that is worth being kept.
func (p *part) settle(s *NPYSink) (keep bool, err error) {
	if err := p.wait(); err != nil {
		return false, err
	}
	if p.cells == nil {
		return p.had, nil
	}
	if len(p.fresh) > 0 {
		p.save(s)
		if err := p.wait(); err != nil {
			return false, err
		}
	}
	return p.kept() > 0, nil
}

// kept counts the cells of the file that a later attempt need not ask for.
func (p *part) kept() (n int) {
	for _, c := range p.cells {
		if c.has {
			n++
		}
	}
	return n
}

// forget makes the file and its state worthless.
func (p *part) forget() error {
	err := p.wait()
	p.cells, p.fresh, p.had, p.off = nil, nil, false, true
	return errors.Join(err, p.state.Truncate(0))
}

// remove ends the state.
func (p *part) remove() error {
	err := os.Remove(p.state.Name())
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, p.state.Close())
}
