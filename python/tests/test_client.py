"""The blocking client against a strict peer (`peer.py`)."""

from __future__ import annotations

import json
import multiprocessing
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import ndferry
from peer import MIB, Peer
from samples import DTYPES, LAYOUTS, SHAPES, Array, at_rest, bits, same


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_in_every_layout(
    client: ndferry.Client, peer: Peer, dtype: str, layout: Callable[..., Array]
) -> None:
    for shape in SHAPES:
        a = bits(shape, dtype)
        a = layout(a) if a.ndim else a
        receipt = client.put("a", a, attrs={"shape": list(shape)})
        assert (receipt.name, receipt.nbytes, receipt.codec) == ("a", a.nbytes, "none")
        assert same(peer.arrays["a"].array(), at_rest(a))
        b = client.get("a")
        assert same(b, a)
        assert b.flags.writeable
        assert b.base is None or b.base.base is None
        if a.flags.forc:
            assert (b.flags.c_contiguous, b.flags.f_contiguous) == (a.flags.c_contiguous, a.flags.f_contiguous)


@settings(max_examples=150)
@given(data=st.data())
def test_any_array_any_grid(client: ndferry.Client, peer: Peer, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(DTYPES))
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9))
    order = data.draw(st.permutations(range(len(shape))))
    a = bits(tuple(shape[axis] for axis in order), dtype).transpose(np.argsort(order))
    if data.draw(st.booleans()) and a.ndim:
        a = a[data.draw(hnp.basic_indices(a.shape, allow_ellipsis=False, allow_newaxis=False))]
        a = np.asarray(a, dtype)
    chunks = data.draw(st.none() | st.tuples(*(st.integers(1, 11) for _ in a.shape)))
    digest = data.draw(st.sampled_from(["crc32c", "sha256"]))
    client.put("a", a, chunks=chunks, digest=digest)  # type: ignore[arg-type]
    assert same(peer.arrays["a"].array(), at_rest(a))
    assert same(client.get("a"), a)
    out_order = data.draw(st.permutations(range(a.ndim)))
    out = np.empty([a.shape[axis] for axis in out_order], dtype).transpose(np.argsort(out_order))
    assert client.get("a", out=out) is out
    assert same(out, a)
    stat = client.stat("a")
    assert (stat.dtype, stat.shape, stat.nbytes) == (a.dtype, a.shape, a.nbytes)
    if chunks is not None:
        assert stat.chunks == chunks


def test_several_chunks_and_padding(client: ndferry.Client, peer: Peer) -> None:
    a = np.random.default_rng(1).random((1001, 1500))
    for array in (a, np.asfortranarray(a), a[::2], a.T[3:]):
        client.put("a", array, digest="sha256")
        stored = peer.arrays["a"]
        assert stored.count > 1
        assert same(client.get("a"), array)


def test_a_contiguous_array_is_not_copied(blocking: ndferry.Client) -> None:
    import tracemalloc

    a = np.arange(64.0 * 1024 * 128).reshape(64, 1024, 128)  # 64 MiB
    out = np.empty_like(a)
    for array, target in ((a, out), (a.T, out.T), (a.transpose(1, 2, 0), out.transpose(1, 2, 0))):
        tracemalloc.start()
        blocking._driver.run(iter_nothing())
        blocking.put("a", array)
        blocking.get("a", out=target)
        # the peer in this process keeps what it received; the client's own share is what _-modules allocated
        shares = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/ndferry/_*.py")])
        tracemalloc.stop()
        assert sum(s.size for s in shares.statistics("filename")) < MIB
        assert same(target, array)


def iter_nothing() -> Any:
    return
    yield


def test_small_array_is_one_write_and_one_read(peer: Peer) -> None:
    client = ndferry.connect(f"unix://{peer.path}")
    calls: list[str] = []

    class Spy:
        def __init__(self, sock: Any) -> None:
            self.sock = sock

        def __getattr__(self, name: str) -> Any:
            call = getattr(self.sock, name)
            if name not in ("sendmsg", "recv_into", "setsockopt"):
                return call

            def counted(*args: Any) -> Any:
                result = call(*args)  # one that finds nothing yet raises, and is asked again
                calls.append(name)
                return result

            return counted

    client._driver._sock = Spy(client._driver._sock)  # type: ignore[assignment]
    client.put("a", np.arange(1024, dtype="f4"))
    assert calls[0] == "sendmsg"
    assert calls.count("sendmsg") == 1
    assert calls.count("recv_into") <= 3  # ACK and CREDIT of this peer come apart
    client.close()


