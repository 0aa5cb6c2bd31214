"""What travels: the cells that are wanted and no others, and what repeats once. A proxy reads the frames and counts."""

from __future__ import annotations

import itertools
import math
import re
import subprocess
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import ndferry
from arrays import STRUCTURED, Array, make, same_elements
from conftest import Server
from cutter import Cutter

ALIAS, FILL = 49, 50
CODECS = ("none", "lz4", "zlib", "zstd")


class Counted:
    """A client whose frames are counted."""

    def __init__(self, server: Server, place: Path) -> None:
        self.server = server
        self.cutter = Cutter(place / "counted", server.addr)
        self.client = ndferry.connect(self.cutter.addr, timeout=60)

    def sent(self) -> tuple[list[int], int]:
        """The cells that went to the server since the last time, and the number of those that were only said."""
        return self._of(0)

    def came(self) -> tuple[list[int], int]:
        """The same of what came."""
        return self._of(1)

    def _of(self, direction: int) -> tuple[list[int], int]:
        cells, said = [], 0
        for streams in self.cutter.connections:
            stream = streams[direction]
            frames, stream.frames = stream.frames, []
            cells += [index for kind, index, _ in frames if kind == 48]
            said += sum(1 for kind, _, _ in frames if kind in (ALIAS, FILL))
        return cells, said


@pytest.fixture
def counted(server: Server, tmp_path: Path) -> Iterator[Counted]:
    made = Counted(server, tmp_path)
    yield made
    made.client.close()
    made.cutter.close()


def cell_numbers(shape: tuple[int, ...], chunks: tuple[int, ...], order: tuple[int, ...]) -> Array:
    """For each element the number of its cell, from the definition: C order of the grid of the axes in memory order."""
    places = np.indices(shape)
    numbers = np.zeros(shape, int)
    for axis in order:
        numbers = numbers * -(-shape[axis] // chunks[axis]) + places[axis] // chunks[axis]
    return numbers


SHAPE = (13, 11, 9)
KEYS: list[Any] = [
    np.s_[10:20, ..., 3],
    np.s_[::2, -1],
    np.s_[...],
    np.s_[5, 5, 5],
    np.s_[::-7, 2:3, ::5],
    np.s_[-1:0:-4],
    np.s_[:, [0, 10, 0, 3]],
    np.s_[[12, -13], 4:6, 1],
    np.s_[np.arange(13) % 5 == 1, ..., 8],
    np.s_[np.zeros(13, bool)],
    np.s_[3:3],
    np.s_[:, np.array([[1, 2], [3, 4]]), 0],
]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)], ids=str)
@pytest.mark.parametrize("dtype", ["<f8", "packed", "mixed order"])
def test_only_touched_cells_come(counted: Counted, order: tuple[int, ...], codec: Any, dtype: str) -> None:
    c = counted.client
    kind = STRUCTURED.get(dtype, np.dtype("<f8"))
    array = make(kind, tuple(SHAPE[axis] for axis in order)).transpose(*np.argsort(order))
    chunks = (4, 3, 5)
    c.put("a", array, chunks=chunks, codec=codec, shuffle="none" if kind.names else "auto")
    numbers = cell_numbers(SHAPE, chunks, order)
    remote = c.open("a")
    assert (remote.shape, remote.dtype, remote.ndim, remote.chunks) == (SHAPE, kind, 3, chunks)
    for key in KEYS:
        counted.came()
        got = remote[key]
        cells, said = counted.came()
        assert sorted(cells) == sorted(set(numbers[key].ravel().tolist())), key
        assert said == 0
        want = array[key]
        assert (np.shape(got), got.dtype) == (np.shape(want), want.dtype), key
        assert same_elements(np.asarray(want), np.asarray(got)), key
    counted.came()
    assert same_elements(np.asarray(remote), array)
    assert sorted(counted.came()[0]) == list(range(numbers.max() + 1))


