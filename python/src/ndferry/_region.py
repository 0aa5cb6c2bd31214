"""NumPy's indexing of an array that is elsewhere: which cells a key touches, and what goes from each to where.

A key has integers, slices with any step, at most one ``...``, and on at most one axis an array of integers or a mask.
NumPy itself says what is wrong with a key: it is tried on an array of the same shape that has no memory.
"""

from __future__ import annotations

import itertools
import operator
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from ndferry._array import Array, Layout, as_items, invert
from ndferry._cells import MAX_DAMAGES, fill_array
from ndferry._errors import ProtocolError
from ndferry._wire import PIECE, Bytes

Places: TypeAlias = "slice | npt.NDArray[np.intp]"

MAX_RANGES: Final = 2500
"""Ranges of one GET: the limit of §8, and with large numbers that of its payload."""


@dataclass(frozen=True, slots=True)
class Axis:
    """What a key takes of one axis: `indices`, cell by cell.

    Attributes
    ----------
    parts
        For each touched cell along the axis: its coordinate, the places in the result, the places in the cell.
    """

    length: int
    parts: tuple[tuple[int, Places, Places], ...]


class Selection:
    """A key applied to an array of a layout.

    Raises
    ------
    IndexError
        As NumPy's; also for what is not supported (more than one array, masks over several axes, ``None``).
    """

    def __init__(self, layout: Layout, key: Any) -> None:
        self._layout = layout
        keys = _expand(key, layout.shape)
        axes: list[Axis] = []
        kept: list[int] = []
        advanced: list[int] = []
        array_axis = None
        array_shape: tuple[int, ...] = ()
        for number, (part, length, size) in enumerate(zip(keys, layout.shape, layout.cell, strict=True)):
            if isinstance(part, slice):
                kept.append(number)
                axes.append(_sliced(range(length)[part], size))
            elif isinstance(part, np.ndarray):
                advanced.append(number)
                array_axis, array_shape = number, part.shape
                axes.append(_listed(part.reshape(-1), length, size))
            else:
                advanced.append(number)
                axes.append(_sliced(range(part, part + 1), size))
        self.axes = tuple(axes)
        self._dims = [axes[number].length for number in range(len(axes))]
        # Integers beside an array are arrays, too, for NumPy: where they are not all together, their axes come first.
        self._final: tuple[int, ...]
        if array_axis is None:
            self._final = tuple(self._dims[number] for number in kept)
            self._first = False
        else:
            together = advanced == list(range(advanced[0], advanced[0] + len(advanced)))
            self._first = not together
            before = [n for n in kept if together and n < advanced[0]]
            after = [n for n in kept if n not in before]
            self._final = (
                *(self._dims[n] for n in before), *array_shape, *(self._dims[n] for n in after),
            )  # fmt: skip
        self._array_axis = array_axis

    def empty(self) -> Array:
        """Memory for the elements, one axis for each of the array's."""
        whole = self._layout
        make = np.empty if whole.same else np.zeros
        result: Array = make(tuple(self._dims), np.dtype([("", whole.dtype)]))["f0"]
        return result

    def shaped(self, result: Array) -> Array:
        """`empty`, filled, in the shape that NumPy gives it."""
        if self._first and self._array_axis is not None:
            result = np.moveaxis(result, self._array_axis, 0)
        return result.reshape(self._final)

    def ranges(self) -> Iterator[list[tuple[int, int]]]:
        """The cells that are touched, as lists of (first, count), each for one GET."""
        runs: list[tuple[int, int]] = []
        for cell in self.cells():
            if runs and sum(runs[-1]) == cell:
                runs[-1] = (runs[-1][0], runs[-1][1] + 1)
                continue
            if len(runs) == MAX_RANGES:
                yield runs
                runs = []
            runs.append((cell, 1))
        if runs:
            yield runs

    def cells(self) -> Iterator[int]:
        """The numbers of the cells that are touched, in order."""
        layout = self._layout
        stored = [[part[0] for part in self.axes[axis].parts] for axis in layout.order]
        for at in itertools.product(*stored):
            number = 0
            for place, count in zip(at, layout.grid, strict=True):
                number = number * count + place
            yield number

    def place(self, cell: int) -> tuple[tuple[Places, ...], tuple[Places, ...]]:
        """Where the elements of a touched cell go in the result, and where they are in the (logical) cell."""
        at = []
        for count in reversed(self._layout.grid):
            cell, place = divmod(cell, count)
            at.append(place)
        stored = at[::-1]
        logical = [stored[position] for position in invert(self._layout.order)]
        parts = [
            next(part for part in axis.parts if part[0] == place) if len(axis.parts) < 8 else _find(axis, place)
            for axis, place in zip(self.axes, logical, strict=True)
        ]
        return tuple(part[1] for part in parts), tuple(part[2] for part in parts)


