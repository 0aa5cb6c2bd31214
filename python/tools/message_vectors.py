"""The stanzas of spec/vectors/messages.txt; `make_vectors` writes them. Nothing of the package is imported."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

ID = "00112233445566778899aabbccddeeff"


def metadata(**changes: Any) -> dict[str, Any]:
    meta: dict[str, Any] = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [4, 6],
        "data_type": "float32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 6]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": 0.0,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
    }
    return meta | changes


def chunk_shape(*shape: int) -> dict[str, Any]:
    return {"name": "regular", "configuration": {"chunk_shape": list(shape)}}


def dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def valid(name: str, section: str, kind: str, value: dict[str, Any], text: str | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "section": section,
        "kind": kind,
        "expect": "ok",
        "fields": {key: dumps(member) for key, member in value.items()},
        "json": text or dumps(value),
    }


def refused(name: str, section: str, kind: str, expect: str, payload: str | bytes | dict[str, Any]) -> dict[str, Any]:
    stanza = {"name": name, "section": section, "kind": kind, "expect": expect}
    if isinstance(payload, dict):
        payload = dumps(payload)
    return stanza | ({"hex": payload} if isinstance(payload, bytes) else {"json": payload})


def messages() -> Iterator[dict[str, Any]]:
    hello = {
        "versions": [1, 1], "software": "example/1.0", "features": [], "codecs": ["none"], "digests": ["crc32c"],
        "credit": 67108864,
    }  # fmt: skip
    put = {"name": "lab/run7", "id": ID, "array": metadata(), "numpy": "<f4"}
    receipt = {
        "name": "lab/run7", "id": ID, "nbytes": 96, "stored_bytes": 96, "cells": 2, "codec": "none",
        "digest": {"kind": "crc32c"}, "durability": "durable", "created": "2026-11-22T21:04:53.123456789Z",
    }  # fmt: skip
    meta = put | {"attributes": "{}"} | receipt
    root = "0" * 63 + "f"
    entry = {
        "name": "lab/run7", "dtype": "<f4", "shape": [4, 6], "nbytes": 96, "stored_bytes": 96,
        "created": "2026-11-22T21:04:53Z",
    }  # fmt: skip
    report = {"cells_done": 2, "cells": 2, "bytes_done": 96, "bad": [], "bad_count": 0}
    samples: dict[str, dict[str, Any]] = {
        "HELLO": hello,
        "ERROR": {"code": "not_found", "message": "no array lab/run8", "retryable": False},
        "PUT": put,
        "FINISH": {"root": root},
        "GET": {"name": "lab/run7"},
        "STAT": {"name": "lab/run7"},
        "LIST": {"prefix": "lab/", "after": "", "limit": 1000},
        "DELETE": {"name": "lab/run7"},
        "VERIFY": {"name": "lab/run7"},
        "ACCEPT": {"durable": [[0, 2], [4, 1]]},
        "RECEIPT": receipt,
        "META": meta,
        "ENTRIES": {"entries": [entry], "more": False},
        "REPORT": report,
    }
    for kind, sample in samples.items():
        yield from every_message(kind, sample)
    yield from valid_messages(hello, put, receipt, meta, report, entry, root)
    yield from syntax()
    yield from members(hello, put, receipt, report)
    yield from names()
    yield from arrays(put)
    yield from codecs(put, receipt, meta)
    yield from attributes(put)


def every_message(kind: str, sample: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What holds for the payload of every kind."""
    low = kind.lower()
    text = dumps(sample)
    first = next(iter(sample))
    yield valid(f"{low}-valid", "5", kind, sample)
    with_unknown = text[:-1] + ',"x_new":{"deep":[1,null]}}'
    yield valid(f"{low}-unknown-member", "7", kind, sample, with_unknown)
    known = text[:-1] + f',"must_understand":["{first}"]}}'
    yield valid(f"{low}-must-understand-known", "7", kind, sample, known)
    unknown = text[:-1] + ',"x_new":1,"must_understand":["x_new"]}'
    yield refused(f"{low}-must-understand-unknown", "7", kind, "unsupported json", unknown)
    yield refused(
        f"{low}-duplicate", "7", kind, "protocol json", text[:-1] + f",{dumps(first)}:{dumps(sample[first])}}}"
    )
    yield refused(f"{low}-wrong-type", "7", kind, "protocol json", sample | {first: 1.5})
    if kind not in {"LIST", "FINISH"}:
        rest = {key: value for key, value in sample.items() if key != first}
        yield refused(f"{low}-missing-{first}", "7", kind, "protocol json", rest)
        yield refused(f"{low}-case", "7", kind, "protocol json", rest | {first.upper(): sample[first]})
    if kind != "FINISH":
        yield refused(f"{low}-empty-payload", "7", kind, "protocol json", b"")


