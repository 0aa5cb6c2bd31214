"""Arrays as cells (spec/WIRE.md §5.6): dtype, memory order, chunk grid, Zarr v3 metadata, digest.

A `Layout` says how the bytes of an array lie in memory and how they are cut. Where a cell is one run of the array's
memory (the default grid), it travels from and to that memory; otherwise it is gathered into, or scattered from, one
buffer of the size of a cell.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ndferry import _codec, _dtype, _memory
from ndferry._errors import DTypeError, InvalidError, LimitError, ProtocolError, UnsupportedError
from ndferry._wire import MAX_ARRAY_BYTES, MAX_AXES, MAX_CELL, MAX_CELLS, MIB, Bytes

Array = npt.NDArray[Any]

TARGET: Final = 4 * MIB
"""Bytes of a cell of the default grid, at most (§5.6)."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How an array lies in memory and how it is cut into cells. Immutable; made by `make_layout`.

    Attributes
    ----------
    dtype, item
        NumPy's dtype, and the one of cells (`ndferry._dtype`). `same` tells that their elements have the same bytes.
    order
        The axes, outermost in memory first; the *stored* axes are the axes in this order.
    cell
        Shape of a cell, axes in the order of `shape`.
    grid
        Number of cells along each stored axis.
    cut
        The stored axis along which a cell is a run of memory, or None when a cell is no run.
    """

    dtype: np.dtype[Any]
    item: np.dtype[Any]
    same: bool
    shape: tuple[int, ...]
    order: tuple[int, ...]
    cell: tuple[int, ...]
    stored_shape: tuple[int, ...]
    stored_cell: tuple[int, ...]
    grid: tuple[int, ...]
    cells: int
    cell_bytes: int
    nbytes: int
    cut: int | None

    def __hash__(self) -> int:
        return hash((self.shape, self.cell, self.order))  # of all fields would take longer than what is looked up

    def run(self, cell: int) -> tuple[int, int]:
        """Offset and length in bytes of the run of memory that `cell` covers; the rest of it is padding."""
        if self.cut is None:
            raise AssertionError("ndferry: a cell of this grid is not a run")
        if not self.shape:
            return 0, self.cell_bytes
        outer, j = divmod(cell, self.grid[self.cut])
        n, c = self.stored_shape[self.cut], self.stored_cell[self.cut]
        slab = self.cell_bytes // c
        return (outer * n + j * c) * slab, min(c, n - j * c) * slab

    def region(self, cell: int) -> list[slice]:
        """The part of the stored array that `cell` covers, cut at the array's edge."""
        slices = []
        for count, length, size in zip(
            reversed(self.grid), reversed(self.stored_shape), reversed(self.stored_cell), strict=True
        ):
            cell, position = divmod(cell, count)
            slices.append(slice(position * size, min(length, (position + 1) * size)))
        return slices[::-1]

    def empty(self) -> Array:
        """A new array of this layout, with whatever bytes it has."""
        if self.dtype.kind in "biufc" and self.same:
            if self.nbytes >= _memory.LEAST:
                flat = _memory.empty(self.nbytes).view(self.dtype)
                return flat.reshape(self.stored_shape).transpose(invert(self.order))
            return np.empty(self.stored_shape, self.dtype).transpose(invert(self.order))
        make = np.empty if self.same else np.zeros
        # NumPy makes S1 of S0 and the native m8 of any m8 without a unit, but not inside of a structure.
        stored: Array = make(self.stored_shape, np.dtype([("", self.dtype)]))["f0"]
        return stored.transpose(invert(self.order))

    def gather(self, stored: Array, cell: int, buffer: Bytes) -> None:
        """Copy `cell` of a view (`as_items`) into `buffer`, with zero bytes where it reaches over the edge."""
        slices = self.region(cell)
        target = buffer.view(self.item).reshape(self.stored_cell)
        part = tuple(slice(0, s.stop - s.start) for s in slices)
        if any(p.stop != size for p, size in zip(part, self.stored_cell, strict=True)):
            buffer[:] = 0
        where: tuple[Any, ...] = (*slices, ...)  # with ... a 0-d array is no scalar
        target[part] = stored[where]

    def scatter(self, stored: Array, cell: int, buffer: Bytes) -> bool:
        """Copy a cell from `buffer` into the stored view. False when its padding is not zero."""
        slices = self.region(cell)
        source = buffer.view(self.item).reshape(self.stored_cell)
        part = tuple(slice(0, s.stop - s.start) for s in slices)
        to: tuple[Any, ...] = (*slices, ...)  # with ... a 0-d array is no scalar
        of: tuple[Any, ...] = (*part, ...)
        stored[to] = source[of]
        if all(p.stop == size for p, size in zip(part, self.stored_cell, strict=True)):
            return True
        return not any(
            np.ascontiguousarray(source[(slice(None),) * axis + (slice(p.stop, None),)])
            .reshape(-1)
            .view(np.uint8)
            .any()
            for axis, p in enumerate(part)
        )

    def root(self, leaves: bytes) -> str:
        """The `sha256` root (§5.7) over the 32-byte leaves of all cells in order."""
        text = "\n".join((_dtype.descr(self.item), *(_commas(v) for v in (self.shape, self.cell, self.order))))
        return hashlib.sha256(b"ndferry root 1\n" + text.encode() + b"\n" + leaves).hexdigest()


