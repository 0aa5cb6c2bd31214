"""Writes spec/vectors/*.txt from spec/WIRE.md alone: struct, hashlib and a CRC32C table of its own.

    python tools/make_vectors.py [DIRECTORY]

The files are the same at every run. Nothing of the package is imported, so that a mistake in its codec cannot hide in
the vectors.
"""

from __future__ import annotations

import hashlib
import math
import re
import struct
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from message_vectors import dumps, messages

KINDS = {
    "HELLO": 1, "PING": 2, "PONG": 3, "ERROR": 4, "CREDIT": 7, "PUT": 16, "FINISH": 17, "GET": 18, "STAT": 19,
    "LIST": 20, "DELETE": 21, "VERIFY": 22, "CANCEL": 23, "ACCEPT": 32, "ACK": 33, "RECEIPT": 34, "META": 35,
    "ENTRIES": 36, "REPORT": 37, "DONE": 38, "CHUNK": 48, "ALIAS": 49, "FILL": 50, "RESEND": 51,
}  # fmt: skip
CRITICAL = {"HELLO", "PUT", "FINISH", "GET", "STAT", "LIST", "DELETE", "VERIFY", "CANCEL", "CHUNK", "ALIAS", "FILL"}
TO_CLIENT = {"ACCEPT", "ACK", "RECEIPT", "META", "ENTRIES", "REPORT", "DONE", "RESEND"}
CONNECTION = {"HELLO", "PING", "PONG", "CREDIT"}
KIB, MIB = 1 << 10, 1 << 20
LIMIT = {"PUT": 64 * KIB + 2 * MIB, "META": 64 * KIB + 2 * MIB, "ENTRIES": 2 * MIB, "CHUNK": 16 * MIB + 64 * KIB}

TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    TABLE.append(byte)


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def header(kind: int, stream: int, length: int, index: int = 0, raw: int = 0, **other: int) -> bytes:
    magic = other.get("magic", 0x3146444E)
    body = struct.pack(
        "<IBBHIIQI", magic, kind, other.get("flags", 0), other.get("handles", 0), stream, length, index, raw
    )
    return body + struct.pack("<I", crc32c(body) ^ other.get("header_crc", 0))


def frame(kind: str | int, payload: bytes = b"", *, payload_crc: int = 0, status: int = 0, **fields: int) -> bytes:
    """A frame with sensible fields; `header_crc` and `payload_crc` are xored into the right ones."""
    if isinstance(kind, str):
        fields.setdefault("stream", 0 if kind in CONNECTION else 1)
        fields.setdefault("flags", 1 if kind in CRITICAL else 0)
        if kind == "CHUNK":
            fields.setdefault("raw", len(payload))
        if kind in ("ACK", "ALIAS", "FILL"):
            fields.setdefault("raw", 1)
        kind = KINDS[kind]
    fields.setdefault("stream", 1)
    fields.setdefault("length", len(payload))
    data = header(kind, **fields)
    if payload:
        data += payload + struct.pack("<II", crc32c(payload) ^ payload_crc, status)
    return data


# ---- the text


def hex_text(data: bytes) -> str:
    """Runs of at least 8 equal bytes become ``XX*COUNT``."""
    parts = []
    for match in re.finditer(rb"(.)\1{7,}|(?:(?!(.)\2{7}).)+", data, re.DOTALL):
        run = match.group()
        parts.append(f"{run[:1].hex()}*{len(run)}" if match.group(1) else run.hex())
    return " ".join(parts)


def lines_of(stanza: dict[str, Any]) -> Iterator[str]:
    for key, value in stanza.items():
        if key == "fields":
            for name, content in value.items():
                yield f"field: {name} {content}"
        elif isinstance(value, bytes):
            text = hex_text(value)
            while len(text) > 100:
                cut = text.rfind(" ", 0, 100)
                cut = cut if cut > 0 else 100
                yield f"{key}: {text[:cut].strip()}"
                text = text[cut:].strip()
            yield f"{key}: {text}"
        else:
            yield f"{key}: {value}"


def write(path: Path, about: str, stanzas: Sequence[dict[str, Any]]) -> None:
    names = [stanza["name"] for stanza in stanzas]
    assert len(set(names)) == len(names), sorted(name for name in names if names.count(name) > 1)
    text = [f"# {line}" for line in (*about.splitlines(), "Made by python/tools/make_vectors.py; do not edit.")]
    for stanza in stanzas:
        text += ["", *lines_of(stanza)]
    path.write_text("\n".join(text) + "\n")


# ---- frames.txt


