"""Arrays directly between two programs: spec/WIRE.md §11. Operations without I/O, and `send_array` and `recv_array`."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import socket
import ssl
from collections.abc import Generator
from typing import Any, Final, NamedTuple, TypeVar, Unpack

import numpy.typing as npt

from ndferry import _address, _array, _messages, _payloads, _requests, _wire
from ndferry._array import Array, Layout
from ndferry._blocking import Driver, end_of
from ndferry._cells import Target, check_out
from ndferry._core import Session
from ndferry._errors import (
    CancelledError,
    ConnectionError,
    Error,
    IntegrityError,
    InvalidError,
    LimitError,
    ProtocolError,
)
from ndferry._frames import Inbox, Operation, Send
from ndferry._options import PutOptions, checked, takes_options
from ndferry._pipeline import Pipeline
from ndferry._receipt import Receipt
from ndferry._receiving import BESIDE, Progress, call, finished
from ndferry._upload import Upload
from ndferry._wire import MIB, MIN_COST, Header, Kind

T = TypeVar("T")

WINDOW: Final = 64 * MIB
"""Raw bytes that a sender may have on their way. A sender that is refused notices it within that."""

GRANT: Final = 16 * MIB


class Received(NamedTuple):
    """What `recv_array` returns: ``array, attrs = recv_array(sock)``."""

    array: Array
    attrs: dict[str, Any]


class Sender(Session):
    """The side that has the array: a client for one PUT."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(_requests.SOFTWARE, Inbox(exact=True), local=_is_local(sock))
        self._patient = False

    def send(self, upload: Upload) -> Operation[Receipt]:
        """Send an array, and end the conversation as §11 says."""
        yield from self.hello()
        try:
            return (yield from self.put(upload))
        except Error:
            if not self._stream:
                self.idle = False  # nothing was asked for, so no frame would be the last
            elif self.idle and not self.ended:
                yield Send([_wire.pack_header(Kind.CANCEL, self._stream)])
            raise


