"""What C-Blosc encodes on one thread: `smooth.py FILE.npy` writes 244 MiB of smooth float32 and prints MB/s as JSON.

In chunks of 4 MiB with lz4, level 5 and byte shuffle, as `ndferry bench transfer --data FILE.npy --codec lz4` does.
"""

import json
import sys
import time

import numcodecs.blosc
import numpy as np

numcodecs.blosc.set_nthreads(1)
rows, columns = np.ogrid[:8000, :8000]
noise = np.random.default_rng(1).standard_normal((8000, 8000), np.float32)
array = (np.sin(rows / 300) * np.cos(columns / 500) * 100 + noise / 1000).astype(np.float32)
np.save(sys.argv[1], array)
codec = numcodecs.Blosc("lz4", 5, numcodecs.Blosc.SHUFFLE)
flat = array.reshape(-1)
times = []
for _ in range(7):
    start = time.perf_counter()
    size = sum(len(codec.encode(flat[at : at + (1 << 20)])) for at in range(0, flat.size, 1 << 20))
    times.append(time.perf_counter() - start)
rates = sorted(array.nbytes / 1e6 / t for t in times)
print(json.dumps({"encode_mb_s": rates[3], "least": rates[0], "most": rates[-1], "ratio": array.nbytes / size}))