def valid_frame(name: str, section: str, kind: str, payload: bytes = b"", **fields: int) -> dict[str, Any]:
    data = frame(kind, payload, **fields)
    _, number, flags, handles, stream, length, index, raw, _ = struct.unpack("<IBBHIIQII", data[:32])
    return {
        "name": name,
        "section": section,
        "to": "client" if kind in TO_CLIENT else "server",
        "expect": "ok",
        "fields": {
            "kind": number, "flags": flags, "handles": handles, "stream": stream, "length": length, "index": index,
            "raw": raw,
        },
        "hex": data,
    }  # fmt: skip


def broken(name: str, section: str, expect: str, data: bytes, to: str = "server") -> dict[str, Any]:
    return {"name": name, "section": section, "to": to, "expect": expect, "hex": data}


def frames() -> Iterator[dict[str, Any]]:
    some = b'{"name":"a"}'
    for kind in KINDS:
        index = {
            "PING": 2**64 - 1, "PONG": 7, "CREDIT": 2**62, "FINISH": 3, "ACK": 5, "DONE": 2, "RESEND": 2**32 - 2,
        }.get(kind, 0)  # fmt: skip
        payload = b"" if kind in {"PING", "PONG", "CREDIT", "ACK", "DONE", "CANCEL", "FILL", "RESEND"} else some
        payload = struct.pack("<Q", 1) if kind == "ALIAS" else payload
        yield valid_frame(f"valid-{kind.lower()}", "3", kind, payload, index=index)
    yield valid_frame("valid-finish-empty", "5.1", "FINISH", index=1)
    yield valid_frame("valid-cancel-forget", "3", "CANCEL", raw=1)
    yield valid_frame("valid-ack-durable", "3", "ACK", raw=2, index=2**32 - 1)
    yield valid_frame("valid-report-last", "3", "REPORT", some, raw=1)
    yield valid_frame("valid-error-connection", "3", "ERROR", some, stream=0)
    yield valid_frame("valid-stream-largest", "1", "GET", some, stream=2**32 - 1)
    yield valid_frame("valid-chunk-index", "1", "CHUNK", bytes(range(16)), index=2**32 - 2)
    yield valid_frame("valid-chunk-compressed", "3", "CHUNK", b"\x01\x02\x03", raw=4096)
    yield valid_frame("valid-chunk-4k", "1", "CHUNK", bytes(4096))
    yield valid_frame("valid-stat-64k", "8", "STAT", b" " * (64 * KIB))

    yield valid_frame("valid-alias-run", "5.8", "ALIAS", struct.pack("<Q", 0), index=2, raw=998)
    yield valid_frame("valid-fill-last", "5.8", "FILL", index=2**32 - 2, raw=1)

    ok = frame("GET", some)
    yield broken("magic-newer", "1", "protocol header", frame("GET", some, magic=0x3246444E))
    yield broken("magic-http", "1", "protocol header", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    yield broken("magic-zeros", "1", "protocol header", bytes(32))
    yield broken("magic-ones", "1", "protocol header", b"\xff" * 32)
    yield broken("header-crc", "1", "protocol header", frame("GET", some, header_crc=1))
    for bit in (0, 39, 63, 95, 127, 191, 223, 255):
        damaged = bytearray(ok)
        damaged[bit // 8] ^= 1 << bit % 8
        yield broken(f"header-bit-{bit}", "1", "protocol header", bytes(damaged))
    for bit in range(1, 8):
        yield broken(f"flags-bit-{bit}", "1", "protocol header", frame("GET", some, flags=1 | 1 << bit))
    yield broken("handles-not-agreed", "1", "protocol header", frame("GET", some, handles=1))
    for kind in KINDS:
        to = "client" if kind in TO_CLIENT else "server"
        payload = b"" if kind in {"PING", "PONG", "CREDIT", "ACK", "DONE", "CANCEL", "RESEND"} else some
        if kind in CONNECTION:
            yield broken(f"stream-{kind.lower()}", "3", "protocol header", frame(kind, payload, stream=1), to)
        elif kind != "ERROR":
            yield broken(f"stream-{kind.lower()}", "3", "protocol header", frame(kind, payload, stream=0), to)
        if kind not in {"PING", "PONG", "CREDIT", "FINISH", "ACK", "DONE", "CHUNK", "RESEND"}:
            yield broken(f"index-{kind.lower()}", "1", "protocol header", frame(kind, payload, index=1), to)
        raw = {"CANCEL": 2, "ACK": 3, "REPORT": 2, "CHUNK": 0}.get(kind, 1)
        yield broken(f"raw-{kind.lower()}", "3", "protocol header", frame(kind, payload, raw=raw), to)
        limit = LIMIT.get(kind, 64 * KIB)
        over = frame(kind, length=limit + 1, raw=1 if kind in {"CHUNK", "ACK"} else 0)
        yield broken(f"limit-{kind.lower()}", "8", "limit header", over, to)
    yield broken("raw-ack-0", "3", "protocol header", frame("ACK", raw=0), "client")
    yield broken("limit-length-largest", "8", "limit header", frame("GET", length=2**32 - 1))
    yield broken("limit-cell", "8", "limit header", frame("CHUNK", b"\0", raw=16 * MIB + 1))
    yield broken("credit-over", "6", "protocol header", frame("CREDIT", index=2**62 + 1))
    yield broken("resend-over", "8", "limit header", frame("RESEND", index=2**32 - 1), "client")
    yield broken("chunk-empty", "3", "protocol header", frame("CHUNK", raw=8))
    for kind in ("PUT", "GET", "FINISH", "CANCEL"):
        yield broken(f"side-{kind.lower()}", "3", "protocol header", frame(kind, some), "client")
    for kind in ("ACCEPT", "ACK", "RECEIPT", "META", "DONE", "RESEND"):
        yield broken(f"side-{kind.lower()}", "3", "protocol header", frame(kind, some), "server")

    yield broken("alias-none", "5.8", "limit header", frame("ALIAS", bytes(8), raw=0))
    yield broken("alias-short", "5.8", "protocol header", frame("ALIAS", bytes(7)))
    yield broken("alias-empty", "5.8", "protocol header", frame("ALIAS"))
    yield broken("fill-payload", "5.8", "protocol header", frame("FILL", bytes(8)))
    yield broken("fill-over", "8", "limit header", frame("FILL", index=2**32 - 2, raw=2))
    yield broken("unknown-skipped", "3", "skip", frame(200, b"a new thing", index=1, raw=2))
    yield broken("unknown-skipped-empty", "3", "skip", frame(201))
    yield broken("unknown-skipped-connection", "3", "skip", frame(202, b"\0" * 64, stream=0), "client")
    yield broken("unknown-critical", "3", "unsupported header", frame(200, b"a new thing", flags=1))
    yield broken("unknown-limit", "8", "limit header", frame(200, length=64 * KIB + 1))
    for name, number in (("goaway", 5), ("auth", 6), ("subscribe", 24)):
        yield broken(f"reserved-{name}-critical", "10", "unsupported header", frame(number, some, flags=1))
        yield broken(f"reserved-{name}", "10", "skip", frame(number, some))

    yield broken("payload-crc", "1", "integrity trailer", frame("GET", some, payload_crc=1))
    yield broken("payload-crc-chunk", "1", "integrity trailer", frame("CHUNK", bytes(4096), payload_crc=1 << 31))
    damaged = bytearray(ok)
    damaged[40] ^= 0x20
    yield broken("payload-bit", "1", "integrity trailer", bytes(damaged))
    foreign = struct.pack("<II", zlib.crc32(some), 0)
    yield broken("payload-crc-of-zlib", "1", "integrity trailer", ok[:-8] + foreign)
    yield broken("status-1", "1", "protocol trailer", frame("GET", some, status=1))
    yield broken("status-7fffffff", "1", "protocol trailer", frame("GET", some, status=0x7FFFFFFF))
    yield broken("status-aborted", "1", "aborted trailer", frame("CHUNK", bytes(64), status=0xFFFFFFFF))

    yield broken("truncated-empty", "1", "truncated header", b"")
    yield broken("truncated-header", "1", "truncated header", ok[:31])
    yield broken("truncated-before-payload", "1", "truncated payload", ok[:32])
    yield broken("truncated-payload", "1", "truncated payload", ok[: 32 + len(some) - 1])
    yield broken("truncated-before-trailer", "1", "truncated trailer", ok[:-8])
    yield broken("truncated-trailer", "1", "truncated trailer", ok[:-1])


# ---- digests.txt, grids.txt


def root(descr: str, shape: Sequence[int], cell: Sequence[int], order: Sequence[int], cells: Sequence[bytes]) -> str:
    h = hashlib.sha256(b"ndferry root 1\n")
    for text in (descr, *(",".join(map(str, value)) for value in (shape, cell, order))):
        h.update(text.encode() + b"\n")
    for data in cells:
        h.update(hashlib.sha256(data).digest())
    return h.hexdigest()


def digests() -> Iterator[dict[str, Any]]:
    for name, text in {
        "empty": b"", "digits": b"123456789", "zeros": bytes(32), "ones": b"\xff" * 32, "up": bytes(range(32)),
        "down": bytes(range(31, -1, -1)),
    }.items():  # fmt: skip
        yield {"name": f"crc32c-{name}", "section": "1", "crc32c": f"{crc32c(text):08x}", "hex": text}
    count = bytes(range(256))
    for name, descr, shape, cell, order, cells in (
        ("of-the-spec", "<u2", (2, 3), (1, 3), (0, 1), [count[:6], count[6:12]]),
        ("big-endian", ">u2", (2, 3), (1, 3), (0, 1), [count[:6], count[6:12]]),
        ("fortran", "<u2", (2, 3), (2, 1), (1, 0), [count[i : i + 4] for i in (0, 4, 8)]),
        ("0d", "|u1", (), (), (), [b"\x07"]),
        ("empty", "<f8", (3, 0), (3, 1), (0, 1), []),
        ("padded", "|u1", (5,), (3,), (0,), [count[:3], count[3:5] + b"\0"]),
        ("blocks", "|u1", (3, 3), (2, 2), (0, 1), [bytes([1, 2, 4, 5]), b"\3\0\6\0", b"\7\x08\0\0", b"\x09\0\0\0"]),
        ("permuted", "|i1", (2, 3, 2), (2, 3, 1), (2, 0, 1), [count[:6], count[6:12]]),
        ("zeros-4k", "<f4", (1024,), (1024,), (0,), [bytes(4096)]),
    ):
        stanza: dict[str, Any] = {"name": f"root-{name}", "section": "5.7", "descr": descr}
        for key, value in (("shape", shape), ("cell", cell), ("order", order)):
            stanza[key] = dumps(list(value))
        stanza["cells"] = len(cells)
        stanza["root"] = root(descr, shape, cell, order, cells)
        yield stanza | {"hex": b"".join(cells)}


def grid(shape: Sequence[int], itemsize: int, order: Sequence[int], target: int) -> list[int]:
    """The last paragraph of §5.6; an axis of length 0 counts as 1."""
    cell = [0] * len(shape)
    found = False
    for position, axis in enumerate(order):
        n = max(1, shape[axis])
        s = itemsize * math.prod(max(1, shape[inner]) for inner in order[position + 1 :])
        if found:
            cell[axis] = n
        elif s > target:
            cell[axis] = 1
        else:
            found = True
            k = max(1, target // s)
            m = math.ceil(n / k)
            cell[axis] = math.ceil(n / m)
    return cell


def grids() -> Iterator[dict[str, Any]]:
    t = 4 * MIB
    for name, shape, itemsize, order, target in (
        ("0d", (), 8, (), t), ("one", (1,), 1, (0,), t), ("small", (1000,), 4, (0,), t),
        ("exact", (1 << 20,), 4, (0,), t), ("one-over", ((1 << 20) + 1,), 4, (0,), t),
        ("images", (1000, 1000), 8, (0, 1), t), ("fortran", (1000, 1000), 8, (1, 0), t),
        ("thin", (100000000, 2), 4, (0, 1), t), ("wide", (2, 100000000), 4, (0, 1), t),
        ("wide-fortran", (2, 100000000), 4, (1, 0), t), ("volume", (512, 512, 512), 2, (0, 1, 2), t),
        ("volume-permuted", (512, 300, 700), 2, (2, 0, 1), t), ("primes", (7919, 104729), 16, (0, 1), t),
        ("slab-just-fits", (3, 1 << 20), 4, (0, 1), t), ("slab-just-not", (3, (1 << 20) + 1), 4, (0, 1), t),
        ("empty", (0,), 8, (0,), t), ("empty-middle", (3, 0, 2), 4, (0, 1, 2), t),
        ("empty-last", (1000000, 0), 8, (0, 1), t), ("small-target", (10, 10), 8, (0, 1), 64 * KIB),
        ("tiny-target", (10, 10), 8, (0, 1), 8), ("large-target", (1000, 1000, 10), 8, (0, 1, 2), 16 * MIB),
        ("ones", (1, 1, 1, 1), 4, (0, 1, 2, 3), t), ("uneven", (1025,), 8192, (0,), t),
    ):  # fmt: skip
        stanza: dict[str, Any] = {"name": f"grid-{name}", "section": "5.6", "shape": dumps(list(shape))}
        stanza |= {"itemsize": itemsize, "order": dumps(list(order)), "target": target}
        yield stanza | {"cell": dumps(grid(shape, itemsize, order, target))}


def main(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    write(directory / "frames.txt", "Frames, each alone in a stream: spec/WIRE.md §1, §3, §8.", list(frames()))
    stanzas = list(messages())
    for stanza in stanzas:
        if "hex" in stanza and stanza.get("json") == "":
            del stanza["json"]
    write(directory / "messages.txt", "Payloads of messages: spec/WIRE.md §2, §5, §7, §9.", stanzas)
    write(directory / "digests.txt", "CRC32C and sha256 roots: spec/WIRE.md §1, §5.7.", list(digests()))
    write(directory / "grids.txt", "The default grid: spec/WIRE.md §5.6.", list(grids()))


if __name__ == "__main__":
    here = Path(__file__).resolve().parents[2] / "spec" / "vectors"
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else here)
