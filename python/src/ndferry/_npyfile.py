"""A GET to a .npy file, which goes on where an earlier one broke off: `Client.get_file`.

What came lies in ``.NAME.part`` beside the file, and ``.NAME.part.state`` says of which commit it is and which chunks
are durable, in the format of ``client/part.go``: `ndferry get` and this go on with what the other left.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import json
import mmap
import os
import random
import secrets
import stat as modes
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from ndferry import _messages
from ndferry._array import Array, Layout
from ndferry._cells import Target
from ndferry._errors import InvalidError, UnsupportedError
from ndferry._receipt import Stat
from ndferry._receiving import Download
from ndferry._wire import MIB, Bytes, crc32c

Resume = Literal["auto", "verify", "off"]

SAVE_BYTES: Final = 64 * MIB
SAVE_SECONDS: Final = 0.25
"""What came is made durable when that much or that long lies between."""

SAMPLES: Final = 16
"""Chunks of a file that nobody touched which are read before it is gone on with."""

_MAGIC: Final = b"NDFPART\n"
_VERSION: Final = 1
_ARRAY: Final = 1
_CELLS: Final = 2
_MOST: Final = 4 * MIB
_IDENTITY: Final = struct.Struct("<5Q")
_RECORD: Final = struct.Struct("<III")
_ENTRY: Final = struct.Struct("<QII")


def check_resume(resume: str) -> None:
    """Refuse what is no way to go on."""
    if resume not in ("auto", "verify", "off"):
        raise InvalidError(f"resume {resume!r} is not known; auto, verify and off are")


class Part:
    """The file in the making and what is remembered of it. Owned by one call; `remember` runs in a thread beside it."""

    def __init__(self, path: Path, resume: Resume) -> None:
        base = path.with_name(f".{path.name[:200]}.part")
        self.verify = resume == "verify"
        self.state = -1 if resume == "off" else _locked(base.with_name(base.name + ".state"))
        self.path = base if self.state >= 0 else base.with_name(f"{base.name}-{secrets.token_hex(6)}")
        if self.state >= 0:
            with contextlib.suppress(FileNotFoundError):
                was = self.path.lstat()
                if was.st_nlink > 1 or not modes.S_ISREG(was.st_mode):
                    self.path.unlink()  # it has the name of a finished file too
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self.file = os.open(self.path, flags | (os.O_EXCL if self.state < 0 else 0), 0o666)
        self.known: dict[int, tuple[int, bytes]] = {}  # CRC32C and leaf of the cells that the state has
        self.end = 0

    @property
    def remembers(self) -> bool:
        """Whether a later call can go on."""
        return self.state >= 0

    def identity(self) -> bytes:
        st = os.fstat(self.file)
        return _IDENTITY.pack(st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns)

    def read(self, head: bytes, leaves: bool) -> bytes:
        """Read what is remembered of the array of `head` into `known`; returns the identity that the file had."""
        self.known, self.end, identity = {}, 0, b""
        state = os.pread(self.state, os.fstat(self.state).st_size, 0)
        front = _MAGIC + struct.pack("<I", _VERSION)
        if state[:16] != front + struct.pack("<I", crc32c(front)):
            return identity
        at = 16
        size = _ENTRY.size + 32 * leaves
        while len(state) - at >= _RECORD.size:
            length, kind, crc = _RECORD.unpack_from(state, at)
            body = state[at + _RECORD.size :][:length]
            if len(body) < length or crc32c(body, crc32c(state[at : at + 8])) != crc:
                break
            if at == 16 and (kind, body) != (_ARRAY, head):
                return identity
            entries = body[_IDENTITY.size :]
            if at > 16:
                if kind != _CELLS or len(body) < _IDENTITY.size or len(entries) % size:
                    break
                identity = body[: _IDENTITY.size]
                for start in range(0, len(entries), size):
                    cell, sum, _ = _ENTRY.unpack_from(entries, start)
                    self.known[cell] = sum, entries[start + _ENTRY.size : start + size]
            at += _RECORD.size + length
            self.end = at
        return identity

    def renew(self, head: bytes) -> None:
        """Make file and state empty."""
        self.known = {}
        os.ftruncate(self.file, 0)
        if self.remembers:
            os.ftruncate(self.state, 0)
            front = _MAGIC + struct.pack("<I", _VERSION)
            self.end = 0
            self._append(front + struct.pack("<I", crc32c(front)) + _record(_ARRAY, head))

    def remember(self, entries: list[bytes]) -> None:
        """Make the file durable, and then say what is in it."""
        os.fdatasync(self.file)
        identity = self.identity()
        step = 1 << 16
        self._append(
            b"".join(
                _record(_CELLS, identity + b"".join(entries[at : at + step])) for at in range(0, len(entries), step)
            )
        )
        os.fdatasync(self.state)

    def _append(self, data: bytes) -> None:
        while data:
            written = os.pwrite(self.state, data, self.end)
            self.end += written
            data = data[written:]

    def remove(self) -> None:
        """End the state. The lock goes last."""
        if self.remembers:
            with contextlib.suppress(FileNotFoundError):
                self.path.with_name(self.path.name + ".state").unlink()

    def close(self) -> None:
        os.close(self.file)
        if self.remembers:
            os.close(self.state)


def _record(kind: int, body: bytes) -> bytes:
    head = struct.pack("<II", len(body), kind)
    return head + struct.pack("<I", crc32c(body, crc32c(head))) + body


def _locked(path: Path) -> int:
    """The state, locked; -1 when another process fetches to the same file, or the file system has no locks."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), os.stat(path)):
                return fd
        except FileNotFoundError:
            pass  # who had it has ended meanwhile
        except OSError:
            os.close(fd)
            return -1
        os.close(fd)


