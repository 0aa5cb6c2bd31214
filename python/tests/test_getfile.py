"""Arrays fetched to .npy files: whole, cut at any point, killed, and gone on with by another process or the command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import ndferry
from conftest import Server
from cutter import FOREVER, GET, Cutter

CELLS = 24
ARRAY = np.random.default_rng(1).integers(0, 255, (CELLS, 1 << 16), np.uint8)
SMOOTH = np.sin(np.arange(CELLS << 14, dtype=np.float32) / 1000).reshape(CELLS, 1 << 14)
LAYERED = np.zeros(1000, [("a", "<i4"), ("b", "<f8", (2,)), ("c", "S5")])
LAYERED["a"] = np.arange(1000)

ARRAYS: dict[str, Any] = {
    "C": SMOOTH,
    "Fortran": np.asfortranarray(SMOOTH),
    "permuted": SMOOTH.reshape(CELLS, 128, 128).transpose(1, 0, 2),
    "big-endian": SMOOTH.astype(">f8"),
    "structured": LAYERED,
    "times": np.arange(1000).astype("<M8[ns]"),
    "text": np.array(["alpha", "beta"]),
    "constant": np.full((512, 1024), 7.5),
    "0-d": np.array(3.5),
    "empty": np.empty((0, 3), np.int16),
}


@pytest.fixture
def cutter(server: Server, tmp_path: Path) -> Iterator[Cutter]:
    made = Cutter(tmp_path / "cut", server.addr)
    yield made
    made.close()


def left(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


@pytest.mark.parametrize("case", ARRAYS)
def test_every_kind_of_array(server: Server, connect: Callable[..., Any], place: Path, case: str) -> None:
    array = ARRAYS[case]
    with connect(server.addr, timeout=60) as c:
        for digest in ("crc32c", "sha256"):
            c.put("a", array, digest=digest)
            stat = c.get_file("a", place / "a.npy", overwrite=True)
            assert (stat.shape, stat.dtype) == (array.shape, array.dtype)
            loaded = np.load(place / "a.npy")
            assert loaded.dtype == array.dtype
            assert loaded.tobytes() == array.tobytes()
            assert left(place) == ["a.npy"]


def test_what_a_npy_file_has_no_name_for(server: Server, place: Path) -> None:
    array = np.arange(100).astype(ml_dtypes.bfloat16)
    with ndferry.connect(server.addr, timeout=60) as c:
        c.put("a", array)
        c.get_file("a", place / "a.npy")
    assert np.load(place / "a.npy").tobytes() == array.tobytes()


CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "crc32c": (ARRAY, {"chunks": (1, 1 << 16)}),
    "sha256": (ARRAY, {"chunks": (1, 1 << 16), "digest": "sha256"}),
    "lz4": (SMOOTH, {"chunks": (1, 1 << 14), "codec": "lz4", "digest": "sha256"}),
    "Fortran": (np.asfortranarray(ARRAY), {"chunks": (CELLS, 1 << 12), "digest": "sha256"}),
    "gathered": (ARRAY, {"chunks": (CELLS // 2, 1 << 12)}),
}


@pytest.mark.parametrize("case", CASES)
def test_another_client_goes_on(cutter: Cutter, connect: Callable[..., Any], place: Path, case: str) -> None:
    array, options = CASES[case]
    with connect(cutter.addr, timeout=60) as c:
        c.put("a", array, **options)
        c.get_file("a", place / "whole.npy")
        whole = cutter.connections[-1][1]
    sent = whole.size
    for share in (0.2, 0.5, 0.9):
        path = place / f"{share}.npy"
        before = len(cutter.connections)
        cutter.limits = [(FOREVER, int(sent * share))]
        with connect(cutter.addr, timeout=60) as c, pytest.raises(ndferry.ConnectionError):
            c.get_file("a", path)
        assert left(place)[:2] == [f".{path.name}.part", f".{path.name}.part.state"]
        assert not path.exists()
        with connect(cutter.addr, timeout=60) as c:
            c.get_file("a", path)
        assert np.load(path).tobytes() == array.tobytes()
        assert np.load(path).flags.f_contiguous == array.flags.f_contiguous
        first, second = (connection[1].cells() for connection in cutter.connections[before:])
        assert first, "the cut came too early to show anything"
        assert not set(first) & set(second), "chunks that had come were sent again"
        assert len(second) < whole.cells().__len__()
        path.unlink()
    assert left(place) == ["whole.npy"]


def test_retries_ask_for_the_rest(cutter: Cutter, connect: Callable[..., Any], place: Path) -> None:
    with connect(cutter.addr, timeout=60) as c:
        c.put("a", ARRAY, chunks=(1, 1 << 16))
    cutter.limits = [(FOREVER, 600_000), (FOREVER, 700_000)]
    with connect(cutter.addr, timeout=60, retries=5) as c:
        c.get_file("a", place / "a.npy")
    assert (np.load(place / "a.npy") == ARRAY).all()
    sent = [cell for connection in cutter.connections[1:] for cell in connection[1].cells()]
    assert len(sent) == len(set(sent))


def test_several_connections(cutter: Cutter, connect: Callable[..., Any], place: Path) -> None:
    with connect(cutter.addr, timeout=60) as c:
        c.put("a", ARRAY, chunks=(1, 1 << 16), digest="sha256")
        c.get_file("a", place / "a.npy", streams=3)
    assert (np.load(place / "a.npy") == ARRAY).all()
    assert sum(bool(connection[1].cells()) for connection in cutter.connections) == 3


KILLED = """
import os, signal, sys, time
from pathlib import Path
import ndferry

