package dir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/go-json-experiment/json"

	"ndferry/store"
)

// ownerBody is the JSON of an OWNER record: who took the upload. The last one of a journal counts.
type ownerBody struct {
	Epoch   uint64 `json:"epoch"`   // one more than that of the owner before
	Process uint64 `json:"process"` // words.opened of its store
	Owner   string `json:"owner"`   // Config.Owner
}

// A transfer belongs to the process that has the lock on its journal, uploads/<id>/.ndferry, and the last OWNER record says which
// that is. The lock ends with the process; the next owner has a higher epoch. Uploads are looked for, made, moved and taken
// under the lock on claims, so that who has got the lock on a journal at its place has it at its place.

// lookup returns the receipt of a commit that is done, or nil.
func (s *Store) lookup(id store.ID) (*store.Receipt, error) {
	for {
		receipt, settled, err := s.receipts.find(id)
		if settled || err != nil {
			return receipt, err
		}
		if err := s.settleLog(); err != nil {
			return nil, err
		}
	}
}

// settleLog waits for the lock on names, whose next holder closes what is open in the log.
func (s *Store) settleLog() error {
	err := s.names.lock()
	if err == nil {
		s.names.unlock()
	}
	return err
}

// take makes this process the owner of the transfer: of the upload that is there, or of a new one. It returns the receipt when the
// transfer was committed meanwhile. found tells that the upload was there.
func (u *upload) take() (receipt *store.Receipt, found bool, err error) {
	for {
		receipt, settled, found, err := u.tryTake()
		if settled || err != nil {
			return receipt, found, err
		}
		if err := u.s.settleLog(); err != nil {
			return nil, false, err
		}
	}
}

func (u *upload) tryTake() (receipt *store.Receipt, settled, found bool, err error) {
	if err := u.s.claims.lock(); err != nil {
		return nil, false, false, err
	}
	defer u.s.claims.unlock()
	receipt, settled, err = u.s.receipts.find(u.spec.ID)
	if err != nil || !settled || receipt != nil {
		return receipt, settled, false, err
	}
	found, err = u.lockJournal()
	if err == nil && !found {
		err = u.makeJournal(1)
	}
	return nil, true, found, err
}

// lockJournal opens the journal of the upload that is there, and takes its lock. The lock on claims must be held.
func (u *upload) lockJournal() (found bool, err error) {
	s := u.s
	s.mu.Lock()
	kept, spoiled := s.spoiled[u.spec.ID]
	s.mu.Unlock()
	if spoiled && kept != nil {
		u.journal = kept // with its lock
		return true, nil
	}
	switch _, err := s.fs.Stat(u.path); {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	}
	f, err := s.fs.OpenFile(u.path+"/"+sidecarName, true)
	if isMissing(err) {
		return true, nil // nobody is at it: it would have the lock on claims
	}
	if err != nil {
		return false, err
	}
	if err := f.Lock(LockTry); err != nil {
		if errors.Is(err, store.ErrLocked) {
			err = u.owned(f)
		}
		return false, errors.Join(err, f.Close())
	}
	u.journal = f
	return true, nil
}

// owned says to whom the upload of the journal belongs.
func (u *upload) owned(journal File) error {
	owner, err := lastOwner(journal, u.path+"/"+sidecarName)
	if err != nil && !errors.Is(err, store.ErrIntegrity) {
		u.s.log.Warn("store: cannot tell who owns a transfer", "id", u.spec.ID, "error", err)
	}
	return &store.OwnedError{ID: u.spec.ID, Owner: owner.Owner, Epoch: owner.Epoch}
}

// Owner returns who took the upload of a transfer last, nil when there is no upload or it cannot be told. It does not ask whether that process lives.
func (s *Store) Owner(id store.ID) *store.OwnedError {
	file := uploadPath(id) + "/" + sidecarName
	f, err := s.fs.OpenFile(file, false)
	if err != nil {
		return nil
	}
	defer f.Close()
	owner, err := lastOwner(f, file)
	if err != nil || owner.Owner == "" {
		return nil
	}
	return &store.OwnedError{ID: id, Owner: owner.Owner, Epoch: owner.Epoch}
}

// lastOwner returns the last OWNER record of a journal, which may be one that is being appended to; as far as it could be read.
func lastOwner(journal File, file string) (owner ownerBody, err error) {
	size, err := journal.Size()
	if err != nil {
		return owner, err
	}
	r, err := openRecords(journal, file, sidecarMagic, size)
	if err != nil {
		return owner, err
	}
	return owner, nextOwners(r, &owner)
}

// nextOwners reads the records that follow and leaves the last OWNER in owner.
func nextOwners(r *records, owner *ownerBody) error {
	for {
		if r.skipKind(recordCells) {
			continue
		}
		kind, body, _, err := r.next()
		if err != nil {
			if err == io.EOF || errors.Is(err, errTorn) {
				err = nil
			}
			return err
		}
		if kind == recordOwner {
			var b ownerBody
			if err := json.Unmarshal(body, &b); err != nil {
				return err
			}
			*owner = b
		}
	}
}

