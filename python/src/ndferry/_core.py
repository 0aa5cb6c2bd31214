"""One connection as a state machine without I/O: spec/WIRE.md §2 to §6, the client's side.

Each operation of `Session` is a generator. It yields what it wants of the connection and is resumed when that is done:

`Send`
    Send all of these buffers; resume with 0.
`Receive`
    Receive into the view, at least `least` and at most all of it; resume with the number of bytes. With `least` 0, do
    not wait: resume with 0 when nothing is there.

A driver that fails throws `ndferry.ConnectionError` or `ndferry.TimeoutError` into the generator. What the generator
returns is the result. The blocking client and any other driver share every line of this file.

A session runs one operation at a time and its driver sees to it. `idle` says where the connection is: True at a
boundary between operations, so that the next may begin; False inside one. Who finds it False after an operation has
ended, however it ended, must close the connection.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np

from ndferry import _array, _messages, _wire
from ndferry._array import Array, Layout
from ndferry._errors import (
    CLOSING_CODES,
    ConnectionError,
    Error,
    IntegrityError,
    InvalidError,
    ProtocolError,
    UnsupportedError,
)
from ndferry._receipt import Damage, Entry, Receipt, Report, Stat
from ndferry._wire import HEADER_SIZE, MIB, PIECE, TRAILER_SIZE, Buffer, Bytes, Header, Kind, crc32c

T = TypeVar("T")
Progress = Callable[[int, int], object]

READ_AHEAD: Final = 16 * 1024
"""Bytes that are read at once where headers and small payloads are expected."""

POLL_EVERY: Final = 4 * MIB
"""Bytes sent between two looks at what the server says meanwhile."""

DRAIN_LIMIT: Final = 64 * MIB
"""Bytes of an operation that was given up which are read and thrown away before the connection is closed instead."""

_ZEROS: Final[Bytes] = np.zeros(PIECE, np.uint8)
_ZEROS.flags.writeable = False


@dataclass(slots=True)
class Send:
    """Send all of `buffers`."""

    buffers: list[Buffer]


@dataclass(slots=True)
class Receive:
    """Receive into `view`, at least `least` bytes."""

    view: Bytes
    least: int


Operation: TypeAlias = Generator[Send | Receive, int, T]


class _Outbox:
    """Buffers on their way, collected until they are worth a system call."""

    __slots__ = ("buffers", "size")

    def __init__(self) -> None:
        self.buffers: list[Buffer] = []
        self.size = 0

    def add(self, buffer: Buffer) -> bool:
        """Take a buffer. True when it is time to send."""
        self.buffers.append(buffer)
        self.size += len(buffer)
        return self.size >= PIECE or len(self.buffers) >= 512

    def take(self) -> Send:
        send = Send(self.buffers)
        self.buffers, self.size = [], 0
        return send


class Session:
    """The client's side of one connection. Not to be used by two operations at a time.

    Attributes
    ----------
    idle : bool
        The connection is at a boundary and the next operation may begin.
    server : str
        What the server calls itself, once `hello` is done.
    """

    def __init__(self, software: str) -> None:
        self.idle = True
        self.server = ""
        self._software = software
        self._inbox: Bytes = np.empty(READ_AHEAD, np.uint8)
        self._start = 0
        self._end = 0
        self._credit = 0
        self._stream = 0

    # ---- operations

    def hello(self) -> Operation[None]:
        """Open the connection (§2). Must be the first operation."""
        self.idle = False
        payload = _dumps(
            {
                "versions": _wire.VERSIONS,
                "software": self._software,
                "features": [],
                "codecs": ["none"],
                "digests": ["crc32c", "sha256"],
                "credit": _wire.MAX_CREDIT,
            }
        )
        yield Send([_wire.pack_frame(Kind.HELLO, 0, payload)])
        header = yield from self._header()
        if header.kind == Kind.ERROR:
            raise (yield from self._error(header))
        if header.kind != Kind.HELLO:
            raise ProtocolError(f"wire: frame kind {header.kind} before HELLO (§2)")
        message = _messages.parse(Kind.HELLO, (yield from self._payload(header)))
        low, high = message["versions"]
        if not low <= _wire.VERSIONS[1] or not high >= _wire.VERSIONS[0]:
            raise ProtocolError(
                f"the server speaks versions {low} to {high} of the protocol, this package {_wire.VERSIONS[0]} to "
                f"{_wire.VERSIONS[1]}: update the older of the two",
                code="version",
            )
        self.server = message.get("software", "")
        self._credit = message["credit"]
        self.idle = True

    def ping(self) -> Operation[None]:
        """Go to the server and back."""
        self.idle = False
        token = int.from_bytes(os.urandom(8), "little")
        yield Send([_wire.pack_header(Kind.PING, 0, index=token)])
        header, _ = yield from self._next(0, Kind.PONG)
        if header.number != token:
            raise ProtocolError(f"wire: PONG {header.number:x} for PING {token:x} (§3)")
        self.idle = True

    def put(
        self,
        name: str,
        array: Array,
        layout: Layout,
        *,
        id: str,
        digest: str,
        attributes: str,
        if_absent: bool,
        progress: Progress | None,
    ) -> Operation[Receipt]:
        """Send an array (§5.1). `array` must have the dtype, shape and memory order of `layout`."""
        stream = self._begin()
        out = _Outbox()
        request = _put_json(name, id, layout, digest, attributes, if_absent)
        out.add(_wire.pack_frame(Kind.PUT, stream, request))
        leaves = bytearray() if digest == "sha256" else None
        try:
            yield from self._send_cells(stream, out, array, layout, leaves, progress)
            root = b"" if leaves is None else _dumps({"root": layout.root(bytes(leaves))})
            out.add(_wire.pack_frame(Kind.FINISH, stream, root, index=layout.cells))
            yield out.take()
        except ConnectionError as broken:
            raise (yield from self._last_words(broken)) from broken
        header, payload = yield from self._next(stream, Kind.RECEIPT, Kind.ACCEPT, Kind.ACK)
        while header.kind != Kind.RECEIPT:
            header, payload = yield from self._next(stream, Kind.RECEIPT, Kind.ACCEPT, Kind.ACK)
        receipt = _receipt(_messages.parse(Kind.RECEIPT, payload))
        if receipt.id != id or receipt.nbytes != layout.nbytes or receipt.cells != layout.cells:
            raise ProtocolError(f"wire: the RECEIPT of {receipt.id} is not that of this PUT, {id} (§5.1)")
        self.idle = True
        return receipt

    def get(self, name: str, out: Array | None, progress: Progress | None) -> Operation[Array]:
        """Receive an array (§5.2), into `out` when it is given."""
        stream = self._begin()
        yield Send([_wire.pack_frame(Kind.GET, stream, _dumps({"name": name}))])
        _, payload = yield from self._next(stream, Kind.META)
        stat, layout = _meta(payload)
        try:
            if stat.codec != "none":
                raise UnsupportedError(f"get {name!r}: codec {stat.codec!r} is not known to this version")
            result = layout.empty() if out is None else _check_out(out, layout)
        except (Error, MemoryError):
            yield from self._abandon(stream)
            raise
        target = _Target(result, layout, stat.digest.kind == "sha256")
        done = 0
        while True:
            header = yield from self._next_header(stream, Kind.CHUNK, Kind.DONE)
            if header.kind == Kind.DONE:
                yield from self._payload(header)
                break
            try:
                yield from self._receive_cell(header, target)
                done += 1
                if progress:
                    progress(min(layout.nbytes, done * layout.cell_bytes), layout.nbytes)
            except (ConnectionError, ProtocolError):
                raise
            except Exception:
                if not self.idle:
                    yield from self._abandon(stream)
                raise
        if header.number != done or done != layout.cells:
            raise ProtocolError(f"wire: DONE after {done} of {layout.cells} cells, it says {header.number} (§5.2)")
        self.idle = True
        if target.leaves is not None and layout.root(target.leaves.tobytes()) != stat.digest.root:
            raise IntegrityError(f"get {name!r}: the sha256 root of what came is not the one that was stored (§5.7)")
        return result

    def stat(self, name: str) -> Operation[Stat]:
        """Describe an array (§5.2)."""
        stream = self._begin()
        yield Send([_wire.pack_frame(Kind.STAT, stream, _dumps({"name": name}))])
        _, payload = yield from self._next(stream, Kind.META)
        self.idle = True
        return _meta(payload)[0]

    def list(self, prefix: str, after: str) -> Operation[tuple[list[Entry], bool]]:
        """One page of names (§5.3), and whether there are more."""
        stream = self._begin()
        request = _dumps({"prefix": prefix, "after": after, "limit": 1000})
        yield Send([_wire.pack_frame(Kind.LIST, stream, request)])
        _, payload = yield from self._next(stream, Kind.ENTRIES)
        self.idle = True
        message = _messages.parse(Kind.ENTRIES, payload)
        entries = [_entry(entry) for entry in message["entries"]]
        names = [after.encode(), *(entry.name.encode() for entry in entries)]
        if any(a >= b for a, b in itertools.pairwise(names)) or (message["more"] and not entries):
            raise ProtocolError("wire: ENTRIES are not in order (§5.3)")
        return entries, message["more"]

    def delete(self, name: str) -> Operation[None]:
        """Remove an array."""
        stream = self._begin()
        yield Send([_wire.pack_frame(Kind.DELETE, stream, _dumps({"name": name}))])
        yield from self._next(stream, Kind.DONE)
        self.idle = True

    def verify(self, name: str, progress: Progress | None) -> Operation[Report]:
        """Let the server read and check everything that it has of an array (§5.4)."""
        stream = self._begin()
        yield Send([_wire.pack_frame(Kind.VERIFY, stream, _dumps({"name": name}))])
        last = False
        while not last:
            header, payload = yield from self._next(stream, Kind.REPORT)
            last = header.raw == 1
            report = _messages.parse(Kind.REPORT, payload)
            if progress and not last:
                progress(report["cells_done"], report["cells"])
        self.idle = True
        bad = tuple(Damage(b["file"], b.get("cell"), b["problem"]) for b in report["bad"])
        return Report(report["cells"], report["bytes_done"], bad, report.get("bad_count", len(bad)))

    # ---- sending cells

    def _send_cells(
        self,
        stream: int,
        out: _Outbox,
        array: Array,
        layout: Layout,
        leaves: bytearray | None,
        progress: Progress | None,
    ) -> Operation[None]:
        source = _Source(array, layout)
        sent = 0
        for cell in range(layout.cells):
            if self._credit < layout.cell_bytes or sent >= POLL_EVERY:
                sent = 0
                yield from self._listen(stream, out, layout.cell_bytes)
                if progress:
                    yield from self._report(stream, progress, cell * layout.cell_bytes, layout.nbytes)
            if not source.direct and out.size:
                yield out.take()  # the buffer that it may point into is used again
            self._credit -= layout.cell_bytes
            sent += layout.cell_bytes
            size = layout.cell_bytes
            out.add(_wire.pack_header(Kind.CHUNK, stream, size, index=cell, raw=size))
            crc = 0
            leaf = hashlib.sha256() if leaves is not None else None
            for piece in source.pieces(cell):
                crc = crc32c(piece, crc)
                if leaf is not None:
                    leaf.update(piece)
                if out.add(piece):
                    yield out.take()
            out.add(_wire.pack_trailer(crc))
            if leaf is not None and leaves is not None:
                leaves += leaf.digest()
        if progress:
            yield from self._report(stream, progress, layout.nbytes, layout.nbytes, out)

    def _report(
        self, stream: int, progress: Progress, done: int, total: int, out: _Outbox | None = None
    ) -> Operation[None]:
        """Call `progress`; when it raises, end the operation at a boundary."""
        if out is not None and out.size:
            yield out.take()
        try:
            progress(done, total)
        except Exception:
            yield from self._abandon(stream)
            raise

    def _listen(self, stream: int, out: _Outbox, wanted: int) -> Operation[None]:
        """Between two cells: hear what the server says, and wait until it grants `wanted` bytes."""
        if out.size:
            yield out.take()
        while True:
            if self._end - self._start < HEADER_SIZE:
                self._compact()
                got = yield Receive(self._inbox[self._end :], 0)
                self._end += got
                if self._end == self._start and self._credit >= wanted:
                    return
            header = yield from self._header()
            if header.kind not in (Kind.ACCEPT, Kind.ACK) or header.stream != stream:
                yield from self._aside(header, stream)
            else:
                yield from self._payload(header)

    # ---- receiving

    def _receive_cell(self, header: Header, target: _Target) -> Operation[None]:
        """Receive one CHUNK into `target`.

        Raises
        ------
        IntegrityError, UnsupportedError
            With the stream at a boundary between frames.
        """
        layout = target.layout
        cell = header.number
        if cell >= layout.cells or target.seen[cell]:
            raise ProtocolError(f"wire: cell {cell} of {layout.cells} is out of range or came twice (§5.2)")
        if header.raw != layout.cell_bytes or header.length != layout.cell_bytes:
            raise ProtocolError(
                f"wire: cell {cell} has {header.raw} bytes in {header.length}, not {layout.cell_bytes} (§5.6)"
            )
        target.seen[cell] = True
        leaf = hashlib.sha256() if target.leaves is not None else None
        crc = 0
        clean = True
        for piece, padding in target.pieces(cell):
            yield from self._fill(piece)
            crc = crc32c(piece, crc)
            if leaf is not None:
                leaf.update(piece)
            if padding and piece.any():
                clean = False
        try:
            whole = _wire.parse_trailer((yield from self._small(TRAILER_SIZE)), crc)
        except IntegrityError as error:
            raise IntegrityError(f"cell {cell}: {error}", cell=cell) from None
        if not whole:
            end = yield from self._next_header(0, Kind.ERROR)
            raise (yield from self._error(end))
        if not (clean and target.finish(cell)):
            raise IntegrityError(f"cell {cell}: its padding is not zero (§5.6)", cell=cell)
        if leaf is not None and target.leaves is not None:
            target.leaves[cell] = np.frombuffer(leaf.digest(), np.uint8)

    def _begin(self) -> int:
        self._stream += 1
        if self._stream >= 1 << 32:
            raise ConnectionError("all stream numbers of this connection are used: connect again")
        self.idle = False
        return self._stream

    def _next(self, stream: int, *kinds: Kind) -> Operation[tuple[Header, bytes]]:
        """The next frame of one of `kinds` on `stream`, with its payload."""
        header = yield from self._next_header(stream, *kinds)
        return header, (yield from self._payload(header))

    def _next_header(self, stream: int, *kinds: Kind) -> Operation[Header]:
        """The header of the next frame of one of `kinds` on `stream`; an ERROR is raised."""
        while True:
            header = yield from self._header()
            if header.kind in kinds and (header.stream == stream or header.kind == Kind.ERROR):
                return header
            yield from self._aside(header, stream)

    def _aside(self, header: Header, stream: int) -> Operation[None]:
        """Deal with a frame that is not the one an operation waits for."""
        if header.kind == Kind.ERROR:
            raise (yield from self._error(header))
        if header.kind == Kind.CREDIT:
            self._credit += header.number
            if self._credit > _wire.MAX_CREDIT:
                raise ProtocolError("wire: CREDIT makes the sum over 2^62 (§6)")
            yield from self._payload(header)
        elif header.kind == Kind.PING:
            yield from self._payload(header)
            yield Send([_wire.pack_header(Kind.PONG, 0, index=header.number)])
        elif header.known:
            raise ProtocolError(f"wire: {Kind(header.kind).name} on stream {header.stream} is out of turn (§4)")
        else:
            yield from self._payload(header)

    def _error(self, header: Header) -> Operation[Error]:
        """The exception of an ERROR frame. It ends the operation; `idle` says what is left of the connection."""
        if header.stream not in (0, self._stream):
            raise ProtocolError(f"wire: ERROR on stream {header.stream}, which is not open (§4)")
        error = _messages.error_of((yield from self._payload(header)))
        self.idle = header.stream != 0 and error.code not in CLOSING_CODES
        return error

    def _last_words(self, broken: ConnectionError) -> Operation[Error]:
        """After a failure to send: the ERROR that the server sent before it closed, or else `broken`."""
        try:
            while True:
                header = yield from self._header()
                if header.kind == Kind.ERROR:
                    error = yield from self._error(header)
                    self.idle = False
                    return error
                yield from self._discard(header.length)
        except Error:
            return broken

    def _abandon(self, stream: int) -> Operation[None]:
        """Cancel the operation and read what is still on its way. Leaves `idle` False when that is too much."""
        yield Send([_wire.pack_header(Kind.CANCEL, stream)])
        drained = 0
        while drained <= DRAIN_LIMIT:
            header = yield from self._header()
            if header.stream != stream or header.kind == Kind.ERROR:
                try:
                    yield from self._aside(header, stream)
                except Error:
                    if header.kind != Kind.ERROR:
                        raise
                    return
                continue
            drained += header.length
            yield from self._discard(header.length)
            if header.kind in (Kind.DONE, Kind.RECEIPT):
                self.idle = True
                return

    # ---- bytes

    def _header(self) -> Operation[Header]:
        if self._end - self._start < HEADER_SIZE:
            yield from self._read_ahead(HEADER_SIZE)
        header = _wire.parse_header(self._inbox, self._start)
        self._start += HEADER_SIZE
        return header

    def _payload(self, header: Header) -> Operation[bytes]:
        """Receive and check the payload of a frame that is not a CHUNK."""
        if not header.length:
            return b""
        if header.length + TRAILER_SIZE <= READ_AHEAD:
            data = yield from self._small(header.length + TRAILER_SIZE)
        else:
            data = np.empty(header.length + TRAILER_SIZE, np.uint8)
            yield from self._fill(data)
        payload = data[: header.length].tobytes()
        if not _wire.parse_trailer(data, crc32c(payload), header.length):
            raise ProtocolError(f"wire: a frame of kind {header.kind} was aborted; only a CHUNK may be (§1)")
        return payload

    def _discard(self, length: int) -> Operation[None]:
        """Read and throw away a payload and its trailer."""
        left = length + TRAILER_SIZE if length else 0
        while left:
            if self._start == self._end:
                self._start = self._end = 0
                self._end = yield Receive(self._inbox, 1)
            step = min(left, self._end - self._start)
            self._start += step
            left -= step

    def _small(self, size: int) -> Operation[Bytes]:
        """`size` bytes, at most READ_AHEAD, lent until the next read."""
        if self._end - self._start < size:
            yield from self._read_ahead(size)
        self._start += size
        return self._inbox[self._start - size : self._start]

    def _read_ahead(self, size: int) -> Operation[None]:
        self._compact()
        self._end += yield Receive(self._inbox[self._end :], size - self._end)

    def _compact(self) -> None:
        have = self._end - self._start
        if self._start:
            if have:
                self._inbox[:have] = self._inbox[self._start : self._end].copy()
            self._start, self._end = 0, have

    def _fill(self, target: Bytes) -> Operation[None]:
        """Receive exactly `target`."""
        have = min(len(target), self._end - self._start)
        if have:
            target[:have] = self._inbox[self._start : self._start + have]
            self._start += have
        if have < len(target):
            yield Receive(target[have:], len(target) - have)


class _Source:
    """The pieces of each cell of an array that is sent."""

    def __init__(self, array: Array, layout: Layout) -> None:
        self._layout = layout
        self._stored = array.transpose(layout.order)
        flat = _array.flat_bytes(self._stored) if layout.cut is not None else None
        self.direct = flat is not None
        self._bytes = np.empty(layout.cell_bytes, np.uint8) if flat is None else flat

    def pieces(self, cell: int) -> Generator[Bytes, None, None]:
        """Runs of at most PIECE bytes that are the cell. Until the next call they may be read."""
        layout = self._layout
        if self.direct:
            offset, length = layout.run(cell)
        else:
            layout.gather(self._stored, cell, self._bytes)
            offset, length = 0, layout.cell_bytes
        for start in range(offset, offset + length, PIECE):
            yield self._bytes[start : min(start + PIECE, offset + length)]
        for left in range(layout.cell_bytes - length, 0, -PIECE):
            yield _ZEROS[: min(PIECE, left)]


class _Target:
    """Where each cell of an array that is received goes."""

    def __init__(self, array: Array, layout: Layout, digest: bool) -> None:
        self.layout = layout
        self.seen = np.zeros(layout.cells, np.bool_)  # the system gives pages of zeros only when they are touched
        self.leaves = np.zeros((layout.cells, 32), np.uint8) if digest else None
        self._stored = array.transpose(layout.order)
        flat = _array.flat_bytes(self._stored) if layout.cut is not None else None
        self._direct = flat is not None
        self._bytes = np.empty(layout.cell_bytes, np.uint8) if flat is None else flat

    def pieces(self, cell: int) -> Generator[tuple[Bytes, bool], None, None]:
        """Runs of at most PIECE bytes to receive into, and whether each is padding that must be zero."""
        layout = self.layout
        offset, length = layout.run(cell) if self._direct else (0, layout.cell_bytes)
        for start in range(offset, offset + length, PIECE):
            yield self._bytes[start : min(start + PIECE, offset + length)], False
        for left in range(layout.cell_bytes - length, 0, -PIECE):
            yield np.empty(min(PIECE, left), np.uint8), True

    def finish(self, cell: int) -> bool:
        """Put a checked cell into place. False when its padding is not zero."""
        return self._direct or self.layout.scatter(self._stored, cell, self._bytes)


def _check_out(out: Array, layout: Layout) -> Array:
    if out.dtype.str != layout.dtype.str or out.shape != layout.shape:
        raise InvalidError(
            f"get: out has dtype {out.dtype.str} and shape {out.shape}, the array {layout.dtype.str} and {layout.shape}"
        )
    return out


def _dumps(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _put_json(name: str, id: str, layout: Layout, digest: str, attributes: str, if_absent: bool) -> bytes:
    """The payload of PUT. The description of the array, its longest part, is made once for each layout."""
    parts = [f'{{"name":{json.dumps(name)},"id":"{id}",{_array.array_json(layout)},"digest":"{digest}"']
    if attributes != "{}":
        parts.append(f',"attributes":{json.dumps(attributes, ensure_ascii=False)}')
    if if_absent:
        parts.append(',"if_absent":true')
    return "".join((*parts, "}")).encode()


def _receipt(message: dict[str, Any]) -> Receipt:
    return Receipt(
        name=message["name"],
        id=message["id"],
        nbytes=message["nbytes"],
        stored_bytes=message["stored_bytes"],
        cells=message["cells"],
        codec=message["codec"],
        digest=_messages.digest_of(message["digest"]),
        durability=message["durability"],
        created=_messages.time_of(message["created"]),
    )


def _meta(payload: bytes) -> tuple[Stat, Layout]:
    message = _messages.parse(Kind.META, payload)
    layout, codec = _array.parse_array(message["array"], message.get("numpy"))
    if (codec, layout.cells, layout.nbytes) != (message["codec"], message["cells"], message["nbytes"]):
        raise ProtocolError("wire: META contradicts itself about codec, cells or nbytes (§5.2)")
    stat = Stat(
        name=message["name"],
        id=message["id"],
        dtype=layout.dtype,
        shape=layout.shape,
        order=layout.order,
        chunks=layout.cell,
        codec=codec,
        nbytes=layout.nbytes,
        stored_bytes=message["stored_bytes"],
        digest=_messages.digest_of(message["digest"]),
        durability=message["durability"],
        attrs=message["attributes"],
        created=_messages.time_of(message["created"]),
    )
    return stat, layout


def _entry(message: dict[str, Any]) -> Entry:
    return Entry(
        name=message["name"],
        dtype=message["dtype"],
        shape=tuple(message["shape"]),
        nbytes=message["nbytes"],
        stored_bytes=message["stored_bytes"],
        created=_messages.time_of(message["created"]),
    )
