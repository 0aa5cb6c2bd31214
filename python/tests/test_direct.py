"""`send_array` and `recv_array` over real sockets, and with a receiver that shares nothing with them."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ndferry
from ndferry._codec import Blosc
from ndferry._wire import Kind, pack_frame, pack_header
from samples import DTYPES, LAYOUTS, SHAPES, bits, same

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
Pair = tuple[socket.socket, socket.socket]


def _tcp() -> Pair:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        a = socket.create_connection(listener.getsockname())
        return a, listener.accept()[0]


@pytest.fixture(params=[socket.socketpair, _tcp], ids=["socketpair", "tcp"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    a, b = request.param()
    with a, b:
        yield a, b


class Outcome:
    """What a call in a thread came to."""

    def __init__(self, call: Callable[..., Any], *args: Any, **options: Any) -> None:
        self.value: Any = None
        self.error: BaseException | None = None

        def run() -> None:
            try:
                self.value = call(*args, **options)
            except BaseException as error:
                self.error = error

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def wait(self) -> Any:
        self._thread.join(60)
        assert not self._thread.is_alive(), "the call hangs"
        if self.error is not None:
            raise self.error
        return self.value


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_layout(pair: Pair, dtype: str) -> None:
    a, b = pair
    arrays = [layout(bits(shape, dtype)) if shape else bits(shape, dtype) for layout in LAYOUTS for shape in SHAPES]
    sender = Outcome(lambda: [ndferry.send_array(a, array, attrs={"n": n}) for n, array in enumerate(arrays)])
    for n, array in enumerate(arrays):
        received, attrs = ndferry.recv_array(b)
        assert same(received, array)
        assert attrs == {"n": n}
        assert received.flags.writeable
    receipts = sender.wait()
    assert [r.nbytes for r in receipts] == [array.nbytes for array in arrays]


def test_in_turn_with_other_bytes_between(pair: Pair) -> None:
    """Nothing behind an array is read, in either direction."""
    a, b = pair
    array = np.arange(100_000, dtype="<f4")

    def other() -> None:
        for n in range(20):
            b.sendall(b"ready?")
            received = ndferry.recv_array(b).array
            assert b.recv(3, socket.MSG_WAITALL) == b"end"
            b.sendall(b"mine")
            ndferry.send_array(b, received + n, digest="sha256", chunks=1000)
            b.sendall(b"over")

    thread = Outcome(other)
    for n in range(20):
        assert a.recv(6, socket.MSG_WAITALL) == b"ready?"
        ndferry.send_array(a, array)
        a.sendall(b"end")
        assert a.recv(4, socket.MSG_WAITALL) == b"mine"
        out = np.empty_like(array)
        assert ndferry.recv_array(a, out).array is out
        np.testing.assert_array_equal(out, array + n)
        assert a.recv(4, socket.MSG_WAITALL) == b"over"
    thread.wait()


@pytest.mark.parametrize("mode", [None, 0.0, 7.5])
def test_the_sockets_mode_is_left_as_found(pair: Pair, mode: float | None) -> None:
    a, b = pair
    for sock in pair:
        sock.settimeout(mode)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, (9).to_bytes(8, "little") + bytes(8))
    sender = Outcome(ndferry.send_array, a, np.zeros(3_000_000))
    ndferry.recv_array(b)
    sender.wait()
    with pytest.raises(ndferry.TimeoutError) as caught:
        ndferry.recv_array(b, timeout=0.05)
    assert caught.value.closed
    assert a.gettimeout() == mode
    assert a.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16)[:8] == (9).to_bytes(8, "little")


def refused(receiver: Any, sender: Outcome, receives: type[BaseException], sends: type[BaseException]) -> None:
    with pytest.raises(receives):
        receiver()
    with pytest.raises(sends):
        sender.wait()


def works(a: socket.socket, b: socket.socket) -> None:
    """The stream is at a boundary: an array passes in each direction."""
    for x, y in ((a, b), (b, a)):
        sender = Outcome(ndferry.send_array, x, np.arange(5))
        np.testing.assert_array_equal(ndferry.recv_array(y).array, np.arange(5))
        sender.wait()


BIG = np.zeros(100 << 20, np.uint8)  # more than the first credit


@pytest.mark.parametrize("array", [np.zeros(3), np.zeros((0,)), BIG], ids=["small", "empty", "big"])
def test_a_refused_array_leaves_a_boundary(pair: Pair, array: Any) -> None:
    a, b = pair
    sender = Outcome(ndferry.send_array, a, array)
    with pytest.raises(ndferry.InvalidError) as caught:
        ndferry.recv_array(b, np.zeros(7, "<i2"))
    assert caught.value.closed is False
    with pytest.raises(ndferry.InvalidError) as told:
        sender.wait()
    assert told.value.closed is False
    works(a, b)


class Stop(Exception):
    pass


@pytest.mark.parametrize("when", [0, 50 << 20, 100 << 20])
def test_who_gives_up_leaves_a_boundary(pair: Pair, when: int) -> None:
    a, b = pair

    def stop(done: int, _: int) -> None:
        if done >= when:
            raise Stop

    sender = Outcome(ndferry.send_array, a, BIG, progress=stop)
    with pytest.raises(ndferry.CancelledError) as caught:
        ndferry.recv_array(b)
    assert caught.value.closed is False
    with pytest.raises(Stop):
        sender.wait()
    works(a, b)
    sender = Outcome(ndferry.send_array, a, BIG)
    with pytest.raises(Stop):
        ndferry.recv_array(b, progress=stop)
    with pytest.raises(ndferry.CancelledError):
        sender.wait()
    works(a, b)


def relay(a: socket.socket, b: socket.socket, damage: int) -> None:
    """Pass bytes from a to b with the byte at `damage` changed, and back as they are. Neither outlives the other."""

    def shut(end: socket.socket, how: int) -> None:
        with contextlib.suppress(OSError):
            end.shutdown(how)

    def back() -> None:
        with contextlib.suppress(OSError):
            while data := b.recv(1 << 16):
                a.sendall(data)
        shut(a, socket.SHUT_RDWR)

    Outcome(back)
    seen = 0
    with contextlib.suppress(OSError):
        while data := bytearray(a.recv(1 << 16)):
            if seen <= damage < seen + len(data):
                data[damage - seen] ^= 4
            seen += len(data)
            b.sendall(data)
    shut(a, socket.SHUT_RD)  # who sends to it would wait for nobody
    shut(b, socket.SHUT_WR)


@pytest.mark.parametrize("damage", [3, 40, 190, 300, 5_000, 100_000, 399_000])
def test_damage_is_found(damage: int) -> None:
    array = np.random.default_rng(1).integers(0, 255, 400_000, np.uint8)
    (a, a2), (b, b2) = socket.socketpair(), socket.socketpair()
    with a, a2, b, b2:
        Outcome(relay, a2, b2, damage)
        sender = Outcome(ndferry.send_array, a, array, timeout=60)
        with pytest.raises(ndferry.Error) as caught:
            ndferry.recv_array(b, timeout=60)
        with pytest.raises(ndferry.Error) as told:
            sender.wait()
        assert caught.value.code in ("integrity", "protocol", "invalid", "limit", "unsupported")
        assert caught.value.closed == told.value.closed == (damage < 1000)
        if damage >= 1000:
            assert isinstance(told.value, ndferry.IntegrityError)
            works(a, b)
        else:
            assert a.fileno() == b.fileno() == -1


def test_both_send_or_both_receive(pair: Pair) -> None:
    a, b = pair
    first = Outcome(ndferry.send_array, a, np.zeros(9), timeout=60)
    with pytest.raises(ndferry.Error) as caught:
        ndferry.send_array(b, np.zeros(9), timeout=60)
    with pytest.raises(ndferry.Error):
        first.wait()
    assert caught.value.closed


def test_a_trickle_ends(pair: Pair) -> None:
    a, b = pair
    receiver = Outcome(ndferry.recv_array, b, timeout=60, deadline=0.5)
    started = time.monotonic()
    with contextlib.suppress(OSError):
        for byte in itertools.cycle(pack_header(Kind.PONG, 0)):
            a.sendall(bytes([byte]))
            time.sleep(0.02)
            assert time.monotonic() - started < 60
    with pytest.raises(ndferry.Error) as caught:
        receiver.wait()
    assert caught.value.closed


def test_what_is_no_stream_is_refused() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock, pytest.raises(ndferry.InvalidError):
        ndferry.recv_array(sock)
    a, b = socket.socketpair()
    with a, b, pytest.raises(ndferry.DTypeError):
        ndferry.send_array(a, np.array([object()]))
    b.close()


def test_a_peer_that_is_gone(pair: Pair) -> None:
    a, b = pair
    a.close()
    with pytest.raises(ndferry.ConnectionError) as caught:
        ndferry.recv_array(b)
    assert caught.value.closed


def test_a_lying_sender_gets_no_memory(pair: Pair) -> None:
    """2^61 bytes are announced and none come: refused, and the stream is at a boundary."""
    a, b = pair
    receiver = Outcome(ndferry.recv_array, b)
    hello = b'{"versions":[1,1],"software":"","features":[],"codecs":["none"],"digests":["crc32c"],"credit":16777216}'
    put = (
        b'{"name":"a","id":"' + b"1" * 32 + b'","array":{"zarr_format":3,"node_type":"array",'
        b'"shape":[2147483648,1073741824],'
        b'"data_type":"uint8","chunk_grid":{"name":"regular","configuration":{"chunk_shape":[1,16777216]}},'
        b'"chunk_key_encoding":{"name":"default"},"fill_value":0,"codecs":[{"name":"bytes"}]}}'
    )
    a.sendall(pack_frame(Kind.HELLO, 0, hello) + pack_frame(Kind.PUT, 1, put) + pack_header(Kind.CANCEL, 1))
    with pytest.raises(ndferry.LimitError) as caught:
        receiver.wait()
    assert caught.value.closed is False


# ---- the receiver of examples/


def plain() -> Any:
    path = EXAMPLES / "plain_receiver.py"
    assert len(path.read_text().splitlines()) <= 150
    spec = importlib.util.spec_from_file_location("plain_receiver", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_receiver_without_any_of_our_software(pair: Pair) -> None:
    a, b = pair
    receiver = plain()
    cases = [layout(bits(shape, dtype)) if shape else bits(shape, dtype)
             for dtype in ("?", ">i2", "<f4", "<c16") for layout in LAYOUTS for shape in SHAPES]  # fmt: skip
    cases.append(bits((700, 300), "<f8"))
    for n, array in enumerate(cases):
        sender = Outcome(
            ndferry.send_array, a, array, digest=("crc32c", "sha256")[n % 2], attrs={"n": n}, name=f"part/{n}"
        )
        put, content = receiver.receive(b)
        receipt = sender.wait()
        assert (put["name"], put["numpy"]) == (f"part/{n}", array.dtype.str)
        stored = np.frombuffer(content, array.dtype)
        codecs = put["array"]["codecs"]
        order = codecs[0]["configuration"]["order"] if len(codecs) == 2 else range(array.ndim)
        stored = stored.reshape([array.shape[axis] for axis in order])
        assert same(stored.transpose(np.argsort(order) if array.ndim else ()), array)
        assert receipt.digest.kind == put["digest"]


def test_the_plain_receiver_refuses_and_goes_on(pair: Pair) -> None:
    a, b = pair
    receiver = plain()
    sender = Outcome(ndferry.send_array, a, np.zeros((4, 4)), chunks=(2, 2))
    with pytest.raises(receiver.Refused):
        receiver.receive(b)
    with pytest.raises(ndferry.InvalidError) as told:
        sender.wait()
    assert told.value.closed is False
    sender = Outcome(ndferry.send_array, a, np.arange(3))
    assert receiver.receive(b)[1] == np.arange(3).tobytes()
    sender.wait()


def test_the_plain_receiver_as_a_program() -> None:
    command = [sys.executable, str(EXAMPLES / "plain_receiver.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        port = int(process.stdout.readline().split()[-1])
        with socket.create_connection(("127.0.0.1", port)) as sock:
            ndferry.send_array(sock, np.arange(6, dtype="<i4").reshape(2, 3), attrs={"unit": "K"})
        line = process.stdout.readline()
        assert line.startswith("array <i4 [2, 3] 24 bytes\n"), line
        assert process.wait(60) == 0


# ---- the command line at the other end


def test_to_and_from_the_command_line(tmp_path: Path) -> None:
    binary = EXAMPLES.parent / "bin" / "ndferry"
    array = np.asfortranarray(np.random.default_rng(3).standard_normal((700, 900)))
    command = [str(binary), "recv", "--listen", f"unix://{tmp_path}/s", str(tmp_path / "a.npy")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        assert "listening" in process.stderr.readline()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(f"{tmp_path}/s")
            receipt = ndferry.send_array(sock, array, digest="sha256", chunks=(50, 100), attrs={"unit": "K"})
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0, out
    assert receipt.digest.root
    assert same(np.load(tmp_path / "a.npy"), array)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        to = f"127.0.0.1:{listener.getsockname()[1]}"
        command = [str(binary), "send", str(tmp_path / "a.npy"), "--to", to, "--attr", "n=7", "--digest", "sha256"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            with listener.accept()[0] as sock:
                received, attrs = ndferry.recv_array(sock)
            assert process.wait(60) == 0
    assert same(received, array)
    assert attrs == {"n": 7}


@pytest.mark.parametrize("codec", ["lz4", "zlib", "zstd", "auto"])
@pytest.mark.parametrize("digest", ["crc32c", "sha256"])
def test_every_codec(pair: Pair, codec: Any, digest: Any) -> None:
    a, b = pair
    arrays = [
        np.arange(3_000_000, dtype="<i4").reshape(1000, 3000),
        np.asfortranarray(np.ones((300, 1001))),
        np.empty(0),
    ]
    link = 1e6 if codec == "auto" else None
    sender = Outcome(
        lambda: [ndferry.send_array(a, x, codec=codec, digest=digest, link_rate=link, chunks=None) for x in arrays]
    )
    for array in arrays:
        out = np.empty_like(array)
        assert same(ndferry.recv_array(b, out).array, array)
    receipts = sender.wait()
    assert receipts[0].codec in (("lz4", "zstd") if codec == "auto" else (codec,))
    assert receipts[0].stored_bytes < receipts[0].nbytes / 2
    assert bool(receipts[0].codec_why) == (codec == "auto")


def test_a_damaged_container_is_refused_at_a_boundary(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = pair
    encode = Blosc.encode
    monkeypatch.setattr(Blosc, "encode", lambda self, raw: encode(self, raw)[:16] + bytes(len(encode(self, raw)) - 16))
    sender = Outcome(ndferry.send_array, a, np.arange(100_000), codec="zlib")
    with pytest.raises(ndferry.IntegrityError) as caught:
        ndferry.recv_array(b)
    assert caught.value.closed is False
    with pytest.raises(ndferry.IntegrityError) as caught:
        sender.wait()
    assert caught.value.closed is False
    monkeypatch.undo()
    sender = Outcome(ndferry.send_array, a, np.arange(100_000), codec="zlib")
    assert (ndferry.recv_array(b).array == np.arange(100_000)).all()
    sender.wait()
