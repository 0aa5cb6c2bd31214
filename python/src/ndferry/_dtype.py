"""NumPy dtypes as they travel: the members ``numpy`` and ``array`` of spec/WIRE.md §5.1 and §5.6.

An array has two dtypes. The exact one is NumPy's; `to_json` and `from_json` write and read it. The stored one is a type
that Zarr has, and cells are made of it: for most the same; structures are packed, in one byte order; what Zarr cannot
say (fields that overlap, are arrays or have no bytes) is raw bytes. Nothing is evaluated or unpickled.
"""

from __future__ import annotations

import base64
import functools
import json
import math
import re
from typing import Any, Final, Literal

import numpy as np

from ndferry._errors import DTypeError, InvalidError, UnsupportedError

DType = np.dtype[Any]

SMALL: Final = (
    "bfloat16", "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2",
    "float8_e5m2fnuz", "float8_e8m0fnu",
)  # fmt: skip
"""Types of ml_dtypes, by the names that it and Zarr's registry give them."""

NUMBERS: Final = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64", "complex64", "complex128",
)  # fmt: skip
_PLAIN: Final = frozenset(np.dtype(name).newbyteorder(order).str for name in NUMBERS for order in ("<", ">"))
_FIRST_FOREIGN: Final = 256  # NumPy numbers the dtypes of other packages (ml_dtypes) from here on
_TYPESTR = re.compile(
    r"[<>|][biufc][0-9]{1,2}|[<>][mM]8(\[[0-9]{0,10}(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?|[|]S[0-9]{1,8}"
    r"|[<>|]U[0-9]{1,7}|[|]V[0-9]{1,7}"
)
_MAX_ITEM: Final = 16 << 20
_MAX_RAW: Final = 1 << 20  # of an element as raw_bytes, whose fill_value Zarr writes out in base64
_MAX_FIELDS: Final = 1024
_MAX_DEPTH: Final = 8


def is_small(dtype: DType) -> bool:
    """A type of ml_dtypes that is carried."""
    return dtype.num >= _FIRST_FOREIGN and dtype.name in SMALL


def order_of(dtype: DType) -> str:
    """The byte order of a dtype without fields: ``<``, ``>`` or ``|``."""
    if dtype.num >= _FIRST_FOREIGN:  # their str has < where there is nothing to order
        return dtype.str[0] if dtype.itemsize > 1 else "|"
    return dtype.str[0]


def is_plain(dtype: DType) -> bool:
    """A number of NumPy."""
    return dtype.str in _PLAIN


def check(dtype: DType) -> None:
    """Refuse, with advice, a dtype that is not carried.

    Raises
    ------
    DTypeError
        It is object, StringDType, longdouble, or unknown.
    """
    if is_plain(dtype):
        return
    advice = _refusal(dtype, 0)
    if advice is None and _raw_bytes(stored_of(dtype)) > _MAX_RAW:
        advice = f"over {_MAX_RAW} bytes of an element would rest as raw bytes: use fields, or an axis more"
    if advice:
        raise DTypeError(f"array: dtype {dtype!r}: {advice}")


def _refusal(dtype: DType, depth: int) -> str | None:
    if dtype.kind == "T":
        return "variable-length strings have no fixed layout: use a fixed length, such as .astype('U20')"
    if dtype.hasobject:
        return "Python objects cannot be sent safely (that needs pickle): convert to a numeric dtype"
    if dtype.itemsize > _MAX_ITEM:
        return f"an element of {dtype.itemsize} bytes; {_MAX_ITEM} are allowed"
    if dtype.subdtype is not None:
        return _refusal(dtype.subdtype[0], depth)
    if dtype.names is not None:
        if len(dtype.names) > _MAX_FIELDS or depth > _MAX_DEPTH:
            return f"over {_MAX_FIELDS} fields, or nested deeper than {_MAX_DEPTH}"
        for name, kind, _, title in fields_of(dtype):
            if title is not None and not isinstance(title, str):
                return f"the title of field {name!r} is no string"
            advice = _refusal(kind, depth + 1)
            if advice:
                return f"field {name!r}: {advice}"
        return None
    if dtype.type in (np.longdouble, np.clongdouble) and dtype.name not in NUMBERS:
        return "its bytes differ between machines: use .astype(np.float64) or .astype(np.complex128)"
    if dtype.num >= _FIRST_FOREIGN:
        if dtype.name in SMALL:
            return None
        return "not carried: send .view(np.uint8) and keep the dtype's name in attrs"
    return None if _TYPESTR.fullmatch(dtype.str) else "it is not known to this version"


