"""Waiting for what other processes write and do; every wait is bounded."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

SECONDS = 60.0
"""The bound of every wait; what is waited for takes about a second."""


class WaitError(AssertionError):
    """What was waited for did not come; the message holds what came instead."""


def wait_until(what: str, true: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Wait for a state of the machine that nothing announces."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise WaitError(f"not within {seconds:g} s: {what}")
        time.sleep(0.01)


class Lines:
    """The lines that a process writes to one of its streams, kept as they come."""

    def __init__(self, stream: IO[bytes]) -> None:
        """Read until the stream ends."""
        self._lines: list[str] = []
        self._ended = False
        self._changed = threading.Condition()
        self._stream = stream
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._stream:
            for line in self._stream:
                self._add(line.decode(errors="surrogateescape"))
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _add(self, line: str) -> None:
        with self._changed:
            self._lines.append(line)
            self._changed.notify_all()

    @property
    def text(self) -> str:
        """All of it so far."""
        with self._changed:
            return "".join(self._lines)

    def wait_for(self, what: str, found: Callable[[str], bool], seconds: float = SECONDS) -> str:
        """Return the first line, from the very beginning on, for which `found` is true."""
        deadline = time.monotonic() + seconds
        position = 0
        with self._changed:
            while True:
                while position < len(self._lines):
                    if found(self._lines[position]):
                        return self._lines[position]
                    position += 1
                left = deadline - time.monotonic()
                if self._ended or not self._changed.wait(max(left, 0)):
                    raise WaitError(f"no {what} in:\n{''.join(self._lines)}")

    def complete(self) -> str:
        """Wait for the end of the stream and return all of it."""
        self._thread.join(SECONDS)
        return self.text


def command_lines() -> list[str]:
    """What is running on this machine; an ended process that nobody reaped has no command line."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            lines.append(path.read_bytes().decode(errors="replace"))
    return lines


class ProcessFigures:
    """What the kernel says of a process, proc(5)."""

    def __init__(self, pid: int) -> None:
        """Of the process with this id."""
        self._proc = Path("/proc", str(pid))

    def forget_peak(self) -> None:
        """Let the peak of its memory be what it has now."""
        (self._proc / "clear_refs").write_text("5")

    def memory(self, what: str) -> int:
        """`VmRSS` or `VmHWM`, in bytes."""
        found = re.search(rf"{what}:\s+(\d+) kB", (self._proc / "status").read_text())
        assert found is not None
        return int(found[1]) * 1024
