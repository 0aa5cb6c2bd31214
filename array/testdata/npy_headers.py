"""Write npy_headers.txt, the .npy headers that NumPy writes.

    python3 npy_headers.py > npy_headers.txt

One line each: dtype.str, shape (comma-separated, - for 0-d), 1 for Fortran
order, and the header as a JSON string in Latin-1. The first line says which
NumPy made them. Arrays small enough to exist come from np.save itself.
"""

import io
import json

import numpy as np
from numpy.lib import format as npy

TYPES = "|b1 |i1 <i2 >i2 <i4 >i4 <i8 >i8 |u1 <u2 >u2 <u4 >u4 <u8 >u8 <f2 >f2 <f4 >f4 <f8 >f8 <c8 >c8 <c16 >c16".split()
SMALL = [(), (0,), (1,), (10,), (2, 3), (3, 0, 2), (3, 4, 5)]
LARGE = [(2, 1000003), (2**62,), (99999, 10, 1234567890)] + [(1,) * n for n in range(1, 65)]


def emit(dtype, shape, fortran, header):
    text = json.dumps(header.decode("latin-1"))
    print(dtype, ",".join(map(str, shape)) or "-", int(fortran), text)


print("# numpy", np.__version__)
for dtype in TYPES:
    for shape in SMALL:
        for order in "CF":
            a = np.zeros(shape, dtype, order)
            b = io.BytesIO()
            np.save(b, a)
            fortran = a.flags.f_contiguous and not a.flags.c_contiguous
            emit(dtype, shape, fortran, b.getvalue()[: len(b.getvalue()) - a.nbytes])
for shape in LARGE:
    for fortran in (False, True):
        b = io.BytesIO()
        npy.write_array_header_1_0(b, {"descr": "<f8", "fortran_order": fortran, "shape": shape})
        emit("<f8", shape, fortran, b.getvalue())
