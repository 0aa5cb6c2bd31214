"""When a call that failed is asked again, and how long to wait before that."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final

from ndferry import _errors
from ndferry._errors import Error, InvalidError

BASE: Final = 0.1
MOST: Final = 10.0
"""The n-th wait is a random time up to BASE * 2**n seconds, at most MOST (full jitter, as described in "Exponential
Backoff And Jitter", AWS Architecture Blog, 2015)."""

DEFAULT: Final = 0
"""Attempts after the first, when nothing was said; as in the Go client."""

_BROKEN: Final = (_errors.ConnectionError, _errors.TimeoutError, _errors.IntegrityError, _errors.ProtocolError)


def check(retries: int | None) -> None:
    """Refuse what is no number of attempts."""
    if retries is not None and (type(retries) is not int or retries < 0):
        raise InvalidError(f"retries {retries!r} is no number from 0 up")


class Retry:
    """The attempts of one call. `pause` is asked after each that failed.

    Parameters
    ----------
    retries
        Attempts after the first.
    end
        Time on the monotonic clock after which there is none.
    moved
        How far the call has come: when that grows, the count of attempts begins anew.
    """

    def __init__(self, retries: int, end: float | None, moved: Callable[[], int] | None = None) -> None:
        self._retries = retries
        self._end = end
        self._moved = moved
        self._far = moved() if moved else 0
        self._count = 0

    def pause(self, error: Error, lost: bool) -> float | None:
        """Seconds to wait before the next attempt; None when there is none. `lost`: the connection is gone."""
        if self._moved is not None and (far := self._moved()) > self._far:
            self._far = far
            self._count = 0
        if self._count >= self._retries or not may_pass(error, lost):
            return None
        wait = random.uniform(0, min(MOST, BASE * 2.0 ** min(self._count, 10)))
        self._count += 1
        if self._end is not None and time.monotonic() + wait >= self._end:
            return None
        return wait


def may_pass(error: Error, lost: bool) -> bool:
    """Whether the same call may succeed later: the server says so, or the connection broke, or bytes on it did."""
    return error.retryable or (lost and isinstance(error, _BROKEN) and error.code != "version")
