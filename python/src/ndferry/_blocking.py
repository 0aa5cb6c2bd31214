"""Drives an operation over a blocking socket.

Waiting is bounded by SO_RCVTIMEO and SO_SNDTIMEO: no poll before each call, and MSG_WAITALL lets the kernel collect a
whole piece. A call that comes back short tells whether time was up.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import time
from collections.abc import Sequence
from concurrent import futures
from typing import Final, TypeVar

from ndferry._errors import ConnectionError, Error, TimeoutError
from ndferry._frames import Operation, Receive, Send, Wait
from ndferry._pace import delay
from ndferry._wire import KIB, PIECE, Buffer, Bytes

T = TypeVar("T")

PROGRESS: Final = 64 * KIB
"""Fewer bytes than this in one timeout are no progress, unless fewer are wanted."""

BRIEFLY: Final = 60e-6
"""Seconds in which an answer of this machine is asked for before the thread sleeps: a core that has gone to sleep takes
about as long to wake as a small operation takes."""

SKIPS: Final = 6
"""Each time that it did not pay doubles how often it is left out, to 2**SKIPS - 1 times in a row at most."""

_SEVERAL: Final = not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) > 1

_TIMEVAL = struct.Struct("@ll")


def end_of(deadline: float | None) -> float | None:
    """The monotonic time at which a call that begins now must have ended."""
    return None if deadline is None else time.monotonic() + deadline


class Patience:
    """How well asking before sleeping has paid lately."""

    __slots__ = ("missed", "skip")

    def __init__(self) -> None:
        self.missed = 0  # times in a row, at most SKIPS
        self.skip = 0  # times to leave out


class Driver:
    """A socket and its bounds on time. Owns the socket. For one thread at a time."""

    def __init__(self, sock: socket.socket, timeout: float | None) -> None:
        sock.settimeout(None)
        self._sock = sock
        self._timeout = timeout
        self._deadline: float | None = None
        self._armed: float | None = None
        self._near = _SEVERAL and near(sock)
        self._small, self._bulk = Patience(), Patience()
        self._arm(timeout)

    def close(self) -> None:
        """Close the socket. Again is harmless."""
        self._sock.close()

    def link(self) -> float | None:
        """What `_pace.delay` says of the socket."""
        return delay(self._sock)

    def interrupt(self) -> None:
        """From another thread: let a call that waits in `run` fail."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def run(self, operation: Operation[T], deadline: float | None = None) -> T:
        """Drive `operation` to its end; `deadline` is the monotonic time at which that must be."""
        self._deadline = deadline
        if deadline is None and self._armed != self._timeout:
            self._arm(self._timeout)
        try:
            request = next(operation)
            while True:
                try:
                    if type(request) is Receive:
                        result = self._receive(request)
                    elif type(request) is Send:
                        result = self._send(request.buffers)
                    else:
                        assert type(request) is Wait
                        futures.wait((request.future,))
                        result = 0
                except OSError as error:
                    request = operation.throw(translate(error))
                else:
                    request = operation.send(result)
        except StopIteration as stop:
            value: T = stop.value
            return value
        finally:
            operation.close()

    def _send(self, buffers: Sequence[Buffer]) -> int:
        self._bound()
        started, moved = time.monotonic(), 0
        if len(buffers) == 1:
            total = len(buffers[0])
            sent = self._sock.send(buffers[0])
        else:
            total = sum(map(len, buffers))
            sent = self._sock.sendmsg(buffers)
        while sent < total:
            started, moved = self._still(started, moved + sent)
            total -= sent
            buffers = behind(buffers, sent)
            sent = self._sock.sendmsg(buffers)
        return 0

    def _receive(self, request: Receive) -> int:
        view, least = request.view, request.least
        if least == 0:
            return self._poll(request)
        exact = least == len(view)
        have = moved = 0
        started = time.monotonic()
        while have < least:
            self._bound()
            if self._near and (exact or not have) and (got := self._soon(view[have:] if have else view, exact)):
                pass
            elif exact:
                got = self._sock.recv_into(view[have : have + PIECE], 0, socket.MSG_WAITALL)
            else:
                got = self._sock.recv_into(view[have:] if have else view)
            if got == 0:
                raise ConnectionError("the connection was closed by the other side", retryable=True)
            have += got
            if have < least:
                started, moved = self._still(started, moved + got)
        return have

    def _soon(self, view: Bytes, bulk: bool) -> int:
        """What comes at once; 0 when that is nothing."""
        patience = self._bulk if bulk else self._small
        if patience.skip:
            patience.skip -= 1
            return 0
        receive, end = self._sock.recv_into, 0.0
        while True:
            try:
                got = receive(view, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                now = time.monotonic()
                if end and now > end:
                    patience.missed = min(patience.missed + 1, SKIPS)
                    patience.skip = (1 << patience.missed) - 1
                    return 0
                end = end or now + BRIEFLY
            else:
                patience.missed = 0
                return got

    def _poll(self, request: Receive) -> int:
        try:
            got = self._sock.recv_into(request.view, 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        if got == 0:
            raise ConnectionError("the connection was closed by the other side", retryable=True)
        return got

    def _still(self, started: float, moved: int) -> tuple[float, int]:
        """After a call that came back short: the time from which to count on and the bytes since, or time is up.

        Signals cut calls into any number of short ones, of which none brings much: what counts is their sum.
        """
        now = time.monotonic()
        if moved >= PROGRESS:
            return now, 0
        if self._timeout is not None and now - started >= self._timeout:
            raise BlockingIOError(errno.EAGAIN, "no progress")
        return started, moved

    def _bound(self) -> None:
        """Before a call that may wait: let it wait no longer than the deadline allows."""
        if self._deadline is None:
            return
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise BlockingIOError(errno.EAGAIN, "deadline")
        self._arm(left if self._timeout is None else min(left, self._timeout))

    def _arm(self, timeout: float | None) -> None:
        seconds = 0.0 if timeout is None else max(timeout, 1e-3)  # zero means for ever
        whole = int(seconds)
        value = _TIMEVAL.pack(whole, int((seconds - whole) * 1e6))
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)
        self._armed = timeout


def near(sock: socket.socket) -> bool:
    """Whether the other end is on this machine."""
    if sock.family == socket.AF_UNIX:
        return True
    try:
        host = str(sock.getpeername()[0])
    except (OSError, IndexError):
        return False
    return host.startswith("127.") or host == "::1"


def behind(buffers: Sequence[Buffer], sent: int) -> list[Buffer]:
    """What is left of `buffers` when `sent` bytes are gone."""
    rest: list[Buffer] = []
    for buffer in buffers:
        if sent < len(buffer):
            rest.append(buffer[sent:])
        sent = max(0, sent - len(buffer))
    return rest


def translate(error: OSError) -> Error:
    if isinstance(error, Error):
        return error
    if isinstance(error, BlockingIOError):
        return TimeoutError("no progress within timeout, or the deadline has passed", retryable=True)
    return ConnectionError(f"the connection broke: {error}", retryable=True)
