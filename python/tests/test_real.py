"""Real arrays, from packages that ship them: byte for byte the same after the journey, through ndferry and as Zarr."""

from __future__ import annotations

import io
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import ndferry
from arrays import Array
from conftest import Server


def numpy_files() -> Iterator[tuple[str, Array]]:
    """What NumPy's own tests read."""
    folder = Path(np.__file__).parent / "lib" / "tests" / "data"
    for path in sorted(folder.glob("*.npy")):
        try:
            yield path.name, np.load(path)
        except ValueError:
            continue  # Python objects, which need pickle


def scipy_files() -> Iterator[tuple[str, Array]]:
    """What SciPy's own tests read: reference values, sparse matrices in parts."""
    import scipy

    for path in sorted(Path(scipy.__file__).parent.rglob("*.np[yz]")):
        loaded = np.load(path)
        parts = {"": loaded} if isinstance(loaded, np.ndarray) else loaded
        for name in list(parts)[:20]:
            try:
                part = parts[name]
            except ValueError:
                continue  # Python objects, which need pickle
            if part.dtype.type not in (np.longdouble, np.clongdouble):
                yield f"{path.name}/{name}", part


def wavelets() -> Iterator[tuple[str, Array]]:
    """Images, an electrocardiogram, sea surface temperatures."""
    import pywt

    for path in sorted((Path(pywt.__file__).parent / "data").glob("*.npz")):
        with np.load(path) as archive:
            yield from ((f"{path.stem}/{name}", archive[name]) for name in archive.files)


def images() -> Iterator[tuple[str, Array]]:
    """Faces and a disparity map."""
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    yield "lfw", np.load(folder / "lfw_subset.npy")
    with np.load(folder / "motorcycle_disp.npz") as archive:
        yield from (("motorcycle", archive[name]) for name in archive.files)


def telescopes() -> Iterator[tuple[str, Array]]:
    """FITS files: big-endian images and tables."""
    from astropy.io import fits

    folder = Path(fits.__file__).parent / "tests" / "data"
    for name in ("arange.fits", "scale.fits", "table.fits", "test0.fits", "tb.fits"):
        with fits.open(folder / name, memmap=False, do_not_scale_image_data=True) as units:
            for number, unit in enumerate(units):
                if unit.data is not None:
                    yield f"{name}/{number}", np.asarray(unit.data).copy()


def volumes() -> Iterator[tuple[str, Array]]:
    """Scans of heads."""
    import nibabel

    folder = Path(nibabel.__file__).parent / "tests" / "data"
    for name in ("example4d.nii.gz", "anatomical.nii", "functional.nii", "reoriented_anat_moved.nii"):
        yield name, np.asarray(nibabel.load(folder / name).dataobj.get_unscaled())


def slices() -> Iterator[tuple[str, Array]]:
    """Computed tomography and magnetic resonance."""
    import pydicom

    for name in ("CT_small.dcm", "MR_small.dcm", "MR_small_bigendian.dcm"):
        yield name, pydicom.dcmread(pydicom.data.get_testdata_file(name, download=False)).pixel_array


SETS = {f.__name__: f for f in (numpy_files, scipy_files, wavelets, images, telescopes, volumes, slices)}

FIXED = {
    "numpy_files": 2, "scipy_files": 139, "wavelets": 5, "images": 2, "telescopes": 8, "volumes": 4, "slices": 3,
}  # fmt: skip
"""Arrays of each, in the pinned versions of the packages."""


@pytest.mark.parametrize("name", SETS)
def test_real_arrays(server: Server, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arrays = list(SETS[name]())
    assert len(arrays) == FIXED[name]
    with ndferry.connect(server.addr, timeout=60) as c:
        for number, (label, array) in enumerate(arrays):
            c.put(f"r{number}", array, digest="sha256")
            back = c.get(f"r{number}")
            assert back.dtype == array.dtype, label
            assert npy(back) == npy(array), label
            assert c.verify(f"r{number}").ok
            if array.dtype.names is None and array.dtype.itemsize:
                other: Any = zarr.open_array(str(server.root / f"r{number}"), mode="r")[...]
                assert np.asarray(other).astype(array.dtype).tobytes() == array.tobytes(), label


def npy(array: Array) -> bytes:
    """The array as np.save writes it, in C order."""
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(array), allow_pickle=False)
    return file.getvalue()


def test_npy_files_of_packages(server: Server, tmp_path: Path) -> None:
    """As they are, by the command line: the same elements, byte for byte, under the same dtype."""
    import scipy
    import skimage

    packages = [Path(str(package.__file__)).parent for package in (np, scipy, skimage)]
    paths = [path for package in packages for path in sorted(package.rglob("*.npy"))]
    refused = []
    for path in paths:
        put = run(server, "put", path, "a")
        if put.returncode:
            assert put.returncode == 2, put.stderr
            assert "pickle" in put.stderr or "object" in put.stderr, put.stderr
            refused.append(path.name)
            continue
        back = tmp_path / path.name
        assert run(server, "get", "a", back).returncode == 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it was made by Python 2
            want = np.load(path)
        got = np.load(back)
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        assert back.read_bytes()[-want.nbytes :] == path.read_bytes()[-want.nbytes :]
    assert sorted(refused) == ["py2-np0-objarr.npy", "py2-objarr.npy", "py3-objarr.npy"]
    assert len(paths) == 14


def run(server: Server, *command: Any) -> subprocess.CompletedProcess[str]:
    line = [str(part) for part in (server.binary, *command, "--addr", server.addr)]
    return subprocess.run(line, capture_output=True, text=True, timeout=60)
