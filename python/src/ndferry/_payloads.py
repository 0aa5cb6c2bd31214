"""Messages as what the user sees: receipts, descriptions, entries; and the PUT of an array."""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
import re
from typing import Any, Final

from ndferry import _array, _messages
from ndferry._array import Layout
from ndferry._codec import Blosc
from ndferry._errors import ProtocolError
from ndferry._receipt import Entry, Receipt, Stat
from ndferry._sparse import Plan
from ndferry._wire import Kind


def dumps(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


_quoted = json.encoder.encode_basestring_ascii


@functools.lru_cache(maxsize=256)
def get_json(name: str) -> bytes:
    """The payload of a GET of a whole array."""
    return dumps({"name": name, "takes": ["alias", "fill"]})


def put_json(
    name: str,
    id: str,
    layout: Layout,
    digest: str,
    attributes: str,
    if_absent: bool,
    codec: Blosc | None = None,
    codec_why: str = "",
    dims: tuple[str | None, ...] | None = None,
    plan: Plan | None = None,
    *,
    relaxed: bool = False,
    resume: bool = False,
    join: bool = False,
) -> bytes:
    """The payload of PUT. The description of the array, its longest part, is made once for each layout."""
    array = _array.array_json(layout, codec.json() if codec else "", dims, plan.fill if plan else None)
    parts = [f'{{"name":{_quoted(name)},"id":"{id}",{array},"digest":"{digest}"']
    if attributes != "{}":
        parts.append(f',"attributes":{json.dumps(attributes, ensure_ascii=False)}')
    if plan and plan.sparse:
        parts.append(',"sparse":true')
    if codec_why:
        parts.append(f',"codec_why":{json.dumps(codec_why)}')
    if if_absent:
        parts.append(',"if_absent":true')
    if relaxed:
        parts.append(',"durability":"relaxed"')
    if resume:
        parts.append(',"resume":true')
    if join:
        parts.append(',"join":true')
    return "".join((*parts, "}")).encode()


def receipt(payload: bytes) -> Receipt:
    """The payload of RECEIPT."""
    text, stamp = _told_apart(payload)
    return _receipt(payload) if stamp is None else stamped(_receipt_again(text), *stamp)


def _receipt(payload: bytes) -> Receipt:
    message = _messages.parse(Kind.RECEIPT, payload)
    return Receipt(
        name=message["name"],
        id=message["id"],
        nbytes=message["nbytes"],
        stored_bytes=message["stored_bytes"],
        cells=message["cells"],
        codec=message["codec"],
        codec_why=message.get("codec_why", ""),
        validated=message.get("validated", "full"),
        digest=_messages.digest_of(message["digest"]),
        durability=message["durability"],
        created=_messages.time_of(message["created"]),
    )


def meta(payload: bytes) -> tuple[Stat, Layout]:
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
        codec_why=message.get("codec_why", ""),
        validated=message.get("validated", "full"),
        nbytes=layout.nbytes,
        stored_bytes=message["stored_bytes"],
        digest=_messages.digest_of(message["digest"]),
        durability=message["durability"],
        attrs=message["attributes"],
        fill_value=message["array"].get("fill_value"),
        dims=_array.parse_dims(message["array"], len(layout.shape)),
        created=_messages.time_of(message["created"]),
    )
    return stat, layout


def meta_to_read(payload: bytes) -> tuple[str, Stat, Layout]:
    """The id, and as `meta` for one who only reads that, and neither id nor time: it is made once for an array."""
    text, stamp = _told_apart(payload)
    if stamp is not None:
        return stamp[0], *_meta_again(text)
    stat, layout = meta(payload)
    return stat.id, stat, layout


# ---- the same again: a payload that differs from an earlier one in its id and time alone is not read anew

# Neither can lie inside of a string, where quotes are escaped.
_STAMP: Final = re.compile(
    rb'"id":"([0-9a-f]{32})"(.*)"created":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z)"', re.DOTALL
)
_NO_ID: Final = b"0" * 32
_NO_TIME: Final = b"2000-01-01T00:00:00Z"
_MOST: Final = 4096
"""Bytes of the longest payload that is kept."""

_Stamp = tuple[str, datetime.datetime]


def around(payload: bytes) -> tuple[bytes, bytes, bytes] | None:
    """What is before the id of a RECEIPT or META, between it and the time, and after that; None as `_told_apart`."""
    if len(payload) > _MOST or _told_apart(payload)[1] is None:
        return None
    match = _STAMP.search(payload)
    assert match is not None
    return payload[: match.start(1)], payload[match.end(1) : match.start(3)], payload[match.end(3) :]


def _told_apart(payload: bytes) -> tuple[bytes, _Stamp | None]:
    """A payload with a fixed id and time, and those it had; None when it is not of the usual form."""
    if len(payload) <= _MOST and payload.count(b'"id":"') == payload.count(b'"created":"') == 1:
        match = _STAMP.search(payload)
        if match is not None:
            id, between, created = match.groups()
            with contextlib.suppress(ValueError):
                stamp = id.decode(), datetime.datetime.fromisoformat(created.decode())
                before, after = payload[: match.start(1)], payload[match.end(3) :]
                return b"".join((before, _NO_ID, b'"', between, b'"created":"', _NO_TIME, after)), stamp
    return payload, None


def stamped(like: Receipt, id: str, created: datetime.datetime) -> Receipt:
    """A copy with another id and time."""
    return Receipt(
        like.name, id, like.nbytes, like.stored_bytes, like.cells, like.codec, like.digest, like.durability, created,
        like.codec_why, like.validated,
    )  # fmt: skip


_receipt_again = functools.lru_cache(maxsize=64)(_receipt)
_meta_again = functools.lru_cache(maxsize=64)(meta)


def entry(message: dict[str, Any]) -> Entry:
    return Entry(
        name=message["name"],
        dtype=message["dtype"],
        shape=tuple(message["shape"]),
        nbytes=message["nbytes"],
        stored_bytes=message["stored_bytes"],
        created=_messages.time_of(message["created"]),
        digest=message.get("digest", ""),
    )
