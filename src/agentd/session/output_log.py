"""The log of a session's output as files: what closes it, what follows it. Blocking; use a thread.

conmon appends to `output.raw` while the session lives. `finish` makes `output.log` of it, the
only form that is sealed; `LogReader` follows either. Both mask, and neither goes past the last
whole line within the limit. Whoever enforces the limit calls `trim`.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import BinaryIO, Final, Literal

import msgspec

from ..cri import MAX_LINE, STREAMS, Entry, Parser, Stream, encode
from ..masking import MASK, EntryMasker, Masker, needles

SLICE: Final = 256 * 1024
"""Bytes between two looks at `cancelled`; one slice takes a few milliseconds."""

NO_LIMIT: Final = 0

_CLONED = re.compile(rb"(?m)^agentd: cloned ([0-9a-f]{64}|[0-9a-f]{40})\n")
_CLONED_SIZE = len("agentd: cloned \n") + 64
_MARKER = re.compile(
    rb"agentd: output limit of \d+ bytes reached; at least (\d+) bytes were dropped\n"
)
_NOTHING = Entry(b"1970-01-01T00:00:00.000000000+00:00", "stdout", b"\n")
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
    fd = os.open(raw, os.O_WRONLY | _OPEN)
    try:
        surplus = os.fstat(fd).st_size - (limit + 1)
        if surplus > 0:
            os.ftruncate(fd, limit + 1)
        return max(surplus, 0)
    finally:
        os.close(fd)


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
            with _draft(log) as file:
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
    _sync_directory(log.parent)
    return walk.summary(dropped, masked=walk.masker.masked > 0)


class _Walk:
    """One pass over a log: bytes in, masked entries out, facts counted on the way."""

    def __init__(self, values: Iterable[bytes]) -> None:
        self.parser = Parser()
        self.masker = EntryMasker(values)
        self.untouched = False
        """The block fed last is whole lines, and masked it is the same."""
        self.bytes = 0
        self.last = _NOTHING
        self.commit: str | None = None
        self._line = b""

    @property
    def damaged(self) -> bool:
        return self.parser.torn > 0 or self.parser.pending > 0

    def feed(self, block: bytes) -> list[Entry]:
        before, pending = self.parser.torn, self.parser.pending
        parsed = self.parser.feed(block)
        entries = self.masker.feed(parsed)
        whole = not pending and not self.parser.pending and self.parser.torn == before
        self.untouched = whole and entries is parsed
        return self.count(entries)

    def finish(self) -> list[Entry]:
        return self.count(self.masker.finish())

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


def _blocks(fd: int, end: int, cancelled: Callable[[], bool]) -> Iterator[bytes]:
    """The first `end` bytes, cut behind newlines where that is possible."""
    rest = b""
    at = 0
    while at < end and (chunk := os.pread(fd, min(SLICE, end - at), at)):
        if cancelled():
            raise Interrupted
        at += len(chunk)
        rest += chunk
        cut = rest.rfind(b"\n") + 1 if len(rest) <= MAX_LINE else len(rest)
        if cut:
            yield rest[:cut]
        rest = rest[cut:]
    if rest:
        yield rest


def _scan(fd: int, end: int, wanted: Iterable[bytes], cancelled: Callable[[], bool]) -> _Walk:
    """Walk through all of it, or to the first value to mask."""
    walk = _Walk(wanted)
    for block in _blocks(fd, end, cancelled):
        walk.feed(block)
        if walk.masker.masked:
            return walk
    walk.finish()
    return walk


def _copy(fd: int, end: int, walk: _Walk, file: BinaryIO, cancelled: Callable[[], bool]) -> None:
    """Write the first `end` bytes to `file`, masked."""
    torn = 0
    for block in _blocks(fd, end, cancelled):
        entries = walk.feed(block)
        # An empty line stands for each damaged one, so that the copy shows the damage too.
        gaps = b"\n" * (walk.parser.torn - torn)
        torn = walk.parser.torn
        file.write(block if walk.untouched else _encoded(entries) + gaps)
    file.write(_encoded(walk.finish()))


def _closing(walk: _Walk, limit: int, dropped: int) -> bytes:
    """The marker, on a line of its own."""
    time, _, data = walk.last
    gap = [] if data.endswith(b"\n") else [Entry(time, "stderr", b"\n")]
    return _encoded(walk.count(gap)) + encode(time, "stderr", marker(limit, dropped))


def _content(entries: Iterable[Entry]) -> bytes:
    return b"".join([entry.data for entry in entries])


def _encoded(entries: list[Entry]) -> bytes:
    return b"".join([encode(*entry) for entry in entries])


@contextmanager
def _draft(log: Path) -> Iterator[BinaryIO]:
    """A file beside `log` that takes its place, synced, once the block has ended well."""
    draft = log.with_name(f"{log.name}.tmp")
    draft.unlink(missing_ok=True)
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN, 0o600)
    with os.fdopen(fd, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    draft.rename(log)
    _sync_directory(log.parent)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _OPEN)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _read_back(log: Path, cancelled: Callable[[], bool]) -> Summary:
    """The summary of a log that an earlier call has made.

    Whether it was masked is told by the mask text, which an agent may have printed itself.
    """
    walk = _Walk(())
    masked = False
    fd = open_log(log)
    try:
        for block in _blocks(fd, os.fstat(fd).st_size, cancelled):
            walk.feed(block)
            masked = masked or MASK in block
    finally:
        os.close(fd)
    last = walk.last
    match = _MARKER.fullmatch(last.data) if last.stream == "stderr" else None
    if match:
        walk.bytes -= len(last.data)
    return walk.summary(int(match[1]) if match else 0, masked=masked)


class LogReader:
    """Follows a log: what is new since the last call, masked, while conmon appends to the file.

    The descriptor stays valid when the file is renamed. For a closed `output.log`, which has its
    marker inside, the limit is `NO_LIMIT`. A descriptor handed in belongs to the reader.
    """

    def __init__(self, source: Path | int, values: Iterable[bytes], limit: int) -> None:
        wanted = needles(values)
        self._fd = source if isinstance(source, int) else open_log(source)
        self._limit = limit
        self._offset = 0
        self._parser = Parser()
        self._maskers: dict[Stream, Masker] = {stream: Masker(wanted) for stream in STREAMS}
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
            out = self._masked(self._parser.feed(chunk))
            if not chunk:
                break
        if self._limit == self._offset > 0 and not self._ended:
            size = os.fstat(self._fd).st_size
            out += self._cut(size) if size > self._limit else []
        return out

    def finish(self) -> list[tuple[Stream, bytes]]:
        """What is held back, when the session has ended and `read` has nothing more."""
        if self._ended:
            return []
        self._ended = True
        return self._joined((s, masker.finish()) for s, masker in self._maskers.items())

    def _cut(self, size: int) -> list[tuple[Stream, bytes]]:
        rest = self.finish()
        line = marker(self._limit, size - self._parser.consumed)
        gap = b"" if self._at_line_start else b"\n"
        return [*rest, ("stderr", gap + line)]

    def _masked(self, entries: list[Entry]) -> list[tuple[Stream, bytes]]:
        runs = groupby(entries, key=attrgetter("stream"))
        return self._joined((s, self._maskers[s].feed(_content(run))) for s, run in runs)

    def _joined(self, parts: Iterable[tuple[Stream, bytes]]) -> list[tuple[Stream, bytes]]:
        """The parts without empty ones, neighbours of one stream made one."""
        runs = groupby((part for part in parts if part[1]), key=itemgetter(0))
        out = [(stream, b"".join([data for _, data in run])) for stream, run in runs]
        self._at_line_start = out[-1][1].endswith(b"\n") if out else self._at_line_start
        return out
