"""What can go wrong, as one tree.

::

    Error                                     .code, .retryable, .cell
    ├── ConnectionError (ConnectionError)     refused, reset, closed
    ├── TimeoutError (TimeoutError)           deadline
    ├── ProtocolError                         protocol, version
    ├── UnsupportedError                      unsupported
    ├── InvalidError (ValueError)             invalid
    │   └── DTypeError (TypeError)
    ├── NotFoundError (KeyError)              not_found
    ├── ConflictError                         conflict
    ├── IntegrityError                        integrity
    ├── LimitError                            limit
    │   └── NoSpaceError                      no_space
    ├── TemporaryError                        busy, temporary, shutdown
    ├── PermissionError (PermissionError)     permission
    ├── CancelledError                        cancelled
    └── InternalError                         internal

In parentheses the built-in exception that is mixed in. The words on the right are the codes of ``spec/WIRE.md`` §9;
a code that is newer than this package is an `Error` that carries it.
"""

from __future__ import annotations

import builtins
from typing import Any, ClassVar


class Error(Exception):
    """The root of everything this package raises.

    Attributes
    ----------
    code : str
        The code of ``spec/WIRE.md`` §9, or ``connection``.
    retryable : bool
        The same request may succeed later.
    cell : int or None
        The cell that the error is about.
    closed : bool or None
        Set by `ndferry.send_array` and `ndferry.recv_array`: the stream is closed, or else at a boundary.
    """

    closed: bool | None = None
    default_code: ClassVar[str] = "internal"

    def __init__(
        self, message: str = "", *, code: str | None = None, retryable: bool = False, cell: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.retryable = retryable
        self.cell = cell

    def __str__(self) -> str:  # KeyError would show the repr, OSError an errno
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:  # so that worker processes can hand errors on
        return _rebuild, (type(self), self.message, self.code, self.retryable, self.cell)


def _rebuild(kind: type[Error], message: str, code: str, retryable: bool, cell: int | None) -> Error:
    return kind(message, code=code, retryable=retryable, cell=cell)


class ConnectionError(Error, builtins.ConnectionError):
    """The connection could not be made, or broke, or was closed."""

    default_code = "connection"


class TimeoutError(Error, builtins.TimeoutError):
    """No progress in time, or the deadline of the call passed."""

    default_code = "deadline"


class ProtocolError(Error):
    """The peer broke ``spec/WIRE.md``, or has no version in common."""

    default_code = "protocol"


class UnsupportedError(Error):
    """Something that may not be ignored is unknown to the one that says so."""

    default_code = "unsupported"


class InvalidError(Error, ValueError):
    """A request asks for what cannot be: a name, a shape, a range."""

    default_code = "invalid"


class DTypeError(InvalidError, TypeError):
    """The array's dtype cannot be carried."""


class NotFoundError(Error, KeyError):
    """No array of that name."""

    default_code = "not_found"


class ConflictError(Error):
    """The name is taken, or an array would have children."""

    default_code = "conflict"


class IntegrityError(Error):
    """A checksum or digest is wrong: the bytes are not those that were sent or stored."""

    default_code = "integrity"


class LimitError(Error):
    """Over a limit of the protocol or of the server."""

    default_code = "limit"


class NoSpaceError(LimitError):
    """The store is full."""

    default_code = "no_space"


class TemporaryError(Error):
    """May succeed later."""

    default_code = "temporary"


class PermissionError(Error, builtins.PermissionError):
    """Not allowed."""

    default_code = "permission"


class CancelledError(Error):
    """The operation was cancelled."""

    default_code = "cancelled"


class InternalError(Error):
    """A bug or a failing disk at the other side."""


_BY_CODE: dict[str, type[Error]] = {
    "version": ProtocolError,
    "busy": TemporaryError,
    "shutdown": TemporaryError,
} | {
    kind.default_code: kind
    for kind in (
        TimeoutError, ProtocolError, UnsupportedError, InvalidError, NotFoundError, ConflictError, IntegrityError,
        LimitError, NoSpaceError, TemporaryError, PermissionError, CancelledError, InternalError,
    )
}  # fmt: skip

CLOSING_CODES = frozenset({"protocol", "version", "deadline", "shutdown"})
"""After an ERROR with one of these the sender closes, whatever stream it was on (§9)."""


def from_code(code: str, message: str, *, retryable: bool, cell: int | None = None) -> Error:
    """The exception for an ERROR frame."""
    return _BY_CODE.get(code, Error)(message, code=code, retryable=retryable, cell=cell)