def _find(axis: Axis, place: int) -> tuple[int, Places, Places]:
    low, high = 0, len(axis.parts) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if axis.parts[middle][0] < place else (low, middle)
    return axis.parts[low]


def _expand(key: Any, shape: tuple[int, ...]) -> list[Any]:
    """One slice, integer or array of integers for each axis."""
    keys: list[Any] = []
    arrays = 0
    for part in key if isinstance(key, tuple) else (key,):
        if part is None or isinstance(part, bool | np.bool_):
            raise IndexError(f"{part!r} is not supported here: index what open(...)[...] returns")
        if isinstance(part, slice) or part is Ellipsis:
            keys.append(part)
            continue
        try:
            keys.append(operator.index(part))
            continue
        except TypeError:
            if not isinstance(part, list | tuple | np.ndarray):
                keys.append(part)  # NumPy says what is wrong with it
                continue
            array = np.asarray(part)
        if array.size == 0 and array.dtype == np.float64:
            array = array.astype(np.intp)  # as NumPy takes an empty list
        if array.dtype == np.bool_ and array.ndim != 1:
            raise IndexError("a mask over several axes is not supported here: index what open(...)[...] returns")
        arrays += 1
        keys.append(array)
    if arrays > 1:
        raise IndexError("arrays on several axes are not supported here: index what open(...)[...] returns")
    _try(keys, shape)
    if any(part is Ellipsis for part in keys):
        dots = next(number for number, part in enumerate(keys) if part is Ellipsis)
        keys[dots : dots + 1] = [slice(None)] * (len(shape) - len(keys) + 1)
    keys += [slice(None)] * (len(shape) - len(keys))
    for axis, part in enumerate(keys):
        if isinstance(part, np.ndarray):
            indices = np.flatnonzero(part) if part.dtype == np.bool_ else part.astype(np.intp)
            keys[axis] = np.where(indices < 0, indices + shape[axis], indices)
        elif not isinstance(part, slice):
            keys[axis] = part + shape[axis] if part < 0 else part
    return keys


def _try(keys: list[Any], shape: tuple[int, ...]) -> None:
    probe = np.broadcast_to(np.False_, shape)
    probe[tuple(slice(0, 1) if isinstance(part, slice) else part for part in keys)]
    for part in keys:
        if isinstance(part, slice):
            part.indices(1)  # raises what NumPy does for bounds that are no integers, or a step of 0


