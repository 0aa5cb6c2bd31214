"""Against the real server: bits, Zarr readers, durability, damage."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import ndferry
from conftest import Server
from samples import DTYPES, LAYOUTS, SHAPES, bits, real, same

MIB = 1 << 20


@pytest.fixture
def durable(server: Server) -> Iterator[ndferry.Client]:
    with ndferry.connect(server.addr, timeout=60) as c:
        yield c


@pytest.fixture
def memory(memory_server: Server) -> Iterator[ndferry.Client]:
    with ndferry.connect(memory_server.addr, timeout=60) as c:
        yield c


def read_zarr(server: Server, name: str) -> Any:
    """The array as zarr-python alone opens it from the directory."""
    return zarr.open_array(str(server.root / name), mode="r")


def test_it_is_the_server_that_answers(durable: ndferry.Client, server: Server) -> None:
    assert "ndferry" in durable.server
    assert durable.put("a", [1, 2, 3]).durability == "durable"
    assert (server.root / "a" / "zarr.json").is_file()


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_in_every_layout(memory: ndferry.Client, dtype: str) -> None:
    for layout in LAYOUTS:
        for shape in SHAPES:
            a = bits(shape, dtype)
            a = layout(a) if a.ndim else a
            memory.put("a", a)
            b = memory.get("a")
            assert same(a, b), (layout, shape)
            if a.flags.forc:
                assert (b.flags.c_contiguous, b.flags.f_contiguous) == (a.flags.c_contiguous, a.flags.f_contiguous)


def test_zarr_reads_every_dtype(durable: ndferry.Client, server: Server) -> None:
    attrs = {"unit": "K", "shape": "mine", "n": [1, 2.5, None, True, {"ü": ""}], "big": 2**60 + 1}
    arrays = {
        f"{dtype[0] if dtype[0] != '?' else ''}{np.dtype(dtype).name}/{order}{len(shape)}": np.array(
            bits(shape, dtype), order=order  # type: ignore[call-overload]
        )
        for dtype in DTYPES
        for order, shape in (("C", ()), ("C", (7,)), ("F", (5, 3)), ("F", (3, 0, 2)), ("C", (2, 3, 4)))
    }  # fmt: skip
    arrays = {name.replace("<", "little-").replace(">", "big-"): a for name, a in arrays.items()}
    for name, a in arrays.items():
        durable.put(name, a, attrs=attrs, chunks=[min(2, max(1, n)) for n in a.shape])
    for name, a in arrays.items():
        z = read_zarr(server, name)
        assert z.shape == a.shape
        assert dict(z.attrs) == attrs
        assert same(np.asarray(z[...]).astype(a.dtype), a), name
        assert same(durable.get(name), a)
        assert durable.stat(name).attrs == attrs
    group = zarr.open_group(str(server.root), mode="r")
    assert {name for name, node in group.members(max_depth=None) if isinstance(node, zarr.Array)} == set(arrays)
    assert [entry.name for entry in durable.list()] == sorted(arrays, key=str.encode)


def test_real_data(durable: ndferry.Client, server: Server) -> None:
    import tensorstore
    import xarray

    for name, a in real():
        for order in "CF":
            source = np.asarray(a, order=order)  # type: ignore[call-overload]
            receipt = durable.put(name, source, digest="sha256", attrs={"source": name})
            assert receipt.nbytes == a.nbytes
            b = durable.get(name)
            assert same(a, b)
            assert b.flags.f_contiguous == source.flags.f_contiguous
            assert durable.verify(name).ok
            z = read_zarr(server, name)
            np.testing.assert_array_equal(z[...], a)
            spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{server.root}/{name}/"}}
            np.testing.assert_array_equal(tensorstore.open(spec).result().read().result(), a)
    data = xarray.open_zarr(str(server.root / "photographs"), consolidated=False)
    np.testing.assert_array_equal(data["coins"].values, durable.get("photographs/coins"))


@settings(max_examples=200)
@given(data=st.data())
def test_any_array_any_grid(memory: ndferry.Client, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(DTYPES))
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9))
    order = data.draw(st.permutations(range(len(shape))))
    a = bits(tuple(shape[axis] for axis in order), dtype).transpose(np.argsort(order))
    if data.draw(st.booleans()) and a.ndim:
        a = np.asarray(a[data.draw(hnp.basic_indices(a.shape, allow_ellipsis=False, allow_newaxis=False))], dtype)
    chunks = data.draw(st.none() | st.tuples(*(st.integers(1, 11) for _ in a.shape)))
    digest: Any = data.draw(st.sampled_from(["crc32c", "sha256"]))
    memory.put("a", a, chunks=chunks, digest=digest)
    assert same(memory.get("a"), a)
    out_order = data.draw(st.permutations(range(a.ndim)))
    out = np.empty([a.shape[axis] for axis in out_order], dtype).transpose(np.argsort(out_order))
    assert same(memory.get("a", out=out), a)
    assert memory.verify("a").ok


def test_bits_survive(memory: ndferry.Client) -> None:
    for dtype, patterns in (
        ("<f4", [0x7FC00001, 0xFFC12345, 0x7F800001, 0x80000000, 0x00000001, 0xFF800000]),
        (">f4", [0x0100C07F, 0x00000080]),
        ("<f8", [0x7FF0000000000001, 0xFFF8DEADBEEF0000, 0x8000000000000000, 1]),
        ("<f2", [0x7C01, 0xFE00, 0x8000, 0x0001]),
    ):
        a = np.array(patterns, f"u{np.dtype(dtype).itemsize}").view(dtype)
        for array in (a, a[::-1], np.tile(a, (3, 1)).T):
            memory.put("bits", array, chunks=[2] * array.ndim)
            assert same(memory.get("bits"), array)


def test_errors_have_their_classes_and_the_connection_goes_on(durable: ndferry.Client) -> None:
    big = np.resize(np.arange(251, dtype=np.uint8), 20 * MIB)
    durable.put("a/b", big)
    for call in (durable.get, durable.stat, durable.delete, durable.verify):
        with pytest.raises(ndferry.NotFoundError):
            call("a/nothing")
    with pytest.raises(ndferry.ConflictError):
        durable.put("a/b", big, if_absent=True)
    with pytest.raises(ndferry.ConflictError):
        durable.put("a/b/c", big)
    with pytest.raises(ndferry.ConflictError):
        durable.put("a", big)
    assert not durable.closed
    assert [entry.name for entry in durable.list()] == ["a/b"]
    durable.delete("a/b")
    assert durable.list() == []


def test_the_same_id_stores_once(durable: ndferry.Client) -> None:
    id = os.urandom(16).hex()
    first = durable.put("a", np.arange(10), id=id)
    durable.put("a", np.arange(20))
    assert durable.put("a", np.arange(10), id=id) == first
    assert durable.stat("a").shape == (20,)


def test_damage_is_named(durable: ndferry.Client, server: Server) -> None:
    a = np.random.default_rng(0).random(3_000_000)
    durable.put("a", a)
    stat = durable.stat("a")
    cell = stat.chunks[0] * 8
    with (server.root / "a" / "c.0").open("r+b") as shard:
        shard.seek(3 * cell + 5)
        byte = shard.read(1)[0]
        shard.seek(3 * cell + 5)
        shard.write(bytes([byte ^ 1]))
    report = durable.verify("a")
    assert not report.ok
    assert [damage.cell for damage in report.bad] == [3]
    with pytest.raises(ndferry.IntegrityError) as caught:
        durable.get("a")
    assert caught.value.cell == 3
    assert not durable.closed
    assert durable.stat("a").nbytes == a.nbytes


def test_committed_arrays_outlive_a_kill(server: Server) -> None:
    a = np.random.default_rng(0).random((300, 1000))
    with ndferry.connect(server.addr, timeout=60) as c:
        c.put("a", a, digest="sha256")
        server.kill()
        with pytest.raises(ndferry.ConnectionError):
            c.get("a")
        assert c.closed
    server.start()
    with ndferry.connect(server.addr, timeout=60) as c:
        assert same(c.get("a"), a)
        assert c.verify("a").ok


def test_a_kill_in_mid_put_leaves_nothing(server: Server) -> None:
    steps = 0

    def kill(done: int, total: int) -> None:
        nonlocal steps
        steps += 1
        if steps == 3:
            server.kill()

    with ndferry.connect(server.addr, timeout=60) as c:
        with pytest.raises(ndferry.ConnectionError):
            c.put("a", np.resize(np.arange(251, dtype=np.uint8), 64 * MIB), progress=kill)
        assert c.closed
    server.start()
    with ndferry.connect(server.addr, timeout=60) as c:
        assert c.list() == []
        assert not (server.root / "a").exists()


def test_clients_at_the_same_time(memory_server: Server) -> None:
    failures: list[BaseException] = []

    def work(i: int) -> None:
        try:
            a = np.random.default_rng(i).random(200_000 + i)
            with ndferry.connect(memory_server.addr, timeout=60) as c:
                for _ in range(10):
                    c.put(f"parallel/{i}", a)
                    assert same(c.get(f"parallel/{i}"), a)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not failures


def test_a_progress_that_fails_cancels(memory: ndferry.Client) -> None:
    def fail(done: int, total: int) -> None:
        raise RuntimeError("enough")

    a = np.resize(np.arange(251, dtype=np.uint8), 30 * MIB)
    memory.put("whole", a)
    for call in (lambda: memory.put("cancelled", a, progress=fail), lambda: memory.get("whole", progress=fail)):
        with pytest.raises(RuntimeError, match="enough"):
            call()
        assert not memory.closed
    assert memory.list("cancelled") == []


def test_many_names_come_in_pages(memory: ndferry.Client) -> None:
    names = [f"many/{i:04}" for i in range(2100)]
    for name in names:
        memory.put(name, 0)
    assert [entry.name for entry in memory.list("many/")] == names


MEMORY = """
import sys
import numpy as np
import ndferry

