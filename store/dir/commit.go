package dir

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path"

	"github.com/go-json-experiment/json"

	"ndferry/store"
)

// Commit publishes the array in the order of STORE.md §1. See store.Upload.
func (u *upload) Commit(ctx context.Context, root [32]byte) (store.Receipt, error) {
	receipt, err := u.commit(ctx, root)
	switch {
	case err == nil:
		u.over()
		u.closeFiles()
		u.s.mu.Lock()
		delete(u.s.idle, u.spec.ID)
		u.s.mu.Unlock()
		u.s.unclaim(u)
	case errors.Is(err, store.ErrConflict):
	default:
		if e := u.abandon(); e != nil {
			u.s.log.Error("store: a failed transfer cannot be moved away", "array", u.spec.Name, "error", e)
		}
	}
	return receipt, opError("commit", u.spec.Name, err)
}

func (u *upload) commit(ctx context.Context, root [32]byte) (store.Receipt, error) {
	if err := u.failed(); err != nil {
		return store.Receipt{}, err
	}
	if err := ctx.Err(); err != nil {
		return store.Receipt{}, err
	}
	if u.table.have != u.table.n {
		return store.Receipt{}, fmt.Errorf("%w: %d of %d cells were written", store.ErrInvalid, u.table.have, u.table.n)
	}
	if err := u.s.peekPlace(u.spec.Name, u.spec.IfAbsent); err != nil {
		return store.Receipt{}, err // early, before the disk has work with it
	}
	receipt := u.receipt(root)
	if err := u.finish(receipt); err != nil {
		return store.Receipt{}, err
	}
	return receipt, u.publish(receipt)
}

func (u *upload) receipt(root [32]byte) store.Receipt {
	cells, bytes, _ := store.Sizes(&u.spec.Meta)
	r := store.Receipt{
		ID: u.spec.ID, Name: u.spec.Name, Bytes: bytes, StoredBytes: u.table.stored(), Cells: cells,
		Codec: store.CodecName(&u.spec.Meta), CodecWhy: u.spec.CodecWhy, Validated: u.spec.Validated, Digest: u.spec.Digest, Durability: store.Durable, Created: u.s.now().UTC().Round(0),
	}
	if u.spec.Relaxed {
		r.Durability = store.Relaxed
	}
	if r.Digest == store.DigestSHA256 {
		r.Root = root
	}
	return r
}

// finish makes the upload a whole, durable node: steps 1 to 3.
func (u *upload) finish(receipt store.Receipt) error {
	if err := u.fenced(); err != nil { // before anything is written over what another owner wrote
		return err
	}
	c := commitBody{Receipt: encodeReceipt(receipt)}
	if u.shard != nil {
		var err error
		if c.ShardSize, c.IndexCRC, err = u.writeIndex(); err != nil {
			return err
		}
		if err := u.cutShard(c.ShardSize); err != nil {
			return err
		}
		if err := u.settleFile(u.shard); err != nil {
			return err
		}
	}
	if u.tried {
		if err := u.undoFinish(); err != nil {
			return err
		}
	}
	u.tried = true
	meta := u.spec.Meta
	meta.Attributes = u.spec.Attributes
	text, err := meta.AppendStored(nil)
	if err != nil {
		return err
	}
	c.ZarrSize, c.ZarrCRC = int64(len(text)), crc32.Checksum(text, castagnoli)
	if err := u.appendCommit(c); err != nil {
		return err
	}
	if err := u.s.writeFile(u.path+"/"+zarrJSON, text, !u.spec.Relaxed); err != nil || u.spec.Relaxed {
		return err
	}
	return u.s.fs.SyncDir(u.path)
}

// cutShard takes away what lies behind the index: cells of before a crash, that came again and are shorter now.
func (u *upload) cutShard(size int64) error {
	if have, err := u.shard.Size(); err != nil || have <= size {
		return err
	}
	return u.shard.Truncate(size)
}

// settleFile makes a file durable, unless the PUT asked not to wait for that.
func (u *upload) settleFile(f File) error {
	if u.spec.Relaxed {
		return nil
	}
	return f.Sync()
}

