"""Payloads in JSON: spec/WIRE.md §2, §5, §7 and §9. Names of arrays and user attributes too.

`parse` reads a payload by the table `_MEMBERS`; nothing is evaluated or unpickled, unknown members are dropped.
"""

from __future__ import annotations

import datetime
import functools
import json
import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ndferry._errors import Error, InvalidError, LimitError, ProtocolError, UnsupportedError, from_code
from ndferry._receipt import Digest
from ndferry._wire import (
    MAX_ATTRIBUTE_DEPTH,
    MAX_ATTRIBUTES,
    MAX_CREDIT,
    MAX_DEPTH,
    MAX_DIM,
    MAX_NAME,
    MAX_NAME_PART,
    MAX_NAME_PARTS,
    MAX_NUMBER,
    MAX_RANGES,
    Kind,
)

Check = Callable[[Any], bool]


def loads(payload: bytes) -> dict[str, Any]:
    """Read one JSON object by the rules of §7.

    Raises
    ------
    ProtocolError
        Not UTF-8, not JSON, not an object, a member twice, a number out of range, or too deep.
    """
    try:
        value = _DECODER.decode(payload.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"wire: json: {str(error)[:200]} (§7)") from error
    if not isinstance(value, dict):
        raise ProtocolError("wire: json: the payload is not an object (§7)")
    if payload.count(b"{") + payload.count(b"[") > MAX_DEPTH and _depth(value, MAX_DEPTH) > MAX_DEPTH:
        raise ProtocolError(f"wire: json: deeper than {MAX_DEPTH} (§7)")
    if b"\\u" in payload:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ProtocolError("wire: json: a surrogate that stands alone (§7)") from error
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"member {twice[:80]!r} twice")
    return members


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number out of range")
    return value


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_float)


def _depth(value: Any, limit: int) -> int:
    """Depth of the containers in `value`; a scalar has 0. Stops above `limit`."""
    if not isinstance(value, dict | list) or limit < 0:
        return 0
    children = value.values() if isinstance(value, dict) else value
    return 1 + max((_depth(child, limit - 1) for child in children), default=0)


# ---- the members of each message


def _is(kind: type) -> Check:
    return lambda value: type(value) is kind


def _count(most: int = MAX_NUMBER) -> Check:
    return lambda value: type(value) is int and 0 <= value <= most


def _one_of(*words: str) -> Check:
    return lambda value: type(value) is str and value in words


def _hex(digits: int) -> Check:
    pattern = re.compile(f"[0-9a-f]{{{digits}}}")
    return lambda value: type(value) is str and pattern.fullmatch(value) is not None


def _list_of(check: Check) -> Check:
    return lambda value: type(value) is list and all(map(check, value))


def _versions(value: Any) -> bool:
    return _list_of(_count())(value) and len(value) == 2 and 1 <= value[0] <= value[1]


def _ranges(value: Any) -> bool:
    """Pairs of first and count; that there are not too many is asked in `parse`."""
    return type(value) is list and all(_list_of(_count())(pair) and len(pair) == 2 and pair[1] > 0 for pair in value)


def _digest(value: Any) -> bool:
    if type(value) is not dict:
        return False
    if value.get("kind") == "sha256":
        return _hex(64)(value.get("root"))
    return value.get("kind") in ("crc32c", "none")


def _time(value: Any) -> bool:
    return type(value) is str and _TIME.fullmatch(value) is not None


_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z")
_text = _is(str)
_strings = _list_of(_text)
_flag = _is(bool)
_optional: Final = False
_required: Final = True

_PUT: dict[str, tuple[Check, bool]] = {
    "name": (_text, _required),
    "id": (_hex(32), _required),
    "array": (_is(dict), _required),
    "numpy": (lambda value: type(value) in (str, dict), _optional),
    "attributes": (_text, _optional),
    "codec_why": (_text, _optional),
}
_RECEIPT: dict[str, tuple[Check, bool]] = {
    "name": (_text, _required),
    "id": (_hex(32), _required),
    "nbytes": (_count(), _required),
    "stored_bytes": (_count(), _required),
    "cells": (_count(), _required),
    "codec": (_text, _required),
    "codec_why": (_text, _optional),
    "validated": (_one_of("full", "header"), _optional),
    "digest": (_digest, _required),
    "durability": (_one_of("durable", "relaxed", "memory"), _required),
    "created": (_time, _required),
}
_NAME: dict[str, tuple[Check, bool]] = {"name": (_text, _required)}
_ENTRY: dict[str, tuple[Check, bool]] = {
    "name": (_text, _required),
    "dtype": (_text, _required),
    "shape": (_list_of(_count((1 << 63) - 1)), _required),
    "nbytes": (_count(), _required),
    "stored_bytes": (_count(), _required),
    "created": (_time, _required),
    "digest": (_text, _optional),
}
_BAD: dict[str, tuple[Check, bool]] = {
    "file": (_text, _required),
    "cell": (lambda value: value is None or _count()(value), _optional),
    "problem": (_text, _required),
}

