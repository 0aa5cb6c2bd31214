"""The client for asyncio: every method of `ndferry.Client` under the same name, over the same core. ::

    from ndferry import aio

    async with await aio.connect() as c:
        receipt = await c.put("lab/run7", array)
        same = await c.get("lab/run7")

Parameters, results and errors are those of the blocking client, whose documentation holds here too. A task that is
cancelled inside a transfer closes the connection (`Client.closed`); one that waits for its turn leaves it usable.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, NoReturn, TypeVar

import numpy.typing as npt

from ndferry import _address, _direct, _messages, _requests
from ndferry._array import Array
from ndferry._asyncio import Driver
from ndferry._core import Progress, Session
from ndferry._errors import ConnectionError, Error, InvalidError, TimeoutError
from ndferry._frames import Operation
from ndferry._receipt import Entry, Receipt, Report, Stat

T = TypeVar("T")

__all__ = ["Client", "connect", "recv_array", "send_array"]


async def connect(addr: str | None = None, *, timeout: float | None = 30.0) -> Client:
    """As `ndferry.connect`."""
    if timeout is not None and not timeout > 0:
        raise InvalidError(f"connect: timeout {timeout} is not above 0; None waits for ever")
    addr = addr or _address.default()
    client = Client(Driver(await _dial(addr, timeout), timeout), addr)
    await client._run(client._session.hello(), None)
    return client


async def _dial(addr: str, timeout: float | None) -> socket.socket:
    target = _address.parse(addr)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            if isinstance(target, str):
                return await _connected(socket.AF_UNIX, target)
            infos = await loop.getaddrinfo(*target, type=socket.SOCK_STREAM)
            for family, _, _, _, place in infos[:-1]:
                with contextlib.suppress(OSError):
                    return await _connected(family, place)
            return await _connected(infos[-1][0], infos[-1][4])
    except builtins.TimeoutError as error:
        raise TimeoutError(f"connect {addr}: no answer in {timeout} s") from error
    except OSError as error:
        raise ConnectionError(f"connect {addr}: {error}: is the server running?", retryable=True) from error


async def _connected(family: int, place: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, place)
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock


class Client:
    """A connection to a server. Made by `connect`.

    One operation runs at a time: tasks wait for one another. It belongs to the loop in which it was made, and does not
    survive ``fork``.
    """

    def __init__(self, driver: Driver, addr: str) -> None:
        self._driver = driver
        self._addr = addr
        self._session = Session(_requests.SOFTWARE)
        self._lock = asyncio.Lock()
        self._running: asyncio.Task[Any] | None = None
        self._pid = os.getpid()
        self._closed = False
        self._why = "close() was called"

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __reduce__(self) -> NoReturn:
        raise Error("a client belongs to its process and cannot be handed to another: call ndferry.aio.connect there")

    def __repr__(self) -> str:
        return f"<ndferry.aio.Client {self._addr}{' closed' if self._closed else ''}>"

    @property
    def closed(self) -> bool:
        """The connection is gone: every further call raises `ConnectionError`."""
        return self._closed

    @property
    def server(self) -> str:
        """What the server calls itself."""
        return self._session.server

    async def close(self) -> None:
        """Close the connection. Again is harmless; an operation of another task ends with an error."""
        self._closed = True
        if self._running is not None and self._pid == os.getpid():
            with contextlib.suppress(OSError):
                self._driver.interrupt()
        else:
            self._driver.close()

    async def ping(self, *, deadline: float | None = None) -> float:
        """Seconds to the server and back."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        await self._run(self._session.ping(), deadline)
        return loop.time() - started

    async def put(
        self,
        name: str,
        array: npt.ArrayLike,
        *,
        chunks: int | Sequence[int] | None = None,
        codec: Literal["auto", "none", "lz4", "zlib", "zstd"] = "auto",
        level: int | None = None,
        shuffle: Literal["auto", "none", "byte", "bit"] = "auto",
        link_rate: float | None = None,
        digest: Literal["crc32c", "sha256"] = "crc32c",
        attrs: Mapping[str, Any] | None = None,
        if_absent: bool = False,
        id: str | None = None,
        progress: Progress | None = None,
        deadline: float | None = None,
    ) -> Receipt:
        """As `ndferry.Client.put`. The array must not change until it returns."""
        operation = _requests.put(
            self._session,
            name,
            array,
            chunks=chunks,
            codec=codec,
            level=level,
            shuffle=shuffle,
            link_rate=link_rate,
            local=_address.is_local(self._addr),
            digest=digest,
            attrs=attrs,
            if_absent=if_absent,
            id=id,
            progress=progress,
        )
        return await self._run(operation, deadline)

    async def get(
        self,
        name: str,
        *,
        out: Array | None = None,
        progress: Progress | None = None,
        deadline: float | None = None,
    ) -> Array:
        """As `ndferry.Client.get`."""
        return await self._run(_requests.get(self._session, name, out, progress), deadline)

    async def stat(self, name: str, *, deadline: float | None = None) -> Stat:
        """As `ndferry.Client.stat`."""
        _messages.check_name(name)
        return await self._run(self._session.stat(name), deadline)

    async def delete(self, name: str, *, deadline: float | None = None) -> None:
        """As `ndferry.Client.delete`."""
        _messages.check_name(name)
        await self._run(self._session.delete(name), deadline)

    async def verify(self, name: str, *, progress: Progress | None = None, deadline: float | None = None) -> Report:
        """As `ndferry.Client.verify`."""
        _messages.check_name(name)
        return await self._run(self._session.verify(name, progress), deadline)

    async def list(self, prefix: str = "", *, deadline: float | None = None) -> builtins.list[Entry]:
        """As `ndferry.Client.list`."""
        return [entry async for entry in self.iterate(prefix, deadline=deadline)]

    async def iterate(self, prefix: str = "", *, deadline: float | None = None) -> AsyncIterator[Entry]:
        """As `ndferry.Client.iterate`, for ``async for``."""
        after, more = "", True
        while more:
            entries, more = await self._run(self._session.list(prefix, after), deadline)
            for entry in entries:
                yield entry
            if entries:
                after = entries[-1].name

    async def _run(self, operation: Operation[T], deadline: float | None) -> T:
        if self._pid != os.getpid():
            raise ConnectionError(
                f"this client was made in process {self._pid} and inherited by fork: two processes on one connection "
                "would corrupt it; call ndferry.aio.connect here"
            )
        if self._running is asyncio.current_task():
            raise Error("an operation of this client is running: a progress callback cannot begin another")
        async with self._lock:
            self._running = asyncio.current_task()
            try:
                if self._closed:
                    raise ConnectionError(f"the connection to {self._addr} is closed ({self._why}): connect again")
                return await self._driver.run(operation, deadline)
            except BaseException as error:
                if not (self._session.idle or self._closed):
                    self._why = str(error)[:200] or type(error).__name__
                    self._closed = True
                raise
            finally:
                self._running = None
                if self._closed:
                    self._driver.close()


