package dir

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"

	"ndferry/store"
)

// recover decides what a crash left undecided: intents whose outcome is not logged, and uploads that are none.
//
// An intent is done when its array is at its name, or when its upload is no longer a node of its id (renamed away, and
// replaced or deleted since). The rename may have been seen by us and not by the disk yet, since only the server and not the system
// may have crashed: everything that DONE claims is synced before it is logged.
func (s *Store) recover() error {
	var err error
	if s.receipts, err = openReceipts(s); err != nil {
		return err
	}
	s.names.Lock()
	defer s.names.Unlock()
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
			if err := s.fs.SyncDir(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		if err := s.receipts.done(r.ID, true); err != nil {
			return err
		}
	}
	return s.sweepUploads()
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

// sweepUploads moves to the trash what is in state/uploads and no upload that can go on.
func (s *Store) sweepUploads() error {
	entries, err := s.fs.ReadDir(uploadsDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		p := uploadsDir + "/" + e.Name
		id, err := s.idOf(p)
		if err != nil {
			return err
		}
		_, committed := s.receipts.get(id)
		if id != (store.ID{}) && e.Name == hex.EncodeToString(id[:]) && !committed {
			s.idleSince(id)
			continue
		}
		aside, err := s.trash.move(p)
		if err != nil {
			return fmt.Errorf("remove what is left of a transfer: %w", err)
		}
		s.trash.drop(aside)
	}
	return nil
}
