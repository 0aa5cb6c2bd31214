"""Further connections of a blocking client, for transfers over several."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

from ndferry._blocking import Driver
from ndferry._core import Session
from ndferry._errors import Error
from ndferry._frames import Operation

Line = tuple[Driver, Session]


class Spare:
    """Connections that no operation uses. Safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: list[Line] = []
        self._closed = False

    def take(self) -> Line | None:
        with self._lock:
            return self._lines.pop() if self._lines else None

    def give(self, line: Line) -> None:
        with self._lock:
            if not self._closed:
                self._lines.append(line)
                return
        line[0].close()

    def close(self) -> None:
        with self._lock:
            lines, self._lines, self._closed = self._lines, [], True
        for driver, _ in lines:
            driver.close()


class Threads:
    """`ndferry._sharing.Lines` of one call: each operation has a thread and a connection.

    Parameters
    ----------
    count
        Connections of the transfer, the first included.
    dial
        Makes one more.
    """

    def __init__(self, count: int, spare: Spare, dial: Callable[[], Line], end: float | None) -> None:
        self.count = count
        self._spare = spare
        self._dial = dial
        self._end = end
        self._lock = threading.Lock()
        self._busy: list[Driver] = []
        self._stopped = False
        self._futures: list[Future[Any]] = []

    def __enter__(self) -> Threads:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """No thread uses memory of the caller's any more."""
        self._stop()

    def start(self, operations: Sequence[Callable[[Session], Operation[Any]]]) -> list[Future[Any]]:
        """Begin operations; those of an earlier attempt are ended first."""
        self._stop()
        self._stopped = False
        if not operations:
            return []
        pool = ThreadPoolExecutor(len(operations), "ndferry-line")
        self._futures = [pool.submit(self._run, operation) for operation in operations]
        pool.shutdown(wait=False)
        return list(self._futures)

    def _run(self, operation: Callable[[Session], Operation[Any]]) -> Any:
        try:
            line = self._spare.take() or self._dial()
        except Error:
            return None
        driver, session = line
        with self._lock:
            self._busy.append(driver)
            if self._stopped:
                driver.interrupt()
        try:
            return driver.run(operation(session), self._end)
        finally:
            with self._lock:
                self._busy.remove(driver)
            if session.idle:
                self._spare.give(line)
            else:
                driver.close()

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            for driver in self._busy:
                driver.interrupt()
        for future in self._futures:
            future.exception()
        self._futures = []
