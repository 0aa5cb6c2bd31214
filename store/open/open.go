// Package open picks a store by its URL. Only programs import it; everybody else gets a store.Store.
package open

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"ndferry/store"
	"ndferry/store/dir"
	"ndferry/store/mem"
)

// schemes is what Open knows.
const schemes = "a path, dir:PATH, file:///PATH or mem:"

// Open opens the store that the text names: a path, dir:PATH and file:///PATH a directory, mem: memory. Errors wrap
// store.ErrInvalid when the text names no store, and are those of the back end otherwise.
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
		if rest != "" && rest != "//" {
			return invalid("mem: takes nothing behind it")
		}
		return mem.New(mem.Config{}), nil
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