// appendOwner appends the OWNER record of this process and notes it.
func (u *upload) appendOwner(text []byte, epoch uint64) ([]byte, error) {
	u.owner = ownerBody{Epoch: epoch, Process: u.s.process, Owner: u.s.owner}
	body, err := json.Marshal(u.owner)
	if err != nil {
		return nil, err
	}
	u.ownerAt = int64(len(text))
	return appendRecord(text, recordOwner, body), nil
}

// makeJournal makes the upload's directory and its journal, with the lock, or nothing. The lock on claims must be held.
func (u *upload) makeJournal(epoch uint64) (err error) {
	u.created = u.s.now().UTC()
	header, err := encodeHeader(&u.spec, u.created)
	if err != nil {
		return fmt.Errorf("%w: %w", store.ErrInvalid, err)
	}
	if len(header) > maxRecord {
		return fmt.Errorf("%w: a description of %d bytes, the most is %d", store.ErrInvalid, len(header), maxRecord)
	}
	text, err := u.appendOwner(appendRecord(appendPreamble(nil, sidecarMagic), recordHeader, header), epoch)
	if err != nil {
		return err
	}
	if err := u.s.fs.Mkdir(u.path); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, u.dropHere())
			u.closeFiles()
		}
	}()
	if u.journal, err = u.s.fs.Create(u.path + "/" + sidecarName); err != nil {
		return err
	}
	if err := u.journal.Lock(LockTry); err != nil {
		return err
	}
	u.end, u.size = int64(len(text)), int64(len(text))
	_, err = u.journal.WriteAt(text, 0)
	return err
}

// remake throws the upload away, of which this process has the lock, and makes it anew.
func (u *upload) remake() error {
	epoch := uint64(1)
	if u.journal != nil {
		before, err := lastOwner(u.journal, u.path+"/"+sidecarName)
		if err != nil && !errors.Is(err, store.ErrIntegrity) {
			return err
		}
		epoch = before.Epoch + 1
	}
	if err := u.s.claims.lock(); err != nil {
		return err
	}
	defer u.s.claims.unlock()
	if err := u.dropHere(); err != nil {
		return err
	}
	u.closeFiles()
	return u.makeJournal(epoch)
}

// takeOver appends to the journal of a reopened upload who owns it now.
func (u *upload) takeOver(before ownerBody) error {
	text, err := u.appendOwner(nil, before.Epoch+1)
	if err != nil {
		return err
	}
	u.ownerAt += u.end
	if _, err := u.journal.WriteAt(text, u.end); err != nil {
		return err
	}
	u.end += int64(len(text))
	u.size = u.end
	return nil
}

// fenced returns an error when the upload is another process's. That cannot be while the lock on the journal holds; a file system that
// loses locks, as one on a network may, must not make two owners out of that.
func (u *upload) fenced() error {
	file := u.path + "/" + sidecarName
	f, err := u.s.fs.OpenFile(file, false)
	if errors.Is(err, fs.ErrNotExist) {
		return &store.OwnedError{ID: u.spec.ID}
	}
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return err
	}
	r := &records{src: f, file: file, size: size, off: u.ownerAt}
	var last ownerBody
	kind, body, _, err := r.next()
	if err == nil && kind == recordOwner {
		err = json.Unmarshal(body, &last)
	}
	if err == nil && size != u.size {
		err = nextOwners(r, &last)
	}
	switch {
	case err == nil && last == u.owner:
		return nil
	case err == nil, err == io.EOF, errors.Is(err, store.ErrIntegrity):
		return u.owned(f)
	}
	return err
}

// dropHere moves what lies at the upload's path to the trash. If that fails, the transfer can only begin again, and in this process
// alone: it keeps the lock on the journal. The lock on claims must be held.
func (u *upload) dropHere() error {
	s := u.s
	aside, err := s.trash.move(u.path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	} else if err == nil {
		s.trash.drop(aside)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.spoiled[u.spec.ID] = u.journal
	} else {
		delete(s.spoiled, u.spec.ID)
		delete(s.idle, u.spec.ID)
	}
	return err
}

// moveAside removes the upload, unless another process has it now.
func (u *upload) moveAside() error {
	if err := u.s.claims.lock(); err != nil {
		return err
	}
	defer u.s.claims.unlock()
	if _, lost := errors.AsType[*store.OwnedError](u.fenced()); lost {
		return nil
	}
	err := u.dropHere()
	if errors.Is(withClass(err), store.ErrNoSpace) && u.shard != nil && u.fenced() == nil {
		// Over a quota a rename takes space too. What is left without its cells cannot go on, and its id begins again.
		return errors.Join(err, u.s.fs.Remove(u.path+"/"+u.layout.key))
	}
	return err
}

// dropReplaced removes the array that was at the name before, and is at the upload's path since the exchange.
func (u *upload) dropReplaced() error {
	if err := u.s.claims.lock(); err != nil {
		return err
	}
	defer u.s.claims.unlock()
	return u.dropHere()
}

// move moves the upload to its name, or back, so that nobody takes it meanwhile.
func (u *upload) move(from, to string, mode RenameMode) error {
	if err := u.s.claims.lock(); err != nil {
		return err
	}
	defer u.s.claims.unlock()
	if from == u.path {
		if err := u.fenced(); err != nil {
			return err
		}
	}
	return u.s.fs.Rename(from, to, mode)
}
