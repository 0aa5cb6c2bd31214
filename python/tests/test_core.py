"""The core without sockets: recorded conversations, cut at every byte, and servers that lie."""

from __future__ import annotations

import contextlib
import json
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ndferry
from ndferry._core import Session
from ndferry._frames import Operation, Receive, Send
from ndferry._options import Options
from ndferry._receiving import Download
from ndferry._upload import Upload

HELLO, PONG, ERROR, CREDIT, RECEIPT, META, ENTRIES, REPORT, DONE, CHUNK = 1, 3, 4, 7, 34, 35, 36, 37, 38, 48
ID = "00112233445566778899aabbccddeeff"


def frame(kind: int, payload: Any = b"", stream: int = 1, index: int = 0, raw: int = 0, **bad: int) -> bytes:
    if not isinstance(payload, bytes):
        payload = json.dumps(payload).encode()
    length = bad.get("length", len(payload))
    head = struct.pack(
        "<IBBHIIQI", bad.get("magic", 0x3146444E), kind, bad.get("flags", 0), 0, stream, length, index, raw
    )
    data = head + struct.pack("<I", google_crc32c.value(head) ^ bad.get("header_crc", 0))
    if payload:
        crc = google_crc32c.value(payload) ^ bad.get("crc", 0)
        data += payload + struct.pack("<II", crc, bad.get("status", 0))
    return data


HELLO_MESSAGE = {
    "versions": [1, 1],
    "software": "s",
    "features": [],
    "codecs": ["none"],
    "digests": [],
    "credit": 1 << 26,
}
ARRAY = np.arange(10, dtype="<u2")
RECEIPT_MESSAGE: dict[str, Any] = {
    "name": "a", "id": ID, "nbytes": 20, "stored_bytes": 24, "cells": 3, "codec": "none", "digest": {"kind": "crc32c"},
    "durability": "durable", "created": "2026-01-02T03:04:05.678901234Z",
}  # fmt: skip
META_MESSAGE: dict[str, Any] = {
    "name": "a", "id": ID, "numpy": "<u2", "attributes": '{"k":1}', "array": {
        "zarr_format": 3, "node_type": "array", "shape": [10], "data_type": "uint16", "fill_value": 0,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
    },
} | RECEIPT_MESSAGE  # fmt: skip
HELLO_FRAME = frame(HELLO, HELLO_MESSAGE, 0)
CELLS = [ARRAY[0:4].tobytes(), ARRAY[4:8].tobytes(), ARRAY[8:].tobytes() + bytes(4)]
CHUNKS = b"".join(frame(CHUNK, cell, index=i, raw=8) for i, cell in enumerate(CELLS))


class Closed(Exception):
    pass


def drive(operation: Operation[Any], incoming: Iterator[bytes], sent: bytearray) -> Any:
    """Run an operation on recorded bytes; their end is the end of the connection."""
    pending = b""
    try:
        request = next(operation)
        while True:
            if isinstance(request, Send):
                for buffer in request.buffers:
                    sent += memoryview(buffer).cast("B")
                request = operation.send(0)
                continue
            assert isinstance(request, Receive)
            got = 0
            while got < request.least:
                pending = pending or next(incoming, b"")
                if not pending:
                    break
                step = min(len(request.view) - got, len(pending))
                request.view[got : got + step] = np.frombuffer(pending[:step], np.uint8)
                pending = pending[step:]
                got += step
            if got < request.least:
                request = operation.throw(ndferry.ConnectionError("closed by the recording"))
            else:
                request = operation.send(got)
    except StopIteration as stop:
        return stop.value


class Wire:
    """A session on recorded bytes. Bytes that one operation leaves are lost, so it must leave none."""

    def __init__(self, data: bytes, cut: Callable[[bytes], Iterator[bytes]] = lambda data: iter([data])) -> None:
        self.session = Session("test")
        self.sent = bytearray()
        drive(self.session.hello(), iter([HELLO_FRAME]), self.sent)
        self.incoming = cut(data)

    def run(self, operation: Operation[Any]) -> Any:
        return drive(operation, self.incoming, self.sent)

    def put(self) -> ndferry.Receipt:
        receipt: ndferry.Receipt = self.run(self.session.put(upload()))
        return receipt

    def get(self) -> Any:
        return self.run(self.session.get(Download("a", None), None))


def upload() -> Upload:
    return Upload("a", ARRAY, Options(chunks=4, id=ID))