def _raw_bytes(stored: DType) -> int:
    """How many bytes of an element rest as ``raw_bytes``."""
    if stored.names is not None:
        return sum(_raw_bytes(kind) for _, kind, _, _ in fields_of(stored))
    return stored.itemsize if stored.kind == "V" and stored.num < _FIRST_FOREIGN else 0


def fields_of(dtype: DType) -> list[tuple[str, DType, int, Any]]:
    """Name, dtype, offset and title of each field, in the order of the names."""
    return [(name, field[0], field[1], field[2] if len(field) > 2 else None) for name, field in _fields(dtype)]


def _fields(dtype: DType) -> list[tuple[str, Any]]:
    fields: Any = dtype.fields
    return [(name, fields[name]) for name in dtype.names or ()]


# ---- the exact dtype


def to_json(dtype: DType) -> Any:
    """The member ``numpy``: a type string, or an object for a structured dtype. `dtype` must have passed `check`."""
    if dtype.num >= _FIRST_FOREIGN:
        return dtype.name if order_of(dtype) != ">" else ">" + dtype.name
    if dtype.subdtype is not None:
        return {"base": to_json(dtype.subdtype[0]), "shape": list(dtype.subdtype[1])}
    if dtype.names is None:
        return dtype.str
    fields = fields_of(dtype)
    value: dict[str, Any] = {
        "names": [name for name, _, _, _ in fields],
        "formats": [to_json(kind) for _, kind, _, _ in fields],
        "offsets": [offset for _, _, offset, _ in fields],
        "itemsize": dtype.itemsize,
    }
    if any(title is not None for _, _, _, title in fields):
        value["titles"] = [title for _, _, _, title in fields]
    if dtype.isalignedstruct:
        value["aligned"] = True
    if issubclass(dtype.type, np.record):
        value["record"] = True
    return value


def text_of(dtype: DType) -> str:
    """A text that stands for the exact dtype, and from which `from_text` makes it."""
    if is_plain(dtype):
        return dtype.str
    value = to_json(dtype)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@functools.lru_cache(maxsize=256)
def from_text(text: str) -> DType:
    """The inverse of `text_of`."""
    return from_json(json.loads(text) if text.startswith("{") else text)


def from_json(value: Any, depth: int = 0) -> DType:
    """The dtype that a member ``numpy`` says.

    Raises
    ------
    DTypeError
        It is none that is carried.
    """
    if isinstance(value, str):
        return _from_typestr(value)
    try:
        if depth > _MAX_DEPTH or not isinstance(value, dict):
            raise ValueError("neither a type string nor an object, or nested too deep")
        if "base" in value:
            shape = _ints(value["shape"])
            base = from_json(value["base"], depth + 1)
            if not shape or math.prod(shape) * base.itemsize > _MAX_RAW:
                raise ValueError("a subarray has too many bytes")
            return np.dtype((base, tuple(shape)))
        dtype = _structure(value, depth)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DTypeError(f"array: numpy dtype {str(value)[:80]!r}: {error}") from error
    check(dtype)
    return dtype


def _structure(value: dict[str, Any], depth: int) -> DType:
    names, formats, offsets = value["names"], value["formats"], _ints(value["offsets"])
    titles = value.get("titles") or [None] * len(names)
    size = value["itemsize"]
    if type(size) is not int or not 0 <= size <= _MAX_ITEM or not len(names) == len(formats) == len(titles):
        raise ValueError("itemsize is out of range, or the lists have different lengths")
    if not all(isinstance(n, str) and n for n in names) or not all(t is None or isinstance(t, str) for t in titles):
        raise ValueError("names and titles must be strings")
    spec: dict[str, Any] = {
        "names": list(names),
        "formats": [from_json(one, depth + 1) for one in formats],
        "offsets": offsets,
        "itemsize": size,
    }
    if any(title is not None for title in titles):
        spec["titles"] = list(titles)
    dtype = np.dtype(spec, align=value.get("aligned") is True)  # type: ignore[call-overload]
    if value.get("record") is True:
        dtype = np.dtype((np.record, dtype))
    assert isinstance(dtype, np.dtype)
    return dtype


