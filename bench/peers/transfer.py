"""What transfers are compared with, one class for each: `transfer.py PEER client SIZE REPS` and, where it has one of its own,
`transfer.py PEER server`. See bench/peers/rounds for what is printed.

A put is over when the other process has the payload and said so; a get when it is back in ours. Where arriving is only a
mapping (Ray, shared_memory) the consumer reads every element once.
"""

import hashlib
import json
import multiprocessing
import os
import pickle
import resource
import socket
import statistics
import struct
import sys
import time
import zlib

import numpy as np

BATCH = 4 << 20


def exactly(sock, view):
    view = memoryview(view).cast("B")
    while view:
        got = sock.recv_into(view)
        if not got:
            raise EOFError
        view = view[got:]


def served(place=None):
    """A listener, and the line that says it is ready."""
    listener = socket.create_server(("127.0.0.1", 0))
    print("ready 127.0.0.1:%d" % listener.getsockname()[1], flush=True)
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield sock
        sock.close()


def dial():
    host, port = os.environ["BENCH_SERVER"].rsplit(":", 1)
    sock = socket.create_connection((host, int(port)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class Bare:
    """sendall and recv_into warm memory."""

    @staticmethod
    def server():
        data = np.zeros(0, np.uint8)
        for sock in served():
            head = bytearray(9)
            try:
                while True:
                    exactly(sock, head)
                    op, size = struct.unpack("<cQ", head)
                    if size > data.size:
                        data = np.ones(size, np.uint8)
                    if op == b"p":
                        exactly(sock, data[:size])
                        sock.sendall(b"k")
                    else:
                        sock.sendall(data[:size])
            except (EOFError, OSError):
                pass

    def __init__(self, array):
        self.sock, self.into = dial(), np.ones_like(array)

    def put(self, array):
        self.sock.sendmsg([struct.pack("<cQ", b"p", array.nbytes), array[:1024]])
        self.sock.sendall(array[1024:])
        exactly(self.sock, bytearray(1))

    def get(self):
        self.sock.sendall(struct.pack("<cQ", b"g", self.into.nbytes))
        exactly(self.sock, self.into)


class Flight:
    """Arrow Flight, do_put and do_get in batches of 4 MiB."""

    @staticmethod
    def server():
        from pyarrow import flight

        class Server(flight.FlightServerBase):
            table = None

            def do_put(self, context, descriptor, reader, writer):
                self.table = reader.read_all()

            def do_get(self, context, ticket):
                return flight.RecordBatchStream(self.table)

        server = Server("grpc://127.0.0.1:0")
        print("ready grpc://127.0.0.1:%d" % server.port, flush=True)
        server.serve()

    def __init__(self, array):
        import pyarrow
        from pyarrow import flight

        self.flight, self.pyarrow = flight, pyarrow
        self.client = flight.connect(os.environ["BENCH_SERVER"])
        column = pyarrow.array(array)
        step = BATCH // array.itemsize
        table = pyarrow.table({"a": column})
        self.schema, self.batches = table.schema, table.to_batches(max_chunksize=step)

    def put(self, array):
        writer, reader = self.client.do_put(self.flight.FlightDescriptor.for_path("a"), self.schema)
        for batch in self.batches:
            writer.write_batch(batch)
        writer.close()

    def get(self):
        self.client.do_get(self.flight.Ticket(b"a")).read_all()


class Zmq:
    """pyzmq REQ and REP, copy=False."""

    place = "tcp://127.0.0.1:*"

    @classmethod
    def server(cls):
        import zmq

        sock = zmq.Context().socket(zmq.REP)
        sock.bind(cls.place if cls.place.startswith("tcp") else "ipc:///tmp/bench-%d" % os.getpid())
        print("ready", sock.getsockopt_string(zmq.LAST_ENDPOINT), flush=True)
        kept = b""
        while True:
            parts = sock.recv_multipart(copy=False)
            if parts[0].bytes == b"p":
                kept = parts[1]
                sock.send(b"k")
            else:
                sock.send(kept, copy=False)

    def __init__(self, array):
        import zmq

        self.sock = zmq.Context().socket(zmq.REQ)
        self.sock.connect(os.environ["BENCH_SERVER"])

    def put(self, array):
        self.sock.send_multipart([b"p", array], copy=False)
        self.sock.recv()

    def get(self):
        self.sock.send(b"g")
        np.frombuffer(self.sock.recv(copy=False), np.float32)


class ZmqIpc(Zmq):
    place = "ipc"


class Ray:
    """ray.put and ray.get with an actor; both sides read what is mapped."""

    def __init__(self, array):
        import ray

        os.environ["RAY_DEDUP_LOGS"] = "0"
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=max(1 << 30, 6 * array.nbytes))
        self.ray = ray

        @ray.remote
        class Other:
            def put(self, array):
                self.array = array
                return float(array.sum())

            def get(self):
                return self.array

        self.other = Other.remote()

    def put(self, array):
        self.ray.get(self.other.put.remote(self.ray.put(array)))

    def get(self):
        self.ray.get(self.other.get.remote()).sum()


class Dask:
    """dask.distributed: scatter to a worker process, and gather."""

    def __init__(self, array):
        from distributed import Client, LocalCluster

        self.client = Client(LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None))

    def put(self, array):
        self.future = self.client.scatter(array, direct=True, hash=False)

    def get(self):
        self.client.gather(self.future, direct=True)