class FileTarget(Target):
    """Cells in a file that is mapped, and what is remembered of them."""

    def __init__(self, part: Part, file: Mapped, layout: Layout, stat: Stat) -> None:
        super().__init__(file.array, layout, stat.digest.kind == "sha256", stat.fill_value)
        self._part, self._file = part, file
        self.taken = 0  # cells of an earlier call
        self._fresh: list[int] = []  # cells that came and are not remembered
        self._lock = threading.Lock()
        self._saver = ThreadPoolExecutor(1, "ndferry-file")
        self._saving: Any = None
        self._at = time.monotonic()
        self._off = not part.remembers or stat.digest.kind == "none" or layout.cells < 2

    def take_up(self, identity: bytes) -> None:
        """Keep the cells of an earlier call that are in the file as they came: some are read, or all."""
        part = self._part
        cells = [cell for cell in part.known if cell < self.layout.cells]
        unlike: set[int] = set()
        if part.identity() == identity and not part.verify:
            unlike = self._unlike(random.sample(cells, min(SAMPLES, len(cells))))
        if part.identity() != identity or part.verify or unlike:
            unlike = self._unlike(cells)
        for cell in cells:
            if cell in unlike:
                continue
            if self.leaves is not None:
                self.leaves[cell] = np.frombuffer(part.known[cell][1], np.uint8)
            self._kept[cell] = True
        self.kept = self.taken = int(np.count_nonzero(self._kept))

    def _unlike(self, cells: list[int]) -> set[int]:
        with ThreadPoolExecutor(2) as pool:
            sums = pool.map(self._file.crc, cells)
        return {cell for cell, sum in zip(cells, sums, strict=True) if sum != self._part.known[cell][0]}

    def keep(self, cell: int) -> None:
        super().keep(cell)
        if self._off:
            return
        with self._lock:
            self._fresh.append(cell)
            due = len(self._fresh) * self.layout.cell_bytes >= SAVE_BYTES or time.monotonic() - self._at >= SAVE_SECONDS
            if not due or (self._saving is not None and not self._saving.done()):
                return
            if self._saving is not None:
                self._saving.result()  # an error of the disk
            cells, self._fresh, self._at = self._fresh, [], time.monotonic()
            self._saving = self._saver.submit(self._save, cells)

    def _save(self, cells: list[int]) -> None:
        leaves = self.leaves
        self._part.remember(
            [
                _ENTRY.pack(cell, self._file.crc(cell), 0) + (b"" if leaves is None else leaves[cell].tobytes())
                for cell in cells
            ]
        )

    def settle(self) -> bool:
        """Remember all that came. Whether that is worth being kept."""
        with contextlib.suppress(OSError):  # then nobody knows what is in the file
            if self._saving is not None:
                self._saving.result()
            if self._fresh and not self._off:
                self._save(self._fresh)
                self._fresh = []
            return not self._off and self.kept > 0
        return False

    def wait(self) -> None:
        """Wait for what is being saved; its error is raised."""
        self._saver.shutdown()
        if self._saving is not None:
            self._saving.result()


class Mapped:
    """The file of an array, with its header, mapped."""

    def __init__(self, part: Part, layout: Layout) -> None:
        self._layout = layout
        fortran = len(layout.shape) > 1 and layout.order == tuple(reversed(range(len(layout.shape))))
        try:
            header = _header(layout, fortran)
        except ValueError as error:
            raise UnsupportedError(f"get: a .npy file cannot hold {layout.dtype}: {error}") from error
        self.size = len(header) + layout.nbytes
        self._fortran = fortran
        os.posix_fallocate(part.file, 0, self.size)
        if os.fstat(part.file).st_size != self.size:
            os.ftruncate(part.file, self.size)
        os.pwrite(part.file, header, 0)
        order: Literal["F", "C"] = "F" if fortran else "C"
        shape, item = layout.shape, layout.dtype.itemsize
        if not layout.nbytes:
            self.array: Array = np.empty(shape, layout.dtype, order)
            return
        memory = mmap.mmap(part.file, self.size)
        self.array = np.ndarray(shape, layout.dtype, memory, len(header), order=order)
        raw = np.ndarray(shape, np.dtype((np.void, item)), memory, len(header), order=order)
        self._raw = raw.transpose(layout.order)

    def crc(self, cell: int) -> int:
        """The CRC32C of the elements of a cell in the order in which they lie in the file."""
        where: tuple[Any, ...] = (*self._layout.region(cell), ...)
        block = self._raw[where]
        if not self._fortran:
            block = block.transpose(np.argsort(self._layout.order))
        data: Bytes = np.ascontiguousarray(block).reshape(-1).view(np.uint8)
        crc = 0
        for start in range(0, len(data), MIB):
            crc = crc32c(data[start : start + MIB], crc)
        return crc


