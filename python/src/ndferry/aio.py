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
import time
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Final, NoReturn, TypeVar, Unpack

import numpy.typing as npt

from ndferry import _address, _direct, _messages, _npyfile, _putfile, _requests, _retry, _sharing
from ndferry._aiolines import Tasks
from ndferry._array import Array, Layout
from ndferry._asyncio import Driver
from ndferry._blocking import end_of
from ndferry._core import Session
from ndferry._errors import ConflictError, ConnectionError, Error, IntegrityError, InvalidError, TimeoutError
from ndferry._frames import Operation
from ndferry._options import PutOptions, takes_options
from ndferry._receipt import Entry, Receipt, Report, Stat, warn_unchecked
from ndferry._receiving import Progress
from ndferry._remote import Described, finished
from ndferry._retry import Retry
from ndferry._small import Small
from ndferry._upload import Upload

T = TypeVar("T")

_ALONE: Final = contextlib.nullcontext()

__all__ = ["Client", "connect", "recv_array", "send_array"]


async def connect(addr: str | None = None, *, timeout: float | None = 30.0, retries: int = _retry.DEFAULT) -> Client:
    """As `ndferry.connect`."""
    if timeout is not None and not timeout > 0:
        raise InvalidError(f"connect: timeout {timeout} is not above 0; None waits for ever")
    _retry.check(retries)
    addr = addr or _address.default()
    retry = Retry(retries, None)
    while True:
        try:
            client = Client(Driver(await _dial(addr, timeout), timeout), addr, timeout, retries)
            await client._run(Session.hello, None)
            return client
        except (ConnectionError, TimeoutError) as error:
            pause = retry.pause(error, True)
            if pause is None:
                raise
        await asyncio.sleep(pause)


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

    def __init__(self, driver: Driver, addr: str, timeout: float | None, retries: int) -> None:
        self._driver = driver
        self._addr = addr
        self._timeout = timeout
        self._retries = retries
        self._session = Session(_requests.SOFTWARE, local=_address.is_local(addr), link=driver.link)
        self._lock = asyncio.Lock()
        self._spare: builtins.list[tuple[Driver, Session]] = []
        self._running: asyncio.Task[Any] | None = None
        self._pid = os.getpid()
        self._closed = False
        self._ended = False  # by close()
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
        """The connection is gone: a further call without `retries` raises `ConnectionError`."""
        return self._closed

    @property
    def server(self) -> str:
        """What the server calls itself."""
        return self._session.server

    async def close(self) -> None:
        """Close the connection. Again is harmless; an operation of another task ends with an error."""
        self._ended = True
        self._closed = True
        while self._spare:
            self._spare.pop()[0].close()
        if self._running is not None and self._pid == os.getpid():
            with contextlib.suppress(OSError):
                self._driver.interrupt()
        else:
            self._driver.close()

    async def ping(self, *, deadline: float | None = None) -> float:
        """Seconds to the server and back."""
        started = time.monotonic()  # the clock of uvloop counts milliseconds
        await self._run(Session.ping, end_of(deadline))
        return time.monotonic() - started

    @takes_options
    async def put(
        self,
        name: str,
        array: npt.ArrayLike,
        *,
        streams: int = 1,
        retries: int | None = None,
        deadline: float | None = None,
        **options: Unpack[PutOptions],
    ) -> Receipt:
        """As `ndferry.Client.put`. The array must not change until it returns."""
        attempts = self._attempts(retries)
        kept = attempts > 0 or _sharing.check(streams) > 1
        upload = self._session.forms.upload(name, array, options, kept=kept)
        return await self._store(upload, streams, deadline, attempts)

    async def _store(
        self, upload: Upload | Small, streams: int, deadline: float | None, retries: int | None
    ) -> Receipt:
        async with self._lines(streams, deadline) as lines:
            return await self._call(
                lambda session: session.put(upload, lines), deadline, retries, lambda: upload.durable
            )

    @takes_options
    async def put_file(
        self,
        name: str,
        path: str | os.PathLike[str],
        *,
        resume: _putfile.Resume = "auto",
        streams: int = 1,
        retries: int | None = None,
        deadline: float | None = None,
        **options: Unpack[PutOptions],
    ) -> Receipt:
        """As `ndferry.Client.put_file`."""
        _sharing.check(streams)
        begun = _putfile.Begun(self._addr, name, path, options, resume)
        try:
            while True:
                try:
                    receipt = await self._store(begun.upload(), streams, deadline, retries)
                    await asyncio.to_thread(begun.confirm)
                    return receipt
                except (_putfile.Changed, ConflictError) as error:
                    if not begun.anew(error):
                        raise
        finally:
            await asyncio.to_thread(begun.close)

    async def get(
        self,
        name: str,
        *,
        out: Array | None = None,
        progress: Progress | None = None,
        streams: int = 1,
        retries: int | None = None,
        deadline: float | None = None,
    ) -> Array:
        """As `ndferry.Client.get`."""
        download = _requests.download(name, out)
        _sharing.check(streams)
        async with self._lines(streams, deadline) as lines:
            array = await self._call(
                lambda session: session.get(download, progress, lines), deadline, retries, lambda: download.moved
            )
        warn_unchecked(download.stat)
        return array

    async def get_file(
        self,
        name: str,
        path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        resume: _npyfile.Resume = "auto",
        progress: Progress | None = None,
        streams: int = 1,
        retries: int | None = None,
        deadline: float | None = None,
    ) -> Stat:
        """As `ndferry.Client.get_file`."""
        _sharing.check(streams)
        download = _npyfile.FileDownload(name, path, overwrite=overwrite, resume=resume)
        try:
            async with self._lines(streams, deadline) as lines:
                await self._call(
                    lambda session: session.get_file(download, progress, lines),
                    deadline,
                    retries,
                    lambda: download.moved,
                )
            stat = await asyncio.to_thread(download.commit)
        except IntegrityError as error:
            if error.cell is None:  # of the whole: what came is of no use
                download.forget()
            raise
        finally:
            await asyncio.to_thread(download.close)
        warn_unchecked(stat)
        return stat

    async def stat(self, name: str, *, retries: int | None = None, deadline: float | None = None) -> Stat:
        """As `ndferry.Client.stat`."""
        _messages.check_name(name)
        return await self._call(lambda session: session.stat(name), deadline, retries)

    async def open(self, name: str, *, retries: int | None = None, deadline: float | None = None) -> RemoteArray:
        """As `ndferry.Client.open`: ``await (await c.open("lab/run7"))[10:20, ..., 3]``."""
        _messages.check_name(name)
        stat, layout = await self._call(lambda session: session.describe(name), deadline, retries)
        warn_unchecked(stat)
        return RemoteArray(self, stat, layout)

    async def delete(self, name: str, *, retries: int | None = None, deadline: float | None = None) -> None:
        """As `ndferry.Client.delete`."""
        await self._call(_requests.deletion(name), deadline, retries)

    async def verify(
        self,
        name: str,
        *,
        progress: Progress | None = None,
        retries: int | None = None,
        deadline: float | None = None,
    ) -> Report:
        """As `ndferry.Client.verify`."""
        _messages.check_name(name)
        return await self._call(lambda session: session.verify(name, progress), deadline, retries)

    async def list(
        self, prefix: str = "", *, retries: int | None = None, deadline: float | None = None
    ) -> builtins.list[Entry]:
        """As `ndferry.Client.list`."""
        return [entry async for entry in self.iterate(prefix, retries=retries, deadline=deadline)]

    async def iterate(
        self, prefix: str = "", *, retries: int | None = None, deadline: float | None = None
    ) -> AsyncIterator[Entry]:
        """As `ndferry.Client.iterate`, for ``async for``."""
        after, more = "", True
        while more:
            page, more = await self._call(_requests.page(prefix, after), deadline, retries)
            for entry in page:
                yield entry
            if page:
                after = page[-1].name

    def _lines(self, streams: int, deadline: float | None) -> contextlib.AbstractAsyncContextManager[Tasks | None]:
        """Further connections for a transfer; None when it is to use one."""
        if streams == 1:
            return _ALONE
        end = end_of(deadline)
        return Tasks(streams, self._spare, lambda: self._dialled(end), end)

    async def _dialled(self, end: float | None) -> tuple[Driver, Session]:
        """Another connection, on which HELLO was said."""
        bounds = [bound for bound in (_left(end), self._timeout) if bound is not None]
        driver = Driver(await _dial(self._addr, min(bounds, default=None)), self._timeout)
        session = Session(_requests.SOFTWARE, local=self._session.local, link=driver.link)
        session.rate = self._session.rate
        try:
            await driver.run(session.hello(), _left(end))
        except BaseException:
            driver.close()
            raise
        return driver, session

    def _attempts(self, retries: int | None) -> int:
        _retry.check(retries)
        return self._retries if retries is None else retries

    @property
    def _lost(self) -> bool:
        """Another connection would help."""
        return self._closed and not self._ended and self._pid == os.getpid()

    async def _call(
        self,
        attempt: Callable[[Session], Operation[T]],
        deadline: float | None,
        retries: int | None = None,
        moved: Callable[[], int] | None = None,
    ) -> T:
        """Run an operation, and again as `Retry` says."""
        end = end_of(deadline)
        attempts = self._attempts(retries)
        if not attempts:
            return await self._run(attempt, end)
        retry = Retry(attempts, end, moved)
        while True:
            try:
                if self._lost:
                    await self._reconnect(end)
                return await self._run(attempt, end)
            except Error as error:
                pause = retry.pause(error, self._lost)
                if pause is None:
                    raise
            await asyncio.sleep(pause)

    async def _reconnect(self, end: float | None) -> None:
        async with self._lock:
            if not self._lost:
                return  # another task was faster
            self._driver.close()
            self._driver, self._session = await self._dialled(end)
            self._closed = self._ended
            if self._closed:
                self._driver.close()

    async def _run(self, attempt: Callable[[Session], Operation[T]], end: float | None) -> T:
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
                return await self._driver.run(attempt(self._session), _left(end))
            except BaseException as error:
                if not (self._session.idle or self._closed):
                    self._why = str(error)[:200] or type(error).__name__
                    self._closed = True
                raise
            finally:
                self._running = None
                if self._closed:
                    self._driver.close()


def _left(end: float | None) -> float | None:
    return None if end is None else max(end - time.monotonic(), 1e-3)


@takes_options
async def send_array(
    sock: socket.socket,
    array: npt.ArrayLike,
    *,
    name: str = "array",
    timeout: float | None = 30.0,
    deadline: float | None = None,
    **options: Unpack[PutOptions],
) -> Receipt:
    """As `ndferry.send_array`. `sock` is a plain socket that the loop does not read from or write to meanwhile."""
    sender, operation = _direct.sending(sock, timeout, name, array, options)
    return await _drive(sock, sender, operation, timeout, deadline)


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


class RemoteArray(Described):
    """As `ndferry.RemoteArray`, for asyncio: indexing returns something to await."""

    def __init__(self, client: Client, stat: Stat, layout: Layout) -> None:
        super().__init__(stat, layout)
        self._client = client

    async def __getitem__(self, key: Any) -> Any:
        selection, result, part = self._select(key)
        for ranges in selection.ranges():
            await self._client._call(_requests.reading(self.stat.name, self.stat.id, part, ranges), None)
        return finished(selection, result, key)
