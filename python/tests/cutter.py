"""A proxy that reads the frames that pass, and cuts connections after so many bytes of one direction."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from pathlib import Path
from typing import Any

PUT, GET, CHUNK, ACCEPT = 16, 18, 48, 32
FOREVER = 1 << 60


class Stream:
    """One direction of a connection: where its frames end, and what they say."""

    def __init__(self) -> None:
        self.ends: list[int] = []
        self.frames: list[tuple[int, int, bytes]] = []  # kind, index, payload unless it is a cell
        self.size = 0
        self._rest = b""

    def passed(self, data: bytes) -> None:
        self.size += len(data)
        self._rest += data
        while len(self._rest) >= 32:
            kind, length, index = struct.unpack("<4xB7xIQ", self._rest[:24])
            whole = 32 + (length + 8 if length else 0)
            if len(self._rest) < whole:
                return
            self.frames.append((kind, index, b"" if kind == CHUNK else self._rest[32 : 32 + length]))
            self._rest = self._rest[whole:]
            self.ends.append((self.ends[-1] if self.ends else 0) + whole)

    def cells(self) -> list[int]:
        return [index for kind, index, _ in self.frames if kind == CHUNK]

    def messages(self, kind: int) -> list[dict[str, Any]]:
        return [json.loads(payload) for k, _, payload in self.frames if k == kind]


class Cutter:
    """Leads to a Unix socket. `limits` are of the next connections: bytes from the client, bytes to it."""

    def __init__(self, path: Path, to: str) -> None:
        self.limits: list[tuple[int, int]] = []
        self.connections: list[tuple[Stream, Stream]] = []
        self.addr = f"unix://{path}"
        self._to = to.removeprefix("unix://")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._open: list[tuple[list[socket.socket], list[threading.Thread]]] = []
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for ends, threads in self._open:
            _shut(ends)
            for thread in threads:
                thread.join()
            for end in ends:
                end.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            try:
                far.connect(self._to)
            except OSError:
                near.close()
                far.close()
                continue
            out, back = self.limits.pop(0) if self.limits else (FOREVER, FOREVER)
            streams = Stream(), Stream()
            self.connections.append(streams)
            threads = [
                threading.Thread(target=self._move, args=(near, far, out, streams[0])),
                threading.Thread(target=self._move, args=(far, near, back, streams[1])),
            ]
            self._open.append(([near, far], threads))
            for thread in threads:
                thread.start()

    def _move(self, source: socket.socket, target: socket.socket, limit: int, stream: Stream) -> None:
        with contextlib.suppress(OSError):
            while limit and (data := source.recv(1 << 16)):
                piece = data[:limit]
                limit -= len(piece)
                stream.passed(piece)
                target.sendall(piece)
        _shut([source, target])


def _shut(ends: list[socket.socket]) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
