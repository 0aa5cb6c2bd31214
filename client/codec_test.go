package client

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"ndferry/array"
	"ndferry/wire"
	"ndferry/wire/codec"
)

// TestDefaults compares the defaults with the table that all languages share.
func TestDefaults(t *testing.T) {
	text, err := os.ReadFile("../spec/DEFAULTS.txt")
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]string{
		"codec": DefaultCodec, "level": fmt.Sprint(DefaultLevel), "zlib_level": fmt.Sprint(DefaultZlibLevel),
		"min_level": fmt.Sprint(MinLevel), "max_level": fmt.Sprint(MaxLevel), "shuffle": DefaultShuffle,
		"chunk": fmt.Sprint(DefaultChunk), "digest": CRC32C,
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch name {
		case "codecs":
			for _, c := range strings.Fields(value) {
				if err := (&PutOptions{Codec: c}).CheckCodec(); err != nil {
					t.Error(err)
				}
			}
		case "shuffles":
			for _, s := range strings.Fields(value) {
				if err := (&PutOptions{Shuffle: s}).CheckCodec(); err != nil {
					t.Error(err)
				}
			}
		default:
			if have[name] != value {
				t.Errorf("%s is %q here, %q in spec/DEFAULTS.txt", name, have[name], value)
			}
			delete(have, name)
		}
	}
	for name := range have {
		t.Errorf("%s is not in spec/DEFAULTS.txt", name)
	}
}

// elsewhere is a connection to another machine.
type elsewhere struct{ net.Conn }

func (elsewhere) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)} }

// TestAutoDecidesAlike asks for the codec of a transfer again after the connection was seen to be faster or slower: in another call
// with Resume, and in the next attempt of one call.
func TestAutoDecidesAlike(t *testing.T) {
	dtype, err := array.ParseDType("<i4")
	if err != nil {
		t.Fatal(err)
	}
	settled := func(rate float64, resume bool, u *upload) (codec.Params, *upload) {
		c := &Client{nc: elsewhere{}, rate: rate, peer: wire.HelloMessage{Codecs: []string{"none", wire.CodecBlosc}}}
		if u == nil {
			a := &Array{DType: dtype, Shape: array.Shape{1 << 18}, Order: array.COrder(1), Data: make([]byte, 1<<20)}
			if u, err = newUpload("a", a, PutOptions{Resume: resume, Retries: 1}); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.settle(u); err != nil {
			t.Fatal(err)
		}
		return u.params, u
	}
	slow, u := settled(1e6, false, nil)
	if fast, _ := settled(1e12, false, nil); fast == slow {
		t.Fatalf("the rate makes no difference to %v: the test shows nothing", slow)
	}
	if again, _ := settled(1e12, false, u); again != slow {
		t.Errorf("the next attempt has %v, the first had %v", again, slow)
	}
	slow, u = settled(1e6, true, nil)
	if fast, v := settled(1e12, true, nil); fast != slow || !reflect.DeepEqual(u.msg.Array, v.msg.Array) {
		t.Errorf("a transfer that is taken up has %v, it was begun with %v", fast, slow)
	}
}

// watched is a source that counts the cells that were read of it.
type watched struct {
	Array
	read int
}

func (w *watched) Cell(g array.Grid, i int, buf []byte) ([]byte, error) {
	w.read++
	return w.Array.Cell(g, i, buf)
}

// TestCodecsSideBySide follows the cells of a Put and of a Get: as many as there are slots are begun before the first is asked for,
// and none beyond that before one is done with.
func TestCodecsSideBySide(t *testing.T) {
	const cells = 40
	slots := runtime.GOMAXPROCS(0) + 1
	src := &watched{Array: testArray(t, "<i4", array.Shape{cells, 1 << 14}, nil)}
	u, err := newUpload("a", src, PutOptions{Codec: "lz4", Cell: array.Shape{1, 1 << 14}})
	if err != nil {
		t.Fatal(err)
	}
	s := newCells(u, nil)
	encoded := make([][]byte, cells)
	for i := range cells {
		cell := s.next(i)
		if cell.err != nil {
			t.Fatal(cell.err)
		}
		encoded[i] = slices.Clone(cell.data)
		if want := min(i+slots, cells); src.read != want {
			t.Fatalf("with cell %d on its way %d are read, want %d", i, src.read, want)
		}
	}
	s.stop()

	into := &counting{memorySink: memorySink{Array: Array{Data: make([]byte, len(src.Data))}}}
	d := &download{sink: into, grid: u.grid, size: u.size, got: make([]bool, cells), missing: cells}
	if err := into.Begin(&Stat{DType: src.DType, Shape: src.Shape, Order: array.COrder(2), Bytes: int64(len(src.Data))}, u.grid); err != nil {
		t.Fatal(err)
	}
	r := newDecoder(d)
	for i := range cells {
		memory, err := r.memory(len(encoded[i]))
		if err != nil {
			t.Fatal(err)
		}
		copy(memory, encoded[i])
		r.decode(i, into.Place(i))
		if want := max(0, i+1-slots); into.done != want {
			t.Fatalf("with cell %d received %d are done with, want %d", i, into.done, want)
		}
	}
	if err := r.drain(); err != nil || into.done != cells {
		t.Fatalf("%d of %d cells are done with, %v", into.done, cells, err)
	}
	if !bytes.Equal(into.Data, src.Data) {
		t.Fatal("the bytes differ")
	}
}

// counting counts the cells that are done with.
type counting struct {
	memorySink
	done int
}

func (c *counting) Cell(i int, data []byte) error {
	c.done++
	return c.memorySink.Cell(i, data)
}
