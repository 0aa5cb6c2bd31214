"""A server in memory, written from spec/WIRE.md and sharing nothing with the package: it refuses whatever it may.

It is strict where a real server may be lenient, so that what the client sends is held to the letter.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import os
import socket
import struct
import threading
from dataclasses import dataclass, field
from typing import Any

import google_crc32c
import numpy as np

HELLO, PING, PONG, ERROR, CREDIT = 1, 2, 3, 4, 7
PUT, FINISH, GET, STAT, LIST, DELETE, VERIFY, CANCEL = range(16, 24)
ACCEPT, ACK, RECEIPT, META, ENTRIES, REPORT, DONE, CHUNK = 32, 33, 34, 35, 36, 37, 38, 48
MIB = 1 << 20


class Refused(Exception):
    """What the peer answers with ERROR. On stream 0 it closes as well."""

    def __init__(self, code: str, message: str, stream: int = 0) -> None:
        super().__init__(message)
        self.code, self.stream = code, stream


def must(condition: object, message: str, code: str = "protocol", stream: int = 0) -> None:
    if not condition:
        raise Refused(code, message, stream)


@dataclass
class Stored:
    put: dict[str, Any]
    cells: dict[int, tuple[bytes, int]] = field(default_factory=dict)  # bytes and the CRC that came with them
    receipt: dict[str, Any] = field(default_factory=dict)
    stream: int = 0

    def __post_init__(self) -> None:
        a = self.put["array"]
        self.shape, self.cell = a["shape"], a["chunk_grid"]["configuration"]["chunk_shape"]
        codecs = list(a["codecs"])
        n = len(self.shape)
        self.order = codecs.pop(0)["configuration"]["order"] if codecs[0]["name"] == "transpose" else list(range(n))
        (last,) = codecs
        must(last["name"] == "bytes", "codecs")
        dtype = np.dtype(a["data_type"])
        must(("configuration" in last) == (dtype.itemsize > 1), "endian for types of several bytes only")
        if dtype.itemsize > 1:
            dtype = dtype.newbyteorder({"little": "<", "big": ">"}[last["configuration"]["endian"]])
        self.dtype = dtype
        must(dtype.kind != "c" or dtype.str[0] == "<", "complex numbers travel little-endian")
        must(self.put["numpy"].replace(">c", "<c") == dtype.str, "numpy and array disagree")
        must(a["zarr_format"] == 3 and a["node_type"] == "array" and "fill_value" in a, "zarr")
        must(a["chunk_key_encoding"]["name"] == "default", "chunk_key_encoding")
        must(a["chunk_grid"]["name"] == "regular" and len(self.cell) == n, "chunk_grid")
        must(sorted(self.order) == list(range(n)) and all(c > 0 for c in self.cell), "order or cell")
        self.size = dtype.itemsize * math.prod(self.cell)
        must(self.size <= 16 * MIB, "cell over 16 MiB", "limit")
        self.grid = [-(-self.shape[axis] // self.cell[axis]) for axis in self.order]
        self.count = math.prod(self.grid)

    def array(self) -> np.ndarray[Any, Any]:
        """The array, put together from the cells one element block at a time; checks that padding is zero."""
        stored = np.full([self.shape[axis] for axis in self.order], 0, self.dtype)
        size = [self.cell[axis] for axis in self.order]
        for number, position in enumerate(itertools.product(*map(range, self.grid))):
            block = np.frombuffer(self.cells[number][0], self.dtype).reshape(size).copy()
            where = tuple(slice(p * s, (p + 1) * s) for p, s in zip(position, size, strict=True))
            inside = tuple(slice(0, n) for n in stored[where].shape)
            stored[where] = block[inside]
            raw = np.frombuffer(block.tobytes(), np.uint8).reshape(-1, self.dtype.itemsize).copy()
            mask = np.zeros(size, bool)
            mask[inside] = True
            must(not raw[~mask.reshape(-1)].any(), "padding is not zero", "integrity")
        return stored.transpose([self.order.index(axis) for axis in range(len(self.order))])

    def root(self) -> str:
        h = hashlib.sha256(b"ndferry root 1\n")
        for value in (self.dtype.str, *(",".join(map(str, v)) for v in (self.shape, self.cell, self.order))):
            h.update(f"{value}\n".encode())
        for number in range(self.count):
            h.update(hashlib.sha256(self.cells[number][0]).digest())
        return h.hexdigest()


class Peer:
    """Serves on a Unix socket until it is closed. `credit` is the first grant; chunks return theirs one by one."""

    def __init__(self, path: str, credit: int = 64 * MIB) -> None:
        self.path, self.credit = path, credit
        self.arrays: dict[str, Stored] = {}
        self.refused: list[Refused] = []
        self.reads: list[int] = []  # bytes of each recv: how the client's writes arrived
        self.extra = b""  # sent before every answer
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.threads: list[threading.Thread] = []
        self.accepting = threading.Thread(target=self._accept, daemon=True)
        self.accepting.start()

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.accepting.join(60)
        self.listener.close()
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=Conversation(self, sock).run, daemon=True)
            self.threads.append(thread)
            thread.start()


class Conversation:
    def __init__(self, peer: Peer, sock: socket.socket) -> None:
        self.peer, self.sock = peer, sock
        self.newest = 0
        self.credit = peer.credit
        self.outstanding: list[int] = []
        self.uploads: dict[int, Stored] = {}
        self.hello = False

    def run(self) -> None:
        with self.sock:
            self.sock.settimeout(60)
            with contextlib.suppress(OSError):  # the client is gone, also before it has heard what was refused
                while self.answer():
                    pass

    def answer(self) -> bool:
        """Answer a frame; False closes."""
        try:
            self.frame(*self.read_frame())
        except Refused as refused:
            self.peer.refused.append(refused)
            self.uploads.pop(refused.stream, None)
            error = {"code": refused.code, "message": str(refused), "retryable": False}
            self.send(ERROR, refused.stream, json.dumps(error).encode())
            return refused.stream != 0
        return True

    def read(self, size: int) -> bytes:
        parts = []
        while size:
            part = self.sock.recv(size)
            if not part:
                raise ConnectionResetError
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def read_frame(self) -> tuple[int, int, int, int, bytes, int]:
        head = self.read(32)
        magic, kind, flags, handles, stream, length, index, raw, crc = struct.unpack("<4sBBHIIQII", head)
        must(magic == b"NDF1" and google_crc32c.value(head[:28]) == crc, "magic or CRC of a header")
        must(kind in {HELLO, PING, PONG, PUT, FINISH, GET, STAT, LIST, DELETE, VERIFY, CANCEL, CHUNK}, f"kind {kind}")
        must(flags == (0 if kind in {PING, PONG} else 1) and handles == 0, "flags or handles")
        must((stream == 0) == (kind in {HELLO, PING, PONG}), "stream")
        must(index == 0 or kind in {PING, PONG, FINISH, CHUNK}, "index")
        must(raw == 0 or kind == CHUNK, "raw")
        limit = {CHUNK: 16 * MIB + 65536, PUT: 2 * MIB + 65536}.get(kind, 65536)
        must(length <= limit, "length")
        payload, sent = b"", 0
        if length:
            payload = self.read(length)
            sent, status = struct.unpack("<II", self.read(8))
            must(google_crc32c.value(payload) == sent, "CRC of a payload", "integrity")
            must(status == 0, "status")
        return kind, stream, index, raw, payload, sent

    def send(self, kind: int, stream: int, payload: bytes = b"", index: int = 0, raw: int = 0, crc: int = -1) -> None:
        head = struct.pack("<4sBBHIIQI", b"NDF1", kind, 0, 0, stream, len(payload), index, raw)
        data = head + struct.pack("<I", google_crc32c.value(head))
        if payload:
            data += payload + struct.pack("<II", google_crc32c.value(payload) if crc < 0 else crc, 0)
        self.sock.sendall(self.peer.extra + data)

    def send_json(self, kind: int, stream: int, value: dict[str, Any], raw: int = 0) -> None:
        self.send(kind, stream, json.dumps(value).encode(), raw=raw)

    def frame(self, kind: int, stream: int, index: int, raw: int, payload: bytes, crc: int) -> None:
        must(self.hello != (kind == HELLO), "HELLO comes first and once")
        if kind == HELLO:
            self.hello = True
            m = json.loads(payload)
            must(m["versions"][0] <= 1 <= m["versions"][1], "version", "version")
            must("none" in m["codecs"] and "crc32c" in m["digests"] and m["credit"] >= 16 * MIB, "hello")
            answer = {"versions": [1, 1], "software": "peer", "features": ["x"], "codecs": ["none"]}
            self.send_json(HELLO, 0, answer | {"digests": ["crc32c", "sha256"], "credit": self.peer.credit})
        elif kind == PING:
            self.send(PONG, 0, index=index)
        elif kind in {CHUNK, FINISH, CANCEL}:
            must(stream <= self.newest, "a stream that was never opened")
            self.of_upload(kind, stream, index, raw, payload, crc)
        elif kind != PONG:
            must(stream > self.newest, "a stream that is not new")
            self.newest = stream
            self.request(kind, stream, json.loads(payload))

    def of_upload(self, kind: int, stream: int, index: int, raw: int, payload: bytes, crc: int) -> None:
        upload = self.uploads.get(stream)
        if kind == CHUNK:
            cost = max(raw, 4096)
            self.credit -= cost
            self.outstanding.append(cost)
            must(self.credit >= 0, "more than the credit")
            if self.credit < self.peer.credit // 2 or cost > MIB:  # now and then, several at once
                self.send(CREDIT, 0, index=sum(self.outstanding))
                self.credit += sum(self.outstanding)
                self.outstanding.clear()
        if upload is None:
            return  # has ended: without a word
        if kind == CANCEL:
            raise Refused("cancelled", "cancelled by the client", stream)
        if kind == CHUNK:
            must(index < upload.count and index not in upload.cells, "cell out of range or twice", stream=stream)
            must(len(payload) == raw == upload.size, "size of a cell", stream=stream)
            upload.cells[index] = payload, crc
            return
        must(index == upload.count == len(upload.cells), "FINISH before all cells", stream=stream)
        upload.array()
        digest: dict[str, Any] = {"kind": upload.put["digest"]}
        if digest["kind"] == "sha256":
            digest["root"] = upload.root()
            must(json.loads(payload)["root"] == digest["root"], "root", "integrity", stream)
        name = upload.put["name"]
        nbytes = upload.dtype.itemsize * math.prod(upload.shape)
        upload.receipt = {
            "name": name, "id": upload.put["id"], "nbytes": nbytes, "stored_bytes": upload.size * upload.count,
            "cells": upload.count, "codec": "none", "digest": digest, "durability": "memory",
            "created": "2026-01-02T03:04:05.678901234Z",
        }  # fmt: skip
        self.peer.arrays[name] = self.uploads.pop(stream)
        self.send_json(RECEIPT, stream, upload.receipt)

    def request(self, kind: int, stream: int, m: dict[str, Any]) -> None:
        arrays = self.peer.arrays
        if kind == PUT:
            must(len(m["id"]) == 32 and int(m["id"], 16) and m["digest"] in ("crc32c", "sha256"), "id or digest")
            must(isinstance(json.loads(m.get("attributes", "{}")), dict), "attributes")
            must(not (m.get("if_absent") and m["name"] in arrays), "the name is taken", "conflict", stream)
            self.uploads[stream] = Stored(m)
            self.send(ACK, stream, raw=1)
            return
        if kind == LIST:
            names = sorted((n for n in arrays if n.startswith(m["prefix"])), key=str.encode)
            names = [n for n in names if n.encode() > m["after"].encode()]
            page = [self.entry(arrays[n]) for n in names[: min(3, m["limit"])]]  # small, so that pages are needed
            self.send_json(ENTRIES, stream, {"entries": page, "more": len(names) > len(page)})
            return
        must(m["name"] in arrays, f"no array {m['name']}", "not_found", stream)
        array = arrays[m["name"]]
        if kind == DELETE:
            del arrays[m["name"]]
            self.send(DONE, stream)
        elif kind == VERIFY:
            good = {"cells_done": array.count, "cells": array.count, "bytes_done": array.size * array.count}
            bad = [
                {"file": "c", "cell": i, "problem": "crc"}
                for i, (data, crc) in array.cells.items()
                if google_crc32c.value(data) != crc
            ]
            self.send_json(REPORT, stream, good | {"cells_done": 0, "bytes_done": 0, "bad": [], "bad_count": 0})
            self.send_json(REPORT, stream, good | {"bad": bad, "bad_count": len(bad)}, raw=1)
        else:
            self.send_json(META, stream, {k: v for k, v in array.put.items() if k != "if_absent"} | array.receipt)
            if kind == GET:
                self.send_cells(stream, array, m.get("cells", [[0, array.count]]))

    def send_cells(self, stream: int, array: Stored, ranges: list[list[int]]) -> None:
        wanted = [cell for first, count in ranges for cell in range(first, first + count)]
        numbers = sorted(wanted, key=lambda number: os.urandom(4))  # any order
        for number in numbers:
            data, crc = array.cells[number]
            self.send(CHUNK, stream, data, number, array.size, crc)
        self.send(DONE, stream, index=len(wanted))

    def entry(self, array: Stored) -> dict[str, Any]:
        r = array.receipt
        entry = {key: r[key] for key in ("name", "nbytes", "stored_bytes", "created")}
        return entry | {"dtype": array.dtype.str, "shape": array.shape}
