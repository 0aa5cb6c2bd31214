package cli

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/big"
	"os"
	"path/filepath"
	"syscall"

	"github.com/go-json-experiment/json"

	"ndferry/client"
	"ndferry/wire"
)

// How put goes on with what was interrupted.
const (
	resumeAuto   = "auto"   // when the file is the one that was begun, as far as samples tell
	resumeVerify = "verify" // when every byte of it is what it was
	resumeOff    = "off"    // never, and nothing is remembered
)

// A put that was begun is remembered in a small file of $XDG_STATE_HOME/ndferry until it is done. It is taken up again when the
// file to put is the same one, device and inode, has the same size and time, and some of its bytes, at random places, are what they were.
type begunPut struct {
	Server  string   `json:"server"`
	Name    string   `json:"name"`
	Options string   `json:"options"` // a digest of what else describes the transfer
	Device  uint64   `json:"device"`
	Inode   uint64   `json:"inode"`
	Size    int64    `json:"size"`
	Time    int64    `json:"mtime_ns"`
	ID      wire.ID  `json:"id"`
	Samples []sample `json:"samples"`
	Whole   string   `json:"whole,omitzero"` // SHA-256 of the file, with resumeVerify

	path string
}

// sample is the digest of a piece of the file.
type sample struct {
	Offset int64  `json:"offset"`
	SHA256 string `json:"sha256"`
}

const (
	samples     = 16
	sampleBytes = 64 << 10
)

// beginTransfer returns what is remembered of the transfer, or remembers a new one. resumed tells which.
func (a *app) beginTransfer(server, name, file, how string, opts *client.PutOptions) (t *begunPut, resumed bool, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, false, err
	}
	now := begunPut{Server: server, Name: name, Size: info.Size(), Time: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		now.Device, now.Inode = uint64(st.Dev), uint64(st.Ino)
	}
	level := -1
	if opts.Level != nil {
		level = *opts.Level
	}
	described := sha256.Sum256(fmt.Appendf(nil, "%d %s %t %q %s %d %s", opts.ChunkBytes, opts.Digest, opts.Relaxed, opts.Attributes,
		opts.Codec, level, opts.Shuffle))
	now.Options = hex.EncodeToString(described[:8])
	dir, err := a.stateDir()
	if err != nil {
		return nil, false, err
	}
	if how == resumeVerify {
		if now.Whole, err = digestOf(f); err != nil {
			return nil, false, err
		}
	}
	key := sha256.Sum256(fmt.Appendf(nil, "%q %q %d %d", server, name, now.Device, now.Inode))
	now.path = filepath.Join(dir, hex.EncodeToString(key[:16])+".json")
	if old := readTransfer(now.path); old != nil && old.same(&now, f) {
		old.path = now.path
		return old, true, nil
	}
	rand.Read(now.ID[:])
	if err := now.take(f); err != nil {
		return nil, false, err
	}
	return &now, false, now.write(dir)
}

// stateDir is where transfers are remembered (XDG Base Directory Specification).
func (a *app) stateDir() (string, error) {
	if dir, _ := a.lookupEnv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "ndferry"), nil
	}
	home, _ := a.lookupEnv("HOME")
	if !filepath.IsAbs(home) {
		return "", errors.New("neither XDG_STATE_HOME nor HOME names a directory")
	}
	return filepath.Join(home, ".local", "state", "ndferry"), nil
}

// readTransfer returns what is remembered, nil when that is nothing of use.
func readTransfer(path string) *begunPut {
	text, err := os.ReadFile(path)
	var t begunPut
	if err != nil || json.Unmarshal(text, &t) != nil || len(t.Samples) == 0 && t.Size > 0 {
		return nil
	}
	return &t
}

// same tells that the transfer was of the file that f is now.
func (t *begunPut) same(now *begunPut, f *os.File) bool {
	if t.Server != now.Server || t.Name != now.Name || t.Options != now.Options ||
		t.Device != now.Device || t.Inode != now.Inode || t.Size != now.Size || t.Time != now.Time {
		return false
	}
	if now.Whole != "" {
		return t.Whole == now.Whole
	}
	for _, s := range t.Samples {
		if digest, err := digestAt(f, s.Offset); err != nil || digest != s.SHA256 {
			return false
		}
	}
	return true
}

// take notes samples of the file: its beginning, its end and random places.
func (t *begunPut) take(f *os.File) error {
	last := max(0, t.Size-sampleBytes)
	for i := range samples {
		off := last
		if i > 0 && last > 0 {
			n, err := rand.Int(rand.Reader, big.NewInt(last))
			if err != nil {
				return err
			}
			off = n.Int64()
		}
		digest, err := digestAt(f, off)
		if err != nil {
			return err
		}
		t.Samples = append(t.Samples, sample{Offset: off, SHA256: digest})
	}
	return nil
}

// digestOf is the SHA-256 of a whole file.
func digestOf(f *os.File) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, math.MaxInt64)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func digestAt(f *os.File, off int64) (string, error) {
	buf := make([]byte, sampleBytes)
	n, err := f.ReadAt(buf, off)
	if n == 0 && err != nil {
		return "", err
	}
	sum := sha256.Sum256(buf[:n])
	return hex.EncodeToString(sum[:]), nil
}

// write remembers the transfer, whole or not at all.
func (t *begunPut) write(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	text, err := json.Marshal(t)
	if err != nil {
		return err
	}
	temp := t.path + "." + t.ID.String()
	if err := os.WriteFile(temp, text, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, t.path)
}

// renew gives the transfer another id.
func (t *begunPut) renew() error {
	rand.Read(t.ID[:])
	return t.write(filepath.Dir(t.path))
}

// end forgets the transfer.
func (t *begunPut) end() error {
	if err := os.Remove(t.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// resumable tells that asking again goes on where the transfer broke off.
func resumable(err error) bool {
	switch ExitCode(err) {
	case ExitUsage, ExitNoArray, ExitConflict:
		return false
	}
	return true
}
