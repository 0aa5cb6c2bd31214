"""Messages as what the user sees: receipts, descriptions, entries; and the PUT of an array."""

from __future__ import annotations

import functools
import json
from typing import Any

from ndferry import _array, _messages
from ndferry._array import Layout
from ndferry._codec import Blosc
from ndferry._errors import ProtocolError
from ndferry._receipt import Entry, Receipt, Stat
from ndferry._sparse import Plan
from ndferry._wire import Kind


def dumps(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


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
) -> bytes:
    """The payload of PUT. The description of the array, its longest part, is made once for each layout."""
    array = _array.array_json(layout, codec.json() if codec else "", dims, plan.fill if plan else None)
    parts = [f'{{"name":{json.dumps(name)},"id":"{id}",{array},"digest":"{digest}"']
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
    return "".join((*parts, "}")).encode()


def receipt(message: dict[str, Any]) -> Receipt:
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


_meta_again = functools.lru_cache(maxsize=64)(meta)


def meta_to_read(payload: bytes) -> tuple[Stat, Layout]:
    """As `meta`, for one who only reads the result: an array that is fetched again and again is described once."""
    return _meta_again(payload) if len(payload) <= 4096 else meta(payload)


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
