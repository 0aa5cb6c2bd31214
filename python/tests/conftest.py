"""Fixtures: a strict peer in memory, and the real server."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import ndferry
from peer import Peer

REPOSITORY = Path(__file__).resolve().parents[2]


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


class Server:
    """``ndferry serve`` on a store of its own and a Unix socket. `NDFERRY_BIN` names the program, else bin/ndferry."""

    def __init__(self, place: Path, store: str, addr: str = "") -> None:
        self.binary = Path(os.environ.get("NDFERRY_BIN", REPOSITORY / "bin" / "ndferry"))
        if not self.binary.is_file():
            pytest.fail(f"{self.binary} is missing: run make build", pytrace=False)
        self.store = place / "store"
        self.url = store.format(self.store)
        self.addr = addr or f"unix://{place}/socket"
        self.log = place / "log"
        self.start()

    def start(self) -> None:
        """Start, and wait for the line that says it is ready."""
        command = [str(self.binary), "serve", "--store", self.url, "--listen", self.addr]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout
        if not self.process.stdout.readline():
            self.process.wait(20)
            self._reap()
            pytest.fail(f"the server did not start: {self.log.read_text()}")

    def stop(self) -> None:
        """End it as a user would; it must end well."""
        self.process.terminate()
        assert self.process.wait(20) == 0, self.log.read_text()
        self._reap()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)
        self._reap()

    def _reap(self) -> None:
        assert self.process.stdout
        self.process.stdout.close()

    @property
    def root(self) -> Path:
        """The Zarr hierarchy in the store."""
        return self.store / "zarr"


def _running(place: Path, store: str) -> Iterator[Server]:
    server = Server(place, store)
    yield server
    if server.process.poll() is None:
        server.stop()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    yield from _running(tmp_path, "{}")


@pytest.fixture(scope="module")
def memory_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from _running(tmp_path_factory.mktemp("memory"), "mem:")
