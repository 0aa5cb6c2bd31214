"""A proxy that reads the frames that pass, and cuts connections after so many bytes of one direction."""

from __future__ import annotations

import contextlib
import json
import select
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
    """Leads to a Unix socket. `limits` are of the next connections: bytes from the client, bytes to it.

    A connection that was cut is closed towards the client at once. The server reads all that came before the cut, and
    before a client ended, and nothing connects again before it has closed its end: what it keeps of the transfer is
    settled then.
    """

    def __init__(self, path: Path, to: str) -> None:
        self.limits: list[tuple[int, int]] = []
        self.connections: list[tuple[Stream, Stream]] = []
        self.addr = f"unix://{path}"
        self._to = to.removeprefix("unix://")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._open: list[_Connection] = []
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for connection in self._open:
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            for connection in self._open:
                connection.settle()
            far = socket.socket(socket.AF_UNIX)
            try:
                far.connect(self._to)
            except OSError:
                near.close()
                far.close()
                continue
            limits = self.limits.pop(0) if self.limits else (FOREVER, FOREVER)
            connection = _Connection(near, far, limits)
            self.connections.append(connection.streams)
            self._open.append(connection)
            connection.start()  # what passes can be looked for from here on


class _Connection:
    """One connection of a client, `near`, and the server's, `far`."""

    def __init__(self, near: socket.socket, far: socket.socket, limits: tuple[int, int]) -> None:
        self.streams = Stream(), Stream()
        self._near, self._far = near, far
        self._cut = threading.Event()
        self._threads = [
            threading.Thread(target=self._out, args=(limits[0],)),
            threading.Thread(target=self._back, args=(limits[1],)),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def settle(self) -> None:
        """Wait until the server is done with a connection that was cut, or whose client has ended."""
        if self._cut.is_set() or _ended(self._near):
            for thread in self._threads:
                thread.join()

    def close(self) -> None:
        _shut(self._near, socket.SHUT_RDWR)
        _shut(self._far, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._near.close()
        self._far.close()

    def _out(self, limit: int) -> None:
        self._move(self._near, self._far, limit, self.streams[0])
        _shut(self._near, socket.SHUT_RDWR)
        _shut(self._far, socket.SHUT_WR)

    def _back(self, limit: int) -> None:
        self._move(self._far, self._near, limit, self.streams[1])
        _shut(self._near, socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            while self._far.recv(1 << 16):  # so that the server can go on reading what went out
                pass

    def _move(self, source: socket.socket, target: socket.socket, limit: int, stream: Stream) -> None:
        with contextlib.suppress(OSError):
            while (data := source.recv(1 << 16)) and not self._cut.is_set():
                piece = data[:limit]
                limit -= len(piece)
                stream.passed(piece)
                target.sendall(piece)
                if not limit:
                    self._cut.set()
                    return


def _ended(end: socket.socket) -> bool:
    """Whether the other side is closed, although not all that it wrote may be read."""
    poll = select.poll()
    poll.register(end, select.POLLRDHUP)
    return bool(poll.poll(0))


def _shut(end: socket.socket, how: int) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(how)
