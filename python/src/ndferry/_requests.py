"""From what a user asks for to an operation of `ndferry._core`: what all clients and `recv_array` share."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from typing import Final

import numpy as np

from ndferry import _dtype, _messages
from ndferry._array import Array
from ndferry._core import Session
from ndferry._errors import ConnectionError, InvalidError, NotFoundError, TimeoutError
from ndferry._frames import Operation
from ndferry._receipt import Entry
from ndferry._receiving import Download
from ndferry._region import Part

SOFTWARE: Final = f"ndferry-python/{metadata.version('ndferry')}"


def download(name: str, out: Array | None) -> Download:
    """A GET with the parameters of `Client.get`, which are checked before anything is sent."""
    _messages.check_name(name)
    if out is not None:
        check_writable(out)
    return Download(name, out)


def deletion(name: str) -> Callable[[Session], Operation[None]]:
    """Attempts at `Session.delete`: one that broke may have removed the array, so that the next finds none."""
    _messages.check_name(name)
    unknown = False

    def attempt(session: Session) -> Operation[None]:
        nonlocal unknown
        try:
            yield from session.delete(name)
        except NotFoundError:
            if not unknown:
                raise
        except (ConnectionError, TimeoutError):
            unknown = True
            raise

    return attempt


def page(prefix: str, after: str) -> Callable[[Session], Operation[tuple[list[Entry], bool]]]:
    """Attempts at `Session.list`."""
    return lambda session: session.list(prefix, after)


def reading(name: str, id: str, part: Part, ranges: list[tuple[int, int]]) -> Callable[[Session], Operation[None]]:
    """Attempts at `Session.read`."""
    return lambda session: session.read(name, id, part, ranges)


def check_writable(out: Array) -> None:
    """Refuse what cannot be received into."""
    if not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray):
        raise InvalidError(f"get: out is a {type(out).__name__}, not a numpy.ndarray")
    if not out.flags.writeable:
        raise InvalidError("get: out is read-only")
    _dtype.check(out.dtype)
    if out.size and any(stride == 0 and length > 1 for stride, length in zip(out.strides, out.shape, strict=True)):
        raise InvalidError("get: elements of out share memory (a broadcast view)")
