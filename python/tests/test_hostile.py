"""Servers that hang, trickle, vanish or are something else, over real sockets."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ndferry
from cutter import Stream
from ndferry import _blocking
from ndferry._blocking import Driver
from ndferry._core import Session
from ndferry._frames import Receive
from ndferry._wire import MIB
from test_core import CHUNKS, CONVERSATIONS, HELLO, HELLO_FRAME, HELLO_MESSAGE, META, META_MESSAGE, frame

Script = Callable[[socket.socket], None]
PING, FINISH, GET = 2, 17, 18


@contextlib.contextmanager
def serving(path: Path, script: Script) -> Iterator[str]:
    """One connection that `script` answers, in a thread that is joined."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path / "s"))
    listener.listen()

    def run() -> None:
        sock, _ = listener.accept()
        with sock, contextlib.suppress(OSError):
            script(sock)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield f"unix://{path}/s"
    finally:
        thread.join(60)
        listener.close()
        assert not thread.is_alive()


def until_closed(sock: socket.socket) -> None:
    """Read until the other side is gone."""
    sock.settimeout(60)
    while sock.recv(1 << 16):
        pass


def until_asked(sock: socket.socket, kind: int) -> None:
    """Read until the other side has sent a frame of that kind: it is in the middle of what it does then."""
    sock.settimeout(60)
    said = Stream()
    while not any(found == kind for found, _, _ in said.frames):
        data = sock.recv(1 << 16)
        assert data
        said.passed(data)


def hurried(addr: str, timeout: float) -> ndferry.Client:
    """A client with a short `timeout` that gives the server, which may be slow to run, time for its HELLO."""
    c = ndferry.connect(addr, timeout=60)
    c._driver._timeout = timeout
    return c


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_silence_after_any_part(tmp_path: Path, name: str) -> None:
    """Silence in a header, a payload and a trailer ends after `timeout`."""
    data = HELLO_FRAME + CONVERSATIONS[name][0]
    hello = len(HELLO_FRAME)
    for i, end in enumerate((0, 10, hello - 1, hello, hello + 10, hello + 33, len(data) - 1)):
        place = tmp_path / str(i)
        place.mkdir()

        def script(sock: socket.socket, end: int = end) -> None:
            sock.sendall(data[: min(end, len(data) - 1)])
            until_closed(sock)

        with serving(place, script) as addr:
            started = time.monotonic()
            with pytest.raises(ndferry.TimeoutError) as caught, ndferry.connect(addr, timeout=0.1) as c:
                operate(c, name)
            assert isinstance(caught.value, TimeoutError)
            assert 0.09 < time.monotonic() - started < 60


def operate(c: ndferry.Client, name: str) -> Any:
    if name == "put":
        return c.put("a", np.arange(10, dtype="<u2"), chunks=(4,), id=META_MESSAGE["id"])
    if name == "list":
        return c.list()
    return getattr(c, name)("a")


def test_a_trickle_ends(tmp_path: Path) -> None:
    """A byte now and then is no progress; the deadline ends what is."""
    data = HELLO_FRAME + frame(META, META_MESSAGE)

    def script(sock: socket.socket) -> None:
        sock.sendall(HELLO_FRAME)
        for i in range(len(HELLO_FRAME), len(data)):
            sock.sendall(data[i : i + 1])
            time.sleep(0.01)

    with serving(tmp_path, script) as addr, hurried(addr, 0.2) as c:
        started = time.monotonic()
        with pytest.raises(ndferry.TimeoutError):
            c.stat("a")
        assert time.monotonic() - started > 0.19
        assert c.closed


def test_deadline_ends_what_makes_progress(tmp_path: Path) -> None:
    def script(sock: socket.socket) -> None:
        sock.sendall(HELLO_FRAME)
        while True:
            sock.sendall(frame(200, bytes(60_000), 0))
            time.sleep(0.01)

    with serving(tmp_path, script) as addr, ndferry.connect(addr, timeout=60) as c:
        started = time.monotonic()
        with pytest.raises(ndferry.TimeoutError):
            c.stat("a", deadline=0.3)
        assert 0.29 < time.monotonic() - started < 60
        assert c.closed


