package cli

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"
)

// leaves remembers the SHA-256 of chunks beside a put that was begun, so that the next run does not hash them again. The file is 16 bytes of
// the transfer's id, then for each chunk its number u64, the leaf, and the CRC32C u32 of id, number and leaf: what is damaged or torn is not
// believed, and hashed. It implements client.Leaves.
type leaves struct {
	id [16]byte // immutable

	mu    sync.Mutex
	file  *os.File         // guarded by mu
	known map[int][32]byte // guarded by mu
	fresh []byte           // guarded by mu: entries that are not in the file
	at    time.Time        // guarded by mu: when they were written last
}

const (
	leafEntry = 8 + 32 + 4
	leafEvery = 250 * time.Millisecond
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// openLeaves opens what is remembered at path of the transfer id, or begins.
func openLeaves(path string, id [16]byte) (*leaves, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	l := &leaves{id: id, file: f, known: map[int][32]byte{}, at: time.Now()}
	content, err := io.ReadAll(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	rest, ours := bytes.CutPrefix(content, id[:])
	good := int64(len(id))
	for ; ours && len(rest) >= leafEntry && l.sum(rest) == binary.LittleEndian.Uint32(rest[40:]); rest = rest[leafEntry:] {
		l.known[int(binary.LittleEndian.Uint64(rest))] = [32]byte(rest[8:40])
		good += leafEntry
	}
	if !ours {
		if _, err := f.WriteAt(id[:], 0); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	if err := f.Truncate(good); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	_, err = f.Seek(good, io.SeekStart)
	return l, err
}

func (l *leaves) sum(entry []byte) uint32 {
	return crc32.Update(crc32.Checksum(l.id[:], castagnoli), castagnoli, entry[:40])
}

// Leaf implements client.Leaves.
func (l *leaves) Leaf(i int) ([32]byte, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	leaf, ok := l.known[i]
	return leaf, ok
}

// Keep implements client.Leaves. What cannot be written is hashed again another time.
func (l *leaves) Keep(i int, leaf [32]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	entry := binary.LittleEndian.AppendUint64(nil, uint64(i))
	entry = append(entry, leaf[:]...)
	l.fresh = binary.LittleEndian.AppendUint32(append(l.fresh, entry...), l.sum(entry))
	if now := time.Now(); now.Sub(l.at) >= leafEvery {
		l.at = now
		l.flush()
	}
}

func (l *leaves) flush() error { // l.mu is held
	_, err := l.file.Write(l.fresh)
	l.fresh = l.fresh[:0]
	return err
}

// Close writes what is not written.
func (l *leaves) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.flush(), l.file.Close())
}

// removeLeaves forgets what is remembered at path.
func removeLeaves(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
