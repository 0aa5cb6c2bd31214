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
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"golang.org/x/sys/unix"

	"ndferry/client"
	"ndferry/wire"
)

// How put and get go on with what was interrupted.
const (
	resumeAuto   = "auto"   // when the file is the one that was begun, as far as samples tell
	resumeVerify = "verify" // when every byte of it is what it was
	resumeOff    = "off"    // never, and nothing is remembered
)

// begunPut is a put that was begun. It is remembered in a small file of $XDG_STATE_HOME/ndferry until it is done, and taken up again when
// the file to put is the same one, device and inode, has the same size and times, and random chunks of it are what they were.
type begunPut struct {
	Server  string   `json:"server"`
	Name    string   `json:"name"`
	Options string   `json:"options"` // a digest of what else describes the transfer
	Device  uint64   `json:"device"`
	Inode   uint64   `json:"inode"`
	Size    int64    `json:"size"`
	Time    int64    `json:"mtime_ns"`
	Change  int64    `json:"ctime_ns"`
	ID      wire.ID  `json:"id"`
	Samples []sample `json:"samples"`
	Whole   string   `json:"whole,omitzero"` // SHA-256 of the file, with resumeVerify

	path     string
	file     string
	chunk    int
	recalled bool       // from an earlier run
	sampled  chan error // of remember; nil when the transfer was remembered before
	checked  chan error // of compare, when it was
	verdict  error      // of compare, once confirm has been called
	asked    bool       // confirm has been called
}

// errChanged is what confirm returns when samples of the file are not what they were.
var errChanged = errors.New("the file is not the one that was begun")

// recallTransfer returns what is remembered of the transfer, or a new one, which is remembered from begin on; recalled tells which.
func (a *app) recallTransfer(server, name, file string, flags putFlags, opts *client.PutOptions) (*begunPut, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	now := begunPut{
		Server: server, Name: name, Device: uint64(st.Dev), Inode: st.Ino, Size: st.Size, Time: st.Mtim.Nano(), Change: st.Ctim.Nano(),
		file: file, chunk: min(opts.ChunkBytes, sampleChunk),
	}
	level := -1
	if opts.Level != nil {
		level = *opts.Level
	}
	described := sha256.Sum256(fmt.Appendf(nil, "%d %s %t %q %s %d %s %q %t %q", opts.ChunkBytes, opts.Digest, opts.Relaxed, opts.Attributes,
		opts.Codec, level, opts.Shuffle, opts.Dims, opts.IfAbsent, flags.dtype))
	now.Options = hex.EncodeToString(described[:8])
	dir, err := a.stateDir()
	if err != nil {
		return nil, err
	}
	if flags.resume == resumeVerify {
		if now.Whole, err = digestOf(f); err != nil {
			return nil, err
		}
	}
	key := sha256.Sum256(fmt.Appendf(nil, "%q %q %d %d", server, name, now.Device, now.Inode))
	now.path = filepath.Join(dir, hex.EncodeToString(key[:16])+".json")
	if old := readTransfer(now.path); old != nil && old.same(&now) {
		old.path, old.file, old.chunk, old.recalled = now.path, now.file, now.chunk, true
		if now.Whole == "" {
			old.checked = make(chan error, 1)
			go func() { old.checked <- old.compare() }() // while we connect and what is missing is on its way: confirm waits for it
		}
		return old, nil
	}
	rand.Read(now.ID[:])
	return &now, nil
}

// begin has a new transfer remembered, while the first chunks are on their way.
func (t *begunPut) begin() error {
	dir := filepath.Dir(t.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	t.sampled = make(chan error, 1)
	go func() { t.sampled <- t.remember(dir) }()
	return nil
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

// same tells that the transfer was of the file that is there now, as far as the system says.
func (t *begunPut) same(now *begunPut) bool {
	if t.Server != now.Server || t.Name != now.Name || t.Options != now.Options ||
		t.Device != now.Device || t.Inode != now.Inode || t.Size != now.Size || t.Time != now.Time || t.Change != now.Change {
		return false
	}
	return now.Whole == "" || t.Whole == now.Whole
}

// compare makes the leaves of the samples again.
func (t *begunPut) compare() error {
	chunks := make([]int, len(t.Samples))
	for i, s := range t.Samples {
		chunks[i] = s.Chunk
	}
	found, err := leavesOf(t.file, t.chunk, chunks)
	if err == nil && !slices.Equal(found, t.Samples) {
		err = errChanged
	}
	return err
}

// confirm tells that a transfer that was taken up is of the file as it was. It implements client.PutOptions.Confirm.
func (t *begunPut) confirm() error {
	if !t.asked && t.checked != nil {
		t.verdict = <-t.checked
	}
	t.asked = true
	return t.verdict
}

// remember takes samples of the file and writes down what is begun.
func (t *begunPut) remember(dir string) (err error) {
	if t.Samples, err = leavesOf(t.file, t.chunk, nil); err != nil {
		return err
	}
	return t.write(dir)
}

// settled waits until the transfer is remembered, or cannot be.
func (t *begunPut) settled() error {
	if t.sampled == nil {
		return nil
	}
	err := <-t.sampled
	t.sampled = nil
	return err
}

// digestOf is the SHA-256 of a whole file.
func digestOf(f *os.File) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, math.MaxInt64)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// write remembers the transfer, whole or not at all.
func (t *begunPut) write(dir string) error {
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

// renew gives the transfer another id, and takes other samples.
func (t *begunPut) renew() error {
	if err := t.settled(); err != nil {
		return err
	}
	rand.Read(t.ID[:])
	return t.remember(filepath.Dir(t.path))
}

// leaves is the file of what is known of chunks. With resumeVerify the file was read as a whole, and is as it was.
func (t *begunPut) leaves() string { return strings.TrimSuffix(t.path, ".json") + ".leaves" }

// end forgets the transfer.
func (t *begunPut) end() error {
	if err := removeLeaves(t.leaves()); err != nil {
		return err
	}
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
