"""One transfer over several connections: spec/WIRE.md §5.1.1 and ranges of a GET (§5.2)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, Final, Protocol, TypeAlias

from ndferry import _payloads, _wire
from ndferry._errors import Error, IntegrityError, InvalidError, ProtocolError, TemporaryError
from ndferry._frames import Operation, Outbox, Wait
from ndferry._receiving import Download, Progress, Receiving, call
from ndferry._sending import Sending
from ndferry._upload import Upload
from ndferry._wire import Kind

MAX_STREAMS: Final = 64
"""The most connections that one transfer may use."""

Runs: TypeAlias = list[tuple[int, int]]
"""Cells, as runs of first and count."""


class Lines(Protocol):
    """The connections that a transfer may use besides its first."""

    count: int

    def start(self, operations: Sequence[Callable[[Any], Operation[Any]]]) -> list[Future[Any]]:
        """Begin each operation on a session of its own. None as a result: there was no connection."""


class Feed:
    """The cells of an upload, handed out to several connections. Any thread may take one."""

    def __init__(self, runs: Runs) -> None:
        self._cells = (cell for first, count in runs for cell in range(first, first + count))
        self._lock = threading.Lock()
        self.stopped = False

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        with self._lock:
            if self.stopped:
                raise StopIteration
            return next(self._cells)


class Sharing(Sending, Receiving):
    """The part of `ndferry._core.Session` that shares a transfer with other sessions."""

    features: frozenset[str]

    def _send_shared(
        self, stream: int, out: Outbox, upload: Upload, lines: Lines, progress: Progress | None
    ) -> Operation[bool]:
        """Send all cells of a PUT that was accepted, here and on other connections; not FINISH.

        False: a connection broke and nobody knows which of its cells came. The PUT is cancelled, what came is kept.
        """
        feed = upload.feed = Feed(upload.missing(0, upload.layout.cells))
        others = lines.start([lambda session: session.join(upload)] * (self._useful(upload, lines) - 1))
        try:
            yield from self._send_all(stream, out, upload, progress)
            if out.size:
                yield out.take()
        except BaseException:
            feed.stopped = True
            raise
        failures = []
        for other in others:
            yield Wait(other)
            failures.append(other.exception())
        upload.feed = None
        broken = [failure for failure in failures if failure is not None]
        if not broken:
            return True
        yield from self._abandon(stream)
        for failure in broken:
            if not (isinstance(failure, Error) and (failure.retryable or isinstance(failure, IntegrityError))):
                raise failure
        return False

    def _useful(self, upload: Upload, lines: Lines | None) -> int:
        """How many connections a PUT should use."""
        plan = upload.plan
        if lines is None or plan is None or "join" not in self.features or not upload.resume:
            return 1
        if plan.sparse or plan.fill is not None or any(step.source is not None for step in plan.steps):
            return 1
        left = sum(count for _, count in upload.missing(0, upload.layout.cells))
        return max(1, min(lines.count, left))

    def join(self, upload: Upload) -> Operation[bool]:
        """Send cells of a PUT that another connection has open. False: this one cannot, and took none."""
        stream = self._begin()
        try:
            yield from self._request(_wire.pack_frame(Kind.PUT, stream, upload.request(join=True)))
            yield from self._next(stream, Kind.ACCEPT, patient=True)
        except Error:
            return False
        out = Outbox()
        feed = upload.feed
        yield from self._send_all(stream, out, upload, None, joined=True)
        sent = self._cells_sent
        if isinstance(feed, Feed) and feed.stopped:
            yield from self._abandon(stream)
            return True
        out.add(_wire.pack_header(Kind.FINISH, stream, index=sent))
        self.ended = True
        yield out.take()
        while True:
            header, _ = yield from self._next(stream, Kind.DONE, Kind.ACK, patient=True)
            if header.kind == Kind.DONE:
                break
        if header.number != sent:
            raise ProtocolError(f"wire: DONE of {header.number} cells, {sent} were sent (§5.1.1)")
        self.idle = True
        return True

    def _get_shared(self, download: Download, lines: Lines, progress: Progress | None) -> Operation[None]:
        """Receive what can be over several connections. What is missing afterwards is for the first one to ask for."""
        stream = self._begin()
        yield from self._request(_wire.pack_frame(Kind.STAT, stream, _payloads.dumps({"name": download.name})))
        _, payload = yield from self._next(stream, Kind.META)
        self.idle = True
        target = download.begin(*_payloads.meta_to_read(payload))
        parts = split(target.missing(), lines.count)
        if len(parts) < 2:
            return
        target.share()
        others = lines.start([_part(download, part) for part in parts[1:]])
        yield from self.get_part(download, parts[0], progress)
        for other in others:
            yield Wait(other)
            failure = other.exception()
            if failure is not None and not isinstance(failure, Error):
                raise failure
        if (
            progress
            and not target.missing()
            and (problem := call(progress, target.layout.nbytes, target.layout.nbytes))
        ):
            raise problem

    def get_part(self, download: Download, part: Runs, progress: Progress | None) -> Operation[bool]:
        """Receive some cells of an array whose target is known."""
        target, stat = download.target, download.stat
        assert target is not None
        assert stat is not None
        stream = self._begin()
        request = {"name": download.name, "cells": part, "takes": ["fill"]}
        yield from self._request(_wire.pack_frame(Kind.GET, stream, _payloads.dumps(request)))
        _, payload = yield from self._next(stream, Kind.META)
        id, _, layout = _payloads.meta_to_read(payload)
        if not download.is_of(id, layout):
            yield from self._abandon(stream)
            raise TemporaryError(f"get {download.name!r}: the array was replaced while it was read", retryable=True)
        header, done = yield from self._receive_all(stream, target, stat.codec, progress)
        if header.number != done or done != sum(count for _, count in part):
            self.idle = False
            raise ProtocolError(f"wire: DONE after {done} cells, it says {header.number} (§5.2)")
        self.idle = True
        return True


def _part(download: Download, part: Runs) -> Callable[[Sharing], Operation[bool]]:
    return lambda session: session.get_part(download, part, None)


def split(runs: Runs, count: int) -> list[Runs]:
    """About the same number of cells for each of at most `count` connections.

    Examples
    --------
    >>> split([(0, 3), (5, 4)], 2)
    [[(0, 3)], [(5, 4)]]
    >>> split([(0, 5)], 2)
    [[(0, 2)], [(2, 3)]]
    """
    left = sum(n for _, n in runs)
    count = max(1, min(count, left))
    parts: list[Runs] = []
    rest = list(runs)
    for k in range(count):
        share = left // (count - k)
        left -= share
        part: Runs = []
        while share:
            first, n = rest.pop(0)
            take = min(n, share)
            part.append((first, take))
            share -= take
            if take < n:
                rest.insert(0, (first + take, n - take))
        parts.append(part)
    return parts


def check(streams: int) -> int:
    """Refuse what is no number of connections."""
    if type(streams) is not int or not 1 <= streams <= MAX_STREAMS:
        raise InvalidError(f"streams {streams!r} is not 1 to {MAX_STREAMS}")
    return streams
