"""Small arrays again: a PUT or GET like an earlier one of this connection, most of whose bytes are known before.

The interpreter takes longer over an exchange of some KiB than the network does. From one PUT under a name to the next,
of an array of the same kind, only the stream, the id and the bytes differ; in the answers only the id and the time. A
form is all the rest, kept from an exchange that went the whole way. An answer that is not byte for byte what its form
says, checksums included, stays in the inbox and is read as any other.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import re
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from ndferry import _options, _payloads
from ndferry._array import Array, Layout
from ndferry._frames import Inbox
from ndferry._options import PutOptions
from ndferry._receipt import Receipt, Stat
from ndferry._upload import Upload
from ndferry._wire import HEADER_SIZE, KIB, MIN_COST, TRAILER_SIZE, Kind, crc32c, pack_header, pack_trailer

F = TypeVar("F")

MOST: Final = 8 * KIB
"""Bytes of the largest array that has a form: it comes in one piece with what is around it."""

FORMS: Final = 256
"""Forms of each kind that a connection keeps."""

Key = tuple[Any, ...]

_ID: Final = re.compile(rb"[0-9a-f]{32}")
_TIME: Final = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z")
_ENDS: Final = HEADER_SIZE + TRAILER_SIZE


class Forms:
    """The forms of one connection."""

    def __init__(self) -> None:
        self._puts: dict[Key, PutForm] = {}
        self._gets: dict[str, GetForm] = {}

    def upload(self, name: str, value: npt.ArrayLike, options: PutOptions, *, kept: bool) -> Upload | Small:
        """What is to be put; the parameters are those of `Client.put` and `Upload`."""
        key = _key(name, value, options)
        form = self._puts.get(key) if key is not None else None
        if form is not None:
            assert isinstance(value, np.ndarray)
            return Small(self, form, name, value, options)
        upload = Upload(name, value, _options.checked(options), kept=kept)
        upload.like = key
        return upload

    def keep_put(self, upload: Upload, receipt: Receipt, payload: bytes) -> None:
        """Keep the form of what was sent at once, and of the RECEIPT that came for it."""
        answer = _payloads.around(payload)
        if upload.like is not None and answer is not None:
            _keep(self._puts, upload.like, PutForm(upload, receipt, answer))

    def get(self, name: str) -> GetForm | None:
        """The form of the array that came last under `name`."""
        return self._gets.get(name)

    def keep_get(self, name: str, payload: bytes, stat: Stat, layout: Layout) -> None:
        """Keep the form of an array that came; `payload` is that of META."""
        dtype, order = layout.dtype, tuple(range(len(layout.shape)))
        plain = dtype.kind in "biufc" and dtype.isnative and layout.order == order
        small = layout.cells == 1 and layout.cell_bytes == layout.nbytes <= MOST
        if plain and small and stat.codec == "none" and stat.digest.kind == "crc32c":
            meta = _payloads.around(payload)
            if meta is not None:
                _keep(self._gets, name, GetForm(_payloads.get_json(name), meta, layout))


def _keep(forms: dict[Any, F], key: Any, form: F) -> None:
    forms.pop(key, None)
    while len(forms) >= FORMS:
        del forms[next(iter(forms))]
    forms[key] = form


def _key(name: str, value: npt.ArrayLike, options: PutOptions) -> Key | None:
    """What PUTs with the same form have in common; None when there is none for such."""
    if type(value) is not np.ndarray or type(name) is not str or value.nbytes > MOST:
        return None
    dtype = value.dtype
    if dtype.kind not in "biufc" or not dtype.isnative or not value.flags.c_contiguous or "id" in options:
        return None
    if not options:
        return name, dtype.char, value.shape
    for option in options.values():
        if type(option) is not str and type(option) is not bool:
            return None
    return name, dtype.char, value.shape, *options.items()


class Small:
    """An array for which there is a form. For one call of `put`, at any attempt."""

    __slots__ = ("_array", "_id", "_name", "_options", "form", "forms")

    durable = 0
    """Cells that the server has of an attempt that broke."""

    def __init__(self, forms: Forms, form: PutForm, name: str, array: Array, options: PutOptions) -> None:
        self.forms = forms
        self.form = form
        self._name = name
        self._array = array
        self._options = options
        self._id = os.urandom(16).hex()

    def frames(self, stream: int) -> bytes:
        """PUT, CHUNK and FINISH."""
        return self.form.frames(stream, self._id, self._array.tobytes())

    def receipt(self, inbox: Inbox, stream: int) -> Receipt | None:
        """As `PutForm.receipt`."""
        return self.form.receipt(inbox, stream, self._id)

    def whole(self) -> Upload:
        """The same transfer for the whole way."""
        options: PutOptions = {**self._options, "id": self._id}
        return Upload(self._name, self._array, _options.checked(options))


class PutForm:
    """A PUT of one small cell: the text around the id, and that of its RECEIPT."""

    __slots__ = ("_after", "_answer", "_before", "_like", "_size", "cost")

    def __init__(self, upload: Upload, receipt: Receipt, answer: tuple[bytes, bytes, bytes]) -> None:
        request = upload.request()
        key = b'"id":"'  # which is in no name: its quotes are escaped
        at = request.index(key + upload.id.encode()) + len(key)
        self._before, self._after = request[:at], request[at + len(upload.id) :]
        self._size = upload.layout.nbytes
        self.cost = max(self._size, MIN_COST)
        self._like = receipt
        self._answer = answer

    def frames(self, stream: int, id: str, data: bytes) -> bytes:
        """PUT, CHUNK and FINISH."""
        request = self._before + id.encode() + self._after
        return b"".join((
            pack_header(Kind.PUT, stream, len(request)), request, pack_trailer(crc32c(request)),
            pack_header(Kind.CHUNK, stream, self._size, raw=self._size), data, pack_trailer(crc32c(data)),
            pack_header(Kind.FINISH, stream, index=1),
        ))  # fmt: skip

    def receipt(self, inbox: Inbox, stream: int, id: str) -> Receipt | None:
        """Take the RECEIPT out of the inbox, when it is all that is there and of this form."""
        frame = inbox.unread()
        payload = frame[HEADER_SIZE:-TRAILER_SIZE]
        before, between, after = self._answer
        expected = before + id.encode() + between
        if (
            frame[:HEADER_SIZE] != pack_header(Kind.RECEIPT, stream, len(payload))
            or frame[-TRAILER_SIZE:] != pack_trailer(crc32c(payload))
            or not payload.startswith(expected)
            or not payload.endswith(after)
        ):
            return None
        created = _time(payload[len(expected) : len(payload) - len(after)])
        if created is None:
            return None
        inbox.clear()
        return _payloads.stamped(self._like, id, created)


class GetForm:
    """A GET of one small cell, and META, CHUNK and DONE that answer it."""

    __slots__ = ("_around", "_dtype", "_meta", "_request", "_shape", "_size")

    def __init__(self, request: bytes, meta: tuple[bytes, bytes, bytes], layout: Layout) -> None:
        self._request = len(request), request + pack_trailer(crc32c(request))
        self._meta = meta
        self._dtype, self._shape, self._size = layout.dtype, layout.shape, layout.nbytes
        self._around = 2 * _ENDS + self._size + HEADER_SIZE  # bytes of the answer beside the text of META

    def frame(self, stream: int) -> bytes:
        """GET."""
        length, rest = self._request
        return pack_header(Kind.GET, stream, length) + rest

    def array(self, inbox: Inbox, stream: int, out: Array | None) -> Array | None:
        """Take the array out of the inbox, when it is all that is there and of this form. Else `out` is untouched."""
        if out is not None and (out.dtype != self._dtype or out.shape != self._shape):
            return None
        frames = inbox.unread()
        length = len(frames) - self._around
        if length <= 0 or not frames.startswith(pack_header(Kind.META, stream, length)):
            return None
        at = HEADER_SIZE + length
        if not self._describes(frames[HEADER_SIZE:at], frames[at : at + TRAILER_SIZE]):
            return None
        at += TRAILER_SIZE + HEADER_SIZE
        data = frames[at : at + self._size]
        if frames[at - HEADER_SIZE : at] != pack_header(Kind.CHUNK, stream, self._size, raw=self._size):
            return None
        if frames[at + self._size :] != pack_trailer(crc32c(data)) + pack_header(Kind.DONE, stream, index=1):
            return None
        inbox.clear()
        array: Array = np.ndarray(self._shape, self._dtype, data)
        if out is None:
            return array.copy()
        out[...] = array
        return out

    def _describes(self, payload: bytes, trailer: bytes) -> bool:
        """Whether META says of the array what it said before, whichever transfer it was of."""
        before, between, after = self._meta
        at = len(before) + 32
        return (
            trailer == pack_trailer(crc32c(payload))
            and payload.startswith(before)
            and payload.startswith(between, at)
            and payload.endswith(after)
            and _ID.fullmatch(payload, len(before), at) is not None
            and _time(payload[at + len(between) : len(payload) - len(after)]) is not None
        )


def _time(text: bytes) -> datetime.datetime | None:
    """The time in an answer; None when it is none."""
    if _TIME.fullmatch(text):
        with contextlib.suppress(ValueError):
            return datetime.datetime.fromisoformat(text.decode())
    return None
