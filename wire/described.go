package wire

import (
	"bytes"
	"slices"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"ndferry/array"
)

// Description is what the members array and numpy of a PUT or META say.
type Description struct {
	Array array.ZarrArray
	DType array.DType // of numpy; that of Array when it is not there
}

// Describe reads the members array and numpy strictly, see [array.ParseZarrArray] and [array.ParseNumPy], and refuses two that do
// not belong together. The caller owns the lists in the result. Errors wrap those of package array. Any goroutine may call it.
func Describe(text, numpy jsontext.Value) (Description, error) {
	if d, ok := lately.find(text, numpy); ok {
		return d, nil
	}
	z, err := array.ParseZarrArray(text)
	if err != nil {
		return Description{}, err
	}
	d := Description{Array: *z}
	if d.DType, err = array.Exact(numpy, z.DType); err != nil {
		return Description{}, errorf("5.9", 0, CodeProtocol, "%w", err)
	}
	lately.add(text, numpy, d)
	return d, nil
}

// lately are descriptions that were read. Who puts small arrays puts many of one kind, and reading a description takes longer
// than everything else that a PUT of 4 KiB does.
var lately descriptions

type descriptions struct {
	mu   sync.Mutex
	kept []keptDescription // guarded by mu
	next int               // guarded by mu; the one that is replaced next
}

type keptDescription struct {
	text, numpy []byte
	is          Description
}

// maxKept descriptions of at most maxKeptText bytes are kept.
const (
	maxKept     = 16
	maxKeptText = 2 << 10
)

func (k *descriptions) find(text, numpy []byte) (Description, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range k.kept {
		if e := &k.kept[i]; bytes.Equal(e.text, text) && bytes.Equal(e.numpy, numpy) && (e.numpy == nil) == (numpy == nil) {
			return e.is.own(), true
		}
	}
	return Description{}, false
}

func (k *descriptions) add(text, numpy []byte, d Description) {
	if len(text)+len(numpy) > maxKeptText {
		return
	}
	e := keptDescription{text: bytes.Clone(text), numpy: bytes.Clone(numpy), is: d.own()}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.kept) < maxKept {
		k.kept = append(k.kept, e)
		return
	}
	k.kept[k.next] = e
	k.next = (k.next + 1) % maxKept
}

// own returns d with lists of its own.
func (d Description) own() Description {
	d.Array.Meta = d.Array.Meta.Clone()
	d.Array.ShardShape = slices.Clone(d.Array.ShardShape)
	return d
}
