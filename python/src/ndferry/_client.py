"""The blocking client: operations of `ndferry._core` driven over a socket by `ndferry._blocking`."""

from __future__ import annotations

import builtins
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Final, NoReturn, TypeVar, Unpack

import numpy.typing as npt

from ndferry import _address, _messages, _npyfile, _putfile, _requests, _retry, _sharing
from ndferry._array import Array
from ndferry._blocking import Driver, end_of
from ndferry._core import Session
from ndferry._errors import ConflictError, ConnectionError, Error, IntegrityError, InvalidError, TimeoutError
from ndferry._frames import Operation
from ndferry._lines import Spare, Threads
from ndferry._options import PutOptions, takes_options
from ndferry._receipt import Entry, Receipt, Report, Stat, warn_unchecked
from ndferry._receiving import Progress
from ndferry._region import Part, Selection
from ndferry._remote import RemoteArray
from ndferry._retry import Retry
from ndferry._small import Small
from ndferry._upload import Upload

T = TypeVar("T")

_ALONE: Final = nullcontext()


def connect(addr: str | None = None, *, timeout: float | None = 30.0, retries: int = _retry.DEFAULT) -> Client:
    """Connect to a server.

    Parameters
    ----------
    addr
        ``tcp://HOST:PORT`` or ``HOST:PORT``, ``unix:///path``, ``unix://@name`` (abstract). None: the environment
        variable ``NDFERRY_ADDR``, else ``tcp://127.0.0.1:9000``.
    timeout
        Seconds to wait for progress (64 KiB, or what is missing when that is less), here and in every operation. None
        waits for ever. While the server commits, deletes or verifies, which may take it long, an answer to a PING is
        progress; a `deadline` bounds that as well.
    retries
        Attempts after the first, here and in every operation that does not say otherwise, when the connection cannot be
        made, or breaks, or the server says that the same may work later. Between two attempts the client waits a random
        time, up to 0.1 s at first, up to twice as long each time and at most 10 s, and connects again when it must. An
        attempt that brought the transfer on begins the count anew.

    Returns
    -------
    Client
        Use it as a context manager, or close it.

    Raises
    ------
    ConnectionError, TimeoutError
        Nobody there, or not in time.
    ProtocolError
        What is there is no ndferry server, or one of another version.
    InvalidError
        `addr` is not understood.

    Examples
    --------
    With a server running::

        with ndferry.connect("unix:///run/ndferry.sock") as c:
            c.put("lab/run7", np.arange(12.0).reshape(3, 4), attrs={"unit": "K"})
            same = c.get("lab/run7")
    """
    if timeout is not None and not timeout > 0:
        raise InvalidError(f"connect: timeout {timeout} is not above 0; None waits for ever")
    _retry.check(retries)
    addr = addr or _address.default()
    retry = Retry(retries, None)
    while True:
        try:
            return Client(Driver(_address.dial(addr, timeout), timeout), addr, timeout, retries)
        except (ConnectionError, TimeoutError) as error:
            pause = retry.pause(error, True)
            if pause is None:
                raise
        time.sleep(pause)