ENTRY = {
    "name": "a",
    "dtype": "<u2",
    "shape": [10],
    "nbytes": 20,
    "stored_bytes": 24,
    "created": "2026-01-02T03:04:05Z",
}
REPORT_MESSAGE = {"cells_done": 3, "cells": 3, "bytes_done": 24, "bad": [], "bad_count": 0}
CONVERSATIONS: dict[str, tuple[bytes, Callable[[Wire], Any]]] = {
    "get": (frame(META, META_MESSAGE) + CHUNKS + frame(DONE, index=3), Wire.get),
    "put": (frame(33, index=1, raw=1) + frame(CREDIT, stream=0, index=8) + frame(RECEIPT, RECEIPT_MESSAGE), Wire.put),
    "stat": (frame(META, META_MESSAGE), lambda w: w.run(w.session.stat("a"))),
    "list": (frame(ENTRIES, {"entries": [ENTRY], "more": False}), lambda w: w.run(w.session.list("", ""))),
    "verify": (
        frame(REPORT, REPORT_MESSAGE) + frame(REPORT, REPORT_MESSAGE, raw=1),
        lambda w: w.run(w.session.verify("a", None)),
    ),
    "delete": (frame(DONE), lambda w: w.run(w.session.delete("a"))),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_conversation_in_pieces_of_any_size(name: str) -> None:
    data, call = CONVERSATIONS[name]
    whole = Wire(data)
    expected = call(whole)
    for size in (1, 2, 3, 7, 31, 32, 33, 100):
        wire = Wire(data, lambda data, size=size: (data[i : i + size] for i in range(0, len(data), size)))  # type: ignore[misc]
        result = call(wire)
        assert wire.session.idle
        assert bytes(wire.sent) == bytes(whole.sent)
        np.testing.assert_equal(result, expected)
    if name == "get":
        np.testing.assert_array_equal(expected, ARRAY)


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_conversation_that_ends_at_any_byte(name: str) -> None:
    data, call = CONVERSATIONS[name]
    for end in range(len(data)):
        wire = Wire(data[:end])
        with pytest.raises(ndferry.ConnectionError):
            call(wire)
        assert not wire.session.idle


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_conversation_with_any_bit_wrong(name: str) -> None:
    """An error of ours, or the right result: a bit of a *critical* flag or of an unused stream may not matter."""
    data, call = CONVERSATIONS[name]
    expected = call(Wire(data))
    for bit in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises((ndferry.ProtocolError, ndferry.IntegrityError, ndferry.ConnectionError)):
            np.testing.assert_equal(call(Wire(bytes(damaged))), expected)


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_an_error_frame_anywhere_leaves_a_boundary(name: str) -> None:
    _, call = CONVERSATIONS[name]
    message = {"code": "temporary", "message": "later", "retryable": True}
    wire = Wire(frame(ERROR, message))
    with pytest.raises(ndferry.TemporaryError, match="later") as caught:
        call(wire)
    assert caught.value.retryable
    assert wire.session.idle
    for code, stream in (("shutdown", 1), ("protocol", 1), ("temporary", 0)):
        wire = Wire(frame(ERROR, message | {"code": code}, stream))
        with pytest.raises(ndferry.Error):
            call(wire)
        assert not wire.session.idle


def meta(**changes: Any) -> dict[str, Any]:
    return META_MESSAGE | changes


def array(**changes: Any) -> dict[str, Any]:
    return META_MESSAGE | {"array": META_MESSAGE["array"] | changes}


def chunk_grid(*shape: int) -> dict[str, Any]:
    return {"name": "regular", "configuration": {"chunk_shape": shape}}


END = frame(DONE, index=3)
LIES: dict[str, tuple[bytes, type[ndferry.Error]]] = {
    "cell twice": (frame(META, META_MESSAGE) + frame(CHUNK, CELLS[0], raw=8) * 2, ndferry.ProtocolError),
    "cell out of range": (frame(META, META_MESSAGE) + frame(CHUNK, CELLS[0], index=3, raw=8), ndferry.ProtocolError),
    "cell far out": (frame(META, META_MESSAGE) + frame(CHUNK, CELLS[0], index=2**63, raw=8), ndferry.ProtocolError),
    "cell too short": (frame(META, META_MESSAGE) + frame(CHUNK, CELLS[0][:4], raw=4), ndferry.ProtocolError),
    "cell too long": (frame(META, META_MESSAGE) + frame(CHUNK, bytes(16), raw=16), ndferry.ProtocolError),
    "raw is not length": (frame(META, META_MESSAGE) + frame(CHUNK, bytes(4), raw=8), ndferry.ProtocolError),
    "done too early": (frame(META, META_MESSAGE) + END, ndferry.ProtocolError),
    "done with a wrong count": (frame(META, META_MESSAGE) + CHUNKS + frame(DONE, index=4), ndferry.ProtocolError),
    "chunk before meta": (CHUNKS + END, ndferry.ProtocolError),
    "another stream": (frame(META, META_MESSAGE, stream=9), ndferry.ProtocolError),
    "another kind": (frame(RECEIPT, RECEIPT_MESSAGE), ndferry.ProtocolError),
    "request to a client": (frame(16, META_MESSAGE), ndferry.ProtocolError),
    "unknown critical kind": (frame(99, b"x", flags=1), ndferry.UnsupportedError),
    "flags": (frame(META, META_MESSAGE, flags=2), ndferry.ProtocolError),
    "magic": (frame(META, META_MESSAGE, magic=0x50545448), ndferry.ProtocolError),
    "header crc": (frame(META, META_MESSAGE, header_crc=1), ndferry.ProtocolError),
    "http": (b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", ndferry.ProtocolError),
    "huge meta": (frame(META, length=2**32 - 1), ndferry.LimitError),
    "huge chunk": (frame(META, META_MESSAGE) + frame(CHUNK, length=2**31, raw=8), ndferry.LimitError),
    "status": (frame(META, META_MESSAGE, status=1), ndferry.ProtocolError),
    "aborted meta": (frame(META, META_MESSAGE, status=0xFFFFFFFF), ndferry.ProtocolError),
    "aborted chunk without error": (
        frame(META, META_MESSAGE) + frame(CHUNK, CELLS[0], raw=8, status=0xFFFFFFFF) + END, ndferry.ProtocolError),
    "pickle for json": (frame(META, b"cos\nsystem\n(S'true'\ntR."), ndferry.ProtocolError),
    "nbytes": (frame(META, meta(nbytes=21)), ndferry.ProtocolError),
    "cells": (frame(META, meta(cells=4)), ndferry.ProtocolError),
    "codec": (frame(META, meta(codec="blosc")), ndferry.ProtocolError),
    "numpy": (frame(META, meta(numpy="|O")), ndferry.InvalidError),
    "numpy fields": (frame(META, meta(numpy="<u2,<u2")), ndferry.InvalidError),
    "time": (frame(META, meta(created="2026-13-01T00:00:00Z")), ndferry.ProtocolError),
    "shape of 2^80": (frame(META, array(shape=[2**40, 2**40])), ndferry.LimitError),
    "shape below 0": (frame(META, array(shape=[-1])), ndferry.InvalidError),
    "data type": (frame(META, array(data_type="object")), ndferry.UnsupportedError),
    "cell of 1 GiB": (frame(META, array(shape=[2**40], chunk_grid=chunk_grid(2**30))), ndferry.LimitError),
    "cell of 0": (frame(META, array(chunk_grid=chunk_grid(0))), ndferry.InvalidError),
    "deep": (frame(META, b'{"x":' + b"[" * 9000 + b"]" * 9000 + b"}"), ndferry.ProtocolError),
    "credit over 2^62": (frame(CREDIT, stream=0, index=2**62), ndferry.ProtocolError),
    "error of nonsense": (frame(ERROR, {"code": 7}), ndferry.ProtocolError),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_server_that_lies(lie: str) -> None:
    data, kind = LIES[lie]
    wire = Wire(data)
    with pytest.raises(kind):
        wire.get()
    assert not wire.session.idle


def test_a_shape_that_no_memory_holds_closes_or_goes_on() -> None:
    huge = array(shape=[2**60], chunk_grid=chunk_grid(2**22)) | {"nbytes": 2**61, "cells": 2**38}
    wire = Wire(frame(META, huge | {"nbytes": 2**53}))
    with pytest.raises((MemoryError, ndferry.Error)):
        wire.get()
    big = array(shape=[2**50], chunk_grid=chunk_grid(2**22)) | {"nbytes": 2**51, "cells": 2**28}
    wire = Wire(frame(META, big) + frame(ERROR, {"code": "cancelled", "message": "cancelled", "retryable": False}))
    with pytest.raises(MemoryError):
        wire.get()
    assert wire.session.idle


@settings(max_examples=120)
@given(data=st.data())
def test_any_bytes_give_an_error_of_ours(data: st.DataObject) -> None:
    """Noise, recorded frames in any order, and frames with any JSON."""
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*META_MESSAGE, "x"]), inner),
        max_leaves=8,
    )
    part = st.one_of(
        st.binary(max_size=80),
        st.sampled_from([frame(META, META_MESSAGE), CHUNKS, END, frame(REPORT, REPORT_MESSAGE), frame(DONE)]),
        st.builds(lambda kind, value: frame(kind, json.dumps(value).encode()), st.sampled_from([META, ERROR]), values),
        st.builds(
            lambda changes: frame(META, META_MESSAGE | changes),
            st.dictionaries(st.sampled_from([*META_MESSAGE]), values),
        ),
        st.builds(
            lambda changes: frame(META, array(**changes)),
            st.dictionaries(st.sampled_from([*META_MESSAGE["array"]]), values),
        ),
    )
    recording = b"".join(data.draw(st.lists(part, max_size=4)))
    for _, call in CONVERSATIONS.values():
        with contextlib.suppress(ndferry.Error):
            call(Wire(recording))


