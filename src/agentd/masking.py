"""Replaces literal values in a stream of bytes by `***`, wherever the stream is cut. No I/O.

What is masked: mark every byte that any occurrence of any needle covers, overlapping occurrences
included; each maximal run of marked bytes becomes one `***`; all other bytes go out as they are.
Encoded, escaped or re-wrapped values are other bytes and are not found.

Cost. Ordinary output costs one `bytes.find` a needle and chunk, at memory speed. Worst cases:
- every hit costs a few calls, and one preparation of the needle (linear in its length);
- a hit that overlaps the one before it at ever new distances costs a search each; runs of one
  period (`xxxx…`) are measured and taken as a whole;
- the held-back check looks at each place in the unfinished last line where the first 16 bytes of
  a needle stand. For a needle of one repeated byte and such a line that is every place, with a
  comparison each: quadratic, 0.1 s a call for a value of 120 KiB.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from .cri import STREAMS, Entry, Stream

MASK: Final = b"***"

MIN_NEEDLE: Final = 4
"""Shorter values are left alone, or they would shred the log."""

_PROBE = 16
_GROUP = 256

_Span = tuple[int, int]


def needles(values: Iterable[bytes]) -> tuple[bytes, ...]:
    """What to search for: each line of each value, with and without its final carriage return.

    A value that stands whole in the output is covered by its lines, but for the newlines between
    them. The result never holds a newline, and is its own result.
    """
    lines = [line for value in values for line in value.split(b"\n")]
    both = [text for line in lines for text in (line, line.removesuffix(b"\r"))]
    return tuple(dict.fromkeys(n for n in both if len(n.removesuffix(b"\r")) >= MIN_NEEDLE))


class Masker:
    """Masks one stream; for any cut of the input the joined output is the same.

    It holds back the longest suffix that is a proper prefix of some needle, hence one byte less
    than the longest needle at most, and nothing behind a newline.
    """

    def __init__(self, values: Iterable[bytes]) -> None:
        self._needles = needles(values)
        self._longest = max(map(len, self._needles), default=0)
        self._short_prefixes = {n[:k] for n in self._needles for k in range(1, min(len(n), _PROBE))}
        self._long = tuple(n for n in self._needles if len(n) > _PROBE)
        self._held = b""
        self._spans: list[_Span] = []  # marked bytes, counted from the start of what is held
        self._run_is_open = False  # the last byte that went out was marked
        self.masked = 0
        """How many runs were replaced."""

    @property
    def holds(self) -> int:
        """Bytes held back."""
        return len(self._held)

    def take(self, data: bytes) -> bool:
        """Whether `data` goes out as it is, with nothing held; when not, nothing has changed."""
        if not data:
            return True
        if self._held or any(n in data for n in self._needles) or self._suffix(data):
            return False
        self._run_is_open = False
        return True

    def feed(self, data: bytes) -> bytes:
        """What can go out now that `data` has come in."""
        if self.take(data):
            return data
        old = len(self._held)
        text = self._held + data
        hits = (_spans(text, n, max(0, old - len(n) + 1)) for n in self._needles)
        spans = _merged(chain(self._spans, *hits))
        return self._emit(text, spans, len(text) - self._suffix(text))

    def finish(self) -> bytes:
        """The rest, at the end of the stream; the masker is then as new, but for its count."""
        out = self._emit(self._held, self._spans, len(self._held))
        self._run_is_open = False
        return out

    def _emit(self, text: bytes, spans: list[_Span], end: int) -> bytes:
        out = []
        at = 0
        for start, stop in spans:
            if start >= end:
                break
            out.append(text[at:start])
            if start > 0 or not self._run_is_open:
                out.append(MASK)
                self.masked += 1
            at = min(stop, end)
            self._run_is_open = at == end
        if at < end:
            out.append(text[at:end])
            self._run_is_open = False
        self._held = text[end:]
        self._spans = [(max(a - end, 0), b - end) for a, b in spans if b > end]
        return b"".join(out)

    def _suffix(self, text: bytes) -> int:
        """Length of the longest suffix of `text` that is a proper prefix of a needle."""
        # No needle holds a newline, so only the unfinished last line counts.
        line = max(text.rfind(b"\n") + 1, len(text) - self._longest + 1, 0)
        if line >= len(text):
            return 0
        tail = memoryview(text)[line:]
        best = max((_long_overlap(text, line, tail, n) for n in self._long), default=0)
        if best:
            return best
        sizes = range(min(_PROBE - 1, len(tail)), 0, -1)
        return next((k for k in sizes if text[-k:] in self._short_prefixes), 0)


def _long_overlap(text: bytes, line: int, tail: memoryview, needle: bytes) -> int:
    """The longest suffix of `text` from `line` on, 16 bytes or more, that begins `needle`."""
    probe = needle[:_PROBE]
    at = text.find(probe, max(line, len(text) - len(needle) + 1))
    while at >= 0:
        if needle.startswith(tail[at - line :]):
            return len(text) - at
        at = text.find(probe, at + 1)
    return 0


def _spans(text: bytes, needle: bytes, start: int) -> Iterator[_Span]:
    """What the occurrences of `needle` from `start` on cover, in order."""
    size = len(needle)
    at = text.find(needle, start)
    while at >= 0:
        following = text.find(needle, at + 1)
        if at < following < at + size:
            period = following - at
            last = at + (_periodic(text, at, period, size) - size) // period * period
            yield at, last + size
            following = text.find(needle, last + 1)
        else:
            yield at, at + size
        at = following


def _periodic(text: bytes, at: int, period: int, known: int) -> int:
    """How many bytes of `text` from `at` on repeat with `period`; `known` of them surely do."""
    low, step = at + known, known
    while step:
        if low + step <= len(text) and (
            text[low : low + step] == text[low - period : low - period + step]
        ):
            low += step
            step *= 2
        else:
            step //= 2
    return low - at


def _merged(spans: Iterable[_Span]) -> list[_Span]:
    merged: list[_Span] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(stop, merged[-1][1])
        else:
            merged.append((start, stop))
    return merged


class EntryMasker:
    """Masks the two streams of a log, entry by entry.

    Bytes that were held back go out with the entry that releases them, under its time.
    """

    def __init__(self, values: Iterable[bytes]) -> None:
        wanted = needles(values)
        self._maskers: dict[Stream, Masker] = {stream: Masker(wanted) for stream in STREAMS}
        self._time = b""

    @property
    def masked(self) -> int:
        """How many runs were replaced in both streams."""
        return sum(masker.masked for masker in self._maskers.values())

    def feed(self, entries: list[Entry]) -> list[Entry]:
        """What can go out now; the very same list when nothing in it was touched."""
        if not entries:
            return entries
        self._time = entries[-1].time
        starts = range(0, len(entries), _GROUP)
        groups = [self._mask(entries[at : at + _GROUP]) for at in starts]
        if all(group is None for group in groups):
            return entries
        return [
            entry
            for at, group in zip(starts, groups, strict=True)
            for entry in (entries[at : at + _GROUP] if group is None else group)
        ]

    def finish(self) -> list[Entry]:
        """What was held back, at the end of the log."""
        rest = [Entry(self._time, s, masker.finish()) for s, masker in self._maskers.items()]
        return [entry for entry in rest if entry.data]

    def _mask(self, group: list[Entry]) -> list[Entry] | None:
        """The group masked, or None when it goes out as it is."""
        clean = {
            stream: masker.take(b"".join([e.data for e in group if e.stream == stream]))
            for stream, masker in self._maskers.items()
        }
        if all(clean.values()):
            return None
        fed = (entry if clean[entry.stream] else self._feed_one(entry) for entry in group)
        return [entry for entry in fed if entry.data]

    def _feed_one(self, entry: Entry) -> Entry:
        return Entry(entry.time, entry.stream, self._maskers[entry.stream].feed(entry.data))
