"""Connections that break at every frame and inside of frames, servers that are killed.

What arrives is right, and only what is missing travels again.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ndferry
from conftest import Server
from cutter import ACCEPT, FOREVER, GET, Cutter
from ndferry import _address, _codec, _retry, aio
from ndferry._codec import Blosc
from ndferry._options import Options
from ndferry._retry import Retry
from ndferry._upload import Upload

SEED = int(os.environ.get("NDFERRY_SEED", "20261123"))
CELLS = 24
ARRAY = np.random.default_rng(1).integers(0, 255, (CELLS, 1 << 16), np.uint8)
SMOOTH = np.sin(np.arange(CELLS << 14, dtype=np.float32) / 1000).reshape(CELLS, 1 << 14)
ID = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_retry, "BASE", 0.002)
    monkeypatch.setattr(_retry, "MOST", 0.05)


@pytest.fixture
def cutter(server: Server, tmp_path: Path) -> Iterator[Cutter]:
    made = Cutter(tmp_path / "cut", server.addr)
    yield made
    made.close()


def some(points: list[int], count: int) -> list[int]:
    """Some of the points, of a seed that is printed."""
    print(f"seed {SEED}")
    return sorted(random.Random(SEED).sample(sorted(set(points)), count))


def cut_points(ends: list[int]) -> list[int]:
    """Every end of a frame, the bytes beside it, and one inside of it."""
    starts = [0, *ends[:-1]]
    return [p for a, b in zip(starts, ends, strict=True) for p in (a + 1, (a + b) // 2, b - 1, b)]


def accepted(connection: Any) -> set[int]:
    """The cells that the server named in the first ACCEPT."""
    ranges = [m["durable"] for m in connection[1].messages(ACCEPT)]
    return {cell for first, count in (ranges[0] if ranges else []) for cell in range(first, first + count)}


CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "crc32c": (ARRAY, {}),
    "sha256": (ARRAY, {"digest": "sha256"}),
    "lz4": (SMOOTH, {"codec": "lz4"}),
    "lz4, sha256, relaxed": (SMOOTH, {"codec": "lz4", "digest": "sha256", "durability": "relaxed"}),
    "gathered": (ARRAY[:, ::-1], {"digest": "sha256"}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("direction", ["out", "back"])
def test_a_put_that_is_cut_sends_only_what_is_missing(
    cutter: Cutter, connect: Callable[..., Any], case: str, direction: str, request: pytest.FixtureRequest
) -> None:
    array, options = CASES[case]
    options = options | {"chunks": (1, array.shape[1])}
    with connect(cutter.addr, timeout=60) as c:
        c.put("whole", array, retries=1, **options)
    side = 0 if direction == "out" else 1
    points = cut_points(cutter.connections[-1][side].ends)
    if case != "crc32c" or "blocking" not in request.node.name:
        points = some(points, min(8, len(points)))
    reached = 0
    for point in points:
        cutter.limits = [(point, FOREVER) if side == 0 else (FOREVER, point)]
        before = len(cutter.connections)
        with connect(cutter.addr, timeout=60, retries=5) as c:
            receipt = c.put(f"cut{point}", array, **options)
            assert c.put(f"cut{point}", array, id=receipt.id, **options) == receipt
        made = cutter.connections[before:]
        reached += len(made) == 2
        for connection in made:
            sent = connection[0].cells()
            assert len(sent) == len(set(sent))
            assert not set(sent) & accepted(connection)
        if len(made) == 2 and accepted(made[1]):
            assert set(made[0][0].cells()) <= accepted(made[1])
    assert reached >= len(points) - 2, "cuts that were not reached"
    with ndferry.connect(cutter.addr, timeout=60) as c:
        for point in points:
            assert (c.get(f"cut{point}") == array).all()
            assert c.verify(f"cut{point}").ok
        assert [entry.name for entry in c.list("cut")] == sorted({f"cut{point}" for point in points})


def test_asked_again_by_another_client(cutter: Cutter) -> None:
    """Without retries a put fails; the same id goes on from there, in another connection and after a restart."""
    cutter.limits = [(1_000_000, FOREVER)]
    with ndferry.connect(cutter.addr, timeout=60) as c:
        with pytest.raises(ndferry.ConnectionError):
            c.put("a", ARRAY, chunks=(1, 1 << 16), id=ID)
        assert c.closed
        with pytest.raises(ndferry.ConnectionError):
            c.stat("a")
    with ndferry.connect(cutter.addr, timeout=60) as c:
        c.put("a", ARRAY, chunks=(1, 1 << 16), id=ID)
        assert (c.get("a") == ARRAY).all()
    assert len(cutter.connections[1][0].cells()) == CELLS - len(accepted(cutter.connections[1])) < CELLS - 10


@pytest.mark.parametrize("out", [False, True], ids=["new", "out"])
@pytest.mark.parametrize("case", CASES)
def test_a_get_that_is_cut_asks_only_for_what_is_missing(
    cutter: Cutter, connect: Callable[..., Any], case: str, out: bool
) -> None:
    array, options = CASES[case]
    with connect(cutter.addr, timeout=60) as c:
        c.put("a", array, chunks=(1, array.shape[1]), **options)
    with connect(cutter.addr, timeout=60) as c:
        c.get("a")
    for point in some(cut_points(cutter.connections[-1][1].ends), 12):
        cutter.limits = [(FOREVER, point)]
        before = len(cutter.connections)
        into = np.zeros(array.shape, array.dtype) if out else None
        with connect(cutter.addr, timeout=60, retries=5) as c:
            assert (c.get("a", out=into) == array).all()
        first, *more = cutter.connections[before:]
        came = first[1].cells()
        for asked in (m for second in more for m in second[0].messages(GET)):
            if came:
                cells = [n for start, count in asked["cells"] for n in range(start, start + count)]
                assert sorted(cells) == sorted(set(range(CELLS)) - set(came))


def test_a_get_of_an_array_that_is_replaced_between_attempts(cutter: Cutter, connect: Callable[..., Any]) -> None:
    with ndferry.connect(cutter.addr, timeout=60) as other:
        other.put("a", ARRAY, chunks=(1, 1 << 16))
        cutter.limits = [(FOREVER, 700_000)]
        replaced = False

        def progress(done: int, total: int) -> None:
            nonlocal replaced
            if not replaced:
                other.put("a", ARRAY[::-1], chunks=(1, 1 << 16))
            replaced = True

        with connect(cutter.addr, timeout=60, retries=5) as c:
            assert (c.get("a", progress=progress) == ARRAY[::-1]).all()


def test_small_requests_are_asked_again(cutter: Cutter, connect: Callable[..., Any]) -> None:
    with ndferry.connect(cutter.addr, timeout=60) as c:
        c.put("a", np.arange(10))
    hello = cutter.connections[-1][1].ends[0]
    calls: list[Callable[[Any], Any]] = [
        lambda c: c.stat("a").name == "a",
        lambda c: [e.name for e in c.list()] == ["a"],
        lambda c: c.verify("a").ok,
        lambda c: c.get("a")[3] == 3,
        lambda c: c.put("a", np.arange(10)).nbytes == 80,
        lambda c: c.delete("a") is None,  # the answer is lost, and the next attempt finds nothing
    ]
    for call in calls:
        before = len(cutter.connections)
        cutter.limits = [(FOREVER, hello)]
        with connect(cutter.addr, timeout=60, retries=5) as c:
            assert call(c)
        assert len(cutter.connections) == before + 2
    with connect(cutter.addr, timeout=60, retries=5) as c:
        with pytest.raises(ndferry.NotFoundError):
            c.delete("a")
        with pytest.raises(ndferry.InvalidError):
            c.stat("a", retries=-1)


@pytest.mark.parametrize("codec", ["none", "lz4"])
def test_the_server_is_killed_and_comes_back(server: Server, connect: Callable[..., Any], codec: str) -> None:
    """kill -9 in the middle of a put and of a get; 200 MiB, so that checkpoints lie between."""
    array = np.resize(SMOOTH, (100, 1 << 19))
    kills = [0.2, 0.5, 0.9]

    def restart() -> None:
        server.kill()
        server.start()

    def progress(done: int, total: int) -> None:
        if kills and done >= kills[0] * total:
            kills.pop(0)
            threads.append(threading.Thread(target=restart))
            threads[-1].start()
            threads[-1].join()

    threads: list[threading.Thread] = []
    with connect(server.addr, timeout=60, retries=1_000_000) as c:  # a killed process may take long to let go
        receipt = c.put("a", array, codec=codec, digest="sha256", progress=progress)
        assert not kills, "not every kill was reached"
        kills.append(0.5)
        assert (c.get("a", progress=progress) == array).all()
        assert not kills
        assert c.verify("a").ok
        assert c.stat("a").id == receipt.id


def test_connect_waits_for_a_server(server: Server, connect: Callable[..., Any]) -> None:
    server.kill()
    with pytest.raises(ndferry.ConnectionError):
        connect(server.addr, retries=2)
    thread = threading.Thread(target=server.start)
    thread.start()
    with connect(server.addr, timeout=60, retries=1_000_000) as c:
        assert c.list() == []
    thread.join()


@pytest.mark.parametrize("first", [1e6, 1e12])
def test_auto_decides_as_the_first_attempt(
    cutter: Cutter, connect: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, first: float
) -> None:
    """What the connection was seen to carry has changed between two attempts, in one call and in two."""
    monkeypatch.setattr(_address, "is_local", lambda addr: False)
    upload = Upload("a", SMOOTH, Options())
    upload.settle(frozenset(), ("none", "blosc"), first)
    codec = upload.codec
    upload.settle(frozenset(), ("none", "blosc"), 1e18 / first)
    assert upload.codec == codec
    assert (codec is None) == (first == 1e12)
    for n, rate in enumerate((first, 1e18 / first)):
        cutter.limits = [(200_000, FOREVER)] if n == 0 else []
        with connect(cutter.addr, timeout=60) as c:
            getattr(c, "client", c)._session.rate = rate
            if n == 0:
                with pytest.raises(ndferry.ConnectionError):
                    c.put("a", SMOOTH, id=ID, chunks=(1, 1 << 14))
            else:
                c.put("a", SMOOTH, id=ID, chunks=(1, 1 << 14))
                assert (c.get("a") == SMOOTH).all()


def test_the_rate_is_measured(server: Server, connect: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_address, "is_local", lambda addr: False)
    array = np.random.default_rng(0).integers(0, 255, 16 << 20, np.uint8)
    with connect(server.addr, timeout=60) as c:
        assert f"at {_codec._per_second(_codec.ASSUMED_LINK)}" in c.put("a", array).codec_why
        rate = getattr(c, "client", c)._session.rate
        assert rate > 0
        assert _codec._per_second(rate) in c.put("a", array).codec_why


def test_relaxed(server: Server) -> None:
    with ndferry.connect(server.addr, timeout=60) as c:
        assert c.put("a", np.arange(10), durability="relaxed").durability == "relaxed"
        assert c.stat("a").durability == "relaxed"
        assert c.put("a", np.arange(10)).durability == "durable"
        with pytest.raises(ndferry.InvalidError):
            c.put("a", [1], durability="never")  # type: ignore[arg-type]


def test_attempts_end_and_wait_longer_each_time() -> None:
    retry = Retry(6, None)
    busy = ndferry.TemporaryError("busy", retryable=True)
    waits = [retry.pause(busy, False) for _ in range(7)]
    assert waits.pop() is None
    assert all(wait is not None and wait <= min(_retry.MOST, _retry.BASE * 2**n) for n, wait in enumerate(waits))


def test_an_attempt_that_moved_begins_the_count_anew() -> None:
    far = 0
    retry = Retry(1, None, lambda: far)
    broken = ndferry.ConnectionError("broken", retryable=True)
    for _ in range(5):
        far += 1
        assert retry.pause(broken, True) is not None
    assert retry.pause(broken, True) is None


@pytest.mark.parametrize(
    "error", [ndferry.ConflictError("taken"), ndferry.InvalidError("no"), ndferry.ProtocolError("2", code="version")]
)
def test_what_will_not_pass_is_not_asked_again(error: ndferry.Error) -> None:
    assert Retry(9, None).pause(error, True) is None


def test_a_deadline_ends_the_attempts() -> None:
    broken = ndferry.ConnectionError("broken", retryable=True)
    assert Retry(9, time.monotonic() - 1).pause(broken, True) is None
    with pytest.raises(ndferry.ConnectionError):
        ndferry.connect("unix:///nowhere", retries=2)


def test_closed_is_the_last_word(server: Server, connect: Callable[..., Any]) -> None:
    with connect(server.addr, timeout=60, retries=5) as c:
        c.close()
        with pytest.raises(ndferry.ConnectionError):
            c.stat("a")


@pytest.mark.parametrize("codec", ["zlib", "zstd"])
def test_a_loop_goes_on_while_threads_encode_and_decode(
    server: Server, codec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No chunk is encoded, decoded or hashed before the loop has gone on once more."""
    array = np.resize(np.sin(np.arange(1 << 20)), 4 << 20)
    calls: Counter[str] = Counter()
    ticks, ticked = 0, threading.Condition()

    def after_a_tick(place: Any, name: str, least: int = 0) -> None:
        work = getattr(place, name)

        def call(*arguments: Any) -> Any:
            if least and (not arguments or len(arguments[0]) < least):
                return work(*arguments)
            with ticked:
                calls[name] += 1
                seen = ticks
                assert ticked.wait_for(lambda: ticks > seen, 60), f"{name} holds the loop"
            return work(*arguments)

        monkeypatch.setattr(place, name, call)

    after_a_tick(Blosc, "encode")
    after_a_tick(_codec, "decode")
    after_a_tick(hashlib, "sha256", 1 << 20)

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            with ticked:
                ticks += 1
                ticked.notify_all()

    async def main() -> None:
        async with await aio.connect(server.addr, timeout=60) as c:
            ticking = asyncio.create_task(tick())
            receipt = await c.put("a", array, codec=codec, level=7, digest="sha256")
            assert (await c.get("a") == array).all()
            ticking.cancel()
        assert receipt.cells >= 8
        assert calls["encode"] == calls["decode"] == receipt.cells
        assert calls["sha256"] == 2 * receipt.cells

    asyncio.run(main())


def test_options_are_refused_and_shown() -> None:
    for function in (ndferry.Client.put, aio.Client.put, ndferry.send_array, aio.send_array):
        parameters = inspect.signature(function).parameters
        for name in ("codec", "level", "durability", "if_absent", "progress", "deadline"):
            assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY, (function, name)
        assert parameters["codec"].default == "auto"
    with pytest.raises(TypeError, match="codek"):
        ndferry.send_array(None, np.zeros(1), codek="none")  # type: ignore[arg-type,call-arg]
