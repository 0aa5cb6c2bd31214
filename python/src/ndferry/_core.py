"""One connection as a state machine without I/O: spec/WIRE.md §2 to §6, the client's side.

Each operation of `Session` is a generator. It yields what it wants of the connection and is resumed when that is done:

`Send`
    Send all of these buffers; resume with 0.
`Receive`
    Receive into the view, at least `least` and at most all of it; resume with the number of bytes. With `least` 0, do
    not wait: resume with 0 when nothing is there.
`Wait`
    Wait for the work of a thread; resume with 0.

A driver that fails throws `ndferry.ConnectionError` or `ndferry.TimeoutError` into the generator. What the generator
returns is the result. The blocking client and any other driver share every line of this file.

A session runs one operation at a time and its driver sees to it. `idle` says where the connection is: True at a
boundary between operations, so that the next may begin; False inside one. Who finds it False after an operation has
ended, however it ended, must close the connection.
"""

from __future__ import annotations

import itertools
import os
from typing import ClassVar

from ndferry import _codec, _messages, _payloads, _wire
from ndferry._array import Array, Layout
from ndferry._errors import (
    ConflictError,
    ConnectionError,
    Error,
    IntegrityError,
    ProtocolError,
)
from ndferry._frames import Inbox, Operation, Outbox, Send
from ndferry._pace import Link, Window
from ndferry._pipeline import beside
from ndferry._receipt import Damage, Entry, Receipt, Report, Stat
from ndferry._receiving import Download, Progress
from ndferry._region import Part
from ndferry._sharing import MAX_STREAMS, Lines, Sharing
from ndferry._small import Forms, GetForm, Small
from ndferry._upload import Upload
from ndferry._wire import MIN_COST, RANGES_SENT, Bytes, Kind, crc32c


