"""Stop the first worker of a server for a part of the time while a command runs.

slow.py PORT MS COMMAND...    the first child of the process that listens on PORT
                              stands still for MS of each 10 ms
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time

port, stopped = int(sys.argv[1]), int(sys.argv[2]) / 1000


def listener(port: int) -> int:
    """Return the process that listens on a TCP port."""
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and int(fields[1].split(":")[1], 16) == port:
            wanted = f"socket:[{fields[9]}]"
            for fd in pathlib.Path("/proc").glob("[0-9]*/fd/*"):
                try:
                    if os.readlink(fd) == wanted:
                        return int(fd.parts[2])
                except OSError:
                    pass
    sys.exit(f"nobody listens on {port}")


master = listener(port)
children = pathlib.Path(f"/proc/{master}/task").glob("*/children")
workers = sorted(int(pid) for c in children for pid in re.findall(r"\d+", c.read_text()))
worker = workers[0]
command = subprocess.Popen(sys.argv[3:])
try:
    while command.poll() is None:
        os.kill(worker, signal.SIGSTOP)
        time.sleep(stopped)
        os.kill(worker, signal.SIGCONT)
        time.sleep(0.01 - stopped)
finally:
    os.kill(worker, signal.SIGCONT)
sys.exit(command.returncode)
