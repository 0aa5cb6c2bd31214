"""Fuzz the Go decoder against C-Blosc, by hand.

Usage: fuzz.py BINARY [--seconds 60] [--seed N]

Containers of both sides are damaged: bits, bytes and sizes overwritten, cut,
spliced. Whatever C-Blosc decodes, Go must decode to the same bytes or refuse;
what only one side accepts is counted. Go is the stricter one: it wants the
sizes in the header to agree with the container and the destination. C-Blosc
runs in a child, which damaged input may kill.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import sys
import time
from collections import Counter
from multiprocessing.connection import Connection

import numpy as np
import peer


# A forked child would hold the pipes of the Go side open.
SPAWN = mp.get_context("spawn")


def c_child(pipe: Connection) -> None:
    """Decode what comes until nothing comes."""
    while True:
        try:
            container, size = pipe.recv()
        except EOFError:
            return
        try:
            out = bytearray(size)
            peer.blosc.decompress(container, out)
            pipe.send(bytes(out))
        except (RuntimeError, ValueError, MemoryError):
            pipe.send(None)


class CSide:
    """C-Blosc in a child that is started again when it dies."""

    def __init__(self) -> None:
        self.deaths = 0
        self._start()

    def _start(self) -> None:
        self._pipe, other = SPAWN.Pipe()
        self._p = SPAWN.Process(target=c_child, args=(other,), daemon=True)
        self._p.start()
        other.close()

    def decode(self, container: bytes, size: int) -> bytes | None:
        """Decode, None for a refusal or a death."""
        try:
            self._pipe.send((container, size))
            return self._pipe.recv()
        except (EOFError, OSError):
            self.deaths += 1
            self._start()
            return None


def damage(rng: np.random.Generator, enc: bytes) -> bytes:
    """Damage a container."""
    b = bytearray(enc)
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(0, len(b)))
        if rng.random() < 0.4:
            at = int(rng.integers(16, min(len(b), 64) + 1)) - 1 if len(b) > 16 else at
        match int(rng.integers(0, 5)):
            case 0:
                b[at] ^= 1 << int(rng.integers(0, 8))
            case 1:
                b[at] = int(rng.integers(0, 256))
            case 2:
                b[at : at + 4] = int(rng.integers(0, 1 << 32)).to_bytes(4, "little")[: len(b) - at]
            case 3:
                b[at : at + 4] = int(rng.integers(0, len(b) + 40)).to_bytes(4, "little")[: len(b) - at]
            case _:
                other = int(rng.integers(0, len(b)))
                n = int(rng.integers(1, 9))
                b[at : at + n] = b[other : other + n][: len(b) - at]
    if len(b) > 20 and rng.random() < 0.1:
        del b[int(rng.integers(17, len(b))) :]
        b[12:16] = len(b).to_bytes(4, "little")
    return bytes(b)


def main() -> int:
    """Run for a time and print the counts."""
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("binary")
    args.add_argument("--seconds", type=float, default=60)
    args.add_argument("--seed", type=int, default=1)
    opts = args.parse_args()
    rng = np.random.default_rng(opts.seed)
    counts: Counter[str] = Counter()
    c = CSide()
    names = ("lz4", "zlib", "zstd", "blosclz", "lz4hc")
    stop = time.monotonic() + opts.seconds
    with peer.Go(opts.binary) as go:
        while time.monotonic() < stop:
            seed = int(rng.integers(0, 1 << 30))
            size = int(rng.integers(1, 4000))
            raw = peer.data(peer.KINDS[seed % len(peer.KINDS)], size, seed)
            cname = names[seed // 7 % len(names)]
            shuffle = ("none", "byte", "bit")[seed // 11 % 3]
            ts, bs = (1, 2, 3, 4, 8, 16, 33)[seed % 7], (0, 128, 256, 1000)[seed % 4]
            by_go = cname in peer.CODECS and seed % 2
            enc = (go.encode if by_go else peer.c_encode)(raw, cname, 1 + seed % 9, shuffle, ts, bs)
            for _ in range(20):
                bad = damage(rng, enc)
                want = c.decode(bad, size)
                try:
                    got: bytes | None = go.decode(bad, size)
                except peer.GoError:
                    got = None
                if got is None or want is None:
                    verdict = "both refuse" if got is want else "only C-Blosc decodes" if got is None else "only Go decodes"
                else:
                    verdict = "same bytes" if got == want else "DIFFERENT BYTES"
                if verdict == "DIFFERENT BYTES":
                    print(f"different: size {size} container {bad.hex()}")
                counts[verdict] += 1
    print(f"fuzz: seed {opts.seed}, {sum(counts.values())} damaged containers: {dict(counts)}; C-Blosc died {c.deaths} times")
    return 1 if counts["DIFFERENT BYTES"] else 0


if __name__ == "__main__":
    sys.exit(main())
