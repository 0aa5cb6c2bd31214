"""Ways of making an array of a .npy file durable on this machine, one of them, once: prints {"seconds": …}. For the scenario `durable`.

    durable.py make FILE BYTES              the file, of float32 (run once)
    durable.py WAY FILE DIR ADDR NDFERRY    DIR is on the file system that is measured

Time runs from the start of the command that a user types to its end. What was written is removed, and the disk at rest, before the next.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


def run(*command: str, **options: object) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **options)  # type: ignore[call-overload]


def timed(do: Callable[[], object]) -> float:
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


def dd(file: str, place: Path) -> float:
    out = place / "dd"
    return timed(lambda: run("dd", f"if={file}", f"of={out}", "bs=4M", "conv=fdatasync", stderr=subprocess.DEVNULL))


def save(file: str, place: Path, sync: bool) -> float:
    array = np.load(file)

    def write() -> None:
        with open(place / "saved.npy", "wb") as f:
            np.save(f, array)
            f.flush()
            if sync:
                os.fsync(f.fileno())

    return timed(write)


def put(file: str, ndferry: str, addr: str, *options: str) -> float:
    try:
        return timed(lambda: run(ndferry, "put", file, "bench", "--addr", addr, "--progress", "none", *options))
    finally:
        run(ndferry, "rm", "bench", "--addr", addr)


def rsync(file: str, place: Path) -> float:
    """To a daemon of its own, which syncs (--fsync, in both ends)."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    conf = place / "rsyncd.conf"
    (place / "rsync").mkdir()
    conf.write_text(f"use chroot = no\nuid = {os.getuid()}\ngid = {os.getgid()}\n[bench]\npath = {place}/rsync\nread only = no\n")
    daemon = subprocess.Popen(["rsync", "--daemon", "--no-detach", f"--port={port}", "--address=127.0.0.1", f"--config={conf}"])
    try:
        wait(port)
        return timed(lambda: run("rsync", "--whole-file", "--fsync", file, f"rsync://127.0.0.1:{port}/bench/x.npy"))
    finally:
        daemon.terminate()
        daemon.wait()


