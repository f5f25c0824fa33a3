"""The log of a session's output as a file: cut, and finished. Blocking; use a thread.

conmon appends to `output.raw` while the session lives. `finish` makes `output.log` of it, the
only form that is sealed: masked, and not past the last whole line within the limit. Whoever
enforces the limit on a live log calls `trim`.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, Literal

import msgspec

from ..audit.files import draft, sync_name
from ..cri import Entry, Parser, encode, runs
from ..masking import MASK, EntryMasker, needles

SLICE: Final = 256 * 1024
"""Bytes between two looks at `cancelled`; one slice takes a few milliseconds."""

NO_LIMIT: Final = 0

NO_TIME: Final = b"1970-01-01T00:00:00.000000000+00:00"
"""Of a marker, when nothing came before it."""

_PART = 16 * 1024

_CLONED = re.compile(rb"(?m)^agentd: cloned ([0-9a-f]{64}|[0-9a-f]{40})\n")
_CLONED_SIZE = len("agentd: cloned \n") + 64
_MARKER = re.compile(
    rb"(?m)^agentd: output limit of \d+ bytes reached; at least (\d+) bytes were dropped\n\Z"
)
_NOTHING = Entry(NO_TIME, "stdout", b"\n")
_OPEN = os.O_NOFOLLOW | os.O_CLOEXEC


class Interrupted(Exception):
    """`cancelled` said so; what was begun can be begun again."""


class Summary(msgspec.Struct, frozen=True):
    """What a finished log holds.

    `bytes` counts content as it stands in the log, without headers and marker. `dropped_bytes` is
    an "at least" of the raw file's bytes beyond the limit. `complete` is false when lines are
    damaged or were dropped. `commit` is what the setup script said it has cloned.
    """

    bytes: int
    dropped_bytes: int
    complete: bool
    masked: Literal["none", "masked"]
    commit: str | None


def open_log(path: Path) -> int:
    """A descriptor for reading the regular file `path`: follows no link, waits for no FIFO.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | _OPEN)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(f"not a regular file: {path}")
    return fd


def trim(raw: Path, limit: int) -> int:
    """Cut `raw` one byte past `limit`, and return how many bytes went.

    The byte too many is what tells readers that the limit was passed. conmon appends, so it goes
    on at the new end; what it writes between look and cut is lost uncounted.
    """
    # A writer that closes the file is the hint that the container has ended: none without need.
    if raw.stat(follow_symlinks=False).st_size <= limit + 1:
        return 0
    fd = os.open(raw, os.O_WRONLY | _OPEN)
    try:
        size = os.fstat(fd).st_size
        os.ftruncate(fd, limit + 1)
    finally:
        os.close(fd)
    return size - (limit + 1)


def marker(limit: int, dropped: int) -> bytes:
    """The last line of an output that was cut."""
    return b"agentd: output limit of %d bytes reached; at least %d bytes were dropped\n" % (
        limit,
        dropped,
    )


def finish(
    raw: Path,
    log: Path,
    values: Iterable[bytes],
    limit: int,
    cancelled: Callable[[], bool],
    *,
    trimmed: int = 0,
) -> Summary:
    """Make the closed, masked `log` of `raw`, and say what it holds.

    `limit` bounds the bytes of `raw` (`NO_LIMIT` for none), `trimmed` is the sum of what `trim`
    has returned. The file moves as it is when nothing in it has to change. May be called again
    after an interruption at any point: `raw` goes last, and without it `log` is summed up.

    Raises:
        Interrupted: `cancelled` said so.
        OSError: the files cannot be used, or neither exists.
    """
    try:
        fd = open_log(raw)
    except FileNotFoundError:
        return _read_back(log, cancelled)
    try:
        size = os.fstat(fd).st_size
        end = min(size, limit) if limit else size
        wanted = needles(values)
        walk = _scan(fd, end, wanted, cancelled)
        cut = size > end
        # A damaged line may hold a part of a value that the masker never saw.
        if cut or walk.masker.masked or (wanted and walk.damaged):
            walk = _Walk(wanted)
            with draft(log, 0o600) as file:
                _copy(fd, end, walk, file, cancelled)
                dropped = size - walk.parser.consumed + trimmed if cut else 0
                if cut:
                    file.write(_closing(walk, limit, dropped))
                elif walk.parser.pending:
                    file.write(b"\n")
            raw.unlink()
        else:
            dropped = 0
            os.fsync(fd)
            raw.rename(log)
    finally:
        os.close(fd)
    sync_name(log)
    return walk.summary(dropped, masked=walk.masker.masked > 0)


