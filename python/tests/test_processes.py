"""multiprocessing under its three start methods: a client that is inherited is refused, the example works."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
from typing import Any

import pytest

import ndferry
from conftest import REPOSITORY, Server

METHODS = ["fork", "spawn", "forkserver"]


@pytest.mark.parametrize("method", METHODS)
def test_the_example(memory_server: Server, method: str) -> None:
    program = REPOSITORY / "examples" / "pool_workers.py"
    command = [sys.executable, str(program), memory_server.addr, method]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == sum(n * n for n in range(8)) * 1e6


def _use(client: ndferry.Client, queue: Any) -> None:
    try:
        client.get("a")
    except ndferry.ConnectionError as error:
        queue.put(str(error))
    client.close()  # closes the child's copy only


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_client_inherited_by_fork(memory_server: Server) -> None:
    with ndferry.connect(memory_server.addr) as c:
        c.put("a", [1, 2, 3])
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        process = context.Process(target=_use, args=(c, queue))
        process.start()
        assert "inherited by fork" in queue.get()
        process.join(60)
        assert process.exitcode == 0
        assert list(c.get("a")) == [1, 2, 3]


def test_a_client_is_not_pickled(memory_server: Server) -> None:
    """What spawn and forkserver do to the arguments of a process."""
    with ndferry.connect(memory_server.addr) as c, pytest.raises(ndferry.Error, match="connect"):
        pickle.dumps(c)