def _ints(value: Any) -> list[int]:
    if not isinstance(value, list) or any(type(n) is not int or not 0 <= n <= _MAX_ITEM for n in value):
        raise ValueError("not a list of integers in range")
    return value


def _from_typestr(text: str) -> DType:
    if text in SMALL:
        return _small(text)
    if text[:1] == ">" and text[1:] in SMALL and _small(text[1:]).itemsize > 1:
        return _small(text[1:]).newbyteorder(">")
    if not _TYPESTR.fullmatch(text):
        raise DTypeError(f"array: {text[:80]!r} is no dtype that is carried")
    try:
        dtype = np.dtype(text)
    except (TypeError, ValueError) as error:
        raise DTypeError(f"array: {text[:80]!r} is no dtype: {error}") from error
    check(dtype)
    return dtype


def _small(name: str) -> DType:
    try:
        import ml_dtypes
    except ImportError as error:
        raise UnsupportedError(f"array: dtype {name} needs the package ml_dtypes: pip install ml_dtypes") from error
    dtype: DType = np.dtype(getattr(ml_dtypes, name))
    return dtype


# ---- the stored dtype


def stored_of(dtype: DType) -> DType:
    """The dtype of cells (§5.1)."""
    if dtype.itemsize == 0:
        return np.dtype(
            {"S": "S1", "U": dtype.byteorder.replace("=", "<").replace("|", "<") + "U1"}.get(dtype.kind, "V1")
        )
    if dtype.kind == "c":  # a reader of Zarr takes the halves of big-endian ones for one another
        return dtype.newbyteorder("<")
    if dtype.names is None:
        return dtype
    if not _packable(dtype):
        return np.dtype(f"V{dtype.itemsize}")
    orders = _orders(dtype)
    return _packed(dtype, ">" if orders == {">"} else "<")


def _packable(dtype: DType) -> bool:
    used = np.zeros(dtype.itemsize, np.bool_)
    for _, kind, offset, _ in fields_of(dtype):
        place = used[offset : offset + kind.itemsize]
        if kind.itemsize == 0 or kind.subdtype is not None or place.any():
            return False
        if kind.names is not None and not _packable(kind):
            return False
        place[:] = True
    return bool(dtype.names)


def _orders(dtype: DType) -> set[str]:
    if dtype.names is None:
        return {order_of(dtype)} - {"|"}
    return set[str]().union(*(_orders(kind) for _, kind, _, _ in fields_of(dtype)))


def _packed(dtype: DType, order: str) -> DType:
    if dtype.names is None:
        return dtype.newbyteorder(order) if order_of(dtype) != "|" else dtype  # type: ignore[arg-type]
    return np.dtype([(name, _packed(kind, order)) for name, kind, _, _ in fields_of(dtype)])


def same_bytes(dtype: DType, stored: DType) -> bool:
    """The elements of both have the same bytes: nothing has to be converted."""
    if dtype.itemsize != stored.itemsize:
        return False
    return (stored.names is None and dtype.kind != "c") or _leaves(dtype, 0) == _leaves(stored, 0)


def _leaves(dtype: DType, at: int) -> list[tuple[int, str]]:
    if dtype.names is None:
        return [(at, dtype.str)]
    return [leaf for _, kind, offset, _ in fields_of(dtype) for leaf in _leaves(kind, at + offset)]


def descr(stored: DType) -> str:
    """What the root of a digest calls the stored dtype (§5.7)."""
    if stored.num >= _FIRST_FOREIGN:
        return str(to_json(stored))
    return stored.str if stored.names is None else str(_descr(stored))


def _descr(dtype: DType) -> Any:
    if dtype.names is None:
        return f"|V{dtype.itemsize}" if dtype.num >= _FIRST_FOREIGN else dtype.str
    return [(name, _descr(kind)) for name, kind, _, _ in fields_of(dtype)]


# ---- Zarr's data_type


