"""Frames as bytes: the constants of spec/WIRE.md §1, §3 and §8, headers, trailers and CRC32C.

Nothing here does I/O or keeps state. Section numbers are those of ``spec/WIRE.md``.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from google_crc32c import extend as _extend

from ndferry._errors import IntegrityError, LimitError, ProtocolError, UnsupportedError

Bytes: TypeAlias = npt.NDArray[np.uint8]
"""A flat run of bytes. NumPy and not memoryview: google_crc32c reads it without a copy."""

Buffer: TypeAlias = bytes | Bytes

MAGIC: Final = 0x3146444E  # "NDF1" as a little-endian integer
HEADER_SIZE: Final = 32
TRAILER_SIZE: Final = 8
CRITICAL: Final = 1
VERSIONS: Final = (1, 1)

WHOLE: Final = 0
ABORTED: Final = 0xFFFFFFFF

KIB: Final = 1024
MIB: Final = 1024 * KIB

# §5.5, bytes of UTF-8
MAX_NAME: Final = 1024
MAX_NAME_PARTS: Final = 64
MAX_NAME_PART: Final = 255
MAX_DIM: Final = 1024

# §7
MAX_DEPTH: Final = 32
MAX_NUMBER: Final = 1 << 53

# §8
MAX_SMALL: Final = 64 * KIB
MAX_CELL: Final = 16 * MIB
MAX_AXES: Final = 64
MAX_ARRAY_BYTES: Final = 1 << 53
MAX_CELLS: Final = (1 << 32) - 1
MAX_ATTRIBUTES: Final = MIB
MAX_ATTRIBUTE_DEPTH: Final = 16
MAX_RANGES: Final = 4096
RANGES_SENT: Final = 2000  # of them, those that this side puts into one: their text fits a control frame
MAX_CREDIT: Final = 1 << 62
ALIAS_SIZE: Final = 8
MIN_COST: Final = 4 * KIB  # §6: credit that a cell takes at least
FIRST_CREDIT: Final = 32 * MIB  # of HELLO, when the link is known
MOST_CREDIT: Final = 1 << 30  # that the server ever has, which only a link that holds half of it can use
CREDIT_STEP: Final = 4 * MIB  # what is worth a CREDIT while nobody knows the link or the cells
CREDIT_AHEAD: Final = 2 * MIB  # what the server may have besides one cell at least
PACE_INTERVAL: Final = 5e-3  # seconds over which is measured how fast cells come, at least

PIECE: Final = 256 * KIB
"""Bytes that are received and checked at a time: they fit the second-level cache."""

SEND_PIECE: Final = 512 * KIB
"""Bytes that are sent and checked at a time: as `PIECE`, and with more the sides wait less for each other."""


BULK: Final = 32 * KIB
"""Bytes from which on a checksum is worth the faster function, where there is one."""


class Kind(enum.IntEnum):
    """§3. Numbers are never reused; the list only grows."""

    HELLO = 1
    PING = 2
    PONG = 3
    ERROR = 4
    CREDIT = 7
    PUT = 16
    FINISH = 17
    GET = 18
    STAT = 19
    LIST = 20
    DELETE = 21
    VERIFY = 22
    CANCEL = 23
    ACCEPT = 32
    ACK = 33
    RECEIPT = 34
    META = 35
    ENTRIES = 36
    REPORT = 37
    DONE = 38
    CHUNK = 48
    ALIAS = 49
    FILL = 50
    RESEND = 51


# GOAWAY 5, AUTH 6 and SUBSCRIBE 24 are reserved: until their feature is agreed
# they are kinds like any other that nobody knows.

_CONNECTION = frozenset({Kind.HELLO, Kind.PING, Kind.PONG, Kind.CREDIT})
_EITHER = frozenset({Kind.ERROR})
_FROM_CLIENT = frozenset({Kind.PUT, Kind.FINISH, Kind.GET, Kind.STAT, Kind.LIST, Kind.DELETE, Kind.VERIFY, Kind.CANCEL})
_FROM_SERVER = frozenset(
    {Kind.ACCEPT, Kind.ACK, Kind.RECEIPT, Kind.META, Kind.ENTRIES, Kind.REPORT, Kind.DONE, Kind.RESEND}
)
_USES_INDEX = frozenset(
    {
        Kind.PING,
        Kind.PONG,
        Kind.CREDIT,
        Kind.FINISH,
        Kind.ACK,
        Kind.DONE,
        Kind.CHUNK,
        Kind.ALIAS,
        Kind.FILL,
        Kind.RESEND,
    }
)
_RAW_RANGE = {
    Kind.CANCEL: (0, 1),
    Kind.ACK: (1, 2),
    Kind.REPORT: (0, 1),
    Kind.CHUNK: (1, MAX_CELL),
    Kind.ALIAS: (0, MAX_CELLS),
    Kind.FILL: (0, MAX_CELLS),
}
_SETS_CRITICAL = _FROM_CLIENT | {Kind.HELLO, Kind.CHUNK, Kind.ALIAS, Kind.FILL}
_MAX_PAYLOAD = {
    Kind.PUT: 64 * KIB + 2 * MIB,
    Kind.META: 64 * KIB + 2 * MIB,
    Kind.ENTRIES: 2 * MIB,
    Kind.CHUNK: MAX_CELL + 64 * KIB,
}
_KNOWN = {int(kind): kind for kind in Kind}
_USUAL = {
    int(kind): (
        (1 << 64) - 1 if kind in _USES_INDEX else 0,
        *_RAW_RANGE.get(kind, (0, 0)),
        int(kind is Kind.CHUNK),
        _MAX_PAYLOAD.get(kind, MAX_SMALL),
    )
    for kind in (Kind.RECEIPT, Kind.META, Kind.CHUNK, Kind.DONE)
}
"""What `_check_fields` allows, for the kinds that come most: index, raw and length."""

# magic, kind, flags, handles, stream, length, index, raw, crc
_HEADER = struct.Struct("<IBBHIIQII")
_HEADER_BODY = struct.Struct("<IBBHIIQI")
_U32 = struct.Struct("<I")
_TRAILER = struct.Struct("<II")
assert _HEADER.size == HEADER_SIZE
assert _TRAILER.size == TRAILER_SIZE


class Header(NamedTuple):
    """A frame header that passed every check of §1, §3 and §8. `number` is the cell, token or grant of `index`."""

    kind: int
    flags: int
    handles: int
    stream: int
    length: int
    number: int
    raw: int

    @property
    def known(self) -> bool:
        """False for a kind that this version skips."""
        return self.kind in _KNOWN


def crc32c(data: Buffer, crc: int = 0) -> int:
    """CRC32C (§1) of `data`, continuing from `crc`, without copying it.

    Examples
    --------
    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    return int(_extend(crc, data) if len(data) < BULK else _bulk(crc, data))


