// Package open picks a store by its URL. Only programs import it; everybody else gets a store.Store.
package open

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"ndferry/store"
	"ndferry/store/dir"
	"ndferry/store/mem"
)

// schemes is what Open knows.
const schemes = "a path, dir:PATH, file:///PATH, mem: or mem:?limit=BYTES"

// Open opens the store that the text names: a path, dir:PATH and file:///PATH a directory, mem: memory, mem:?limit=BYTES so much
// of it. Errors wrap store.ErrInvalid when the text names no store, and are those of the back end otherwise.
func Open(ctx context.Context, text string) (store.Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	invalid := func(why string) (store.Store, error) {
		return nil, fmt.Errorf("open: store %q: %w: %s; a store is %s", text, store.ErrInvalid, why, schemes)
	}
	scheme, rest, ok := cutScheme(text)
	switch {
	case text == "":
		return invalid("it is empty")
	case !ok:
		return dir.Open(text, dir.Config{})
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
		return mem.New(mem.Config{Limit: limit}), nil
	case "dir":
		if rest == "" {
			return invalid("the path is missing")
		}
		return dir.Open(rest, dir.Config{})
	case "file":
		u, err := url.Parse(text)
		if err != nil || u.Host != "" && u.Host != "localhost" || !strings.HasPrefix(u.Path, "/") || u.RawQuery != "" || u.Fragment != "" {
			return invalid("a file URL is file:///absolute/path")
		}
		return dir.Open(u.Path, dir.Config{})
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
