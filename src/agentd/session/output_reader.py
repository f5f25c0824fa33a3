"""Following a session's output: its log file, as far as it has come. Blocking; use a thread."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from ..cri import Entry, Parser, Stream, runs
from ..masking import EntryMasker
from .output_log import SLICE, marker, open_log


class LogReader:
    """Follows a log: what is new since the last call, masked, while conmon appends to the file.

    The descriptor stays valid when the file is renamed. For a closed `output.log`, which has its
    marker inside, the limit is `NO_LIMIT`. A descriptor handed in belongs to the reader.
    """

    def __init__(self, source: Path | int, values: Iterable[bytes], limit: int) -> None:
        self._fd = source if isinstance(source, int) else open_log(source)
        self._limit = limit
        self._offset = 0
        self._parser = Parser()
        self._masker = EntryMasker(values)
        self._at_line_start = True
        self._ended = False

    def __enter__(self) -> LogReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; may be repeated."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def read(self, max_bytes: int = SLICE) -> list[tuple[Stream, bytes]]:
        """New output of `max_bytes` of the file; empty when there is nothing to be had now."""
        out: list[tuple[Stream, bytes]] = []
        while not out and not self._ended:
            room = min(max_bytes, self._limit - self._offset) if self._limit else max_bytes
            chunk = os.pread(self._fd, room, self._offset)
            self._offset += len(chunk)
            out = self._joined(self._masker.feed(self._parsed(chunk)))
            if not chunk:
                break
        if self._limit == self._offset > 0 and not self._ended:
            size = os.fstat(self._fd).st_size
            out += self._cut(size) if size > self._limit else []
        return out

    def has_more(self) -> bool:
        """Whether `read` has bytes to read; they need not make a whole line yet."""
        return not self._ended and os.fstat(self._fd).st_size > self._offset

    def finish(self) -> list[tuple[Stream, bytes]]:
        """What is held back, when the session has ended and `read` has nothing more."""
        if self._ended:
            return []
        self._ended = True
        return self._joined(self._masker.finish())

    def _cut(self, size: int) -> list[tuple[Stream, bytes]]:
        rest = self.finish()
        line = marker(self._limit, size - self._parser.consumed)
        gap = b"" if self._at_line_start else b"\n"
        return [*rest, ("stderr", gap + line)]

    def _parsed(self, chunk: bytes) -> list[Entry]:
        lines = self._parser.lines(chunk)
        joined = runs(lines)
        return self._parser.entries(lines) if joined is None else joined

    def _joined(self, entries: Iterable[Entry]) -> list[tuple[Stream, bytes]]:
        """The content of the entries, neighbours of one stream made one."""
        neighbours = groupby(entries, key=attrgetter("stream"))
        out = [(stream, b"".join([each.data for each in group])) for stream, group in neighbours]
        self._at_line_start = out[-1][1].endswith(b"\n") if out else self._at_line_start
        return out
