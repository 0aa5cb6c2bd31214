"""Further connections of an asyncio client, for transfers over several."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any

from ndferry._asyncio import Driver
from ndferry._core import Session
from ndferry._errors import Error
from ndferry._frames import Operation

Line = tuple[Driver, Session]


class Tasks:
    """`ndferry._sharing.Lines` of one call: each operation has a task and a connection. It belongs to one loop."""

    def __init__(self, count: int, spare: list[Line], dial: Callable[[], Awaitable[Line]], end: float | None) -> None:
        self.count = count
        self._spare = spare
        self._dial = dial
        self._end = end
        self._tasks: list[asyncio.Task[Any]] = []

    async def __aenter__(self) -> Tasks:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def start(self, operations: Sequence[Callable[[Session], Operation[Any]]]) -> list[Future[Any]]:
        """Begin operations; those of an earlier attempt get no further."""
        self._cancel()
        return [self._begin(operation) for operation in operations]

    def _begin(self, operation: Callable[[Session], Operation[Any]]) -> Future[Any]:
        future: Future[Any] = Future()

        def done(task: asyncio.Task[Any]) -> None:
            if task.cancelled():
                future.set_exception(asyncio.CancelledError())
            elif (failure := task.exception()) is not None:
                future.set_exception(failure)
            else:
                future.set_result(task.result())

        task = asyncio.get_running_loop().create_task(self._run(operation))
        task.add_done_callback(done)
        self._tasks.append(task)
        return future

    async def _run(self, operation: Callable[[Session], Operation[Any]]) -> Any:
        try:
            line = self._spare.pop() if self._spare else await self._dial()
        except Error:
            return None
        driver, session = line
        left = None if self._end is None else max(self._end - time.monotonic(), 1e-3)
        try:
            return await driver.run(operation(session), left)
        finally:
            if session.idle:
                self._spare.append(line)
            else:
                driver.close()

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()
