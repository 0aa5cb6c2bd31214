"""Lines that damage cells: exactly those travel again, and nobody notices."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import ndferry
from conftest import Server

CHUNK = 48
SEED = 12


class Damager:
    """Leads to a Unix socket, frame by frame, and turns a bit in a third of the cells, both ways.

    Which cells, and how often in a row, is the same in every run, in whichever order they come: three times at most, so
    that nobody may give up.
    """

    def __init__(self, path: Path, to: str) -> None:
        self.addr = f"unix://{path}"
        self.came: tuple[Counter[int], Counter[int]] = Counter(), Counter()
        self.damaged: tuple[Counter[int], Counter[int]] = Counter(), Counter()
        self._to = to.removeprefix("unix://")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._ends: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in self._ends:
            end.close()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX)
                self._ends += [near, far]
                far.connect(self._to)
                for way, (source, target) in enumerate([(near, far), (far, near)]):
                    thread = threading.Thread(target=self._move, args=(way, source, target))
                    self._threads.append(thread)
                    thread.start()

    def _move(self, way: int, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError), source.makefile("rb") as stream:
            while head := stream.read(32):
                kind, length, cell = struct.unpack("<4xB7xIQ", head[:24])
                rest = bytearray(stream.read(length + 8) if length else b"")
                if kind == CHUNK:
                    self.came[way][cell] += 1
                    chance = random.Random(f"{SEED} {way} {cell} {self.came[way][cell]}")
                    if chance.random() < 1 / 3 and self.damaged[way][cell] < 3:
                        self.damaged[way][cell] += 1
                        rest[chance.randrange(length)] ^= 1 << chance.randrange(8)
                target.sendall(head + rest)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


@pytest.fixture
def line(server: Server, tmp_path: Path) -> Iterator[Damager]:
    made = Damager(tmp_path / "line", server.addr)
    yield made
    made.close()


@pytest.mark.parametrize("codec", ["none", "lz4"])
@pytest.mark.parametrize("digest", ["crc32c", "sha256"])
@pytest.mark.parametrize("size", [1 << 12, 1 << 19])
def test_damaged_cells_travel_again(line: Damager, codec: str, digest: str, size: int) -> None:
    cells = 40
    a = np.arange(cells * size // 4, dtype=np.int32).reshape(cells, size // 4) // 7
    with ndferry.connect(line.addr, timeout=60) as c:
        c.put("a", a, chunks=(1, size // 4), codec=codec, digest=digest)  # type: ignore[arg-type]
        assert (c.get("a") == a).all()
    for way in (0, 1):
        assert line.came[way] == Counter(range(cells)) + line.damaged[way]
        assert sum(line.damaged[way].values()) > cells / 8


def test_damaged_cells_of_a_part_travel_again(line: Damager) -> None:
    a = np.arange(40 * 1024).reshape(40, 1024)
    with ndferry.connect(line.addr, timeout=60) as c:
        c.put("a", a, chunks=(1, 1024))
        part = c.open("a")[5:35:2, 10:20]
    assert (part == a[5:35:2, 10:20]).all()
    assert line.came[1] == Counter(range(5, 35, 2)) + line.damaged[1]
    assert line.damaged[1]


def test_cells_that_repeat_a_damaged_one(line: Damager) -> None:
    a = np.broadcast_to(np.arange(1 << 16, dtype=np.int32), (64, 1 << 16))
    with ndferry.connect(line.addr, timeout=60) as c:
        for i in range(6):
            c.put(f"a{i}", a)
            assert (c.get(f"a{i}") == a).all()
    assert line.damaged[0]
    assert line.damaged[1]
