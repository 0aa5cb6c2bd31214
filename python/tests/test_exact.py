"""Every dtype, byte order, layout and shape through the real server, bit for bit; regions; what does not travel."""

from __future__ import annotations

import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import ndferry
from arrays import LAYOUTS, Array, dtypes, make, same_elements
from conftest import REPOSITORY, SEED, Server
from ndferry import _dtype
from test_readers import written

SHAPES = ((), (0,), (3, 0, 2), (1,), (7, 11), (2, 1009), (2, 3) + (1,) * 31, (2,) + (1,) * 62 + (3,))
LONG = (2, 1_000_003)
DTYPES = dict(dtypes())
TABLE = written()
QUICK = settings(max_examples=60)


class Go:
    """The Go client, which gets an array and puts what it got under another name."""

    def __init__(self, addr: str, program: Path) -> None:
        subprocess.run(["go", "build", "-o", program, "./client/interop"], cwd=REPOSITORY, check=True)
        self._process = subprocess.Popen([program, addr], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def again(self, name: str, to: str) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{name} {to}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "ok\n"

    def close(self) -> None:
        self._process.communicate(timeout=60)


class Both:
    """Clients of one server."""

    def __init__(self, server: Server, place: Path) -> None:
        self.server = server
        self.client = ndferry.connect(server.addr, timeout=60)
        self.go = Go(server.addr, place / "interop")

    def close(self) -> None:
        self.client.close()
        self.go.close()

    def journey(self, array: Array, **options: Any) -> None:
        """From Python to Go and back: the dtype, the elements, and the stored checks."""
        self.client.put("m/a", array, **options)
        self.go.again("m/a", "m/b")
        for name in ("m/a", "m/b"):
            back = self.client.get(name)
            assert back.dtype == array.dtype
            assert repr(back.dtype) == repr(array.dtype)
            assert back.dtype.isalignedstruct == array.dtype.isalignedstruct
            assert same_elements(array, back)


@pytest.fixture(scope="module")
def memory(memory_server: Server) -> Any:
    with ndferry.connect(memory_server.addr, timeout=60) as c:
        yield c


@pytest.fixture(scope="module")
def both(memory_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    made = Both(memory_server, tmp_path_factory.mktemp("both"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def both_on_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    place = tmp_path_factory.mktemp("disk")
    made = Both(Server(place, "{}"), place)
    yield made
    made.close()
    made.server.stop()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_matrix(both: Both, dtype: str, layout: str) -> None:
    for shape in SHAPES:
        array = LAYOUTS[layout](make(DTYPES[dtype], shape))
        both.journey(array, digest="sha256" if shape == (7, 11) else "crc32c")
    both.journey(LAYOUTS[layout](make(DTYPES[dtype], (7, 11))), chunks=(2, 3))


@pytest.mark.parametrize("dtype", DTYPES)
def test_matrix_of_long_axes(both: Both, dtype: str) -> None:
    """Odd primes, in one layout each: `test_matrix_of_long_axes_whole` has all."""
    layout = list(LAYOUTS)[list(DTYPES).index(dtype) % len(LAYOUTS)]
    both.journey(LAYOUTS[layout](make(DTYPES[dtype], LONG)))


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_matrix_of_long_axes_whole(both: Both, dtype: str, layout: str) -> None:
    both.journey(LAYOUTS[layout](make(DTYPES[dtype], LONG)), digest="sha256")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_matrix_as_zarr(both_on_disk: Both, dtype: str, layout: str) -> None:
    """What Python and Go stored is the same to zarr-python, where it has the dtype (spec/STORE.md §6)."""
    ndferry.register_zarr_types()
    array = LAYOUTS[layout](make(DTYPES[dtype], (7, 11)))
    both_on_disk.journey(array, chunks=(7, 3) if layout == "C" else None, durability="relaxed")
    both_on_disk.client.put("m/c", array, durability="relaxed")
    outcome = TABLE[dtype][0]
    for name in ("m/a", "m/b", "m/c"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                other = np.asarray(zarr.open_array(str(both_on_disk.server.root / name), mode="r")[...])
            except Exception:
                if outcome != "refused":
                    raise
                continue
        if outcome == "equal":
            assert same_elements(array, other)
        else:
            assert (outcome, any(other.tobytes())) == ("raw", False)


@pytest.mark.parametrize("dtype", [pytest.param(dtype, id=name) for name, dtype in dtypes()])
def test_text_of_a_dtype(dtype: np.dtype[Any]) -> None:
    again = _dtype.from_json(_dtype.to_json(dtype))
    assert again == dtype
    assert repr(again) == repr(dtype)
    stored = _dtype.stored_of(dtype)
    assert _dtype.parse_zarr_type(_dtype.zarr_type(stored), _dtype.zarr_endian(stored)) == stored
    item = make(stored, (1,)).tobytes()
    fill = _dtype.fill_of(stored, item)
    if fill is not None:
        assert _dtype.fill_item(stored, fill) == item


@QUICK
@seed(SEED)
@given(
    hnp.arrays(
        st.one_of(hnp.scalar_dtypes(), hnp.nested_dtypes(max_itemsize=64)).filter(
            lambda d: not d.hasobject and _dtype._refusal(d, 0) is None
        ),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6),
    )
)
def test_any_array(both: Both, array: Array) -> None:
    both.journey(array)


@QUICK
@seed(SEED)
@given(st.data())
def test_any_region(memory: ndferry.Client, data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9))
    order = data.draw(st.permutations(range(len(shape))))
    array = np.arange(np.prod(shape)).reshape([shape[axis] for axis in order]).transpose(np.argsort(order))
    chunks = data.draw(st.tuples(*(st.integers(1, 5) for _ in shape)))
    memory.put("m/r", array, chunks=chunks)
    remote = memory.open("m/r")
    assert (remote.shape, remote.dtype, remote.ndim, remote.chunks) == (array.shape, array.dtype, array.ndim, chunks)
    drawn = data.draw(hnp.basic_indices(array.shape, allow_newaxis=False)) if shape else ()
    key: list[Any] = list(drawn) if isinstance(drawn, tuple) else [drawn]
    free = [axis for axis, part in enumerate(key) if part == slice(None) or isinstance(part, int)]
    if free and Ellipsis not in key:
        axis = data.draw(st.sampled_from(free))
        if array.shape[axis]:
            key[axis] = data.draw(
                hnp.arrays(np.intp, st.integers(0, 6), elements=st.integers(-array.shape[axis], array.shape[axis] - 1))
            )
    want, got = array[tuple(key)], remote[tuple(key)]
    assert np.shape(got) == np.shape(want)
    assert np.array_equal(got, want)


BAD_KEYS: list[Any] = [
    99,
    -99,
    (0, 0, 0, 0),
    (..., ...),
    1.5,
    "x",
    [7],
    np.ones(6, bool),
    slice(None, None, 0),
    ([20],),
]


@pytest.mark.parametrize("key", BAD_KEYS, ids=str)
def test_errors_are_those_of_numpy(memory: ndferry.Client, key: Any) -> None:
    array = np.zeros((7, 11, 5))
    memory.put("m/e", array)
    with pytest.raises((IndexError, ValueError)) as want:
        array[key]
    with pytest.raises(type(want.value)) as got:
        memory.open("m/e")[key]
    assert str(got.value) == str(want.value)


def test_only_touched_chunks_travel_and_each_is_checked(server: Server) -> None:
    array = np.arange(40_000.0).reshape(400, 100)
    with ndferry.connect(server.addr, timeout=60) as c:
        c.put("a", array, chunks=(100, 100))
        with open(server.root / "a" / "c.0.0", "r+b") as shard:
            shard.seek(2 * 80_000 + 5)
            shard.write(b"\xff")
        remote = c.open("a")
        assert np.array_equal(remote[:200], array[:200])
        assert np.array_equal(remote[300:], array[300:])
        with pytest.raises(ndferry.IntegrityError):
            remote[250]
        assert np.array_equal(remote[-1, ::-7], array[-1, ::-7])
        c.put("a", array)
        with pytest.raises(ndferry.ConflictError, match="replaced"):
            remote[0]
        assert np.array_equal(np.asarray(c.open("a")), array)


BROADCAST = {
    "rows": (np.broadcast_to(np.arange(100_000.0), (50, 100_000)), 800_000),
    "columns": (np.broadcast_to(np.arange(30_000, dtype=">i4")[:, None], (30_000, 41)), 120_000),
    "middle": (np.broadcast_to(np.arange(60_000, dtype="u2").reshape(20, 1, 3000), (20, 7, 3000)), 120_000),
    "outer and inner": (np.broadcast_to(np.arange(9000.0)[:, None], (13, 9000, 11)), 72_000),
    "constant": (np.full((1000, 1000), np.float32(-0.0)), 0),
    "NaN with a payload": (np.full(100_000, np.array(0x7FC00001, "<u4").view("<f4")), 0),
    "large integer": (np.full(100_000, 2**64 - 1, "u8"), 0),
    "text": (np.full(50_000, "häß"), 0),
    "NaT": (np.full(70_000, "NaT", "M8[s]"), 0),
    "structure": (np.broadcast_to(np.array((1, 2.5), dtype=[("a", "u1"), ("b", ">f8")]), (300, 200)), 0),
}


@pytest.mark.parametrize("name", BROADCAST)
@pytest.mark.parametrize("digest", ["crc32c", "sha256"])
def test_what_repeats_is_sent_once(server: Server, name: str, digest: Any) -> None:
    array, stored = BROADCAST[name]
    with ndferry.connect(server.addr, timeout=60) as c:
        receipt = c.put("a", array, digest=digest)
        assert receipt.stored_bytes == stored
        back = c.get("a")
        assert back.dtype == array.dtype
        assert same_elements(array, back)
        assert c.verify("a").ok
        part = c.open("a")[1:3]
        assert same_elements(array[1:3], part)
        # the same root, however the cells travelled
        if digest == "sha256":
            plain = np.empty_like(array, shape=array.shape)
            plain[...] = array
            order = tuple(np.argsort([s != 0 for s in array.strides], kind="stable"))
            dense = np.ascontiguousarray(plain.transpose(order)).transpose(np.argsort(order))
            again = c.put("b", dense, chunks=c.stat("a").chunks, digest="sha256")
            assert again.digest.root == receipt.digest.root or c.stat("a").order != c.stat("b").order


def test_npy_files(server: Server, tmp_path: Path) -> None:
    """put and get of the command line: the file that comes back is the one that np.save wrote."""
    binary = str(server.binary)
    for name, dtype in dtypes():
        for layout in ("C", "F"):
            array = LAYOUTS[layout](make(dtype, (3, 4)))
            if dtype.num >= 256 or name in ("with bfloat16", "out of order", "overlapping"):
                continue  # np.save writes types of ml_dtypes as void, and these structures not at all
            np.save(tmp_path / "a.npy", array, allow_pickle=False)
            run(binary, "put", tmp_path / "a.npy", "x", "--addr", server.addr)
            run(binary, "get", "x", tmp_path / "b.npy", "--force", "--addr", server.addr)
            assert (tmp_path / "b.npy").read_bytes() == (tmp_path / "a.npy").read_bytes(), (name, layout)


def test_bfloat16_files_and_regions(server: Server, tmp_path: Path) -> None:
    import ml_dtypes

    binary = str(server.binary)
    array = np.arange(60, dtype=ml_dtypes.bfloat16).reshape(3, 4, 5)
    with ndferry.connect(server.addr, timeout=60) as c:
        c.put("x", array)
        said = run(binary, "get", "x", tmp_path / "a.npy", "--addr", server.addr)
        assert "|V2" in said
        assert np.load(tmp_path / "a.npy").dtype == np.dtype("V2")
        run(binary, "put", tmp_path / "a.npy", "y", "--dtype", "bfloat16", "--addr", server.addr)
        assert c.get("y").dtype == array.dtype
        assert same_elements(c.get("y"), array)
        numbers = array.astype("f4")
        c.put("z", numbers, chunks=(2, 2, 2))
        run(binary, "get", "z", tmp_path / "r.npy", "--region", "0:2,:,-1", "--addr", server.addr)
        assert np.array_equal(np.load(tmp_path / "r.npy"), numbers[0:2, :, -1])


def run(*command: Any) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_attributes_and_dims(memory: ndferry.Client) -> None:
    attrs = {
        "big": 2**70,
        "small": -(2**63) - 1,
        "f": 1e-320,
        "t": "häß\x00",
        "deep": [[[[{"a": None}]]]],
        "dtype": "x",
        "shape": [9],
    }
    memory.put("m/at", np.zeros((2, 3)), attrs=attrs, dims=("time", None))
    assert memory.stat("m/at").attrs == attrs
    assert memory.open("m/at").dims == ("time", None)
    memory.put("m/at", np.zeros((2, 3)))
    assert memory.open("m/at").dims == ("at_0", "at_1")
    with pytest.raises(ndferry.InvalidError):
        memory.put("m/at", np.zeros(2), attrs={"a": float("nan")})
    with pytest.raises(ndferry.InvalidError):
        memory.put("m/at", np.zeros(2), dims=("a", "b"))


@pytest.mark.parametrize("chunks", [(0, 1), (1, -1), (1,), (1.5, 1), "xy", ("1", 1), 1.0, None], ids=str)
def test_chunks(memory: ndferry.Client, chunks: Any) -> None:
    if chunks is None:
        memory.put("m/ch", np.zeros((5, 7)), chunks=(np.int64(2), 3))  # type: ignore[arg-type]  # any regular grid
        assert memory.open("m/ch").chunks == (2, 3)
        return
    with pytest.raises(ndferry.InvalidError, match="chunks"):
        memory.put("m/ch", np.zeros((5, 7)), chunks=chunks)