def valid_messages(*samples: Any) -> Iterator[dict[str, Any]]:
    hello, put, receipt, meta, report, entry, root = samples
    everything = put | {"attributes": '{"unit":"K"}', "digest": "sha256", "if_absent": True, "resume": True}
    yield valid("hello-credit-unbounded", "6", "HELLO", hello | {"credit": 2**62})
    yield valid(
        "hello-features", "10", "HELLO", hello | {"features": ["handles", "x-new"], "codecs": ["none", "blosc"]}
    )
    yield valid("hello-version-range", "2", "HELLO", hello | {"versions": [1, 9]})
    yield valid("error-cell", "9", "ERROR", {"code": "integrity", "message": "m", "retryable": False, "cell": 7})
    yield valid("error-code-new", "9", "ERROR", {"code": "x_new", "message": "m", "retryable": True})
    yield valid("put-everything", "5.1", "PUT", everything)
    yield valid("get-cells", "5.2", "GET", {"name": "a", "cells": [[0, 1], [5, 4294967290]]})
    yield valid("list-empty", "5.3", "LIST", {})
    yield valid("accept-nothing", "5.1", "ACCEPT", {"durable": []})
    yield valid("receipt-sha256", "5.1", "RECEIPT", receipt | {"digest": {"kind": "sha256", "root": root}})
    yield valid("receipt-memory", "5.1", "RECEIPT", receipt | {"durability": "memory"})
    yield valid("meta-sha256", "5.2", "META", meta | {"digest": {"kind": "sha256", "root": root}})
    yield valid("entries-none", "5.3", "ENTRIES", {"entries": [], "more": False})
    yield valid("entries-0d-and-huge", "5.3", "ENTRIES", {
        "entries": [entry | {"shape": []}, entry | {"name": "z", "shape": [0, 2**63 - 1], "nbytes": 0}], "more": True,
    })  # fmt: skip
    bad = [{"file": "c.0.0", "cell": 1, "problem": "crc"}, {"file": "zarr.json", "cell": None, "problem": "size"}]
    yield valid("report-bad", "5.4", "REPORT", report | {"bad": bad, "bad_count": 2})
    yield {"name": "finish-empty", "section": "5.1", "kind": "FINISH", "expect": "ok", "hex": b""}
    spaced = ' {\n\t"name" : "lab\\/run7"\r\n} '
    yield valid("stat-white-space-and-escape", "7", "STAT", {"name": "lab/run7"}, None) | {
        "name": "stat-white-space-and-escape",
        "hex": spaced.encode(),
        "json": "",
    }