def _first(crc: int, data: Buffer) -> int:
    """The first large checksum finds out which function makes them: importing awscrt takes tens of milliseconds."""
    global _bulk
    _bulk = _fastest()
    return _bulk(crc, data)


def _fastest() -> Callable[[int, Buffer], int]:
    """`extend`, or what the extra ``fast`` has, in a cache at twice its speed."""
    try:
        from awscrt.checksums import crc32c as folded
    except ImportError:
        return _extend  # type: ignore[no-any-return]
    return lambda crc, data: folded(data, crc)


_bulk: Callable[[int, Buffer], int] = _first


def max_payload(kind: int) -> int:
    """Bytes of payload that §8 allows a frame of `kind`."""
    return _MAX_PAYLOAD.get(kind, MAX_SMALL)  # type: ignore[call-overload,no-any-return]


def pack_header(kind: Kind, stream: int, length: int = 0, *, index: int = 0, raw: int = 0) -> bytes:
    """The 32 bytes of a header; *critical* is set for the kinds that §3 says."""
    flags = CRITICAL if kind in _SETS_CRITICAL else 0
    body = _HEADER_BODY.pack(MAGIC, kind, flags, 0, stream, length, index, raw)
    return body + _U32.pack(_extend(0, body))


def pack_trailer(crc: int, status: int = WHOLE) -> bytes:
    """The 8 bytes behind a payload that is not empty."""
    return _TRAILER.pack(crc, status)


def pack_frame(kind: Kind, stream: int, payload: bytes = b"", *, index: int = 0, raw: int = 0) -> bytes:
    """A whole frame. For payloads that are sent in pieces use `pack_header` and `pack_trailer`."""
    header = pack_header(kind, stream, len(payload), index=index, raw=raw)
    if not payload:
        return header
    return header + payload + pack_trailer(_extend(0, payload))


