"""What other readers make of a store, run in the Python that has them: ``readers.py ROOT READER...`` prints JSON.

For each array of `cases` and each reader: ``equal`` (the elements, bit for bit), ``raw`` (the same bytes under another
dtype, or for dtypes without bytes an array of blanks), ``refused``, ``wrong``.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import ndferry
from arrays import Array, dtypes, make, same_elements

SHAPE = (6, 5, 4)
CUT = ", chunks over the edge"

READERS: dict[str, Callable[[Path], Any]] = {}


def cases() -> dict[str, Array]:
    """The arrays of the table, by the name of their row."""
    found: dict[str, Array] = {}
    for name, dtype in dtypes():
        found[name] = make(dtype, SHAPE)
    for name, order in (("<f8 F order", (2, 1, 0)), ("<f8 permuted", (1, 2, 0))):
        inverse = np.argsort(order)
        found[name] = make(np.dtype("<f8"), tuple(SHAPE[axis] for axis in order)).transpose(*inverse)
    found["<f8 0-d"] = make(np.dtype("<f8"), ())
    found["<f8 empty"] = make(np.dtype("<f8"), (3, 0, 2))
    found["<f8 constant"] = np.full((100, 200), np.pi)
    found["<f8 broadcast"] = np.broadcast_to(make(np.dtype("<f8"), (10000,)), (7, 10000))
    for name in ("<f8", ">c16", "|S5", "packed big"):
        found[f"{name}{CUT}"] = found[name]
    for ndim in (31, 32, 63, 64):
        found[f"<f8 ndim {ndim}"] = make(np.dtype("<f8"), (2, 3)).reshape((2, 3) + (1,) * (ndim - 2))
    return found


def file_name(row: str) -> str:
    """The name of an array in the store."""
    return "".join(c if c.isalnum() else f"-{ord(c):x}-" for c in row)


def chunks_of(row: str) -> tuple[int, ...] | None:
    """The chunks with which an array is put."""
    return (4, 3, 3) if row.endswith(CUT) else None


def zarr_python(path: Path) -> Any:
    import zarr

    return zarr.open_array(str(path), mode="r")[...]


def zarr_rust(path: Path) -> Any:
    import zarr
    import zarrs  # noqa: F401

    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "codec_pipeline.strict": True}):
        return zarr.open_array(str(path), mode="r")[...]


def tensorstore(path: Path) -> Any:
    import tensorstore as ts

    def read(**more: Any) -> Array:
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}, **more}
        opened = ts.open(spec, open=True, read=True).result()
        content: Array = opened.read().result()
        return of_bytes(content) if opened.dtype == ts.byte else content

    kind = json.loads((path / "zarr.json").read_text())["data_type"]
    if kind["name"] != "struct" if isinstance(kind, dict) else True:
        return read()
    parts = {field["name"]: read(field=field["name"]) for field in kind["configuration"]["fields"]}  # it reads one
    whole = np.zeros(next(iter(parts.values())).shape, [(name, part.dtype) for name, part in parts.items()])
    for name, part in parts.items():
        whole[name] = part
    return whole


class _Memory:
    """Memory that another array has, as an array of bytes."""

    def __init__(self, of: Array) -> None:
        self.keep = of
        self.__array_interface__ = {**of.__array_interface__, "typestr": "|u1", "descr": [("", "|u1")]}


def of_bytes(content: Array) -> Array:
    """TensorStore's `byte` has the dtype V0 in NumPy, whose elements are empty: the bytes are in its memory."""
    assert content.dtype == np.dtype("V0")
    return np.asarray(_Memory(content))


def xarray(path: Path) -> Any:
    import xarray as xr

    with xr.open_dataset(str(path.parent), engine="zarr", consolidated=False, decode_cf=False) as dataset:
        return dataset[path.name].values


def dask(path: Path) -> Any:
    import dask.array as da

    return da.from_zarr(str(path)).compute()


READERS.update({"zarr": zarr_python, "zarrs": zarr_rust, "tensorstore": tensorstore, "xarray": xarray, "dask": dask})


def judge(read: Callable[[Path], Any], path: Path, want: Array, why: bool) -> str:
    """One cell of the table."""
    try:
        got = np.asarray(read(path))
    except Exception as error:
        if why:
            print(path.name, type(error).__name__, str(error)[:200], file=sys.stderr)
        return "refused"
    if got.dtype.itemsize == 1 and got.ndim > want.ndim and got.tobytes() == want.tobytes() and want.dtype.itemsize:
        return "raw"  # TensorStore shows raw bytes as an axis of their own
    if got.shape != want.shape and not (want.dtype.itemsize == 0 and got.shape[: want.ndim] == want.shape):
        return "wrong"
    if got.dtype.names == want.dtype.names and got.dtype.kind == want.dtype.kind and same_elements(want, got):
        return "equal"
    if want.dtype.itemsize == 0:
        return "raw" if not any(got.tobytes()) else "wrong"
    if got.dtype.itemsize == want.dtype.itemsize and got.tobytes() == want.tobytes():
        return "raw"
    return "wrong"


def main() -> None:
    """Print the outcome of every reader that is named for every array of the table."""
    warnings.simplefilter("ignore")
    ndferry.register_zarr_types()
    root = Path(sys.argv[1])
    rows = cases()
    why = "-v" in sys.argv
    table = {}
    for reader in sys.argv[2:]:
        if reader in READERS:
            read = READERS[reader]
            table[reader] = {row: judge(read, root / file_name(row) / "a", want, why) for row, want in rows.items()}
    print(json.dumps(table))


if __name__ == "__main__":
    main()
