"""A PUT of a .npy file, which goes on where an earlier process broke off: `Client.put_file`.

What was begun is noted in ``$XDG_STATE_HOME/ndferry``: the file's device, inode, size and times, leaves (spec/WIRE.md
§5.7) of 16 random chunks, the id of the transfer; and beside it, with sha256, the leaf of every chunk that was hashed,
in the format of ``internal/cli/leaves.go``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import random
import struct
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from ndferry import _array, _options
from ndferry._array import Array, Layout
from ndferry._cells import Source
from ndferry._errors import InvalidError
from ndferry._options import PutOptions
from ndferry._upload import RESUME_LEAST, Upload
from ndferry._wire import MIB, crc32c

Resume = Literal["auto", "off"]

SAMPLES: Final = 16
SAMPLE_CHUNK: Final = MIB
"""Chunks that are hashed to know a file, of a grid of chunks of that size."""

LEAF_SECONDS: Final = 0.25
"""Leaves are written down that often."""

_ENTRY: Final = struct.Struct("<Q32sI")
_PARTS: Final = ("device", "inode", "size", "mtime_ns", "ctime_ns")


class Changed(Exception):
    """The file is not the one that was begun."""


class Begun:
    """A put of a file, and what is remembered of it. Owned by one call; leaves are kept by any thread."""

    def __init__(self, addr: str, name: str, path: str | os.PathLike[str], options: PutOptions, resume: str) -> None:
        if resume not in ("auto", "off"):
            raise InvalidError(f"resume {resume!r} is not known; auto and off are")
        made = _options.checked(options)
        if made.id is not None:
            raise InvalidError("put_file: it finds the id of the transfer itself; use put")
        self.path = Path(path)
        try:
            self.array: Array = np.lib.format.open_memmap(self.path, mode="r")
        except ValueError as error:
            raise InvalidError(f"put_file: {path}: {error}") from error
        self.name, self.options = name, made
        self.confirmed: Future[Any] | None = None
        self.resumed = False
        self._done = False
        self._note: Path | None = None
        self._leaves: Leaves | None = None
        self._pool = ThreadPoolExecutor(2, "ndferry-file")
        self._noted: Future[Any] | None = None
        self._id = os.urandom(16).hex()
        if resume == "auto" and self.array.nbytes >= RESUME_LEAST:
            self._recall(addr)

    def _recall(self, addr: str) -> None:
        state = _state_dir()
        if state is None:
            return
        st = self.path.stat()
        identity = dict(zip(_PARTS, (st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns), strict=True))
        asked = dataclasses.replace(self.options, progress=None)
        about = {"server": addr, "name": self.name, "options": repr(asked), **identity}
        key = hashlib.sha256(repr(("python", addr, self.name, st.st_dev, st.st_ino)).encode()).hexdigest()[:32]
        self._note, self._about = state / f"{key}.json", about
        old = _noted(self._note)
        if old is not None and {part: old.get(part) for part in about} == about:
            self.resumed, self._id = True, old["id"]
            self.confirmed = self._pool.submit(self._compare, old["samples"])
        else:
            self._noted = self._pool.submit(self._remember)

    def upload(self) -> Upload:
        """What is to be put."""
        options = dataclasses.replace(self.options, id=self._id)
        upload = Upload(self.name, self.array, options, kept=True)
        if self._note is not None:
            upload.confirmed = self.confirmed
            if options.digest == "sha256":
                self._leaves = upload.memory = Leaves(self._note.with_suffix(".leaves"), bytes.fromhex(self._id))
        return upload

    def _layout(self) -> Layout:
        order, shape = _array.memory_order(self.array), self.array.shape
        cell = _array.default_cell(shape, self.array.itemsize, order, SAMPLE_CHUNK)
        return _array.make_layout(f"|V{self.array.itemsize}", shape, order, cell)

    def _sample(self, cells: list[int]) -> list[list[Any]]:
        layout = self._layout()
        source = Source(self.array.view(layout.dtype), layout)
        return [[cell, hashlib.sha256(source.whole(cell)).hexdigest()] for cell in cells]

    def _remember(self) -> None:
        assert self._note is not None
        cells = self._layout().cells
        samples = self._sample(random.sample(range(cells), min(SAMPLES, cells)))
        self._note.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temp = self._note.with_name(f"{self._note.name}.{self._id}")
        temp.write_text(json.dumps({**self._about, "id": self._id, "samples": samples}))
        temp.chmod(0o600)
        temp.replace(self._note)

    def _compare(self, samples: list[list[Any]]) -> None:
        if self._sample([int(cell) for cell, _ in samples]) != samples:
            raise Changed

    def anew(self, error: Exception) -> bool:
        """Begin another transfer, and say whether that helps.

        It does when what was begun is of no use: the file was changed, or would be sent another way today.
        """
        if not self.resumed or (self.options.if_absent and not isinstance(error, Changed)):
            return False
        self._forget()
        self.confirmed, self.resumed, self._id = None, False, os.urandom(16).hex()
        if self._note is not None:
            self._noted = self._pool.submit(self._remember)
        return True

    def confirm(self) -> None:
        """The receipt came. Wait for what `confirmed` says, when it came without asking for it."""
        if self.confirmed is not None:
            self.confirmed.result()
        self._done = True

    def close(self) -> None:
        """Forget a transfer that is done, or keep what is known of it."""
        with contextlib.suppress(OSError):  # then an interruption is not remembered
            if self._noted is not None:
                self._noted.result()
        self._pool.shutdown()
        if self._leaves is not None:
            self._leaves.close()
        if self._done:
            self._forget()

    def _forget(self) -> None:
        with contextlib.suppress(OSError):
            if self._noted is not None:
                self._noted.result()
        if self._leaves is not None:
            self._leaves.close()
            self._leaves = None
        if self._note is not None:
            for path in (self._note, self._note.with_suffix(".leaves")):
                path.unlink(missing_ok=True)


class Leaves:
    """The digests of chunks that were made, beside the note. Any thread may keep one."""

    def __init__(self, path: Path, id: bytes) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._id, self._lock = id, threading.Lock()
        self._fresh: list[bytes] = []
        self._at = time.monotonic()
        self.known: dict[int, bytes] = {}
        content = os.pread(self._file, os.fstat(self._file).st_size, 0)
        end = len(id)
        if content[:end] != id:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, id, 0)
            content = b""
        while len(content) - end >= _ENTRY.size:
            cell, leaf, crc = _ENTRY.unpack_from(content, end)
            if crc32c(content[end : end + 40], crc32c(id)) != crc:
                break
            self.known[cell] = leaf
            end += _ENTRY.size
        os.ftruncate(self._file, end)
        self._end = end

    def keep(self, cell: int, leaf: bytes) -> None:
        """Remember a leaf. What cannot be written is hashed again another time."""
        body = struct.pack("<Q32s", cell, leaf)
        entry = body + struct.pack("<I", crc32c(body, crc32c(self._id)))
        with self._lock:
            self._fresh.append(entry)
            if time.monotonic() - self._at >= LEAF_SECONDS:
                self._at = time.monotonic()
                self._flush()

    def _flush(self) -> None:
        data = b"".join(self._fresh)
        self._fresh.clear()
        with contextlib.suppress(OSError):
            self._end += os.pwrite(self._file, data, self._end)

    def close(self) -> None:
        with self._lock:
            if self._file >= 0:
                self._flush()
                os.close(self._file)
                self._file = -1


def _noted(path: Path) -> dict[str, Any] | None:
    """What is noted, when it is of use."""
    try:
        note = json.loads(path.read_text())
        ok = isinstance(note, dict) and bytes.fromhex(note["id"]) and note["samples"]
        return note if ok else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _state_dir() -> Path | None:
    """Where transfers are remembered (XDG Base Directory Specification)."""
    state, home = os.environ.get("XDG_STATE_HOME", ""), os.environ.get("HOME", "")
    if os.path.isabs(state):
        return Path(state) / "ndferry"
    return Path(home) / ".local" / "state" / "ndferry" if os.path.isabs(home) else None
