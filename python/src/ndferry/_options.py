"""The options of a put, once for every function that takes them: names, types, defaults and checks.

A new option is a member of `PutOptions` and a field of `Options`; the functions take it, and show it in their
signatures (`takes_options`), without a change.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import operator
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, TypeVar, Unpack

from ndferry import _codec, _messages
from ndferry._errors import InvalidError

F = TypeVar("F", bound=Callable[..., Any])

_ID = re.compile(r"[0-9a-f]{32}")


class PutOptions(TypedDict, total=False):
    """Options of `Client.put`, which describes them, and of `send_array`."""

    chunks: int | Sequence[int] | None
    codec: Literal["auto", "none", "lz4", "zlib", "zstd"]
    level: int | None
    shuffle: Literal["auto", "none", "byte", "bit"]
    link_rate: float | None
    digest: Literal["crc32c", "sha256"]
    attrs: Mapping[str, Any] | None
    dims: Sequence[str | None] | None
    if_absent: bool
    id: str | None
    durability: Literal["durable", "relaxed"]
    progress: Callable[[int, int], object] | None


@dataclass(frozen=True, slots=True)
class Options:
    """`PutOptions` with their defaults, checked by `checked`."""

    chunks: int | Sequence[int] | None = None
    codec: str = _codec.DEFAULT_CODEC
    level: int | None = None
    shuffle: str = _codec.DEFAULT_SHUFFLE
    link_rate: float | None = None
    digest: str = "crc32c"
    attrs: Mapping[str, Any] | None = None
    dims: Sequence[str | None] | None = None
    if_absent: bool = False
    id: str | None = None
    durability: str = "durable"
    progress: Callable[[int, int], object] | None = None

    @property
    def wish(self) -> _codec.Wish:
        """The options of the codec."""
        return _wish(self.codec, self.level, self.shuffle, self.link_rate)

    @property
    def cell(self) -> tuple[int, ...] | None:
        """`chunks` as a shape."""
        if self.chunks is None:
            return None
        try:
            return tuple(map(operator.index, (self.chunks,) if isinstance(self.chunks, int) else self.chunks))
        except TypeError:
            raise InvalidError(f"chunks {str(self.chunks)[:80]!r}: not an integer for each axis") from None

    @property
    def attributes(self) -> str:
        """`attrs` as they travel."""
        return _messages.attributes_text(self.attrs)


_wish = functools.lru_cache(maxsize=64)(_codec.wish)


def checked(options: PutOptions) -> Options:
    """The options that a call was given, before anything is sent.

    Raises
    ------
    InvalidError
        A value is unknown or out of range.
    TypeError
        There is no such option.
    """
    if "progress" not in options:  # which is not to be kept alive
        with contextlib.suppress(TypeError):  # a list or a dict is among them, or there is no such option
            return _again(**options)
    return _checked(**options)


def _checked(**options: Unpack[PutOptions]) -> Options:
    made = Options(**options)
    if made.digest not in ("crc32c", "sha256"):
        raise InvalidError(f"put: digest {made.digest!r} is not known; crc32c and sha256 are")
    if made.durability not in ("durable", "relaxed"):
        raise InvalidError(f"put: durability {made.durability!r} is not known; durable and relaxed are")
    if made.id is not None and not _ID.fullmatch(made.id):
        raise InvalidError(f"put: id {made.id!r} is not 32 lower-case hex digits")
    assert made.wish  # raises for what is wrong with the codec
    return made


_again = functools.lru_cache(maxsize=64, typed=True)(_checked)


def takes_options(function: F) -> F:
    """Show each of `PutOptions` in the signature of a function that takes ``**options: Unpack[PutOptions]``."""
    signature = inspect.signature(function)
    hints = typing.get_type_hints(PutOptions)
    parameters = list(signature.parameters.values())
    parameters.pop()
    place = next((n for n, p in enumerate(parameters) if p.kind is p.KEYWORD_ONLY), len(parameters))
    parameters[place:place] = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in dataclasses.fields(Options)
    ]
    function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return function
