"""A warning about what a peer can bring about as often as it likes."""

from __future__ import annotations

import math

import trio


class Seldom:
    """Lets one occurrence through in so many seconds, and counts the others."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._next = -math.inf
        self._count = 0

    def take(self) -> int:
        """One more occurrence: 0 when nothing is to be said of it, else how many there have been
        since something was said."""
        self._count += 1
        if trio.current_time() < self._next:
            return 0
        self._next = trio.current_time() + self._seconds
        count, self._count = self._count, 0
        return count
