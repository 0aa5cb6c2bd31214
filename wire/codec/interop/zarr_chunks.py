"""Check that Zarr readers take any mixture of Go's containers in one array.

Usage: zarr_chunks.py BINARY

A Zarr v3 array says ``blosc`` with one setting; each of its chunks here was
encoded with another compressor, level, shuffle, block size, or as a plain
copy. zarr-python, zarrs and TensorStore must read the array.
"""

from __future__ import annotations

import itertools
import json
import pathlib
import sys
import tempfile

import numpy as np
import peer
import tensorstore
import zarr

DTYPES = ("float32", "float64", "int16", "uint8", "complex128")


def write(go: peer.Go, where: pathlib.Path, dtype: str) -> tuple[np.ndarray, int]:
    """Write an array of 8 × 9 chunks; return its content and how many settings it mixes."""
    item = np.dtype(dtype).itemsize
    rng = np.random.default_rng(item)
    want = np.add.outer(np.arange(8 * 32), np.arange(9 * 48) % 97).astype(dtype)
    want[:32] = rng.integers(0, 200, want[:32].shape).astype(dtype)
    (where / "c").mkdir(parents=True)
    meta = {
        "zarr_format": 3, "node_type": "array", "shape": want.shape, "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [32, 48]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": [0.0, 0.0] if dtype == "complex128" else 0,
        "codecs": [
            *([{"name": "bytes", "configuration": {"endian": "little"}}] if item > 1 else [{"name": "bytes"}]),
            {"name": "blosc", "configuration": {
                "cname": "lz4", "clevel": 5, "shuffle": "shuffle" if item > 1 else "noshuffle",
                "typesize": item, "blocksize": 0}},
        ],
        "attributes": {},
    }
    (where / "zarr.json").write_text(json.dumps(meta))
    settings = list(itertools.product(("lz4", "zlib", "zstd"), (0, 1, 5, 9), peer.SHUFFLES, (0, 1024)))
    used = set()
    for k, (i, j) in enumerate(itertools.product(range(8), range(9))):
        cell = np.ascontiguousarray(want[32 * i : 32 * i + 32, 48 * j : 48 * j + 48]).tobytes()
        cname, level, shuffle, block = settings[k % len(settings)]
        container = go.encode(cell, cname, level, shuffle, item, block)
        used.add((container[2], container[8:12]))
        path = where / "c" / str(i)
        path.mkdir(exist_ok=True)
        (path / str(j)).write_bytes(container)
    return want, len(used)


def main() -> int:
    """Write and read with every reader."""
    done = 0
    with peer.Go(sys.argv[1]) as go, tempfile.TemporaryDirectory() as tmp:
        for dtype in DTYPES:
            where = pathlib.Path(tmp) / dtype
            want, mixed = write(go, where, dtype)
            if mixed < 10:
                raise AssertionError(f"{dtype}: only {mixed} different headers")
            readers = {
                "zarr-python": lambda w=where: zarr.open_array(w, mode="r")[:],
                "TensorStore": lambda w=where: tensorstore.open(
                    {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(w)}}, read=True
                ).result().read().result(),
            }
            for name, read in readers.items():
                np.testing.assert_array_equal(read(), want, err_msg=f"{name} {dtype}")
                done += 1
            with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
                array = zarr.open_array(where, mode="r")
                pipeline = type(array._async_array.codec_pipeline).__name__
                if pipeline != "ZarrsCodecPipeline":
                    raise AssertionError(f"zarrs is not in use but {pipeline}")
                np.testing.assert_array_equal(array[:], want, err_msg=f"zarrs {dtype}")
                done += 1
    print(f"zarr: {done} reads of mixed arrays by zarr-python, TensorStore and zarrs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
