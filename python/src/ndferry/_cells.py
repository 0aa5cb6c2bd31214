"""The pieces of memory that a cell is sent from and received into."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

import numpy as np

from ndferry import _array
from ndferry._array import Array, Layout
from ndferry._errors import InvalidError
from ndferry._wire import PIECE, Bytes

_ZEROS: Final[Bytes] = np.zeros(PIECE, np.uint8)
_ZEROS.flags.writeable = False


class Source:
    """The pieces of each cell of an array that is sent."""

    def __init__(self, array: Array, layout: Layout) -> None:
        self._layout = layout
        self._stored = array.transpose(layout.order)
        flat = _array.flat_bytes(self._stored) if layout.cut is not None else None
        self.direct = flat is not None
        self._bytes = np.empty(layout.cell_bytes, np.uint8) if flat is None else flat

    def pieces(self, cell: int) -> Generator[Bytes, None, None]:
        """Runs of at most PIECE bytes that are the cell. Until the next call they may be read."""
        layout = self._layout
        if self.direct:
            offset, length = layout.run(cell)
        else:
            layout.gather(self._stored, cell, self._bytes)
            offset, length = 0, layout.cell_bytes
        for start in range(offset, offset + length, PIECE):
            yield self._bytes[start : min(start + PIECE, offset + length)]
        for left in range(layout.cell_bytes - length, 0, -PIECE):
            yield _ZEROS[: min(PIECE, left)]

    def whole(self, cell: int) -> Bytes:
        """The cell as one run: of the array's memory, or of new memory."""
        layout = self._layout
        if self.direct:
            offset, length = layout.run(cell)
            if length == layout.cell_bytes:
                return self._bytes[offset : offset + length]
        raw = np.empty(layout.cell_bytes, np.uint8)
        if self.direct:
            raw[:length] = self._bytes[offset : offset + length]
            raw[length:] = 0
        else:
            layout.gather(self._stored, cell, raw)
        return raw


class Target:
    """Where each cell of an array that is received goes."""

    def __init__(self, array: Array, layout: Layout, digest: bool) -> None:
        self.layout = layout
        self.seen = np.zeros(layout.cells, np.bool_)  # the system gives pages of zeros only when they are touched
        self.leaves = np.zeros((layout.cells, 32), np.uint8) if digest else None
        self._stored = array.transpose(layout.order)
        flat = _array.flat_bytes(self._stored) if layout.cut is not None else None
        self._direct = flat is not None
        self._bytes = np.empty(layout.cell_bytes, np.uint8) if flat is None else flat

    def pieces(self, cell: int) -> Generator[tuple[Bytes, bool], None, None]:
        """Runs of at most PIECE bytes to receive into, and whether each is padding that must be zero."""
        layout = self.layout
        offset, length = layout.run(cell) if self._direct else (0, layout.cell_bytes)
        for start in range(offset, offset + length, PIECE):
            yield self._bytes[start : min(start + PIECE, offset + length)], False
        for left in range(layout.cell_bytes - length, 0, -PIECE):
            yield np.empty(min(PIECE, left), np.uint8), True

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
            return self.layout.scatter(self._stored, cell, raw)
        offset, length = self.layout.run(cell)
        if length == self.layout.cell_bytes:
            return True
        self._bytes[offset : offset + length] = raw[:length]
        return not raw[length:].any()

    def finish(self, cell: int) -> bool:
        """Put a checked cell into place. False when its padding is not zero."""
        return self._direct or self.layout.scatter(self._stored, cell, self._bytes)


def check_out(out: Array, layout: Layout) -> Array:
    if out.dtype.str != layout.dtype.str or out.shape != layout.shape:
        raise InvalidError(
            f"get: out has dtype {out.dtype.str} and shape {out.shape}, the array {layout.dtype.str} and {layout.shape}"
        )
    return out