def syntax() -> Iterator[dict[str, Any]]:
    for name, payload in {
        "not-json": b"\x80\x04\x95",
        "pickle": b"cos\nsystem\n(S'true'\ntR.",
        "array": b'["name"]',
        "string": b'"name"',
        "null": b"null",
        "trailing": b'{"name":"a"} x',
        "two-objects": b'{"name":"a"}{"name":"a"}',
        "trailing-comma": b'{"name":"a",}',
        "single-quotes": b"{'name':'a'}",
        "comment": b'{"name":"a"/**/}',
        "nan": b'{"name":"a","x":NaN}',
        "infinity": b'{"name":"a","x":-Infinity}',
        "number-leading-zero": b'{"name":"a","x":01}',
        "control-character": b'{"name":"a\nb"}',
        "byte-order-mark": b'\xef\xbb\xbf{"name":"a"}',
        "utf8-invalid": b'{"name":"a\xff"}',
        "utf8-overlong": b'{"name":"a\xc0\xaf"}',
        "utf8-surrogate": b'{"name":"a\xed\xa0\x80"}',
        "surrogate-alone": b'{"name":"a\\ud800"}',
        "truncated": b'{"name":"a"',
        "duplicate-escaped": b'{"name":"a","n\\u0061me":"a"}',
        "duplicate-inside": b'{"name":"a","x":{"y":1,"y":1}}',
        "depth-33": b'{"name":"a","x":' + b"[" * 32 + b"]" * 32 + b"}",
        "depth-10000": b'{"name":"a","x":' + b"[" * 10000 + b"]" * 10000 + b"}",
    }.items():
        yield refused(f"syntax-{name}", "7", "STAT", "protocol json", payload)
    deep = '{"name":"a","x":' + "[" * 31 + "]" * 31 + "}"
    yield valid("syntax-depth-32", "7", "STAT", {"name": "a"}, deep)


