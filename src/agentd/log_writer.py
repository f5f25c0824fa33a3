"""Getting lines to a reader that may be slow, stuck or gone, without ever waiting for it.

Whoever logs puts a line into a queue and goes on; one thread writes. A write that fails, because
the reader has gone or the disk is full, is tried again for as long as the daemon lives.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

MAX_QUEUED_BYTES: Final = 1024 * 1024
"""What may wait, some thousand lines, before lines that need not be kept are dropped."""

MAX_KEPT_BYTES: Final = 64 * 1024 * 1024
"""What may wait before any line is dropped: a daemon that ends for want of memory loses more."""

RETRY_SECONDS: Final = 0.5
"""Between two attempts at a write that fails."""


class LineWriter:
    """A queue of lines, and the thread that writes them in order until `finish`.

    The thread ends with the process, whatever it does: a write that hangs cannot be called back.
    """

    def __init__(self, descriptor: int, tell_dropped: Callable[[int, int], None]) -> None:
        """Write to `descriptor`, which stays open.

        `tell_dropped` is called from the thread when lines flow again, with how many were dropped:
        lines that need not be kept, and lines that should have been.
        """
        self._descriptor = descriptor
        self._tell_dropped = tell_dropped
        self._changed = threading.Condition()
        self._queue: deque[bytes] = deque()
        """The first of them is being written."""
        self._bytes = 0
        self._dropped = [0, 0]
        """Lines that need not be kept, and lines that should have been."""
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="agentd-log", daemon=True)
        self._thread.start()

    def put(self, line: bytes, *, keep: bool) -> None:
        """Take a line, from any thread. Without `keep`, it is dropped when many wait."""
        with self._changed:
            if self._bytes + len(line) > (MAX_KEPT_BYTES if keep else MAX_QUEUED_BYTES):
                self._dropped[keep] += 1
                return
            self._queue.append(line)
            self._bytes += len(line)
            self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait until everything is written, so long at most; gives whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue, seconds)

    def finish(self, seconds: float) -> bool:
        """End the thread when everything is written, or at the first write that fails.

        Waits so long at most; gives whether everything is written.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(seconds)
        return self.flush(0)

    def _work(self) -> None:
        while (line := self._next()) is not None:
            if not self._write(line):
                return
            self._done(line)

    def _next(self) -> bytes | None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            return self._queue[0] if self._queue else None

    def _done(self, line: bytes) -> None:
        with self._changed:
            self._queue.popleft()
            self._bytes -= len(line)
            if not self._queue and any(self._dropped):
                # It flows again. Told from here, as the next line, since no other may ever come.
                dropped, self._dropped = self._dropped, [0, 0]
                self._tell_dropped(*dropped)
            self._changed.notify_all()

    def _write(self, line: bytes) -> bool:
        """Write all of a line, however often it takes; false when it is time to give up."""
        rest = memoryview(line)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                # Somebody who shares the descriptor has set O_NONBLOCK.
                self._wait_writable()
            except OSError:
                with self._changed:
                    if self._changed.wait_for(lambda: self._closing, RETRY_SECONDS):
                        return False
        return True

    def _wait_writable(self) -> None:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        poll.poll(RETRY_SECONDS * 1000)
