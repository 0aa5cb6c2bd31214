"""What asyncio adds: turns, cancelling, uvloop. The methods themselves are tested in test_client.py."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
import uvloop

import ndferry
from conftest import Server
from ndferry import aio
from peer import MIB, Peer

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(asyncio.wait_for(coroutine, 60))

    return run


def test_the_same_methods() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(aio.Client) == public(ndferry.Client)


def test_the_real_server(run: Run, memory_server: Server) -> None:
    async def main() -> None:
        array = np.random.default_rng(0).standard_normal((3000, 1000))
        async with await aio.connect(memory_server.addr) as c:
            for digest in ("crc32c", "sha256"):
                await c.put("aio/a", array, digest=digest, attrs={"x": 1})
                out = np.empty_like(array)
                assert await c.get("aio/a", out=out) is out
                assert (out == array).all()
                assert (await (await c.open("aio/a"))[5:9, ::-2] == array[5:9, ::-2]).all()
            assert (await c.verify("aio/a")).ok
            assert [entry.name async for entry in c.iterate("aio/")] == ["aio/a"]
            await c.delete("aio/a")
            with pytest.raises(ndferry.NotFoundError):
                await c.stat("aio/a")

    run(main())


def test_tasks_take_turns_and_others_run(run: Run, peer: Peer) -> None:
    async def main() -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0)
                ticks += 1

        async with await aio.connect(f"unix://{peer.path}") as c:
            ticking = asyncio.create_task(tick())
            arrays = [np.full(20 * MIB, n, np.uint8) for n in range(4)]
            await asyncio.gather(*(c.put(f"a{n}", a) for n, a in enumerate(arrays)))
            for n, a in enumerate(await asyncio.gather(*(c.get(f"a{n}") for n in range(4)))):
                assert (a == n).all()
            ticking.cancel()
        assert ticks > 100, "the transfer holds the loop"

    run(main())


@pytest.mark.parametrize("after", [0, 1, 3, 30])
def test_cancel_leaves_it_usable_or_closed(run: Run, peer: Peer, after: int) -> None:
    async def main() -> None:
        big = np.ones(64 * MIB, np.uint8)
        for operation in ("put", "get"):
            c = await aio.connect(f"unix://{peer.path}")
            await c.put("a", big)
            task = asyncio.create_task(c.put("a", big) if operation == "put" else c.get("a"))
            waiting = asyncio.create_task(c.ping())
            for _ in range(after):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            if c.closed:
                with pytest.raises(ndferry.ConnectionError, match="closed"):
                    await waiting
                with pytest.raises(ndferry.ConnectionError, match="closed"):
                    await c.ping()
            else:
                assert await waiting > 0
                assert (await c.get("a")).sum() == big.size
            await c.close()

    run(main())


def test_cancel_of_one_that_waits_for_its_turn(run: Run, peer: Peer) -> None:
    async def main() -> None:
        async with await aio.connect(f"unix://{peer.path}") as c:
            big = np.ones(64 * MIB, np.uint8)
            first = asyncio.create_task(c.put("a", big))
            second = asyncio.create_task(c.ping())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            second.cancel()
            await first
            assert not c.closed
            assert await c.ping() > 0

    run(main())


def test_close_ends_what_another_task_waits_for(run: Run) -> None:
    async def main() -> None:
        a, b = socket.socketpair()
        with a, b:
            b.setblocking(False)
            receiving = asyncio.create_task(aio.recv_array(a, timeout=None))
            assert await asyncio.get_running_loop().sock_recv(b, 1)  # of its HELLO
            b.shutdown(socket.SHUT_WR)
            with pytest.raises(ndferry.ConnectionError) as caught:
                await receiving
            assert caught.value.closed

    run(main())


def test_timeout_and_deadline(run: Run) -> None:
    async def main() -> None:
        for options in ({"timeout": 0.05}, {"timeout": None, "deadline": 0.05}):
            a, b = socket.socketpair()
            with a, b, pytest.raises(ndferry.TimeoutError):
                await aio.recv_array(a, **options)
        a, b = socket.socketpair()
        with a, b:
            with pytest.raises(ndferry.TimeoutError):
                await aio.send_array(a, np.zeros(MIB), timeout=0.05)
            assert a.fileno() == -1

    run(main())


@pytest.mark.parametrize("mode", [None, 0.0, 5.0])
def test_directly(run: Run, mode: float | None) -> None:
    async def main() -> None:
        a, b = socket.socketpair()
        with a, b:
            a.settimeout(mode)
            for n in range(5):
                array = np.arange(n * 1_000_000, dtype="<f4")
                _, received = await asyncio.gather(
                    aio.send_array(a, array, attrs={"n": n}), aio.recv_array(b), return_exceptions=False
                )
                assert received.attrs == {"n": n}
                assert (received.array == array).all()
                a, b = b, a
            assert sorted([a.gettimeout() or 0, b.gettimeout() or 0]) == [0, mode or 0]

    run(main())


def test_nobody_there(run: Run) -> None:
    with pytest.raises(ndferry.ConnectionError):
        run(aio.connect("unix:///nowhere/at/all"))
    with pytest.raises(ndferry.ConnectionError):
        run(aio.connect("tcp://127.0.0.1:1"))
