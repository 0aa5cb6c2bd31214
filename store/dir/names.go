package dir

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"syscall"

	"ndferry/array"
	"ndferry/store"
)

// nodeKind is what lies at a path of the hierarchy.
type nodeKind int

const (
	nothing nodeKind = iota
	ourArray
	group
	foreign // an array that we did not write, or no Zarr node at all
)

// look tells what lies at a path.
func (s *Store) look(p string) (nodeKind, error) {
	stat, err := s.fs.Stat(p)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
		return nothing, nil
	case err != nil:
		return 0, err
	case !stat.Dir:
		return foreign, nil
	}
	if _, err := s.fs.Stat(p + "/" + sidecarName); err == nil {
		return ourArray, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	text, err := s.readFile(p+"/"+zarrJSON, maxZarrJSON)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return foreign, nil
		}
		return 0, err
	}
	if kind, err := array.ZarrNodeType(text); err == nil && kind == "group" {
		return group, nil
	}
	return foreign, nil
}

// checkPlace reports whether an array may be put at name, and whether it replaces something there. It returns the ancestors
// that are missing, outermost first. Errors wrap ErrConflict when the names forbid it.
func (s *Store) checkPlace(name string, ifAbsent bool) (replace bool, missing []string, err error) {
	for i, c := range name {
		if c != '/' {
			continue
		}
		parent := name[:i]
		kind, err := s.look(nodePath(parent))
		switch {
		case err != nil:
			return false, nil, err
		case kind == nothing:
			missing = append(missing, parent)
		case kind == ourArray:
			return false, nil, conflict("%q is an array, and an array has no children", parent)
		case kind == foreign:
			return false, nil, conflict("%q is not a Zarr group", parent)
		}
	}
	kind, err := s.look(nodePath(name))
	switch {
	case err != nil:
		return false, nil, err
	case kind == nothing:
		return false, missing, nil
	case kind == ourArray && ifAbsent:
		return false, nil, conflict("the name is taken")
	case kind == ourArray:
		return true, nil, nil
	case kind == foreign:
		return false, nil, conflict("something that ndferry did not write has the name; move it away")
	}
	empty, err := s.emptyGroup(nodePath(name), "")
	if err == nil && !empty {
		err = conflict("the name is that of a group with members")
	}
	return true, nil, err
}

// peekPlace is checkPlace before there is work to lose: its answer holds for the moment, and publish asks again.
func (s *Store) peekPlace(name string, ifAbsent bool) error {
	// A name in the middle of a change looks like nothing that we wrote.
	if err := s.visible.rlock(); err != nil {
		return err
	}
	defer s.visible.runlock()
	_, _, err := s.checkPlace(name, ifAbsent)
	return err
}

func conflict(format string, args ...any) error {
	return fmt.Errorf("%w: %s", store.ErrConflict, fmt.Sprintf(format, args...))
}

// emptyGroup reports whether a group has no member but the one named.
func (s *Store) emptyGroup(p, but string) (bool, error) {
	entries, err := s.fs.ReadDir(p)
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if e.Name != zarrJSON && e.Name != but {
			return false, nil
		}
	}
	return true, nil
}

// topOfRemoval returns the outermost group below the root that would be left without members when p is removed, or p.
func (s *Store) topOfRemoval(p string) (string, error) {
	for path.Dir(p) != zarrDir {
		empty, err := s.emptyGroup(path.Dir(p), path.Base(p))
		if err != nil {
			return "", err
		}
		if !empty {
			break
		}
		p = path.Dir(p)
	}
	return p, nil
}

// mustBeOurs reports, with ErrNotFound, why there is no array of ours at name.
func (s *Store) mustBeOurs(name string) error {
	kind, err := s.look(nodePath(name))
	if err != nil {
		return err
	}
	switch kind {
	case nothing:
		return store.ErrNotFound
	case group:
		return fmt.Errorf("%w: it is a group; name one of its arrays", store.ErrNotFound)
	case foreign:
		return fmt.Errorf("%w: what lies there was not written by ndferry; open it with a Zarr library", store.ErrNotFound)
	}
	return nil
}

// makeGroup makes one group below a parent that exists. The parent is still to be synced.
func (s *Store) makeGroup(name string) error {
	temp := s.trash.next()
	defer s.trash.release(temp)
	if err := s.fs.Mkdir(temp); err != nil {
		return err
	}
	if err := s.writeFile(temp+"/"+zarrJSON, array.AppendGroup(nil), true); err != nil {
		return err
	}
	if err := s.fs.SyncDir(temp); err != nil {
		return err
	}
	return s.fs.Rename(temp, nodePath(name), RenameNoReplace)
}

// dropEmptyGroups undoes makeGroup for the groups, outermost first, that a failed commit made.
func (s *Store) dropEmptyGroups(made []string) {
	if len(made) == 0 {
		return
	}
	if err := s.names.forgetSettled(); err != nil {
		s.log.Error("store: the groups of a failed commit stay", "group", made[0], "error", err)
		return
	}
	aside, err := s.trash.move(nodePath(made[0]))
	if err != nil {
		s.log.Error("store: cannot remove the groups of a failed commit", "group", made[0], "error", err)
		return
	}
	s.trash.drop(aside)
}

// ancestors returns the directories that hold the name, innermost first, up to the root of the hierarchy.
func ancestors(name string) []string {
	var dirs []string
	for p := path.Dir(nodePath(name)); strings.HasPrefix(p, zarrDir); p = path.Dir(p) {
		dirs = append(dirs, p)
	}
	return dirs
}