class Waiting:
    """The socket of a client whose `timeout` is short until it has sent a PING, and long until something comes."""

    def __init__(self, c: ndferry.Client) -> None:
        self.driver, self.sock = c._driver, c._driver._sock
        self.driver._sock = self  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)

    def send(self, data: Any) -> int:
        if bytes(data[:5]) == b"NDF1\2":
            self.driver._arm(60)
        return self.sock.send(data)

    def recv_into(self, *arguments: Any) -> int:
        got = self.sock.recv_into(*arguments)
        self.driver._arm(0.1)
        return got


def test_a_busy_server_that_answers_pings_is_waited_for(tmp_path: Path) -> None:
    """However long the PONG takes to come here, where client and server share a processor with others."""
    pings = 0

    def script(sock: socket.socket) -> None:
        nonlocal pings
        sock.sendall(HELLO_FRAME)
        sock.settimeout(60)
        for i in range(6):
            while (data := sock.recv(1 << 16)) and data[-32:-27] != b"NDF1\2":  # until a PING is at the end
                pass
            pings += bool(data)
            if i < 5:
                sock.sendall(frame(3, b"", 0, index=1))
        sock.sendall(CONVERSATIONS["put"][0] + frame(3, b"", 0, index=1))
        until_closed(sock)

    with serving(tmp_path, script) as addr, hurried(addr, 0.1) as c:
        Waiting(c)
        assert operate(c, "put").id == META_MESSAGE["id"]
        assert not c.closed
    assert pings == 6
    (tmp_path / "s").unlink()
    with serving(tmp_path, script) as addr, hurried(addr, 0.1) as c:
        with pytest.raises(ndferry.TimeoutError):
            c.put("a", np.arange(10), deadline=0.25)
        assert c.closed
    assert pings < 12, "the deadline has ended it"


def test_a_server_that_answers_no_ping_is_not_waited_for(tmp_path: Path) -> None:
    def script(sock: socket.socket) -> None:
        sock.sendall(HELLO_FRAME)
        until_asked(sock, PING)
        asked.set()
        until_closed(sock)

    asked = threading.Event()
    with serving(tmp_path, script) as addr, hurried(addr, 0.1) as c:
        started = time.monotonic()
        with pytest.raises(ndferry.TimeoutError):
            operate(c, "put")
        assert 0.19 < time.monotonic() - started < 60
        assert c.closed
    assert asked.is_set()


def test_close_from_another_thread_ends_what_waits(tmp_path: Path) -> None:
    def script(sock: socket.socket) -> None:
        sock.sendall(HELLO_FRAME)
        until_closed(sock)

    with serving(tmp_path, script) as addr, ndferry.connect(addr, timeout=60) as c:
        timer = threading.Timer(0.1, c.close)
        started = time.monotonic()
        timer.start()
        with pytest.raises(ndferry.ConnectionError):
            c.get("a")
        assert time.monotonic() - started < 55, "it has waited for the timeout"
        timer.join()
        assert c.closed


