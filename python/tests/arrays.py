"""Arrays of every dtype and layout, the same in every process: what the matrix and the readers' table are about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

SMALL = (
    "bfloat16", "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2",
    "float8_e5m2fnuz", "float8_e8m0fnu",
)  # fmt: skip

PLAIN = [
    "|b1",
    "|i1",
    "<i2",
    ">i2",
    "<i4",
    ">i4",
    "<i8",
    ">i8",
    "|u1",
    "<u2",
    ">u2",
    "<u4",
    ">u4",
    "<u8",
    ">u8",
    "<f2",
    ">f2",
    "<f4",
    ">f4",
    "<f8",
    ">f8",
    "<c8",
    ">c8",
    "<c16",
    ">c16",
    "<M8[s]",
    ">M8[25s]",
    "<M8[ns]",
    "<M8",
    "<m8[3ms]",
    ">m8",
    ">m8[Y]",
    "|S1",
    "|S5",
    "|S0",
    "<U3",
    ">U7",
    "<U0",
    "|V7",
    "|V0",
]

STRUCTURED: dict[str, Any] = {
    "packed": np.dtype([("a", "<i4"), ("b", "<f8")]),
    "packed big": np.dtype([("a", ">i2"), ("b", ">f8")]),
    "padded": np.dtype([("a", "u1"), ("b", "<f8")], align=True),
    "mixed order": np.dtype([("a", ">i2"), ("b", "<f8"), ("c", "S3")]),
    "nested": np.dtype([("a", "<i2"), ("n", [("x", ">c8"), ("y", "<U2"), ("z", [("t", "<M8[7D]")])])]),
    "titles": np.dtype([(("a title", "a"), "<i4"), ("b", "<M8[7D]")]),
    "record": np.dtype((np.record, [("a", "<i4"), ("é", "<f4")])),
    "with bfloat16": np.dtype([("a", ml_dtypes.bfloat16), ("b", "i1")]),
    "out of order": np.dtype({"names": ["a", "b"], "formats": ["<i4", "<f8"], "offsets": [12, 0], "itemsize": 24}),
    "overlapping": np.dtype({"names": ["a", "b"], "formats": ["<i4", "<f8"], "offsets": [0, 2], "itemsize": 10}),
    "subarray": np.dtype([("a", "<f4", (2, 3)), ("b", "u1")]),
    "empty field": np.dtype([("a", "S0"), ("b", "u1")]),
    "no fields": np.dtype([]),
}


def dtypes() -> Iterator[tuple[str, np.dtype[Any]]]:
    """Every dtype, with a name."""
    yield from ((text, np.dtype(text)) for text in PLAIN)
    for name in SMALL:
        yield name, np.dtype(getattr(ml_dtypes, name))
    yield ">bfloat16", np.dtype(ml_dtypes.bfloat16).newbyteorder(">")
    yield from STRUCTURED.items()


def _fortran(array: Array) -> Array:
    """A copy in Fortran order, with zeros between the fields of structures."""
    holder: Array = np.zeros(array.shape, np.dtype([("", array.dtype)]), order="F")
    holder["f0"][...] = array
    return holder["f0"]


def _stepped(array: Array, step: int) -> Array:
    """Every `step`-th element of each axis, as a view also of an array without axes."""
    key: tuple[Any, ...] = (*(slice(None, None, step),) * array.ndim, ...)
    view: Array = array[key]
    return view


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "C": lambda a: a,
    "F": lambda a: _fortran(a),
    "permuted": lambda a: (
        a.transpose(*range(1, a.ndim), 0).copy().transpose(a.ndim - 1, *range(a.ndim - 1))
        if a.ndim > 1 and a.dtype.itemsize
        else a
    ),
    "strided": lambda a: _stepped(a, 2),
    "negative": lambda a: _stepped(a, -1),
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape) if a.ndim and a.shape[0] else a,
}


def make(dtype: np.dtype[Any], shape: tuple[int, ...], seed: int = 1) -> Array:
    """An array of arbitrary bits: NaN with payloads, NaT, both zeros, text of arbitrary code points."""
    if len(shape) > 60:  # NumPy's own limit would be in the way
        return make(dtype, tuple(n for n in shape if n != 1), seed).reshape(shape)
    rng = np.random.default_rng(seed)
    holder: Array = np.zeros(shape, np.dtype([("", dtype)]))
    _scramble(holder, rng)
    return holder["f0"]


def _scramble(array: Array, rng: np.random.Generator) -> None:
    dtype = array.dtype
    if dtype.names is not None:
        for name in dtype.names:
            _scramble(array[name], rng)
        return
    if dtype.itemsize == 0 or array.size == 0:
        return
    if dtype.kind == "U":
        array[...] = (
            rng.integers(33, 0xD000, (*array.shape, dtype.itemsize // 4), np.uint32)
            .view("<U1")
            .reshape(*array.shape, -1)
            .view(f"<U{dtype.itemsize // 4}")
            .reshape(array.shape)
        )
        return
    raw = rng.integers(0, 256, (*array.shape, dtype.itemsize), np.uint8)
    if dtype.kind == "b":
        raw &= 1
    if dtype.kind == "S":
        raw |= 1
    array[...] = raw.view(dtype).reshape(array.shape)


def same_elements(a: Array, b: Array) -> bool:
    """Equal bit for bit, but for bytes between fields and the byte order."""
    if a.shape != b.shape or a.dtype.names != b.dtype.names:
        return False
    if a.dtype.names is not None:
        a, b = a.reshape(-1), b.reshape(-1)  # a field of several axes must not make more than 64 of them
        return all(same_elements(a[name], b[name]) for name in a.dtype.names or ())
    if a.dtype.itemsize == 0:
        return b.dtype.itemsize == 0
    if a.dtype.itemsize != b.dtype.itemsize:
        return False
    if a.dtype.kind in "mM":
        if a.dtype.kind != b.dtype.kind or np.datetime_data(a.dtype) != np.datetime_data(b.dtype):
            return False
        a, b = (x.view(x.dtype.str[0] + "i8") for x in (a, b))  # NumPy casts no >m8 to <m8
    if a.dtype.str != b.dtype.str:
        b = b.astype(a.dtype)
    return bytes(a.tobytes()) == bytes(b.tobytes())
