package dir

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"ndferry/array"
	"ndferry/store"
)

// headerBody is the JSON of a HEADER record: the PUT of spec/WIRE.md §5.1.
type headerBody struct {
	ID         string         `json:"id"`
	Name       string         `json:"name"`
	Array      jsontext.Value `json:"array"`
	NumPy      jsontext.Value `json:"numpy,omitzero"`
	Attributes string         `json:"attributes"`
	Sparse     bool           `json:"sparse,omitzero"`
	Digest     string         `json:"digest"`
	CodecWhy   string         `json:"codec_why,omitempty"`
	Validated  string         `json:"validated,omitempty"`
	Created    time.Time      `json:"created"`
}

// commitBody is the JSON of a COMMIT record.
type commitBody struct {
	Receipt   receiptBody `json:"receipt"`
	ZarrCRC   uint32      `json:"zarr_crc32c"`
	ZarrSize  int64       `json:"zarr_size"`
	ShardSize int64       `json:"shard_size"`
	IndexCRC  uint32      `json:"index_crc32c"`
}

// receiptBody is the JSON of a receipt (spec/WIRE.md §5.1).
type receiptBody struct {
	Name        string     `json:"name"`
	ID          string     `json:"id"`
	Bytes       int64      `json:"nbytes"`
	StoredBytes int64      `json:"stored_bytes"`
	Cells       int        `json:"cells"`
	Codec       string     `json:"codec"`
	CodecWhy    string     `json:"codec_why,omitempty"`
	Validated   string     `json:"validated,omitempty"`
	Digest      digestBody `json:"digest"`
	Durability  string     `json:"durability"`
	Created     time.Time  `json:"created"`
}

type digestBody struct {
	Kind string `json:"kind"`
	Root string `json:"root,omitempty"`
}

func encodeReceipt(r store.Receipt) receiptBody {
	b := receiptBody{
		Name: r.Name, ID: hex.EncodeToString(r.ID[:]), Bytes: r.Bytes, StoredBytes: r.StoredBytes, Cells: r.Cells,
		Codec: r.Codec, CodecWhy: r.CodecWhy, Validated: r.Validated, Digest: digestBody{Kind: string(r.Digest)}, Durability: r.Durability, Created: r.Created,
	}
	if r.Digest == store.DigestSHA256 {
		b.Digest.Root = hex.EncodeToString(r.Root[:])
	}
	return b
}

func (b *receiptBody) decode() (store.Receipt, error) {
	r := store.Receipt{
		Name: b.Name, Bytes: b.Bytes, StoredBytes: b.StoredBytes, Cells: b.Cells,
		Codec: b.Codec, CodecWhy: b.CodecWhy, Validated: b.Validated, Digest: store.DigestKind(b.Digest.Kind), Durability: b.Durability, Created: b.Created.UTC(),
	}
	var err error
	if r.ID, err = parseID(b.ID); err != nil {
		return r, err
	}
	if err := array.CheckName(b.Name); err != nil {
		return r, err
	}
	switch r.Digest {
	case store.DigestCRC32C:
	case store.DigestSHA256:
		if n, err := hex.Decode(r.Root[:], []byte(b.Digest.Root)[:min(len(b.Digest.Root), 64)]); err != nil || n != 32 || len(b.Digest.Root) != 64 {
			return r, errors.New("the root is not 64 hex digits")
		}
	default:
		return r, fmt.Errorf("unknown digest %q", b.Digest.Kind)
	}
	return r, nil
}

func parseID(text string) (id store.ID, err error) {
	if len(text) != 2*len(id) {
		return id, errors.New("the id is not 32 hex digits")
	}
	_, err = hex.Decode(id[:], []byte(text))
	if err == nil && hex.EncodeToString(id[:]) != text {
		err = errors.New("the id is not in lower case")
	}
	return id, err
}

// encodeHeader returns the body of the HEADER of an upload.
func encodeHeader(spec *store.Spec, created time.Time) ([]byte, error) {
	wire, err := spec.Meta.AppendWire(nil)
	if err != nil {
		return nil, err
	}
	return json.Marshal(headerBody{
		ID: hex.EncodeToString(spec.ID[:]), Name: spec.Name, Array: wire, NumPy: numpyOf(spec),
		Attributes: string(spec.Attributes), Sparse: spec.Sparse, Digest: string(spec.Digest),
		CodecWhy: spec.CodecWhy, Validated: spec.Validated, Created: created,
	})
}

// numpyOf is the member numpy, nil when there is none.
func numpyOf(spec *store.Spec) jsontext.Value {
	if spec.NumPy == "" {
		return nil
	}
	return jsontext.Value(spec.NumPy)
}

func decodeHeader(body []byte) (spec store.Spec, created time.Time, err error) {
	var h headerBody
	if err := json.Unmarshal(body, &h); err != nil {
		return spec, created, err
	}
	if spec.ID, err = parseID(h.ID); err != nil {
		return spec, created, err
	}
	z, err := array.ParseZarrArray(h.Array)
	if err != nil {
		return spec, created, err
	}
	if z.ShardShape != nil {
		return spec, created, errors.New("the array is not in wire form")
	}
	spec.Name, spec.Meta, spec.NumPy = h.Name, z.Meta, string(h.NumPy)
	spec.Sparse = h.Sparse
	spec.Attributes, spec.Digest = []byte(h.Attributes), store.DigestKind(h.Digest)
	spec.CodecWhy, spec.Validated = h.CodecWhy, h.Validated
	return spec, h.Created.UTC(), store.CheckSpec(&spec)
}