def test_a_server_that_stops_reading(tmp_path: Path) -> None:
    def script(sock: socket.socket) -> None:
        sock.sendall(HELLO_FRAME)
        done.wait(60)

    done = threading.Event()
    with serving(tmp_path, script) as addr, hurried(addr, 0.2) as c:
        with pytest.raises(ndferry.TimeoutError):
            c.put("a", np.resize(np.arange(251, dtype=np.uint8), 1 << 24))
        assert c.closed
        done.set()


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_server_that_vanishes(tmp_path: Path, name: str) -> None:
    data = CONVERSATIONS[name][0]
    for i, end in enumerate((0, 1, 31, 32, 33, len(data) // 2, len(data) - 1)):
        place = tmp_path / str(i)
        place.mkdir()

        def script(sock: socket.socket, end: int = end) -> None:
            sock.sendall(HELLO_FRAME)
            sock.recv(1 << 16)
            sock.sendall(data[: min(end, len(data) - 1)])

        with serving(place, script) as addr, ndferry.connect(addr, timeout=60) as c:
            with pytest.raises(ndferry.ConnectionError) as caught:
                operate(c, name)
            assert isinstance(caught.value, ConnectionError)
            assert caught.value.retryable
            assert c.closed


def test_the_reason_of_a_server_that_closes_in_mid_put(tmp_path: Path) -> None:
    def script(sock: socket.socket) -> None:
        sock.sendall(HELLO_FRAME)
        sock.recv(1 << 16)
        sock.sendall(frame(4, {"code": "shutdown", "message": "the server is going", "retryable": True}, 0))

    with serving(tmp_path, script) as addr, ndferry.connect(addr, timeout=60) as c:
        with pytest.raises(ndferry.TemporaryError, match="going"):
            c.put("a", np.resize(np.arange(251, dtype=np.uint8), 1 << 26))
        assert c.closed


def test_the_reason_of_a_server_that_closes_at_once(tmp_path: Path) -> None:
    def script(sock: socket.socket) -> None:
        sock.sendall(frame(4, {"code": "limit", "message": "too many connections", "retryable": True}, 0))
        sock.shutdown(socket.SHUT_RD)

    for _ in range(20):  # the client may write before or after the server is gone
        with serving(tmp_path, script) as addr, pytest.raises(ndferry.LimitError, match="too many"):
            ndferry.connect(addr, timeout=60)
        (tmp_path / "s").unlink()


def test_a_short_write_is_continued(tmp_path: Path) -> None:
    """Small socket buffers and a slow reader: every call comes back short."""
    from peer import Peer

    peer = Peer(str(tmp_path / "p"))
    c = ndferry.connect(f"unix://{peer.path}", timeout=60)
    sock: Any = c._driver._sock
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    old = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)  # interrupted calls come back short too
    try:
        a = np.random.default_rng(0).random(2_000_000)
        for array in (a, a.reshape(1000, 2000).T, a[::3]):
            c.put("a", array)
            np.testing.assert_array_equal(c.get("a"), array)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    c.close()
    peer.close()
    assert not peer.refused


class Slow:
    """A socket of which each call takes a second, of a clock that stands still otherwise, and moves `step` bytes."""

    def __init__(self, step: int) -> None:
        self.step, self.now = step, 0.0

    def monotonic(self) -> float:
        return self.now

    def sendmsg(self, buffers: Any) -> int:
        self.now += 1
        return min(self.step, sum(map(len, buffers)))

    def send(self, data: Any) -> int:
        return self.sendmsg([data])

    def recv_into(self, view: Any, size: int = 0, flags: int = 0) -> int:
        return self.sendmsg([view])


@pytest.mark.parametrize("step", [1 << 10, 6 << 10, 7 << 10, 60 << 10, 70 << 10])
def test_progress_is_the_sum_of_short_calls(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As signals make them: 64 KiB in the time of `timeout` are progress, however many calls bring them."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        driver = Driver(ours, 10)
        driver._near = False
        driver._sock = slow = Slow(step)  # type: ignore[assignment]
        monkeypatch.setattr(_blocking, "time", slow)
        calls: tuple[Callable[[], int], ...] = (
            lambda: driver._receive(Receive(np.zeros(MIB, np.uint8), MIB)),
            lambda: driver._send([bytes(MIB)]),
            lambda: driver._send([bytes(MIB // 2)] * 2),
        )
        for call in calls:
            if step * 10 >= 1 << 16:
                call()
            else:
                with pytest.raises(BlockingIOError):
                    call()


@pytest.mark.parametrize("where", ["get", "put"])
def test_an_interrupt_while_waiting_closes(tmp_path: Path, where: str) -> None:
    def script(sock: socket.socket) -> None:
        sock.sendall(HELLO_FRAME + (frame(META, META_MESSAGE) + CHUNKS[:40] if where == "get" else b""))
        until_asked(sock, GET if where == "get" else FINISH)
        time.sleep(0.1)  # a signal between two system calls is noticed when the next one ends, by `timeout`
        os.kill(os.getpid(), signal.SIGINT)
        until_closed(sock)

    with serving(tmp_path, script) as addr, hurried(addr, 15) as c:
        with pytest.raises(KeyboardInterrupt):
            operate(c, where)
        assert c.closed


def test_a_huge_length_allocates_nothing(tmp_path: Path) -> None:
    def script(sock: socket.socket) -> None:
        sock.sendall(HELLO_FRAME)
        for _ in range(2):
            sock.recv(1 << 16)
            sock.sendall(frame(META, length=2**32 - 1))

    with serving(tmp_path, script) as addr, ndferry.connect(addr, timeout=60) as c:
        tracemalloc.start()
        try:
            with pytest.raises(ndferry.LimitError):
                c.get("a")
            peak = tracemalloc.get_traced_memory()[1]  # of NumPy too, and also of what is never touched
        finally:
            tracemalloc.stop()
        assert c.closed
    assert peak < 8 << 20


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(ndferry.ConnectionError, match="running"):
        ndferry.connect(f"unix://{tmp_path}/nothing")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        with pytest.raises(ndferry.ConnectionError, match="refused"):
            ndferry.connect("tcp://{}:{}".format(*sock.getsockname()))


@pytest.mark.parametrize(
    "addr", ["", "x", "tcp://", "tcp://h", "tcp://h:", "tcp://h:0", "tcp://h:65536", "tcp://:1", "unix://", "unix://a",
             "unix://@", "http://h:1", "h:1:²"],
)  # fmt: skip
def test_addresses_that_are_none(addr: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NDFERRY_ADDR", "nonsense")
    with pytest.raises(ndferry.InvalidError, match="address"):
        ndferry.connect(addr)


def test_the_default_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ndferry import _address

    monkeypatch.delenv("NDFERRY_ADDR", raising=False)
    assert _address.default() == "tcp://127.0.0.1:9000"

    def script(sock: socket.socket) -> None:
        sock.sendall(HELLO_FRAME)
        until_closed(sock)

    with serving(tmp_path, script) as addr:
        monkeypatch.setenv("NDFERRY_ADDR", addr)
        ndferry.connect().close()
    assert _address.parse("localhost:9000") == ("localhost", 9000)
    assert _address.parse("unix://@x") == "\0x"


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_timeouts_that_are_none(timeout: float) -> None:
    with pytest.raises(ndferry.InvalidError, match="timeout"):
        ndferry.connect(timeout=timeout)


def test_newer_frames(tmp_path: Path) -> None:
    """Frames of another layout, and a HELLO of newer versions: the error names both versions."""
    layout = HELLO_FRAME[:3] + b"2" + HELLO_FRAME[4:]
    versions = frame(HELLO, {**HELLO_MESSAGE, "versions": [2, 3]}, 0)
    for i, (data, says) in enumerate(
        (
            (layout, "layout version '2', this package speaks version '1'"),
            (versions, "versions 2 to 3 of the protocol, this package 1 to 1"),
        )
    ):
        place = tmp_path / str(i)
        place.mkdir()

        def script(sock: socket.socket, data: bytes = data) -> None:
            sock.sendall(data)

        with serving(place, script) as addr, pytest.raises(ndferry.ProtocolError, match=says):
            ndferry.connect(addr, timeout=60, retries=0)

        gone, sock = socket.socketpair()
        with sock:
            gone.sendall(data)
            gone.close()  # so that our HELLO cannot be sent
            with pytest.raises(ndferry.ProtocolError, match=says):
                Driver(sock, 20).run(Session("test").hello())


def test_a_server_that_is_gone_after_its_hello() -> None:
    """It had nothing to complain about: what broke is said, and it can be tried again."""
    gone, sock = socket.socketpair()
    with sock:
        gone.sendall(HELLO_FRAME)
        gone.close()
        with pytest.raises(ndferry.ConnectionError, match="connection broke"):
            Driver(sock, 20).run(Session("test").hello())


def test_asking_ahead_of_sleep_is_left_out_when_it_does_not_pay() -> None:
    """A server that takes longer costs no more than a few looks."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        driver = Driver(ours, 10)
        looks = 0

        class Counting:
            def __getattr__(self, name: str) -> Any:
                return getattr(ours, name)

            def recv_into(self, view: Any, size: int = 0, flags: int = 0) -> int:
                nonlocal looks
                if flags == socket.MSG_DONTWAIT:
                    looks += 1
                else:
                    theirs.sendall(bytes(len(view)))  # only now
                return ours.recv_into(view, size, flags)

        driver._sock = Counting()  # type: ignore[assignment]
        target = np.zeros(100, np.uint8)
        for least in (1, 100):  # of small messages, and of cells
            for _ in range(200):
                before = looks
                driver._receive(Receive(target, least))
                asked = looks > before
                looks = before + asked
            assert looks <= 14, "at first, and then every 64th time"
            looks = 0
