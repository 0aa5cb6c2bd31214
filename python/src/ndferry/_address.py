"""Addresses: ``tcp://HOST:PORT``, ``HOST:PORT``, ``unix:///path``, ``unix://@name``."""

from __future__ import annotations

import builtins
import os
import socket
from typing import Final

from ndferry._errors import ConnectionError, InvalidError, TimeoutError

DEFAULT: Final = "tcp://127.0.0.1:9000"
VARIABLE: Final = "NDFERRY_ADDR"

_FORMS: Final = "use tcp://HOST:PORT, HOST:PORT, unix:///path or unix://@name"


def default() -> str:
    """What ``NDFERRY_ADDR`` says, else ``tcp://127.0.0.1:9000``."""
    return os.environ.get(VARIABLE) or DEFAULT


def parse(addr: str) -> tuple[str, int] | str:
    """Host and port, or the name of a Unix socket (abstract ones begin with NUL).

    Examples
    --------
    >>> parse("tcp://[::1]:9000")
    ('::1', 9000)
    >>> parse("unix:///run/ndferry.sock")
    '/run/ndferry.sock'
    """
    scheme, separator, rest = addr.partition("://")
    if not separator:
        scheme, rest = "tcp", addr
    if scheme == "unix":
        if rest.startswith("/"):
            return rest
        if rest.startswith("@") and len(rest) > 1:
            return "\0" + rest[1:]
    elif scheme == "tcp":
        host, _, port = rest.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        if host and port.isascii() and port.isdigit() and 0 < int(port) < 65536:
            return host, int(port)
    raise InvalidError(f"connect: address {addr!r} is not understood: {_FORMS}")


def is_local(addr: str) -> bool:
    """True when only processes of this machine reach the address.

    Examples
    --------
    >>> is_local("unix:///run/ndferry.sock"), is_local("[::1]:9000"), is_local("tcp://example.org:9000")
    (True, True, False)
    """
    target = parse(addr)
    if not isinstance(target, tuple):
        return True
    host = target[0].strip("[]")
    return host.lower() == "localhost" or host == "::1" or host.startswith("127.")


def dial(addr: str, timeout: float | None) -> socket.socket:
    """A connected socket, which the caller owns.

    Raises
    ------
    ConnectionError, TimeoutError
        Nobody there, or not in time.
    """
    target = parse(addr)
    try:
        if isinstance(target, tuple):
            sock = socket.create_connection(target, timeout)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(timeout)
            sock.connect(target)
        except BaseException:
            sock.close()
            raise
        return sock
    except builtins.TimeoutError as error:
        raise TimeoutError(f"connect {addr}: no answer in {timeout} s") from error
    except OSError as error:
        raise ConnectionError(f"connect {addr}: {error}: is the server running?", retryable=True) from error