class _Walk:
    """One pass over a log: bytes in, the closed log's bytes out, facts counted on the way."""

    def __init__(self, values: Iterable[bytes]) -> None:
        self.parser = Parser()
        self.masker = EntryMasker(values)
        self.bytes = 0
        self.last = _NOTHING
        self.commit: str | None = None
        self._line = b""

    @property
    def damaged(self) -> bool:
        return self.parser.torn > 0 or self.parser.pending > 0

    def feed(self, chunk: bytes) -> bytes:
        """The lines that `chunk` completes, masked; what need not change keeps every byte."""
        torn = self.parser.torn
        lines = self.parser.lines(chunk)
        gap = self.parser.torn > torn
        joined = runs(lines)
        if joined is None:
            out = self._masked(lines)
        elif self._take(joined):
            out = lines
        else:
            # Masking entry by entry is slow and values are rare: most parts go out as they are.
            out = b"".join([self._fed_part(part) for part in _parts(lines)])
        return out + b"\n" if gap else out

    def _fed_part(self, lines: bytes) -> bytes:
        joined = runs(lines)
        return lines if joined is not None and self._take(joined) else self._masked(lines)

    def _take(self, joined: list[Entry]) -> bool:
        taken = self.masker.take(joined)
        if taken:
            self.count(joined)
        return taken

    def _masked(self, lines: bytes) -> bytes:
        torn = self.parser.torn
        entries = self.parser.entries(lines)
        masked = self.count(self.masker.feed(entries))
        damaged = self.parser.torn - torn
        # An empty line stands for each damaged one, so that the copy shows the damage too.
        return lines if masked is entries and not damaged else _encoded(masked) + b"\n" * damaged

    def finish(self) -> bytes:
        return _encoded(self.count(self.masker.finish()))

    def count(self, entries: list[Entry]) -> list[Entry]:
        self.bytes += sum([len(entry.data) for entry in entries])
        self.last = entries[-1] if entries else self.last
        if self.commit is None:
            self._look_for_commit(b"".join([e.data for e in entries if e.stream == "stdout"]))
        return entries

    def summary(self, dropped: int, *, masked: bool) -> Summary:
        complete = not dropped and not self.parser.torn and not self.parser.pending
        return Summary(self.bytes, dropped, complete, "masked" if masked else "none", self.commit)

    def _look_for_commit(self, stdout: bytes) -> None:
        text = self._line + stdout
        # The cheap question first: a search with `^` is twenty times slower.
        match = _CLONED.search(text) if b"agentd: cloned " in text else None
        self.commit = match[1].decode() if match else None
        self._line = text[text.rfind(b"\n") + 1 :][:_CLONED_SIZE]


def _slices(fd: int, end: int, cancelled: Callable[[], bool]) -> Iterator[bytes]:
    """The first `end` bytes of a file, or what there is of them."""
    at = 0
    while at < end and (chunk := os.pread(fd, min(SLICE, end - at), at)):
        if cancelled():
            raise Interrupted
        at += len(chunk)
        yield chunk


def _parts(lines: bytes) -> Iterator[bytes]:
    """Whole lines, some at a time."""
    at = 0
    while at < len(lines):
        end = lines.find(b"\n", at + _PART) + 1 or len(lines)
        yield lines[at:end]
        at = end


def _scan(fd: int, end: int, wanted: Iterable[bytes], cancelled: Callable[[], bool]) -> _Walk:
    """Walk through all of it, or to the first value to mask."""
    walk = _Walk(wanted)
    for chunk in _slices(fd, end, cancelled):
        walk.feed(chunk)
        if walk.masker.masked:
            return walk
    walk.finish()
    return walk


def _copy(fd: int, end: int, walk: _Walk, file: BinaryIO, cancelled: Callable[[], bool]) -> None:
    """Write the first `end` bytes to `file`, masked."""
    for chunk in _slices(fd, end, cancelled):
        file.write(walk.feed(chunk))
    file.write(walk.finish())


def _closing(walk: _Walk, limit: int, dropped: int) -> bytes:
    """The marker, on a line of its own."""
    time, _, data = walk.last
    gap = [] if data.endswith(b"\n") else [Entry(time, "stderr", b"\n")]
    return _encoded(walk.count(gap)) + encode(time, "stderr", marker(limit, dropped))


def _encoded(entries: list[Entry]) -> bytes:
    return b"".join([encode(*entry) for entry in entries])


def _read_back(log: Path, cancelled: Callable[[], bool]) -> Summary:
    """The summary of a log that an earlier call has made.

    Whether it was masked is told by the mask text, which an agent may have printed itself.
    """
    walk = _Walk(())
    masked = False
    fd = open_log(log)
    try:
        for chunk in _slices(fd, os.fstat(fd).st_size, cancelled):
            lines = walk.feed(chunk)
            masked = masked or MASK in lines
    finally:
        os.close(fd)
    match = _MARKER.search(walk.last.data) if walk.last.stream == "stderr" else None
    if match:
        walk.bytes -= len(match[0])
    return walk.summary(int(match[1]) if match else 0, masked=masked)
