"""From what a user asks for to an operation of `ndferry._core`: the checks that all clients and `send_array` share."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ndferry import _array, _codec, _messages
from ndferry._array import Array
from ndferry._cells import Source
from ndferry._core import Progress, Session
from ndferry._errors import InvalidError, UnsupportedError
from ndferry._frames import Operation
from ndferry._receipt import Receipt
from ndferry._wire import KIB, Bytes

SOFTWARE: Final = f"ndferry-python/{metadata.version('ndferry')}"

_ID = re.compile(r"[0-9a-f]{32}")


def put(
    session: Session,
    name: str,
    array: npt.ArrayLike,
    *,
    chunks: int | Sequence[int] | None,
    codec: str,
    digest: str,
    attrs: Mapping[str, Any] | None,
    if_absent: bool,
    id: str | None,
    progress: Progress | None,
    level: int | None = None,
    shuffle: str = "auto",
    link_rate: float | None = None,
    local: bool = True,
) -> Operation[Receipt]:
    """`Session.put` with the parameters of `Client.put`, which are checked before anything is sent."""
    source = _array.as_array(array)
    _messages.check_name(name)
    wish = _codec.wish(codec, level, shuffle, link_rate)
    if digest not in ("crc32c", "sha256"):
        raise InvalidError(f"put: digest {digest!r} is not known; crc32c and sha256 are")
    if id is not None and not _ID.fullmatch(id):
        raise InvalidError(f"put: id {id!r} is not 32 lower-case hex digits")
    cell = (chunks,) if isinstance(chunks, int) else chunks
    layout = _array.make_layout(
        source.dtype.str, source.shape, _array.memory_order(source), None if cell is None else tuple(map(int, cell))
    )
    blosc, why = _settle(session, wish, source, layout, local)
    return session.put(
        name,
        source,
        layout,
        id=id or os.urandom(16).hex(),
        digest=digest,
        attributes=_messages.attributes_text(attrs),
        if_absent=if_absent,
        progress=progress,
        codec=blosc,
        codec_why=why,
    )


def _settle(
    session: Session, wish: _codec.Wish, array: Array, layout: _array.Layout, local: bool
) -> tuple[_codec.Blosc | None, str]:
    """The codec of an array that is about to be sent, and why."""
    itemsize = layout.dtype.itemsize
    if wish.codec == "none":
        return None, ""
    speaks = "blosc" in session.codecs
    if wish.codec != "auto":
        if not speaks:
            raise UnsupportedError("put: the other side does not decode compressed chunks: use codec='none'")
        return wish.blosc(itemsize), ""
    if not speaks:
        return None, "the other side decodes no codec"
    if wish.link_rate is None and local:
        return None, _codec.LOCAL
    source = Source(array, layout)

    def sample(offset: int) -> Bytes:
        cell, start = divmod(offset, layout.cell_bytes)
        run = source.whole(cell)[start : start + max(64 * KIB // itemsize, 1) * itemsize]
        return run[: len(run) // itemsize * itemsize]

    rate = wish.link_rate or _codec.ASSUMED_LINK
    return _codec.decide(wish, itemsize, layout.cells * layout.cell_bytes, rate, sample)


def get(session: Session, name: str, out: Array | None, progress: Progress | None) -> Operation[Array]:
    """`Session.get` with the parameters of `Client.get`."""
    _messages.check_name(name)
    if out is not None:
        check_writable(out)
    return session.get(name, out, progress)


def check_writable(out: Array) -> None:
    """Refuse what cannot be received into."""
    if not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray):
        raise InvalidError(f"get: out is a {type(out).__name__}, not a numpy.ndarray")
    if not out.flags.writeable:
        raise InvalidError("get: out is read-only")
    _array.check_dtype(out.dtype)
    if out.size and any(stride == 0 and length > 1 for stride, length in zip(out.strides, out.shape, strict=True)):
        raise InvalidError("get: elements of out share memory (a broadcast view)")
