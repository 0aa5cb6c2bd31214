"""Check a matrix of parameters between the Go codec and C-Blosc, both ways.

Usage: live.py BINARY [--quick]
"""

from __future__ import annotations

import argparse
import sys

import peer

TYPESIZES = (1, 2, 3, 4, 7, 8, 15, 16, 17, 33, 255, 300)
LENGTHS = (0, 1, 7, 127, 128, 129, 1000, 4096, 65536, 65543, 300_007)
BLOCKSIZES = (0, 128, 1000, 4096, 131072)
C_ONLY = ("blosclz", "lz4hc")


def check(go: peer.Go, raw: bytes, cname: str, clevel: int, shuffle: str, ts: int, bs: int) -> bool:
    """Encode and decode across; return whether lz4 bytes were compared."""
    where = f"{cname} level {clevel} {shuffle} typesize {ts} blocksize {bs} length {len(raw)}"
    c = peer.c_encode(raw, cname, clevel, shuffle, ts, bs) if raw else b""
    if raw and go.decode(c, len(raw)) != raw:
        raise AssertionError(f"Go misreads C-Blosc: {where}")
    if cname in C_ONLY:
        return False
    ours = go.encode(raw, cname, clevel, shuffle, ts, bs)
    try:
        back = peer.c_decode(ours) if raw else raw
    except RuntimeError as e:
        raise AssertionError(f"C-Blosc refuses Go: {where}: {ours[:16].hex()}") from e
    if back != raw:
        raise AssertionError(f"C-Blosc misreads Go: {where}")
    if go.decode(ours, len(raw)) != raw:
        raise AssertionError(f"Go misreads Go: {where}")
    if len(ours) > len(raw) + 16:
        raise AssertionError(f"too long: {where}")
    if not raw or ts > 255:
        return False
    if c[:2] + c[3:12] != ours[:2] + ours[3:12] or (c[2] ^ ours[2]) & ~2:
        raise AssertionError(f"headers differ: {where}: {c[:16].hex()} {ours[:16].hex()}")
    if cname == "lz4" and c != ours:
        raise AssertionError(f"lz4 bytes differ: {where}")
    return cname == "lz4"


def main() -> int:
    """Run the matrix."""
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("binary")
    args.add_argument("--quick", action="store_true", help="a tenth of the matrix")
    opts = args.parse_args()
    cases = equal = turn = 0
    with peer.Go(opts.binary) as go:
        for cname in ("lz4", "zlib", "zstd", *C_ONLY):
            for clevel in (0, 1, 5, 9) if cname != "lz4" else range(10):
                for shuffle in peer.SHUFFLES:
                    for ts in TYPESIZES:
                        for size in LENGTHS:
                            for bs in BLOCKSIZES:
                                turn += 1
                                slow = cname != "lz4" and clevel == 9 and size > 70_000
                                if (opts.quick and turn % 11) or (slow and turn % 5):
                                    continue
                                raw = peer.data(peer.KINDS[turn % len(peer.KINDS)], size, turn)
                                equal += check(go, raw, cname, clevel, shuffle, ts, bs)
                                cases += 1
    print(f"live: {cases} cases both ways, {equal} of lz4 equal to C-Blosc byte for byte")
    return 0 if cases and equal else 1


if __name__ == "__main__":
    sys.exit(main())