def test_a_damaged_chunk_is_asked_for_again() -> None:
    damaged = frame(META, META_MESSAGE) + frame(CHUNK, CELLS[0], raw=8, crc=1)
    rest = frame(CHUNK, CELLS[1], index=1, raw=8) + frame(CHUNK, CELLS[2], index=2, raw=8) + END
    again = frame(META, META_MESSAGE, stream=2)
    wire = Wire(damaged + rest + again + frame(CHUNK, CELLS[0], raw=8, stream=2) + frame(DONE, stream=2, index=1))
    wire.get()
    assert wire.session.idle
    assert b'"cells":[[0,1]]' in bytes(wire.sent).replace(b" ", b"")


def test_a_chunk_that_stays_damaged_cancels_and_drains() -> None:
    recording = b""
    for stream in range(1, 10):
        recording += frame(META, META_MESSAGE, stream=stream) + frame(CHUNK, CELLS[0], raw=8, crc=1, stream=stream)
        if stream == 1:
            recording += frame(CHUNK, CELLS[1], index=1, raw=8) + frame(CHUNK, CELLS[2], index=2, raw=8)
        if stream < 9:
            recording += frame(DONE, stream=stream, index=3 if stream == 1 else 1)
    for end in (
        frame(DONE, stream=9),
        frame(ERROR, {"code": "cancelled", "message": "m", "retryable": False}, stream=9),
    ):
        wire = Wire(recording + end)
        with pytest.raises(ndferry.IntegrityError, match="cell 0"):
            wire.get()
        assert wire.session.idle
    wire = Wire(recording)
    with pytest.raises(ndferry.ConnectionError):
        wire.get()
    assert not wire.session.idle


