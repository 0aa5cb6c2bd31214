package array

import (
	"errors"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

func TestBlosc(t *testing.T) {
	const good = `{"cname":"zstd","clevel":5,"shuffle":"shuffle","typesize":8,"blocksize":0}`
	for _, tt := range []struct {
		config string
		want   error // nil: taken
	}{
		{good, nil},
		{`{"shuffle":"noshuffle","cname":"lz4","clevel":0}`, nil},
		{`{"cname":"zlib","clevel":9,"shuffle":"bitshuffle","typesize":255,"blocksize":2147483647}`, nil},
		{``, ErrZarr},
		{`{}`, ErrZarr},
		{strings.Replace(good, "zstd", "snappy", 1), ErrUnsupportedZarr},
		{strings.Replace(good, "zstd", "blosclz", 1), ErrUnsupportedZarr},
		{strings.Replace(good, `"zstd"`, `7`, 1), ErrZarr},
		{strings.Replace(good, `:5`, `:10`, 1), ErrZarr},
		{strings.Replace(good, `:5`, `:-1`, 1), ErrZarr},
		{strings.Replace(good, `:5`, `:5.0`, 1), ErrZarr},
		{strings.Replace(good, `"clevel":5,`, ``, 1), ErrZarr},
		{strings.Replace(good, `"shuffle":"shuffle"`, `"shuffle":1`, 1), ErrZarr},
		{strings.Replace(good, `"typesize":8`, `"typesize":0`, 1), ErrZarr},
		{strings.Replace(good, `"typesize":8`, `"typesize":256`, 1), ErrZarr},
		{strings.Replace(good, `,"typesize":8`, ``, 1), ErrZarr},
		{strings.Replace(good, `"blocksize":0`, `"blocksize":2147483648`, 1), ErrZarr},
		{strings.Replace(good, `"blocksize"`, `"threads"`, 1), ErrUnsupportedZarr},
		{strings.Replace(good, `"blocksize"`, `"cname"`, 1), ErrZarr},
	} {
		c := Codec{Name: BloscName}
		if tt.config != "" {
			c.Configuration = jsontext.Value(tt.config)
		}
		b, err := c.Blosc()
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.config, err, tt.want)
			continue
		}
		m := Meta{Shape: Shape{4, 6}, DType: mustType(t, "<f8"), Cell: Shape{2, 6}, DimNames: DefaultDimNames("a", 2), Codecs: []Codec{c}}
		raw, err := m.AppendStored(nil)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: stored: %v, want %v", tt.config, err, tt.want)
		}
		if tt.want != nil {
			continue
		}
		z, err := ParseZarrArray(raw)
		if err != nil || !z.IsStoredForm() || len(z.Codecs) != 1 || z.Compressor() != b.CName {
			t.Errorf("%s: read again: %v", tt.config, err)
			continue
		}
		m.Codecs[0] = b.Codec()
		if !z.Equal(&m) {
			t.Errorf("%s: became %s", tt.config, z.Codecs[0].Configuration)
		}
		m.Codecs = append(m.Codecs, m.Codecs[0])
		if _, err := m.AppendWire(nil); !errors.Is(err, ErrUnsupportedZarr) {
			t.Errorf("%s: twice: %v", tt.config, err)
		}
	}
}