// A layout is what follows from a spec: the grid, the sizes and the place of the cells.
type layout struct {
	grid     array.Grid
	plain    bool   // codec none
	cellSize int    // raw bytes of a cell
	stored   int    // most bytes that a cell is stored in
	fixed    int    // cellSize when every cell is stored as it is, at cell × cellSize; else 0
	key      string // file name of the shard; "" when the array has no cells
}

func newLayout(spec *store.Spec) (layout, error) {
	m := &spec.Meta
	grid, err := m.Grid()
	if err != nil {
		return layout{}, err
	}
	size, err := m.CellBytes()
	if err != nil {
		return layout{}, err
	}
	l := layout{grid: grid, cellSize: size, plain: len(m.Codecs) == 0, stored: store.MaxStored(m, size)}
	if len(m.Codecs) == 0 && !spec.Sparse {
		l.fixed = size
	}
	if grid.Len() > 0 {
		l.key = array.ShardKey(len(m.Shape))
	}
	return l, nil
}

func (l layout) newTable(digest store.DigestKind) *table {
	return newTable(l.grid.Len(), l.fixed, digest == store.DigestSHA256)
}

// A sidecar is what a .ndferry says.
type sidecar struct {
	spec      store.Spec
	created   time.Time
	layout    layout
	table     *table
	owner     ownerBody   // the last one
	commit    *commitBody // nil: not committed
	receipt   store.Receipt
	end       int64 // of the last whole record that is not COMMIT
	commitCut bool  // a COMMIT or a torn record lies behind end
}

// readCommitted reads the sidecar of a published node. Every damage is an error that names file and offset.
func readCommitted(src io.ReaderAt, file string, size int64) (*sidecar, error) {
	r, s, err := readHeader(src, file, size)
	if err != nil {
		return nil, err
	}
	for {
		kind, body, at, err := r.next()
		switch {
		case err == io.EOF:
			return nil, r.damaged(at, "no COMMIT record")
		case err != nil:
			return nil, err
		}
		if err := s.apply(r, kind, body, at); err != nil {
			return nil, err
		}
		if s.commit != nil {
			break
		}
	}
	if r.off != r.size {
		return nil, r.damaged(r.off, "bytes behind the COMMIT record")
	}
	if s.table.have != s.table.n {
		return nil, r.damaged(s.end, fmt.Sprintf("%d of %d cells are recorded", s.table.have, s.table.n))
	}
	return s, nil
}

// readInfo reads only HEADER and COMMIT.
func readInfo(src io.ReaderAt, file string, size int64) (*sidecar, error) {
	r, s, err := readHeader(src, file, size)
	if err != nil {
		return nil, err
	}
	for r.skipKind(recordCells) || r.skipKind(recordOwner) {
	}
	kind, body, at, err := r.next()
	if err == io.EOF {
		err = r.damaged(at, "no COMMIT record")
	}
	if err != nil {
		return nil, err
	}
	if kind != recordCommit {
		return nil, r.damaged(at, fmt.Sprintf("record of type %d where COMMIT belongs", kind))
	}
	return s, s.apply(r, kind, body, at)
}

// readJournal reads the sidecar of an upload: it ends at a torn record or at COMMIT, which a new commit writes again.
func readJournal(src io.ReaderAt, file string, size int64) (*sidecar, error) {
	r, s, err := readHeader(src, file, size)
	if err != nil {
		return nil, err
	}
	for s.commit == nil {
		kind, body, at, err := r.next()
		if err == io.EOF {
			break
		}
		if errors.Is(err, errTorn) {
			s.commitCut = true
			break
		}
		if err != nil {
			return nil, err
		}
		if err := s.apply(r, kind, body, at); err != nil {
			return nil, err
		}
	}
	s.commitCut = s.commitCut || s.commit != nil
	s.commit = nil
	s.table.settle()
	return s, nil
}

func readHeader(src io.ReaderAt, file string, size int64) (*records, *sidecar, error) {
	r, err := openRecords(src, file, sidecarMagic, size)
	if err != nil {
		return nil, nil, err
	}
	kind, body, at, err := r.next()
	if err == io.EOF || err == nil && kind != recordHeader {
		err = r.damaged(at, "no HEADER record")
	}
	if err != nil {
		return nil, nil, err
	}
	s := &sidecar{end: r.off}
	if s.spec, s.created, err = decodeHeader(body); err != nil {
		return nil, nil, r.damaged(at, fmt.Sprintf("HEADER: %v", err))
	}
	if s.layout, err = newLayout(&s.spec); err != nil {
		return nil, nil, r.damaged(at, fmt.Sprintf("HEADER: %v", err))
	}
	s.table = s.layout.newTable(s.spec.Digest)
	return r, s, nil
}

// apply takes in one record after HEADER.
func (s *sidecar) apply(r *records, kind recordType, body []byte, at int64) error {
	switch kind {
	case recordCells:
		if err := s.table.parseCells(body, s.layout.stored); err != nil {
			return r.damaged(at, err.Error())
		}
		s.end = r.off
	case recordOwner:
		var owner ownerBody
		if err := json.Unmarshal(body, &owner); err != nil {
			return r.damaged(at, fmt.Sprintf("OWNER: %v", err))
		}
		s.owner, s.end = owner, r.off
	case recordCommit:
		c := new(commitBody)
		err := json.Unmarshal(body, c)
		if err == nil {
			s.receipt, err = c.Receipt.decode()
		}
		if err == nil && (s.receipt.ID != s.spec.ID || s.receipt.Name != s.spec.Name || s.receipt.Digest != s.spec.Digest) {
			err = errors.New("its receipt is that of another array")
		}
		if err != nil {
			return r.damaged(at, fmt.Sprintf("COMMIT: %v", err))
		}
		s.commit = c
	default:
		return r.damaged(at, fmt.Sprintf("record of unknown type %d", kind))
	}
	return nil
}
