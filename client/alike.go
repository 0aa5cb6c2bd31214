package client

import (
	"bytes"
	"encoding/hex"
	"time"

	"ndferry/array"
	"ndferry/wire"
)

// From one RECEIPT or META under a name to the next mostly the id and the time differ, and reading JSON takes as long as the rest of an
// exchange of some KiB. So what the last one meant is kept, and another that is the same but for these two is not parsed again.
const (
	maxAlike     = 256     // names of each kind that a client remembers
	maxAlikeText = 4 << 10 // bytes of a text that is remembered
)

// alike is a text that was read and what it meant. Immutable.
type alike[T any] struct {
	before, between, after []byte // of the id and the time
	value                  T
}

// newAlike returns nil when it is not clear where the id and the time are.
func newAlike[T any](text []byte, id wire.ID, value T) *alike[T] {
	text = bytes.Clone(text)
	before, rest, ok := cutOnce(text, `"id":"`, id.String())
	if !ok || len(text) > maxAlikeText {
		return nil
	}
	const key = `"created":"`
	between, rest, ok := cutOnce(rest, key, "")
	if !ok || bytes.Contains(before, []byte(key)) {
		return nil
	}
	end := bytes.IndexByte(rest, '"')
	if end < 0 {
		return nil
	}
	return &alike[T]{before, between, rest[end:], value}
}

// cutOnce cuts text behind key and around value, which follows it, if both are there once.
func cutOnce(text []byte, key, value string) (before, after []byte, ok bool) {
	all := []byte(key + value)
	at := bytes.Index(text, all)
	if at < 0 || bytes.Contains(text[at+1:], all) {
		return nil, nil, false
	}
	return text[:at+len(key)], text[at+len(all):], true
}

// match returns what another text says that differs.
func (a *alike[T]) match(text []byte) (id wire.ID, created time.Time, ok bool) {
	at := len(a.before) + 2*len(id)
	from, to := at+len(a.between), len(text)-len(a.after)
	if from >= to || !bytes.HasPrefix(text, a.before) || !bytes.HasPrefix(text[at:], a.between) || !bytes.HasSuffix(text, a.after) {
		return id, created, false
	}
	if _, err := hex.Decode(id[:], text[len(a.before):at]); err != nil {
		return id, created, false
	}
	return id, created, created.UnmarshalText(text[from:to]) == nil
}

// remember keeps a, which may be nil, as the last under its name.
func remember[T any](kept *map[string]*alike[T], name string, a *alike[T]) {
	if a == nil {
		return
	}
	if *kept == nil {
		*kept = map[string]*alike[T]{}
	}
	if len(*kept) >= maxAlike {
		for other := range *kept { // any
			delete(*kept, other)
			break
		}
	}
	(*kept)[name] = a
}

// receipt reads the RECEIPT of a Put.
func (c *Client) receipt(name string, b []byte) (*Receipt, error) {
	if a := c.receipts[name]; a != nil {
		if id, created, ok := a.match(b); ok {
			r := a.value
			r.ID, r.Created = id, created
			return &r, nil
		}
	}
	r, err := readReceipt(b)
	if err == nil {
		remember(&c.receipts, name, newAlike(b, r.ID, *r))
	}
	return r, err
}

// described is what a META says.
type described struct {
	stat Stat
	meta *array.Meta
}

// meta reads the META of a Get.
func (c *Client) meta(name string, b []byte) (*Stat, *array.Meta, error) {
	if a := c.metas[name]; a != nil {
		if id, created, ok := a.match(b); ok {
			st := a.value.stat.clone()
			st.ID, st.Created = id, created
			return st, a.value.meta, nil
		}
	}
	st, meta, err := readMeta(b)
	if err != nil {
		return nil, nil, err
	}
	remember(&c.metas, name, newAlike(b, st.ID, described{*st, meta}))
	return st.clone(), meta, nil // what the caller does to the lists is not seen by the next
}