def _commas(values: tuple[int, ...]) -> str:
    return ",".join(map(str, values))


def invert(order: tuple[int, ...]) -> tuple[int, ...]:
    """The inverse of a permutation of axes."""
    inverse = [0] * len(order)
    for position, axis in enumerate(order):
        inverse[axis] = position
    return tuple(inverse)


def default_cell(
    shape: tuple[int, ...], itemsize: int, order: tuple[int, ...], target: int = TARGET
) -> tuple[int, ...]:
    """Shape of a cell of the default grid (§5.6).

    Examples
    --------
    >>> default_cell((1000, 1000), 8, (0, 1))
    (500, 1000)
    >>> default_cell((3, 2_000_000), 4, (0, 1))
    (1, 1000000)
    """
    lengths = [max(1, shape[axis]) for axis in order]
    cell = [1] * len(order)
    slab = itemsize * math.prod(lengths)
    for position, length in enumerate(lengths):
        slab //= length
        if slab <= target:
            per_cell = max(1, target // slab)
            pieces = -(-length // per_cell)
            cell[position] = -(-length // pieces)
            cell[position + 1 :] = lengths[position + 1 :]
            break
    return tuple(cell[position] for position in invert(order))


@functools.lru_cache(maxsize=256)
def make_layout(
    text: str, shape: tuple[int, ...], order: tuple[int, ...], cell: tuple[int, ...] | None = None
) -> Layout:
    """The layout of an array of the dtype of `_dtype.text_of`; `cell` None means the default grid.

    Raises
    ------
    InvalidError
        `cell` does not fit `shape`.
    LimitError
        Over a limit of §8.
    """
    dtype = _dtype.from_text(text)
    item = _dtype.stored_of(dtype)
    if len(shape) > MAX_AXES:
        raise LimitError(f"array: {len(shape)} axes, {MAX_AXES} are allowed (§8)")
    nbytes = item.itemsize * math.prod(shape)
    if item.itemsize * math.prod(max(1, n) for n in shape) > MAX_ARRAY_BYTES:
        raise LimitError(f"array: shape {shape} of {text[:80]} has over 2^62 bytes (§8)")
    if cell is None:
        cell = default_cell(shape, item.itemsize, order)
    elif len(cell) != len(shape) or any(c < 1 for c in cell):
        raise InvalidError(f"array: chunks {cell} do not fit shape {shape}: one length of at least 1 for each axis")
    cell_bytes = item.itemsize * math.prod(cell)
    if cell_bytes > MAX_CELL:
        raise LimitError(f"array: a chunk of {cell} has {cell_bytes} bytes, 16 MiB are allowed (§8)")
    stored_shape = tuple(shape[axis] for axis in order)
    stored_cell = tuple(cell[axis] for axis in order)
    grid = tuple(-(-n // c) for n, c in zip(stored_shape, stored_cell, strict=True))
    cells = math.prod(grid)
    if cells > MAX_CELLS:
        raise LimitError(f"array: {cells} chunks, 2^32 - 1 are allowed: use larger ones (§8)")
    return Layout(
        dtype, item, _dtype.same_bytes(dtype, item), shape, order, cell, stored_shape, stored_cell, grid, cells,
        cell_bytes, nbytes, _cut(stored_shape, stored_cell),
    )  # fmt: skip


def _cut(shape: tuple[int, ...], cell: tuple[int, ...]) -> int | None:
    """The axis before which cells have length 1 and behind which they have all."""
    if not shape:
        return 0
    cut = next((axis for axis, length in enumerate(cell) if length != 1), len(cell) - 1)
    return cut if shape[cut + 1 :] == cell[cut + 1 :] else None


def as_array(value: npt.ArrayLike) -> Array:
    """The ndarray that is to be sent, without a copy where `value` is one.

    Raises
    ------
    DTypeError
        A masked array, or a dtype that is not carried.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise DTypeError("array: a masked array has two parts: send .filled(value), or .data and .mask as two arrays")
    array = np.asarray(value)
    _dtype.check(array.dtype)
    return array


def memory_order(array: Array) -> tuple[int, ...]:
    """The axes, outermost in memory first. C order wins where several fit; axes of stride 0 come first."""
    axes = range(array.ndim)
    if array.flags.c_contiguous:
        return tuple(axes)
    if array.flags.f_contiguous:
        return tuple(reversed(axes))
    strides = array.strides
    wide = [axis for axis in axes if array.shape[axis] != 1]
    ranked = iter(sorted(wide, key=lambda axis: (strides[axis] != 0, -abs(strides[axis]))))
    return tuple(next(ranked) if array.shape[axis] != 1 else axis for axis in axes)


def as_items(stored: Array, layout: Layout) -> Array:
    """The view whose elements can be assigned from and to elements of cells."""
    if layout.dtype.itemsize == 0:
        return np.zeros(stored.shape, layout.item)
    if layout.item.kind == "V" and layout.item.names is None and layout.dtype.names is not None:
        return stored.view(layout.item)
    return stored


def flat_bytes(stored: Array) -> Bytes | None:
    """The memory of a C-contiguous array as flat bytes, or None when it is not contiguous."""
    if not stored.flags.c_contiguous:
        return None
    return stored.reshape(-1).view(np.uint8)


# ---- Zarr v3 metadata


@functools.lru_cache(maxsize=256)
def array_json(
    layout: Layout, codec: str = "", dims: tuple[str | None, ...] | None = None, fill: str | None = None
) -> str:
    """The members ``array`` and ``numpy`` of a PUT, without braces. `codec` is the JSON of the chunk codec."""
    codecs: list[dict[str, Any]] = []
    if layout.order != tuple(range(len(layout.order))):
        codecs.append({"name": "transpose", "configuration": {"order": layout.order}})
    endian = _dtype.zarr_endian(layout.item)
    codecs.append({"name": "bytes"} | ({"configuration": {"endian": endian}} if endian else {}))
    if codec:
        codecs.append(json.loads(codec))
    metadata = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": layout.shape,
        "data_type": _dtype.zarr_type(layout.item),
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": layout.cell}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": _dtype.zero_fill(layout.item) if fill is None else json.loads(fill),
        "codecs": codecs,
    }
    if dims is not None:
        metadata["dimension_names"] = dims
    return json.dumps({"array": metadata, "numpy": _dtype.to_json(layout.dtype)}, separators=(",", ":"))[1:-1]


def parse_array(metadata: Any, numpy: Any) -> tuple[Layout, str]:
    """Read the members ``array`` and ``numpy`` of a PUT or META.

    Returns
    -------
    Layout, str
        The layout, and the compressor of the chunks or ``none``.

    Raises
    ------
    ProtocolError
        A member is missing or has the wrong type.
    InvalidError
        It is well formed but cannot be.
    UnsupportedError
        A data type, grid or codec that this package does not know.
    LimitError
        Over a limit of §8.
    """
    meta = _object(metadata, "array")
    if meta.get("zarr_format") != 3 or meta.get("node_type") != "array":
        raise InvalidError("array: not the metadata of a Zarr v3 array (§5.6)")
    shape = _lengths(meta.get("shape"), "shape", 0)
    name, grid = _named(meta.get("chunk_grid"), "chunk_grid")
    if name != "regular":
        raise UnsupportedError(f"array: chunk grid {name!r} is unknown; regular is known (§5.6)")
    cell = _lengths(grid.get("chunk_shape"), "chunk_shape", 1)
    order, endian, codec = _parse_codecs(meta.get("codecs"), len(shape))
    item = _dtype.parse_zarr_type(meta.get("data_type"), endian)
    dtype = item if numpy is None else _dtype.from_json(numpy)
    if numpy is not None and _dtype.stored_of(dtype) != item:
        raise InvalidError(f"array: numpy says {str(numpy)[:80]!r}, the Zarr metadata {item!r} (§5.1)")
    return make_layout(_dtype.text_of(dtype), shape, order, cell), codec


def parse_dims(metadata: dict[str, Any], ndim: int) -> tuple[str | None, ...]:
    """The member ``dimension_names``; None where an axis has no name."""
    names = metadata.get("dimension_names") or [None] * ndim
    if not isinstance(names, list) or len(names) != ndim or not all(n is None or isinstance(n, str) for n in names):
        raise ProtocolError("array: dimension_names is not one name or null for each axis (§5.6)")
    return tuple(names)


def _parse_codecs(value: Any, ndim: int) -> tuple[tuple[int, ...], str | None, str]:
    if not isinstance(value, list) or not value:
        raise ProtocolError("array: codecs is not a list of at least one (§5.6)")
    codecs = [_named(codec, "codec") for codec in value]
    order = tuple(range(ndim))
    if codecs[0][0] == "transpose":
        order = _lengths(codecs.pop(0)[1].get("order"), "order", 0)
        if sorted(order) != list(range(ndim)):
            raise InvalidError(f"array: order {order} is no permutation of {ndim} axes (§5.6)")
    if not codecs or codecs[0][0] != "bytes":
        raise UnsupportedError("array: codecs are not transpose, bytes and a chunk codec (§5.6)")
    endian = codecs[0][1].get("endian")
    if endian is not None and not isinstance(endian, str):
        raise ProtocolError("array: endian is not a string (§5.6)")
    if len(codecs) > 2:
        raise UnsupportedError(f"array: {len(codecs)} codecs; one chunk codec is known (§5.6)")
    if len(codecs) == 1:
        return order, endian, "none"
    if codecs[1][0] != "blosc":
        raise UnsupportedError(f"array: codec {codecs[1][0][:80]!r} is unknown; blosc is known (§5.6)")
    return order, endian, _codec.parse(codecs[1][1]).cname


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ProtocolError(f"array: {what} is not an object (§5.6)")
    return value


def _named(value: Any, what: str) -> tuple[str, dict[str, Any]]:
    """Name and configuration of a Zarr extension object, which may be short for its name."""
    if isinstance(value, str):
        return value, {}
    name = _object(value, what).get("name")
    if not isinstance(name, str):
        raise ProtocolError(f"array: {what} has no name (§5.6)")
    return name, _object(value.get("configuration", {}), f"configuration of {what}")


def _lengths(value: Any, what: str, least: int) -> tuple[int, ...]:
    if not isinstance(value, list) or any(type(n) is not int for n in value):
        raise ProtocolError(f"array: {what} is not a list of integers (§5.6)")
    if len(value) > MAX_AXES:
        raise LimitError(f"array: {what} has {len(value)} axes, {MAX_AXES} are allowed (§8)")
    if any(not least <= n < 1 << 63 for n in value):
        raise InvalidError(f"array: {what} {value} has a length out of range (§5.6)")
    return tuple(value)
