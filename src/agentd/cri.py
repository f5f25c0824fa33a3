"""The CRI log format, as conmon's `k8s-file` driver writes it: parser and encoder. No I/O.

A line is `TIMESTAMP STREAM TAG CONTENT`. With tag `F` the content ended with a newline of its
own; with tag `P` it did not, and the line's newline belongs to the format. conmon writes one line
for each line in what it has read from a stream (8 KiB at most), so the content of all entries of
one stream, joined, is exactly what the container wrote to that stream.

On a full disk conmon writes a part of a batch and forgets the rest: a line may stop anywhere, the
next one begins where it stopped, and content may stand without a header.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple, TypeAlias

Stream: TypeAlias = Literal["stdout", "stderr"]

STREAMS: Final[tuple[Stream, ...]] = ("stdout", "stderr")

MAX_LINE: Final = 1024 * 1024
"""Bytes a line may have without its newline; a longer one is garbage. Ours and conmon's are far
below (`PIECE` or 8 KiB, and a header), so only a damaged file reaches it."""

PIECE: Final = 64 * 1024
"""Bytes of content in one encoded line at most."""

_SLICE = 256 * 1024

# What conmon writes: always nanoseconds and an offset. A run is lines of one stream whose content
# belongs together, and all its headers are of one width.
_WIDTH = 45
_CONMON = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}[+-]\d\d:\d\d "
_RUN = re.compile(
    rb"%b(stdout|stderr) (?:F .*\n(?:%b\1 F .*\n)*(?:%b\1 (P).*\n)?|(P).*\n)" % ((_CONMON,) * 3)
)
_TRIAL = 32
_CONTENT = re.compile(rb".{%d}(.*\n)" % _WIDTH)

_HEADER = (
    rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d))"
    rb" (stdout|stderr) "
)
_LINE = re.compile(rb"(?m)^" + _HEADER + rb"(?:F (.*\n)|P (.*)\n)")
_HEADER_ANYWHERE = re.compile(_HEADER + rb"[FP] ")
_STREAM_OF: dict[bytes, Stream] = {b"stdout": "stdout", b"stderr": "stderr"}


class Entry(NamedTuple):
    """One line of the log: RFC 3339 time as written, stream, and the bytes the container wrote.

    For `runs` it is several lines of one stream, under the time of the last.
    """

    time: bytes
    stream: Stream
    data: bytes


class Parser:
    """Turns bytes of a log, cut anywhere, into entries; what it returns does not depend on cuts.

    A line that is no entry is dropped up to the first header in it, if there is one. An entry
    that holds the header of a later one in its content is the joint of a torn line: it is
    returned as it stands, because a container may have printed just that. Both count in `torn`.
    Memory is bounded by `MAX_LINE` and the chunk.
    """

    def __init__(self) -> None:
        self.torn = 0
        """Lines seen so far that are damaged."""
        self.consumed = 0
        """Offset behind the last whole line."""
        self._partial: list[bytes] = []
        self._partial_size = 0
        self._overlong = False

    @property
    def pending(self) -> int:
        """Bytes fed behind the last whole line; at the end of a log they are a torn line."""
        return self._partial_size

    def feed(self, chunk: bytes) -> list[Entry]:
        """The entries that `chunk` completes."""
        return self.entries(self.lines(chunk))

    def lines(self, chunk: bytes) -> bytes:
        """The lines that `chunk` completes, as they stand in the log; for `entries` or `runs`."""
        if len(chunk) <= _SLICE:
            return self._lines(chunk)
        starts = range(0, len(chunk), _SLICE)
        return b"".join([self._lines(chunk[at : at + _SLICE]) for at in starts])

    def entries(self, lines: bytes) -> list[Entry]:
        """The entries of whole lines, each line once: what is damaged in them is counted."""
        found = _entries(lines)
        if len(found) != lines.count(b"\n"):
            found = [entry for line in lines.split(b"\n")[:-1] for entry in self._salvage(line)]
        # Each line has one of these words in its header. More of them are rare, so that looking
        # into every entry for a second header costs nothing in the ordinary case.
        if lines.count(b" stdout ") + lines.count(b" stderr ") > len(found):
            self.torn += sum(map(_is_joint, found))
        return found

    def _lines(self, chunk: bytes) -> bytes:
        end = chunk.rfind(b"\n") + 1
        if not end:
            self._keep(chunk)
            return b""
        lines = b"".join((*self._partial, chunk[:end]))
        self.consumed += self._partial_size + end
        # Only the first line can be too long: all others lie within one slice.
        if self._overlong or self._partial_size + chunk.index(b"\n") > MAX_LINE:
            self.torn += not self._overlong
            lines = lines[lines.index(b"\n") + 1 :]
        self._partial, self._partial_size, self._overlong = [], 0, False
        self._keep(chunk[end:])
        return lines

    def _keep(self, rest: bytes) -> None:
        if not rest:
            return
        self._partial_size += len(rest)
        if not self._overlong:
            self._partial.append(rest)
        if not self._overlong and self._partial_size > MAX_LINE:
            self._overlong = True
            self.torn += 1
        if self._overlong:
            self._partial = []

    def _salvage(self, line: bytes) -> list[Entry]:
        header = _HEADER_ANYWHERE.search(line)
        self.torn += header is None or header.start() > 0
        return _entries(line[header.start() :] + b"\n") if header else []


def _entries(lines: bytes) -> list[Entry]:
    new = tuple.__new__  # half the cost of Entry(…), which is a call to a Python function
    return [
        new(Entry, (time, _STREAM_OF[stream], full or partial))
        for time, stream, full, partial in _LINE.findall(lines)
    ]


def runs(lines: bytes) -> list[Entry] | None:
    """The entries of whole lines with neighbours of one stream made one, several times as fast.

    None when a line is damaged, or could be, or is not as conmon writes it, and when the streams
    alternate so often that it would not be faster: parse entries then.
    """
    if lines.count(b" std") != lines.count(b"\n"):
        return None
    found: list[Entry] = []
    at = 0
    for match in _RUN.finditer(lines):
        if match.start() != at:
            return None
        at = match.end()
        if len(found) == _TRIAL and lines.count(b"\n", 0, at) < 2 * _TRIAL:
            return None
        data = b"".join(_CONTENT.findall(lines, match.start(), at))
        last = lines.rfind(b"\n", 0, at - 1) + 1
        time = lines[last : last + _WIDTH - len(" stdout F ")]
        stream = _STREAM_OF[match[1]]
        found.append(Entry(time, stream, data[:-1] if match.lastindex != 1 else data))
    return found if at == len(lines) else None


def _is_joint(entry: Entry) -> bool:
    """Whether the content holds a header of the same shape that is no older than its own.

    conmon's times have one width and one offset, so they compare as bytes. Output that quotes
    another log quotes what was written before, and does not count.
    """
    return any(
        len(time) == len(entry.time) and time[-6:] == entry.time[-6:] and time >= entry.time
        for time, _ in _HEADER_ANYWHERE.findall(entry.data)
    )


def encode(time: bytes, stream: str, data: bytes) -> bytes:
    """`data` as lines of the log, all with one time; parsing them gives `data` back."""
    header = b"%b %b " % (time, stream.encode())
    if data.find(b"\n") == len(data) - 1 <= PIECE and data:
        return b"%bF %b" % (header, data)
    return b"".join(
        header + (b"F " + piece if piece.endswith(b"\n") else b"P %b\n" % piece)
        for piece in _pieces(data)
    )


def _pieces(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        end = data.find(b"\n", at, at + PIECE + 1) + 1 or min(at + PIECE, len(data))
        yield data[at:end]
        at = end