REGIONS: dict[str, Any] = {
    "0:10,:,5": np.s_[0:10, :, 5],
    "::2,-1": np.s_[::2, -1],
    "...": np.s_[...],
    "": (),
    "5,5,5": (5, 5, 5),
    "::-7,2:3,::5": np.s_[::-7, 2:3, ::5],
    "-1:0:-4": np.s_[-1:0:-4],
    "3:3": np.s_[3:3],
    "..., -9": np.s_[..., -9],
    "12,": (12,),
    "::99,::-99": np.s_[::99, ::-99],
    "-99:99": np.s_[-99:99],
}
BAD_REGIONS: dict[str, Any] = {
    "13": 13,
    "0,-12": (0, -12),
    "0,0,0,0": (0, 0, 0, 0),
    "...,...": (..., ...),
    "::0": np.s_[::0],
}


def test_regions_of_the_command_line(counted: Counted, tmp_path: Path) -> None:
    array = make(np.dtype(">i4"), (13, 9, 11)).transpose(0, 2, 1)
    counted.client.put("a", array, chunks=(4, 3, 5))
    numbers = cell_numbers(SHAPE, (4, 3, 5), (0, 2, 1))
    for number, (text, key) in enumerate(REGIONS.items()):
        counted.came()
        done = get(counted, "a", tmp_path / f"{number}.npy", text)
        assert done.returncode == 0, done.stderr
        part = np.load(tmp_path / f"{number}.npy")
        assert (part.dtype, part.shape) == (array.dtype, array[key].shape), text
        assert np.array_equal(part, array[key]), text
        assert sorted(counted.came()[0]) == sorted(set(numbers[key].ravel().tolist())), text
    for text, key in BAD_REGIONS.items():
        done = get(counted, "a", tmp_path / "bad.npy", text)
        with pytest.raises((IndexError, ValueError)) as error:
            array[key]
        assert done.returncode == 2, text
        assert str(error.value) in done.stderr, text
        assert not (tmp_path / "bad.npy").exists()