def test_an_aborted_chunk_raises_the_error_that_follows() -> None:
    error = frame(ERROR, {"code": "integrity", "message": "disk", "retryable": False, "cell": 1})
    aborted = frame(CHUNK, CELLS[0], raw=8, status=0xFFFFFFFF)
    wire = Wire(frame(META, META_MESSAGE) + aborted + error)
    with pytest.raises(ndferry.IntegrityError, match="disk") as caught:
        wire.get()
    assert caught.value.cell == 1
    assert wire.session.idle


def test_the_last_words_of_a_server_that_closed() -> None:
    session = Session("test")
    drive(session.hello(), iter([HELLO_FRAME]), bytearray())
    operation = session.put(upload())
    request: Any = next(operation)
    assert isinstance(request, Send)
    request = operation.throw(ndferry.ConnectionError("broken pipe"))
    words = frame(ERROR, {"code": "shutdown", "message": "going", "retryable": True}, 0)
    request.view[: len(words)] = np.frombuffer(words, np.uint8)
    with pytest.raises(ndferry.TemporaryError, match="going"):
        operation.send(len(words))
    assert not session.idle


@pytest.mark.parametrize(
    ("hello", "kind"),
    [
        (frame(HELLO, HELLO_MESSAGE | {"versions": [2, 5]}, 0), ndferry.ProtocolError),
        (frame(HELLO, HELLO_MESSAGE | {"versions": [1]}, 0), ndferry.ProtocolError),
        (frame(HELLO, HELLO_MESSAGE | {"must_understand": ["x"], "x": 1}, 0), ndferry.UnsupportedError),
        (frame(PONG, b"", 0), ndferry.ProtocolError),
        (frame(ERROR, {"code": "version", "message": "1 to 2, you 3", "retryable": False}, 0), ndferry.ProtocolError),
        (b"220 mail.example.org ESMTP Postfix (Debian/GNU)\r\n", ndferry.ProtocolError),
        (b"", ndferry.ConnectionError),
    ],
)
def test_a_hello_that_is_refused(hello: bytes, kind: type[ndferry.Error]) -> None:
    session = Session("test")
    with pytest.raises(kind) as caught:
        drive(session.hello(), iter([hello]), bytearray())
    assert not session.idle
    if b"versions" in hello and b"5" in hello:
        assert caught.value.code == "version"
        assert "2 to 5" in str(caught.value)


FORBIDDEN = ("pickle.find_class", "exec", "compile", "os.system", "subprocess.Popen", "marshal.loads")


def test_nothing_is_ever_unpickled() -> None:
    """An audit hook cannot be removed, so it only watches while `active`."""
    seen: list[str] = []
    active = True

    def hook(event: str, args: Any) -> None:
        if active and event in (
            "pickle.find_class",
            "exec",
            "compile",
            "os.system",
            "subprocess.Popen",
            "marshal.loads",
        ):
            seen.append(event)

    sys.addaudithook(hook)
    try:
        for data, _ in LIES.values():
            wire = Wire(data)
            with pytest.raises(ndferry.Error):
                wire.get()
        for data, call in CONVERSATIONS.values():
            call(Wire(data))
    finally:
        active = False
    assert not seen
