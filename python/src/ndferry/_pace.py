"""How much credit a receiver of cells lets the server have (spec/WIRE.md §6): as much as the link between them can use.

`internal/pace` is the same for Go and for servers.
"""

from __future__ import annotations

import math
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Final, TypeAlias

from ndferry._wire import CREDIT_AHEAD, CREDIT_STEP, FIRST_CREDIT, MIN_COST, MOST_CREDIT, PACE_INTERVAL

Link: TypeAlias = Callable[[], float | None]
"""Seconds that a packet takes to the server and back when nothing is queued; None while nobody knows."""

FADE: Final = 7 / 8
"""What is left of the rate when an interval was slower."""

GROWTH: Final = 5 / 4
"""Of the rate in an interval, from which on it grows: a sender that begins doubles what it sends in each delay."""

_MIN_RTT: Final = struct.Struct("@148xI")
"""The part of Linux's ``struct tcp_info`` up to ``tcpi_min_rtt``, in microseconds."""


class Window:
    """What the server was granted, and what of that is here.

    A control message waits for all that was granted and is not here, so it is little: what lets the server send a cell
    while another arrives, and twice what the link holds, or four times while that grows. It is never so little that the
    server, when all has arrived, could not send one more cell. Methods return what is to be granted now; 0 is nothing.
    """

    __slots__ = ("_bytes", "_came", "_cell", "_clock", "_delay", "_given", "_grows", "_link", "_rate", "_since")

    def __init__(self, link: Link, clock: Callable[[], float] = time.monotonic) -> None:
        self._link = link
        self._clock = clock
        self._given = FIRST_CREDIT
        self._came = 0
        self._cell = 0  # cost of a cell of the GET that runs, or ran last
        self._since = 0.0  # when counting of bytes began; 0: it did not
        self._bytes = 0  # that arrived since
        self._rate = 0.0  # bytes a second
        self._grows = False
        self._delay: float | None = None

    def expect(self, cell_bytes: int) -> int:
        """Cells of so many bytes come next."""
        self._cell = max(cell_bytes, MIN_COST)
        return self._grant()

    def arrived(self, count: int) -> int:
        """So much of what the server was granted is here."""
        self._came += count
        now = self._clock()
        if not self._since:
            self._since = now
            return self._grant()
        self._bytes += count
        took = now - self._since
        if took >= max(PACE_INTERVAL, self._delay or 0):
            rate = self._bytes / took
            self._grows = rate > self._rate * GROWTH
            self._rate = max(rate, self._rate * FADE)
            self._delay = self._link()
            self._since, self._bytes = now, 0
        return self._grant()

    def _grant(self) -> int:
        if self._delay is None or not self._cell:
            size, step = FIRST_CREDIT, CREDIT_STEP
        else:
            ahead = max(self._cell, CREDIT_AHEAD)
            step = ahead // 2
            link = math.floor(min((4 if self._grows else 2) * self._rate * self._delay, MOST_CREDIT))
            size = max(min(self._cell + ahead + link, MOST_CREDIT), self._cell + ahead)
        more = self._came + size - self._given
        if more < step:
            return 0
        self._given += more
        return more


def delay(sock: socket.socket) -> float | None:
    """The shortest time in the last minutes in which a packet came to the peer of a TCP connection and back.

    None when that is not known, as for a Unix socket, which holds next to nothing.
    """
    if not sys.platform.startswith("linux") or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _MIN_RTT.size)
    except OSError:
        return None
    if len(info) < _MIN_RTT.size:
        return None
    micros: int = _MIN_RTT.unpack(info)[0]
    return micros / 1e6 if 0 < micros < 0xFFFFFFFF else None
