"""Arrays that zarr-python wrote into the store's hierarchy: listed, served, without stored checks."""

from __future__ import annotations

import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec

import ndferry
from arrays import Array
from conftest import Server

PLANE: Array = np.random.default_rng(3).standard_normal((100, 77))
BLOCK: Array = np.arange(60 * 50 * 7, dtype=">i4").reshape(60, 50, 7)


def written() -> Iterator[tuple[str, Array, dict[str, Any]]]:
    """Name, array, and how zarr-python is told to write it."""
    yield "default", PLANE, {"chunks": (30, 20)}
    yield "gzip", PLANE, {"chunks": (30, 20), "compressors": GzipCodec()}
    yield "crc32c", PLANE, {"chunks": (30, 20), "compressors": [ZstdCodec(), Crc32cCodec()]}
    yield "crc32c inside", PLANE, {"chunks": (30, 20), "compressors": [Crc32cCodec(), ZstdCodec()]}
    for cname in ("lz4", "lz4hc", "blosclz", "zstd", "zlib"):
        for shuffle in ("shuffle", "bitshuffle", "noshuffle"):
            codec = BloscCodec(cname=cname, shuffle=shuffle, typesize=8, clevel=5)
            yield f"{cname} {shuffle}", PLANE, {"chunks": (100, 77), "compressors": codec}
    yield "sharded", BLOCK, {"chunks": (10, 10, 7), "shards": (20, 30, 7)}
    yield "transposed", BLOCK, {"chunks": (10, 10, 7), "filters": [TransposeCodec(order=(2, 0, 1))]}
    both = [TransposeCodec(order=(1, 2, 0))]
    yield "sharded and transposed", BLOCK, {"chunks": (10, 10, 7), "shards": (20, 30, 7), "filters": both}
    yield "big-endian", BLOCK, {"chunks": (7, 50, 7), "serializer": BytesCodec(endian="big"), "compressors": None}
    swapped = PLANE.astype(">c16") * (1 - 3j)
    serializer = BytesCodec(endian="big")
    yield "big-endian complex", swapped, {"chunks": (30, 20), "serializer": serializer, "fill_value": 1 - 2j}
    yield "0-d", np.array(3.5), {}
    yield "empty", np.zeros((0, 3)), {"chunks": (1, 3)}
    yield "bytes", np.array([[b"ab", b"c"]] * 9, "S3"), {"chunks": (4, 2)}
    yield "times", np.arange(99).astype("M8[25s]"), {"chunks": (10,)}
    yield "text", np.array(["a", "häß"] * 30), {"chunks": (7,)}
    yield "one large chunk", np.arange(5_000_000.0).reshape(1000, 5000), {"chunks": (1000, 5000)}


CASES = list(written())


@pytest.mark.parametrize(("name", "array", "options"), CASES, ids=[name for name, _, _ in CASES])
def test_foreign_arrays(server: Server, name: str, array: Array, options: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = zarr.create_array(
            str(server.root / "a"), shape=array.shape, dtype=array.dtype, attributes={"a": [1, 2.5]}, **options
        )
        if array.size:
            made[...] = array
    with ndferry.connect(server.addr, timeout=60) as c:
        (entry,) = c.list()
        assert (entry.name, entry.digest) == ("a", "none")
        stat = c.stat("a")
        assert stat.digest.kind == "none"
        assert stat.attrs == {"a": [1, 2.5]}
        with pytest.warns(ndferry.UncheckedWarning, match="no stored checks"):
            back = c.get("a")
        assert back.dtype.newbyteorder("=") == array.dtype.newbyteorder("=")
        assert np.array_equal(back, array)
        assert c.verify("a").ok
        with pytest.warns(ndferry.UncheckedWarning, match="no stored checks"):
            remote = c.open("a")
        assert remote.stat.digest.kind == "none"
        if array.ndim:
            assert np.array_equal(remote[1:9:2], array[1:9:2])
        with pytest.raises(ndferry.ConflictError):
            c.put("a", array)


def test_missing_chunks_and_damage(server: Server) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = zarr.create_array(
            str(server.root / "a"), shape=(50, 50), chunks=(20, 20), dtype="f4", fill_value=np.nan,
            compressors=[ZstdCodec(), Crc32cCodec()], chunk_key_encoding={"name": "v2", "separator": "/"},
        )  # fmt: skip
        made[25:30, 1:30] = 7
        want = made[...]
    with ndferry.connect(server.addr, timeout=60) as c:
        with pytest.warns(ndferry.UncheckedWarning):
            assert np.array_equal(c.get("a"), want, equal_nan=True)
        chunk = server.root / "a" / "1" / "0"
        content = bytearray(chunk.read_bytes())
        content[3] ^= 1
        chunk.write_bytes(content)
        with pytest.raises(ndferry.IntegrityError, match="crc32c"):
            c.get("a")
        assert not c.verify("a").ok


def test_the_command_line_says_that_there_are_no_checks(server: Server, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zarr.create_array(str(server.root / "a"), shape=PLANE.shape, dtype=PLANE.dtype, chunks=(30, 20))[...] = PLANE
    with ndferry.connect(server.addr, timeout=60) as c:
        c.put("ours", PLANE)

    def run(*command: Any) -> str:
        line = [str(part) for part in (server.binary, *command, "--addr", server.addr)]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout + done.stderr

    said = "no stored checks"
    for name, expected in (("a", True), ("ours", False)):
        for number, command in enumerate(
            (
                ("stat", name),
                ("ls", name),
                ("verify", name),
                ("get", name, tmp_path / f"{name}.npy"),
                ("get", name, tmp_path / f"{name} part.npy", "--region", "::-1, 3"),
            )
        ):
            assert (said in run(*command)) == expected, (name, number)
        assert ('"digest":"none"' in run("get", name, tmp_path / f"{name}.npy", "--force", "--json")) == expected
        assert np.array_equal(np.load(tmp_path / f"{name}.npy"), PLANE)
        assert np.array_equal(np.load(tmp_path / f"{name} part.npy"), PLANE[::-1, 3])