def scp(file: str, place: Path) -> float:
    """To an sshd of its own. scp does not sync: sync(1) of the file is in the time."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    for name in ("host", "user"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(place / name))
    shutil.copy(place / "user.pub", place / "authorized")
    os.makedirs("/run/sshd", exist_ok=True)
    common = ["-oStrictModes=no", "-oUsePAM=no", f"-oHostKey={place}/host", f"-oAuthorizedKeysFile={place}/authorized", f"-oPidFile={place}/pid"]
    daemon = subprocess.Popen(["/usr/sbin/sshd", "-D", "-f", "/dev/null", f"-oListenAddress=127.0.0.1:{port}", "-oSubsystem=sftp internal-sftp", *common])
    try:
        wait(port)
        known = ["-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oLogLevel=ERROR", f"-oIdentityFile={place}/user"]

        def copy() -> None:
            run("scp", "-q", "-P", str(port), *known, file, f"127.0.0.1:{place}/scp.npy")
            run("sync", str(place / "scp.npy"))

        return timed(copy)
    finally:
        daemon.terminate()
        daemon.wait()


def wait(port: int) -> None:
    end = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def zarr(file: str, place: Path) -> float:
    """The layout of spec/STORE.md: one shard, chunks of 4 MiB, codec bytes; zarr-python does not sync: sync(1) of the shard is in the time."""
    import zarr as z

    array = np.load(file, mmap_mode="r")
    chunk = (4 << 20) // array.itemsize

    def write() -> None:
        out = z.create_array(
            str(place / "zarr"), shape=array.shape, dtype=array.dtype, chunks=(chunk,), shards=array.shape, compressors=None, filters=None
        )
        out[:] = array
        run("sync", *map(str, (place / "zarr").rglob("c/*")))

    return timed(write)


class Cut:
    """A line to the server that ends behind so many bytes of the first connection, of the client or of the server."""

    def __init__(self, addr: str, limit: int, from_client: bool) -> None:
        host, port = addr.removeprefix("tcp://").rsplit(":", 1)
        self.server = (host, int(port))
        self.limit = limit
        self.from_client = from_client
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.addr = "tcp://127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        limit = self.limit
        while True:
            a, b = self.listener.accept()[0], socket.create_connection(self.server)
            for s in (a, b):  # no wait of 40 ms of the line's own making
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for src, dst, most in ((a, b, limit if self.from_client else -1), (b, a, -1 if self.from_client else limit)):
                threading.Thread(target=self.pump, args=(src, dst, most), daemon=True).start()
            limit = -1

    def pump(self, src: socket.socket, dst: socket.socket, left: int) -> None:
        buffer = memoryview(bytearray(1 << 20))
        try:
            while n := src.recv_into(buffer):
                dst.sendall(buffer[:n])
                if left >= 0 and (left := left - n) <= 0:
                    break
        except OSError:
            pass
        for s in (src, dst):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def resume_put(file: str, ndferry: str, addr: str) -> float:
    """The second put of a file of which the server has 99 %; both through the same line."""
    line = Cut(addr, os.stat(file).st_size * 99 // 100, True)
    command = [ndferry, "put", file, "bench", "--addr", line.addr, "--progress", "none", "--retries", "0"]
    assert subprocess.run(command, stderr=subprocess.DEVNULL).returncode != 0, "the line did not break"
    time.sleep(1)  # the server makes it durable
    try:
        return timed(lambda: run(*command))
    finally:
        run(ndferry, "rm", "bench", "--addr", addr)


def get(file: str, place: Path, ndferry: str, addr: str, resumed: bool) -> float:
    run(ndferry, "put", file, "bench", "--addr", addr, "--progress", "none")
    try:
        line = Cut(addr, os.stat(file).st_size * 99 // 100 if resumed else -1, False)
        command = [ndferry, "get", "bench", str(place / "got.npy"), "--addr", line.addr if resumed else addr, "--progress", "none", "--retries", "0"]
        if resumed:
            assert subprocess.run(command, stderr=subprocess.DEVNULL).returncode != 0, "the line did not break"
        os.sync()
        return timed(lambda: run(*command))
    finally:
        run(ndferry, "rm", "bench", "--addr", addr)


def main() -> None:
    way, file = sys.argv[1:3]
    if way == "make":
        rng = np.random.default_rng(1)
        np.save(file, rng.standard_normal(int(sys.argv[3]) // 4, dtype=np.float32))
        return
    top, addr, ndferry = sys.argv[3:]
    place = Path(top).resolve() / f"durable-{os.getpid()}"
    place.mkdir()
    os.sync()
    ways: dict[str, Callable[[], float]] = {
        "dd": lambda: dd(file, place),
        "np.save": lambda: save(file, place, False),
        "np.save-fsync": lambda: save(file, place, True),
        "durable": lambda: put(file, ndferry, addr),
        "relaxed": lambda: put(file, ndferry, addr, "--durability", "relaxed"),
        "durable-once": lambda: put(file, ndferry, addr, "--resume", "off", "--retries", "0"),
        "relaxed-once": lambda: put(file, ndferry, addr, "--resume", "off", "--retries", "0", "--durability", "relaxed"),
        "memory": lambda: put(file, ndferry, addr),
        "rsync": lambda: rsync(file, place),
        "scp": lambda: scp(file, place),
        "zarr": lambda: zarr(file, place),
        "resume-put": lambda: resume_put(file, ndferry, addr),
        "get": lambda: get(file, place, ndferry, addr, False),
        "resume-get": lambda: get(file, place, ndferry, addr, True),
    }
    try:
        print(json.dumps({"seconds": ways[way]()}))
    finally:
        shutil.rmtree(place)
        os.sync()
        time.sleep(1)  # what the server removes


if __name__ == "__main__":
    main()
