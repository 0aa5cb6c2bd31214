package unzstd

import "fmt"

// Kinds of literals (RFC 8878, 3.1.1.3.1.1).
const (
	literalsRaw = iota
	literalsRLE
	literalsCoded
	literalsTreeless
)

// literalsHead is the header of a literals section.
type literalsHead struct {
	kind    int
	streams int
	n       int // literals
	size    int // bytes that they take, behind the header
	head    int // bytes of the header
}

func readLiteralsHead(src []byte) (literalsHead, error) {
	if len(src) == 0 {
		return literalsHead{}, fmt.Errorf("%w: no literals section", ErrCorrupt)
	}
	var v uint64
	for i, b := range src[:min(5, len(src))] {
		v |= uint64(b) << (8 * i)
	}
	h := literalsHead{kind: int(v & 3), streams: 4}
	format := v >> 2 & 3
	if h.kind <= literalsRLE {
		switch format {
		case 1:
			h.n, h.head = int(v>>4&0xfff), 2
		case 3:
			h.n, h.head = int(v>>4&0xfffff), 3
		default:
			h.n, h.head = int(v>>3&0x1f), 1
		}
		h.size = h.n
		if h.kind == literalsRLE {
			h.size = 1
		}
	} else {
		width := [4]uint{10, 10, 14, 18}[format]
		h.n, h.size = int(v>>4&(1<<width-1)), int(v>>4>>width&(1<<width-1))
		h.head = int(4+2*width) / 8
		if format == 0 {
			h.streams = 1
		}
	}
	if h.n > maxBlock || h.head+h.size > len(src) {
		return h, fmt.Errorf("%w: %d literals in %d of %d bytes", ErrCorrupt, h.n, h.size, len(src))
	}
	return h, nil
}

// literals decodes a literals section into all of dst.
func (d *Decoder) literals(dst, src []byte, h literalsHead) error {
	src = src[h.head : h.head+h.size]
	switch h.kind {
	case literalsRaw:
		copy(dst, src)
		return nil
	case literalsRLE:
		fill(dst, src[0])
		return nil
	case literalsCoded:
		n, err := d.huffman.read(src)
		if err != nil {
			return err
		}
		src = src[n:]
	default:
		if d.huffman.maxBits == 0 {
			return fmt.Errorf("%w: literals without a Huffman tree", ErrCorrupt)
		}
	}
	if h.streams == 1 {
		return d.huffman.decode1(dst, src)
	}
	return d.huffman.decode4(dst, src)
}

func fill(dst []byte, b byte) {
	if len(dst) > 0 {
		dst[0] = b
		repeat(dst, 1)
	}
}
