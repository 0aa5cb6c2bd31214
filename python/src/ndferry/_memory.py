"""Memory for large arrays that are received: the pages of one that nobody uses any more serve the next.

The system clears each new page, which takes about as long as receiving into it. What is kept is marked as free
(``MADV_FREE``), so the system takes it when it is short of memory.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
from typing import Any, Final

import numpy as np

from ndferry._wire import MIB, Bytes

LEAST: Final = 4 * MIB
"""Bytes of an array that is worth a mapping of its own."""

KEPT: Final = 1024 * MIB
"""Bytes that are kept at most."""

_lock = threading.Lock()
_kept: list[tuple[mmap.mmap, Bytes]] = []  # pages and their bytes; the newest last


class _Lent:
    """What the base of an array is: when nobody refers to it, its memory is free."""

    def __init__(self, pages: mmap.mmap, memory: Bytes) -> None:
        self.pages = pages
        self.memory = memory
        self.pid = os.getpid()
        self.__array_interface__: dict[str, Any] = memory.__array_interface__

    def __del__(self) -> None:
        if self.pid == os.getpid():  # after a fork it is the parent's too
            _give(self.pages, self.memory)


def empty(size: int) -> Bytes:
    """`size` bytes, with whatever is in them. The memory is free when no array refers to it."""
    if size < LEAST or not hasattr(mmap, "MADV_FREE"):
        return np.empty(size, np.uint8)
    free = _take(size)
    if free is None:
        try:
            pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError as error:
            raise MemoryError(f"no memory for an array of {size:,} bytes: {error}") from error
        with contextlib.suppress(OSError, AttributeError):
            pages.madvise(mmap.MADV_HUGEPAGE)
        free = pages, np.frombuffer(pages, np.uint8)
    return np.asarray(_Lent(*free))


def _take(size: int) -> tuple[mmap.mmap, Bytes] | None:
    with _lock:
        for at in range(len(_kept) - 1, -1, -1):
            if len(_kept[at][1]) == size:
                return _kept.pop(at)
    return None


def _give(pages: mmap.mmap, memory: Bytes) -> None:
    # Without waiting: a finalizer may run inside of any call, also one of this thread that holds the lock.
    if not _lock.acquire(blocking=False):
        return
    try:
        with contextlib.suppress(OSError):
            pages.madvise(mmap.MADV_FREE)
            _kept.append((pages, memory))
            while sum(len(memory) for _, memory in _kept) > KEPT:
                _kept.pop(0)
    finally:
        _lock.release()
