"""One transfer over several connections: what arrives is right, each cell travels once, one may break."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ndferry
from conftest import Server
from cutter import CHUNK, FOREVER, GET, PUT, Cutter
from ndferry import _sending, aio
from ndferry._sharing import split

CELLS = 32
RANDOM = np.random.default_rng(3).integers(0, 255, (CELLS, 1 << 16), np.uint8)
SMOOTH = np.sin(np.arange(CELLS << 14, dtype=np.float32) / 1000).reshape(CELLS, 1 << 14)


def _note(seen: list[int], done: int, _: int) -> None:
    seen.append(done)


@pytest.fixture
def cutter(server: Server, tmp_path: Path) -> Iterator[Cutter]:
    made = Cutter(tmp_path / "cut", server.addr)
    yield made
    made.close()


@pytest.mark.parametrize(
    "options", [{"codec": "none"}, {"codec": "none", "digest": "sha256"}, {"codec": "lz4", "digest": "sha256"}], ids=str
)
def test_there_and_back(cutter: Cutter, connect: Callable[..., Any], options: dict[str, Any]) -> None:
    streams = 3
    for array in (RANDOM.T, SMOOTH[:, ::2]):
        cutter.connections.clear()
        with connect(cutter.addr) as c:
            seen: list[int] = []
            note = partial(_note, seen)
            receipt = c.put("a", array, streams=streams, chunks=(7, 5000), progress=note, **options)
            assert receipt.digest.kind == options.get("digest", "crc32c")
            assert seen[-1] == array.nbytes
            assert seen == sorted(seen)
            sent = Counter(cell for up, _ in cutter.connections for cell in up.cells())
            assert set(sent.values()) == {1}
            assert len(sent) == receipt.cells
            assert sum(any(kind == CHUNK for kind, _, _ in up.frames) for up, _ in cutter.connections) <= streams
            assert sum(any(kind == PUT for kind, _, _ in up.frames) for up, _ in cutter.connections) == streams
            np.testing.assert_array_equal(c.get("a", streams=streams), array)
            out = np.zeros_like(array)
            seen.clear()
            assert c.get("a", out=out, streams=streams, progress=note) is out
            np.testing.assert_array_equal(out, array)
            assert seen[-1] == array.nbytes
            asked = [up for up, _ in cutter.connections if up.messages(GET)]
            assert len(asked) == streams
            assert len(cutter.connections) == streams  # they are used again


def test_a_connection_that_breaks_is_done_without(cutter: Cutter, connect: Callable[..., Any]) -> None:
    """Without retries."""
    for cut in (1, 1000, 300_000):
        cutter.connections.clear()
        with connect(cutter.addr) as c:
            cutter.limits = [(cut, FOREVER)]  # of the second connection
            receipt = c.put("b", RANDOM, streams=3, chunks=(1, 1 << 16))
            assert receipt.cells == CELLS
            assert not c.closed
            assert not cutter.limits
            np.testing.assert_array_equal(c.get("b", streams=3), RANDOM)
        with connect(cutter.addr) as c:
            cutter.limits = [(FOREVER, cut)]
            np.testing.assert_array_equal(c.get("b", streams=2), RANDOM)


def test_the_first_connection_breaks(cutter: Cutter, connect: Callable[..., Any]) -> None:
    limits = [(400_000, FOREVER)] * 3  # the others cannot send all of it before the first breaks
    cutter.limits = limits.copy()
    with connect(cutter.addr) as c:
        with pytest.raises(ndferry.ConnectionError):
            c.put("c", RANDOM, streams=3, chunks=(1, 1 << 16))
        assert c.closed
    cutter.limits = limits.copy()
    with connect(cutter.addr, retries=3) as c:
        assert c.put("c", RANDOM, streams=3, chunks=(1, 1 << 16)).cells == CELLS
        np.testing.assert_array_equal(c.get("c", streams=3), RANDOM)


def test_replaced_while_it_is_read(server: Server, connect: Callable[..., Any]) -> None:
    """It is one of the two, never a mixture."""
    other = RANDOM ^ 255
    with connect(server.addr) as writer, connect(server.addr, retries=100) as reader:
        writer.put("d", RANDOM, chunks=(1, 1 << 16))
        once = True

        def replace(_: int, __: int) -> None:
            nonlocal once
            if once:
                once = False
                with ndferry.connect(server.addr) as c:
                    c.put("d", other, chunks=(1, 1 << 16))

        got = reader.get("d", streams=4, progress=replace)
        assert not once
        assert np.array_equal(got, RANDOM) or np.array_equal(got, other)


def test_what_is_small_or_constant_needs_one(cutter: Cutter, connect: Callable[..., Any]) -> None:
    with connect(cutter.addr) as c:
        for array in (
            np.arange(1000.0),
            np.zeros((CELLS, 1 << 16), np.uint8),
            np.broadcast_to(RANDOM[:1], RANDOM.shape),
            np.zeros((0, 5)),
        ):
            c.put("e", array, streams=4)
            assert len(cutter.connections) == 1
            np.testing.assert_array_equal(c.get("e"), array)
        for bad in (0, 65, 1.0, True, "2"):
            with pytest.raises(ndferry.InvalidError):
                c.put("e", RANDOM, streams=bad)
            with pytest.raises(ndferry.InvalidError):
                c.get("e", streams=bad)


def test_split() -> None:
    for runs in ([(0, 1)], [(0, 7), (9, 2), (20, 1)], [(5, 1000)]):
        cells = [cell for first, n in runs for cell in range(first, first + n)]
        for count in range(1, 12):
            parts = split(runs, count)
            assert [cell for part in parts for first, n in part for cell in range(first, first + n)] == cells
            sizes = [sum(n for _, n in part) for part in parts]
            assert len(parts) == min(count, len(cells))
            assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("after", [1, 2])
def test_cancelled_in_between(server: Server, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection is stuck, and none goes on with memory that is the caller's again."""
    monkeypatch.setattr(_sending, "POLL_EVERY", 1 << 16)  # the first connection reports from its second cell on
    array = np.tile(RANDOM, (16, 1))

    async def run() -> None:
        async with await aio.connect(server.addr) as c:
            task = asyncio.current_task()
            assert task is not None
            calls = 0

            def stop(_: int, __: int) -> None:
                nonlocal calls
                calls += 1
                if calls == after:
                    task.cancel()

            with pytest.raises(asyncio.CancelledError):
                await c.put("f", array, streams=3, chunks=(1, 1 << 16), progress=stop)
            task.uncancel()
            assert len(asyncio.all_tasks()) == 1
        async with await aio.connect(server.addr) as c:
            await c.put("f", array, streams=3, chunks=(1, 1 << 16))
            np.testing.assert_array_equal(await c.get("f", streams=3), array)

    asyncio.run(run())