state = Path(sys.argv[2]).with_name(".a.npy.part.state")
begun = 0

def progress(done, total):
    global begun
    if not begun:
        begun = state.stat().st_size
        time.sleep(0.3)  # then the next cell makes it time to save
    if done >= total * 3 // 4:
        while state.stat().st_size == begun:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)

with ndferry.connect(sys.argv[1], timeout=60) as c:
    c.get_file("a", sys.argv[2], progress=progress)
"""


def test_a_killed_process(cutter: Cutter, place: Path) -> None:
    """What was saved before is read, all of it, because the file was touched since; and not asked for again."""
    with ndferry.connect(cutter.addr, timeout=60) as c:
        c.put("a", ARRAY, chunks=(1, 1 << 16), digest="sha256")
    path = place / "a.npy"
    killed = subprocess.run([sys.executable, "-c", KILLED, cutter.addr, str(path)], check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert not path.exists()
    with ndferry.connect(cutter.addr, timeout=60) as c:
        c.get_file("a", path)
    assert (np.load(path) == ARRAY).all()
    assert len(cutter.connections[-1][1].cells()) < CELLS, "nothing was kept"
    assert left(place) == ["a.npy"]


def cut(cutter: Cutter, path: Path, **options: Any) -> list[int]:
    """A get that breaks; the cells that came."""
    cutter.limits = [(FOREVER, 1_000_000)]
    with ndferry.connect(cutter.addr, timeout=60) as c, pytest.raises(ndferry.ConnectionError):
        c.get_file("a", path, **options)
    return cutter.connections[-1][1].cells()


def test_what_was_changed_comes_again(cutter: Cutter, place: Path) -> None:
    with ndferry.connect(cutter.addr, timeout=60) as c:
        c.put("a", ARRAY, chunks=(1, 1 << 16))
    for resume in ("auto", "verify"):
        path = place / f"{resume}.npy"
        came = cut(cutter, path)
        with (place / f".{path.name}.part").open("r+b") as f:
            f.seek(128 + (1 << 16) * 3 + 77)
            old = f.read(1)[0]
            f.seek(-1, os.SEEK_CUR)
            f.write(bytes([old ^ 1]))
        with ndferry.connect(cutter.addr, timeout=60) as c:
            c.get_file("a", path, resume=resume)
        assert (np.load(path) == ARRAY).all()
        again = cutter.connections[-1][1].cells()
        assert set(again) & set(came) == {3}


@pytest.mark.parametrize("what", ["state", "file", "torn", "replaced", "newer"])
def test_what_is_of_no_use_comes_anew(cutter: Cutter, place: Path, what: str) -> None:
    array = ARRAY
    with ndferry.connect(cutter.addr, timeout=60) as c:
        c.put("a", ARRAY, chunks=(1, 1 << 16), digest="sha256")
        came = cut(cutter, place / "a.npy")
        state, part = place / ".a.npy.part.state", place / ".a.npy.part"
        content = state.read_bytes()
        if what == "state":
            state.write_bytes(content[:20] + b"\0" + content[21:])
        elif what == "file":
            part.unlink()
        elif what == "torn":
            state.write_bytes(content[:-1])
        elif what == "newer":
            state.write_bytes(content[:8] + b"\2" + content[9:])
        else:
            array = ARRAY[::-1]
            c.put("a", array, chunks=(1, 1 << 16), digest="sha256")
        c.get_file("a", place / "a.npy")
    assert (np.load(place / "a.npy") == array).all()
    again = cutter.connections[0][1].cells()
    assert set(came) <= set(again)
    assert left(place) == ["a.npy"]


def test_nothing_is_left_by_resume_off(cutter: Cutter, place: Path) -> None:
    with ndferry.connect(cutter.addr, timeout=60) as c:
        c.put("a", ARRAY, chunks=(1, 1 << 16))
        cut(cutter, place / "a.npy", resume="off")
        assert left(place) == []
        c.get_file("a", place / "a.npy", resume="off")
        with pytest.raises(ndferry.NotFoundError):
            c.get_file("b", place / "b.npy")
        with pytest.raises(ndferry.InvalidError, match="resume"):
            c.get_file("a", place / "b.npy", resume="perhaps")  # type: ignore[arg-type]
    assert left(place) == ["a.npy"]


def test_a_file_that_is_there(server: Server, connect: Callable[..., Any], place: Path) -> None:
    path = place / "a.npy"
    path.write_text("mine")
    (place / "link.npy").symlink_to("a.npy")
    (place / "dir.npy").mkdir()
    with connect(server.addr, timeout=60) as c:
        c.put("a", SMOOTH)
        for name in ("a.npy", "link.npy"):
            with pytest.raises(FileExistsError):
                c.get_file("a", place / name)
        with pytest.raises(FileExistsError):
            c.get_file("a", place / "dir.npy", overwrite=True)
        assert path.read_text() == "mine"
        c.get_file("a", str(place / "link.npy"), overwrite=True)
        assert c.ping() >= 0
    assert (place / "link.npy").is_symlink()
    assert (np.load(path) == SMOOTH).all()
    assert left(place) == ["a.npy", "dir.npy", "link.npy"]


def test_two_at_once(cutter: Cutter, server: Server, place: Path) -> None:
    """The second finds the state locked, and works without it."""
    with ndferry.connect(server.addr, timeout=60) as c, ndferry.connect(server.addr, timeout=60) as other:
        c.put("a", ARRAY, chunks=(1, 1 << 16))
        met = False

        def progress(done: int, total: int) -> None:
            nonlocal met
            if not met and done > total // 2:
                met = True
                other.get_file("a", place / "a.npy")

        with pytest.raises(FileExistsError):
            c.get_file("a", place / "a.npy", progress=progress)
    assert met
    assert (np.load(place / "a.npy") == ARRAY).all()


@pytest.mark.parametrize("case", ["crc32c", "sha256", "Fortran"])
def test_the_command_goes_on_and_is_gone_on_with(cutter: Cutter, server: Server, place: Path, case: str) -> None:
    array, options = CASES[case]
    path = place / "a.npy"
    command = [str(server.binary), "get", "a", str(path), "--addr", cutter.addr, "--retries", "0"]
    with ndferry.connect(cutter.addr, timeout=60) as c:
        c.put("a", array, **options)
    came = cut(cutter, path)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "going on with" in done.stderr
    assert not set(came) & set(cutter.connections[-1][1].cells())
    assert np.load(path).tobytes() == array.tobytes()
    path.unlink()

    cutter.limits = [(FOREVER, 1_000_000)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    came = cutter.connections[-1][1].cells()
    with ndferry.connect(cutter.addr, timeout=60) as c:
        c.get_file("a", path)
    assert not set(came) & set(cutter.connections[-1][1].cells())
    assert [request["cells"] for request in cutter.connections[-1][0].messages(GET)]
    assert np.load(path).tobytes() == array.tobytes()
    assert left(place) == ["a.npy"]
