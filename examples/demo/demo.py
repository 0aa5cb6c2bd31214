"""The main job of ndferry on real data: arrays go in from one process and come back in another, bit for bit.

Run by ``make demo``. Steps, each in a process of its own:

1. ``put``: a fresh server stores the samples and one generated array of 256 MiB;
2. ``get``: another process asks for them and compares every bit;
3. ``zarr``: zarr-python opens the store's directory, with no help of ndferry, and compares the values;
4. ``ndferry verify --all``; then one stored byte is damaged in a copy of the store, and ``verify`` must name the chunk.

Exits with 0 when every row of the table is verified.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import ndferry

NDFERRY = os.environ["NDFERRY_BIN"]


def samples() -> dict[str, Callable[[], np.ndarray[Any, Any]]]:
    """The arrays of the demo, by name."""
    import pywt.data
    import skimage.data

    def disparity() -> np.ndarray[Any, Any]:
        path = Path(skimage.data.__file__).with_name("motorcycle_disp.npz")
        with np.load(path, allow_pickle=False) as archive:
            return archive[archive.files[0]]

    return {
        "sea/sst-nino3": lambda: np.ascontiguousarray(np.stack(pywt.data.nino())),
        "heart/ecg": pywt.data.ecg,
        "images/aero": pywt.data.aero,
        "images/camera-fortran": lambda: np.asfortranarray(pywt.data.camera()),
        "images/astronaut": skimage.data.astronaut,
        "images/coffee": skimage.data.coffee,
        "stereo/disparity": disparity,
        "stereo/disparity-big-endian": lambda: disparity().astype(disparity().dtype.newbyteorder(">")),
        "frames/generated": frames,
    }


def frames() -> np.ndarray[Any, Any]:
    """64 detector frames of 1024 x 1024 float32, 256 MiB: noise on a drifting beam; some pixels are dead (NaN)."""
    rng = np.random.default_rng(20261122)
    y, x = np.mgrid[0:1024, 0:1024].astype(np.float32)
    out = rng.standard_normal((64, 1024, 1024), dtype=np.float32)
    for i, frame in enumerate(out):
        frame += 100 * np.exp(-((x - 400 - 3 * i) ** 2 + (y - 512) ** 2) / 2e4)
    out[:, 7, 77] = np.nan
    return out


def same_bits(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    """Tell whether two arrays have one dtype, shape and memory order, and the same bits."""
    if a.dtype != b.dtype or a.shape != b.shape or a.flags.f_contiguous != b.flags.f_contiguous:
        return False
    return bool(np.array_equal(a.ravel("K").view(np.uint8), b.ravel("K").view(np.uint8)))


def put(addr: str) -> Iterator[tuple[str, dict[str, Any]]]:
    with ndferry.connect(addr) as client:
        for name, load in samples().items():
            array = load()
            begin = time.perf_counter()
            receipt = client.put(name, array, digest="sha256", attrs={"source": name, "note": "ndferry demo"})
            seconds = time.perf_counter() - begin
            assert receipt.durability == "durable"
            row = {"dtype": array.dtype.str, "shape": list(array.shape), "put": array.nbytes / seconds / 1e6}
            yield name, row


def get(addr: str) -> Iterator[tuple[str, dict[str, Any]]]:
    with ndferry.connect(addr) as client:
        for name, load in samples().items():
            begin = time.perf_counter()
            array = client.get(name)
            seconds = time.perf_counter() - begin
            yield name, {"get": array.nbytes / seconds / 1e6, "bits": same_bits(load(), array)}


def zarr(directory: str) -> Iterator[tuple[str, dict[str, Any]]]:
    import zarr

    root = zarr.open_group(directory + "/zarr", mode="r")
    for name, load in samples().items():
        node, want = root[name], load()
        assert isinstance(node, zarr.Array)
        ok = node.dtype.newbyteorder("=") == want.dtype.newbyteorder("=") and node.attrs["source"] == name
        yield name, {"zarr": bool(ok and np.array_equal(node[...], want, equal_nan=want.dtype.kind == "f"))}


@contextmanager
def server(directory: Path) -> Iterator[str]:
    """A server on a directory and a Unix socket beside it; yields its address."""
    addr = f"unix://{directory}.sock"
    command = [NDFERRY, "serve", "--store", str(directory), "--listen", addr]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            if not process.stdout.readline().startswith("ndferry: serving"):
                raise SystemExit("demo: the server did not start")
            yield addr
        finally:
            process.terminate()
            if process.wait(30) != 0:
                raise SystemExit(f"demo: the server exited with {process.returncode}")


def step(name: str, argument: str) -> dict[str, dict[str, Any]]:
    """Run a step of this file in a process of its own."""
    done = subprocess.run([sys.executable, __file__, name, argument], stdout=subprocess.PIPE, text=True, check=True)
    rows: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return rows


def verify(addr: str) -> tuple[int, str]:
    """``ndferry verify --all``: its exit code and what it wrote."""
    done = subprocess.run([NDFERRY, "verify", "--all", "--addr", addr], capture_output=True, text=True, check=False)
    return done.returncode, (done.stdout + done.stderr).strip()


def damage(directory: Path) -> tuple[Path, int]:
    """Flip one bit in the middle of the fifth cell of the generated array."""
    shard = directory / "zarr" / "frames" / "generated" / "c.0.0.0"
    offset = 4 * (4 << 20) + (2 << 20)
    with shard.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 4]))
    return shard, offset


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="ndferry-demo-") as scratch:
        store = Path(scratch) / "store"
        rows: dict[str, dict[str, Any]] = {}
        with server(store) as addr:
            print(f"1. a server on a fresh directory; every array goes in from one process  ({addr})")
            rows = step("put", addr)
            print("2. another process gets them and compares every bit")
            for name, row in step("get", addr).items():
                rows[name] |= row
            print("3. zarr opens the directory by itself")
            for name, row in step("zarr", str(store)).items():
                rows[name] |= row
            code, said = verify(addr)
            print(f"4. ndferry verify --all: exit {code}")
            if code != 0:
                print(said)
        ok = code == 0 and table(rows)
        copy = Path(scratch) / "damaged"
        shutil.copytree(store, copy)
        shard, offset = damage(copy)
        with server(copy) as addr:
            code, said = verify(addr)
        print(
            f"5. one bit of {shard.relative_to(copy)} flipped at byte {offset:,} of a copy; ndferry verify --all: exit {code}"
        )
        print("   " + "\n   ".join(line for line in said.splitlines() if "frames/generated" in line))
        named = code == 11 and "chunk 4 in zarr/frames/generated" in said
        if not named:
            print("demo: verify did not name the damaged chunk", file=sys.stderr)
            print(said, file=sys.stderr)
        return 0 if ok and named else 1


def table(rows: dict[str, dict[str, Any]]) -> bool:
    print(f"\n   {'array':<28} {'dtype':<6} {'shape':<18} {'put MB/s':>9} {'get MB/s':>9}  verified")
    ok = True
    for name, row in rows.items():
        verified = row["bits"] and row["zarr"]
        ok = ok and verified
        shape = " x ".join(map(str, row["shape"]))
        print(
            f"   {name:<28} {row['dtype']:<6} {shape:<18} {row['put']:>9,.1f} {row['get']:>9,.1f}  {'yes' if verified else 'NO'}"
        )
    print()
    return ok


if __name__ == "__main__":
    steps = {"put": put, "get": get, "zarr": zarr}
    if len(sys.argv) == 3 and sys.argv[1] in steps:
        print(json.dumps(dict(steps[sys.argv[1]](sys.argv[2]))))
    else:
        sys.exit(main())
