"""The cells of a GET on their way in (spec/WIRE.md §5.2, §5.8)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

import numpy as np

from ndferry import _codec, _wire
from ndferry._array import Array, Layout
from ndferry._cells import Target, check_out
from ndferry._conversation import Conversation
from ndferry._errors import IntegrityError, ProtocolError, TemporaryError
from ndferry._frames import Operation
from ndferry._pipeline import Pipeline
from ndferry._receipt import Stat
from ndferry._region import Part
from ndferry._wire import KIB, MIN_COST, RANGES_SENT, TRAILER_SIZE, Bytes, Header, Kind, crc32c

Progress = Callable[[int, int], object]

BESIDE: Final = 256 * KIB
"""Bytes of cells from which on a thread hashes them beside the connection."""


class Download:
    """A GET, and what stays of it from one attempt to the next: the cells that came and were right.

    Attributes
    ----------
    out
        Where the user wants the array, or None.
    stat, target, result
        Of the array that comes; None until META came. The id and the time in `stat` may be those of an earlier one.
    """

    files = False  # its target is known before the first cell is asked for

    def __init__(self, name: str, out: Array | None) -> None:
        self.name = name
        self.stat: Stat | None = None
        self.target: Target | None = None
        self.result: Array | None = None
        self.out = out
        self._id = ""

    @property
    def moved(self) -> int:
        """Cells that are here."""
        return self.target.kept if self.target is not None else 0

    def wanted(self) -> list[tuple[int, int]] | None:
        """The cells to ask for, as runs; None for all."""
        if self.target is None:
            return None
        ranges = self.target.missing()
        if len(ranges) > RANGES_SENT:
            self.target = None  # too scattered: from the beginning
            return None
        return ranges

    def is_of(self, id: str, layout: Layout) -> bool:
        """Whether that is the array which comes."""
        return self.target is not None and self._id == id and layout == self.target.layout

    def begin(self, id: str, stat: Stat, layout: Layout) -> Target:
        """Where the cells that META announces go.

        Raises
        ------
        TemporaryError
            It is not the array of the attempt before: the next one asks for all of it.
        """
        if self.target is not None:
            if self.is_of(id, layout):
                return self.target
            self.target = None
            raise TemporaryError(f"get {self.name!r}: the array was replaced while it was read", retryable=True)
        self.result = layout.empty() if self.out is None else check_out(self.out, layout)
        self._id, self.stat = id, stat
        self.target = Target(self.result, layout, stat.digest.kind == "sha256", stat.fill_value)
        return self.target


class Receiving(Conversation):
    """The part of `ndferry._core.Session` that receives cells."""

    def _receive_all(
        self, stream: int, target: Target | Part, codec: str, progress: Progress | None
    ) -> Operation[tuple[Header, int]]:
        """Receive the cells up to DONE, which is returned with the number of cells, and finish what threads do."""
        yield from self._expect(target.layout.cell_bytes)
        if codec == "none" and progress is None and isinstance(target, Target):
            memory = target.only()
            end = None if memory is None else (yield from self._receive_only(stream, target, memory))
            if end is not None:
                return end, 1
        small = target.leaves is None or target.layout.cell_bytes < BESIDE
        if codec == "none" and small and not target.crowded:
            return (yield from self._receive_cells(stream, target, None, codec, progress))
        with Pipeline(finish=True) as pipeline:  # what came need not come again
            header, done = yield from self._receive_cells(stream, target, pipeline, codec, progress)
            self.idle = header.number == done
            while len(pipeline):
                problem = yield from finished(pipeline)
                if problem is not None and not target.again(problem.cell):
                    raise problem
        return header, done

    def _receive_only(self, stream: int, target: Target, memory: Bytes) -> Operation[Header | None]:
        """As `_receive_cells` for an array of one small cell, to `memory`; None: what comes is something else."""
        header = yield from self._next_header(stream, Kind.CHUNK, Kind.ALIAS, Kind.FILL, Kind.DONE)
        size = len(memory)
        if header.kind != Kind.CHUNK or header.number or header.raw != size or header.length != size:
            self._inbox.give_back()
            return None
        if not target.expects(0):
            raise ProtocolError("wire: cell 0 came twice (§5.2)")
        yield from self._inbox.fill(memory)
        yield from self._arrived(max(size, MIN_COST))
        problem = yield from self._trailer(header, crc32c(memory))
        if problem is None:
            target.keep(0)
        elif not target.again(0):
            yield from self._abandon(stream)
            raise problem
        return (yield from self._next_header(stream, Kind.DONE))

    def _receive_cells(
        self, stream: int, target: Target | Part, pipeline: Pipeline | None, codec: str, progress: Progress | None
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
                while problem is None and pipeline is not None and header.kind == Kind.ALIAS and len(pipeline):
                    problem = yield from finished(pipeline)
                    if problem is not None and target.again(problem.cell):
                        problem = None
                yield from self._receive_repeat(header, target)
                done += header.raw - 1
            else:
                problem = yield from self._receive_chunk(header, target, pipeline, codec)
                if isinstance(problem, IntegrityError) and target.again(problem.cell):
                    problem = None
            done += 1
            if problem is None and progress:
                here = max(done, target.kept) if isinstance(target, Target) else done
                problem = call(progress, min(layout.nbytes, here * layout.cell_bytes), layout.nbytes)
            if problem is not None:
                yield from self._abandon(stream)
                raise problem

    def _receive_chunk(
        self, header: Header, target: Target | Part, pipeline: Pipeline | None, codec: str
    ) -> Operation[IntegrityError | None]:
        """Receive one CHUNK into `target`. What is wrong with its bytes is returned: the next frame can follow."""
        size, cell = target.layout.cell_bytes, header.number
        if not target.expects(cell):
            raise ProtocolError(f"wire: cell {cell} of {target.layout.cells} is out of range or came twice (§5.2)")
        low, high = (size, size) if codec == "none" else (_codec.OVERHEAD, size + _codec.OVERHEAD)
        if header.raw != size or not low <= header.length <= high:
            raise ProtocolError(f"wire: cell {cell} has {header.raw} bytes in {header.length}, not {size} (§5.6)")
        if pipeline is None:
            return (yield from self._receive_here(header, target))
        return (yield from self._receive_beside(header, target, pipeline, codec))

    def _receive_here(self, header: Header, target: Target | Part) -> Operation[IntegrityError | None]:
        """A cell that is not encoded, to where it belongs."""
        cell = header.number
        leaf = hashlib.sha256() if target.leaves is not None else None
        crc = 0
        clean = True
        for piece, padding in target.pieces(cell):
            yield from self._inbox.fill(piece)
            yield from self._arrived(len(piece))
            crc = crc32c(piece, crc)
            if leaf is not None:
                leaf.update(piece)
            if padding and piece.any():
                clean = False
        if header.raw < MIN_COST:
            yield from self._arrived(MIN_COST - header.raw)
        problem = yield from self._trailer(header, crc)
        if problem is not None:
            return problem
        if not (clean and target.finish(cell)):
            return IntegrityError(f"cell {cell}: its padding is not zero (§5.6)", cell=cell)
        if leaf is not None and target.leaves is not None:
            target.leaves[cell] = np.frombuffer(leaf.digest(), np.uint8)
        target.keep(cell)
        return None

    def _receive_beside(
        self, header: Header, target: Target | Part, pipeline: Pipeline, codec: str
    ) -> Operation[IntegrityError | None]:
        """As `_receive_here`, with cells that threads decode and hash while later ones are received."""
        cell = header.number
        raw = target.room(cell) if codec == "none" else None
        data = np.empty(header.length, np.uint8) if raw is None else raw
        crc, told, cost = 0, 0, max(header.raw, MIN_COST)
        for start in range(0, header.length, _wire.PIECE):
            piece = data[start : start + _wire.PIECE]
            yield from self._inbox.fill(piece)
            here = cost * (start + len(piece)) // header.length
            yield from self._arrived(here - told)
            told = here
            crc = crc32c(piece, crc)
        problem = yield from self._trailer(header, crc)
        if problem is not None:
            return problem

        def finish() -> None:
            whole = raw
            if whole is None:
                whole = target.room(cell)
                _codec.decode(data, whole, cell)
            if target.leaves is not None:
                target.leaves[cell] = np.frombuffer(hashlib.sha256(whole).digest(), np.uint8)
            if not target.put(cell, whole):
                raise IntegrityError(f"cell {cell}: its padding is not zero (§5.6)", cell=cell)
            target.keep(cell)

        pipeline.submit(finish)
        if pipeline.full:
            return (yield from finished(pipeline))
        return None

    def _trailer(self, header: Header, crc: int) -> Operation[IntegrityError | None]:
        """Check the end of a CHUNK."""
        cell = header.number
        try:
            whole = _wire.parse_trailer((yield from self._inbox.small(TRAILER_SIZE)), crc)
        except IntegrityError as error:
            return IntegrityError(f"cell {cell}: {error}", cell=cell, retryable=True)
        if not whole:
            yield from self._next_header(header.stream)  # the ERROR that must follow is raised
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
            if source is not None and target.awaits(source + step):
                continue
            target.repeat(header.number + step, None if source is None else source + step)
            target.keep(header.number + step)


def finished(pipeline: Pipeline) -> Operation[IntegrityError | None]:
    """Wait for the oldest cell that is being finished."""
    try:
        yield from pipeline.take()
    except IntegrityError as error:
        return error
    return None


def call(progress: Progress, done: int, total: int) -> Exception | None:
    """Call what the user gave; what it raises is returned."""
    try:
        progress(done, total)
    except Exception as error:
        return error
    return None
