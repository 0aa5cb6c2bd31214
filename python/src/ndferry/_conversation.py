"""Frames of one operation at a time, and what comes in between: credit, PING, ERROR (spec/WIRE.md §4, §6, §9)."""

from __future__ import annotations

from typing import Final

from ndferry import _messages, _wire
from ndferry._errors import CLOSING_CODES, ConnectionError, Error, ProtocolError, TimeoutError
from ndferry._frames import Inbox, Operation, Send
from ndferry._pace import Window
from ndferry._wire import MIB, Header, Kind

DRAIN_LIMIT: Final = 64 * MIB
"""Bytes of an operation that was given up which are read and thrown away before the connection is closed instead."""


class Conversation:
    """What the operations of `ndferry._core.Session` are made of. Its attributes are described there."""

    def __init__(self, inbox: Inbox) -> None:
        self.idle = True
        self.ended = False
        self._patient = True  # a server may be busy with a disk
        self._inbox = inbox
        self._credit = 0
        self._window: Window | None = None
        self._stream = 0

    def _begin(self) -> int:
        self._stream += 1
        if self._stream >= 1 << 32:
            raise ConnectionError("all stream numbers of this connection are used: connect again")
        self.idle = False
        self.ended = False
        return self._stream

    def _wait(self) -> Operation[None]:
        """Wait for a frame while the server works on a disk, as long as it answers a PING in time.

        A commit of many GiB may take longer than any timeout that tells a dead server from a busy one.
        """
        while True:
            try:
                yield from self._inbox.wait()
                return
            except TimeoutError:
                yield Send([_wire.pack_header(Kind.PING, 0, index=self._stream)])
            header = yield from self._inbox.header()
            if header.kind != Kind.PONG:
                self._inbox.give_back()
                return
            yield from self._inbox.payload(header)

    def _next(self, stream: int, *kinds: Kind, patient: bool = False) -> Operation[tuple[Header, bytes]]:
        """The next frame of one of `kinds` on `stream`, with its payload; `patient` as `_wait` is."""
        header = yield from self._next_header(stream, *kinds, patient=patient)
        return header, (yield from self._inbox.payload(header))

    def _next_header(self, stream: int, *kinds: Kind, patient: bool = False) -> Operation[Header]:
        """The header of the next frame of one of `kinds` on `stream`; an ERROR is raised."""
        while True:
            if patient and self._patient:
                yield from self._wait()
            header = yield from self._inbox.header()
            if header.kind in kinds and header.stream == stream:
                return header
            yield from self._aside(header)

    def _aside(self, header: Header) -> Operation[None]:
        """Deal with a frame that is not the one an operation waits for."""
        if header.kind == Kind.ERROR:
            raise (yield from self._error(header))
        if header.kind == Kind.CREDIT:
            self._credit += header.number
            if self._credit > _wire.MAX_CREDIT:
                raise ProtocolError("wire: CREDIT makes the sum over 2^62 (§6)")
            yield from self._inbox.payload(header)
        elif header.kind == Kind.PONG:
            yield from self._inbox.payload(header)  # of a PING in `_wait` that was answered after what it waited for
        elif header.kind == Kind.PING:
            yield from self._inbox.payload(header)
            yield Send([_wire.pack_header(Kind.PONG, 0, index=header.number)])
        elif header.known:
            raise ProtocolError(f"wire: {Kind(header.kind).name} on stream {header.stream} is out of turn (§4)")
        else:
            yield from self._inbox.payload(header)

    def _error(self, header: Header) -> Operation[Error]:
        """The exception of an ERROR frame. It ends the operation; `idle` says what is left of the connection."""
        if header.stream not in (0, self._stream):
            raise ProtocolError(f"wire: ERROR on stream {header.stream}, which is not open (§4)")
        error = _messages.error_of((yield from self._inbox.payload(header)))
        self.idle = header.stream != 0 and error.code not in CLOSING_CODES
        return error

    def _arrived(self, count: int) -> Operation[None]:
        """So much credit that the server has used is here, of cells: grant what it is worth to grant (§6)."""
        if self._window is not None and (more := self._window.arrived(count)):
            yield Send([_wire.pack_header(Kind.CREDIT, 0, index=more)])

    def _expect(self, cell_bytes: int) -> Operation[None]:
        """Cells of so many bytes come next: see that one can."""
        if self._window is not None and (more := self._window.expect(cell_bytes)):
            yield Send([_wire.pack_header(Kind.CREDIT, 0, index=more)])

    def _request(self, frame: bytes) -> Operation[None]:
        try:
            yield Send([frame])
        except ConnectionError as broken:
            yield from self._last_words(broken)

    def _last_words(self, broken: ConnectionError) -> Operation[None]:
        """After a failure to send: raise the ERROR that the server sent before it closed, or else `broken`."""
        words: Error | None = None
        try:
            while words is None:
                header = yield from self._inbox.header()
                if header.kind == Kind.ERROR:
                    words = yield from self._error(header)
                else:
                    yield from self._inbox.discard(header.length)
        except Error:
            raise broken from None
        self.idle = False
        raise words from broken

    def _abandon(self, stream: int, *, forget: bool = False) -> Operation[None]:
        """Cancel the operation and read what is still on its way. Leaves `idle` False when that is too much.

        `forget`: what the server has of a PUT is of no use.
        """
        self.ended = True
        yield Send([_wire.pack_header(Kind.CANCEL, stream, raw=int(forget))])
        drained = 0
        while drained <= DRAIN_LIMIT:
            header = yield from self._inbox.header()
            if header.stream != stream or header.kind == Kind.ERROR:
                try:
                    yield from self._aside(header)
                except Error:
                    if header.kind != Kind.ERROR:
                        raise
                    return
                continue
            drained += header.length
            yield from self._inbox.discard(header.length)
            if header.kind == Kind.CHUNK:
                yield from self._arrived(max(header.raw, _wire.MIN_COST))
            if header.kind in (Kind.DONE, Kind.RECEIPT):
                self.idle = True
                return