_MEMBERS: Final[Mapping[Kind, dict[str, tuple[Check, bool]]]] = {
    Kind.HELLO: {
        "versions": (_versions, _required),
        "software": (_text, _optional),
        "features": (_strings, _optional),
        "codecs": (_strings, _optional),
        "digests": (_strings, _optional),
        "credit": (_count(MAX_CREDIT), _required),
    },
    Kind.ERROR: {
        "code": (_text, _required),
        "message": (_text, _required),
        "retryable": (_flag, _optional),
        "cell": (_count(), _optional),
    },
    Kind.PUT: _PUT
    | {
        "digest": (_one_of("crc32c", "sha256"), _optional),
        "if_absent": (_flag, _optional),
        "resume": (_flag, _optional),
        "join": (_flag, _optional),
        "sparse": (_flag, _optional),
        "durability": (_one_of("durable", "relaxed"), _optional),
    },
    Kind.FINISH: {"root": (_hex(64), _optional)},
    Kind.GET: _NAME | {"cells": (_ranges, _optional), "takes": (_strings, _optional)},
    Kind.STAT: _NAME,
    Kind.LIST: {"prefix": (_text, _optional), "after": (_text, _optional), "limit": (_count(), _optional)},
    Kind.DELETE: _NAME,
    Kind.VERIFY: _NAME,
    Kind.ACCEPT: {"durable": (_ranges, _required)},
    Kind.RECEIPT: _RECEIPT,
    Kind.META: _PUT | _RECEIPT,
    Kind.ENTRIES: {"entries": (_list_of(_is(dict)), _required), "more": (_flag, _required)},
    Kind.REPORT: {
        "cells_done": (_count(), _required),
        "cells": (_count(), _required),
        "bytes_done": (_count(), _required),
        "bad": (_list_of(_is(dict)), _optional),
        "bad_count": (_count(), _optional),
    },
}


def parse(kind: Kind, payload: bytes) -> dict[str, Any]:
    """Read and check the payload of a frame of `kind`; members that are unknown are left out.

    Names and attributes are checked in messages that clients send; the `array` of PUT and META is read by
    `ndferry._array.parse_array`.

    Raises
    ------
    ProtocolError, UnsupportedError, InvalidError, LimitError
        As §7 and §9 say.
    """
    members = _MEMBERS[kind]
    if kind is Kind.FINISH and not payload:
        return {}
    message = _known(loads(payload), members, kind.name)
    if len(message.get("cells") or () if kind is Kind.GET else message.get("durable", ())) > MAX_RANGES:
        raise LimitError(f"wire: json: {kind.name}: over {MAX_RANGES} ranges (§8)")
    if "name" in members:
        check_name(message["name"])
    if "attributes" in members:
        message["attributes"] = parse_attributes(message.get("attributes", "{}"))
    if kind is Kind.ENTRIES:
        message["entries"] = [_known(entry, _ENTRY, "ENTRIES") for entry in message["entries"]]
    if kind is Kind.REPORT:
        message["bad"] = [_known(bad, _BAD, "REPORT") for bad in message.get("bad", [])]
    return message


def _known(message: dict[str, Any], members: dict[str, tuple[Check, bool]], what: str) -> dict[str, Any]:
    must = message.get("must_understand", [])
    if not _strings(must):
        raise ProtocolError(f"wire: json: {what}: must_understand is not a list of strings (§7)")
    for name in must:
        if name not in members:
            raise UnsupportedError(f"wire: json: {what}: member {name[:80]!r} must be understood and is unknown (§7)")
    known = {}
    for name, (check, required) in members.items():
        if name in message:
            if not check(message[name]):
                raise ProtocolError(f"wire: json: {what}: member {name!r} has a wrong type or value")
            known[name] = message[name]
        elif required:
            raise ProtocolError(f"wire: json: {what}: member {name!r} is missing")
    return known


def error_of(payload: bytes) -> Error:
    """The exception that an ERROR frame stands for (§9)."""
    message = parse(Kind.ERROR, payload)
    return from_code(
        message["code"], message["message"], retryable=message.get("retryable", False), cell=message.get("cell")
    )


def digest_of(member: dict[str, Any]) -> Digest:
    """The member `digest` of a RECEIPT or META."""
    return Digest(member["kind"], member.get("root"))


def time_of(text: str) -> datetime.datetime:
    """RFC 3339 in UTC, cut to microseconds.

    Examples
    --------
    >>> time_of("2026-01-02T03:04:05.123456789Z").isoformat()
    '2026-01-02T03:04:05.123456+00:00'
    """
    match = _TIME.fullmatch(text)
    try:
        if match is None:
            raise ValueError("not of the form 2026-01-02T03:04:05Z")
        seconds, fraction = match.groups(default="")
        return datetime.datetime.fromisoformat(f"{seconds}.{fraction[:6]:0<6}+00:00")
    except ValueError as error:
        raise ProtocolError(f"wire: json: time {text[:80]!r}: {error} (§5.1)") from error


