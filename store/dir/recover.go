package dir

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"ndferry/store"
)

// recover decides what a crash left undecided: intents whose outcome is not logged, and uploads that are none. The lock on names must
// be held.
func (s *Store) recover() error {
	var err error
	if s.receipts, err = openReceipts(s); err != nil {
		return err
	}
	if err := s.names.repair(); err != nil {
		return err
	}
	return s.sweepUploads()
}

// settleIntents decides intents whose outcome is not logged. With the lock on names nobody is at the commit of one.
//
// An intent is done when its array is at its name, or when its upload is no longer a node of its id (renamed away, and
// replaced or deleted since). The rename may have been seen by us and not by the disk yet, since only the server and not the system
// may have crashed: everything that DONE claims is synced before it is logged.
func (s *Store) settleIntents() error {
	for _, r := range s.receipts.intents() {
		done, err := s.wasPublished(r)
		if err != nil {
			return err
		}
		if !done {
			if err := s.receipts.dropped(r.ID); err != nil {
				return err
			}
			continue
		}
		for _, p := range append(ancestors(r.Name), uploadsDir) {
			if err := s.fs.SyncDir(p); err != nil && !isMissing(err) {
				return err
			}
		}
		if err := s.receipts.done(r.ID, true); err != nil {
			return err
		}
	}
	return nil
}

func isMissing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

func (s *Store) wasPublished(r store.Receipt) (bool, error) {
	if id, err := s.idOf(nodePath(r.Name)); err != nil || id == r.ID {
		return err == nil, err
	}
	switch _, err := s.fs.Stat(uploadPath(r.ID)); {
	case errors.Is(err, fs.ErrNotExist):
		return true, nil
	case err != nil:
		return false, err
	}
	id, err := s.idOf(uploadPath(r.ID))
	if id == (store.ID{}) {
		return false, err // neither the upload nor what it replaced can be read: sweepUploads removes it
	}
	return id != r.ID, err
}

// idOf returns the id of the node at a path; the zero id when there is none or when its sidecar says none.
func (s *Store) idOf(p string) (store.ID, error) {
	file := p + "/" + sidecarName
	f, err := s.fs.OpenFile(file, false)
	if errors.Is(err, fs.ErrNotExist) {
		return store.ID{}, nil
	}
	if err != nil {
		return store.ID{}, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return store.ID{}, err
	}
	_, side, err := readHeader(f, file, size)
	if errors.Is(err, store.ErrIntegrity) {
		return store.ID{}, nil
	}
	if err != nil {
		return store.ID{}, err
	}
	return side.spec.ID, nil
}

// sweepUploads moves to the trash what is in state/uploads and no upload that can go on. What another process has it leaves alone.
func (s *Store) sweepUploads() error {
	entries, err := s.fs.ReadDir(uploadsDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := s.sweepUpload(e.Name); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) sweepUpload(name string) error {
	if err := s.claims.lock(); err != nil {
		return err
	}
	defer s.claims.unlock()
	p := uploadsDir + "/" + name
	u := &upload{s: s, path: p}
	_, err := u.lockJournal()
	if errors.Is(err, store.ErrBusy) {
		return nil
	}
	if err != nil {
		return err
	}
	defer u.closeFiles()
	var id store.ID
	if u.journal != nil {
		if id, err = s.idOf(p); err != nil {
			return err
		}
	}
	receipt, _, err := s.receipts.find(id)
	if err != nil {
		return err
	}
	if id != (store.ID{}) && name == hex.EncodeToString(id[:]) && receipt == nil {
		size, err := u.journal.Size()
		s.idleSince(id, size)
		return err
	}
	aside, err := s.trash.move(p)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove what is left of a transfer: %w", err)
	}
	s.trash.drop(aside)
	return nil
}
