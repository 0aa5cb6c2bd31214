"""Fixtures: a strict peer in memory, and the real server."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import uvloop

import ndferry
from ndferry import aio
from peer import Peer

SEED = int(os.environ.get("NDFERRY_SEED", time.time_ns() % (1 << 32)))
"""Of the tests of properties."""

hypothesis.settings.register_profile(
    "properties", deadline=None, suppress_health_check=list(hypothesis.HealthCheck), print_blob=True
)  # nothing that is judged by a clock: a process that stands still for a second says nothing about the product
hypothesis.settings.load_profile("properties")


def pytest_report_header() -> str:
    """The seed, so that a run can be made again."""
    return f"NDFERRY_SEED={SEED}"


REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """SIGINT interrupts, also where whoever started the tests in the background had it ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    server = Peer(str(tmp_path / "peer"))
    yield server
    server.close()


class Bridge:
    """An `aio.Client` that looks like the blocking one, so that both take the same tests."""

    def __init__(self, addr: str, loop_factory: Callable[[], asyncio.AbstractEventLoop], **options: Any) -> None:
        self.runner = asyncio.Runner(loop_factory=loop_factory)
        try:
            self.client = self.runner.run(aio.connect(addr, **options))
        except BaseException:
            self.runner.close()
            raise

    def __enter__(self) -> Bridge:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self.runner.close()

    def __repr__(self) -> str:
        return repr(self.client)

    def iterate(self, prefix: str = "", **options: Any) -> list[ndferry.Entry]:
        async def collect() -> list[ndferry.Entry]:
            return [entry async for entry in self.client.iterate(prefix, **options)]

        return self.runner.run(collect())

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.client, name)
        if not inspect.iscoroutinefunction(value):
            return value

        def call(*args: Any, **options: Any) -> Any:
            coroutine = value(*args, **options)
            if asyncio._get_running_loop() is not None:  # in a callback: it must be refused before it waits
                coroutine.send(None)
            return self.runner.run(coroutine)

        return call


def _blocking(addr: str, **options: Any) -> ndferry.Client:
    return ndferry.connect(addr, **options)


def _asyncio(addr: str, **options: Any) -> Any:
    return Bridge(addr, asyncio.new_event_loop, **options)


def _uvloop(addr: str, **options: Any) -> Any:
    return Bridge(addr, uvloop.new_event_loop, **options)


@pytest.fixture(params=[_blocking, _asyncio, _uvloop], ids=lambda f: f.__name__[1:])
def connect(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Connects, with each of the clients."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def client(peer: Peer, connect: Callable[..., Any]) -> Iterator[ndferry.Client]:
    """Each of the clients."""
    yield from _connected(peer, connect)


@pytest.fixture
def blocking(peer: Peer) -> Iterator[ndferry.Client]:
    """The blocking client, for what only it has."""
    yield from _connected(peer, _blocking)


def _connected(peer: Peer, connect: Callable[..., Any]) -> Iterator[Any]:
    with connect(f"unix://{peer.path}", timeout=60) as c:
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
        command = [str(self.binary), "serve", "--store", self.url, "--listen", self.addr, "--control", "none"]
        if driver := os.environ.get("NDFERRY_DRIVER"):
            command += ["--driver", driver]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
            )
        assert self.process.stdout
        said = self.process.stdout.readline()
        if not said:
            self.process.wait(60)
            self._reap()
            pytest.fail(f"the server did not start: {self.log.read_text()}")
        if self.addr.endswith(":0"):
            self.addr = said.split()[-1]

    def stop(self) -> None:
        """End it as a user would; it must end well."""
        self.process.terminate()
        assert self.process.wait(90) == 0, self.log.read_text()  # it gives what is in flight 30 seconds
        self._reap()

    def kill(self) -> None:
        """Kill it with its workers."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60)
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
