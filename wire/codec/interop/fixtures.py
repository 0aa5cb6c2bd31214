"""Decode the Blosc fixtures that numcodecs and C-Blosc publish.

Usage: fixtures.py BINARY [--cache DIRECTORY]

Both are in numcodecs' source distribution, which pip fetches into the cache
the first time: ``fixture/blosc`` (arrays and what older releases encoded) and
``c-blosc/compat`` (one container by each old release and compressor).
"""

from __future__ import annotations

import argparse
import io
import pathlib
import struct
import subprocess
import sys
import tarfile

import numpy as np
import peer

RELEASE = "0.16.6"


def sdist(cache: pathlib.Path) -> pathlib.Path:
    """Return the path of the source distribution, fetching it if need be."""
    path = cache / f"numcodecs-{RELEASE}.tar.gz"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "numcodecs",
             "-d", str(cache), f"numcodecs=={RELEASE}"],
            check=True,
        )
    return path


def main() -> int:
    """Decode everything and compare."""
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("binary")
    args.add_argument("--cache", type=pathlib.Path, default=pathlib.Path(".cache/fixtures"))
    opts = args.parse_args()
    with tarfile.open(sdist(opts.cache)) as tar:
        files = {
            name.split("/", 1)[1]: tar.extractfile(member).read()  # type: ignore[union-attr]
            for member in tar.getmembers()
            if member.isfile() and ("/fixture/blosc/" in (name := member.name) or "/c-blosc/compat/" in name)
        }
    arrays = {n.split(".")[-2]: np.load(io.BytesIO(b)) for n, b in files.items() if n.endswith(".npy")}
    fixtures = compat = refused = 0
    with peer.Go(opts.binary) as go:
        for name, body in sorted(files.items()):
            if not name.endswith((".dat", ".cdata")):
                continue
            fixture = name.startswith("fixture/")
            want = arrays[name.split(".")[-2]].tobytes(order="A") if fixture else None
            size = len(want) if want is not None else struct.unpack("<I", body[4:8])[0]
            snappy = body[2] >> 5 == 2 and not body[2] & 2
            try:
                got = go.decode(body, size)
            except peer.GoError as e:
                if not snappy or "snappy" not in str(e):
                    raise AssertionError(f"{name}: {e}") from e
                refused += 1
                continue
            if got != (peer.c_decode(body) if want is None else want):
                raise AssertionError(f"Go misreads {name}")
            fixtures, compat = fixtures + fixture, compat + (not fixture)
    if not fixtures or not compat:
        raise AssertionError(f"found {fixtures} fixtures, {compat} compat vectors")
    print(f"fixtures: {fixtures} of numcodecs, {compat} of c-blosc/compat decoded, {refused} with snappy refused")
    return 0


if __name__ == "__main__":
    sys.exit(main())