def _queue(inbox, outbox):
    while True:
        array = inbox.get()
        outbox.put(b"k")
        inbox.get()
        outbox.put(array)


class Queue:
    """multiprocessing.Queue: pickle through a pipe."""

    def __init__(self, array):
        self.to, self.back = multiprocessing.Queue(), multiprocessing.Queue()
        self.other = multiprocessing.Process(target=_queue, args=(self.to, self.back), daemon=True)
        self.other.start()

    def put(self, array):
        self.to.put(array)
        self.back.get()

    def get(self):
        self.to.put(b"g")
        self.back.get()

    def close(self):
        self.other.kill()
        self.other.join()


def _shared(pipe):
    from multiprocessing import shared_memory

    name, size = pipe.recv()
    memory = shared_memory.SharedMemory(name)
    array = np.frombuffer(memory.buf, np.float32, size // 4)
    mine = np.ones_like(array)
    while True:
        if pipe.recv() == "p":
            np.copyto(mine, array)
        else:
            np.copyto(array, mine)
        pipe.send("k")


class Shared:
    """multiprocessing.shared_memory, warm: a copy in and a copy out, on each way."""

    def __init__(self, array):
        from multiprocessing import shared_memory

        self.memory = shared_memory.SharedMemory(create=True, size=array.nbytes)
        self.pipe, other = multiprocessing.Pipe()
        self.other = multiprocessing.Process(target=_shared, args=(other,), daemon=True)
        self.other.start()
        self.pipe.send((self.memory.name, array.nbytes))
        self.array, self.into = np.frombuffer(self.memory.buf, np.float32, array.size), np.ones_like(array)

    def put(self, array):
        np.copyto(self.array, array)
        self.pipe.send("p")
        self.pipe.recv()

    def get(self):
        self.pipe.send("g")
        self.pipe.recv()
        np.copyto(self.into, self.array)

    def close(self):
        self.other.kill()
        self.other.join()
        self.memory.unlink()


def _lz4():
    import lz4.frame

    return lz4.frame.compress, lz4.frame.decompress


CODECS = {"none": lambda: (bytes, bytes), "zlib": lambda: (lambda b: zlib.compress(b, 6), zlib.decompress), "lz4": _lz4}


def textbook_send(sock, array, codec):
    data = array.tobytes()
    header = pickle.dumps({"dtype": str(array.dtype), "shape": array.shape, "checksum": hashlib.sha256(data).hexdigest(),
                           "compression": codec, "chunk_size": 65536})
    body = CODECS[codec]()[0](data)
    sock.sendall(struct.pack(">Q", len(header)) + header + struct.pack(">Q", len(body)))
    for start in range(0, len(body), 65536):
        sock.sendall(body[start : start + 65536])


def textbook_receive(sock):
    def some(size, most):
        data = b""
        while len(data) < size:
            got = sock.recv(min(most, size - len(data)))
            if not got:
                raise EOFError
            data += got  # a growing bytes object: quadratic
        return data

    header = pickle.loads(some(struct.unpack(">Q", some(8, 8))[0], 4096))
    body = some(struct.unpack(">Q", some(8, 8))[0], header["chunk_size"])
    data = CODECS[header["compression"]]()[1](body)
    if hashlib.sha256(data).hexdigest() != header["checksum"]:
        raise ValueError
    return np.frombuffer(data, header["dtype"]).reshape(header["shape"])


class Textbook:
    """The method of a tutorial: pickled header, SHA-256, the whole array compressed, read in small pieces."""

    codec = "none"

    @classmethod
    def server(cls):
        for sock in served():
            try:
                while True:
                    array = textbook_receive(sock)
                    sock.sendall(b"k")
                    exactly(sock, bytearray(1))
                    textbook_send(sock, array, cls.codec)
            except (struct.error, EOFError, OSError):
                pass

    def __init__(self, array):
        self.sock = dial()

    def put(self, array):
        textbook_send(self.sock, array, self.codec)
        exactly(self.sock, bytearray(1))

    def get(self):
        self.sock.sendall(b"g")
        textbook_receive(self.sock)


class TextbookZlib(Textbook):
    codec = "zlib"


class TextbookLz4(Textbook):
    codec = "lz4"


class Ndferry:
    """Our Python client, into new memory."""

    out = False
    digest = "crc32c"

    def __init__(self, array):
        import ndferry

        self.client = ndferry.connect(os.environ["BENCH_SERVER"])
        self.into = np.ones_like(array) if self.out else None

    def put(self, array):
        self.client.put("bench/python", array, digest=self.digest)

    def get(self):
        self.client.get("bench/python", out=self.into)


class NdferryOut(Ndferry):
    out = True


class NdferrySha(NdferryOut):
    digest = "sha256"


PEERS = {
    "bare": Bare, "flight": Flight, "zmq-tcp": Zmq, "zmq-ipc": ZmqIpc, "ray": Ray, "dask": Dask, "queue": Queue,
    "shared": Shared, "textbook-none": Textbook, "textbook-zlib": TextbookZlib, "textbook-lz4": TextbookLz4,
    "ndferry": Ndferry, "ndferry-out": NdferryOut, "ndferry-sha256": NdferrySha,
}


def cpu():
    mine, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return mine.ru_utime + mine.ru_stime + children.ru_utime + children.ru_stime


def measure(peer, size, reps):
    tile = np.random.default_rng(0).standard_normal(min(size, 64 << 20) // 4, dtype=np.float32)
    array = np.resize(tile, size // 4)
    other = peer(array)
    puts, gets = [], []
    warm = max(2, reps // 10) if size < 1 << 30 and "Textbook" not in peer.__name__ else 1
    if size >= 64 << 20 and "Textbook" in peer.__name__:
        warm = 0  # a transfer takes seconds
    before = 0.0
    for i in range(warm + reps):
        if i == warm:
            before = cpu()
        start = time.perf_counter()
        other.put(array)
        middle = time.perf_counter()
        other.get()
        end = time.perf_counter()
        if i >= warm:
            puts.append(middle - start)
            gets.append(end - middle)
    spent = cpu() - before
    print(json.dumps({"put": statistics.median(puts), "get": statistics.median(gets),
                      "cpu_per_gb": spent / (2 * size * reps / 1e9)}), flush=True)
    if hasattr(other, "close"):
        other.close()


if __name__ == "__main__":
    if sys.argv[2] == "server":
        PEERS[sys.argv[1]].server()
    else:
        measure(PEERS[sys.argv[1]], int(sys.argv[3]), int(sys.argv[4]))
        sys.stdout.flush()
        os._exit(0)  # daemons of peers are no concern of the figures
