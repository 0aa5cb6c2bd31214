"""More than 2**31 elements, by hand: ``make exact-large``. It takes 10 GB of disk and 5 GB of memory."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import ndferry
from arrays import make
from conftest import Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

COUNT = (1 << 31) + 1009
MARKS = (0, 1, (1 << 31) - 1, 1 << 31, (1 << 31) + 1, COUNT - 1)


def run(server: Server, *command: Any) -> None:
    line = [str(part) for part in (server.binary, *command, "--addr", server.addr)]
    subprocess.run(line, check=True, timeout=600)


def sparse_file(path: Path, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """A .npy file of zeros with some other elements, most of which takes no space."""
    file = np.lib.format.open_memmap(path, "w+", np.dtype("u1"), shape)
    flat = file.reshape(-1)
    for number, place in enumerate(MARKS):
        flat[place] = number + 1
    file.flush()
    assert os.stat(path).st_blocks * 512 < 1 << 20
    return file


@pytest.mark.parametrize("shape", [(COUNT,), (3, (COUNT + 2) // 3)], ids=str)
def test_a_sparse_file(server: Server, tmp_path: Path, shape: tuple[int, ...]) -> None:
    file = sparse_file(tmp_path / "a.npy", shape)
    run(server, "put", tmp_path / "a.npy", "go")
    run(server, "get", "go", tmp_path / "b.npy")
    other = np.load(tmp_path / "b.npy", mmap_mode="r")
    assert same(file, other)
    (tmp_path / "b.npy").unlink()
    with ndferry.connect(server.addr, timeout=60) as c:
        c.delete("go")
        c.put("py", file)
        remote = c.open("py")
        for key in (np.s_[..., -1009:], np.s_[..., :: (1 << 30) + 1], np.s_[..., -1], np.s_[..., :1:-400_000_003]):
            assert np.array_equal(remote[key], file[key]), key
        whole = c.get("py")
        assert same(file, whole)
        del whole
        stored = zarr.open_array(str(server.root / "py"), mode="r")
        assert np.array_equal(np.asarray(stored[..., -5:]), file[..., -5:])
        assert c.verify("py").ok


def test_what_repeats(server: Server, tmp_path: Path) -> None:
    row = make(np.dtype("u1"), (1_000_003,))
    array = np.broadcast_to(row, (2200, 1_000_003))
    assert array.size > 1 << 31
    with ndferry.connect(server.addr, timeout=60) as c:
        assert c.put("rows", array).stored_bytes == row.size
        assert np.array_equal(c.open("rows")[-1, ::-1], row[::-1])
        whole = c.get("rows")
        assert whole.shape == array.shape
        assert all(np.array_equal(line, row) for line in whole)
        del whole
        run(server, "get", "rows", tmp_path / "rows.npy")
        assert all(np.array_equal(line, row) for line in np.load(tmp_path / "rows.npy", mmap_mode="r"))
        constant = np.broadcast_to(np.float64(np.pi), (COUNT, 5))
        assert c.put("pi", constant).stored_bytes == 0
        assert np.array_equal(c.open("pi")[COUNT - 2 :, 3], [np.pi, np.pi])
        run(server, "get", "pi", tmp_path / "pi.npy", "--region", "::-1000000007,4")
        assert np.array_equal(np.load(tmp_path / "pi.npy"), [np.pi] * 3)


def same(a: Any, b: Any) -> bool:
    """Equal, compared in pieces."""
    a, b = a.reshape(-1), b.reshape(-1)
    return a.size == b.size and all(
        np.array_equal(a[at : at + (1 << 26)], b[at : at + (1 << 26)]) for at in range(0, a.size, 1 << 26)
    )