class Receiver(Session):
    """The side that wants the array: a server for one PUT."""

    def __init__(self) -> None:
        super().__init__(_requests.SOFTWARE, Inbox(exact=True, to_client=False))
        self._outstanding = 0
        self._stored = 0

    def receive(self, out: Array | None, progress: Progress | None) -> Operation[Received]:
        """Receive an array, into `out` when it is given. `idle` says where the stream is, however it ends."""
        self.idle = False
        try:
            return (yield from self._receive(out, progress))
        except Error as error:
            if not self.idle and error.code in _TOLD and not self.ended:
                with contextlib.suppress(ConnectionError):
                    yield Send([_error_frame(0, error)])
            raise

    def _receive(self, out: Array | None, progress: Progress | None) -> Operation[Received]:
        yield Send([_wire.pack_frame(Kind.HELLO, 0, self._hello(WINDOW))])
        yield from self._greeted()
        header = yield from self._request_header()
        stream = self._stream = header.stream
        payload = yield from self._inbox.payload(header)
        try:
            message = _messages.parse(Kind.PUT, payload)
            layout, codec, target, result = _prepare(message, out)
        except ProtocolError:
            raise
        except (Error, MemoryError) as error:
            raise (yield from self._refuse(stream, error)) from None
        if codec == "none" and (target.leaves is None or layout.cell_bytes < BESIDE):
            header, done = yield from self._receive_chunks(stream, target, None, codec, progress)
        else:
            with Pipeline() as pipeline:
                header, done = yield from self._receive_chunks(stream, target, pipeline, codec, progress)
        yield from self._finish(header, layout, codec, target, message, done)
        self.ended = True
        self.idle = True
        return Received(result, message["attributes"])

    def _receive_chunks(
        self, stream: int, target: Target, pipeline: Pipeline | None, codec: str, progress: Progress | None
    ) -> Operation[tuple[Header, int]]:
        """Receive the cells. Returns the header of the sender's last frame, and the number of cells."""
        layout = target.layout
        done = 0
        problem: Exception | None
        while True:
            header = yield from self._next_header(stream, Kind.CHUNK, Kind.FINISH, Kind.CANCEL)
            if header.kind != Kind.CHUNK:
                break
            self._spend(header)
            problem = yield from self._receive_chunk(header, target, pipeline, codec)
            done += 1
            if problem is None and progress:
                problem = call(progress, min(layout.nbytes, done * layout.cell_bytes), layout.nbytes)
            if problem is not None:
                raise (yield from self._refuse(stream, problem))
            yield from self._grant()
        while pipeline is not None and len(pipeline):
            problem = yield from finished(pipeline)
            if problem is not None:
                raise (yield from self._refuse(stream, problem, header))
        return header, done

    def _request_header(self) -> Operation[Header]:
        while True:
            header = yield from self._inbox.header()
            if header.kind == Kind.PUT:
                return header
            yield from self._aside(header)

    def _finish(
        self, header: Header, layout: Layout, codec: str, target: Target, message: dict[str, Any], done: int
    ) -> Operation[None]:
        """The last frame of the sender came: answer it."""
        stream = header.stream
        payload = yield from self._inbox.payload(header)
        problem: Error | None = None
        if header.kind == Kind.CANCEL:
            problem = CancelledError("the sender gave up")
        elif header.number != layout.cells or done != layout.cells:
            problem = InvalidError(f"FINISH says {header.number} of {layout.cells} cells, {done} came")
        elif target.leaves is not None:
            root = _messages.parse(Kind.FINISH, payload).get("root")
            if layout.root(target.leaves.tobytes()) != root:
                problem = IntegrityError("the sha256 root of what came is not the sender's (§5.7)")
        if problem is not None:
            yield Send([_error_frame(stream, problem)])
            self.ended = True
            self.idle = True
            raise problem
        digest: dict[str, Any] = {"kind": message.get("digest", "crc32c")}
        if target.leaves is not None:
            digest["root"] = layout.root(target.leaves.tobytes())
        receipt = {
            "name": message["name"],
            "id": message["id"],
            "nbytes": layout.nbytes,
            "stored_bytes": self._stored,
            "cells": layout.cells,
            "codec": codec,
            "digest": digest,
            "durability": "memory",
            "created": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        if "codec_why" in message:
            receipt["codec_why"] = message["codec_why"]
        yield Send([_wire.pack_frame(Kind.RECEIPT, stream, _payloads.dumps(receipt))])

    def _spend(self, header: Header) -> None:
        self._stored += header.length
        self._outstanding += max(header.raw, MIN_COST)
        if self._outstanding > WINDOW:
            raise ProtocolError("wire: CHUNK over the credit (§6)")

    def _grant(self) -> Operation[None]:
        """Give back the credit of what came, when it is worth a frame."""
        if self._outstanding >= GRANT:
            yield Send([_wire.pack_header(Kind.CREDIT, 0, index=self._outstanding)])
            self._outstanding = 0

    def _refuse(self, stream: int, problem: Exception, last: Header | None = None) -> Operation[Exception]:
        """Tell the sender, throw away what still comes, and be at a boundary. Returns `problem`.

        `last` is the header of the sender's last frame when that came already.

        ERROR is the last frame of this side: a sender that is out of credit reads it.
        """
        told = problem
        if isinstance(problem, MemoryError):
            told = problem = LimitError(f"receive: there is no memory for it: {problem}")
        elif not isinstance(problem, Error):
            told = CancelledError("the receiver gave up")
        yield Send([_error_frame(stream, told)])
        while True:
            header = last or (yield from self._next_header(stream, Kind.CHUNK, Kind.FINISH, Kind.CANCEL))
            yield from self._inbox.discard(header.length)
            if header.kind != Kind.CHUNK:
                self.ended = True
                self.idle = True
                return problem
            self._spend(header)

    def _error(self, header: Header) -> Operation[Error]:
        error = yield from super()._error(header)
        self.idle = False
        self.ended = True  # it needs no answer
        return error


_TOLD: Final = frozenset({"protocol", "version", "unsupported", "integrity", "limit"})
"""Codes of what a receiver found itself and tells before it closes."""


def _prepare(message: dict[str, Any], out: Array | None) -> tuple[Layout, str, Target, Array]:
    layout, codec = _array.parse_array(message["array"], message.get("numpy"))
    result = layout.empty() if out is None else check_out(out, layout)
    fill = message["array"].get("fill_value")
    return layout, codec, Target(result, layout, message.get("digest") == "sha256", fill), result


def _error_frame(stream: int, error: Exception) -> bytes:
    code = error.code if isinstance(error, Error) else "internal"
    text = str(error).encode()[:2048].decode(errors="ignore")
    return _wire.pack_frame(
        Kind.ERROR, stream, _payloads.dumps({"code": code, "message": text, "retryable": code == "temporary"})
    )


# ---- the caller's socket


def _is_local(sock: socket.socket) -> bool:
    """The other end is on this machine."""
    if sock.family == socket.AF_UNIX:
        return True
    with contextlib.suppress(OSError, IndexError):
        return _address.is_local(f"[{sock.getpeername()[0]}]:1")
    return False


def sending(
    sock: socket.socket, timeout: float | None, name: str, array: npt.ArrayLike, options: PutOptions
) -> tuple[Sender, Operation[Receipt]]:
    """What `send_array` does, checked; options that only a store knows say nothing to a receiver."""
    asked = dataclasses.replace(checked(options), if_absent=False, durability="durable")
    upload = Upload(name, array, asked, direct=True)
    check_stream(sock, timeout)
    sender = Sender(sock)
    return sender, sender.send(upload)


def check_stream(sock: socket.socket, timeout: float | None) -> None:
    if not isinstance(sock, socket.socket) or sock.type != socket.SOCK_STREAM:
        raise InvalidError(f"direct: {type(sock).__name__} is no stream socket")
    if isinstance(sock, ssl.SSLSocket):
        raise InvalidError("direct: TLS sockets are not carried: send through a plain socket or a socketpair")
    if timeout is not None and not timeout > 0:
        raise InvalidError(f"direct: timeout {timeout} is not above 0; None waits for ever")


def leave(sock: socket.socket, session: Session, error: BaseException) -> None:
    """After a failure: close what is at no boundary, and say so in the error."""
    if not session.idle:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()
    if isinstance(error, Error):
        error.closed = not session.idle


# ---- blocking


@contextlib.contextmanager
def _borrowed(sock: socket.socket, timeout: float | None) -> Generator[Driver, None, None]:
    """Drive the caller's socket, and leave its timeout and its blocking mode as they were."""
    check_stream(sock, timeout)
    before = sock.gettimeout()
    kernel = [(name, sock.getsockopt(socket.SOL_SOCKET, name, 16)) for name in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO)]
    try:
        yield Driver(sock, timeout)
    finally:
        if sock.fileno() >= 0:
            for name, value in kernel:
                sock.setsockopt(socket.SOL_SOCKET, name, value)
            sock.settimeout(before)