def members(
    hello: dict[str, Any], put: dict[str, Any], receipt: dict[str, Any], report: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    def no(kind: str, name: str, value: dict[str, Any], expect: str = "protocol json", section: str = "7") -> Any:
        return refused(f"{kind.lower()}-{name}", section, kind, expect, value)

    yield no("HELLO", "versions-one", hello | {"versions": [1]}, section="2")
    yield no("HELLO", "versions-reversed", hello | {"versions": [2, 1]}, section="2")
    yield no("HELLO", "versions-zero", hello | {"versions": [0, 1]}, section="2")
    yield no("HELLO", "credit-negative", hello | {"credit": -1}, section="6")
    yield no("HELLO", "credit-over", hello | {"credit": 2**62 + 1}, section="6")
    yield no("HELLO", "credit-string", hello | {"credit": "1"})
    yield no("HELLO", "codecs-type", hello | {"codecs": [1]})
    yield no("HELLO", "must-understand-type", hello | {"must_understand": "x"})
    yield no("ERROR", "retryable-type", {"code": "busy", "message": "m", "retryable": 1}, section="9")
    yield no("ERROR", "cell-negative", {"code": "busy", "message": "m", "retryable": True, "cell": -1}, section="9")
    for name, value in {"short": ID[1:], "long": ID + "0", "letters": "g" * 32, "null": None}.items():
        yield no("PUT", f"id-{name}", put | {"id": value}, "protocol|invalid json", "5.1")
    yield no("PUT", "array-list", put | {"array": []})
    yield no("PUT", "if-absent-type", put | {"if_absent": "yes"})
    yield valid("put-join", "5.1.1", "PUT", put | {"resume": True, "join": True})
    yield no("PUT", "join-type", put | {"join": 1})
    yield no("PUT", "resume-null", put | {"resume": None})
    yield no("PUT", "digest-type", put | {"digest": 1})
    yield no("FINISH", "root-short", {"root": "00"}, "protocol|invalid json", "5.7")
    yield no("FINISH", "root-letters", {"root": "z" * 64}, "protocol|invalid json", "5.7")
    yield no("GET", "cells-type", {"name": "a", "cells": [0, 1]}, section="5.2")
    yield no("GET", "cells-negative", {"name": "a", "cells": [[-1, 1]]}, "protocol|invalid json", "5.2")
    yield no("GET", "cells-float", {"name": "a", "cells": [[0.5, 1]]}, section="5.2")
    yield no("GET", "cells-too-many", {"name": "a", "cells": [[i, 1] for i in range(4097)]}, "limit json", "8")
    yield no("ACCEPT", "ranges-too-many", {"durable": [[2 * i, 1] for i in range(4097)]}, "limit json", "8")
    yield no("LIST", "prefix-type", {"prefix": None})
    yield no("LIST", "limit-negative", {"limit": -1})
    yield no("RECEIPT", "nbytes-negative", receipt | {"nbytes": -1})
    yield no("RECEIPT", "nbytes-over", receipt | {"nbytes": 2**53 + 1})
    yield no("RECEIPT", "cells-float", receipt | {"cells": 2.5})
    yield no("RECEIPT", "digest-string", receipt | {"digest": "crc32c"}, section="5.1")
    yield no("RECEIPT", "digest-root-missing", receipt | {"digest": {"kind": "sha256"}}, section="5.1")
    yield no("RECEIPT", "created-local", receipt | {"created": "2026-11-22 21:04:53"}, section="5.1")
    yield no("RECEIPT", "created-number", receipt | {"created": 1}, section="5.1")
    yield no("ENTRIES", "entries-type", {"entries": [1], "more": False}, section="5.3")
    yield no("ENTRIES", "more-missing", {"entries": []}, section="5.3")
    yield no("REPORT", "bad-type", report | {"bad": ["c.0"]}, section="5.4")


def names() -> Iterator[dict[str, Any]]:
    for label, name in {
        "one-letter": "a", "spaces": "a b/ c ", "unicode": "höhe/Ångström/温度", "digits": "0", "underscore": "_a",
        "dots-inside": "a..b/c.d", "zarr-json-part": "zarr.json5", "parts-64": "/".join("a" * 64),
        "part-255": "x" * 255, "bytes-1024": "/".join(["y" * 255] * 4) + "", "punctuation": "a:*?<>|\"'$%&",
        "emoji": "🜚",
    }.items():  # fmt: skip
        yield valid(f"name-{label}", "5.5", "STAT", {"name": name})
    for label, name in {
        "empty": "", "slash": "/", "leading-slash": "/a", "trailing-slash": "a/", "double-slash": "a//b",
        "dot": ".", "dot-dot": "..", "climbing": "a/../b", "hidden": "a/.b", "dunder": "__a", "dunder-inside": "a/__b",
        "zarr-json": "a/zarr.json", "backslash": "a\\b", "nul": "a\0b", "newline": "a\nb", "delete": "a\x7fb",
        "c1": "a\x85b", "nfd": "a\u030a", "parts-65": "/".join("a" * 65), "part-256": "x" * 256,
        "part-256-bytes": "é" * 128, "bytes-1025": "/".join(["y" * 255] * 4) + "/y",
    }.items():  # fmt: skip
        text = json.dumps({"name": name}, separators=(",", ":"))
        yield refused(f"name-{label}", "5.5", "STAT", "invalid json", text)
    for kind in ("GET", "DELETE", "VERIFY"):
        yield refused(f"name-climbing-{kind.lower()}", "5.5", kind, "invalid json", {"name": "../a"})


def codecs(put: dict[str, Any], receipt: dict[str, Any], meta: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Arrays of compressed chunks, §5.6."""
    first = {"name": "bytes", "configuration": {"endian": "little"}}
    usual: dict[str, Any] = {"cname": "zstd", "clevel": 5, "shuffle": "shuffle", "typesize": 4, "blocksize": 0}

    def of(*configurations: Any) -> dict[str, Any]:
        return metadata(codecs=[first, *({"name": "blosc", "configuration": c} for c in configurations)])

    good: dict[str, dict[str, Any]] = {
        "zstd": {}, "lz4": {"cname": "lz4"}, "zlib": {"cname": "zlib", "clevel": 9},
        "bitshuffle": {"shuffle": "bitshuffle", "clevel": 0}, "typesize-255": {"typesize": 255},
        "blocksize": {"blocksize": 2**31 - 1},
    }  # fmt: skip
    for name, changes in good.items():
        yield valid(f"blosc-{name}", "5.6", "PUT", put | {"array": of(usual | changes)})
    short: dict[str, Any] = {"cname": "lz4", "clevel": 5, "shuffle": "noshuffle"}
    yield valid("blosc-noshuffle", "5.6", "PUT", put | {"array": of(short), "codec_why": "it is Sunday"})
    said: dict[str, Any] = {"stored_bytes": 60, "codec": "zstd", "codec_why": "it is Sunday", "validated": "header"}
    yield valid("blosc-receipt", "5.1", "RECEIPT", receipt | said)
    yield valid("blosc-meta", "5.2", "META", meta | said | {"array": of(usual)})
    for name, expect, value in (
        ("cname-unknown", "invalid|unsupported", of(usual | {"cname": "snappy"})),
        ("cname-type", "protocol|invalid", of(usual | {"cname": 1})),
        ("cname-missing", "protocol|invalid", of({"clevel": 5, "shuffle": "noshuffle"})),
        ("clevel-10", "protocol|invalid", of(usual | {"clevel": 10})),
        ("clevel-float", "protocol|invalid", of(usual | {"clevel": 5.5})),
        ("shuffle-number", "protocol|invalid", of(usual | {"shuffle": 1})),
        ("typesize-0", "protocol|invalid", of(usual | {"typesize": 0})),
        ("typesize-256", "protocol|invalid", of(usual | {"typesize": 256})),
        ("typesize-missing", "protocol|invalid", of({"cname": "lz4", "clevel": 5, "shuffle": "shuffle"})),
        ("blocksize-negative", "protocol|invalid", of(usual | {"blocksize": -1})),
        ("member-unknown", "invalid|unsupported", of(usual | {"nthreads": 2})),
        ("twice", "invalid|unsupported", of(usual, usual)),
        ("gzip", "invalid|unsupported", metadata(codecs=[first, {"name": "gzip", "configuration": {"level": 5}}])),
        ("before-bytes", "invalid|unsupported", metadata(codecs=[{"name": "blosc", "configuration": usual}, first])),
    ):
        yield refused(f"blosc-{name}", "5.6", "PUT", f"{expect} json", put | {"array": value})


def arrays(put: dict[str, Any]) -> Iterator[dict[str, Any]]:
    def of(**changes: Any) -> dict[str, Any]:
        return put | {"array": metadata(**changes)}

    def plain(data_type: str, descr: str, *codecs: Any) -> dict[str, Any]:
        fill = {"b": False, "f": 0.0, "c": [0.0, 0.0]}.get(descr[1], 0)
        return put | {"array": metadata(data_type=data_type, codecs=list(codecs), fill_value=fill), "numpy": descr}

    def no(name: str, expect: str, value: dict[str, Any], section: str = "5.6") -> dict[str, Any]:
        return refused(f"array-{name}", section, "PUT", f"{expect} json", value)

    big = {"name": "bytes", "configuration": {"endian": "big"}}
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    none = {"name": "bytes"}
    for data_type, letter, size in (
        ("bool", "b", 1), ("int8", "i", 1), ("int16", "i", 2), ("int32", "i", 4), ("int64", "i", 8), ("uint8", "u", 1),
        ("uint16", "u", 2), ("uint32", "u", 4), ("uint64", "u", 8), ("float16", "f", 2), ("float32", "f", 4),
        ("float64", "f", 8), ("complex64", "c", 8), ("complex128", "c", 16),
    ):  # fmt: skip
        if size == 1:
            yield valid(f"array-{data_type}", "5.6", "PUT", plain(data_type, f"|{letter}1", none))
            continue
        yield valid(f"array-{data_type}", "5.6", "PUT", plain(data_type, f"<{letter}{size}", little))
        if letter == "c":
            yield valid(f"array-{data_type}-big", "5.9", "PUT", plain(data_type, f">{letter}{size}", little))
            yield no(f"{data_type}-big-endian", "invalid", plain(data_type, f">{letter}{size}", big), "5.9")
            continue
        yield valid(f"array-{data_type}-big", "5.6", "PUT", plain(data_type, f">{letter}{size}", big))
    transpose = {"name": "transpose", "configuration": {"order": [1, 0]}}
    yield valid("array-fortran", "5.6", "PUT", of(codecs=[transpose, little]))
    yield valid("array-0d", "5.6", "PUT", of(shape=[], chunk_grid=chunk_shape()))
    yield valid("array-empty", "5.6", "PUT", of(shape=[3, 0, 2], chunk_grid=chunk_shape(3, 1, 2)))
    yield valid("array-empty-huge", "5.6", "PUT", of(shape=[0, 2**60], chunk_grid=chunk_shape(1, 1)))
    yield valid("array-64-axes", "8", "PUT", of(shape=[1] * 64, chunk_grid=chunk_shape(*[1] * 64)))
    yield valid("array-cell-16m", "8", "PUT", of(shape=[1 << 22], chunk_grid=chunk_shape(1 << 22)))
    yield valid("array-dimension-names", "5.6", "PUT", of(dimension_names=["y", None]))
    edge = of(shape=[5, 7], chunk_grid=chunk_shape(2, 3))
    yield valid("array-block-grid", "5.6", "PUT", edge)

    yield no("shape-negative", "protocol|invalid", of(shape=[-4, 6]))
    yield no("shape-float", "protocol|invalid", of(shape=[4.5, 6]))
    yield no("shape-string", "protocol|invalid", of(shape="4,6"))
    yield no("shape-over-2-63", "protocol|invalid", of(shape=[2**63, 6]))
    yield no("shape-product", "limit", of(shape=[2**40, 2**40], chunk_grid=chunk_shape(1, 2**20)), "8")
    yield no("shape-product-wraps", "limit", of(shape=[2**32, 2**32], chunk_grid=chunk_shape(1, 2**20)), "8")
    yield no("axes-65", "limit", of(shape=[1] * 65, chunk_grid=chunk_shape(*[1] * 65)), "8")
    yield no("cells-too-many", "limit", of(shape=[2**16, 2**16], chunk_grid=chunk_shape(1, 1)), "8")
    yield no("chunk-shape-zero", "protocol|invalid", of(chunk_grid=chunk_shape(0, 6)))
    yield no("chunk-shape-axes", "protocol|invalid", of(chunk_grid=chunk_shape(2)))
    yield no("chunk-shape-16m", "limit", of(shape=[1 << 23], chunk_grid=chunk_shape((1 << 22) + 1)), "8")
    yield no(
        "chunk-grid-missing",
        "protocol|invalid",
        put | {"array": {k: v for k, v in metadata().items() if k != "chunk_grid"}},
    )
    yield no("numpy-contradicts", "invalid", put | {"numpy": "<f8"}, "5.1")
    yield no("numpy-byte-order", "invalid", put | {"numpy": ">f4"}, "5.1")
    yield no("numpy-object", "invalid", put | {"numpy": "|O"}, "5.1")
    yield no(
        "transpose-twice-an-axis",
        "invalid",
        of(codecs=[{"name": "transpose", "configuration": {"order": [0, 0]}}, little]),
    )
    yield no("transpose-axes", "invalid", of(codecs=[{"name": "transpose", "configuration": {"order": [0]}}, little]))
    yield no("endian-unknown", "invalid", of(codecs=[{"name": "bytes", "configuration": {"endian": "middle"}}]))
    yield no("codecs-none", "protocol|invalid", of(codecs=[]))
    yield no("zarr-2", "protocol|invalid", of(zarr_format=2))
    yield no("group", "protocol|invalid", of(node_type="group"))


def attributes(put: dict[str, Any]) -> Iterator[dict[str, Any]]:
    def text(value: str) -> dict[str, Any]:
        return put | {"attributes": value}

    exact = '{ "big": 12345678901234567890123, "float": 0.1000, "shape": [1], "dtype": "x", "ü": null }'
    yield valid("attributes-kept-to-the-byte", "5.1", "PUT", text(exact))
    deep = '{"a":' + "[" * 15 + "]" * 15 + "}"
    yield valid("attributes-depth-16", "8", "PUT", text(deep))
    for name, value, expect in (
        ("list", "[]", "protocol|invalid"), ("not-json", "{", "protocol|invalid"), ("empty", "", "protocol|invalid"),
        ("nan", '{"a":NaN}', "protocol|invalid"), ("duplicate", '{"a":1,"a":2}', "protocol|invalid"),
        ("depth-17", '{"a":' + "[" * 16 + "]" * 16 + "}", "limit"),
    ):  # fmt: skip
        yield refused(f"attributes-{name}", "8" if expect == "limit" else "5.1", "PUT", f"{expect} json", text(value))
    long = dumps(text("{}")).replace('"{}"', '"{\\"a\\":\\"' + "x" * (1 << 20) + '\\"}"').encode()
    yield refused("attributes-over-1m", "8", "PUT", "limit json", long)
    yield refused("attributes-object", "5.1", "PUT", "protocol json", put | {"attributes": {"a": 1}})
