"""The blocking client: operations of `ndferry._core` driven over a socket by `ndferry._blocking`."""

from __future__ import annotations

import builtins
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, NoReturn, TypeVar

import numpy.typing as npt

from ndferry import _address, _messages, _requests
from ndferry._array import Array
from ndferry._blocking import Driver
from ndferry._core import Progress, Session
from ndferry._errors import ConnectionError, Error, InvalidError
from ndferry._frames import Operation
from ndferry._receipt import Entry, Receipt, Report, Stat

T = TypeVar("T")


def connect(addr: str | None = None, *, timeout: float | None = 30.0) -> Client:
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
    addr = addr or _address.default()
    return Client(Driver(_address.dial(addr, timeout), timeout), addr)


class Client:
    """A connection to a server. Made by `connect`.

    One operation runs at a time: calls from several threads wait for one another; for parallel transfers connect once
    for each thread. A client does not survive ``fork``: the child gets an error and must connect itself.

    After an exception `closed` tells whether the connection is at a boundary between operations, so that the next call
    works (False), or was closed and a new one is needed (True). An interrupt (``KeyboardInterrupt``) inside a transfer
    closes it.
    """

    def __init__(self, driver: Driver, addr: str) -> None:
        self._driver = driver
        self._addr = addr
        self._session = Session(_requests.SOFTWARE)
        self._lock = threading.Lock()
        self._owner = 0  # the thread that holds _lock
        self._pid = os.getpid()
        self._closed = False
        self._why = "close() was called"
        self._run(self._session.hello(), None)

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
        """The connection is gone: every further call raises `ConnectionError`."""
        return self._closed

    @property
    def server(self) -> str:
        """What the server calls itself."""
        return self._session.server

    def close(self) -> None:
        """Close the connection. Again is harmless; an operation of another thread ends with an error."""
        self._closed = True
        if self._owner not in (0, threading.get_ident()) and self._pid == os.getpid():
            self._driver.interrupt()
        else:
            self._driver.close()

    def ping(self, *, deadline: float | None = None) -> float:
        """Seconds to the server and back."""
        started = time.monotonic()
        self._run(self._session.ping(), deadline)
        return time.monotonic() - started

    def put(
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
        """Store an array under `name`; one that is there is replaced.

        Contiguous arrays in any memory order (C, Fortran, any permutation of the axes) are sent from their own memory.
        Other views are gathered chunk by chunk.

        Parameters
        ----------
        name
            Parts joined by ``/``.
        array
            Of bool, integers, float16 to float64, complex64 or complex128, in either byte order.
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
            codec, any other connection is taken for 1 Gbit/s.
        digest
            ``crc32c`` for each chunk, or ``sha256`` over the whole as well.
        attrs
            A dict of JSON values.
        if_absent
            Raise `ConflictError` when the name is taken.
        id
            32 hex digits that identify the transfer. Asking again with the same one is safe and stores once; None makes
            one.
        progress
            Called with the bytes sent and the bytes in all.
        deadline
            Seconds for the whole call.

        Returns
        -------
        Receipt
            The array is committed: every chunk was checked and, if `Receipt.durability` is ``durable``, is on stable
            storage.
        """
        operation = _requests.put(
            self._session,
            name,
            array,
            chunks=chunks,
            codec=codec,
            digest=digest,
            attrs=attrs,
            if_absent=if_absent,
            id=id,
            progress=progress,
            level=level,
            shuffle=shuffle,
            link_rate=link_rate,
            local=_address.is_local(self._addr),
        )
        return self._run(operation, deadline)

    def get(
        self,
        name: str,
        *,
        out: Array | None = None,
        progress: Progress | None = None,
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
        deadline
            Seconds for the whole call.

        Returns
        -------
        numpy.ndarray
            `out`, or a new, writable array with the dtype and the memory order of the one that was put.
        """
        return self._run(_requests.get(self._session, name, out, progress), deadline)

    def stat(self, name: str, *, deadline: float | None = None) -> Stat:
        """Describe an array without reading it."""
        _messages.check_name(name)
        return self._run(self._session.stat(name), deadline)

    def delete(self, name: str, *, deadline: float | None = None) -> None:
        """Remove an array; `NotFoundError` when there is none."""
        _messages.check_name(name)
        self._run(self._session.delete(name), deadline)

    def verify(self, name: str, *, progress: Progress | None = None, deadline: float | None = None) -> Report:
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
        return self._run(self._session.verify(name, progress), deadline)

    def list(self, prefix: str = "", *, deadline: float | None = None) -> builtins.list[Entry]:
        """The arrays whose names begin with the plain string `prefix`, in byte order of their names."""
        return builtins.list(self.iterate(prefix, deadline=deadline))

    def iterate(self, prefix: str = "", *, deadline: float | None = None) -> Iterator[Entry]:
        """As `list`, fetched in pages of 1,000; other operations may run in between.

        `deadline` bounds each page.
        """
        after, more = "", True
        while more:
            entries, more = self._run(self._session.list(prefix, after), deadline)
            yield from entries
            if entries:
                after = entries[-1].name

    # ---- the connection

    def _run(self, operation: Operation[T], deadline: float | None) -> T:
        end = None if deadline is None else time.monotonic() + deadline
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
                return self._driver.run(operation, end)
            except BaseException as error:
                if not (self._session.idle or self._closed):
                    self._why = str(error)[:200] or type(error).__name__
                    self.close()
                raise
            finally:
                self._owner = 0
                if self._closed:
                    self._driver.close()
