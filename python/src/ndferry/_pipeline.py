"""Work for threads beside the connection: cells are encoded, decoded and hashed by what releases the GIL."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from ndferry._frames import Operation, Wait

T = TypeVar("T")


def threads() -> int:
    """How many threads work for one operation."""
    return len(os.sched_getaffinity(0))


class Pipeline:
    """Work that threads do in order of submission, a bounded number of pieces ahead of who takes the results.

    `finish`: also after an error all that was submitted is done.
    """

    def __init__(self, *, finish: bool = False) -> None:
        self._finish = finish
        self._depth = threads() + 1
        self._pool = ThreadPoolExecutor(threads(), "ndferry")
        self._pending: deque[Future[Any]] = deque()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        """Wait until no thread uses memory of the caller's any more."""
        self._pool.shutdown(wait=True, cancel_futures=not self._finish)

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def full(self) -> bool:
        return len(self._pending) >= self._depth

    def submit(self, work: Callable[..., T], *args: Any) -> None:
        self._pending.append(self._pool.submit(work, *args))

    def take(self) -> Operation[Any]:
        """The result of the oldest piece of work, or its exception."""
        future = self._pending.popleft()
        if not future.done():
            yield Wait(future)
        return future.result()


def beside(call: Callable[[], T]) -> Operation[T]:
    """Have a thread do what takes long, so that an event loop goes on."""
    with Pipeline() as pipeline:
        pipeline.submit(call)
        result: T = yield from pipeline.take()
        return result
