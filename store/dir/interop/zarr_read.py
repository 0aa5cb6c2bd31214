"""Compare what other programs read from a directory store with what was put there.

``python zarr_read.py DIR`` reads the output of ``go test ./store/dir -run TestInterop -interop DIR`` with zarr-python,
TensorStore and, where the shard is one array, ``numpy.memmap``. It exits 1 when anything differs.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore
import zarr


def same(got: Any, want: np.ndarray) -> bool:
    """Whether both have the same shape and, in the byte order of ``want``, the same bits."""
    got = np.asarray(got)
    return got.shape == want.shape and got.astype(want.dtype).tobytes() == want.tobytes()


def expected(base: Path, item: dict[str, Any]) -> np.ndarray:
    """The array that was put: its memory, with the axes back in logical order."""
    order = item["order"]
    flat = np.frombuffer((base / item["bytes"]).read_bytes(), dtype=item["dtype"])
    return flat.reshape([item["shape"][axis] for axis in order]).transpose(np.argsort(order))


def mapped(node: Path, item: dict[str, Any]) -> np.ndarray:
    """The shard as one array of the padded shape, of which the array is a view."""
    order = item["order"]
    stored = [item["padded"][axis] for axis in order]
    whole = np.memmap(node / item["shard"], dtype=item["dtype"], mode="r", shape=tuple(stored))
    return whole.transpose(np.argsort(order))[tuple(slice(n) for n in item["shape"])]


def problems(base: Path, item: dict[str, Any]) -> list[str]:
    """What is wrong with one array."""
    found = []
    node = base / "store" / "zarr" / item["name"]
    want = expected(base, item)
    inner = tuple(slice(n // 3, n - n // 4) for n in item["shape"])

    group = zarr.open_group(base / "store" / "zarr", mode="r")
    array = group[item["name"]]
    if not same(array[...], want):
        found.append("zarr: other values")
    if not same(array[inner], want[inner]):
        found.append("zarr: other values of a part")
    if dict(array.attrs) != json.loads(item["attributes"]):
        found.append(f"zarr: attributes {dict(array.attrs)}")
    last = item["name"].rsplit("/", 1)[1]
    if array.metadata.dimension_names != tuple(f"{last}_{i}" for i in range(want.ndim)) and want.ndim:
        found.append(f"zarr: dimension names {array.metadata.dimension_names}")

    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(node) + "/"}}
    tensor = tensorstore.open(spec, read=True).result()
    if not same(tensor.read().result(), want):
        found.append("tensorstore: other values")
    if not same(tensor[inner].read().result(), want[inner]):
        found.append("tensorstore: other values of a part")

    if item["slabs"] and want.size and not same(mapped(node, item), want):
        found.append("memmap: other values")
    return found


def main(base: Path) -> int:
    items = json.loads((base / "manifest.json").read_text())
    bad = slabs = 0
    for item in items:
        slabs += bool(item["slabs"])
        for text in problems(base, item):
            bad += 1
            print(f"{item['name']} {item['dtype']} {item['shape']} cell {item['cell']} order {item['order']}: {text}")
    print(
        f"store-interop: arrays={len(items)} mapped={slabs} failed={bad} "
        f"zarr={zarr.__version__} tensorstore={version('tensorstore')} "
        f"numpy={np.__version__}"
    )
    return 1 if bad or not items else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
