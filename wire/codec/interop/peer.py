"""Drive the Go codec from Python, and make the data that tests feed to both.

The Go side is ``wire/codec/interop`` built as a binary; C-Blosc is the one
inside numcodecs.
"""

from __future__ import annotations

import struct
import subprocess
from types import TracebackType

import numpy as np
from numcodecs import blosc

CODECS = {"none": 0, "lz4": 1, "zlib": 2, "zstd": 3}
SHUFFLES = {"none": 1, "byte": 2, "bit": 3}
C_SHUFFLES = {"none": blosc.NOSHUFFLE, "byte": blosc.SHUFFLE, "bit": blosc.BITSHUFFLE}
KINDS = ("smooth", "mantissa", "counter", "image", "random", "zeros")

blosc.set_nthreads(1)


class GoError(Exception):
    """The Go codec refused."""


class Go:
    """The Go codec in a child process."""

    def __init__(self, binary: str) -> None:
        self._p = subprocess.Popen([binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> Go:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._p.stdin is not None
        self._p.stdin.close()
        if self._p.wait(30) and exc is None:
            raise RuntimeError("the Go codec died")

    def _ask(self, head: bytes, body: bytes) -> bytes:
        assert self._p.stdin is not None and self._p.stdout is not None
        self._p.stdin.write(head)
        self._p.stdin.write(body)
        self._p.stdin.flush()
        answer = self._p.stdout.read(5)
        if len(answer) != 5:
            raise RuntimeError("the Go codec died")
        status, n = struct.unpack("<BI", answer)
        data = self._p.stdout.read(n)
        if status:
            raise GoError(data.decode())
        return data

    def encode(
        self, raw: bytes, cname: str, clevel: int, shuffle: str, typesize: int, blocksize: int = 0
    ) -> bytes:
        """Return the container of `raw`."""
        head = struct.pack(
            "<cBBBBIIII", b"e", CODECS[cname], clevel, SHUFFLES[shuffle], 0, typesize, blocksize,
            0, len(raw),
        )
        return self._ask(head, raw)

    def decode(self, container: bytes, size: int) -> bytes:
        """Return the `size` bytes of the chunk in `container`."""
        return self._ask(
            struct.pack("<cBBBBIIII", b"d", 0, 0, 0, 0, 0, 0, size, len(container)), container
        )


def c_encode(
    raw: bytes, cname: str, clevel: int, shuffle: str, typesize: int, blocksize: int = 0
) -> bytes:
    """Encode with C-Blosc, one thread."""
    out = blosc.compress(
        raw, cname.encode(), clevel, C_SHUFFLES[shuffle], blocksize, typesize=typesize
    )
    return bytes(out)


def c_decode(container: bytes) -> bytes:
    """Decode with C-Blosc, one thread."""
    return bytes(blosc.decompress(container))


def data(kind: str, size: int, seed: int) -> bytes:
    """Make `size` bytes of one of `KINDS`; the same seed gives the same bytes."""
    rng = np.random.default_rng(seed)
    n = size // 4 + 2
    if kind == "smooth":
        t = np.linspace(0, 20 + seed % 7, n, dtype=np.float64)
        a: np.ndarray = (np.sin(t) + 0.1 * np.sin(17 * t)).astype(np.float32)
    elif kind == "mantissa":
        a = 1.0 + rng.random(n) * 2**-20
    elif kind == "counter":
        a = np.arange(seed, seed + n, dtype=np.int32)
    elif kind == "image":
        a = (np.cumsum(rng.integers(-2, 3, 4 * n)) & 255).astype(np.uint8)
    elif kind == "random":
        a = rng.integers(0, 256, 4 * n, dtype=np.uint8)
    elif kind == "zeros":
        a = np.zeros(n, np.int32)
    else:
        raise ValueError(kind)
    return a.tobytes()[:size]
