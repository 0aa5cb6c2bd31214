"""Write frames that libzstd made, for the Go decoder to read.

Usage: zstd_vectors.py DIRECTORY

Writes ``libzstd.bin``, frames end to end, and ``libzstd.txt``, a line for
each: name, decoded length, CRC-32 of the decoded bytes, length of the frame,
and the length of a dictionary's id that it asks for (0 for none). The bytes
are those of zstandard 0.25.0 (libzstd 1.5.7), which this script needs and
nothing else does.
"""

from __future__ import annotations

import pathlib
import struct
import sys
import zlib

import numpy as np
import zstandard as zstd


def data(kind: str, n: int, seed: int) -> bytes:
    """Make n bytes of one kind."""
    rng = np.random.default_rng(seed)
    if kind == "zeros":
        return bytes(n)
    if kind == "random":
        return rng.integers(0, 256, n, dtype=np.uint8).tobytes()
    if kind == "skewed":  # literals only
        return np.minimum(rng.geometric(0.3, n), 255).astype(np.uint8).tobytes()
    if kind == "two":
        return rng.integers(0, 2, n, dtype=np.uint8).tobytes()
    if kind == "periods":  # matches of every short distance
        out = b""
        while len(out) < n:
            unit = rng.integers(0, 256, 1 + len(out) % 37, dtype=np.uint8).tobytes()
            out += unit * int(rng.integers(2, 90))
        return out[:n]
    if kind == "records":  # recent distances in turn
        out = bytearray()
        while len(out) < n:
            i = len(out)
            out += struct.pack("<IHHQ", i // 16, i % 7, 5, int(rng.integers(0, 9)) << 40)
            if rng.integers(0, 5) == 0:
                del out[-int(rng.integers(1, 3)) :]
        return bytes(out[:n])
    if kind == "smooth":
        return np.sin(np.arange(n // 4 + 1) / 50).astype("<f4").T.copy().view(np.uint8).reshape(-1, 4).T.tobytes()[:n]
    if kind == "walk":
        return np.cumsum(rng.integers(-1, 2, n)).astype(np.uint8).tobytes()
    raise ValueError(kind)


KINDS = ("zeros", "random", "skewed", "two", "periods", "records", "smooth", "walk")


def cases() -> list[tuple[str, bytes, bytes, int]]:
    """Make name, decoded bytes, frame, size of the dictionary id."""
    out: list[tuple[str, bytes, bytes, int]] = []
    seed = 0

    def add(name: str, raw: bytes, frame: bytes, dictionary: int = 0) -> None:
        if dictionary == 0:
            assert zstd.ZstdDecompressor().decompressobj(read_across_frames=True).decompress(frame) == raw, name
        if len(frame) <= (1_100 if name.startswith("random") else 9_000):
            out.append((name, raw, frame, dictionary))

    for level in (*range(-5, 0), *range(1, 23)):
        for kind in KINDS:
            seed += 1
            raw = data(kind, (700, 5_000, 20_000)[seed % 3], seed)
            add(f"{kind}-level{level}", raw, zstd.ZstdCompressor(level=level).compress(raw))
    for kind in KINDS:
        for n in (0, 1, 2, 3, 7, 31, 32, 63, 64, 255, 256, 257, 1023, 1024, 65791, 65792, 131071, 131072, 131073, 300_000):
            seed += 1
            raw = data(kind, n, seed)
            level = 1 + seed % 7
            add(f"{kind}-size{n}", raw, zstd.ZstdCompressor(level=level, write_checksum=seed % 2 == 0, write_content_size=seed % 3 > 0).compress(raw))
    for strategy in range(1, 10):
        for window in (10, 13, 17):
            for kind in ("records", "periods", "walk"):
                seed += 1
                raw = data(kind, 9_000, seed)
                params = zstd.ZstdCompressionParameters(
                    window_log=window, chain_log=12, hash_log=12, search_log=5, min_match=3 + seed % 4, target_length=32,
                    strategy=strategy, write_checksum=1, enable_ldm=seed % 5 == 0,
                )
                add(f"{kind}-strategy{strategy}-window{window}", raw, zstd.ZstdCompressor(compression_params=params).compress(raw))
    for kind in KINDS:  # many blocks, whose tables are used again
        for level in (1, 3, 9):
            seed += 1
            raw = data(kind, 14_000, seed)
            c = zstd.ZstdCompressor(level=level).compressobj()
            frame = b""
            for at in range(0, len(raw), 1_400):
                frame += c.compress(raw[at : at + 1_400]) + c.flush(zstd.COMPRESSOBJ_FLUSH_BLOCK)
            add(f"{kind}-blocks-level{level}", raw, frame + c.flush())
    for level in (1, 3, 5, 12, 19):  # literals that are all the same, in runs of the same length
        seed += 1
        rng = np.random.default_rng(seed)
        start = data("random", 2_000, seed)
        marks = bytearray()
        while len(marks) < 4_000:
            i = int(rng.integers(0, 1_900))
            marks += start[i : i + int(rng.integers(12, 30))] + b"x"
        c = zstd.ZstdCompressor(level=level).compressobj()
        frame = c.compress(start) + c.flush(zstd.COMPRESSOBJ_FLUSH_BLOCK)
        add(f"marks-level{level}", start + bytes(marks), frame + c.compress(bytes(marks)) + c.flush())
    raw = data("records", 3_000, 1)
    frame = zstd.ZstdCompressor(write_checksum=True).compress(raw)
    skip = struct.pack("<II", 0x184D2A53, 5) + b"hello"
    add("two-frames", raw + raw, frame + frame)
    out.append(("skippable-frames", raw + raw, skip + frame + skip + frame + skip, 0))
    for size, n in ((1, 200), (2, 60_000), (4, 1 << 20)):
        samples = [data("records", 400, i) for i in range(50)]
        trained = zstd.train_dictionary(1_000, samples, dict_id=n)
        add(f"dictionary-id{size}", raw, zstd.ZstdCompressor(dict_data=trained).compress(raw), size)
    return out


def main() -> int:
    """Write the two files."""
    where = pathlib.Path(sys.argv[1])
    lines, body = [], bytearray()
    for name, raw, frame, dictionary in cases():
        lines.append(f"{name} {len(raw)} {zlib.crc32(raw):08x} {len(frame)} {dictionary}\n")
        body += frame
    (where / "libzstd.txt").write_text("".join(lines))
    (where / "libzstd.bin").write_bytes(body)
    print(f"vectors: {len(lines)} frames, {len(body)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