def _drive(
    sock: socket.socket, session: Session, operation: Operation[T], timeout: float | None, end: float | None
) -> T:
    with _borrowed(sock, timeout) as driver:
        try:
            return driver.run(operation, end)
        except BaseException as error:
            leave(sock, session, error)
            raise


@takes_options
def send_array(
    sock: socket.socket,
    array: npt.ArrayLike,
    *,
    name: str = "array",
    timeout: float | None = 30.0,
    deadline: float | None = None,
    **options: Unpack[PutOptions],
) -> Receipt:
    """Send an array to whoever calls `recv_array` at the other end of a connected stream socket.

    Any number of arrays may follow one another on a socket, in either direction, between other bytes that the two
    programs agree on. The socket's timeout and blocking mode are left as found.

    Parameters
    ----------
    sock
        A connected stream socket: TCP, Unix, a socketpair. It stays the caller's.
    array, chunks, codec, level, shuffle, link_rate, digest, attrs, dims, id, progress
        As in `Client.put`.
    name
        Told to the receiver. `if_absent` and `durability` are taken for symmetry with `Client.put` and change nothing:
        at the receiver there is no name to be taken, and no disk.
    timeout
        Seconds to wait for progress (64 KiB). None waits for ever.
    deadline
        Seconds for the whole call.

    Returns
    -------
    Receipt
        The receiver has the array and has verified every chunk.

    Raises
    ------
    Error
        `Error.closed` says where the stream is: False, at a boundary, so that the next array can follow; True, closed.
        Of exceptions that are not this package's, ``sock.fileno() == -1`` says the latter.

    Examples
    --------
    >>> import socket, threading, numpy as np
    >>> a, b = socket.socketpair()
    >>> thread = threading.Thread(target=send_array, args=(a, np.arange(6.0)), kwargs={"attrs": {"unit": "K"}})
    >>> thread.start()
    >>> recv_array(b)
    Received(array=array([0., 1., 2., 3., 4., 5.]), attrs={'unit': 'K'})
    >>> thread.join(); a.close(); b.close()
    """
    end = end_of(deadline)
    sender, operation = sending(sock, timeout, name, array, options)
    return _drive(sock, sender, operation, timeout, end)


def recv_array(
    sock: socket.socket,
    out: Array | None = None,
    *,
    progress: Progress | None = None,
    timeout: float | None = 30.0,
    deadline: float | None = None,
) -> Received:
    """Receive the array that the other end of a connected stream socket sends with `send_array`.

    Nothing behind the array is read. The socket's timeout and blocking mode are left as found.

    Parameters
    ----------
    sock
        A connected stream socket. It stays the caller's.
    out
        Receive into this array, which must have the dtype and shape of the one that comes. After an error its content
        is undefined. Give it to bound the memory that a sender can make this process use.
    progress
        Called with the bytes received and the bytes in all.
    timeout
        Seconds to wait for progress (64 KiB), the beginning too. None waits for ever.
    deadline
        Seconds for the whole call.

    Returns
    -------
    Received
        ``array, attrs``: `out` or a new array, every chunk verified, and the sender's attributes.

    Raises
    ------
    Error
        As `send_array`.
    """
    end = end_of(deadline)
    if out is not None:
        _requests.check_writable(out)
    receiver = Receiver()
    return _drive(sock, receiver, receiver.receive(out, progress), timeout, end)
