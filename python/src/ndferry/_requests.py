"""From what a user asks for to an operation of `ndferry._core`: the checks that all clients and `send_array` share."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ndferry import _array, _messages
from ndferry._array import Array
from ndferry._core import Progress, Session
from ndferry._errors import InvalidError
from ndferry._frames import Operation
from ndferry._receipt import Receipt

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
) -> Operation[Receipt]:
    """`Session.put` with the parameters of `Client.put`, which are checked before anything is sent."""
    source = _array.as_array(array)
    _messages.check_name(name)
    if codec != "none":
        raise InvalidError(f"put: codec {codec!r} is not known; none is")
    if digest not in ("crc32c", "sha256"):
        raise InvalidError(f"put: digest {digest!r} is not known; crc32c and sha256 are")
    if id is not None and not _ID.fullmatch(id):
        raise InvalidError(f"put: id {id!r} is not 32 lower-case hex digits")
    cell = (chunks,) if isinstance(chunks, int) else chunks
    layout = _array.make_layout(
        source.dtype.str, source.shape, _array.memory_order(source), None if cell is None else tuple(map(int, cell))
    )
    return session.put(
        name,
        source,
        layout,
        id=id or os.urandom(16).hex(),
        digest=digest,
        attributes=_messages.attributes_text(attrs),
        if_absent=if_absent,
        progress=progress,
    )


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
