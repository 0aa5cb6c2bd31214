"""Write containers that C-Blosc made, for the Go tests to decode.

Usage: vectors.py DIRECTORY

Writes ``cblosc.bin``, containers end to end, and ``cblosc.txt``, a line for
each: codec, level, shuffle, typesize, blocksize, decoded length, CRC-32 of the
decoded bytes, container length. The bytes are those of numcodecs 0.16.6
(C-Blosc 1.21.7).
"""

from __future__ import annotations

import itertools
import pathlib
import sys
import zlib

import peer

CNAMES = ("lz4", "lz4hc", "blosclz", "zlib", "zstd")
TYPESIZES = (1, 2, 3, 4, 7, 8, 15, 16, 255, 300)
LENGTHS = (1, 127, 128, 129, 515, 1000, 2048, 2055, 4099)
BLOCKSIZES = (0, 0, 128, 512, 1000)
LARGE = (65536, 300_007, 1_200_000)


def cases() -> list[tuple[str, int, str, int, int, int, str]]:
    """Choose codec, level, shuffle, typesize, blocksize, length and kind."""
    out = []
    turn = 0
    for cname, shuffle, ts, size in itertools.product(CNAMES, peer.SHUFFLES, TYPESIZES, LENGTHS):
        turn += 1
        kind = peer.KINDS[turn * 7 % len(peer.KINDS)]
        if kind == "random" and size > 600 and turn % 4:
            kind = "counter"
        out.append((cname, turn % 10, shuffle, ts, BLOCKSIZES[turn % 5], size, kind))
    for cname, shuffle, ts, size in itertools.product(CNAMES, peer.SHUFFLES, (1, 4, 8, 16), LARGE):
        turn += 1
        kind = "zeros" if size > 300_007 else "counter"
        out.append((cname, 1 + turn % 9, shuffle, ts, 0, size, kind))
    return out


def main() -> int:
    """Write the two files."""
    where = pathlib.Path(sys.argv[1])
    lines, body = [], bytearray()
    for seed, (cname, clevel, shuffle, ts, bs, size, kind) in enumerate(cases()):
        raw = peer.data(kind, size, seed)
        enc = peer.c_encode(raw, cname, clevel, shuffle, ts, bs)
        if len(enc) > 12_000:
            continue
        lines.append(f"{cname} {clevel} {shuffle} {ts} {bs} {size} {zlib.crc32(raw):08x} {len(enc)}\n")
        body += enc
    (where / "cblosc.txt").write_text("".join(lines))
    (where / "cblosc.bin").write_bytes(body)
    print(f"vectors: {len(lines)} cases, {len(body)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