def test_credit_is_waited_for(tmp_path: Path) -> None:
    peer = Peer(str(tmp_path / "p"), credit=16 * MIB)
    with ndferry.connect(f"unix://{peer.path}", timeout=60) as c:
        a = np.random.default_rng(0).integers(0, 255, 100 * MIB, np.uint8)
        c.put("a", a, chunks=16 * MIB)
        c.put("b", a)
        assert same(c.get("b"), a)
    peer.close()
    assert not peer.refused


def test_attributes(client: ndferry.Client, peer: Peer) -> None:
    attrs = {"unit": "K", "shape": [1, 2.5], "dtype": {"ü": None, "n": 12345678901234567890, "t": True}, "e": ""}
    client.put("a", np.zeros(3), attrs=attrs)
    assert client.stat("a").attrs == attrs
    assert json.loads(peer.arrays["a"].put["attributes"]) == attrs
    client.put("a", np.zeros(3))
    assert client.stat("a").attrs == {}


@pytest.mark.parametrize(
    "attrs",
    [{"a": float("nan")}, {"a": np.float32(1)}, {1: "a"}, {"a": b"x"}, {"a": "\ud800"}, {"a": {2: 1}}, {"a": object()}],
)
def test_attributes_that_are_no_json(client: ndferry.Client, attrs: Any) -> None:
    with pytest.raises(ndferry.InvalidError, match="attrs"):
        client.put("a", np.zeros(3), attrs=attrs)
    assert client.list() == []


def test_attribute_limits(client: ndferry.Client) -> None:
    deep: Any = 1
    for _ in range(15):
        deep = [deep]
    client.put("a", np.zeros(3), attrs={"a": deep, "big": "x" * (MIB - 100)})
    assert client.stat("a").attrs["a"] == deep
    with pytest.raises(ndferry.LimitError):
        client.put("a", np.zeros(3), attrs={"a": [deep]})
    with pytest.raises(ndferry.LimitError):
        client.put("a", np.zeros(3), attrs={"a": "x" * MIB})


def test_list_stat_delete_verify_ping(client: ndferry.Client, peer: Peer) -> None:
    names = [f"lab/run{i}" for i in range(10)] + ["other", "zebra/ü"]
    for name in names:
        client.put(name, np.arange(6.0).reshape(2, 3))
    assert [entry.name for entry in client.list()] == names
    assert [entry.name for entry in client.list("lab/run")] == names[:10]
    assert client.list("x") == []
    entry = client.list("other")[0]
    assert (entry.dtype, entry.shape, entry.nbytes) == ("<f8", (2, 3), 48)
    stat = client.stat("other")
    assert stat.created.isoformat() == "2026-01-02T03:04:05.678901+00:00"
    assert (stat.order, stat.chunks, stat.codec, stat.digest.kind) == ((0, 1), (2, 3), "none", "crc32c")
    steps: list[tuple[int, int]] = []
    report = client.verify("other", progress=lambda done, total: steps.append((done, total)))
    assert report.ok
    assert steps == [(0, 1)]
    assert client.ping() > 0
    client.delete("other")
    for call in (client.get, client.stat, client.delete, client.verify):
        with pytest.raises(ndferry.NotFoundError, match="no array other") as caught:
            call("other")
        assert isinstance(caught.value, KeyError)
        assert str(caught.value) == "no array other"
        assert not client.closed
    data, crc = peer.arrays["lab/run3"].cells[0]
    peer.arrays["lab/run3"].cells[0] = (b"\1" + data[1:], crc)
    report = client.verify("lab/run3")
    assert not report.ok
    assert report.bad == (ndferry.Damage("c", 0, "crc"),)