// undoFinish removes what an earlier commit, which met a conflict or a crash, has left.
func (u *upload) undoFinish() error {
	if err := u.journal.Truncate(u.end); err != nil {
		return err
	}
	u.size = u.end
	if err := u.s.fs.Remove(u.path + "/" + zarrJSON); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// appendCommit appends the last cells and COMMIT to the journal, which is then a sidecar.
func (u *upload) appendCommit(c commitBody) error {
	if err := u.appendCells(); err != nil {
		return err
	}
	u.mu.Lock()
	u.table.settle()
	u.mu.Unlock()
	body, err := json.Marshal(c)
	if err != nil {
		return err
	}
	record := appendRecord(nil, recordCommit, body)
	if _, err := u.journal.WriteAt(record, u.end); err != nil {
		return err
	}
	u.size = u.end + int64(len(record))
	return u.settleFile(u.journal)
}

// writeIndex writes the shard's index behind the cells. It returns the shard's size and the CRC that ends the index.
func (u *upload) writeIndex() (size int64, crc uint32, err error) {
	size = u.tail
	if u.layout.fixed > 0 {
		size = int64(u.layout.grid.Len()) * int64(u.layout.fixed)
	}
	crc, err = u.layout.eachIndexBlock(u.table.span, func(block []byte) error {
		_, err := u.shard.WriteAt(block, size)
		size += int64(len(block))
		return err
	})
	return size, crc, err
}

// publish puts the finished node at its name: steps 4 to 8.
func (u *upload) publish(receipt store.Receipt) error {
	s := u.s
	if err := s.names.lock(); err != nil {
		return err
	}
	defer s.names.unlock()
	replace, missing, err := s.checkPlace(u.spec.Name, u.spec.IfAbsent)
	if err != nil {
		return err
	}
	if err := s.receipts.intent(receipt, !u.spec.Relaxed); err != nil {
		if e := s.receipts.restore(); e != nil {
			u.stay(e)
		}
		return err
	}
	if err := u.rename(replace, missing); err != nil {
		if e := s.receipts.dropped(receipt.ID); e != nil {
			u.stay(e)
		}
		return err
	}
	if err := s.receipts.done(receipt.ID, false); err != nil {
		s.log.Warn("store: a commit is not logged yet; the next start will", "array", u.spec.Name, "error", err)
	}
	return nil
}

// stay leaves the upload where it is, because an intent of it may be in the log: one whose upload is gone counts as done.
func (u *upload) stay(err error) {
	u.s.log.Error("store: a failed commit cannot be logged", "array", u.spec.Name, "error", err)
	u.leave()
}

// rename makes the missing groups, renames the upload to its name and makes that durable: steps 5 to 7. After an error everything is as it
// was before.
func (u *upload) rename(replace bool, missing []string) (err error) {
	s, to := u.s, nodePath(u.spec.Name)
	if err := s.visible.lock(path.Dir(to)); err != nil {
		return err
	}
	defer s.visible.unlock()
	made := 0
	defer func() {
		if err != nil {
			s.dropEmptyGroups(missing[:made])
		}
	}()
	for _, g := range missing {
		if err := s.makeGroup(g); err != nil {
			return err
		}
		made++
	}
	mode := RenameNoReplace
	if replace {
		mode = RenameExchange
	}
	if err := u.move(u.path, to, mode); err != nil {
		return err
	}
	if u.spec.Relaxed {
		err = nil
	} else {
		err = s.settle(path.Dir(to))
	}
	if err != nil {
		if e := u.move(to, u.path, mode); e != nil {
			s.log.Error("store: cannot undo a failed commit; the array is whole and stays visible", "array", u.spec.Name, "error", e)
			made = 0
		}
		return err
	}
	if replace {
		if err := u.dropReplaced(); err != nil {
			s.log.Warn("store: a replaced array cannot be removed before the next start", "array", u.spec.Name, "error", err)
		}
	}
	return nil
}

// settle makes the entries of a group durable, and those of its ancestors that lead to it: a server that was killed may have left
// groups that only memory has. What it has settled once it does not sync again.
func (s *Store) settle(group string) error {
	if err := s.fs.SyncDir(group); err != nil {
		return err
	}
	var chain []string
	for p := group; p != zarrDir && !s.settled[p]; p = path.Dir(p) {
		if err := s.fs.SyncDir(path.Dir(p)); err != nil {
			return err
		}
		chain = append(chain, p)
	}
	for _, p := range chain {
		s.settled[p] = true
	}
	return nil
}
