"""Arrays for tests: every bit pattern, every layout, and real ones from installed packages."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

DTYPES = ["?", "i1", "u1", *(f"{order}{code}" for order in "<>" for code in (
    "i2", "i4", "i8", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"))]  # fmt: skip

SHAPES: list[tuple[int, ...]] = [(), (0,), (3, 0, 2), (1,), (1, 1), (7,), (5, 3), (4, 1, 3), (2, 3, 4, 5), (1,) * 33]


def bits(shape: tuple[int, ...], dtype: str) -> Array:
    """Every bit pattern is possible: NaN payloads, -0.0, infinities. Bools are 0 and 1."""
    d = np.dtype(dtype)
    raw = np.random.default_rng(len(shape)).integers(0, 256, math.prod(shape) * d.itemsize, np.uint8)
    if d.kind == "b":
        raw &= 1
    return raw.view(d).reshape(shape)


def same(a: Array, b: Array) -> bool:
    """Equal in dtype, shape and every bit."""
    return a.dtype.str == b.dtype.str and a.shape == b.shape and a.tobytes() == b.tobytes()


def at_rest(a: Array) -> Array:
    """As the elements travel and rest (spec/WIRE.md §5.9): complex numbers little-endian, others as they are."""
    return a.astype(a.dtype.newbyteorder("<")) if a.dtype.kind == "c" else a


def f_order(a: Array) -> Array:
    return np.asfortranarray(a)


def permuted(a: Array) -> Array:
    if a.ndim < 3:
        return a.T
    axes = (*range(1, a.ndim), 0)
    return np.ascontiguousarray(a.transpose(axes)).transpose(np.argsort(axes))


def strided(a: Array) -> Array:
    return np.repeat(a, 2, axis=-1)[..., ::2]


def backwards(a: Array) -> Array:
    return a[::-1]


def broadcast(a: Array) -> Array:
    return np.broadcast_to(a, (3, *a.shape)) if a.ndim < 32 else a


def unaligned(a: Array) -> Array:
    buffer = np.empty(a.nbytes + 1, np.uint8)
    view = buffer[1:].view(a.dtype).reshape(a.shape) if a.size else a
    view[...] = a
    return view


LAYOUTS: list[Callable[[Array], Array]] = [
    np.ascontiguousarray, f_order, permuted, strided, backwards, broadcast, unaligned,
]  # fmt: skip


def real() -> Iterator[tuple[str, Array]]:
    """Measured data and photographs that come with PyWavelets and scikit-image."""
    import pywt.data
    import skimage.data

    yield "nino/sst", pywt.data.nino()[1]
    yield "ecg", pywt.data.ecg()
    for name in ("aero", "ascent", "camera"):
        yield f"pywt/{name}", getattr(pywt.data, name)()
    for name in ("astronaut", "coins", "hubble_deep_field", "moon", "chelsea"):
        yield f"photographs/{name}", getattr(skimage.data, name)()
    yield "disparity", skimage.data.stereo_motorcycle()[2]
    yield "faces", skimage.data.lfw_subset()
