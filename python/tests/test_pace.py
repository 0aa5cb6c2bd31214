"""Credit that follows the link: the numbers are those of `internal/pace`."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from conftest import Server
from ndferry import _pace
from ndferry._pace import Window
from ndferry._wire import CREDIT_AHEAD, CREDIT_STEP, FIRST_CREDIT, MAX_CELL, MIB, MIN_COST, PACE_INTERVAL


class Rig:
    """A window over a link of the test, with its clock."""

    def __init__(self, delay: float | None = 0.0) -> None:
        self.now = 1.0
        self.delay = delay
        self.window = Window(lambda: self.delay, lambda: self.now)
        self.has = FIRST_CREDIT

    def expect(self, cell: int) -> None:
        self.has += self.window.expect(cell)

    def arrive(self, count: int, after: float) -> None:
        self.now += after
        self.has += self.window.arrived(count) - count


def measured(delay: float, rate: int) -> Rig:
    """A rig that has seen `rate` bytes in a delay or the shortest interval, twice."""
    rig = Rig(delay)
    rig.arrive(0, 0)
    for _ in range(2):
        rig.arrive(rate, max(delay, PACE_INTERVAL))
    return rig


def test_not_known() -> None:
    rig = Rig(None)
    rig.expect(4 * MIB)
    for _ in range(100):
        rig.arrive(MIB, 1.0)
        assert FIRST_CREDIT - CREDIT_STEP < rig.has <= FIRST_CREDIT


@pytest.mark.parametrize("cell", [1, 4096, MIB, 4 * MIB, MAX_CELL])
def test_one_host(cell: int) -> None:
    rig = measured(0.0, 10 * MIB)
    rig.expect(cell)
    cost = max(cell, MIN_COST)
    most = cost + max(cost, CREDIT_AHEAD)
    for _ in range(200):
        rig.arrive(256 * 1024, 1e-3)
        assert rig.has >= cost  # another cell, whatever came
    assert rig.has <= most


def test_long_link() -> None:
    rig = measured(0.05, 5 * MIB)
    rig.expect(4 * MIB)
    for _ in range(100):
        rig.arrive(MIB, 0.01)
    assert 16 * MIB - MIB < rig.has <= 18 * MIB  # two cells, and twice what the link holds


def test_delay() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as sock:
        delay = _pace.delay(sock)
        assert delay is not None
        assert 0 < delay < 1
    a, b = socket.socketpair()
    with a, b:
        assert _pace.delay(a) is None


def test_get(memory_server: Server, connect: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    least: list[int] = []

    class Seen(Window):
        def arrived(self, count: int) -> int:
            more = super().arrived(count)
            least.append(self._given - self._came)
            return more

    monkeypatch.setattr("ndferry._core.Window", Seen)
    for driver in ("_blocking", "_asyncio"):
        monkeypatch.setattr(f"ndferry.{driver}.delay", lambda _: 0.0)
    a = np.random.default_rng(1).integers(0, 256, 48 * MIB, np.uint8)
    with connect(memory_server.addr) as c:
        for chunk in (4 * MIB, 1000 * 1024, MAX_CELL):
            c.put("pace", a, chunks=chunk, codec="none")
            assert np.array_equal(c.get("pace"), a)
            assert least[-1] >= chunk
        c.put("pace", a, codec="lz4")
        assert np.array_equal(c.get("pace"), a)
        assert least[-1] <= 8 * MIB