def test_damage_on_the_server_is_found_and_the_connection_goes_on(client: ndferry.Client, peer: Peer) -> None:
    a = np.arange(40.0)
    client.put("a", a, chunks=(10,))
    data, crc = peer.arrays["a"].cells[2]
    peer.arrays["a"].cells[2] = (data[:-1] + b"\7", crc)
    with pytest.raises(ndferry.IntegrityError, match="cell 2") as caught:
        client.get("a")
    assert caught.value.cell == 2
    assert not client.closed
    assert client.stat("a").nbytes == 320


@pytest.mark.parametrize("chunks", [(7,), (3, 4)])
def test_padding_of_the_server_must_be_zero(client: ndferry.Client, peer: Peer, chunks: tuple[int, ...]) -> None:
    import google_crc32c

    client.put("a", np.ones((10,) * len(chunks), np.uint8), chunks=chunks)
    last = peer.arrays["a"].count - 1
    data = peer.arrays["a"].cells[last][0][:-1] + b"\1"
    peer.arrays["a"].cells[last] = data, google_crc32c.value(data)
    with pytest.raises(ndferry.IntegrityError, match="padding"):
        client.get("a")
    assert not client.closed


def test_root_of_the_server_is_checked(client: ndferry.Client, peer: Peer) -> None:
    client.put("a", np.arange(40.0), digest="sha256")
    peer.arrays["a"].receipt["digest"]["root"] = "0" * 64
    with pytest.raises(ndferry.IntegrityError, match="root"):
        client.get("a")
    assert not client.closed


def test_if_absent(client: ndferry.Client) -> None:
    big = np.resize(np.arange(251, dtype=np.uint8), 20 * MIB)
    client.put("a", big, if_absent=True)
    with pytest.raises(ndferry.ConflictError, match="taken"):
        client.put("a", big, if_absent=True)  # the refusal comes while chunks are sent
    assert not client.closed
    assert len(client.list()) == 1


def test_out_must_fit(client: ndferry.Client) -> None:
    client.put("a", np.arange(12.0).reshape(3, 4))
    read_only = np.empty((3, 4))
    read_only.flags.writeable = False
    for out in (np.empty((4, 3)), np.empty((3, 4), "f4"), np.empty((3, 4), ">f8"), np.empty(12), read_only,
                np.broadcast_to(np.empty(4), (3, 4)), np.ma.empty((3, 4)), [[0.0] * 4] * 3):  # fmt: skip
        with pytest.raises(ndferry.InvalidError):
            client.get("a", out=out)  # type: ignore[arg-type]
        assert not client.closed
    every_other = np.zeros((3, 8))[:, ::2]
    assert client.get("a", out=every_other) is every_other
    assert every_other[2, 3] == 11


def test_dtypes_that_are_refused(client: ndferry.Client) -> None:
    import ml_dtypes

    for value, advice in (
        (np.array([None]), "pickle"),
        (np.array(["a"], np.dtypes.StringDType()), "fixed length"),
        (np.zeros(2, np.longdouble), "float64"),
        (np.zeros(2, np.clongdouble), "complex128"),
        (np.ma.masked_array([1.0], [True]), "filled"),
        (np.zeros(2, [("a", "f4"), ("b", np.longdouble)]), "field 'b': its bytes differ"),
        (np.zeros(2, [("a", "O")]), "pickle"),
        (np.zeros(2, ml_dtypes.int4), "uint8"),
        ([object()], "pickle"),
    ):
        with pytest.raises(ndferry.DTypeError, match=advice) as caught:
            client.put("a", value)  # type: ignore[arg-type]
        assert isinstance(caught.value, TypeError)
        assert isinstance(caught.value, ValueError)
    assert client.list() == []


def test_lists_scalars_and_subclasses(client: ndferry.Client) -> None:
    client.put("a", [[1, 2], [3, 4]])
    assert same(client.get("a"), np.array([[1, 2], [3, 4]]))
    client.put("a", 7)
    assert client.get("a")[()] == 7
    with pytest.warns(PendingDeprecationWarning):
        matrix = np.matrix([[1.0, 2.0]])
    client.put("a", matrix)
    assert type(client.get("a")) is np.ndarray


