"""Drives an operation of `ndferry._core` over a non-blocking socket in an asyncio loop.

Bytes go straight between the socket and the array. The loop is asked only when the socket would wait, through
`add_reader` and `add_writer`, which every loop has, uvloop too.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from ndferry._blocking import PROGRESS, behind, translate
from ndferry._errors import ConnectionError
from ndferry._frames import Operation, Receive, Send, Wait
from ndferry._pace import delay
from ndferry._wire import MIB, PIECE, Buffer

T = TypeVar("T")

TURN: Final = MIB
"""Bytes after which other tasks get a turn although the socket does not wait."""


class Driver:
    """A socket and its bounds on time. Owns the socket. For one task at a time of the loop that runs."""

    def __init__(self, sock: socket.socket, timeout: float | None) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._timeout = timeout
        self._deadline: float | None = None  # in the time of the loop
        self._since_turn = 0

    def close(self) -> None:
        """Close the socket. Again is harmless."""
        self._sock.close()

    def link(self) -> float | None:
        """What `_pace.delay` says of the socket."""
        return delay(self._sock)

    def interrupt(self) -> None:
        """From another task: let what waits in `run` fail."""
        self._sock.shutdown(socket.SHUT_RDWR)

    async def run(self, operation: Operation[T], deadline: float | None = None) -> T:
        """Drive `operation` to its end; `deadline` is seconds from now. When it is cancelled, `Session.idle` tells."""
        loop = asyncio.get_running_loop()
        self._deadline = None if deadline is None else loop.time() + deadline
        try:
            request = next(operation)
            while True:
                try:
                    if type(request) is Receive:
                        result = await self._receive(request)
                    elif type(request) is Send:
                        result = await self._send(request.buffers)
                    else:
                        assert type(request) is Wait
                        result = await self._beside(request.future)
                except OSError as error:
                    request = operation.throw(translate(error))
                else:
                    request = operation.send(result)
        except StopIteration as stop:
            value: T = stop.value
            return value
        finally:
            operation.close()

    async def _send(self, buffers: Sequence[Buffer]) -> int:
        total = sum(map(len, buffers))
        left = total
        progress, until = 0, None
        while True:
            try:
                sent = self._sock.sendmsg(buffers)
            except BlockingIOError:
                loop = asyncio.get_running_loop()
                until = await self._ready(loop.add_writer, loop.remove_writer, until)
                continue
            left -= sent
            progress += sent
            if progress >= PROGRESS:
                progress, until = 0, None
            if not left:
                return await self._turn(total)
            buffers = behind(buffers, sent)

    async def _receive(self, request: Receive) -> int:
        view, least = request.view, request.least
        have = progress = 0
        until = None
        while True:
            try:
                got = self._sock.recv_into(view[have : have + PIECE])
            except BlockingIOError:
                if have >= least:
                    return have
                loop = asyncio.get_running_loop()
                until = await self._ready(loop.add_reader, loop.remove_reader, until)
                continue
            if got == 0:
                raise ConnectionError("the connection was closed by the other side", retryable=True)
            have += got
            progress += got
            if progress >= PROGRESS:
                progress, until = 0, None
            if have >= max(least, 1):
                return await self._turn(have)

    async def _beside(self, work: Future[Any]) -> int:
        """Wait for a thread. Its work is not cancelled with the task: it ends before its memory is let go."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()

        def done() -> None:
            if not waiter.done():
                waiter.set_result(None)

        work.add_done_callback(lambda _: loop.call_soon_threadsafe(done))
        await waiter
        self._since_turn = 0
        return 0

    async def _turn(self, count: int) -> int:
        """Let others run when they have waited for `TURN` bytes. Returns `count`."""
        self._since_turn += count
        if self._since_turn >= TURN:
            self._since_turn = 0
            await asyncio.sleep(0)
        return count

    async def _ready(self, add: Callable[..., Any], remove: Callable[..., Any], until: float | None) -> float | None:
        """Wait until the socket can go on, no longer than `timeout` and the deadline allow.

        ``None`` for `until` begins to count; the new end of the wait is returned.
        """
        loop = asyncio.get_running_loop()
        if until is None and self._timeout is not None:
            until = loop.time() + self._timeout
        ends = [end for end in (until, self._deadline) if end is not None]
        future: asyncio.Future[None] = loop.create_future()

        def ready() -> None:
            if not future.done():
                future.set_result(None)

        def late() -> None:
            if not future.done():
                future.set_exception(BlockingIOError("no progress"))

        timer = loop.call_at(min(ends), late) if ends else None
        add(self._sock, ready)
        try:
            await future
        finally:
            self._since_turn = 0
            remove(self._sock)
            if timer is not None:
                timer.cancel()
        return until
