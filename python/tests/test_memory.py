"""Memory of results that nobody uses any more serves the next, and only then."""

from __future__ import annotations

import copy
import gc
import os

import numpy as np
import pytest

import ndferry
from conftest import Server
from ndferry import _memory
from ndferry._wire import MIB

SIZE = 8 * MIB


@pytest.fixture(autouse=True)
def _none_kept() -> None:
    _memory._kept.clear()


def place(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def test_a_view_keeps_it() -> None:
    whole = _memory.empty(SIZE)
    where = place(whole)
    view = whole.view("<f4").reshape(2, -1).T[5:7]
    row = view[1:]
    del whole, view
    gc.collect()
    other = _memory.empty(SIZE)
    assert place(other) != where
    row[:] = 7
    other[:] = 1
    assert (row == 7).all()
    del row
    assert place(_memory.empty(SIZE)) == where
    assert place(_memory.empty(SIZE + 1)) != where


def test_no_more_is_kept_than_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_memory, "KEPT", 3 * SIZE + 12)
    arrays = [_memory.empty(SIZE + n) for n in range(5)]
    del arrays
    assert [len(memory) - SIZE for _, memory in _memory._kept] in ([2, 3, 4], [2, 1, 0])
    assert sum(len(memory) for _, memory in _memory._kept) <= 3 * SIZE + 12


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_leaves_it_to_the_parent() -> None:
    array = _memory.empty(SIZE)
    pid = os.fork()
    if pid == 0:
        del array
        os._exit(len(_memory._kept))
    assert os.waitpid(pid, 0)[1] == 0


def test_gets(memory_server: Server) -> None:
    rng = np.random.default_rng(5)
    a, b = (rng.integers(0, 255, (SIZE // 1024, 1024), np.uint8) for _ in range(2))
    with ndferry.connect(memory_server.addr) as c:
        c.put("a", a)
        c.put("b", b.T)
        first = c.get("a")
        where = place(first)
        second = c.get("b")
        assert place(second) != where
        np.testing.assert_array_equal(first, a)
        np.testing.assert_array_equal(second, b.T)
        assert second.flags.f_contiguous
        assert second.flags.writeable
        np.testing.assert_array_equal(copy.deepcopy(first), a)
        del first
        third = c.get("a")
        assert place(third) == where
        np.testing.assert_array_equal(third, a)
        np.testing.assert_array_equal(second, b.T)
