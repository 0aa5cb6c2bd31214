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
import os
from collections.abc import Callable
from typing import ClassVar, Final

import numpy as np

from ndferry import _codec, _messages, _payloads, _wire
from ndferry._array import Array, Layout
from ndferry._cells import Source, Target, check_out
from ndferry._codec import Blosc
from ndferry._errors import (
    CLOSING_CODES,
    ConnectionError,
    Error,
    IntegrityError,
    ProtocolError,
    TimeoutError,
)
from ndferry._frames import Inbox, Operation, Outbox, Send
from ndferry._receipt import Damage, Entry, Receipt, Report, Stat
from ndferry._wire import MIB, MIN_COST, PIECE, TRAILER_SIZE, Bytes, Header, Kind, crc32c

Progress = Callable[[int, int], object]

POLL_EVERY: Final = 4 * MIB
"""Bytes sent between two looks at what the server says meanwhile."""

DRAIN_LIMIT: Final = 64 * MIB
"""Bytes of an operation that was given up which are read and thrown away before the connection is closed instead."""


class Session:
    """The client's side of one connection. Not to be used by two operations at a time.

    Attributes
    ----------
    idle : bool
        The connection is at a boundary and the next operation may begin.
    server : str
        What the server calls itself, once `hello` is done.
    ended : bool
        The running operation has sent its last frame, FINISH or CANCEL.
    codecs : tuple of str
        The chunk codecs that it decodes.
    """

    decodes: ClassVar[tuple[str, ...]] = ("none", "blosc")
    """The chunk codecs that this side decodes."""

    def __init__(self, software: str, inbox: Inbox | None = None) -> None:
        self.idle = True
        self.server = ""
        self.ended = False
        self.codecs: tuple[str, ...] = ("none",)
        self._software = software
        self._patient = True  # a server may be busy with a disk
        self._inbox = inbox or Inbox()
        self._credit = 0
        self._stream = 0

    # ---- operations

    def hello(self) -> Operation[None]:
        """Open the connection (§2). Must be the first operation."""
        self.idle = False
        # With a line break at the end a server of a text protocol, such as HTTP, answers at once that it is one.
        yield from self._request(_wire.pack_frame(Kind.HELLO, 0, self._hello(_wire.MAX_CREDIT) + b"\n"))
        yield from self._greeted()
        self.idle = True

    def _hello(self, credit: int) -> bytes:
        return _payloads.dumps(
            {
                "versions": _wire.VERSIONS,
                "software": self._software,
                "features": [],
                "codecs": self.decodes,
                "digests": ["crc32c", "sha256"],
                "credit": credit,
            }
        )

    def _greeted(self) -> Operation[None]:
        """Hear the HELLO of the other side."""
        header = yield from self._inbox.header()
        if header.kind == Kind.ERROR:
            raise (yield from self._error(header))
        if header.kind != Kind.HELLO:
            raise ProtocolError(f"wire: frame kind {header.kind} before HELLO (§2)")
        message = _messages.parse(Kind.HELLO, (yield from self._inbox.payload(header)))
        low, high = message["versions"]
        if not low <= _wire.VERSIONS[1] or not high >= _wire.VERSIONS[0]:
            raise ProtocolError(
                f"the server speaks versions {low} to {high} of the protocol, this package {_wire.VERSIONS[0]} to "
                f"{_wire.VERSIONS[1]}: update the older of the two",
                code="version",
            )
        self.server = message.get("software", "")
        self.codecs = tuple(message.get("codecs", ("none",)))
        self._credit = message["credit"]

    def ping(self) -> Operation[None]:
        """Go to the server and back."""
        self.idle = False
        token = int.from_bytes(os.urandom(8), "little")
        yield from self._request(_wire.pack_header(Kind.PING, 0, index=token))
        header, _ = yield from self._next(0, Kind.PONG)
        while header.number != token:  # of a PING in `_wait`
            header, _ = yield from self._next(0, Kind.PONG)
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
        codec: Blosc | None = None,
        codec_why: str = "",
    ) -> Operation[Receipt]:
        """Send an array (§5.1). `array` must have the dtype, shape and memory order of `layout`."""
        stream = self._begin()
        out = Outbox()
        request = _payloads.put_json(name, id, layout, digest, attributes, if_absent, codec, codec_why)
        out.add(_wire.pack_frame(Kind.PUT, stream, request))
        leaves = bytearray() if digest == "sha256" else None
        try:
            if codec is None:
                yield from self._send_cells(stream, out, array, layout, leaves, progress)
            else:
                yield from self._send_encoded(stream, out, Source(array, layout), layout, codec, leaves, progress)
            root = b"" if leaves is None else _payloads.dumps({"root": layout.root(bytes(leaves))})
            out.add(_wire.pack_frame(Kind.FINISH, stream, root, index=layout.cells))
            self.ended = True
            yield out.take()
        except ConnectionError as broken:
            yield from self._last_words(broken)
        while True:
            header, payload = yield from self._next(stream, Kind.RECEIPT, Kind.ACCEPT, Kind.ACK, patient=True)
            if header.kind == Kind.RECEIPT:
                break
        receipt = _payloads.receipt(_messages.parse(Kind.RECEIPT, payload))
        if receipt.id != id or receipt.nbytes != layout.nbytes or receipt.cells != layout.cells:
            raise ProtocolError(f"wire: the RECEIPT of {receipt.id} is not that of this PUT, {id} (§5.1)")
        self.idle = True
        return receipt

    def get(self, name: str, out: Array | None, progress: Progress | None) -> Operation[Array]:
        """Receive an array (§5.2), into `out` when it is given."""
        stream = self._begin()
        yield from self._request(_wire.pack_frame(Kind.GET, stream, _payloads.dumps({"name": name})))
        _, payload = yield from self._next(stream, Kind.META)
        stat, layout = _payloads.meta_to_read(payload)
        try:
            result = layout.empty() if out is None else check_out(out, layout)
            target = Target(result, layout, stat.digest.kind == "sha256")
        except (Error, MemoryError):
            yield from self._abandon(stream)
            raise
        if stat.codec == "none":
            header, done = yield from self._receive_cells(stream, target, None, progress)
        else:
            with _codec.Pipeline() as pipeline:
                header, done = yield from self._receive_cells(stream, target, pipeline, progress)
                self.idle = header.number == done == layout.cells
                while len(pipeline):
                    pipeline.take()
        if header.number != done or done != layout.cells:
            raise ProtocolError(f"wire: DONE after {done} of {layout.cells} cells, it says {header.number} (§5.2)")
        self.idle = True
        if target.leaves is not None and layout.root(target.leaves.tobytes()) != stat.digest.root:
            raise IntegrityError(f"get {name!r}: the sha256 root of what came is not the one that was stored (§5.7)")
        return result

    def stat(self, name: str) -> Operation[Stat]:
        """Describe an array (§5.2)."""
        stream = self._begin()
        yield from self._request(_wire.pack_frame(Kind.STAT, stream, _payloads.dumps({"name": name})))
        _, payload = yield from self._next(stream, Kind.META)
        self.idle = True
        return _payloads.meta(payload)[0]

    def list(self, prefix: str, after: str) -> Operation[tuple[list[Entry], bool]]:
        """One page of names (§5.3), and whether there are more."""
        stream = self._begin()
        request = _payloads.dumps({"prefix": prefix, "after": after, "limit": 1000})
        yield from self._request(_wire.pack_frame(Kind.LIST, stream, request))
        _, payload = yield from self._next(stream, Kind.ENTRIES)
        self.idle = True
        message = _messages.parse(Kind.ENTRIES, payload)
        entries = [_payloads.entry(entry) for entry in message["entries"]]
        names = [after.encode(), *(entry.name.encode() for entry in entries)]
        if any(a >= b for a, b in itertools.pairwise(names)) or (message["more"] and not entries):
            raise ProtocolError("wire: ENTRIES are not in order (§5.3)")
        return entries, message["more"]

    def delete(self, name: str) -> Operation[None]:
        """Remove an array."""
        stream = self._begin()
        yield from self._request(_wire.pack_frame(Kind.DELETE, stream, _payloads.dumps({"name": name})))
        yield from self._next(stream, Kind.DONE, patient=True)
        self.idle = True

    def verify(self, name: str, progress: Progress | None) -> Operation[Report]:
        """Let the server read and check everything that it has of an array (§5.4)."""
        stream = self._begin()
        yield from self._request(_wire.pack_frame(Kind.VERIFY, stream, _payloads.dumps({"name": name})))
        last = False
        while not last:
            header, payload = yield from self._next(stream, Kind.REPORT, patient=True)
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
        out: Outbox,
        array: Array,
        layout: Layout,
        leaves: bytearray | None,
        progress: Progress | None,
    ) -> Operation[None]:
        source = Source(array, layout)
        cost = max(layout.cell_bytes, MIN_COST)
        sent = 0
        for cell in range(layout.cells):
            if self._credit < cost or sent >= POLL_EVERY:
                sent = 0
                yield from self._listen(stream, out, cost)
                if progress:
                    yield from self._report(stream, progress, cell * layout.cell_bytes, layout.nbytes)
            if not source.direct and out.size:
                yield out.take()  # the buffer that it may point into is used again
            self._credit -= cost
            sent += cost
            size = layout.cell_bytes
            out.add(_wire.pack_header(Kind.CHUNK, stream, size, index=cell, raw=size))
            crc = 0
            leaf = hashlib.sha256() if leaves is not None else None
            for piece in source.pieces(cell):
                if out.add(piece):
                    yield out.take()
                crc = crc32c(piece, crc)  # behind the send, which has brought the piece into the cache
                if leaf is not None:
                    leaf.update(piece)
            out.add(_wire.pack_trailer(crc))
            if leaf is not None and leaves is not None:
                leaves += leaf.digest()
        if progress:
            if out.size:
                yield out.take()
            yield from self._report(stream, progress, layout.nbytes, layout.nbytes)

    def _send_encoded(
        self,
        stream: int,
        out: Outbox,
        source: Source,
        layout: Layout,
        codec: Blosc,
        leaves: bytearray | None,
        progress: Progress | None,
    ) -> Operation[None]:
        """As `_send_cells`, with cells that threads encode while earlier ones are sent."""
        cost = max(layout.cell_bytes, MIN_COST)
        sent = cell = ahead = 0

        def encode(raw: Bytes) -> tuple[bytes, int, bytes]:
            data = codec.encode(raw)
            return data, crc32c(data), hashlib.sha256(raw).digest() if leaves is not None else b""

        with _codec.Pipeline() as pipeline:
            while cell < layout.cells:
                while ahead < layout.cells and not pipeline.full:
                    pipeline.submit(encode, source.whole(ahead))
                    ahead += 1
                if self._credit < cost or sent >= POLL_EVERY:
                    sent = 0
                    yield from self._listen(stream, out, cost)
                    if progress:
                        yield from self._report(stream, progress, cell * layout.cell_bytes, layout.nbytes)
                self._credit -= cost
                data, crc, leaf = pipeline.take()
                sent += len(data)
                out.add(_wire.pack_header(Kind.CHUNK, stream, len(data), index=cell, raw=layout.cell_bytes))
                for start in range(0, len(data), PIECE):
                    if out.add(data[start : start + PIECE]):
                        yield out.take()
                out.add(_wire.pack_trailer(crc))
                if leaves is not None:
                    leaves += leaf
                cell += 1
        if out.size:
            yield out.take()
        if progress:
            yield from self._report(stream, progress, layout.nbytes, layout.nbytes)

    def _report(self, stream: int, progress: Progress, done: int, total: int) -> Operation[None]:
        """Between two cells: call `progress`; when it raises, end the operation."""
        problem = _call(progress, done, total)
        if problem is not None:
            yield from self._abandon(stream)
            raise problem

    def _listen(self, stream: int, out: Outbox, wanted: int) -> Operation[None]:
        """Between two cells: hear what the server says, and wait until it grants `wanted` bytes."""
        if out.size:
            yield out.take()
        while True:
            yield from self._inbox.poll()
            if self._inbox.empty and self._credit >= wanted:
                return
            header = yield from self._inbox.header()
            if header.kind not in (Kind.ACCEPT, Kind.ACK) or header.stream != stream:
                yield from self._aside(header)
            else:
                yield from self._inbox.payload(header)

    # ---- receiving

    def _receive_cells(
        self, stream: int, target: Target, pipeline: _codec.Pipeline | None, progress: Progress | None
    ) -> Operation[tuple[Header, int]]:
        """Receive CHUNK frames up to DONE, which is returned with their number."""
        layout = target.layout
        done = 0
        while True:
            header = yield from self._next_header(stream, Kind.CHUNK, Kind.DONE)
            if header.kind == Kind.DONE:
                yield from self._inbox.payload(header)
                return header, done
            problem: Exception | None
            if pipeline is None:
                problem = yield from self._receive_cell(header, target)
            else:
                problem = yield from self._receive_encoded(header, target, pipeline)
            done += 1
            if problem is None and progress:
                problem = _call(progress, min(layout.nbytes, done * layout.cell_bytes), layout.nbytes)
            if problem is not None:
                yield from self._abandon(stream)
                raise problem

    def _receive_cell(self, header: Header, target: Target) -> Operation[IntegrityError | None]:
        """Receive one CHUNK into `target`. What is wrong with its bytes is returned: the next frame can follow."""
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
            yield from self._inbox.fill(piece)
            crc = crc32c(piece, crc)
            if leaf is not None:
                leaf.update(piece)
            if padding and piece.any():
                clean = False
        try:
            whole = _wire.parse_trailer((yield from self._inbox.small(TRAILER_SIZE)), crc)
        except IntegrityError as error:
            return IntegrityError(f"cell {cell}: {error}", cell=cell)
        if not whole:
            yield from self._next_header(header.stream)  # the ERROR that must follow is raised
        if not (clean and target.finish(cell)):
            return IntegrityError(f"cell {cell}: its padding is not zero (§5.6)", cell=cell)
        if leaf is not None and target.leaves is not None:
            target.leaves[cell] = np.frombuffer(leaf.digest(), np.uint8)
        return None

    def _receive_encoded(
        self, header: Header, target: Target, pipeline: _codec.Pipeline
    ) -> Operation[IntegrityError | None]:
        """As `_receive_cell`, with cells that threads decode while later ones are received."""
        layout = target.layout
        cell = header.number
        if cell >= layout.cells or target.seen[cell]:
            raise ProtocolError(f"wire: cell {cell} of {layout.cells} is out of range or came twice (§5.2)")
        if header.raw != layout.cell_bytes or not 0 <= header.length - _codec.OVERHEAD <= layout.cell_bytes:
            raise ProtocolError(
                f"wire: cell {cell} has {header.raw} bytes in {header.length}, not {layout.cell_bytes} (§5.6)"
            )
        target.seen[cell] = True
        data = np.empty(header.length, np.uint8)
        yield from self._inbox.fill(data)
        try:
            whole = _wire.parse_trailer((yield from self._inbox.small(TRAILER_SIZE)), crc32c(data))
        except IntegrityError as error:
            return IntegrityError(f"cell {cell}: {error}", cell=cell)
        if not whole:
            yield from self._next_header(header.stream)  # the ERROR that must follow is raised

        def decode() -> None:
            raw = target.room(cell)
            _codec.decode(data, raw, cell)
            if target.leaves is not None:
                target.leaves[cell] = np.frombuffer(hashlib.sha256(raw).digest(), np.uint8)
            if not target.put(cell, raw):
                raise IntegrityError(f"cell {cell}: its padding is not zero (§5.6)", cell=cell)

        pipeline.submit(decode)
        return _finished(pipeline) if pipeline.full else None

    # ---- frames

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
                self._inbox.unread()
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

    def _abandon(self, stream: int) -> Operation[None]:
        """Cancel the operation and read what is still on its way. Leaves `idle` False when that is too much."""
        self.ended = True
        yield Send([_wire.pack_header(Kind.CANCEL, stream)])
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
            if header.kind in (Kind.DONE, Kind.RECEIPT):
                self.idle = True
                return


def _finished(pipeline: _codec.Pipeline) -> IntegrityError | None:
    """Wait for the oldest cell that is being decoded."""
    try:
        pipeline.take()
    except IntegrityError as error:
        return error
    return None


def _call(progress: Progress, done: int, total: int) -> Exception | None:
    """Call what the user gave; what it raises is returned."""
    try:
        progress(done, total)
    except Exception as error:
        return error
    return None
