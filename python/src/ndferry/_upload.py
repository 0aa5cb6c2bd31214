"""A PUT: what is asked for, and what is known of it from one attempt to the next."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from ndferry import _array, _codec, _dtype, _messages, _payloads, _sparse
from ndferry._array import Array, Layout
from ndferry._cells import Source, runs_of_false
from ndferry._codec import Blosc
from ndferry._errors import ProtocolError, UnsupportedError
from ndferry._options import Options
from ndferry._receipt import Receipt
from ndferry._wire import KIB, MIB, Bytes, Header, Kind

RESUME_LEAST: Final = MIB
"""Bytes of the smallest array that is worth a round trip to ask what the server has of it."""

AT_ONCE: Final = 64 * KIB
"""Bytes of the largest array that is sent with its PUT and FINISH in one call."""

MAX_DAMAGES: Final = 8
"""Times that one cell is sent again in one attempt (§5.1)."""

DURABLE: Final = 2
"""Level of an ACK (§3)."""


class Memory(Protocol):
    """Leaves that outlive the process."""

    known: dict[int, bytes]

    def keep(self, cell: int, leaf: bytes) -> None:
        """Remember a leaf."""


class Upload:
    """An array that is to be sent, checked before anything is. For one call at a time.

    Parameters
    ----------
    kept
        Several attempts may be made: the server keeps what it has of one that broke, and the next leaves that out. An
        `id` that the user gave means so too.
    direct
        The other side is no server.

    Attributes
    ----------
    durable : int
        Cells that the server has, as it said last.
    again : list of int
        Cells that came damaged and were asked for again.
    feed : iterator of int
        While several connections send: gives each cell to one of them. None when there is one.
    confirmed : Future
        Done when FINISH may be sent; its exception ends the PUT, and the server forgets it. None: it may.
    memory : Memory
        Digests of cells that are known from elsewhere, and where others are to be kept. None: nothing is.
    like : tuple
        What others that are alike have in common with it (`ndferry._small`); None when none are.
    """

    def __init__(
        self, name: str, array: npt.ArrayLike, options: Options, *, kept: bool = False, direct: bool = False
    ) -> None:
        self.array: Array = _array.as_array(array)
        self.name = name
        _messages.check_name(name)
        self.options = options
        self.id = options.id or os.urandom(16).hex()
        self.attributes = options.attributes
        self.dims = _messages.check_dims(options.dims, self.array.ndim)
        self._order = _array.memory_order(self.array)
        self.layout: Layout = self._cut(options.cell)
        self.resume = (kept or options.id is not None) and not direct and self.layout.nbytes >= RESUME_LEAST
        self.durable = 0
        self.done: npt.NDArray[np.bool_] | None = None
        self.codec: Blosc | None = None
        self.plan: _sparse.Plan | None = None
        self.leaves: npt.NDArray[np.uint8] | None = None
        self.hashed: npt.NDArray[np.bool_] | None = None
        self.confirmed: Future[Any] | None = None
        self.memory: Memory | None = None
        self.again: list[int] = []
        self._damages: Counter[int] = Counter()
        self._why = ""
        self.feed: Iterator[int] | None = None
        self.like: tuple[Any, ...] | None = None

    def _cut(self, cell: tuple[int, ...] | None) -> Layout:
        return _array.make_layout(_dtype.text_of(self.array.dtype), self.array.shape, self._order, cell)

    def quick(self, link: float | None) -> bool:
        """`settle` takes no time that a loop would notice: it neither tries codecs nor reads all of the array."""
        if self.layout.nbytes <= 256 * KIB or self.plan is not None:
            return True
        tries = self.options.codec == "auto" and (self.options.link_rate or link) is not None
        ends = (self.array[(at,) * self.array.ndim].tobytes() for at in (0, -1))
        return not tries and next(ends) != next(ends)

    def settle(self, features: frozenset[str], codecs: tuple[str, ...], link: float | None) -> None:
        """Decide how the array is sent, at the first attempt: what is taken up must have the same description.

        Parameters
        ----------
        features, codecs
            What the other side speaks.
        link
            Bytes a second that the connection was seen to carry, or is taken for; None: it is on this machine.
        """
        if self.plan is not None:
            return
        wish = self.options.wish
        if self.options.chunks is None and not self.array.flags.forc and "alias" in features:
            cell = _sparse.broadcast_cell(self.array, self._order)
            if cell is not None:
                self.layout = self._cut(cell)
        plan = _sparse.plan(self.array, self.layout, features)
        if plan.fill is not None and wish.codec == "auto":
            self._why = "all elements are the same, and none is sent"
        else:
            self.codec, self._why = _settle(wish, self.array, self.layout, "blosc" in codecs, link)
        self.plan = plan
        if self.options.digest == "sha256":
            self.leaves = np.zeros((self.layout.cells, 32), np.uint8)
            self.hashed = np.zeros(self.layout.cells, np.bool_)
            for known, leaf in ({} if self.memory is None else self.memory.known).items():
                if known < self.layout.cells:
                    self.leaves[known], self.hashed[known] = np.frombuffer(leaf, np.uint8), True

    def request(self, *, join: bool = False) -> bytes:
        """The payload of PUT, once it is settled; `join` on other connections than the first."""
        return _payloads.put_json(
            self.name,
            self.id,
            self.layout,
            self.options.digest,
            self.attributes,
            self.options.if_absent,
            self.codec,
            self._why,
            self.dims,
            self.plan,
            relaxed=self.options.durability == "relaxed",
            resume=self.resume,
            join=join,
        )

    def at_once(self) -> Bytes | None:
        """The bytes of an array that is one small cell, sent as it lies in memory; None for any other."""
        layout, plan = self.layout, self.plan
        if (
            layout.cells != 1
            or layout.nbytes > AT_ONCE
            or layout.cell_bytes != layout.nbytes
            or self.codec is not None
            or self.leaves is not None
            or self.options.progress is not None
            or plan is None
            or plan.fill is not None
            or not (layout.same and self.array.flags.c_contiguous)
        ):
            return None
        return self.array.reshape(-1).view(np.uint8)

    def accept(self, ranges: list[list[int]]) -> None:
        """Note the cells of an ACCEPT."""
        self.done = np.zeros(self.layout.cells, np.bool_)
        for first, count in ranges:
            if first + count > self.layout.cells:
                raise ProtocolError(f"wire: ACCEPT names cell {first + count - 1} of {self.layout.cells} (§5.1)")
            self.done[first : first + count] = True
        self.durable = int(np.count_nonzero(self.done))

    def begin(self) -> None:
        """Another attempt begins."""
        self.feed = None
        self.again.clear()
        self._damages.clear()

    def missing(self, first: int, count: int) -> list[tuple[int, int]]:
        """What the server does not have of some cells, as runs of first and count."""
        if self.done is None or not self.durable:
            return [(first, count)]
        return [(first + at, n) for at, n in runs_of_false(self.done[first : first + count])]

    def acknowledged(self, header: Header) -> None:
        """Note what an ACK or a RESEND says."""
        if header.kind == Kind.ACK and header.raw == DURABLE:
            self.durable = max(self.durable, min(header.number, self.layout.cells))
        if header.kind == Kind.RESEND:
            self._damages[header.number] += 1
            if header.number >= self.layout.cells or self._damages[header.number] > MAX_DAMAGES:
                raise ProtocolError(f"wire: RESEND of cell {header.number}, once too often or of another array (§5.1)")
            self.again.append(header.number)

    def note_leaf(self, cell: int, leaf: bytes) -> None:
        """The digest of a cell. Any thread may call it, for cells of its own."""
        assert self.leaves is not None
        assert self.hashed is not None
        self.leaves[cell] = np.frombuffer(leaf, np.uint8)
        self.hashed[cell] = True
        if self.memory is not None:
            self.memory.keep(cell, leaf)

    def root(self) -> str | None:
        """The root of the digest, once all leaves are known; None with crc32c."""
        return None if self.leaves is None else self.layout.root(self.leaves.tobytes())

    def check(self, receipt: Receipt) -> Receipt:
        """Refuse a receipt that is not of this transfer."""
        if receipt.id != self.id or receipt.nbytes != self.layout.nbytes or receipt.cells != self.layout.cells:
            raise ProtocolError(f"wire: the RECEIPT of {receipt.id} is not that of this PUT, {self.id} (§5.1)")
        return receipt


def _settle(
    wish: _codec.Wish, array: Array, layout: Layout, speaks: bool, link: float | None
) -> tuple[Blosc | None, str]:
    """The codec of an array that is about to be sent, and why."""
    itemsize = layout.item.itemsize
    if wish.codec == "none":
        return None, ""
    if wish.codec != "auto":
        if not speaks:
            raise UnsupportedError("put: the other side does not decode compressed chunks: use codec='none'")
        return wish.blosc(itemsize), ""
    if not speaks:
        return None, "the other side decodes no codec"
    rate = wish.link_rate or link
    if rate is None:
        return None, _codec.LOCAL
    source = Source(array, layout)

    def sample(offset: int) -> Bytes:
        cell, start = divmod(offset, layout.cell_bytes)
        run = source.whole(cell)[start : start + max(64 * KIB // itemsize, 1) * itemsize]
        return run[: len(run) // itemsize * itemsize]

    return _codec.decide(wish, itemsize, layout.cells * layout.cell_bytes, rate, sample)
