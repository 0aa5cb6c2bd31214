"""The cells of a PUT on their way out (spec/WIRE.md §5.1, §5.8)."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from ndferry import _payloads, _wire
from ndferry._cells import Source
from ndferry._conversation import Conversation
from ndferry._frames import Operation, Outbox, Wait
from ndferry._pipeline import Pipeline
from ndferry._sparse import Step
from ndferry._upload import Upload
from ndferry._wire import KIB, MIB, MIN_COST, SEND_PIECE, Bytes, Kind, crc32c

Progress = Callable[[int, int], object]

POLL_EVERY: Final = 4 * MIB
"""Bytes sent between two looks at what the server says meanwhile."""

MEASURED: Final = 8 * MIB
"""Bytes that a PUT must send to tell the rate of the connection."""

BESIDE: Final = 256 * KIB
"""Bytes of cells from which on a thread hashes them beside the connection."""


class Sending(Conversation):
    """The part of `ndferry._core.Session` that sends cells.

    Attributes
    ----------
    rate : float
        Bytes a second that the connection was seen to carry; 0 before it was.
    """

    rate = 0.0
    _cells_sent = 0  # of the running operation
    _joined = False  # the running operation sends cells for another

    def _send_array(self, stream: int, out: Outbox, upload: Upload, progress: Progress | None) -> Operation[None]:
        """All cells that the other side does not have, and FINISH."""
        yield from self._send_all(stream, out, upload, progress)
        yield from self._send_finish(stream, out, upload)

    def _send_all(
        self, stream: int, out: Outbox, upload: Upload, progress: Progress | None, *, joined: bool = False
    ) -> Operation[None]:
        """All cells that the other side does not have; with a feed those that it gives to this connection."""
        self._cells_sent, self._joined = 0, joined
        began, sent = time.monotonic(), 0
        layout, plan = upload.layout, upload.plan
        assert plan is not None
        if upload.codec is not None and plan.fill is None:
            sent = yield from self._send_encoded(stream, out, upload, progress)
        else:
            source = Source(upload.array, layout)
            if plan.fill is not None:
                for first, count in upload.missing(0, layout.cells):
                    out.add(_wire.pack_header(Kind.FILL, stream, index=first, raw=count))
                if upload.leaves is not None:
                    upload.leaves[:] = np.frombuffer(source.leaves_of_fill(), np.uint8).reshape(-1, 32)
            if upload.leaves is not None and layout.cell_bytes >= BESIDE:
                with Pipeline() as pipeline:
                    sent = yield from self._send_steps(stream, out, upload, source, pipeline, progress)
            else:
                sent = yield from self._send_steps(stream, out, upload, source, None, progress)
        if sent >= MEASURED:
            self.rate = sent / max(time.monotonic() - began, 1e-9)
        if progress:
            if out.size:
                yield out.take()
            yield from self._report(stream, progress, layout.nbytes, layout.nbytes)

    def _send_finish(self, stream: int, out: Outbox, upload: Upload) -> Operation[None]:
        """The cells that were asked for again, and FINISH."""
        self.ended = False
        layout = upload.layout
        size = layout.cell_bytes
        source = Source(upload.array, layout) if upload.again else None
        while source is not None and upload.again:
            cell = upload.again.pop()
            yield from self._listen(stream, out, max(size, MIN_COST), upload)
            self._credit -= max(size, MIN_COST)
            data = source.whole(cell)
            if upload.codec is not None:
                data = np.frombuffer(upload.codec.encode(data), np.uint8)
            out.add(_wire.pack_header(Kind.CHUNK, stream, len(data), index=cell, raw=size))
            out.add(data)
            out.add(_wire.pack_trailer(crc32c(data)))
            yield out.take()
        if upload.confirmed is not None:
            if out.size:
                yield out.take()
            if not upload.confirmed.done():
                yield Wait(upload.confirmed)
            if (problem := upload.confirmed.exception()) is not None:
                yield from self._abandon(stream, forget=True)
                raise problem
        root = upload.root()
        payload = b"" if root is None else _payloads.dumps({"root": root})
        out.add(_wire.pack_frame(Kind.FINISH, stream, payload, index=layout.cells))
        self.ended = True
        yield out.take()

    def _send_steps(
        self,
        stream: int,
        out: Outbox,
        upload: Upload,
        source: Source,
        pipeline: Pipeline | None,
        progress: Progress | None,
    ) -> Operation[int]:
        """The steps of the plan; what was sent of cells, in bytes. With a `pipeline` threads hash beside it."""
        sent = 0
        assert upload.plan is not None
        for step in upload.plan.steps:
            if step.source is None:
                sent += yield from self._send_run(
                    stream, out, upload, source, step.first, step.count, pipeline, progress
                )
                continue
            self._add_aliases(stream, out, upload, step)
        while pipeline is not None and len(pipeline):
            if out.size:
                yield out.take()
            yield from pipeline.take()
        _repeat_leaves(upload)
        return sent

    def _add_aliases(self, stream: int, out: Outbox, upload: Upload, step: Step) -> None:
        """Say of what cells that the other side does not have repeat others."""
        assert step.source is not None
        for first, count in upload.missing(step.first, step.count):
            payload = (step.source + first - step.first).to_bytes(8, "little")
            out.add(_wire.pack_frame(Kind.ALIAS, stream, payload, index=first, raw=count))

    def _send_run(
        self,
        stream: int,
        out: Outbox,
        upload: Upload,
        source: Source,
        first: int,
        count: int,
        pipeline: Pipeline | None,
        progress: Progress | None,
    ) -> Operation[int]:
        """The cells from `first` on that the other side does not have."""
        layout = upload.layout
        size = layout.cell_bytes
        cost = max(size, MIN_COST)
        total, since = 0, 0
        if upload.leaves is not None and upload.durable and not self._joined:
            yield from self._hash_durable(upload, source, first, count, pipeline)
        for cell in _cells_of(upload, first, count):
            if self._credit < cost or since >= POLL_EVERY:
                since = 0
                yield from self._listen(stream, out, cost, upload)
                if progress:
                    yield from self._report(stream, progress, min(cell * size, layout.nbytes), layout.nbytes)
            if not source.direct and out.size:
                yield out.take()  # the buffer that it may point into is used again
            self._credit -= cost
            self._cells_sent += 1
            since += cost
            total += size
            out.add(_wire.pack_header(Kind.CHUNK, stream, size, index=cell, raw=size))
            leaf = None
            pieces: Iterator[Bytes] = source.pieces(cell)
            if upload.hashed is not None and not upload.hashed[cell]:
                if pipeline is None:
                    leaf = hashlib.sha256()
                else:
                    if pipeline.full:
                        yield from pipeline.take()
                    raw = source.whole(cell)
                    pieces = iter([raw[at : at + SEND_PIECE] for at in range(0, size, SEND_PIECE)])
                    pipeline.submit(_hash, upload, cell, raw)
            crc = 0
            for piece in pieces:
                if out.add(piece):
                    yield out.take()
                crc = crc32c(piece, crc)  # behind the send, which has brought the piece into the cache
                if leaf is not None:
                    leaf.update(piece)
            out.add(_wire.pack_trailer(crc))
            if leaf is not None:
                upload.note_leaf(cell, leaf.digest())
        return total

    def _hash_durable(
        self, upload: Upload, source: Source, first: int, count: int, pipeline: Pipeline | None
    ) -> Operation[None]:
        """The leaves of cells that need not be sent, where no earlier attempt has made them."""
        assert upload.hashed is not None
        assert upload.done is not None
        for cell in range(first, first + count):
            if not upload.done[cell] or upload.hashed[cell]:
                continue
            if pipeline is None:
                _hash(upload, cell, source.whole(cell))
                continue
            if pipeline.full:
                yield from pipeline.take()
            pipeline.submit(_hash, upload, cell, source.whole(cell))

    def _send_encoded(self, stream: int, out: Outbox, upload: Upload, progress: Progress | None) -> Operation[int]:
        """As `_send_steps`, with cells that threads encode while earlier ones are sent."""
        layout, codec = upload.layout, upload.codec
        source = Source(upload.array, layout)
        cost = max(layout.cell_bytes, MIN_COST)
        total = since = 0
        assert codec is not None
        assert upload.plan is not None
        steps = [step for step in upload.plan.steps if step.source is None]

        def encode(cell: int) -> tuple[bytes, int]:
            raw = source.whole(cell)
            if upload.hashed is not None and not upload.hashed[cell]:
                _hash(upload, cell, raw)
            data = codec.encode(raw)
            return data, crc32c(data)

        with Pipeline() as pipeline:
            if upload.leaves is not None and upload.durable and not self._joined:
                for step in steps:
                    yield from self._hash_durable(upload, source, step.first, step.count, pipeline)
                while len(pipeline):
                    yield from pipeline.take()
            ahead = (cell for step in steps for cell in _cells_of(upload, step.first, step.count))
            coded: deque[int] = deque()
            while True:
                while not pipeline.full and (next_cell := next(ahead, None)) is not None:
                    pipeline.submit(encode, next_cell)
                    coded.append(next_cell)
                if not coded:
                    break
                cell = coded.popleft()
                if self._credit < cost or since >= POLL_EVERY:
                    since = 0
                    yield from self._listen(stream, out, cost, upload)
                    if progress:
                        yield from self._report(
                            stream, progress, min(cell * layout.cell_bytes, layout.nbytes), layout.nbytes
                        )
                self._credit -= cost
                self._cells_sent += 1
                data, crc = yield from pipeline.take()
                since += len(data)
                total += len(data)
                out.add(_wire.pack_header(Kind.CHUNK, stream, len(data), index=cell, raw=layout.cell_bytes))
                for start in range(0, len(data), SEND_PIECE):
                    if out.add(data[start : start + SEND_PIECE]):
                        yield out.take()
                out.add(_wire.pack_trailer(crc))
        for step in upload.plan.steps:
            if step.source is not None:
                self._add_aliases(stream, out, upload, step)
        _repeat_leaves(upload)
        return total

    def _report(self, stream: int, progress: Progress, done: int, total: int) -> Operation[None]:
        """Between two cells: call `progress`; when it raises, end the operation."""
        try:
            progress(done, total)
        except Exception:
            yield from self._abandon(stream)
            raise

    def _listen(self, stream: int, out: Outbox, wanted: int, upload: Upload) -> Operation[None]:
        """Between two cells: hear what the server says, and wait until it grants `wanted` bytes."""
        if out.size:
            yield out.take()
        while True:
            yield from self._inbox.poll()
            if self._inbox.empty and self._credit >= wanted:
                return
            header = yield from self._inbox.header()
            if header.kind not in (Kind.ACCEPT, Kind.ACK, Kind.RESEND) or header.stream != stream:
                yield from self._aside(header)
            else:
                yield from self._inbox.payload(header)
                upload.acknowledged(header)


def _cells_of(upload: Upload, first: int, count: int) -> Iterator[int]:
    """The cells to be sent here, of some that follow each other."""
    if upload.feed is not None:  # which has them all
        return iter(upload.feed)
    return (cell for start, n in upload.missing(first, count) for cell in range(start, start + n))


def _repeat_leaves(upload: Upload) -> None:
    """The leaves of cells that repeat others are those of the others."""
    assert upload.plan is not None
    if upload.leaves is None:
        return
    for step in upload.plan.steps:
        if step.source is not None:
            for cell in range(step.count):
                upload.leaves[step.first + cell] = upload.leaves[step.source + cell]


def _hash(upload: Upload, cell: int, raw: Bytes) -> None:
    upload.note_leaf(cell, hashlib.sha256(raw).digest())
