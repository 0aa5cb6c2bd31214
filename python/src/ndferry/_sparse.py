"""Cells that need not travel (spec/WIRE.md §5.8): those of a constant array, and repeats in a broadcast one."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from ndferry import _array, _dtype
from ndferry._array import Array, Layout
from ndferry._wire import KIB, MIB

LEAST: Final = 64 * KIB
"""Smaller arrays are always sent whole: then they can be mapped."""

_BLOCK: Final = MIB


@dataclass(frozen=True, slots=True)
class Step:
    """The `count` cells from `first` on are sent (`source` None), or repeat those from `source` on."""

    first: int
    count: int
    source: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """How the cells of an array are sent.

    Attributes
    ----------
    fill
        JSON of the ``fill_value`` that is the whole array, or None.
    steps
        All cells, each once; none when there is a `fill`.
    """

    fill: str | None
    steps: tuple[Step, ...]

    @property
    def sparse(self) -> bool:
        """There are cells that are not sent."""
        return self.fill is not None or any(step.source is not None for step in self.steps)


def repeated_axes(array: Array) -> tuple[int, ...]:
    """The axes along which all elements are the same memory."""
    return tuple(n for n, (length, stride) in enumerate(zip(array.shape, array.strides, strict=True))
                 if length > 1 and stride == 0)  # fmt: skip


def broadcast_cell(array: Array, order: tuple[int, ...]) -> tuple[int, ...] | None:
    """A cell for an array with repeated axes, which are outermost in `order`, such that repeats are whole cells.

    None when the default grid will do.
    """
    repeated = repeated_axes(array)
    item = _dtype.stored_of(array.dtype).itemsize
    if not repeated or item * math.prod(n for axis, n in enumerate(array.shape) if axis not in repeated) < LEAST:
        return None
    inner = tuple(1 if axis in repeated else n for axis, n in enumerate(array.shape))
    return _array.default_cell(inner, item, order)


def plan(array: Array, layout: Layout, features: frozenset[str]) -> Plan:
    """How to send `array` to a server that has `features`."""
    whole = Plan(None, (Step(0, layout.cells),) if layout.cells else ())
    if layout.nbytes < LEAST:
        return whole
    if "fill" in features and _constant(array, layout):
        fill = _dtype.fill_of(layout.item, _first(array, layout))
        if fill is not None:
            return Plan(json.dumps(fill, ensure_ascii=False, separators=(",", ":")), ())
    repeated = repeated_axes(array)
    if "alias" in features and repeated and set(layout.order[: len(repeated)]) == set(repeated):
        return Plan(None, tuple(_repeats(layout, len(repeated))))
    return whole


def _first(array: Array, layout: Layout) -> bytes:
    """The first element as it is stored."""
    one = np.zeros((), layout.item)
    one[...] = _array.as_items(array[(slice(0, 1),) * array.ndim], layout).reshape(())
    return one.tobytes()


def _constant(array: Array, layout: Layout) -> bool:
    if len(repeated_axes(array)) == sum(length > 1 for length in array.shape):
        return True
    size = layout.item.itemsize
    flat = _array.flat_bytes(array.transpose(layout.order)) if array.dtype.itemsize else None
    if flat is None:
        return False
    if not layout.same:
        return _constant_packed(flat.view(array.dtype), layout)
    step = max(1, _BLOCK // size) * size
    if not np.array_equal(flat[:size], flat[-size:]):
        return False
    return all(
        np.array_equal(flat[at + size : at + step + size], flat[at : min(at + step, len(flat) - size)])
        for at in range(0, len(flat) - size, step)
    )


def _constant_packed(flat: Array, layout: Layout) -> bool:
    """`_constant` of structures, whose bytes between fields do not count."""
    step = max(1, _BLOCK // layout.item.itemsize)
    first = np.zeros(1, layout.item)
    first[:] = _array.as_items(flat[:1], layout)
    for part in (flat[-1:], *(flat[at : at + step] for at in range(0, len(flat), step))):
        packed = np.zeros(len(part), layout.item)
        packed[:] = _array.as_items(part, layout)
        if (packed.view(np.uint8).reshape(len(part), -1) != first.view(np.uint8)).any():
            return False
    return True


def _repeats(layout: Layout, axes: int) -> Iterator[Step]:
    """Cells of a grid whose first `axes` stored axes repeat: what is cut at the edge is like what is cut as well."""
    inner = math.prod(layout.grid[axes:])
    cut = [length % size != 0 for length, size in zip(layout.stored_shape, layout.stored_cell, strict=True)][:axes]
    last = [count - 1 for count in layout.grid[:axes]]
    kinds = [
        tuple(c and p == e for c, p, e in zip(cut, at, last, strict=True))
        for at in itertools.product(*(range(count) for count in layout.grid[:axes]))
    ]
    seen: dict[tuple[bool, ...], int] = {}
    run: list[int] = []  # first, count, source, in steps of `inner` cells
    for number, kind in enumerate(kinds):
        if run and kind in seen and kinds[run[2] + run[1]] == kind:
            run[1] += 1
            continue
        if run:
            yield Step(run[0] * inner, run[1] * inner, run[2] * inner)
            run = []
        if kind in seen:
            run = [number, 1, seen[kind]]
        else:
            seen[kind] = number
            yield Step(number * inner, inner)
    if run:
        yield Step(run[0] * inner, run[1] * inner, run[2] * inner)
