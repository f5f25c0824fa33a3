"""Which part of a session's output a client gets: a stream, what is new, the last lines. No I/O.

A line is of one stream, and ends with a newline or with the output. It stands where it begins, and
bears the time of that moment: conmon may write it in several entries, and between those of another
stream.

Lines are chosen behind the masker, so that no cut shows the end of a credential whose beginning it
took away. They may be counted before it: masking leaves every newline where it is.
"""

from __future__ import annotations

import datetime
import re
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Final, NamedTuple

from ..cri import STREAMS, Entry, Stream

_LINES = re.compile(rb".*\n|.+")


class Choice(NamedTuple):
    """What of the output is wanted; all conditions hold together."""

    streams: tuple[Stream, ...] = STREAMS
    since: datetime.datetime | None = None
    """Lines that began at this instant or later."""
    tail: int | None = None
    """So many of the last of those lines, and all that follow."""
    timestamps: bool = False

    @property
    def by_time(self) -> bool:
        """Whether the time of each line matters, so that entries must not be joined."""
        return self.timestamps or self.since is not None


EVERYTHING: Final = Choice()


class Piece(NamedTuple):
    """Output of one stream."""

    stream: Stream
    data: bytes
    time: str | None = None
    """With `timestamps`: when the line began that `data` begins with; RFC 3339, as conmon wrote."""


class Start(NamedTuple):
    """Where the last lines begin: behind so many bytes of the log, and so many lines further on."""

    offset: int = 0
    skip: int = 0
    inside: frozenset[Stream] = frozenset()
    """The streams that are within a line there, of which nothing is shown."""


class Chooser:
    """Turns entries, from where `start` says, into the pieces that are wanted."""

    def __init__(self, choice: Choice, start: Start = Start()) -> None:  # noqa: B008 - immutable
        self._choice = choice
        self._skip = start.skip
        self._inside: dict[Stream, bool] = dict.fromkeys(start.inside, False)
        """The streams that are within a line, and whether it is shown."""

    def feed(self, entries: Sequence[Entry]) -> list[Piece]:
        """What is wanted of the next entries; neighbours of one stream are joined, unless each
        line bears its time."""
        wanted = [entry for entry in entries if entry.stream in self._choice.streams]
        pieces = [piece for entry in wanted for piece in self._pieces(entry)]
        if self._choice.timestamps:
            return pieces
        neighbours = groupby(pieces, key=attrgetter("stream"))
        return [
            Piece(stream, b"".join([each.data for each in group])) for stream, group in neighbours
        ]

    def _pieces(self, entry: Entry) -> Iterator[Piece]:
        if self._choice.by_time or self._skip or entry.stream in self._inside:
            yield from self._lines(entry)
        else:
            yield Piece(entry.stream, entry.data)

    def _lines(self, entry: Entry) -> Iterator[Piece]:
        stream = entry.stream
        for line in _LINES.findall(entry.data):
            begins = stream not in self._inside
            if begins:
                self._inside[stream] = self._is_wanted(entry.time)
            if self._inside[stream]:
                time = entry.time.decode() if begins and self._choice.timestamps else None
                yield Piece(stream, line, time)
            if line.endswith(b"\n"):
                del self._inside[stream]

    def _is_wanted(self, time: bytes) -> bool:
        if not _is_new(time, self._choice.since):
            return False
        if self._skip:
            self._skip -= 1
            return False
        return True


class TailSearch:
    """Finds where the last lines begin, from the entries of a whole log, masked or not.

    It keeps one mark for each call of `feed`, as far back as the tail reaches.
    """

    def __init__(self, choice: Choice) -> None:
        self._choice = choice
        self._tail = choice.tail or 0
        self._lines = 0
        self._inside: set[Stream] = set()
        self._marks: deque[tuple[int, int, frozenset[Stream]]] = deque([(0, 0, frozenset())])

    @property
    def start(self) -> Start:
        """Where the last lines of what was fed begin."""
        offset, lines, inside = self._marks[0]
        return Start(offset, max(0, self._lines - self._tail) - lines, inside)

    def feed(self, offset: int, entries: Sequence[Entry]) -> None:
        """Count the lines that begin in these entries, which stand behind `offset` in the log."""
        self._marks.append((offset, self._lines, frozenset(self._inside)))
        for entry in entries:
            if entry.stream in self._choice.streams:
                self._count(entry)
        while len(self._marks) > 1 and self._marks[1][1] <= self._lines - self._tail:
            self._marks.popleft()

    def _count(self, entry: Entry) -> None:
        time, stream, data = entry
        begun = data.count(b"\n") - (stream in self._inside)
        self._inside.discard(stream)
        if not data.endswith(b"\n"):
            begun += 1
            self._inside.add(stream)
        if _is_new(time, self._choice.since):
            self._lines += begun


def _is_new(time: bytes, since: datetime.datetime | None) -> bool:
    """Whether a time of the log is not before `since`."""
    if since is None:
        return True
    try:
        return datetime.datetime.fromisoformat(time.decode()) >= since
    except ValueError:
        # The 60th second, or a torn line that looks whole: rather shown than lost.
        return True