def peak():  # not ru_maxrss, which begins with what the parent had
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))

def use(size, name, sent, received):
    a = np.ones(size, np.uint8) if sent else None
    with ndferry.connect(sys.argv[1]) as c:
        before = peak()
        if sent == "whole":
            c.put(name, a)
        elif sent == "view":
            c.put(name, a.reshape(1024, -1)[:, ::2])
        else:
            before += size // 1024
            c.get(name)
    return peak() - before

grown = use(int(sys.argv[2]), "big", sys.argv[3], None)
print(grown)
"""


@pytest.mark.parametrize("what", ["whole", "view", ""])
def test_memory_beyond_the_array_is_bounded(server: Server, what: str) -> None:
    """Peak of the client's memory beyond the array, in a process of its own."""
    size = 512 * MIB
    if not what:
        with ndferry.connect(server.addr) as c:
            c.put("big", np.ones(size, np.uint8))
    command = [sys.executable, "-c", MEMORY, server.addr, str(size), what]
    grown = int(subprocess.run(command, check=True, capture_output=True, text=True, timeout=240).stdout)
    print(f"beyond the array: {grown} KiB")
    assert grown < 64 * 1024


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_over_2_gib(server: Server) -> None:
    a = np.random.default_rng(0).integers(0, 1 << 62, (3 << 30) // 8 + 7, np.int64)
    with ndferry.connect(server.addr, timeout=60) as c:
        for array in (a, a[:-7].reshape(-1, 1024).T):
            c.put("big", array)
            b = c.get("big")
            assert np.array_equal(b, array)
            del b
        assert c.verify("big").ok
        z = read_zarr(server, "big")
        assert (z[1023, -1], z[0, 0]) == (array[1023, -1], array[0, 0])


def test_tcp(tmp_path: Path) -> None:
    server = Server(tmp_path, "{}", "tcp://127.0.0.1:0")
    a = np.random.default_rng(0).random((1000, 3000))
    for addr in (server.addr, server.addr.replace("tcp://127.0.0.1", "localhost")):
        with ndferry.connect(addr, timeout=60) as c:
            c.put("a", a.T)
            assert same(c.get("a"), a.T)
    server.stop()
