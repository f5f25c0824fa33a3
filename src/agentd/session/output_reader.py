"""Following a session's output: its log file, as far as it has come. Blocking; use a thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..cri import Entry, Parser, runs
from ..masking import EntryMasker
from .output_log import NO_TIME, SLICE, marker, open_log


class LogReader:
    """Follows a log: what is new since the last call, masked, while conmon appends to the file.

    The descriptor stays valid when the file is renamed. For a closed `output.log`, which has its
    marker inside, the limit is `NO_LIMIT`. A descriptor handed in belongs to the reader. `by_time`
    leaves each entry its time; else neighbours of one stream may be joined.
    """

    def __init__(
        self, source: Path | int, values: Iterable[bytes], limit: int, *, by_time: bool = False
    ) -> None:
        self._fd = -1
        self._limit = limit
        self._by_time = by_time
        self._offset = 0
        self._end: int | None = None
        self._parser = Parser()
        self._masker = EntryMasker(values)
        self._time = NO_TIME
        self._at_line_start = True
        self._ended = False
        self._closed = False
        self._in_use = threading.Lock()
        self._fd = source if isinstance(source, int) else open_log(source)

    def __del__(self) -> None:
        # Who is cancelled just when a thread has opened the log never gets it.
        self.close()

    def __enter__(self) -> LogReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; may be repeated.

        While a thread reads, which nobody waits for any more, it is closed as soon as that ends:
        its descriptor must not become another file's meanwhile.
        """
        self._closed = True
        if self._in_use.acquire(blocking=False):
            fd, self._fd = self._fd, -1
            self._in_use.release()
            if fd >= 0:
                os.close(fd)

    @property
    def consumed(self) -> int:
        """Offset behind the last line that was read whole."""
        return self._parser.consumed

    def unmasked(self) -> LogReader:
        """Another reader of the same file, from its beginning, for what is shown to nobody."""
        return LogReader(os.dup(self._fd), (), self._limit, by_time=self._by_time)

    def seek(self, offset: int) -> None:
        """Begin behind `offset`, where a line of the file begins. Before anything was read."""
        self._offset = self._parser.consumed = offset

    def stop_behind(self, other: LogReader) -> None:
        """Read no further than another reader of the file has come."""
        self._end = None if other._ended else other.consumed

    def read(self, max_bytes: int = SLICE) -> list[Entry]:
        """New output of `max_bytes` of the file; empty when there is nothing to be had now."""
        with self._open_file():
            return self._read(max_bytes)

    def _read(self, max_bytes: int) -> list[Entry]:
        out: list[Entry] = []
        while not out and not self._ended:
            chunk = os.pread(self._fd, self._room(max_bytes), self._offset)
            self._offset += len(chunk)
            out = self._noted(self._masker.feed(self._parsed(chunk)))
            if not chunk:
                break
        if self._limit == self._offset > 0 and not self._ended:
            size = os.fstat(self._fd).st_size
            out += self._cut(size) if size > self._limit else []
        return out

    def has_more(self) -> bool:
        """Whether `read` has bytes to read; they need not make a whole line yet."""
        with self._open_file():
            return not self._ended and os.fstat(self._fd).st_size > self._offset

    def finish(self) -> list[Entry]:
        """What is held back, when the session has ended and `read` has nothing more."""
        if self._ended:
            return []
        self._ended = True
        return self._noted(self._masker.finish())

    @contextmanager
    def _open_file(self) -> Iterator[None]:
        """Nobody closes the file meanwhile."""
        try:
            with self._in_use:
                yield
        finally:
            if self._closed:
                self.close()

    def _room(self, max_bytes: int) -> int:
        bounds = [bound for bound in (self._limit or None, self._end) if bound is not None]
        return min([max_bytes, *(bound - self._offset for bound in bounds)])

    def _cut(self, size: int) -> list[Entry]:
        rest = self.finish()
        line = marker(self._limit, size - self._parser.consumed)
        gap = b"" if self._at_line_start else b"\n"
        return [*rest, Entry(self._time, "stderr", gap + line)]

    def _parsed(self, chunk: bytes) -> list[Entry]:
        lines = self._parser.lines(chunk)
        joined = None if self._by_time else runs(lines)
        return self._parser.entries(lines) if joined is None else joined

    def _noted(self, entries: list[Entry]) -> list[Entry]:
        """The same, with what a later marker has to know of them."""
        if entries:
            self._time, _, last = entries[-1]
            self._at_line_start = last.endswith(b"\n")
        return entries