def parse_header(data: Buffer, offset: int = 0, *, to_client: bool = True) -> Header:
    """Check and read the header at `offset`, of which 32 bytes must be there.

    Parameters
    ----------
    to_client
        Who received it: a client refuses what only clients send, and the other way round.

    Raises
    ------
    ProtocolError
        A field has a value that §1 or §3 does not allow.
    UnsupportedError
        The kind is unknown and critical.
    LimitError
        `length` is over the limit of §8 for the kind.
    """
    fields = _HEADER.unpack_from(data, offset)
    magic, kind_number, flags, handles, stream, length, index, raw, crc = fields
    if magic != MAGIC:
        if magic & 0xFFFFFF == MAGIC & 0xFFFFFF:
            raise ProtocolError(
                f"wire: header: the peer sends frames of layout version {chr(magic >> 24)!r}, this package speaks "
                "version '1': update the older of the two (§1)"
            )
        raise ProtocolError(f"wire: header: magic is {magic:08x}, not NDF1: the peer speaks something else (§1)")
    if _extend(0, data[offset : offset + 28]) != crc:
        raise ProtocolError("wire: header: its CRC32C is wrong (§1)")
    if flags & ~CRITICAL:
        raise ProtocolError(f"wire: header: flags {flags:#04x} has bits that are not defined (§1)")
    header = Header(kind_number, flags, handles, stream, length, index, raw)
    if to_client and stream and not handles and (usual := _USUAL.get(kind_number)):
        most_index, least_raw, most_raw, least, most = usual
        if index <= most_index and least_raw <= raw <= most_raw and least <= length <= most:
            return header
    kind = _KNOWN.get(kind_number)
    if kind is None:
        if flags & CRITICAL:
            raise UnsupportedError(f"wire: header: frame kind {kind_number} is unknown and critical (§3)")
    else:
        _check_fields(kind, header, to_client)
    if length > max_payload(kind_number):
        raise LimitError(
            f"wire: header: {length} bytes of payload, kind {kind_number} may have {max_payload(kind_number)} (§8)"
        )
    return header


def _check_fields(kind: Kind, header: Header, to_client: bool) -> None:
    if kind in (_FROM_CLIENT if to_client else _FROM_SERVER):
        raise ProtocolError(f"wire: header: {kind.name} came from the wrong side (§3)")
    if header.handles:
        raise ProtocolError(f"wire: header: {header.handles} handles, but the feature is not agreed (§1)")
    if kind in _CONNECTION:
        if header.stream:
            raise ProtocolError(f"wire: header: {kind.name} on stream {header.stream}, not 0 (§3)")
    elif not header.stream and kind not in _EITHER:
        raise ProtocolError(f"wire: header: {kind.name} on stream 0 (§3)")
    if header.number and kind not in _USES_INDEX:
        raise ProtocolError(f"wire: header: {kind.name} with index {header.number}, not 0 (§1)")
    if kind is Kind.CREDIT and header.number > MAX_CREDIT:
        raise ProtocolError(f"wire: header: a grant of {header.number} bytes is over 2^62 (§6)")
    least, most = _RAW_RANGE.get(kind, (0, 0))
    if not least <= header.raw <= most:
        if kind is Kind.CHUNK and header.raw > most:
            raise LimitError(f"wire: header: a cell of {header.raw} bytes is over 16 MiB (§8)")
        raise ProtocolError(f"wire: header: {kind.name} with raw {header.raw}, allowed are {least} to {most} (§3)")
    if kind is Kind.CHUNK and not header.length:
        raise ProtocolError("wire: header: CHUNK without a payload (§3)")
    if kind is Kind.RESEND and header.number >= MAX_CELLS:
        raise LimitError(f"wire: header: RESEND of cell {header.number} (§8)")
    if kind in (Kind.ALIAS, Kind.FILL):
        if not header.raw or header.number + header.raw > MAX_CELLS:
            raise LimitError(f"wire: header: {kind.name} of {header.raw} cells from {header.number} (§8)")
        if header.length != (ALIAS_SIZE if kind is Kind.ALIAS else 0):
            raise ProtocolError(f"wire: header: {kind.name} with {header.length} bytes of payload (§5.8)")


def parse_trailer(data: Buffer, crc: int, offset: int = 0) -> bool:
    """Check the trailer at `offset` against the `crc` of the payload that was received.

    Returns
    -------
    bool
        True when the payload is whole, False when the sender aborted it: discard it, an ERROR follows.

    Raises
    ------
    ProtocolError
        The status is neither.
    IntegrityError
        The CRC is not that of the payload.
    """
    expected, status = _TRAILER.unpack_from(data, offset)
    if status == ABORTED:
        return False
    if status != WHOLE:
        raise ProtocolError(f"wire: trailer: status {status:08x} is not defined (§1)")
    if expected != crc:
        raise IntegrityError(f"wire: trailer: CRC32C is {crc:08x}, the sender's was {expected:08x} (§1)")
    return True
