#!/usr/bin/env python3
"""Arrays between the workers of a multiprocessing pool, through a server: nothing large is pickled.

    ndferry serve --store mem: &
    python3 pool_workers.py [ADDR [fork|spawn|forkserver]]

What goes through the pool is names. Each worker connects once, in its initializer: a connection that was made before
``fork`` belongs to the parent, and using it in a child is an error.
"""

import multiprocessing
import sys

import numpy as np

import ndferry

client: ndferry.Client


def connect(addr: str | None) -> None:
    """Run once in each worker."""
    global client
    client = ndferry.connect(addr)


def square(name: str) -> str:
    """Fetch an array, and store what was made of it."""
    result = f"{name}/squared"
    client.put(result, client.get(f"{name}/input") ** 2)
    return result


def main(addr: str | None = None, method: str = "spawn") -> float:
    """Squares of eight arrays, computed by three workers; returns their sum."""
    names = [f"pool/{n}" for n in range(8)]
    with ndferry.connect(addr) as c:
        for n, name in enumerate(names):
            c.put(f"{name}/input", np.full((1000, 1000), n, np.float32))
        with multiprocessing.get_context(method).Pool(3, connect, (addr,)) as pool:
            results = pool.map(square, names)
        return sum(float(c.get(result).sum()) for result in results)


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