async def send_array(
    sock: socket.socket,
    array: npt.ArrayLike,
    *,
    name: str = "array",
    chunks: int | Sequence[int] | None = None,
    codec: Literal["none"] = "none",
    digest: Literal["crc32c", "sha256"] = "crc32c",
    attrs: Mapping[str, Any] | None = None,
    if_absent: bool = False,
    id: str | None = None,
    progress: Progress | None = None,
    timeout: float | None = 30.0,
    deadline: float | None = None,
) -> Receipt:
    """As `ndferry.send_array`. `sock` is a plain socket that the loop does not read from or write to meanwhile."""
    sender = _direct.Sender()
    put = _requests.put(
        sender, name, array, chunks=chunks, codec=codec, digest=digest, attrs=attrs, if_absent=False, id=id,
        progress=progress,
    )  # fmt: skip
    return await _drive(sock, sender, sender.send(put), timeout, deadline)


async def recv_array(
    sock: socket.socket,
    out: Array | None = None,
    *,
    progress: Progress | None = None,
    timeout: float | None = 30.0,
    deadline: float | None = None,
) -> _direct.Received:
    """As `ndferry.recv_array`; of `sock` as `send_array`."""
    if out is not None:
        _requests.check_writable(out)
    receiver = _direct.Receiver()
    return await _drive(sock, receiver, receiver.receive(out, progress), timeout, deadline)


async def _drive(
    sock: socket.socket, session: Session, operation: Operation[T], timeout: float | None, deadline: float | None
) -> T:
    _direct.check_stream(sock, timeout)
    before = sock.gettimeout()
    try:
        return await Driver(sock, timeout).run(operation, deadline)
    except BaseException as error:
        _direct.leave(sock, session, error)
        raise
    finally:
        if sock.fileno() >= 0:
            sock.settimeout(before)
