"""Fixtures: a strict peer in memory, and the real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import ndferry
from peer import Peer


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    server = Peer(str(tmp_path / "peer"))
    yield server
    server.close()


@pytest.fixture
def client(peer: Peer) -> Iterator[ndferry.Client]:
    with ndferry.connect(f"unix://{peer.path}", timeout=20) as c:
        yield c
    assert not [str(refused) for refused in peer.refused if refused.code in ("protocol", "integrity")]
