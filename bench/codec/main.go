// Command codec times the Go codec for bench/codec/compare.py, which times
// C-Blosc in turn. It reads one JSON request a line and answers with one.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"runtime/pprof"
	"time"

	"ndferry/wire/codec"
)

// request asks for runs of one operation on the bytes of File for at least
// Seconds.
type request struct {
	File, Codec, Shuffle, Op   string
	Level, TypeSize, BlockSize int
	Seconds                    float64
}

// answer is seconds a run and the size of the encoded chunk.
type answer struct {
	Seconds float64
	Encoded int
}

func main() {
	if path := os.Getenv("CODEC_CPUPROFILE"); path != "" {
		f, err := os.Create(path)
		exitOn(err)
		exitOn(pprof.StartCPUProfile(f))
		defer pprof.StopCPUProfile()
	}
	lines := bufio.NewScanner(os.Stdin)
	var enc codec.Encoder
	var dec codec.Decoder
	for lines.Scan() {
		var req request
		exitOn(json.Unmarshal(lines.Bytes(), &req))
		ans, err := run(&enc, &dec, req)
		exitOn(err)
		exitOn(json.NewEncoder(os.Stdout).Encode(ans))
	}
	exitOn(lines.Err())
}

func run(enc *codec.Encoder, dec *codec.Decoder, req request) (answer, error) {
	raw, err := os.ReadFile(req.File)
	if err != nil {
		return answer{}, err
	}
	p := codec.Params{Level: req.Level, TypeSize: req.TypeSize, BlockSize: req.BlockSize}
	if p.Name, err = codec.ParseName(req.Codec); err != nil {
		return answer{}, err
	}
	if p.Shuffle, err = codec.ParseShuffle(req.Shuffle); err != nil {
		return answer{}, err
	}
	out, err := enc.AppendEncode(nil, raw, p)
	if err != nil {
		return answer{}, err
	}
	back := make([]byte, len(raw))
	if err := dec.Decode(back, out); err != nil {
		return answer{}, err
	}
	if string(back) != string(raw) {
		return answer{}, fmt.Errorf("%+v: decoded bytes differ", req)
	}
	n, start := 0, time.Now()
	for n == 0 || time.Since(start).Seconds() < req.Seconds {
		if req.Op == "encode" {
			out, err = enc.AppendEncode(out[:0], raw, p)
		} else {
			err = dec.Decode(back, out)
		}
		if err != nil {
			return answer{}, err
		}
		n++
	}
	return answer{time.Since(start).Seconds() / float64(n), len(out)}, nil
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "codec bench:", err)
		os.Exit(1)
	}
}
