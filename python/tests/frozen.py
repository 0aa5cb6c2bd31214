"""Conversations of version 1, as spec/frozen/v1 has them: calls of a client, and a server that says what was recorded.

Run as a program with the address of a server it makes the calls of standard input and prints them with their results.
"""

from __future__ import annotations

import base64
import hashlib
import inspect
import json
import socket
import struct
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

import ndferry
from ndferry import _dtype

ROOT = Path(__file__).resolve().parents[2] / "spec" / "frozen" / "v1"
HEADER = struct.Struct("<4sBBHIIQII")
PING, PONG, FINISH = 2, 3, 17


def elements(call: dict[str, Any]) -> Any:
    """The array of a put."""
    dtype = _dtype.from_json(call["numpy"])
    shape = tuple(call["shape"])
    count = int(np.prod(shape, dtype=np.int64))
    pattern = bytes.fromhex(call.get("data", ""))
    size = count * dtype.itemsize
    data = (pattern * (size // len(pattern) + 1))[:size] if size else b""
    array = np.frombuffer(data, dtype).reshape(shape, order=call.get("order", "C"))
    return np.broadcast_to(array, call["broadcast"]) if "broadcast" in call else array


def found(array: Any) -> dict[str, Any]:
    """What must be the same of an array that came."""
    fortran = array.ndim > 1 and array.flags.f_contiguous and not array.flags.c_contiguous
    data = array.tobytes("F" if fortran else "C")
    return {
        "dtype": _dtype.to_json(array.dtype),
        "shape": list(array.shape),
        "order": "F" if fortran else "C",
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def make(client: Any, call: dict[str, Any]) -> dict[str, Any]:
    """Make a call and return what of its result every version must return."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as one about the foreign array, which has no stored checks
            return _make(client, call)
    except ndferry.Error as error:
        if error.code in ("protocol", "internal"):
            raise
        return {"error": error.code, "retryable": error.retryable}


def _make(client: Any, call: dict[str, Any]) -> dict[str, Any]:
    name = call.get("name", "")
    match call["op"]:
        case "ping":
            client.ping()
            return {}
        case "put":
            options: dict[str, Any] = {
                key: call[key] for key in ("id", "digest", "codec", "shuffle", "if_absent") if key in call
            }
            if "chunks" in call:
                options["chunks"] = tuple(call["chunks"])
            if "attrs" in call:
                options["attrs"] = json.loads(call["attrs"])
            if call.get("relaxed"):
                options["durability"] = "relaxed"
            r = client.put(name, elements(call), retries=3 if call.get("resume") else 0, **options)
            return {
                "name": r.name,
                "id": r.id,
                "nbytes": r.nbytes,
                "stored_bytes": r.stored_bytes,
                "cells": r.cells,
                "codec": r.codec,
                "validated": r.validated,
                "digest": str(r.digest),
                "durability": r.durability,
                "created": r.created.isoformat(),
            }
        case "get":
            return found(client.get(name))
        case "read":
            key = tuple(slice(*map(int, part.split(":"))) for part in call["region"].split(","))
            part = client.open(name)[key]
            return found(client.runner.run(part) if inspect.isawaitable(part) else part)
        case "stat":
            s = client.stat(name)
            return {
                "id": s.id,
                "dtype": _dtype.to_json(s.dtype),
                "shape": list(s.shape),
                "codec": s.codec,
                "nbytes": s.nbytes,
                "digest": str(s.digest),
                "attributes": s.attrs,
                "durability": s.durability,
                "created": s.created.isoformat(),
            }
        case "list":
            return {
                "entries": [
                    f"{e.name} {e.dtype} {list(e.shape)} {e.stored_bytes}" for e in client.list(call.get("prefix", ""))
                ]
            }
        case "delete":
            client.delete(name)
            return {}
        case "verify":
            report = client.verify(name)
            return {"cells": report.cells, "ok": report.ok}
    raise ValueError(call["op"])


class Transcript:
    """A file of spec/frozen/v1/conversations."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self.calls: list[dict[str, Any]] = []
        self.lines: list[tuple[str, int, bytes]] = []
        for text in path.read_text().splitlines():
            word, _, rest = text.partition(" ")
            if word == "call":
                self.calls.append(json.loads(rest))
            elif word in "CSXD":
                conn, *data = rest.split(" ")
                self.lines.append((word, int(conn), base64.b64decode(data[0]) if data else b""))


class Player:
    """A server that says what was recorded, and compares what it is asked."""

    def __init__(self, transcript: Transcript, path: str) -> None:
        self.transcript = transcript
        self.error: BaseException | None = None
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def end(self) -> None:
        """Wait until all was said."""
        self.thread.join(60)
        self.listener.close()
        if self.error:
            raise self.error
        assert not self.thread.is_alive(), "the client asked less than it did"

    def _run(self) -> None:
        conns: dict[int, socket.socket] = {}
        try:
            self._play(conns)
        except BaseException as error:
            self.error = error
        finally:
            for conn in conns.values():
                conn.close()

    def _play(self, conns: dict[int, socket.socket]) -> None:
        token = 0  # of the last PING
        for number, (side, at, data) in enumerate(self.transcript.lines):
            if at not in conns:
                conns[at] = self.listener.accept()[0]
                conns[at].settimeout(60)
            conn = conns[at]
            match side:
                case "S":
                    fields = list(HEADER.unpack(data[:32]))
                    if fields[1] == PONG:
                        fields[6] = token
                        head = HEADER.pack(*fields)[:28]
                        data = head + struct.pack("<I", google_crc32c.value(head))
                    conn.sendall(data)
                case "X" | "D":
                    conn.shutdown(socket.SHUT_RDWR)
                    conn.close()
                case "C":
                    said = _frame(conn)
                    want, got = HEADER.unpack(data[:32]), HEADER.unpack(said[:32])
                    keys = [1, 2, 4, 6, 7]  # kind, flags, stream, index, raw
                    if got[1] == PING:
                        token = got[6]
                        keys.remove(6)
                    assert [got[k] for k in keys] == [want[k] for k in keys], f"step {number}: {got}, it was {want}"
                    if want[1] == FINISH:
                        assert said == data, f"step {number}: {said!r}, it was {data!r}"


def _frame(conn: socket.socket) -> bytes:
    header = _exactly(conn, 32)
    assert google_crc32c.value(header[:28]) == struct.unpack("<I", header[28:])[0]
    length = HEADER.unpack(header)[5]
    return header + (_exactly(conn, length + 8) if length else b"")


def _exactly(conn: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = conn.recv(size - len(data))
        assert piece, "the client closed"
        data += piece
    return data


def main() -> None:
    """Record."""
    calls = json.load(sys.stdin)
    with ndferry.connect(sys.argv[1], retries=0) as client:
        for call in calls:
            call["result"] = make(client, call)
    json.dump(calls, sys.stdout)


if __name__ == "__main__":
    main()
