"""Compressed chunks: against the real server, its command line, zarr-python and TensorStore."""

from __future__ import annotations

import itertools
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import zarr

import ndferry
from conftest import REPOSITORY, Server
from ndferry import _codec
from ndferry._codec import Blosc
from ndferry._wire import Bytes
from samples import same

CODECS = ("lz4", "zlib", "zstd")
SHUFFLES = ("auto", "none", "byte", "bit")


@pytest.fixture
def durable(server: Server) -> Iterator[ndferry.Client]:
    with ndferry.connect(server.addr, timeout=60) as c:
        yield c


@pytest.fixture
def memory(memory_server: Server) -> Iterator[ndferry.Client]:
    with ndferry.connect(memory_server.addr, timeout=60) as c:
        yield c


def smooth(dtype: str, shape: tuple[int, ...]) -> Any:
    return (1000 * np.sin(np.arange(np.prod(shape)) / 300)).reshape(shape).astype(dtype)


def read_tensorstore(path: Path) -> Any:
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
    return tensorstore.open(spec, read=True).result().read().result()


def command(server: Server, *arguments: str) -> None:
    subprocess.run([server.binary, arguments[0], "--addr", server.addr, *arguments[1:]], check=True, timeout=60)


def test_defaults_are_those_of_every_language() -> None:
    lines = (REPOSITORY / "spec" / "DEFAULTS.txt").read_text().splitlines()
    table = dict(line.split(" ", 1) for line in lines if not line.startswith("#"))
    assert table["codec"] == _codec.DEFAULT_CODEC
    assert (int(table["level"]), int(table["zlib_level"])) == (_codec.DEFAULT_LEVEL, _codec.DEFAULT_ZLIB_LEVEL)
    assert (int(table["min_level"]), int(table["max_level"])) == (_codec.MIN_LEVEL, _codec.MAX_LEVEL)
    assert table["shuffle"] == _codec.DEFAULT_SHUFFLE
    assert (table["codecs"].split(), table["shuffles"].split()) == (list(_codec.CODECS), list(_codec.SHUFFLES))


@pytest.mark.parametrize("dtype", ["u1", ">i2", "<f4", "<f8", ">c16"])
@pytest.mark.parametrize("digest", ["crc32c", "sha256"])
def test_every_codec(memory: ndferry.Client, dtype: str, digest: Any) -> None:
    for i, (codec, shuffle) in enumerate(itertools.product(CODECS, SHUFFLES)):
        a = np.asarray(smooth(dtype, (37, 501)), order="CF"[i % 2])  # type: ignore[call-overload]
        chunks = ((9, 100), (10, 501), (37, 501))[i % 3]
        receipt = memory.put("a", a, codec=codec, shuffle=shuffle, level=i % 10, chunks=chunks, digest=digest)  # type: ignore[arg-type]
        assert (receipt.codec, receipt.codec_why, receipt.validated) == (codec, "", "full")
        assert same(memory.get("a"), a), (codec, shuffle)
        stat = memory.stat("a")
        assert (stat.codec, stat.stored_bytes, stat.ratio) == (codec, receipt.stored_bytes, receipt.ratio)
        assert memory.verify("a").ok


@pytest.mark.parametrize("codec", ["none", *CODECS])
def test_between_python_go_and_zarr(durable: ndferry.Client, server: Server, tmp_path: Path, codec: Any) -> None:
    for shuffle in SHUFFLES if codec != "none" else ("auto",):
        a = smooth("<f8", (300, 101))
        durable.put("py", a, codec=codec, shuffle=shuffle, chunks=(70, 101))  # type: ignore[arg-type]
        command(server, "get", "py", str(tmp_path / "py.npy"), "--force")
        assert same(np.load(tmp_path / "py.npy"), a)
        np.save(tmp_path / "go.npy", a)
        command(
            server, "put", str(tmp_path / "go.npy"), "go", "--codec", codec, "--shuffle", shuffle, "--chunk", "64KiB"
        )
        assert same(durable.get("go"), a)
        assert durable.stat("go").codec == codec
        for name in ("py", "go"):
            node = server.root / name
            assert same(np.asarray(zarr.open_array(str(node), mode="r")[...]), a), (name, shuffle)
            assert same(np.asarray(read_tensorstore(node)), a), (name, shuffle)


