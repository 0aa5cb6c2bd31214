"""A peer for the interoperation tests: see peerPrograms in interop_test.go."""

import os
import socket
import sys

kind, verb, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
sotype = socket.SOCK_SEQPACKET if kind == "seqpacket" else socket.SOCK_STREAM
channel = socket.socket(socket.AF_UNIX, sotype, fileno=3)

if verb == "send":
    fds = []
    for i in range(count):
        fds.append(os.memfd_create("peer"))
        os.write(fds[-1], f"file {i}".encode())
    socket.send_fds(channel, [b"from python"], fds)
else:
    message, fds, flags, _ = socket.recv_fds(channel, 100, 253)
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or len(fds) != count:
        sys.exit(f"flags {flags:#x}, {len(fds)} descriptors")
    print(message.decode())
    for fd in fds:
        print(os.pread(fd, 100, 0).decode())
