"""Chunks in Blosc 1 containers (spec/WIRE.md §5.6), by numcodecs; and what ``codec="auto"`` means."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from numcodecs import blosc

from ndferry._errors import IntegrityError, InvalidError, ProtocolError, UnsupportedError
from ndferry._pipeline import threads
from ndferry._wire import KIB, Bytes

# spec/DEFAULTS.txt
CODECS: Final = ("auto", "none", "lz4", "zlib", "zstd")
SHUFFLES: Final = ("auto", "none", "byte", "bit")
DEFAULT_CODEC: Final = "auto"
DEFAULT_LEVEL: Final = 5
DEFAULT_ZLIB_LEVEL: Final = 6
MIN_LEVEL: Final = 0
MAX_LEVEL: Final = 9
DEFAULT_SHUFFLE: Final = "auto"

OVERHEAD: Final = 16
"""Bytes of a container's header, which is all that a container adds to a cell at most."""

_ZARR_SHUFFLE: Final = {"none": "noshuffle", "byte": "shuffle", "bit": "bitshuffle"}
_SHUFFLE_NUMBER: Final = {"noshuffle": blosc.NOSHUFFLE, "shuffle": blosc.SHUFFLE, "bitshuffle": blosc.BITSHUFFLE}
_HEADER: Final = struct.Struct("<BBBBIII")
_MAX_TYPE_SIZE: Final = 255