class Session(Sharing):
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
    local : bool
        The server is on this machine.
    forms : Forms
        What small arrays that came and went have taught.
    """

    decodes: ClassVar[tuple[str, ...]] = ("none", "blosc")
    """The chunk codecs that this side decodes."""

    def __init__(
        self, software: str, inbox: Inbox | None = None, *, local: bool = True, link: Link | None = None
    ) -> None:
        super().__init__(inbox or Inbox())
        if link is not None and link() is not None:
            self._window = Window(link)
        self.local = local
        self.server = ""
        self.features: frozenset[str] = frozenset()
        self.codecs: tuple[str, ...] = ("none",)
        self.forms = Forms()
        self._software = software

    # ---- operations

    def hello(self) -> Operation[None]:
        """Open the connection (§2). Must be the first operation."""
        self.idle = False
        # With a line break at the end a server of a text protocol, such as HTTP, answers at once that it is one.
        hello = self._hello(_wire.MAX_CREDIT if self._window is None else _wire.FIRST_CREDIT) + b"\n"
        try:
            yield Send([_wire.pack_frame(Kind.HELLO, 0, hello)])
        except ConnectionError as broken:
            # What a server that is gone said first tells more: an ERROR, newer versions, another protocol.
            try:
                yield from self._greeted()
            except ConnectionError:
                raise broken from None
            raise
        yield from self._greeted()
        self.idle = True

    def _hello(self, credit: int) -> bytes:
        return _payloads.dumps(
            {
                "versions": _wire.VERSIONS,
                "software": self._software,
                "features": ["resend"],
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

    def put(self, upload: Upload | Small, lines: Lines | None = None) -> Operation[Receipt]:
        """Send an array (§5.1), or what the other side does not have of it; with `lines` over several connections."""
        if isinstance(upload, Small):
            if upload.forms is self.forms and self._credit >= upload.form.cost:
                return (yield from self._put_again(upload))
            upload = upload.whole()
        link = None if self.local else self.rate or _codec.ASSUMED_LINK
        if link and upload.options.id:  # what is taken up by another client must be decided alike
            link = _codec.ASSUMED_LINK
        if upload.quick(link):
            upload.settle(self.features, self.codecs, link)
        else:
            yield from beside(lambda: upload.settle(self.features, self.codecs, link))
        if lines is None and not upload.resume and (data := upload.at_once()) is not None:
            return (yield from self._put_at_once(upload, data))
        rounds = MAX_STREAMS
        while True:
            receipt = yield from self._put_once(upload, lines if rounds else None)
            if receipt is not None:
                return receipt
            rounds -= 1

    def _put_again(self, small: Small) -> Operation[Receipt]:
        """As `_put_at_once`, with the form of an earlier one."""
        stream = self._begin()
        self._credit -= small.form.cost
        self.ended = True
        yield from self._request(small.frames(stream))
        yield from self._wait()
        receipt = small.receipt(self._inbox, stream)
        if receipt is None:
            return (yield from self._receipt_of(stream, Outbox(), small.whole()))
        self.idle = True
        return receipt

    def _put_at_once(self, upload: Upload, data: Bytes) -> Operation[Receipt]:
        """An array of one small cell, which is worth a shorter way."""
        stream, size = self._begin(), len(data)
        upload.begin()
        cost = max(size, MIN_COST)
        if self._credit < cost:
            yield from self._listen(stream, Outbox(), cost, upload)
        self._credit -= cost
        before = _wire.pack_frame(Kind.PUT, stream, upload.request())
        before += _wire.pack_header(Kind.CHUNK, stream, size, raw=size)
        behind = _wire.pack_trailer(crc32c(data)) + _wire.pack_header(Kind.FINISH, stream, index=1)
        self.ended = True
        try:
            yield Send([before, data, behind])
        except ConnectionError as broken:
            yield from self._last_words(broken)
        return (yield from self._receipt_of(stream, Outbox(), upload, small=True))

    def _put_once(self, upload: Upload, lines: Lines | None) -> Operation[Receipt | None]:
        """None: a connection besides this one broke, and the PUT is to be asked for again."""
        stream = self._begin()
        upload.begin()
        out = Outbox()
        out.add(_wire.pack_frame(Kind.PUT, stream, upload.request()))
        try:
            if upload.resume:
                yield out.take()
                header, payload = yield from self._next(stream, Kind.RECEIPT, Kind.ACCEPT, patient=True)
                if header.kind == Kind.RECEIPT:
                    return self._committed(payload, upload)
                upload.accept(_messages.parse(Kind.ACCEPT, payload)["durable"])
            if lines is not None and self._useful(upload, lines) > 1:
                whole = yield from self._send_shared(stream, out, upload, lines, upload.options.progress)
                if not whole:
                    return None
                yield from self._send_finish(stream, out, upload)
            else:
                yield from self._send_array(stream, out, upload, upload.options.progress)
        except ConnectionError as broken:
            yield from self._last_words(broken)
        return (yield from self._receipt_of(stream, out, upload))

    def _receipt_of(self, stream: int, out: Outbox, upload: Upload, *, small: bool = False) -> Operation[Receipt]:
        """Behind FINISH: what was committed, and before that the cells that are asked for again."""
        while True:
            header, payload = yield from self._next(
                stream, Kind.RECEIPT, Kind.ACCEPT, Kind.ACK, Kind.RESEND, patient=True
            )
            if header.kind == Kind.RECEIPT:
                receipt = self._committed(payload, upload)
                if small and (self.local or upload.options.codec == "none"):  # else its bytes decide the codec
                    self.forms.keep_put(upload, receipt, payload)
                return receipt
            upload.acknowledged(header)
            if header.kind == Kind.RESEND:
                try:
                    yield from self._send_finish(stream, out, upload)
                except ConnectionError as broken:
                    yield from self._last_words(broken)

    def _committed(self, payload: bytes, upload: Upload) -> Receipt:
        receipt = upload.check(_payloads.receipt(payload))
        self.idle = True
        return receipt

    def get(self, download: Download, progress: Progress | None, lines: Lines | None = None) -> Operation[Array]:
        """Receive an array (§5.2), or what did not come yet of it; with `lines` over several connections."""
        name = download.name
        if progress is None and lines is None and download.target is None:
            form = self.forms.get(name)
            array = None if form is None else (yield from self._get_again(form, download))
            if array is not None:
                return array
        if lines is not None and lines.count > 1 and (download.target is None or download.files):
            yield from self._get_shared(download, lines, progress)
        while (wanted := download.wanted()) != []:  # once, and again for the cells that came damaged
            yield from self._get_cells(download, wanted, progress)
        stat, target, result = download.stat, download.target, download.result
        assert stat is not None
        assert target is not None
        assert result is not None
        if target.leaves is not None and target.layout.root(target.leaves.tobytes()) != stat.digest.root:
            raise IntegrityError(f"get {name!r}: the sha256 root of what came is not the one that was stored (§5.7)")
        return result

    def get_file(self, download: Download, progress: Progress | None, lines: Lines | None = None) -> Operation[Array]:
        """As `get`, for a download that may have cells of an earlier process: it looks before any is asked for."""
        if download.target is None:
            stream = self._begin()
            yield from self._request(_wire.pack_frame(Kind.STAT, stream, _payloads.dumps({"name": download.name})))
            _, payload = yield from self._next(stream, Kind.META)
            self.idle = True
            about = _payloads.meta_to_read(payload)
            yield from beside(lambda: download.begin(*about))
        return (yield from self.get(download, progress, lines))

    def _get_again(self, form: GetForm, download: Download) -> Operation[Array | None]:
        """Ask for an array of a known form; None: what came was put into `download` the whole way."""
        stream = self._begin()
        yield from self._request(form.frame(stream))
        yield from self._inbox.wait()
        array = form.array(self._inbox, stream, download.out)
        if array is None:
            yield from self._take_cells(stream, download, None, None)
        else:
            self.idle = True
            yield from self._arrived(MIN_COST if array.nbytes <= MIN_COST else array.nbytes)
        return array

    def _get_cells(
        self, download: Download, wanted: list[tuple[int, int]] | None, progress: Progress | None
    ) -> Operation[None]:
        stream = self._begin()
        if wanted is None:
            request = _payloads.get_json(download.name)
        else:  # without what repeats cells that came before
            request = _payloads.dumps({"name": download.name, "cells": wanted, "takes": ["fill"]})
        yield from self._request(_wire.pack_frame(Kind.GET, stream, request))
        yield from self._take_cells(stream, download, wanted, progress)

    def _take_cells(
        self, stream: int, download: Download, wanted: list[tuple[int, int]] | None, progress: Progress | None
    ) -> Operation[None]:
        """The answer to a GET."""
        _, payload = yield from self._next(stream, Kind.META)
        id, stat, layout = _payloads.meta_to_read(payload)
        try:
            target = download.begin(id, stat, layout)
        except (Error, MemoryError):
            yield from self._abandon(stream)
            raise
        header, done = yield from self._receive_all(stream, target, stat.codec, progress)
        count = layout.cells if wanted is None else sum(count for _, count in wanted)
        if header.number != done or done != count:
            self.idle = False
            raise ProtocolError(f"wire: DONE after {done} of {count} cells, it says {header.number} (§5.2)")
        self.idle = True
        if wanted is None and done == 1:
            self.forms.keep_get(download.name, payload, stat, layout)

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
        header, done = yield from self._receive_all(stream, part, stat.codec, None)
        if header.number != done or part.missing:
            self.idle = False
            raise ProtocolError(f"wire: DONE after {done} cells with {part.missing} missing (§5.2)")
        self.idle = True
        damaged = part.late()
        for first in range(0, len(damaged), RANGES_SENT):
            yield from self.read(name, id, part, damaged[first : first + RANGES_SENT])

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
