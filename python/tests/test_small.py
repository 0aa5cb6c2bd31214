"""Small arrays again: forms are used, and what is not exactly of a form takes the whole way."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import ndferry
from conftest import Server
from ndferry import _small
from ndferry._core import Session
from ndferry._receiving import Download
from ndferry._small import MOST, Small
from test_core import CHUNK, CREDIT, DONE, HELLO_FRAME, ID, META, META_MESSAGE, RECEIPT, RECEIPT_MESSAGE, drive, frame

ARRAY = np.arange(10, dtype="<u2")
IDS = re.compile(rb'"id":"([0-9a-f]{32})"')


class Taken:
    """How often a form took an answer, and how often it did not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.yes = self.no = 0
        for form, method in ((_small.PutForm, "receipt"), (_small.GetForm, "array")):
            monkeypatch.setattr(form, method, self._counted(getattr(form, method)))

    def _counted(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            result = method(*args)
            self.yes += result is not None
            self.no += result is None
            return result

        return call


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Taken:
    return Taken(monkeypatch)


@pytest.mark.parametrize("options", [{}, {"digest": "crc32c", "if_absent": False}, {"codec": "none"}])
def test_again(memory_server: Server, connect: Callable[..., Any], taken: Taken, options: dict[str, Any]) -> None:
    random = np.random.default_rng(1)
    with connect(memory_server.addr) as c:
        ids = set()
        for turn in range(20):
            for dtype in ("<f4", "|b1", "<c16"):
                a = random.integers(0, 2, (5, 7)).astype(dtype)
                receipt = c.put(f"again/{np.dtype(dtype).char}", a, **options)
                assert receipt == c.put(f"again/{np.dtype(dtype).char}", a, id=receipt.id, **options)
                ids.add(receipt.id)
                out = np.zeros((5, 7), dtype) if turn % 2 else None
                got = c.get(f"again/{a.dtype.char}", out=out)
                assert got.dtype == a.dtype
                assert got.flags.writeable
                assert got.flags.c_contiguous
                assert out is None or got is out
                np.testing.assert_array_equal(got, a)
                stat = c.stat(f"again/{a.dtype.char}")
                assert (stat.id, stat.created) == (receipt.id, receipt.created)
        assert len(ids) == 60
    assert taken.yes >= 100, "of 114 that have a form"


def test_another_array_under_the_name(memory_server: Server, connect: Callable[..., Any], taken: Taken) -> None:
    """What is there was put by others meanwhile, and is of another kind each time."""
    kinds: list[tuple[Any, dict[str, Any]]] = [
        (ARRAY, {}),
        (ARRAY + 1, {}),
        (ARRAY.reshape(2, 5), {}),
        (np.asfortranarray(ARRAY.reshape(2, 5)), {}),
        (ARRAY.astype(">u2"), {}),
        (ARRAY.astype("<f4"), {}),
        (ARRAY, {"attrs": {"id": ID, "k": '"id":"' + ID + '"'}}),
        (ARRAY, {"digest": "sha256"}),
        (ARRAY, {"codec": "zlib"}),
        (ARRAY, {"chunks": 4}),
        (np.zeros(MOST + 1, np.uint8), {}),
        (ARRAY[:0], {}),
        (ARRAY[3], {}),
        (ARRAY.astype("V2"), {}),
    ]
    with connect(memory_server.addr) as c, ndferry.connect(memory_server.addr) as other:
        for array, options in kinds * 2:
            c.put("b", ARRAY)
            np.testing.assert_array_equal(c.get("b"), ARRAY)
            other.put("b", array, **options)
            got = c.get("b")
            assert got.dtype == array.dtype
            np.testing.assert_array_equal(got, array)
            with pytest.raises(ndferry.InvalidError):
                c.get("b", out=np.zeros(11, "<u2"))
            c.put("b", array, **options)
            assert c.stat("b").attrs == options.get("attrs", {})
        other.delete("b")
        with pytest.raises(ndferry.NotFoundError):
            c.get("b")
        np.testing.assert_array_equal(c.put("b", ARRAY).nbytes, 20)
        with pytest.raises(ndferry.ConflictError):
            c.put("b", ARRAY, if_absent=True)
        with pytest.raises(ndferry.InvalidError):
            c.put("b", ARRAY, digest="md5")
    assert taken.yes > len(kinds)


def packed(message: dict[str, Any]) -> bytes:
    """As servers write it."""
    return json.dumps(message, separators=(",", ":")).encode()


def receipts(streams: int, sent: bytearray) -> Iterator[bytes]:
    """The RECEIPT of each PUT, once it was sent."""
    for stream in range(1, streams + 1):
        yield receipt_frame(stream, IDS.findall(bytes(sent))[-1].decode())


def receipt_frame(stream: int, id: str) -> bytes:
    return frame(RECEIPT, packed(RECEIPT_OF_ONE | {"id": id}), stream)


def greeted() -> tuple[Session, bytearray]:
    session, sent = Session("test"), bytearray()
    drive(session.hello(), iter([HELLO_FRAME]), sent)
    return session, sent


RECEIPT_OF_ONE = RECEIPT_MESSAGE | {"cells": 1, "stored_bytes": 20}
ONE = {"shape": [10], "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [10]}}}
META_OF_ONE = META_MESSAGE | {"cells": 1, "stored_bytes": 20, "array": META_MESSAGE["array"] | ONE}


def meta(stream: int) -> bytes:
    return frame(META, packed(META_OF_ONE), stream)


def rest(stream: int) -> bytes:
    return frame(CHUNK, ARRAY.tobytes(), stream, raw=20, flags=1) + frame(DONE, stream=stream, index=1)


def test_damaged_and_odd_answers_to_get(taken: Taken) -> None:
    """No bit of an answer can be wrong without an error, and what only comes in another way is taken."""
    good = meta(2) + rest(2)
    for at in range(len(good)):
        for bit in (1, 128):
            bad = good[:at] + bytes([good[at] ^ bit]) + good[at + 1 :]
            session, sent = greeted()
            out = np.full(10, 7, "<u2")
            drive(session.get(Download("a", None), None), iter([meta(1) + rest(1)]), sent)
            try:
                got = drive(session.get(Download("a", out), None), iter([bad, meta(3) + rest(3)]), sent)
            except ndferry.Error:
                continue
            np.testing.assert_array_equal(got, ARRAY, err_msg=f"bit {bit} of byte {at}")
    assert taken.yes == 0
    for cut in range(1, len(good)):
        session, sent = greeted()
        incoming = iter([meta(1) + rest(1), good[:cut], good[cut:]])
        drive(session.get(Download("a", None), None), incoming, sent)
        np.testing.assert_array_equal(drive(session.get(Download("a", None), None), incoming, sent), ARRAY)
        assert session.idle
    ping = frame(CREDIT, stream=0, index=8)
    for before in (ping + meta(2), meta(2) + ping):
        session, sent = greeted()
        incoming = iter([meta(1) + rest(1), before + rest(2)])
        drive(session.get(Download("a", None), None), incoming, sent)
        np.testing.assert_array_equal(drive(session.get(Download("a", None), None), incoming, sent), ARRAY)
    assert taken.yes == 0
    session, sent = greeted()
    incoming = iter([meta(1) + rest(1), good])
    for _ in range(2):
        np.testing.assert_array_equal(drive(session.get(Download("a", None), None), incoming, sent), ARRAY)
    assert taken.yes == 1


def put(session: Session, incoming: Iterator[bytes], sent: bytearray) -> ndferry.Receipt:
    receipt: ndferry.Receipt = drive(session.put(session.forms.upload("a", ARRAY, {}, kept=False)), incoming, sent)
    return receipt


def small(session: Session, id: str) -> Small:
    """A second PUT of the array."""
    upload = session.forms.upload("a", ARRAY, {}, kept=False)
    assert isinstance(upload, Small)
    upload._id = id
    return upload


def after_one_put() -> tuple[Session, bytearray]:
    session, sent = greeted()
    put(session, receipts(1, sent), sent)
    return session, sent


def test_damaged_and_odd_answers_to_put(taken: Taken) -> None:
    session, sent = greeted()
    incoming = receipts(2, sent)
    both = [put(session, incoming, sent) for _ in range(2)]
    assert taken.yes == 1
    assert both[0].id != both[1].id
    assert [r.id.encode() for r in both] == IDS.findall(bytes(sent))
    good = receipt_frame(2, ID)
    for at in range(len(good)):
        session, sent = after_one_put()
        bad = bytearray(good)
        bad[at] ^= 1
        with pytest.raises(ndferry.Error):
            drive(session.put(small(session, ID)), iter([bytes(bad)]), sent)
        session, sent = after_one_put()
        odd = [good[:at], good[at:]] if at else [frame(CREDIT, stream=0, index=8) + good]
        assert drive(session.put(small(session, ID)), iter(odd), sent).id == ID
        assert session.idle
    assert taken.yes == 1
    session, sent = after_one_put()
    with pytest.raises(ndferry.ProtocolError, match="is not that of this PUT"):
        put(session, iter([receipt_frame(2, "e" * 32)]), sent)


def test_a_resend_and_little_credit(taken: Taken) -> None:
    """A cell that came damaged is sent again; without credit the whole way waits for it."""
    session, sent = after_one_put()
    resend = frame(51, stream=2, index=0)
    assert drive(session.put(small(session, ID)), iter([resend, receipt_frame(2, ID)]), sent).id == ID
    assert bytes(sent).count(ARRAY.tobytes()) == 3
    session._credit = 0
    upload = small(session, ID)
    assert drive(session.put(upload), iter([frame(CREDIT, stream=0, index=4096), receipt_frame(3, ID)]), sent).id == ID
    assert (taken.yes, taken.no) == (0, 1)


def test_forms_are_few(memory_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_small, "FORMS", 4)
    with ndferry.connect(memory_server.addr) as c:
        for turn in range(3):
            for n in range(6):
                c.put(f"few/{n}", ARRAY + n + turn)
                np.testing.assert_array_equal(c.get(f"few/{n}"), ARRAY + n + turn)
        assert len(c._session.forms._puts) == len(c._session.forms._gets) == 4


def test_what_has_no_form() -> None:
    class Other(np.ndarray):
        pass

    def key(value: Any, **options: Any) -> Any:
        return _small._key("a", value, options)  # type: ignore[arg-type]

    assert key(ARRAY) is not None
    assert key(ARRAY) != key(ARRAY.reshape(2, 5))
    assert key(ARRAY) != key(ARRAY.view("<i2"))
    assert key(ARRAY, codec="none") != key(ARRAY, codec="zlib")
    for value in (
        [1, 2],
        ARRAY[::2],
        ARRAY.astype(">u2"),
        ARRAY.view(Other),
        ARRAY.astype("M8[s]"),
        np.zeros(MOST + 1, "u1"),
    ):
        assert key(value) is None
    several: tuple[dict[str, Any], ...] = (
        {"id": ID},
        {"attrs": {}},
        {"chunks": 10},
        {"link_rate": 1e6},
        {"progress": print},
        {"dims": ["x"]},
    )
    for options in several:
        assert key(ARRAY, **options) is None