# ---- names and attributes


def check_name(name: str) -> None:
    """Refuse what is no name of an array (§5.5).

    Raises
    ------
    InvalidError
        With the rule that the name breaks.
    """
    problem = _name_problem(name)
    if problem:
        raise InvalidError(f"name {name[:80]!r}: {problem} (§5.5)")


@functools.lru_cache(maxsize=1024)
def _name_problem(name: str) -> str | None:
    try:
        data = name.encode()
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    parts = name.split("/")
    if len(data) > MAX_NAME or len(parts) > MAX_NAME_PARTS:
        return f"at most {MAX_NAME:,} bytes and {MAX_NAME_PARTS} parts are allowed"
    if any(c < " " or "\x7f" <= c <= "\x9f" or c == "\\" for c in name):
        return "control characters and backslashes are not allowed"
    if not name.isascii() and not unicodedata.is_normalized("NFC", name):
        return "it is not in Unicode normal form C (unicodedata.normalize)"
    for part in parts:
        if not part:
            return "a part is empty: parts are joined by single slashes, none at the ends"
        if len(part.encode()) > MAX_NAME_PART:
            return f"a part has over {MAX_NAME_PART} bytes"
        if part.startswith((".", "__")) or part == "zarr.json":
            return f"the part {part[:80]!r} is reserved: none may begin with . or __ or be zarr.json"
    return None


def check_dims(dims: Sequence[str | None] | None, ndim: int) -> tuple[str | None, ...] | None:
    """Names of axes as they travel.

    Raises
    ------
    InvalidError
        Not one name, of at most 1,024 bytes, or None for each axis.
    """
    if dims is None:
        return None
    names = (dims,) if isinstance(dims, str) else tuple(dims)
    if len(names) != ndim or not all(n is None or (isinstance(n, str) and len(n.encode()) <= MAX_DIM) for n in names):
        raise InvalidError(f"dims {str(names)[:80]}: not one name, or None, for each of {ndim} axes")
    return names


def parse_attributes(text: str) -> dict[str, Any]:
    """The user's attributes from their text; integers keep every digit.

    Raises
    ------
    LimitError
        Over 1 MiB or deeper than 16.
    ProtocolError
        Not the text of a JSON object, or a member twice, or NaN.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_ATTRIBUTES:
        raise LimitError("attributes: over 1 MiB (§8)")
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"attributes: {str(error)[:200]} (§5.1)") from error
    if not isinstance(value, dict):
        raise ProtocolError("attributes: not a JSON object (§5.1)")
    if _depth(value, MAX_ATTRIBUTE_DEPTH) > MAX_ATTRIBUTE_DEPTH:
        raise LimitError(f"attributes: deeper than {MAX_ATTRIBUTE_DEPTH} (§8)")
    return value


def attributes_text(attrs: Mapping[str, Any] | None) -> str:
    """The text of `attrs` as a JSON object that reads back equal.

    Raises
    ------
    InvalidError
        A key is no string, a value is no JSON value (NaN, a NumPy scalar, bytes …).
    LimitError
        Over 1 MiB or deeper than 16.
    """
    if attrs is not None and not isinstance(attrs, Mapping):
        raise InvalidError(f"attrs: a {type(attrs).__name__}, not a mapping of strings to JSON values")
    if not attrs:
        return "{}"
    _check_json(dict(attrs), "attrs", MAX_ATTRIBUTE_DEPTH)
    text = json.dumps(attrs, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidError("attrs: a string is not valid Unicode") from error
    if size > MAX_ATTRIBUTES:
        raise LimitError(f"attrs: {size} bytes of JSON, 1 MiB is allowed (§8)")
    return text


def _check_json(value: Any, path: str, levels: int) -> None:
    if value is None or type(value) in (bool, int, str):
        return
    if type(value) is float:
        if not math.isfinite(value):
            raise InvalidError(f"{path}: JSON has no {value}: use None or a string")
        return
    if not isinstance(value, dict | list | tuple):
        raise InvalidError(f"{path}: {type(value).__name__} is no JSON value: use .item(), .tolist() or a string")
    if not levels:
        raise LimitError(f"{path[:200]}: deeper than {MAX_ATTRIBUTE_DEPTH} (§8)")
    if isinstance(value, dict):
        for key, child in value.items():
            if type(key) is not str:
                raise InvalidError(f"{path}: the key {key!r} is no string, and JSON has no other keys")
            _check_json(child, f"{path}[{key!r}]", levels - 1)
    else:
        for child in value:
            _check_json(child, f"{path}[]", levels - 1)