def _header(layout: Layout, fortran: bool) -> bytes:
    about = {
        "descr": np.lib.format.dtype_to_descr(layout.dtype),
        "fortran_order": fortran,
        "shape": layout.shape,
    }
    out = io.BytesIO()
    try:
        np.lib.format.write_array_header_1_0(out, about)
    except ValueError:
        out = io.BytesIO()
        np.lib.format.write_array_header_2_0(out, about)
    return out.getvalue()


class FileDownload(Download):
    """A GET to a .npy file."""

    files = True

    def __init__(self, name: str, path: str | os.PathLike[str], *, overwrite: bool, resume: Resume) -> None:
        _messages.check_name(name)
        check_resume(resume)
        super().__init__(name, None)
        self._overwrite = overwrite
        self._path = Path(path)
        if self._path.exists() or self._path.is_symlink():
            if not overwrite or not self._path.is_file():
                why = "there is something already" if overwrite else "it exists"
                raise FileExistsError(errno.EEXIST, why, str(path))
            self._path = self._path.resolve()  # the file that a symbolic link leads to is replaced
        self._part = Part(self._path, resume)
        self._file: Mapped | None = None
        self._files: FileTarget | None = None
        self._scattered = False
        self._begun = self._done = False

    @property
    def going_on(self) -> int:
        """Cells of an earlier call that are not asked for."""
        return 0 if self._files is None else self._files.taken

    def wanted(self) -> list[tuple[int, int]] | None:
        ranges = super().wanted()
        self._scattered = ranges is None
        return ranges

    def begin(self, id: str, stat: Stat, layout: Layout) -> Target:
        if self.target is not None:
            return super().begin(id, stat, layout)
        self._begun = True
        if self._files is not None:  # of an array that was replaced meanwhile
            self._files.settle()
            with contextlib.suppress(OSError):
                self._files.wait()
        head = _head(self.name, id, stat, layout)
        leaves = stat.digest.kind == "sha256"
        part = self._part
        identity = part.read(head, leaves) if part.remembers and not self._scattered else b""
        anew = not part.known
        if anew:
            part.renew(head)
        self._file = Mapped(part, layout)
        target = FileTarget(part, self._file, layout, stat)
        if not anew:
            target.take_up(identity)
        self._id, self.stat, self.target, self.result = id, stat, target, self._file.array
        self._files = target
        return target

    def commit(self) -> Stat:
        """Sync the file and give it its name."""
        assert self._files is not None
        assert self.stat is not None
        self._files.wait()
        os.fsync(self._part.file)
        if self._overwrite:
            self._part.path.replace(self._path)
        else:
            try:
                os.link(self._part.path, self._path)  # unlike a rename it never replaces
            except FileExistsError:
                raise
            except OSError:
                if self._path.exists():
                    raise FileExistsError(errno.EEXIST, "it exists", str(self._path)) from None
                self._part.path.rename(self._path)
            else:
                self._part.path.unlink()
        self._done = True
        self._part.remove()
        place = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(place)
        finally:
            os.close(place)
        return self.stat

    def forget(self) -> None:
        """What came is not what was stored."""
        self._done = True
        with contextlib.suppress(FileNotFoundError):
            self._part.path.unlink()
        self._part.remove()

    def close(self) -> None:
        """Leave what came beside the file, unless `commit` has succeeded."""
        keep = False
        if self._files is not None:
            keep = not self._done and self._files.settle()
            with contextlib.suppress(OSError):
                self._files.wait()
        elif self._part.remembers and not self._begun:
            keep = os.fstat(self._part.state).st_size > 0  # of an earlier call; nothing was asked for yet
        if not keep and not self._done:
            self.forget()
        self._part.close()


def _head(name: str, id: str, stat: Stat, layout: Layout) -> bytes:
    """Which array a part is of, as the Go client writes it."""
    about: dict[str, Any] = {
        "name": name,
        "id": id,
        "dtype": layout.dtype.name,
        "shape": list(layout.shape),
        "order": list(layout.order),
        "cell": list(layout.cell),
        "digest": stat.digest.kind,
    }
    if stat.digest.root:
        about["root"] = stat.digest.root
    return json.dumps(about, separators=(",", ":"), ensure_ascii=False).encode()
