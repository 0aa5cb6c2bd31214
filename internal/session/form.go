package session

import (
	"bytes"
	"encoding/hex"
	"slices"
	"sync"

	"ndferry/store"
	"ndferry/wire"
)

// putForm is a PUT that was read: of the next one like it only the id and the bytes of the array differ, and reading takes longer than
// storing 4 KiB. Immutable.
type putForm struct {
	before, after []byte // of the id, in the message
	is            announced
}

// What is kept: maxForms forms of messages of at most maxFormText bytes.
const (
	maxForms    = 16
	maxFormText = 2 << 10
)

// putForms are the forms of the last PUTs, of all connections. Any goroutine may call its methods.
type putForms struct {
	mu   sync.Mutex
	kept []*putForm // guarded by mu
	next int        // guarded by mu; the one that is replaced next
}

var formsOfPuts putForms

// read is readPut, which it asks when no form fits.
func (k *putForms) read(b []byte) (announced, error) {
	if a, ok := k.find(b); ok {
		return a, nil
	}
	a, err := readPut(b)
	if err == nil {
		k.keep(newPutForm(b, &a))
	}
	return a, err
}

func (k *putForms) find(b []byte) (announced, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, f := range k.kept {
		if id, ok := f.fits(b); ok {
			return f.is.as(id), true
		}
	}
	return announced{}, false
}

func (k *putForms) keep(f *putForm) {
	if f == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.kept) < maxForms {
		k.kept = append(k.kept, f)
		return
	}
	k.kept[k.next] = f
	k.next = (k.next + 1) % maxForms
}

// newPutForm returns nil when the message is long, or when it is not clear that its id is where it is found: as the member of the message
// itself, before any other object, and written as we write it.
func newPutForm(b []byte, a *announced) *putForm {
	const key = `,"id":"`
	id := key + wire.ID(a.spec.ID).String() + `"`
	at := bytes.Index(b, []byte(id))
	if len(b) > maxFormText || at < 0 || bytes.Count(b[:at], []byte("{")) != 1 {
		return nil
	}
	b = bytes.Clone(b)
	return &putForm{before: b[:at+len(key)], after: b[at+len(id)-1:], is: a.as(store.ID{})}
}

// fits returns the id of another message of this form.
func (f *putForm) fits(b []byte) (id store.ID, ok bool) {
	at := len(f.before)
	end := at + 2*len(id)
	if len(b) != end+len(f.after) || !bytes.Equal(b[:at], f.before) || !bytes.Equal(b[end:], f.after) {
		return id, false
	}
	_, err := hex.Decode(id[:], b[at:end])
	return id, err == nil && id != store.ID{}
}

// as is the same with another id, and lists of its own.
func (a *announced) as(id store.ID) announced {
	b := *a
	b.spec.ID = id
	b.spec.Meta = a.spec.Meta.Clone()
	b.spec.Attributes = slices.Clone(a.spec.Attributes)
	return b
}