class Client:
    """A connection to a server. Made by `connect`.

    One operation runs at a time: calls from several threads wait for one another; for parallel transfers connect once
    for each thread. A client does not survive ``fork``: the child gets an error and must connect itself.

    After an exception `closed` tells whether the connection is at a boundary between operations, so that the next call
    works (False), or was closed and a new one is needed (True), which a call with `retries` makes by itself. An
    interrupt (``KeyboardInterrupt``) inside a transfer closes it.
    """

    def __init__(self, driver: Driver, addr: str, timeout: float | None, retries: int) -> None:
        self._driver = driver
        self._addr = addr
        self._timeout = timeout
        self._retries = retries
        self._session = Session(_requests.SOFTWARE, local=_address.is_local(addr), link=driver.link)
        self._lock = threading.Lock()
        self._spare = Spare()
        self._owner = 0  # the thread that holds _lock
        self._pid = os.getpid()
        self._closed = False
        self._ended = False  # by close()
        self._why = "close() was called"
        self._run(Session.hello, None)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise Error("a client belongs to its process and cannot be handed to another: call ndferry.connect there")

    def __repr__(self) -> str:
        return f"<ndferry.Client {self._addr}{' closed' if self._closed else ''}>"

    @property
    def closed(self) -> bool:
        """The connection is gone: a further call without `retries` raises `ConnectionError`."""
        return self._closed

    @property
    def server(self) -> str:
        """What the server calls itself."""
        return self._session.server

    def close(self) -> None:
        """Close the connection. Again is harmless; an operation of another thread ends with an error."""
        self._ended = True
        self._shut()
        if self._pid == os.getpid():
            self._spare.close()

    def _shut(self) -> None:
        self._closed = True
        if self._owner not in (0, threading.get_ident()) and self._pid == os.getpid():
            self._driver.interrupt()
        else:
            self._driver.close()

    def ping(self, *, deadline: float | None = None) -> float:
        """Seconds to the server and back."""
        started = time.monotonic()
        self._run(Session.ping, end_of(deadline))
        return time.monotonic() - started

    @takes_options
    def put(
        self,
        name: str,
        array: npt.ArrayLike,
        *,
        streams: int = 1,
        retries: int | None = None,
        deadline: float | None = None,
        **options: Unpack[PutOptions],
    ) -> Receipt:
        """Store an array under `name`; one that is there is replaced.

        Contiguous arrays in any memory order (C, Fortran, any permutation of the axes) are sent from their own memory.
        Other views are gathered chunk by chunk.

        Parameters
        ----------
        name
            Parts joined by ``/``.
        array
            Of any dtype whose elements have a fixed size: numbers in either byte order, bfloat16 and float8 of
            ml_dtypes, datetime64 and timedelta64, fixed-length bytes and text, void, and structures of all these.
        chunks
            Shape of a chunk: of 1 byte to 16 MiB. None cuts into slabs of at most 4 MiB.
        codec
            How chunks are compressed: ``lz4``, ``zlib``, ``zstd``, or ``none``. ``auto`` decides by a trial on samples
            of the array and by the rate of the connection, and says why in `Receipt.codec_why`; it prefers ``none``,
            whose chunks can be mapped, unless a codec saves a twentieth of the time.
        level
            Effort, 0 to 9. None: 5, for zlib 6.
        shuffle
            Reorder the bytes of each chunk before compression: by ``byte`` or by ``bit`` of the elements. ``auto``:
            by byte for elements of 2 to 255 bytes.
        link_rate
            Bytes a second that the connection carries, for ``auto``. None: a server on this machine is faster than any
            codec, any other connection is what a put of 8 MiB or more was seen to reach, 1 Gbit/s before one was.
        digest
            ``crc32c`` for each chunk, or ``sha256`` over the whole as well.
        attrs
            A dict of JSON values.
        dims
            A name, or None, for each axis. Default ``<last part of the name>_0`` and so on.
        if_absent
            Raise `ConflictError` when the name is taken.
        id
            32 hex digits that identify the transfer. Asking again with the same one, the same array and options is safe
            and stores once, also from another process: what the server has of an array of 1 MiB or more is not sent
            again, and it is not compared unless `digest` is ``sha256``. A commit is answered with its receipt, also
            when the array was replaced or deleted since. None makes one.
        durability
            ``relaxed`` does not wait for the disk: a crash of the server's system, or of the power, may lose the array.
        progress
            Called with the bytes sent and the bytes in all.
        streams
            Connections to use for an array of 1 MiB or more, 1 to 64, when the server takes them; each has a thread.
            One that breaks is done without. They stay open until the client is closed.
        retries
            As in `connect`, for this call; each attempt sends only what the server does not have.
        deadline
            Seconds for the whole call.

        Returns
        -------
        Receipt
            The array is committed: every chunk was checked and, if `Receipt.durability` is ``durable``, is on stable
            storage.
        """
        attempts = self._attempts(retries)
        kept = attempts > 0 or _sharing.check(streams) > 1
        upload = self._session.forms.upload(name, array, options, kept=kept)
        return self._store(upload, streams, deadline, attempts)

    def _store(self, upload: Upload | Small, streams: int, deadline: float | None, retries: int | None) -> Receipt:
        with self._lines(streams, deadline) as lines:
            return self._call(lambda session: session.put(upload, lines), deadline, retries, lambda: upload.durable)

    @takes_options
    def put_file(
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
        """Store the array of a .npy file, and go on with what an earlier call of another process has sent of it.

        The file is mapped and sent from there. What is begun is noted in ``$XDG_STATE_HOME/ndferry`` until it is done.
        The same call goes on with it when the file is the same one, by device, inode, size and times, and 16 random
        chunks of it are what they were, which is looked at while the rest is sent. With ``digest="sha256"`` nothing
        that was hashed is hashed again.

        Parameters
        ----------
        path
            Of the file. It must not change until the call returns.
        resume
            ``off`` begins anew, and notes nothing.
        streams, retries, deadline, options
            As in `put`, but for `id`, which is noted.

        Returns
        -------
        Receipt
            As of `put`.
        """
        _sharing.check(streams)
        begun = _putfile.Begun(self._addr, name, path, options, resume)
        try:
            while True:
                try:
                    receipt = self._store(begun.upload(), streams, deadline, retries)
                    begun.confirm()
                    return receipt
                except (_putfile.Changed, ConflictError) as error:
                    if not begun.anew(error):
                        raise
        finally:
            begun.close()

    def get(
        self,
        name: str,
        *,
        out: Array | None = None,
        progress: Progress | None = None,
        streams: int = 1,
        retries: int | None = None,
        deadline: float | None = None,
    ) -> Array:
        """Fetch an array, checked against the checksums that were stored.

        Parameters
        ----------
        name
            The array.
        out
            Receive into this array, which must have the dtype (byte order too) and shape. After an error its content is
            undefined.
        progress
            Called with the bytes received and the bytes in all.
        streams
            Connections to use, as in `put`.
        retries
            As in `connect`, for this call; each attempt asks only for the chunks that did not come.
        deadline
            Seconds for the whole call.

        Returns
        -------
        numpy.ndarray
            `out`, or a new, writable array with the dtype and the memory order of the one that was put.

        Warns
        -----
        UncheckedWarning
            Another program wrote the array, so that there are no stored checks.
        """
        download = _requests.download(name, out)
        _sharing.check(streams)
        with self._lines(streams, deadline) as lines:
            array = self._call(
                lambda session: session.get(download, progress, lines), deadline, retries, lambda: download.moved
            )
        warn_unchecked(download.stat)
        return array

    def get_file(
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
        """Fetch an array to a .npy file, checked against the checksums that were stored.

        The file has its name when it is whole and on the disk, and not before. When the call fails, also because the
        process is killed, what came stays beside it, and the same call goes on from there, in this process or another;
        so does ``ndferry get``. While it is received the file is mapped: memory that it takes is the page cache's.

        Parameters
        ----------
        path
            Of the file.
        overwrite
            Replace a file that is there.
        resume
            ``auto`` goes on with chunks that an earlier call left when 16 of them are what they were, or, if the file
            was touched since, with those that are. ``verify`` reads all of them first. ``off`` begins anew and leaves
            nothing behind when it fails.
        progress, streams, retries, deadline
            As in `get`.

        Returns
        -------
        Stat
            What the array is. ``numpy.load(path, mmap_mode="r")`` opens it.

        Raises
        ------
        FileExistsError
            There is something at `path`, and `overwrite` was not given or it is no regular file.

        Warns
        -----
        UncheckedWarning
            As in `get`.
        """
        _sharing.check(streams)
        download = _npyfile.FileDownload(name, path, overwrite=overwrite, resume=resume)
        try:
            with self._lines(streams, deadline) as lines:
                self._call(
                    lambda session: session.get_file(download, progress, lines),
                    deadline,
                    retries,
                    lambda: download.moved,
                )
            stat = download.commit()
        except IntegrityError as error:
            if error.cell is None:  # of the whole: what came is of no use
                download.forget()
            raise
        finally:
            download.close()
        warn_unchecked(stat)
        return stat

    def stat(self, name: str, *, retries: int | None = None, deadline: float | None = None) -> Stat:
        """Describe an array without reading it.

        Returns
        -------
        Stat
            What it is, and what was stored.

        Raises
        ------
        NotFoundError
            There is none.
        """
        _messages.check_name(name)
        return self._call(lambda session: session.stat(name), deadline, retries)

    def open(self, name: str, *, retries: int | None = None, deadline: float | None = None) -> RemoteArray:
        """An array that is read where it is indexed: ``c.open("lab/run7")[10:20, ..., 3]``.

        Only the chunks that a key touches travel, each checked against the checksum that was stored. Reading retries as
        the client does.

        Returns
        -------
        RemoteArray
            It reads through this client, and what was stored when it was opened: `ConflictError` once that is replaced.

        Raises
        ------
        NotFoundError
            There is none.
        """
        _messages.check_name(name)
        stat, layout = self._call(lambda session: session.describe(name), deadline, retries)
        warn_unchecked(stat)
        return RemoteArray(self, stat, layout)

    def _read(self, name: str, id: str, part: Part, selection: Selection, deadline: float | None) -> None:
        for ranges in selection.ranges():
            self._call(_requests.reading(name, id, part, ranges), deadline)

    def delete(self, name: str, *, retries: int | None = None, deadline: float | None = None) -> None:
        """Remove an array; `NotFoundError` when there is none.

        When an attempt broke and the next finds no array, it counts as removed.
        """
        self._call(_requests.deletion(name), deadline, retries)

    def verify(
        self,
        name: str,
        *,
        progress: Progress | None = None,
        retries: int | None = None,
        deadline: float | None = None,
    ) -> Report:
        """Let the server read all of an array from its store and check it.

        Parameters
        ----------
        progress
            Called with the chunks checked and the chunks in all.

        Returns
        -------
        Report
            ``report.ok``, and in ``report.bad`` what is damaged.
        """
        _messages.check_name(name)
        return self._call(lambda session: session.verify(name, progress), deadline, retries)

    def list(
        self, prefix: str = "", *, retries: int | None = None, deadline: float | None = None
    ) -> builtins.list[Entry]:
        """The arrays whose names begin with the plain string `prefix`, in byte order of their names."""
        return builtins.list(self.iterate(prefix, retries=retries, deadline=deadline))

    def iterate(
        self, prefix: str = "", *, retries: int | None = None, deadline: float | None = None
    ) -> Iterator[Entry]:
        """As `list`, fetched in pages of 1,000; other operations may run in between.

        `retries` and `deadline` are those of each page.
        """
        page: builtins.list[Entry]
        after, more = "", True
        while more:
            page, more = self._call(_requests.page(prefix, after), deadline, retries)
            yield from page
            if page:
                after = page[-1].name

    # ---- the connection

    def _lines(self, streams: int, deadline: float | None) -> AbstractContextManager[Threads | None]:
        """Further connections for a transfer; None when it is to use one."""
        if streams == 1:
            return _ALONE
        end = end_of(deadline)
        return Threads(streams, self._spare, lambda: self._dialled(end), end)

    def _dialled(self, end: float | None) -> tuple[Driver, Session]:
        """Another connection, on which HELLO was said."""
        left = None if end is None else max(end - time.monotonic(), 1e-3)
        bounds = [bound for bound in (left, self._timeout) if bound is not None]
        driver = Driver(_address.dial(self._addr, min(bounds, default=None)), self._timeout)
        session = Session(_requests.SOFTWARE, local=self._session.local, link=driver.link)
        session.rate = self._session.rate
        try:
            driver.run(session.hello(), end)
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

    def _call(
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
            return self._run(attempt, end)
        retry = Retry(attempts, end, moved)
        while True:
            try:
                if self._lost:
                    self._reconnect(end)
                return self._run(attempt, end)
            except Error as error:
                pause = retry.pause(error, self._lost)
                if pause is None:
                    raise
            time.sleep(pause)

    def _reconnect(self, end: float | None) -> None:
        with self._lock:
            if not self._lost:
                return  # another thread was faster
            self._driver.close()
            self._driver, self._session = self._dialled(end)
            self._closed = self._ended
            if self._closed:
                self._driver.close()

    def _run(self, attempt: Callable[[Session], Operation[T]], end: float | None) -> T:
        if self._pid != os.getpid():
            raise ConnectionError(
                f"this client was made in process {self._pid} and inherited by fork: two processes on one connection "
                "would corrupt it; call ndferry.connect here"
            )
        if self._owner == threading.get_ident():
            raise Error("an operation of this client is running: a progress callback cannot begin another")
        with self._lock:
            self._owner = threading.get_ident()
            try:
                if self._closed:
                    raise ConnectionError(f"the connection to {self._addr} is closed ({self._why}): connect again")
                return self._driver.run(attempt(self._session), end)
            except BaseException as error:
                if not (self._session.idle or self._closed):
                    self._why = str(error)[:200] or type(error).__name__
                    self._shut()
                raise
            finally:
                self._owner = 0
                if self._closed:
                    self._driver.close()
