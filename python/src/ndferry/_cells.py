"""The pieces of memory that a cell is sent from and received into."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Generator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ndferry import _array, _dtype
from ndferry._array import Array, Layout
from ndferry._errors import InvalidError, ProtocolError
from ndferry._wire import KIB, PIECE, SEND_PIECE, Bytes

MAX_DAMAGES: Final = 8
"""Times that one cell is asked for again (spec/WIRE.md §5.2)."""

ONLY: Final = 64 * KIB
"""Bytes of the largest array that is received without the machinery of many cells."""

_ZEROS: Final[Bytes] = np.zeros(SEND_PIECE, np.uint8)
_ZEROS.flags.writeable = False


class Source:
    """The pieces of each cell of an array that is sent."""

    def __init__(self, array: Array, layout: Layout) -> None:
        self.layout = layout
        self._stored = array.transpose(layout.order)
        flat = _array.flat_bytes(self._stored) if layout.cut is not None and layout.same else None
        self._items = _array.as_items(self._stored, layout)
        self.direct = flat is not None
        self._bytes = np.empty(layout.cell_bytes, np.uint8) if flat is None else flat

    def pieces(self, cell: int) -> Generator[Bytes, None, None]:
        """Runs of at most SEND_PIECE bytes that are the cell. Until the next call they may be read."""
        layout = self.layout
        if self.direct:
            offset, length = layout.run(cell)
        else:
            layout.gather(self._items, cell, self._bytes)
            offset, length = 0, layout.cell_bytes
        for start in range(offset, offset + length, SEND_PIECE):
            yield self._bytes[start : min(start + SEND_PIECE, offset + length)]
        for left in range(layout.cell_bytes - length, 0, -SEND_PIECE):
            yield _ZEROS[: min(SEND_PIECE, left)]

    def leaves_of_fill(self) -> bytes:
        """The leaves of all cells of a constant array."""
        known: dict[tuple[int, ...], bytes] = {}
        leaves = bytearray()
        for cell in range(self.layout.cells):
            part = tuple(s.stop - s.start for s in self.layout.region(cell))
            if part not in known:
                known[part] = hashlib.sha256(b"".join(map(bytes, self.pieces(cell)))).digest()
            leaves += known[part]
        return bytes(leaves)

    def whole(self, cell: int) -> Bytes:
        """The cell as one run: of the array's memory, or of new memory."""
        layout = self.layout
        if self.direct:
            offset, length = layout.run(cell)
            if length == layout.cell_bytes:
                return self._bytes[offset : offset + length]
        raw = np.empty(layout.cell_bytes, np.uint8)
        if self.direct:
            raw[:length] = self._bytes[offset : offset + length]
            raw[length:] = 0
        else:
            layout.gather(self._items, cell, raw)
        return raw