@dataclass(frozen=True, slots=True)
class Blosc:
    """The configuration of Zarr's ``blosc`` codec."""

    cname: str
    clevel: int
    shuffle: str
    typesize: int

    def json(self) -> str:
        """As an entry of ``codecs``."""
        configuration = {
            "cname": self.cname,
            "clevel": self.clevel,
            "shuffle": self.shuffle,
            "typesize": self.typesize,
            "blocksize": 0,
        }
        return json.dumps({"name": "blosc", "configuration": configuration}, separators=(",", ":"))

    def encode(self, raw: Bytes) -> bytes:
        """One cell as a container."""
        items = raw.view(f"V{self.typesize}") if len(raw) % self.typesize == 0 else raw
        data: bytes = blosc.compress(items, self.cname.encode(), self.clevel, _SHUFFLE_NUMBER[self.shuffle])
        return data


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user asked for; made by `wish`, which checks it."""

    codec: str
    level: int | None
    shuffle: str
    link_rate: float | None

    def blosc(self, itemsize: int, codec: str | None = None, shuffle: str | None = None, level: int = 5) -> Blosc:
        """The codec for elements of `itemsize` bytes. What auto chose stands where the user said nothing."""
        codec = codec or self.codec
        if self.level is not None:
            level = self.level
        elif self.codec != "auto":
            level = DEFAULT_ZLIB_LEVEL if codec == "zlib" else DEFAULT_LEVEL
        shuffle = self.shuffle if self.shuffle != "auto" else shuffle or ("byte" if itemsize > 1 else "none")
        if itemsize > _MAX_TYPE_SIZE:
            itemsize, shuffle = 1, "none"
        return Blosc(codec, level, _ZARR_SHUFFLE[shuffle], itemsize)


def wish(codec: str, level: int | None, shuffle: str, link_rate: float | None) -> Wish:
    """Check the options of a put.

    Raises
    ------
    InvalidError
        One of them is unknown or out of range.
    """
    if codec not in CODECS:
        raise InvalidError(f"put: codec {codec!r} is not known; {', '.join(CODECS)} are")
    if shuffle not in SHUFFLES:
        raise InvalidError(f"put: shuffle {shuffle!r} is not known; {', '.join(SHUFFLES)} are")
    if level is not None and (type(level) is not int or not MIN_LEVEL <= level <= MAX_LEVEL):
        raise InvalidError(f"put: level {level!r} is not in {MIN_LEVEL}..{MAX_LEVEL}")
    if link_rate is not None and not link_rate > 0:
        raise InvalidError(f"put: link_rate {link_rate!r} is not above 0; None lets the client judge")
    return Wish(codec, level, shuffle, link_rate)


# ---- auto: the rule of wire/codec/auto.go, which says why; a trial on samples stands for its estimates

ASSUMED_LINK: Final = 125e6
"""Bytes a second that a connection to another machine is taken for: 1 Gbit/s."""

LOCAL: Final = "the server is on this machine, where no codec is faster than copying"

_SAMPLE: Final = 64 * KIB
_ENCODE: Final = {"lz4": 1.2e9, "zstd": 0.4e9}
_DECODE: Final = {"lz4": 4e9, "zstd": 1e9}
_LEVELS: Final = {"lz4": 5, "zstd": 1}
_MIN_GAIN: Final = 1.05


def decide(
    asked: Wish, itemsize: int, size: int, link: float, sample: Callable[[int], Bytes]
) -> tuple[Blosc | None, str]:
    """What ``auto`` settles on, and why.

    Parameters
    ----------
    size
        Bytes that can be sampled.
    link
        Bytes a second that the connection carries.
    sample
        Returns bytes from an offset on, at most 64 KiB of whole elements.
    """
    workers = threads()
    plain = 1 / link

    def seconds(codec: str, ratio: float) -> float:
        return max(plain / ratio, 1 / (_ENCODE[codec] * workers), 1 / (_DECODE[codec] * workers))

    if plain < _MIN_GAIN * min(seconds(codec, 1e9) for codec in _LEVELS):
        return None, f"the link carries {_per_second(link)}, more than any codec would save"
    count = min(4, 1 + (size >> 20))
    step = max(0, size - _SAMPLE) // max(1, count - 1)
    samples = [sample(i * step // itemsize * itemsize) for i in range(count)] if size else []
    raw = sum(map(len, samples))
    if raw < 128:
        return None, "too little data to gain from a codec"
    best: tuple[float, float, Blosc] | None = None
    limit = plain / _MIN_GAIN
    for codec, level in _LEVELS.items():
        for shuffle in ("byte", "none", "bit"):
            if (shuffle == "byte" and itemsize == 1) or (shuffle != "none" and itemsize > _MAX_TYPE_SIZE):
                continue
            trial = Blosc(codec, level, _ZARR_SHUFFLE[shuffle], min(itemsize, _MAX_TYPE_SIZE))
            ratio = raw / sum(len(trial.encode(part)) for part in samples)
            time = seconds(codec, ratio)
            if ratio < _MIN_GAIN or time > limit or (best and time == limit and ratio <= best[1]):
                continue
            limit = time
            best = time, ratio, asked.blosc(itemsize, codec, shuffle, level)
    if best is None:
        return None, f"no codec saves a twentieth of the time at {_per_second(link)}"
    time, ratio, chosen = best
    return chosen, (
        f"{chosen.cname} with {chosen.shuffle} shrinks the sample {ratio:.2f} times and takes "
        f"{100 * time / plain:.0f} % of the time at {_per_second(link)}"
    )


def _per_second(rate: float) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if rate >= unit:
            return f"{rate / unit:.1f} {name}/s"
    return f"{rate / 1e3:.0f} kB/s"


# ---- reading


def parse(configuration: dict[str, Any]) -> Blosc:
    """The configuration of a ``blosc`` codec in the metadata of an array.

    Raises
    ------
    ProtocolError
        A member is missing or has the wrong type or value.
    UnsupportedError
        A compressor or a member that is unknown.
    """
    known = {"cname", "clevel", "shuffle", "typesize", "blocksize"}
    if unknown := configuration.keys() - known:
        raise UnsupportedError(f"array: blosc has an unknown member {min(unknown)[:80]!r} (§5.6)")
    cname, clevel, shuffle = (configuration.get(name) for name in ("cname", "clevel", "shuffle"))
    typesize = configuration.get("typesize", 1 if shuffle == "noshuffle" else None)
    blocksize = configuration.get("blocksize", 0)
    if not isinstance(cname, str) or shuffle not in _SHUFFLE_NUMBER:
        raise ProtocolError("array: blosc has no cname or no known shuffle (§5.6)")
    for value, low, high in ((clevel, 0, 9), (typesize, 1, _MAX_TYPE_SIZE), (blocksize, 0, (1 << 31) - 1)):
        if type(value) is not int or not low <= value <= high:
            raise ProtocolError("array: clevel, typesize or blocksize of blosc is no number in range (§5.6)")
    if cname not in ("lz4", "zlib", "zstd"):
        raise UnsupportedError(f"array: blosc compressor {cname[:80]!r} is unknown (§5.6)")
    return Blosc(cname, clevel or 0, str(shuffle), typesize or 1)


def decode(data: Bytes, out: Bytes, cell: int) -> None:
    """Decode one container into exactly `out`.

    Raises
    ------
    IntegrityError
        It is damaged, or says another size.
    """
    _, _, flags, typesize, nbytes, blocksize, cbytes = _HEADER.unpack_from(data)
    if cbytes != len(data) or nbytes != len(out) or not typesize or flags & 8 or not 0 < blocksize <= nbytes:
        raise IntegrityError(
            f"cell {cell} cannot be decoded: its header says {nbytes} raw bytes in {cbytes}, "
            f"not {len(out)} in {len(data)}",
            cell=cell,
        )
    try:
        blosc.decompress(data, out)
    except (RuntimeError, ValueError) as error:
        raise IntegrityError(f"cell {cell} cannot be decoded: {error}", cell=cell) from error