def zarr_type(stored: DType) -> Any:
    """The ``data_type`` of a stored dtype."""
    if stored.names is not None:
        fields = [{"name": name, "data_type": zarr_type(kind)} for name, kind, _, _ in fields_of(stored)]
        return {"name": "struct", "configuration": {"fields": fields}}
    if stored.num >= _FIRST_FOREIGN or stored.kind in "biufc":
        return stored.name
    if stored.kind in "mM":
        unit, scale = np.datetime_data(stored)
        name = "numpy.datetime64" if stored.kind == "M" else "numpy.timedelta64"
        return {"name": name, "configuration": {"unit": unit, "scale_factor": scale}}
    name = {"S": "null_terminated_bytes", "U": "fixed_length_utf32", "V": "raw_bytes"}[stored.kind]
    return {"name": name, "configuration": {"length_bytes": stored.itemsize}}


def zarr_endian(stored: DType) -> str | None:
    """What the bytes codec says."""
    if stored.names is not None:
        return "big" if _orders(stored) == {">"} else "little"
    return {"<": "little", ">": "big", "|": None}[order_of(stored)]


def parse_zarr_type(value: Any, endian: str | None, depth: int = 0) -> DType:
    """The stored dtype that ``data_type`` and the bytes codec say.

    Raises
    ------
    UnsupportedError
        It is none that this package knows.
    InvalidError
        `endian` is missing.
    """
    try:
        dtype = _parse_zarr_type(value, depth)
    except (KeyError, TypeError, ValueError) as error:
        raise UnsupportedError(
            f"array: data type {str(value)[:80]!r} is not carried by this version: {error}"
        ) from error
    if dtype.itemsize > _MAX_ITEM or _raw_bytes(dtype) > _MAX_RAW:
        raise UnsupportedError(f"array: data type {str(value)[:80]!r}: over 16 MiB an element, or 1 MiB of raw bytes")
    if depth == 0 and endian not in ("little", "big") and zarr_endian(dtype) is not None and dtype.names is None:
        raise InvalidError(f"array: bytes codec of {str(value)[:80]} has endian {endian!r} (§5.6)")
    return _packed(dtype, ">" if endian == "big" else "<")


def _parse_zarr_type(value: Any, depth: int) -> DType:
    name, config = (value, {}) if isinstance(value, str) else (value["name"], value.get("configuration", {}))
    if name in NUMBERS:
        return np.dtype(name)
    if name in SMALL:
        return _small(name)
    if name in ("numpy.datetime64", "numpy.timedelta64"):
        unit = {"μs": "us", "µs": "us"}.get(config["unit"], config["unit"])
        kind = "M8" if name == "numpy.datetime64" else "m8"
        return _from_typestr(f"<{kind}" if unit == "generic" else f"<{kind}[{int(config['scale_factor'])}{unit}]")
    if name in ("null_terminated_bytes", "fixed_length_utf32", "raw_bytes"):
        length = config["length_bytes"]
        if type(length) is not int or not 1 <= length <= _MAX_ITEM or (name == "fixed_length_utf32" and length % 4):
            raise ValueError(f"length_bytes is {length!r}")
        kind, per = {"null_terminated_bytes": ("S", 1), "fixed_length_utf32": ("<U", 4), "raw_bytes": ("V", 1)}[name]
        return np.dtype(f"{kind}{length // per}")
    if re.fullmatch(r"r[1-9][0-9]{0,7}", name) and int(name[1:]) % 8 == 0:
        return np.dtype(f"V{int(name[1:]) // 8}")
    if name in ("struct", "structured") and depth <= _MAX_DEPTH:
        pairs = [(f["name"], f["data_type"]) if isinstance(f, dict) else (f[0], f[1]) for f in config["fields"]]
        if not 0 < len(pairs) <= _MAX_FIELDS:
            raise ValueError(f"{len(pairs)} fields")
        return np.dtype([(field, _parse_zarr_type(kind, depth + 1)) for field, kind in pairs])
    raise ValueError("unknown name")


# ---- Zarr's fill_value


def zero_fill(stored: DType) -> Any:
    """The ``fill_value`` of zero bytes."""
    if stored.names is not None:
        return {name: zero_fill(kind) for name, kind, _, _ in fields_of(stored)}
    if stored.num >= _FIRST_FOREIGN:
        return "0x" + "00" * stored.itemsize
    if stored.kind == "V":
        return base64.b64encode(bytes(stored.itemsize)).decode()
    return {"b": False, "f": 0.0, "c": (0.0, 0.0), "S": "", "U": ""}.get(stored.kind, 0)


