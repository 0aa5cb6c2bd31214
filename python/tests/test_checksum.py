"""CRC32C by each of the functions that may make it."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import google_crc32c
import numpy as np
import pytest

from ndferry import _wire
from ndferry._wire import BULK


@pytest.fixture(params=["awscrt", "google_crc32c"])
def made_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The checksums of bulk are made by the extra ``fast``, or without it."""
    real: Callable[..., Any] = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("awscrt"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(_wire, "_bulk", _wire._first)
    if request.param != "awscrt":
        monkeypatch.setattr(builtins, "__import__", without)
    return str(request.param)


def test_both_are_crc32c(made_by: str) -> None:
    data = np.random.default_rng(32).integers(0, 256, 5 * BULK, np.uint8)
    data.flags.writeable = False
    for start in (0, 1, 63):
        for size in (0, 1, BULK - 1, BULK, BULK + 1, 2 * BULK + 17, len(data) - start):
            part = data[start : start + size]
            want = google_crc32c.value(part.tobytes())
            assert _wire.crc32c(part) == _wire.crc32c(part.tobytes()) == want, (made_by, start, size)
            for cut in (0, size // 3, size):
                assert _wire.crc32c(part[cut:], _wire.crc32c(part[:cut])) == want, (made_by, start, size, cut)
    assert (_wire._bulk is google_crc32c.extend) == (made_by == "google_crc32c")