@pytest.mark.parametrize(
    "name", ["", "/a", "a/", "a//b", "..", "a/../b", ".a", "__a", "zarr.json", "a\0", "a\\b", "x" * 256]
)
def test_names_are_checked_before_anything_is_sent(client: ndferry.Client, name: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: client.put(name, [1]), lambda: client.get(name), lambda: client.stat(name),
        lambda: client.delete(name), lambda: client.verify(name),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(ndferry.InvalidError, match="name"):
            call()
    assert not client.closed


@pytest.mark.parametrize(
    "options",
    [{"chunks": (2,)}, {"chunks": (0, 1)}, {"codec": "gzip"}, {"digest": "md5"}, {"id": "xyz"}, {"id": "A" * 32},
     {"chunks": (1 << 13, 1 << 9)}],
)  # fmt: skip
def test_options_that_cannot_be(client: ndferry.Client, options: Any) -> None:
    with pytest.raises((ndferry.InvalidError, ndferry.LimitError)):
        client.put("a", np.zeros((4, 4)), **options)
    assert client.list() == []


def test_progress(client: ndferry.Client) -> None:
    a = np.resize(np.arange(251, dtype=np.uint8), 30 * MIB)
    steps: list[tuple[int, int]] = []
    client.put("a", a, progress=lambda done, total: steps.append((done, total)))
    assert steps[-1] == (a.nbytes, a.nbytes)
    assert steps == sorted(steps)
    assert len(steps) > 3
    steps.clear()
    client.get("a", progress=lambda done, total: steps.append((done, total)))
    assert steps[-1] == (a.nbytes, a.nbytes)

    def fail(done: int, total: int) -> None:
        raise RuntimeError("enough")

    for call in (lambda: client.put("b", a, progress=fail), lambda: client.get("a", progress=fail)):
        with pytest.raises(RuntimeError, match="enough"):
            call()
        assert not client.closed
    with pytest.raises(ndferry.Error, match="progress"):
        client.get("a", progress=lambda done, total: client.ping())
    assert not client.closed
    assert [entry.name for entry in client.list()] == ["a"]


def test_interrupt_closes(client: ndferry.Client) -> None:
    def interrupt(done: int, total: int) -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        client.put("a", np.resize(np.arange(251, dtype=np.uint8), 30 * MIB), progress=interrupt)
    assert client.closed
    with pytest.raises(ndferry.ConnectionError, match="closed"):
        client.list()


def test_close_and_context(peer: Peer) -> None:
    with ndferry.connect(f"unix://{peer.path}") as c:
        assert c.server == "peer"
        assert not c.closed
        assert "peer" in repr(c)
    assert c.closed
    c.close()
    with pytest.raises(ndferry.ConnectionError, match="connect again"):
        c.ping()


def test_threads_take_turns(blocking: ndferry.Client) -> None:
    a = np.arange(100_000)
    failures: list[BaseException] = []

    def work(i: int) -> None:
        try:
            for _ in range(20):
                blocking.put(f"a{i}", a + i)
                assert same(blocking.get(f"a{i}"), a + i)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not failures


def _in_child(client: ndferry.Client, queue: Any) -> None:
    try:
        client.ping()
    except ndferry.ConnectionError as error:
        queue.put(str(error))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork(client: ndferry.Client) -> None:
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=_in_child, args=(client, queue))
    process.start()
    assert "inherited by fork" in queue.get()
    process.join(60)
    assert client.ping() > 0


def test_unknown_frames_members_and_pings_are_no_trouble(client: ndferry.Client, peer: Peer) -> None:
    import struct

    import google_crc32c

    def frame(kind: int, payload: bytes, stream: int = 0, index: int = 0) -> bytes:
        head = struct.pack("<4sBBHIIQI", b"NDF1", kind, 0, 0, stream, len(payload), index, 0)
        data = head + struct.pack("<I", google_crc32c.value(head))
        return data + (payload + struct.pack("<II", google_crc32c.value(payload), 0) if payload else b"")

    peer.extra = frame(200, b"news") + frame(5, b"{}") + frame(2, b"", index=9) + frame(7, b"", index=1)
    a = np.arange(3_000_000.0)
    client.put("a", a)
    assert same(client.get("a"), a)
    assert len(client.list()) == 1
    assert client.ping() > 0
