"""Compare the Go codec with C-Blosc, one thread each, in one run.

Usage: compare.py BINARY [--rounds N] [--seconds S] [--only lz4-5,...] [--kinds ...]

The two take turns, a round of one and a round of the other, and the medians
are compared. C-Blosc is the one in numcodecs. It decodes into memory that is
kept, and the C library is told to keep freed memory, so that encoding pays for
no fresh pages.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

os.environ.update(MALLOC_MMAP_THRESHOLD_=str(1 << 30), MALLOC_TRIM_THRESHOLD_=str(1 << 31), MALLOC_TOP_PAD_=str(64 << 20))
if os.environ.get("CODEC_BENCH_CHILD") != "1":
    os.environ["CODEC_BENCH_CHILD"] = "1"
    os.execv(sys.executable, [sys.executable, *sys.argv])

import numpy as np
from numcodecs import blosc

SETTINGS = (("lz4", 5), ("zstd", 1), ("zstd", 5), ("zlib", 6))
CHUNK = 4 << 20


def kinds() -> dict[str, np.ndarray]:
    """Make the five kinds of data, one chunk each."""
    rng = np.random.default_rng(5)
    x = np.linspace(0, 40, CHUNK // 4)
    side = 1 << ((CHUNK.bit_length() - 1) // 2)
    yy, xx = np.mgrid[0:side, 0:side] / side
    picture = 127 + 60 * np.sin(9 * xx) * np.cos(7 * yy) + 40 * (xx > yy) + rng.normal(0, 1.5, (side, side))
    return {
        "smooth float32": (np.sin(x) + 0.2 * np.sin(11 * x)).astype(np.float32),
        "noise float64": 1000.0 + rng.standard_normal(CHUNK // 8),
        "counter int32": np.cumsum(rng.integers(0, 3, CHUNK // 4)).astype(np.int32),
        "image uint8": np.clip(picture, 0, 255).astype(np.uint8),
        "random": rng.integers(0, 256, CHUNK, dtype=np.uint8),
    }


class Go:
    """The Go side."""

    def __init__(self, binary: str) -> None:
        env = dict(os.environ, GOMAXPROCS="1")
        self._p = subprocess.Popen([binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)

    def ask(self, **request: object) -> dict[str, float]:
        """Time one round."""
        assert self._p.stdin is not None and self._p.stdout is not None
        self._p.stdin.write(json.dumps(request).encode() + b"\n")
        self._p.stdin.flush()
        line = self._p.stdout.readline()
        if not line:
            raise SystemExit("the Go side died")
        return dict(json.loads(line))

    def close(self) -> None:
        """End the child."""
        assert self._p.stdin is not None
        self._p.stdin.close()
        self._p.wait()


def time_c(op: str, raw: np.ndarray, enc: bytes, cname: str, level: int, seconds: float) -> float:
    """Time one round of C-Blosc; return seconds a run."""
    back = bytearray(raw.nbytes)
    n, start = 0, time.perf_counter()
    while n == 0 or time.perf_counter() - start < seconds:
        if op == "encode":
            blosc.compress(raw, cname.encode(), level, blosc.SHUFFLE, 0)
        else:
            blosc.decompress(enc, back)
        n += 1
    return (time.perf_counter() - start) / n


def main() -> int:
    """Run and print a Markdown table."""
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("binary")
    args.add_argument("--rounds", type=int, default=7)
    args.add_argument("--seconds", type=float, default=0.05)
    args.add_argument("--only", default=",".join(f"{c}-{v}" for c, v in SETTINGS))
    args.add_argument("--kinds", default="", help="only kinds whose name contains this")
    opts = args.parse_args()
    blosc.set_nthreads(1)
    go = Go(opts.binary)
    print("| setting | data | ratio C | ratio Go | of C | enc C GB/s | enc Go | of C | dec C GB/s | dec Go | of C |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as tmp:
        for setting in opts.only.split(","):
            cname, level = setting.split("-")
            quotients: dict[str, list[float]] = {"ratio": [], "encode": [], "decode": []}
            for kind, raw in kinds().items():
                if opts.kinds not in kind:
                    continue
                path = os.path.join(tmp, "raw")
                raw.tofile(path)
                enc = blosc.compress(raw, cname.encode(), int(level), blosc.SHUFFLE, 0)
                rate: dict[str, list[float]] = {}
                encoded = 0
                for op in ("encode", "decode"):
                    c_times, go_times = [], []
                    for _ in range(opts.rounds):
                        c_times.append(time_c(op, raw, enc, cname, int(level), opts.seconds))
                        ans = go.ask(
                            File=path, Codec=cname, Level=int(level), Op=op, Seconds=opts.seconds,
                            Shuffle="byte" if raw.itemsize > 1 else "none", TypeSize=raw.itemsize, BlockSize=0,
                        )
                        go_times.append(ans["Seconds"])
                        encoded = int(ans["Encoded"])
                    rate[op] = [raw.nbytes / statistics.median(t) / 1e9 for t in (c_times, go_times)]
                stored = enc[2] & 2
                ratio = (len(enc) / encoded, rate["encode"][1] / rate["encode"][0], rate["decode"][1] / rate["decode"][0])
                if not stored:
                    for name, q in zip(quotients, ratio, strict=True):
                        quotients[name].append(q)
                e, d = rate["encode"], rate["decode"]
                print(
                    f"| {setting} | {kind}{' (stored)' if stored else ''} | {raw.nbytes / len(enc):.3f} | {raw.nbytes / encoded:.3f} | {ratio[0]:.3f} "
                    f"| {e[0]:.3f} | {e[1]:.3f} | {ratio[1]:.2f} | {d[0]:.3f} | {d[1]:.3f} | {ratio[2]:.2f} |",
                    flush=True,
                )
            if quotients["ratio"]:
                m = {k: statistics.geometric_mean(v) for k, v in quotients.items()}
                print(f"| **{setting}** | **mean** | | | **{m['ratio']:.3f}** | | | **{m['encode']:.2f}** | | | **{m['decode']:.2f}** |", flush=True)
    go.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
