// Command interop encodes and decodes chunks for the Python scripts beside it,
// which compare this codec with C-Blosc in the same process.
//
// It answers requests on standard input until that ends. A request is 21 bytes,
// little-endian, and a body; an answer is 5 bytes and a body:
//
//	request  op 'e' or 'd', codec, level, shuffle: 1 byte each
//	         u8 zero, u32 typesize, u32 blocksize, u32 decoded length, u32 body length
//	answer   status 0, or 1 with a message as the body; u32 body length
package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"ndferry/wire/codec"
)

func main() {
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		os.Exit(1)
	}
}

func serve(r io.Reader, w io.Writer) error {
	in, out := bufio.NewReaderSize(r, 1<<20), bufio.NewWriterSize(w, 1<<20)
	var head [21]byte
	for {
		if _, err := io.ReadFull(in, head[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return out.Flush()
			}
			return err
		}
		le := binary.LittleEndian
		p := codec.Params{
			Name: codec.Name(head[1]), Level: int(head[2]), Shuffle: codec.Shuffle(head[3]),
			TypeSize: int(le.Uint32(head[5:])), BlockSize: int(le.Uint32(head[9:])),
		}
		body := make([]byte, le.Uint32(head[17:]))
		if _, err := io.ReadFull(in, body); err != nil {
			return err
		}
		var answer []byte
		var err error
		if head[0] == 'e' {
			answer, err = codec.AppendEncode(nil, body, p)
		} else {
			answer = make([]byte, le.Uint32(head[13:]))
			err = codec.Decode(answer, body)
		}
		status := byte(0)
		if err != nil {
			status, answer = 1, []byte(err.Error())
		}
		out.WriteByte(status)
		out.Write(le.AppendUint32(nil, uint32(len(answer))))
		out.Write(answer)
		if err := out.Flush(); err != nil {
			return err
		}
	}
}