def test_every_chunk_its_own_way(
    durable: ndferry.Client, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Compressor, shuffle and plain copy differ from chunk to chunk of one array."""
    ways = [
        Blosc("lz4", 5, "shuffle", 4), Blosc("zstd", 1, "bitshuffle", 4), Blosc("zlib", 6, "noshuffle", 1),
        Blosc("lz4", 0, "shuffle", 4), Blosc("zstd", 9, "shuffle", 2),
    ]  # fmt: skip
    turn = itertools.count()
    encode = Blosc.encode
    seen: list[int] = []

    def encode_in_turn(_: Blosc, raw: Bytes) -> bytes:
        data = encode(ways[next(turn) % len(ways)], raw)
        seen.append(data[2] >> 5 | (data[2] & 2) << 3)
        return data

    monkeypatch.setattr(Blosc, "encode", encode_in_turn)
    a = smooth("<f4", (1000, 64))
    durable.put("mixed", a, codec="zstd", chunks=(90, 64))
    assert len(set(seen)) >= 4
    assert same(durable.get("mixed"), a)
    assert durable.verify("mixed").ok
    command(server, "get", "mixed", str(tmp_path / "mixed.npy"))
    assert same(np.load(tmp_path / "mixed.npy"), a)
    assert same(np.asarray(zarr.open_array(str(server.root / "mixed"), mode="r")[...]), a)
    assert same(np.asarray(read_tensorstore(server.root / "mixed")), a)


def test_auto(memory: ndferry.Client) -> None:
    a = smooth("<f4", (1 << 20,))
    local = memory.put("a", a)
    assert (local.codec, local.stored_bytes) == ("none", a.nbytes)
    assert "this machine" in local.codec_why
    slow = memory.put("a", a, link_rate=1e6)
    assert slow.codec in ("lz4", "zstd")
    assert slow.ratio > 1.2
    assert "at 1.0 MB/s" in slow.codec_why
    assert same(memory.get("a"), a)
    fast = memory.put("a", a, link_rate=1e12)
    assert fast.codec == "none"
    noise = np.frombuffer(np.random.default_rng(1).bytes(1 << 21), "<f8")
    assert memory.put("a", noise, link_rate=1e6).codec == "none"
    assert memory.put("a", np.zeros(0), link_rate=1e6).codec == "none"


def five_kinds(n: int) -> dict[str, Any]:
    """The kinds of data that codecs are judged by, n bytes each."""
    rng = np.random.default_rng(5)
    x = np.linspace(0, 10, n // 4)
    side = int(n**0.5)
    yy, xx = np.mgrid[0:side, 0:side] / side
    picture = 127 + 60 * np.sin(9 * xx) * np.cos(7 * yy) + 40 * (xx > yy) + rng.normal(0, 1.5, (side, side))
    return {
        "smooth float32": (np.sin(x) + 0.2 * np.sin(11 * x)).astype(np.float32),
        "noise float64": 1000.0 + rng.standard_normal(n // 8),
        "counter int32": np.cumsum(rng.integers(0, 3, n // 4)).astype(np.int32),
        "image uint8": np.clip(picture, 0, 255).astype(np.uint8),
        "random": rng.integers(0, 256, n, dtype=np.uint8),
    }


def test_auto_on_a_slow_link(memory: ndferry.Client) -> None:
    codecs: tuple[tuple[Any, int], ...] = (("lz4", 5), ("zstd", 1))
    shuffles: tuple[Any, ...] = ("none", "byte", "bit")
    for kind, a in five_kinds(1 << 20).items():
        best = 1.0
        for (codec, level), shuffle in itertools.product(codecs, shuffles):
            best = max(best, memory.put("a", a, codec=codec, level=level, shuffle=shuffle).ratio)
        auto = memory.put("a", a, link_rate=1e6)
        assert auto.ratio >= 0.9 * best, (kind, auto, best)
        assert (auto.codec == "none") == (kind == "random"), (kind, auto)


def test_chunks_are_coded_side_by_side(memory: ndferry.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads, ahead of the connection and behind it, and never more than is bounded."""
    monkeypatch.setattr("ndferry._pipeline.threads", lambda: 2)
    running, most, begun = 0, 0, 0
    lock = threading.Lock()
    pair = threading.Barrier(2)

    def counted(work: Any) -> Any:
        def call(*arguments: Any) -> Any:
            nonlocal running, most, begun
            with lock:
                running, begun = running + 1, begun + 1
                most = max(most, running)
                first = begun <= 2
            if first:
                pair.wait(60)  # neither of the first two goes on before both run
            try:
                return work(*arguments)
            finally:
                with lock:
                    running -= 1

        return call

    monkeypatch.setattr(Blosc, "encode", counted(Blosc.encode))
    monkeypatch.setattr(_codec, "decode", counted(_codec.decode))
    a = smooth("<f4", (1 << 20,))
    memory.put("a", a, codec="lz4", chunks=(1 << 15,))
    assert (most, begun, running) == (2, 32, 0)
    most = begun = 0
    assert same(memory.get("a"), a)
    assert (most, begun, running) == (2, 32, 0)


@pytest.mark.parametrize(
    "options",
    [
        {"digest": "md5"},
        {"codec": "blosclz"},
        {"level": 10},
        {"level": -1},
        {"level": 5.0},
        {"shuffle": "bytes"},
        {"link_rate": 0},
    ],
)
def test_what_is_refused_before_a_byte_is_sent(client: ndferry.Client, peer: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ndferry.InvalidError):
        client.put("a", [1, 2, 3], **options)
    assert not client.closed


def test_a_server_without_blosc(client: ndferry.Client) -> None:
    with pytest.raises(ndferry.UnsupportedError):
        client.put("a", np.zeros(1000), codec="lz4")
    receipt = client.put("a", np.zeros(1000), link_rate=1e6)
    assert receipt.codec == "none"


def test_damaged_containers() -> None:
    raw = np.arange(1 << 14, dtype=np.uint8)
    data = np.frombuffer(Blosc("zstd", 5, "noshuffle", 1).encode(raw), np.uint8)
    out = np.empty_like(raw)
    _codec.decode(data, out, 0)
    assert (out == raw).all()
    damaged: list[Bytes] = [data[:16], data[:-1], np.zeros_like(data)]
    for at, value in (
        (4, len(raw) + 1),
        (4, 1 << 31),
        (8, 0),
        (8, len(raw) + 1),
        (12, 16),
        (16, 1 << 31),
        (20, 1 << 30),
    ):
        bad = data.copy()
        bad[at : at + 4] = np.frombuffer(struct.pack("<I", value), np.uint8)
        damaged.append(bad)
    for bad in damaged:
        with pytest.raises(ndferry.IntegrityError):
            _codec.decode(bad, out, 3)
