package dir

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"ndferry/store"
)

// List walks the hierarchy in byte order of the names; see store.Store. An array whose sidecar is damaged is logged and left
// out: Open says what is wrong with it.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) ([]store.Info, bool, error) {
	w := &walk{s: s, ctx: ctx, prefix: prefix, after: after, limit: limit}
	if limit < 1 {
		return nil, false, opError("list", prefix, store.ErrInvalid)
	}
	if err := w.group("", 0); err != nil {
		return nil, false, opError("list", prefix, err)
	}
	return w.found, w.more, nil
}

type walk struct {
	s             *Store
	ctx           context.Context
	prefix, after string
	limit         int
	found         []store.Info
	more          bool
}

// group walks the members of a group; its name ends with "/", and is empty for the root.
func (w *walk) group(name string, depth int) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	entries, err := w.s.fs.ReadDir(strings.TrimSuffix(nodePath(name), "/"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	// The names below a group begin with its name and "/": that decides its place among its siblings.
	type member struct {
		key  string
		kind nodeKind
	}
	var members []member
	for _, e := range entries {
		full := name + e.Name
		if !e.Dir || checkName(full) != nil || !w.mayHold(full) {
			continue
		}
		kind, err := w.s.look(nodePath(full))
		if err != nil {
			return err
		}
		switch {
		case (kind == ourArray || kind == foreign && w.s.isArray(full)) && strings.HasPrefix(full, w.prefix) && full > w.after:
			members = append(members, member{full, kind})
		case kind == group && depth < walkDepth:
			members = append(members, member{full + "/", kind})
		}
	}
	slices.SortFunc(members, func(a, b member) int { return cmp.Compare(a.key, b.key) })
	for _, m := range members {
		if w.more {
			break
		}
		if m.kind == foreign {
			w.foreign(m.key)
			continue
		}
		if m.kind == group {
			err = w.group(m.key, depth+1)
		} else {
			err = w.array(m.key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// mayHold reports whether the node at full can be, or can hold, an array that is asked for.
func (w *walk) mayHold(full string) bool {
	below := full + "/"
	wanted := strings.HasPrefix(full, w.prefix) || strings.HasPrefix(w.prefix, below)
	// The largest name below a group begins with below.
	behind := full > w.after || below > w.after || strings.HasPrefix(w.after, below)
	return wanted && behind
}

// foreign adds an array that another program wrote, if it can be served.
func (w *walk) foreign(name string) {
	if len(w.found) == w.limit {
		w.more = true
		return
	}
	a, err := w.s.openForeign(name)
	if err != nil {
		w.s.log.Warn("store: an array of another program is left out of a list", "array", name, "error", err)
		return
	}
	w.found = append(w.found, a.info)
}

func (w *walk) array(name string) error {
	if len(w.found) == w.limit {
		w.more = true
		return nil
	}
	if err := w.s.visible.rlock(); err != nil {
		return err
	}
	side, err := w.s.readSidecar(nodePath(name), readInfo)
	w.s.visible.runlock()
	switch {
	case errors.Is(err, store.ErrIntegrity) || errors.Is(err, store.ErrInvalid):
		w.s.log.Error("store: an array is left out of a list", "array", name, "error", err)
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		w.found = append(w.found, side.info())
	}
	return nil
}
