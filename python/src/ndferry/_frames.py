"""What an operation asks of its connection, and the bytes of frames that come in. No I/O."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np

from ndferry import _wire
from ndferry._errors import ProtocolError
from ndferry._wire import HEADER_SIZE, SEND_PIECE, TRAILER_SIZE, Buffer, Bytes, Header, crc32c

T = TypeVar("T")

READ_AHEAD: Final = 16 * 1024
"""Bytes that are read at once where headers and small payloads are expected."""


@dataclass(slots=True)
class Send:
    """Send all of `buffers`."""

    buffers: list[Buffer]


@dataclass(slots=True)
class Receive:
    """Receive into `view`, at least `least` bytes."""

    view: Bytes
    least: int


@dataclass(slots=True)
class Wait:
    """Wait until `future`, the work of a thread, is done. Resume with 0, whatever came of it."""

    future: Future[Any]


Operation: TypeAlias = Generator[Send | Receive | Wait, int, T]


class Outbox:
    """Buffers on their way, collected until they are worth a system call."""

    __slots__ = ("buffers", "size")

    def __init__(self) -> None:
        self.buffers: list[Buffer] = []
        self.size = 0

    def add(self, buffer: Buffer) -> bool:
        """Take a buffer. True when it is time to send."""
        self.buffers.append(buffer)
        self.size += len(buffer)
        return self.size >= SEND_PIECE or len(self.buffers) >= 512

    def take(self) -> Send:
        send = Send(self.buffers)
        self.buffers, self.size = [], 0
        return send


class Inbox:
    """What was received and not yet read, and the frames in it. Its methods are parts of operations.

    With `exact` nothing is received that is not asked for: what follows the last frame stays in the socket. `to_client`
    says which side's frames are refused.
    """

    def __init__(self, *, exact: bool = False, to_client: bool = True) -> None:
        self._exact = exact
        self._to_client = to_client
        self._buffer: Bytes = np.empty(READ_AHEAD, np.uint8)
        self._start = 0
        self._end = 0

    @property
    def empty(self) -> bool:
        """Nothing was received that is not read."""
        return self._start == self._end

    def unread(self) -> bytes:
        """A copy of all that was received and not read, which stays."""
        return self._buffer[self._start : self._end].tobytes()

    def clear(self) -> None:
        """Throw away what was received and not read."""
        self._start = self._end = 0

    def poll(self) -> Operation[None]:
        """Receive what is there, without waiting, unless a header is in the inbox."""
        if self._end - self._start < HEADER_SIZE:
            self._compact()
            self._end += yield Receive(self._buffer[self._end : self._reach(HEADER_SIZE)], 0)

    def wait(self) -> Operation[None]:
        """Wait until something is there. A timeout here has read nothing."""
        if self.empty:
            self._start = 0
            self._end = 0
            self._end = yield Receive(self._buffer[: self._reach(HEADER_SIZE)], 1)

    def header(self) -> Operation[Header]:
        if self._end - self._start < HEADER_SIZE:
            yield from self._read_ahead(HEADER_SIZE)
        header = _wire.parse_header(self._buffer, self._start, to_client=self._to_client)
        self._start += HEADER_SIZE
        return header

    def give_back(self) -> None:
        """Give back the header that was read last; nothing may have been read since."""
        self._start -= HEADER_SIZE

    def payload(self, header: Header) -> Operation[bytes]:
        """Receive and check the payload of a frame that is not a CHUNK."""
        if not header.length:
            return b""
        if header.length + TRAILER_SIZE <= READ_AHEAD:
            data = yield from self.small(header.length + TRAILER_SIZE)
        else:
            data = np.empty(header.length + TRAILER_SIZE, np.uint8)
            yield from self.fill(data)
        payload = data[: header.length].tobytes()
        if not _wire.parse_trailer(data, crc32c(payload), header.length):
            raise ProtocolError(f"wire: a frame of kind {header.kind} was aborted; only a CHUNK may be (§1)")
        return payload

    def discard(self, length: int) -> Operation[None]:
        """Read and throw away a payload and its trailer."""
        left = length + TRAILER_SIZE if length else 0
        while left:
            if self._start == self._end:
                self._start = self._end = 0
                self._end = yield Receive(self._buffer[: self._reach(left)], 1)
            step = min(left, self._end - self._start)
            self._start += step
            left -= step

    def small(self, size: int) -> Operation[Bytes]:
        """`size` bytes, at most READ_AHEAD, lent until the next read."""
        if self._end - self._start < size:
            yield from self._read_ahead(size)
        self._start += size
        return self._buffer[self._start - size : self._start]

    def _read_ahead(self, size: int) -> Operation[None]:
        self._compact()
        self._end += yield Receive(self._buffer[self._end : self._reach(size)], size - self._end)

    def _reach(self, size: int) -> int:
        """How far the buffer may be filled when `size` bytes of it are wanted."""
        return min(size, READ_AHEAD) if self._exact else READ_AHEAD

    def _compact(self) -> None:
        have = self._end - self._start
        if self._start:
            if have:
                self._buffer[:have] = self._buffer[self._start : self._end].copy()
            self._start, self._end = 0, have

    def fill(self, target: Bytes) -> Operation[None]:
        """Receive exactly `target`."""
        have = min(len(target), self._end - self._start)
        if have:
            target[:have] = self._buffer[self._start : self._start + have]
            self._start += have
        if have < len(target):
            yield Receive(target[have:], len(target) - have)