def fill_of(stored: DType, item: bytes) -> Any:
    """The ``fill_value`` of an element with the bytes `item`, None when JSON cannot say it.

    Examples
    --------
    >>> fill_of(np.dtype(">i2"), b"\\x01\\x00")
    256
    """
    if stored.itemsize > _MAX_RAW:  # longer as text than a message may be
        return None
    if stored.names is not None:
        parts = {}
        for name, kind, offset, _ in fields_of(stored):
            parts[name] = fill_of(kind, item[offset : offset + kind.itemsize])
            if parts[name] is None:
                return None
        return parts
    if stored.num >= _FIRST_FOREIGN:
        return "0x" + (item if order_of(stored) == ">" else item[::-1]).hex()
    value = np.frombuffer(item, stored)[0]
    match stored.kind:
        case "b":
            return {0: False, 1: True}.get(item[0])
        case "i" | "u":
            return int(value)
        case "m" | "M":
            return int(value.view(np.int64))
        case "f":
            return _float_fill(stored, item)
        case "c":
            half = len(item) // 2
            part = np.dtype(stored.str[0] + f"f{half}")
            return [_float_fill(part, item[:half]), _float_fill(part, item[half:])]
        case "U":
            try:
                text = item.decode("utf-32-le" if stored.str[0] == "<" else "utf-32-be").rstrip("\0")
            except UnicodeDecodeError:
                return None
            return text
        case "S":
            return base64.b64encode(item.rstrip(b"\0")).decode()
    return base64.b64encode(item).decode()


def _float_fill(dtype: DType, item: bytes) -> Any:
    value = float(np.frombuffer(item, dtype)[0])
    bits = int.from_bytes(item, "big" if dtype.str[0] == ">" else "little")
    if math.isnan(value):
        quiet = {2: 0x7E00, 4: 0x7FC00000, 8: 0x7FF8000000000000}[len(item)]
        return "NaN" if bits == quiet else f"0x{bits:0{2 * len(item)}x}"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def fill_item(stored: DType, fill: Any) -> bytes:
    """The bytes of the element that a ``fill_value`` says.

    Raises
    ------
    InvalidError
        It is no value of the dtype.
    """
    try:
        return _fill_item(stored, fill)
    except (KeyError, TypeError, ValueError, OverflowError, IndexError) as error:
        raise InvalidError(f"array: fill_value {str(fill)[:80]!r} of {stored}: {error}") from error


def _fill_item(stored: DType, fill: Any) -> bytes:
    order: Literal["big", "little"] = "big" if stored.str[0] == ">" else "little"
    if stored.names is not None:
        if isinstance(fill, dict):
            return b"".join(_fill_item(kind, fill[name]) for name, kind, _, _ in fields_of(stored))
        return _exactly(base64.b64decode(fill, validate=True), stored.itemsize)
    if stored.num >= _FIRST_FOREIGN:
        if isinstance(fill, str):
            return int(fill.removeprefix("0x"), 16).to_bytes(stored.itemsize, order)
        return np.array(fill, stored).tobytes()
    if stored.kind in "mM" and fill == "NaT":
        fill = -(1 << 63)
    match stored.kind:
        case "b":
            return bytes([{True: 1, False: 0}[fill]])
        case "i" | "m" | "M" | "u":
            return int(fill).to_bytes(stored.itemsize, order, signed=stored.kind != "u")
        case "f":
            return _float_item(stored, fill, order)
        case "c":
            part = np.dtype(stored.str[0] + f"f{stored.itemsize // 2}")
            return _float_item(part, fill[0], order) + _float_item(part, fill[1], order)
        case "U":
            return fill.encode("utf-32-be" if order == "big" else "utf-32-le").ljust(stored.itemsize, b"\0")  # type: ignore[no-any-return]
        case "S":
            return base64.b64decode(fill, validate=True).ljust(stored.itemsize, b"\0")
    return _exactly(base64.b64decode(fill, validate=True), stored.itemsize)


def _exactly(item: bytes, size: int) -> bytes:
    if len(item) != size:
        raise ValueError(f"{len(item)} bytes for {size}")
    return item


def _float_item(dtype: DType, fill: Any, order: Literal["big", "little"]) -> bytes:
    if isinstance(fill, str) and fill.startswith("0x"):
        return int(fill, 16).to_bytes(dtype.itemsize, order)
    value = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}[fill] if isinstance(fill, str) else fill
    with np.errstate(over="ignore"):
        return np.array(value, np.float64).astype(dtype).tobytes()