def get(counted: Counted, name: str, file: Path, region: str) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [
        counted.server.binary,
        "get",
        name,
        file,
        "--addr",
        counted.cutter.addr,
        f"--region={region}",
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


REPEATS: dict[str, Callable[[], Array]] = {
    "rows": lambda: np.broadcast_to(make(np.dtype("<f8"), (20_000,)), (50, 20_000)),
    "columns": lambda: np.broadcast_to(make(np.dtype(">i4"), (30_000, 1)), (30_000, 41)),
    "middle": lambda: np.broadcast_to(make(np.dtype("<u2"), (20, 1, 3000)), (20, 7, 3000)),
    "outer and inner": lambda: np.broadcast_to(make(np.dtype("|S3"), (30_000, 1)), (13, 30_000, 11)),
    "structure": lambda: np.broadcast_to(make(STRUCTURED["mixed order"], (9000,)), (5, 9000)),
    "backwards": lambda: np.broadcast_to(make(np.dtype("<c8"), (20_000,))[::-1], (3, 20_000)),
}


@pytest.mark.parametrize("digest", ["crc32c", "sha256"])
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", REPEATS)
def test_repeats_travel_once(counted: Counted, name: str, codec: Any, digest: Any) -> None:
    """With every codec and digest: to the server, from it, in regions, and for another reader of the store."""
    c, array = counted.client, REPEATS[name]()
    receipt = c.put("a", array, codec=codec, digest=digest, shuffle="none" if array.dtype.names else "auto")
    distinct = math.prod(n for n, step in zip(array.shape, array.strides, strict=True) if step) * array.dtype.itemsize
    sent, said = counted.sent()
    assert len(sent) * (array.nbytes // distinct) == receipt.cells
    assert said
    assert receipt.stored_bytes <= distinct + 16 * len(sent)
    counted.came()
    back = c.get("a")
    assert back.dtype == array.dtype
    assert same_elements(back, array)
    assert sorted(counted.came()[0]) == sent
    if digest == "sha256":
        whole = np.ascontiguousarray(array).copy()
        c.put("b", whole, codec="none", digest="sha256", chunks=c.stat("a").chunks)
        if c.stat("a").order == c.stat("b").order:
            assert c.stat("b").digest == receipt.digest
    remote = c.open("a")
    for key in (np.s_[1:3], np.s_[::-2], np.s_[[2, 0]], np.s_[-1, 5]):
        assert same_elements(np.asarray(remote[key]), np.asarray(array[key])), key
    assert c.verify("a").ok
    if array.dtype.names is None:
        other = zarr.open_array(str(counted.server.root / "a"), mode="r")
        assert same_elements(np.asarray(other[...]), array)


CONSTANTS: dict[str, Callable[[], Array]] = {
    "zeros": lambda: np.zeros((300, 500)),
    "NaN with a payload": lambda: np.full(100_000, np.array(0x7FC00001, "<u4").view("<f4")),
    "padded structure": lambda: np.full(20_000, np.array((7, 2.5), STRUCTURED["padded"])),
    "big-endian complex": lambda: np.full((100, 100), 1 - 2j, ">c16"),
    "text": lambda: np.full(50_000, "häß"),
}


@pytest.mark.parametrize("codec", ["auto", "none", "zstd"])
@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_do_not_travel(counted: Counted, name: str, codec: Any, tmp_path: Path) -> None:
    c, array = counted.client, CONSTANTS[name]()
    receipt = c.put("a", array, codec=codec, digest="sha256", shuffle="none" if array.dtype.names else "auto")
    assert counted.sent() == ([], 1)
    assert receipt.stored_bytes == 0
    assert same_elements(c.get("a"), array)
    cells, said = counted.came()
    assert not cells
    assert said
    assert same_elements(c.open("a")[3:5], array[3:5])
    if array.dtype.names is None:
        assert same_elements(np.asarray(zarr.open_array(str(counted.server.root / "a"), mode="r")[...]), array)
        np.save(tmp_path / "a.npy", array)  # from Go
        commands: tuple[tuple[str | Path, ...], ...] = (
            ("put", tmp_path / "a.npy", "b"),
            ("get", "b", tmp_path / "b.npy"),
        )
        for command in commands:
            subprocess.run(
                [counted.server.binary, *command, "--addr", counted.cutter.addr], check=True, capture_output=True
            )
            assert not counted.sent()[0]
            assert not counted.came()[0]
        assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_one_row_of_a_large_broadcast(counted: Counted) -> None:
    """500 x 1,000,000 of one row."""
    row = make(np.dtype("u1"), (1_000_000,))
    array = np.broadcast_to(row, (500, 1_000_000))
    receipt = counted.client.put("a", array)
    assert receipt.stored_bytes == 1_000_000
    assert counted.sent()[0] == [0]
    assert counted.cutter.connections[0][0].size < 1_010_000
    counted.came()
    back = counted.client.get("a")
    assert counted.came()[0] == [0]
    assert back.shape == array.shape
    assert all(np.array_equal(line, row) for line in back[::50])
    assert bool((back == row).all())


VIEWS: dict[str, tuple[Any, int]] = {
    "transposed": (lambda a: a.transpose(1, 0), 1 << 20),
    "strided": (lambda a: a[:, ::2], 5 << 20),
    "backwards": (lambda a: a[::-1, ::-1], 5 << 20),
    "every other, transposed": (lambda a: a[::2, ::2].T, 5 << 20),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_are_gathered_in_bounded_memory(server: Server, name: str) -> None:
    view, most = VIEWS[name]
    array = view(np.arange(1 << 23, dtype="<i8").reshape(1 << 11, 1 << 12))  # 64 MiB in cells of 4
    with ndferry.connect(server.addr, timeout=60) as c:
        c.put("warm", np.zeros(3))
        tracemalloc.start()
        try:
            c.put("a", array)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        print(f"{name}: {peak / (1 << 20):.1f} MiB for {array.nbytes / (1 << 20):.0f}")
        assert peak < most
        assert np.array_equal(c.get("a"), array)


def nested(depth: int) -> dict[str, Any]:
    value: Any = 1
    for _ in itertools.repeat(None, depth - 1):
        value = [value]
    return {"a": value}


def text_of(size: int) -> dict[str, str]:
    return {"a": "x" * (size - len('{"a":""}'))}


@pytest.mark.parametrize(
    "attrs",
    [nested(16), text_of(1 << 20), {"i": [2**53 + 1, -(2**64), 10**300], "f": [0.1, 5e-324, 1.7976931348623157e308]},
     {"": "\x00 \U0001f600", "é": None, "dtype": "x", "shape": [9]}],
    ids=["depth 16", "1 MiB", "numbers", "text"],
)  # fmt: skip
def test_attributes_come_back(server: Server, attrs: dict[str, Any]) -> None:
    with ndferry.connect(server.addr, timeout=60) as c:
        c.put("a", np.zeros(3), attrs=attrs)
        back = c.open("a").attrs
        assert back == attrs
        assert repr(back) == repr(attrs)  # integers stay integers, floats floats
        assert zarr.open_array(str(server.root / "a"), mode="r").attrs.asdict() == attrs


@pytest.mark.parametrize(
    "attrs",
    [nested(17), text_of((1 << 20) + 1), {"a": float("nan")}, {"a": [float("-inf")]}, {"a": {1, 2}}, {"a": b"x"},
     {1: 2}, {"a": "\ud800"}, {"a": np.float32(1)}, ["a"]],
    ids=["depth 17", "over 1 MiB", "NaN", "infinity", "set", "bytes", "key", "surrogate", "NumPy scalar", "list"],
)  # fmt: skip
def test_attributes_that_are_refused(server: Server, attrs: Any) -> None:
    with ndferry.connect(server.addr, timeout=60) as c:
        with pytest.raises((ndferry.InvalidError, ndferry.LimitError), match="attr"):
            c.put("a", np.zeros(3), attrs=attrs)
        with pytest.raises(KeyError):
            c.stat("a")


def test_attributes_of_the_command_line(server: Server, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3))

    def put(*attrs: str) -> subprocess.CompletedProcess[str]:
        flags = [part for attr in attrs for part in ("--attr", attr)]
        command: list[str | Path] = [server.binary, "put", tmp_path / "a.npy", "a", "--addr", server.addr, *flags]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    deep = "[" * 15 + "1" + "]" * 15
    assert put("i=123456789012345678901234567890", "f=1.10", f"d={deep}", "s=NaN").returncode == 0
    shown = subprocess.run(
        [server.binary, "stat", "a", "--addr", server.addr], capture_output=True, text=True, check=True
    ).stdout
    assert re.search(r'"i":123456789012345678901234567890\b', shown)
    assert '"f":1.10' in shown  # the text itself
    with ndferry.connect(server.addr, timeout=60) as c:
        assert c.stat("a").attrs["i"] == 123456789012345678901234567890
        assert c.stat("a").attrs["s"] == "NaN"
    named: list[str | Path] = [server.binary, "put", tmp_path / "a.npy", "named", "--addr", server.addr, "--dims"]
    assert subprocess.run([*named, "time"], capture_output=True, timeout=60).returncode == 0
    with ndferry.connect(server.addr, timeout=60) as c:
        assert c.open("named").dims == ("time",)
    about = subprocess.run([server.binary, "stat", "named", "--addr", server.addr], capture_output=True, text=True)
    assert re.search(r"^dims +time$", about.stdout, re.MULTILINE)
    assert subprocess.run([*named, "time,y"], capture_output=True, timeout=60).returncode == 2
    refused = put(f"d=[{deep}]")
    assert refused.returncode in (2, 8)
    assert "deep" in refused.stderr or "depth" in refused.stderr or "nest" in refused.stderr
