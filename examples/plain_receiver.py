#!/usr/bin/env python3
"""A receiver of arrays with nothing but Python and spec/WIRE.md (§11): no NumPy, none of ndferry.

    python3 plain_receiver.py [PORT]

takes what `ndferry send FILE.npy --to HOST:PORT` or `ndferry.send_array` sends it. Sections are those of spec/WIRE.md."""

import hashlib
import json
import math
import socket
import struct
import sys
import time

HELLO, PING, PONG, ERROR, PUT, FINISH, CANCEL, RECEIPT, CHUNK = 1, 2, 3, 4, 16, 17, 23, 34, 48
SIZES = {"bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "float16": 2, "int32": 4, "uint32": 4, "float32": 4,
         "int64": 8, "uint64": 8, "float64": 8, "complex64": 8, "complex128": 16}  # fmt: skip


TABLE = list(range(256))
for _ in range(8):
    TABLE = [crc >> 1 ^ (0x82F63B78 if crc & 1 else 0) for crc in TABLE]


class Refused(Exception):
    """The array cannot be received. The stream is at a boundary."""


def crc32c(data):  # §1
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 0xFF]
    return ~crc & 0xFFFFFFFF


def read(sock, size):
    data = sock.recv(size, socket.MSG_WAITALL) if size else b""
    if len(data) < size:
        raise EOFError("the sender closed the stream")
    return data


def send(sock, kind, stream, message=None, index=0):  # §1: header, payload, trailer
    payload = b"" if message is None else json.dumps(message).encode()
    header = b"NDF1" + struct.pack("<BBHIIQI", kind, kind == HELLO, 0, stream, len(payload), index, 0)
    frame = header + struct.pack("<I", crc32c(header))
    sock.sendall(frame + payload + struct.pack("<II", crc32c(payload), 0) if payload else frame)


def frame(sock):
    """The next frame that matters: kind, stream, index, payload (None when it is damaged)."""
    while True:
        header = read(sock, 32)
        magic, kind, flags, handles, stream, length, index, raw, crc = struct.unpack("<4sBBHIIQII", header)
        if magic != b"NDF1" or crc != crc32c(header[:28]) or flags > 1 or handles:
            raise ValueError("not a frame of this protocol")
        if length > {PUT: 0x210000, CHUNK: 0x1010000}.get(kind, 0x10000):  # §8
            raise ValueError(f"{length} bytes of payload")
        payload = read(sock, length)
        good = not length or struct.unpack("<II", read(sock, 8)) == (crc32c(payload), 0)
        if kind in (HELLO, PUT, CHUNK, FINISH, CANCEL):
            return kind, stream, index, payload if good else None
        if kind == PING:
            send(sock, PONG, 0, index=index)
        elif kind == ERROR or flags & 1:
            raise ValueError(f"frame kind {kind}: {payload.decode(errors='replace')}")


class Layout:  # §5.6
    def __init__(self, put):
        meta = put["array"]
        codecs, cell = list(meta["codecs"]), meta["chunk_grid"]["configuration"]["chunk_shape"]
        self.shape, self.order = meta["shape"], list(range(len(cell)))
        if codecs[0]["name"] == "transpose":
            self.order = codecs.pop(0)["configuration"]["order"]
        if [codec["name"] for codec in codecs] != ["bytes"] or meta["data_type"] not in SIZES:
            raise Refused(f"data type {meta['data_type']} with codecs {codecs}")
        self.item = SIZES[meta["data_type"]]
        self.stored = [self.shape[axis] for axis in self.order]  # axes as they lie in memory
        self.cell = [cell[axis] for axis in self.order]
        self.grid = [-(-n // c) for n, c in zip(self.stored, self.cell)]
        self.cells, self.cell_bytes = math.prod(self.grid), math.prod(self.cell) * self.item
        self.nbytes = math.prod(self.stored) * self.item
        self.head = [",".join(map(str, v)) for v in (self.shape, cell, self.order)]
        cut = next((axis for axis, n in enumerate(self.cell) if n != 1), len(self.cell) - 1)
        if self.cells and self.stored[cut + 1 :] != self.cell[cut + 1 :]:
            raise Refused("cells that are not one after the other in memory")
        self.slabs, self.step = (self.stored or [1])[cut], (self.cell or [1])[cut]
        self.slab = self.item * math.prod(self.stored[cut + 1 :])

    def place(self, number, data, array):
        """Copy a cell to where it belongs. What reaches over the edge must be zero."""
        before, position = divmod(number, -(-self.slabs // self.step))
        first = position * self.step
        length = min(self.step, self.slabs - first) * self.slab
        if any(data[length:]):
            raise Refused("padding is not zero")
        offset = (before * self.slabs + first) * self.slab
        array[offset : offset + length] = data[:length]


def receive(sock):
    """One array: the message of its PUT, and its bytes in memory order. Reads nothing behind it."""
    send(sock, HELLO, 0, {"versions": [1, 1], "software": "plain receiver", "features": [], "codecs": ["none"],
                          "digests": ["crc32c", "sha256"], "credit": 1 << 62})  # fmt: skip
    hello, put, problem, leaves, array = None, None, None, {}, bytearray()
    while True:
        kind, stream, index, payload = frame(sock)
        if (payload is None and kind != CHUNK) or (hello is None) != (kind == HELLO) or (kind == PUT) != (
            hello is not None and put is None and kind != HELLO):  # fmt: skip
            raise ValueError(f"frame kind {kind} is damaged or out of turn")
        try:
            if kind == HELLO:
                hello = json.loads(payload)
            elif kind == PUT:
                put = json.loads(payload)
                layout = Layout(put)
                array = bytearray(layout.nbytes)
            elif kind == CHUNK and not problem:
                if payload is None or len(payload) != layout.cell_bytes or index >= layout.cells or index in leaves:
                    raise Refused(f"cell {index} is damaged, or is none of this array")
                layout.place(index, payload, array)
                leaves[index] = hashlib.sha256(payload).digest() if put.get("digest") == "sha256" else b""
            elif kind in (FINISH, CANCEL):
                if problem or kind == CANCEL or len(leaves) != layout.cells:
                    raise Refused(problem or "cancelled, or cells are missing")
                digest = {"kind": put.get("digest", "crc32c")}
                if digest["kind"] == "sha256":  # §5.7
                    head = "\n".join(["ndferry root 1", put["numpy"].replace(">c", "<c"), *layout.head, ""]).encode()
                    digest["root"] = hashlib.sha256(head + b"".join(v for _, v in sorted(leaves.items()))).hexdigest()
                    if digest["root"] != json.loads(payload)["root"]:
                        raise Refused("the sha256 root is not the sender's")
                send(sock, RECEIPT, stream, {"name": put["name"], "id": put["id"], "nbytes": layout.nbytes,
                     "stored_bytes": layout.cells * layout.cell_bytes, "cells": layout.cells, "codec": "none",
                     "digest": digest, "durability": "memory", "created": time.strftime("%FT%TZ", time.gmtime())})
                return put, bytes(array)
        except Refused as refused:
            if not problem:  # told once; then everything up to FINISH or CANCEL is thrown away
                problem = str(refused)
                send(sock, ERROR, stream, {"code": "invalid", "message": problem, "retryable": False})
            if kind in (FINISH, CANCEL):
                raise


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", int(sys.argv[1]) if sys.argv[1:] else 0)) as listener:
        print("listening on", listener.getsockname()[1], flush=True)
        message, content = receive(listener.accept()[0])
        print(message["name"], message["numpy"], message["array"]["shape"], len(content), "bytes")