class Target:
    """Where each cell of an array that is received goes."""

    def __init__(self, array: Array, layout: Layout, digest: bool, fill: Any) -> None:
        self._fill = fill
        self._known: dict[tuple[int, ...], bytes] = {}  # leaves of cells of the fill value, by their shapes
        self.layout = layout
        self.seen = np.zeros(layout.cells, np.bool_)  # the system gives pages of zeros only when they are touched
        self._kept = np.zeros(layout.cells, np.bool_)
        self.kept = 0
        self.crowded = False
        self._damages: Counter[int] = Counter()
        self.leaves = np.zeros((layout.cells, 32), np.uint8) if digest else None
        self._stored = array.transpose(layout.order)
        flat = _array.flat_bytes(self._stored) if layout.cut is not None and layout.same else None
        self._items = _array.as_items(self._stored, layout)
        self._direct = flat is not None
        self._bytes = np.empty(layout.cell_bytes, np.uint8) if flat is None else flat

    def only(self) -> Bytes | None:
        """The memory of an array that is one small cell without a digest of its own; None for any other."""
        size = self.layout.cell_bytes
        small = self.layout.cells == 1 and len(self._bytes) == size <= ONLY
        return self._bytes if small and self._direct and self.leaves is None else None

    def share(self) -> None:
        """Several connections receive from now on: each cell gets memory of its own, where it has none in the array."""
        self.crowded = not self._direct

    def expects(self, cell: int) -> bool:
        """Whether the cell is one of the array's that did not come yet; it has, then."""
        if cell >= self.layout.cells or self.seen[cell]:
            return False
        self.seen[cell] = True
        return True

    def keep(self, cell: int) -> None:
        """The cell is here and was right: it need not come again. Any thread may call it."""
        self._kept[cell] = True
        self.kept += 1

    def again(self, cell: int | None) -> bool:
        """Whether a cell that came damaged, which is not kept, may be asked for again."""
        if cell is None:
            return False
        self._damages[cell] += 1
        return self._damages[cell] <= MAX_DAMAGES

    def awaits(self, cell: int) -> bool:
        """Whether the cell came damaged, or repeats one that did."""
        return bool(self.seen[cell] and not self._kept[cell])

    def missing(self) -> list[tuple[int, int]]:
        """Runs of the cells that are not kept, which are expected from now on."""
        if self._kept.all():
            return []
        self.kept = int(np.count_nonzero(self._kept))
        self.seen[:] = self._kept
        return runs_of_false(self._kept)

    def pieces(self, cell: int) -> Generator[tuple[Bytes, bool], None, None]:
        """Runs of at most PIECE bytes to receive into, and whether each is padding that must be zero."""
        layout = self.layout
        offset, length = layout.run(cell) if self._direct else (0, layout.cell_bytes)
        for start in range(offset, offset + length, PIECE):
            yield self._bytes[start : min(start + PIECE, offset + length)], False
        for left in range(layout.cell_bytes - length, 0, -PIECE):
            yield np.empty(min(PIECE, left), np.uint8), True

    def repeat(self, cell: int, source: int | None) -> None:
        """Fill `cell` with what `source` has, or with the fill value when it is None."""
        layout = self.layout
        region = layout.region(cell)
        to: tuple[Any, ...] = (*region, ...)
        part = tuple(s.stop - s.start for s in region)
        if source is not None:
            of = layout.region(source)
            if not self.seen[source] or part != tuple(s.stop - s.start for s in of):
                raise ProtocolError(f"wire: ALIAS of cell {cell} to {source}, which is not alike (§5.8)")
            where: tuple[Any, ...] = (*of, ...)
            self._items[to] = self._items[where]
            if self.leaves is not None:
                self.leaves[cell] = self.leaves[source]
            return
        self._items[to] = fill_array(layout, self._fill)
        if self.leaves is not None:
            if part not in self._known:
                buffer = np.empty(layout.cell_bytes, np.uint8)
                layout.gather(self._items, cell, buffer)
                self._known[part] = hashlib.sha256(buffer).digest()
            self.leaves[cell] = np.frombuffer(self._known[part], np.uint8)

    def room(self, cell: int) -> Bytes:
        """Memory for the whole cell: the array's own where it has all of it, else new; for `put`."""
        if self._direct:
            offset, length = self.layout.run(cell)
            if length == self.layout.cell_bytes:
                return self._bytes[offset : offset + length]
        return np.empty(self.layout.cell_bytes, np.uint8)

    def put(self, cell: int, raw: Bytes) -> bool:
        """Put a cell that lies in its `room` into place. False when its padding is not zero."""
        if not self._direct:
            return self.layout.scatter(self._items, cell, raw)
        offset, length = self.layout.run(cell)
        if length == self.layout.cell_bytes:
            return True
        self._bytes[offset : offset + length] = raw[:length]
        return not raw[length:].any()

    def finish(self, cell: int) -> bool:
        """Put a checked cell into place. False when its padding is not zero."""
        return self._direct or self.layout.scatter(self._items, cell, self._bytes)


def runs_of_false(flags: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and count of each run of False.

    Examples
    --------
    >>> runs_of_false(np.array([False, True, False, False]))
    [(0, 1), (2, 2)]
    """
    edges = np.flatnonzero(np.diff(flags, prepend=True, append=True)).reshape(-1, 2)
    return [(int(first), int(end - first)) for first, end in edges]


def fill_array(layout: Layout, fill: Any) -> Array:
    """The fill value as a 0-d array of the cells' dtype."""
    return np.frombuffer(_dtype.fill_item(layout.item, fill), layout.item).reshape(())


def check_out(out: Array, layout: Layout) -> Array:
    if _dtype.text_of(out.dtype) != _dtype.text_of(layout.dtype) or out.shape != layout.shape:
        raise InvalidError(
            f"get: out has dtype {out.dtype} and shape {out.shape}, the array {layout.dtype} and {layout.shape}"
        )
    return out
