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

from ndferry import _codec, _messages, _payloads, _sparse, _wire
from ndferry._array import Array, Layout
from ndferry._cells import Source, Target, check_out
from ndferry._codec import Blosc
from ndferry._conversation import Conversation
from ndferry._errors import (
    ConflictError,
    ConnectionError,
    Error,
    IntegrityError,
    ProtocolError,
)
from ndferry._frames import Inbox, Operation, Outbox
from ndferry._receipt import Damage, Entry, Receipt, Report, Stat
from ndferry._region import Part
from ndferry._sparse import Plan, Step
from ndferry._wire import MIB, MIN_COST, PIECE, TRAILER_SIZE, Bytes, Header, Kind, crc32c

Progress = Callable[[int, int], object]

POLL_EVERY: Final = 4 * MIB
"""Bytes sent between two looks at what the server says meanwhile."""


class Session(Conversation):
    """The client's side of one connection. Not to be used by two operations at a time.

    Attributes
    ----------
    idle : bool
        The connection is at a boundary and the next operation may begin.
    server : str
        What the server calls itself, once `hello` is done.
    features : frozenset
        The optional parts of the protocol that the server speaks, once `hello` is done.
    ended : bool
        The running operation has sent its last frame, FINISH or CANCEL.
    codecs : tuple of str
        The chunk codecs that it decodes.
    """

    decodes: ClassVar[tuple[str, ...]] = ("none", "blosc")
    """The chunk codecs that this side decodes."""

    def __init__(self, software: str, inbox: Inbox | None = None) -> None:
        super().__init__(inbox or Inbox())
        self.server = ""
        self.features: frozenset[str] = frozenset()
        self.codecs: tuple[str, ...] = ("none",)
        self._software = software

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
        self.features = frozenset(message.get("features", ()))
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
        dims: tuple[str | None, ...] | None = None,
        codec: Blosc | None = None,
        codec_why: str = "",
    ) -> Operation[Receipt]:
        """Send an array (§5.1). `array` must have the dtype, shape and memory order of `layout`."""
        stream = self._begin()
        out = Outbox()
        # Encoded cells are not compared with one another: what repeats is cheap there.
        plan = _sparse.plan(array, layout, self.features if codec is None else self.features - {"alias"})
        request = _payloads.put_json(name, id, layout, digest, attributes, if_absent, codec, codec_why, dims, plan)
        out.add(_wire.pack_frame(Kind.PUT, stream, request))
        leaves = bytearray() if digest == "sha256" else None
        try:
            if codec is None or plan.fill is not None:
                yield from self._send_cells(stream, out, array, layout, plan, leaves, progress)
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
        yield from self._request(
            _wire.pack_frame(Kind.GET, stream, _payloads.dumps({"name": name, "takes": ["alias", "fill"]}))
        )
        _, payload = yield from self._next(stream, Kind.META)
        stat, layout = _payloads.meta_to_read(payload)
        try:
            result = layout.empty() if out is None else check_out(out, layout)
            target = Target(result, layout, stat.digest.kind == "sha256", stat.fill_value)
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

    def describe(self, name: str) -> Operation[tuple[Stat, Layout]]:
        """Describe an array, with its layout."""
        stream = self._begin()
        yield from self._request(_wire.pack_frame(Kind.STAT, stream, _payloads.dumps({"name": name})))
        _, payload = yield from self._next(stream, Kind.META)
        self.idle = True
        return _payloads.meta(payload)

    def read(self, name: str, id: str, part: Part, ranges: list[tuple[int, int]]) -> Operation[None]:
        """Receive some cells of an array (§5.2), which must still be that of the transfer `id`."""
        stream = self._begin()
        part.want(ranges)
        request = {"name": name, "cells": ranges, "takes": ["fill"]}
        yield from self._request(_wire.pack_frame(Kind.GET, stream, _payloads.dumps(request)))
        _, payload = yield from self._next(stream, Kind.META)
        stat, layout = _payloads.meta(payload)
        if stat.id != id or layout != part.layout:
            yield from self._abandon(stream)
            raise ConflictError(f"read {name!r}: the array was replaced since it was opened: open it again")
        if stat.codec == "none":
            header, done = yield from self._receive_cells(stream, part, None, None)
        else:
            with _codec.Pipeline() as pipeline:
                header, done = yield from self._receive_cells(stream, part, pipeline, None)
                while len(pipeline):
                    pipeline.take()
        if header.number != done or part.missing:
            raise ProtocolError(f"wire: DONE after {done} cells with {part.missing} missing (§5.2)")
        self.idle = True

    def stat(self, name: str) -> Operation[Stat]:
        """Describe an array (§5.2)."""
        return (yield from self.describe(name))[0]

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
        plan: Plan,
        leaves: bytearray | None,
        progress: Progress | None,
    ) -> Operation[None]:
        source = Source(array, layout)
        if plan.fill is not None:
            out.add(_wire.pack_header(Kind.FILL, stream, index=0, raw=layout.cells))
            if leaves is not None:
                leaves += source.leaves_of_fill()
        for step in plan.steps:
            if step.source is None:
                yield from self._send_run(stream, out, source, step, leaves, progress)
                continue
            payload = step.source.to_bytes(8, "little")
            out.add(_wire.pack_frame(Kind.ALIAS, stream, payload, index=step.first, raw=step.count))
            if leaves is not None:
                for cell in range(step.source, step.source + step.count):
                    leaves += leaves[32 * cell : 32 * cell + 32]
        if progress:
            if out.size:
                yield out.take()
            yield from self._report(stream, progress, layout.nbytes, layout.nbytes)

    def _send_run(
        self,
        stream: int,
        out: Outbox,
        source: Source,
        step: Step,
        leaves: bytearray | None,
        progress: Progress | None,
    ) -> Operation[None]:
        layout = source.layout
        cost = max(layout.cell_bytes, MIN_COST)
        sent = 0
        for cell in range(step.first, step.first + step.count):
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
        self, stream: int, target: Target | Part, pipeline: _codec.Pipeline | None, progress: Progress | None
    ) -> Operation[tuple[Header, int]]:
        """Receive CHUNK, ALIAS and FILL frames up to DONE, which is returned with the number of cells."""
        layout = target.layout
        done = 0
        while True:
            header = yield from self._next_header(stream, Kind.CHUNK, Kind.ALIAS, Kind.FILL, Kind.DONE)
            if header.kind == Kind.DONE:
                yield from self._inbox.payload(header)
                return header, done
            problem: Exception | None = None
            if header.kind != Kind.CHUNK:
                if pipeline is not None and header.kind == Kind.ALIAS:
                    while problem is None and len(pipeline):
                        problem = _finished(pipeline)
                yield from self._receive_repeat(header, target)
                done += header.raw - 1
            elif pipeline is None:
                problem = yield from self._receive_cell(header, target)
            else:
                problem = yield from self._receive_encoded(header, target, pipeline)
            done += 1
            if problem is None and progress:
                problem = _call(progress, min(layout.nbytes, done * layout.cell_bytes), layout.nbytes)
            if problem is not None:
                yield from self._abandon(stream)
                raise problem

    def _receive_cell(self, header: Header, target: Target | Part) -> Operation[IntegrityError | None]:
        """Receive one CHUNK into `target`. What is wrong with its bytes is returned: the next frame can follow."""
        layout = target.layout
        cell = header.number
        if not target.expects(cell):
            raise ProtocolError(f"wire: cell {cell} of {layout.cells} is out of range or came twice (§5.2)")
        if header.raw != layout.cell_bytes or header.length != layout.cell_bytes:
            raise ProtocolError(
                f"wire: cell {cell} has {header.raw} bytes in {header.length}, not {layout.cell_bytes} (§5.6)"
            )
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

    def _receive_repeat(self, header: Header, target: Target | Part) -> Operation[None]:
        """Receive one ALIAS or FILL (§5.8)."""
        payload = yield from self._inbox.payload(header)
        source = int.from_bytes(payload, "little") if header.kind == Kind.ALIAS else None
        if source is not None and source >= header.number:
            raise ProtocolError(f"wire: ALIAS of cell {header.number} to {source}, which is not before (§5.8)")
        for step in range(header.raw):
            if not target.expects(header.number + step):
                raise ProtocolError(f"wire: cell {header.number + step} is out of range or came twice (§5.2)")
            target.repeat(header.number + step, None if source is None else source + step)

    def _receive_encoded(
        self, header: Header, target: Target | Part, pipeline: _codec.Pipeline
    ) -> Operation[IntegrityError | None]:
        """As `_receive_cell`, with cells that threads decode while later ones are received."""
        layout = target.layout
        cell = header.number
        if not target.expects(cell):
            raise ProtocolError(f"wire: cell {cell} of {layout.cells} is out of range or came twice (§5.2)")
        if header.raw != layout.cell_bytes or not 0 <= header.length - _codec.OVERHEAD <= layout.cell_bytes:
            raise ProtocolError(
                f"wire: cell {cell} has {header.raw} bytes in {header.length}, not {layout.cell_bytes} (§5.6)"
            )
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
