"""A .npy file whose put is broken off goes on in another process, and nothing that was hashed is hashed again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ndferry
from conftest import Server
from cutter import FOREVER, Cutter
from ndferry import _putfile, _sending

CELLS = 48
ARRAY = np.random.default_rng(1).integers(0, 255, (CELLS, 1 << 16), np.uint8)
OPTIONS: dict[str, Any] = {"chunks": (1, 1 << 16), "codec": "none"}


@pytest.fixture
def cutter(server: Server, tmp_path: Path) -> Iterator[Cutter]:
    made = Cutter(tmp_path / "cut", server.addr)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where transfers are noted."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "ndferry"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The cells whose leaves are made."""
    cells: list[int] = []
    real = _putfile.Leaves.keep

    def keep(self: Any, cell: int, leaf: bytes) -> None:
        cells.append(cell)
        real(self, cell, leaf)

    monkeypatch.setattr(_putfile.Leaves, "keep", keep)
    return cells


@pytest.fixture
def file(tmp_path: Path) -> Path:
    np.save(tmp_path / "a.npy", ARRAY)
    return tmp_path / "a.npy"


def left(state: Path) -> list[str]:
    return sorted(path.suffix for path in state.iterdir()) if state.exists() else []


@pytest.mark.parametrize("digest", ["crc32c", "sha256"])
@pytest.mark.parametrize("codec", ["none", "lz4"])
def test_another_client_goes_on(
    cutter: Cutter, connect: Callable[..., Any], state: Path, file: Path, hashed: list[int], digest: Any, codec: Any
) -> None:
    options = OPTIONS | {"codec": codec, "digest": digest}
    cutter.limits = [(2_000_000, FOREVER)]
    with connect(cutter.addr, timeout=60) as c, pytest.raises(ndferry.ConnectionError):
        c.put_file("a", file, **options)
    assert left(state) == [".json", ".leaves"][: 1 + (digest == "sha256")]
    first = list(hashed)
    hashed.clear()
    with connect(cutter.addr, timeout=60) as c:
        receipt = c.put_file("a", file, **options)
        assert (c.get("a") == ARRAY).all()
        assert c.stat("a").id == receipt.id
    sent = [connection[0].cells() for connection in cutter.connections]
    assert sent[0]
    assert sent[1]
    assert not set(sent[0]) & set(sent[1]), "cells that had come were sent again"
    if digest == "sha256":
        assert len(first) + len(hashed) == CELLS
        assert not set(first) & set(hashed), "hashed again"
    assert left(state) == []


KILLED = """
import os, signal, sys, time
from pathlib import Path
import ndferry

state = Path(os.environ["XDG_STATE_HOME"]) / "ndferry"
begun = False

def progress(done, total):
    global begun
    if not begun:
        begun = True
        time.sleep(0.3)  # then the next leaf makes it time to write them down
    if done >= total // 2:
        while not any(state.glob("*.json")) or all(path.stat().st_size == 16 for path in state.glob("*.leaves")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)

with ndferry.connect(sys.argv[1], timeout=60) as c:
    c.put_file("a", sys.argv[2], chunks=(1, 1 << 16), codec="none", digest="sha256", progress=progress)
"""


def test_a_killed_process(
    cutter: Cutter, file: Path, state: Path, hashed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_sending, "POLL_EVERY", 1 << 20)
    script = "import ndferry._sending as s; s.POLL_EVERY = 1 << 18\n" + KILLED
    killed = subprocess.run([sys.executable, "-c", script, cutter.addr, str(file)], check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert left(state) == [".json", ".leaves"]
    with ndferry.connect(cutter.addr, timeout=60) as c:
        c.put_file("a", file, **OPTIONS, digest="sha256")
        assert (c.get("a") == ARRAY).all()
    first, second = (connection[0].cells() for connection in cutter.connections[:2])
    assert first
    assert not set(first) & set(second)
    assert len(hashed) < CELLS, "all were hashed again"
    assert left(state) == []


def cut(cutter: Cutter, file: Path, **options: Any) -> None:
    cutter.limits = [(2_000_000, FOREVER)]
    with ndferry.connect(cutter.addr, timeout=60) as c, pytest.raises(ndferry.ConnectionError):
        c.put_file("a", file, **OPTIONS, **options)


@pytest.mark.parametrize("what", ["touched", "replaced", "samples", "options", "note", "leaves"])
def test_what_is_of_no_use_begins_anew(
    cutter: Cutter, connect: Callable[..., Any], file: Path, state: Path, what: str
) -> None:
    """Also bytes that a file system changed without its times: 16 chunks of the note tell."""
    cut(cutter, file, digest="sha256")
    note = next(state.glob("*.json"))
    about = json.loads(note.read_text())
    assert len(about["samples"]) == min(16, ARRAY.nbytes >> 20)
    options: dict[str, Any] = {"digest": "sha256"}
    array = ARRAY
    if what == "touched":
        os.utime(file)
    elif what == "replaced":
        array = ARRAY + 1
        np.save(file, array)
    elif what == "samples":
        about["samples"][0][1] = "00" * 32
        note.write_text(json.dumps(about))
    elif what == "options":
        options = {"digest": "crc32c"}
    elif what == "note":
        note.write_text("{")
    else:
        leaves = next(state.glob("*.leaves"))
        content = bytearray(leaves.read_bytes())
        content[16 + 8] ^= 1
        leaves.write_bytes(content)
    with connect(cutter.addr, timeout=60) as c:
        receipt = c.put_file("a", file, **OPTIONS, **options)
        assert (c.get("a") == array).all()
        assert c.verify("a").ok
    assert (receipt.id == about["id"]) == (what == "leaves")
    assert left(state) == []


def test_nothing_is_noted_by_resume_off(cutter: Cutter, file: Path, state: Path) -> None:
    cut(cutter, file, resume="off")
    assert left(state) == []
    with ndferry.connect(cutter.addr, timeout=60) as c:
        c.put_file("a", file, resume="off")
        with pytest.raises(ndferry.InvalidError, match="id"):
            c.put_file("a", file, id="0" * 32)
        with pytest.raises(ndferry.InvalidError, match="resume"):
            c.put_file("a", file, resume="verify")  # type: ignore[arg-type]
        with pytest.raises(FileNotFoundError):
            c.put_file("a", file.with_name("none.npy"))
        np.save(file, np.array([{}], object), allow_pickle=True)
        with pytest.raises(ndferry.InvalidError, match="put_file"):
            c.put_file("a", file)
        small = file.with_name("small.npy")
        np.save(small, np.arange(6).reshape(2, 3), allow_pickle=False)
        c.put_file("b", small, retries=2)
        assert c.get("b").shape == (2, 3)


def test_retries_and_connections(cutter: Cutter, connect: Callable[..., Any], file: Path, state: Path) -> None:
    cutter.limits = [(1_000_000, FOREVER), (1_500_000, FOREVER)]
    with connect(cutter.addr, timeout=60, retries=5) as c:
        c.put_file("a", file, **OPTIONS, digest="sha256")
        c.put_file("b", file, **OPTIONS, streams=2)
        assert (c.get("a") == ARRAY).all()
        assert (c.get("b") == ARRAY).all()
    assert left(state) == []
