"""What the server says about arrays, as frozen dataclasses."""

from __future__ import annotations

import datetime
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Digest:
    """The digest of an array: `kind` is ``crc32c`` (one per chunk, no root) or ``sha256``.

    ``none``: another program wrote the array, and there are no stored checks.
    """

    kind: str
    root: str | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof of a commit.

    Attributes
    ----------
    name, id
        The array and the 32 hex digits of the transfer that stored it.
    nbytes, stored_bytes
        Bytes of the array, and of its chunks as they are stored.
    cells
        Number of chunks.
    codec, codec_why
        ``none`` or the compressor of the chunks; and why ``auto`` chose it.
    validated
        ``full``: every chunk was decoded before the commit; ``header``: compressed chunks were not.
    durability
        ``durable``: on stable storage; ``memory``: lost when the server ends.
    created
        Time of the commit, UTC. The protocol has nanoseconds, datetime microseconds.
    """

    name: str
    id: str
    nbytes: int
    stored_bytes: int
    cells: int
    codec: str
    digest: Digest
    durability: str
    created: datetime.datetime
    codec_why: str = ""
    validated: str = "full"

    @property
    def ratio(self) -> float:
        """Bytes of the array over stored ones; 1 when there are none."""
        return self.nbytes / self.stored_bytes if self.stored_bytes else 1.0


@dataclass(frozen=True, slots=True)
class Stat:
    """What is known of an array without reading it.

    Attributes
    ----------
    chunks
        Shape of a chunk, axes in the order of `shape`.
    order
        The axes, outermost in memory first: ``(0, 1)`` is C order, ``(1, 0)`` Fortran order.
    attrs
        The user's attributes.
    dims
        Names of the axes.
    fill_value
        What elements of chunks that are not stored are, as Zarr writes it in JSON.
    """

    name: str
    id: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    order: tuple[int, ...]
    chunks: tuple[int, ...]
    codec: str
    nbytes: int
    stored_bytes: int
    digest: Digest
    durability: str
    attrs: dict[str, Any]
    dims: tuple[str | None, ...]
    fill_value: Any
    created: datetime.datetime
    codec_why: str = ""
    validated: str = "full"

    @property
    def ratio(self) -> float:
        """Bytes of the array over stored ones; 1 when there are none."""
        return self.nbytes / self.stored_bytes if self.stored_bytes else 1.0


class UncheckedWarning(UserWarning):
    """An array was read that another program wrote into the store: nothing was recorded to check it with."""


def warn_unchecked(stat: Stat | None) -> None:
    """Warn the caller of the caller when `stat` is of such an array."""
    if stat is not None and stat.digest.kind == "none":
        text = f"{stat.name!r}: another program wrote it, and there are no stored checks"
        warnings.warn(text, UncheckedWarning, stacklevel=3)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a listing. `digest` is ``none`` for an array that another program wrote: it has no stored checks."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    stored_bytes: int
    created: datetime.datetime
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that `verify` found: in which file, at which cell (None: not one cell's), and what."""

    file: str
    cell: int | None
    problem: str


@dataclass(frozen=True, slots=True)
class Report:
    """What `verify` found. `bad` names at most 100; `bad_count` counts all."""

    cells: int
    bytes: int
    bad: tuple[Damage, ...]
    bad_count: int

    @property
    def ok(self) -> bool:
        """True when nothing is damaged."""
        return self.bad_count == 0