def _sliced(indices: range, size: int) -> Axis:
    if not indices:
        return Axis(0, ())
    lowest, highest = min(indices[0], indices[-1]) // size, max(indices[0], indices[-1]) // size
    if abs(indices.step) >= size:
        touched = sorted({index // size for index in indices})
    else:
        touched = list(range(lowest, highest + 1))
    parts: list[tuple[int, Places, Places]] = []
    start, step = indices[0], indices.step
    for cell in touched:
        low, high = cell * size, (cell + 1) * size
        if step > 0:
            first, last = max(0, -((start - low) // step)), (high - 1 - start) // step
        else:
            first, last = max(0, -((high - 1 - start) // -step)), (start - low) // -step
        last = min(last, len(indices) - 1)
        begin, end = start + first * step - low, start + last * step - low
        stop: int | None = end + (1 if step > 0 else -1)
        if stop is not None and stop < 0:
            stop = None
        parts.append((cell, slice(first, last + 1), slice(begin, stop, step)))
    return Axis(len(indices), tuple(parts))


def _listed(indices: npt.NDArray[np.intp], length: int, size: int) -> Axis:
    cells = indices // size
    order = np.argsort(cells, kind="stable")
    edges = np.flatnonzero(np.diff(cells[order])) + 1
    parts: list[tuple[int, Places, Places]] = [
        (int(cells[places[0]]), places, indices[places] % size) for places in np.split(order, edges) if places.size
    ]
    return Axis(int(indices.size), tuple(parts))


class Part:
    """The target of a GET of some cells: what `Selection` takes of each. See `ndferry._cells.Target`."""

    def __init__(self, selection: Selection, layout: Layout, result: Array, fill: Any) -> None:
        self._fill = fill
        self.layout = layout
        self.leaves = None
        self._selection = selection
        self._result = as_items(result, layout)
        self._bytes = np.empty(layout.cell_bytes, np.uint8)
        self._items = self._bytes.view(layout.item).reshape(layout.stored_cell).transpose(invert(layout.order))
        self._wanted: set[int] = set()
        self._damages: Counter[int] = Counter()
        self._late: set[int] = set()
        self.crowded = False

    def want(self, ranges: list[tuple[int, int]]) -> None:
        """These cells are to come now."""
        self._wanted = {cell for first, count in ranges for cell in range(first, first + count)}

    def expects(self, cell: int) -> bool:
        """Whether the cell was asked for and did not come yet; it has, then."""
        if cell not in self._wanted:
            return False
        self._wanted.remove(cell)
        return True

    def keep(self, cell: int) -> None:
        """Nothing: what a read that broke has got is asked for again."""

    def again(self, cell: int | None) -> bool:
        """Whether a cell that came damaged may be asked for again; `late` has it, then."""
        if cell is None:
            return False
        self._damages[cell] += 1
        self._late.add(cell)
        return self._damages[cell] <= MAX_DAMAGES

    def awaits(self, cell: int) -> bool:
        """False: no cell that came repeats another."""
        return False

    def late(self) -> list[tuple[int, int]]:
        """The cells that came damaged since this was asked last, each as a run."""
        cells, self._late = sorted(self._late), set()
        return [(cell, 1) for cell in cells]

    @property
    def missing(self) -> int:
        """Cells that are still to come."""
        return len(self._wanted)

    def pieces(self, cell: int) -> Iterator[tuple[npt.NDArray[np.uint8], bool]]:
        """The buffer, in pieces."""
        for start in range(0, len(self._bytes), PIECE):
            yield self._bytes[start : start + PIECE], False

    def repeat(self, cell: int, source: int | None) -> None:
        """A cell of the fill value."""
        if source is not None:
            raise ProtocolError("wire: ALIAS in the answer to a GET that does not take it (§5.8)")
        self._items[...] = fill_array(self.layout, self._fill)
        self.finish(cell)

    def room(self, cell: int) -> Bytes:
        """Memory for a whole cell; for `put`."""
        return np.empty(self.layout.cell_bytes, np.uint8)

    def put(self, cell: int, raw: Bytes) -> bool:
        """Copy what is wanted of a cell that lies in its `room`. Any thread may call it."""
        layout = self.layout
        self._copy(cell, raw.view(layout.item).reshape(layout.stored_cell).transpose(invert(layout.order)))
        return True

    def finish(self, cell: int) -> bool:
        """Copy what is wanted of a checked cell."""
        self._copy(cell, self._items)
        return True

    def _copy(self, cell: int, items: Array) -> None:
        to, of = self._selection.place(cell)
        self._result[(*to, ...)] = items[(*of, ...)]
