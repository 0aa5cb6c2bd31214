// Package open picks a store by its URL. Only programs import it; everybody else gets a store.Store.
package open

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"

	"ndferry/store"
	"ndferry/store/dir"
	"ndferry/store/mem"
)

// schemes is what Open knows.
const schemes = "a path, dir:PATH, file:///PATH, mem: or mem:?limit=BYTES"

// An Option changes how a store is opened.
type Option func(*config)

type config struct {
	shared bool
	owner  string
}

// Shared opens a store that other processes of the same server have open, too. The server holds its Lock, or held it when it
// died and its processes finish what they do. owner names this process to the others (store.OwnedError).
func Shared(owner string) Option {
	return func(c *config) { c.shared, c.owner = true, owner }
}

// Open opens the store that the text names: a path, dir:PATH and file:///PATH a directory, mem: memory, mem:?limit=BYTES so much
// of it. Errors wrap store.ErrInvalid when the text names no store, and are those of the back end otherwise; ErrLocked when another
// server has it open.
func Open(ctx context.Context, text string, options ...Option) (store.Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var c config
	for _, o := range options {
		o(&c)
	}
	place, err := parse(text)
	switch {
	case err != nil:
		return nil, err
	case !place.memory:
		return dir.Open(place.path, dir.Config{Shared: c.shared, Owner: c.owner})
	case c.shared:
		return nil, notShared(text)
	}
	return mem.New(mem.Config{Limit: place.limit}), nil
}

// Lock makes the caller the one server of a store without opening it: its processes open it as Shared. ErrLocked when there is
// another one. The lock ends with Close, or with this process.
func Lock(ctx context.Context, text string) (io.Closer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	place, err := parse(text)
	switch {
	case err != nil:
		return nil, err
	case place.memory:
		return nil, notShared(text)
	}
	return dir.Lock(place.path)
}

// InMemory tells whether the text names memory, which lives in one process.
func InMemory(text string) bool {
	place, err := parse(text)
	return err == nil && place.memory
}

func notShared(text string) error {
	return fmt.Errorf("open: store %q: %w: memory lives in one process; several need a directory", text, store.ErrInvalid)
}

// place is what a text names.
type place struct {
	path   string // of a directory
	memory bool
	limit  int64 // of memory; 0: none
}

func parse(text string) (place, error) {
	invalid := func(why string) (place, error) {
		return place{}, fmt.Errorf("open: store %q: %w: %s; a store is %s", text, store.ErrInvalid, why, schemes)
	}
	scheme, rest, ok := cutScheme(text)
	switch {
	case text == "":
		return invalid("it is empty")
	case !ok:
		return place{path: text}, nil
	}
	switch scheme {
	case "mem":
		rest, text, limited := strings.Cut(strings.TrimPrefix(rest, "//"), "?limit=")
		limit, err := int64(0), error(nil)
		if limited {
			limit, err = strconv.ParseInt(text, 10, 64)
		}
		if rest != "" || err != nil || limited && limit < 1 {
			return invalid("memory is mem: or mem:?limit=BYTES")
		}
		return place{memory: true, limit: limit}, nil
	case "dir":
		if rest == "" {
			return invalid("the path is missing")
		}
		return place{path: rest}, nil
	case "file":
		u, err := url.Parse(text)
		if err != nil || u.Host != "" && u.Host != "localhost" || !strings.HasPrefix(u.Path, "/") || u.RawQuery != "" || u.Fragment != "" {
			return invalid("a file URL is file:///absolute/path")
		}
		return place{path: u.Path}, nil
	}
	return invalid(fmt.Sprintf("the scheme %q is not known", scheme))
}

// cutScheme splits "scheme:rest" when the text begins with a scheme (RFC 3986 §3.1). A path with a colon behind a slash has none.
func cutScheme(text string) (scheme, rest string, ok bool) {
	scheme, rest, ok = strings.Cut(text, ":")
	if !ok || scheme == "" || strings.Trim(strings.ToLower(scheme), "abcdefghijklmnopqrstuvwxyz0123456789+-.") != "" || strings.Contains(".+-0123456789", scheme[:1]) {
		return "", "", false
	}
	return strings.ToLower(scheme), rest, true
}
