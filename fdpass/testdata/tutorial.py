"""The tutorial's descriptor passing, written afresh from its description.

tutorial.py send PATH TEXT   send a file that holds TEXT; prints True or False
tutorial.py recv PATH        receive one; prints its text and the metadata
"""

import array
import json
import os
import socket
import struct
import sys
import time


def send_descriptor(path, fd, metadata):
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        channel.connect(path)
        metadata["fd"] = fd
        body = json.dumps(metadata).encode("utf-8")
        channel.sendall(struct.pack(">I", len(body)))
        channel.sendall(body)
        rights = array.array("i", [fd])
        channel.sendmsg([b" "], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        return True
    except OSError:
        return False
    finally:
        channel.close()


def receive_descriptor(path):
    if os.path.exists(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(1)
    print("listening", flush=True)
    listener.settimeout(30)
    channel, _ = listener.accept()
    (length,) = struct.unpack(">I", channel.recv(4))
    metadata = json.loads(channel.recv(length).decode("utf-8"))
    _, control, _, _ = channel.recvmsg(1, socket.CMSG_SPACE(4))
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            return struct.unpack("i", data[:4])[0], metadata
    return None, None


if sys.argv[1] == "send":
    content = os.memfd_create("tutorial")
    os.write(content, sys.argv[3].encode())
    details = {"client_address": ["127.0.0.1", 40000], "timestamp": time.time()}
    print(send_descriptor(sys.argv[2], content, details))
else:
    fd, details = receive_descriptor(sys.argv[2])
    text = os.pread(fd, 100, 0).decode()
    print(text, details["client_address"], details["timestamp"])
