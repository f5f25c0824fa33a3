"""Replaces literal values in a stream of bytes by `***`, wherever the stream is cut. No I/O.

What is masked: mark every byte that any occurrence of any needle covers, overlapping occurrences
included; each maximal run of marked bytes becomes one `***`; all other bytes go out as they are.
Encoded, escaped or re-wrapped values are other bytes and are not found.

Cost. Ordinary output costs one `bytes.find` a needle and chunk, at memory speed, so that few
needles cost next to nothing. Many needles of `SAMPLED` bytes and more (the lines of a bundle of
certificates) are looked for by sampling, at one cost for any number of them. Worst cases:
- hundreds of shorter needles cost a search each;
- every hit costs a few calls, and one preparation of the needle (linear in its length);
- a hit that overlaps the one before it at ever new distances costs a search each; runs of one
  period (`xxxx…`) are measured and taken as a whole;
- the held-back check looks at each place in the unfinished last line where the first 16 bytes of
  a needle stand. For a needle of one repeated byte and such a line that is every place, with a
  comparison each: quadratic, 0.1 s a call for a value of 120 KiB.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import copy
from itertools import accumulate, chain
from typing import Final

from .cri import STREAMS, Entry, Stream

MASK: Final = b"***"

MIN_NEEDLE: Final = 4
"""Shorter values are left alone, or they would shred the log."""

_PROBE = 16
_WORD = 8

SAMPLED: Final = 2 * _WORD - 1
"""Bytes from which on a needle holds a whole word of eight bytes wherever it stands."""

MANY: Final = 48
"""Needles of that length from which on it is cheaper to sample the text than to search for each."""

_Span = tuple[int, int]


def needles(values: Iterable[bytes]) -> tuple[bytes, ...]:
    """What to search for: each line of each value, with and without its final carriage return.

    A value that stands whole in the output is covered by its lines, but for the newlines between
    them. The result never holds a newline, and is its own result.
    """
    lines = [line for value in values for line in value.split(b"\n")]
    both = [text for line in lines for text in (line, line.removesuffix(b"\r"))]
    return tuple(dict.fromkeys(n for n in both if len(n.removesuffix(b"\r")) >= MIN_NEEDLE))


class _Search:
    """Which of many needles occur in a text."""

    def __init__(self, wanted: tuple[bytes, ...]) -> None:
        long = tuple(n for n in wanted if len(n) >= SAMPLED)
        self._few = wanted
        self._by_word: dict[int, list[bytes]] = {}
        if len(long) >= MANY:
            self._few = tuple(n for n in wanted if len(n) < SAMPLED)
            for needle in long:
                for at in range(_WORD):
                    for word in _words(needle[at : at + _WORD]):
                        self._by_word.setdefault(word, []).append(needle)
        self._sampled = frozenset(self._by_word)

    def hits(self, text: bytes) -> list[bytes]:
        """The needles that occur in `text`."""
        found = [needle for needle in self._few if needle in text]
        if self._sampled:
            # One of the text's words begins within the first eight bytes of whatever stands in it.
            words = self._sampled.intersection(_words(text))
            likely = dict.fromkeys(needle for word in words for needle in self._by_word[word])
            found += [needle for needle in likely if needle in text]
        return found


def _words(text: bytes) -> memoryview:
    """The eight-byte words of `text`, as numbers; a rest is left out."""
    return memoryview(text)[: len(text) // _WORD * _WORD].cast("Q")


class Masker:
    """Masks one stream; for any cut of the input the joined output is the same.

    It holds back the longest suffix that is a proper prefix of some needle, hence one byte less
    than the longest needle at most, and nothing behind a newline.
    """

    def __init__(self, values: Iterable[bytes]) -> None:
        wanted = needles(values)
        self._search = _Search(wanted)
        self._longest = max(map(len, wanted), default=0)
        self._short_prefixes = {n[:k] for n in wanted for k in range(1, min(len(n), _PROBE))}
        self._long = tuple(n for n in wanted if len(n) > _PROBE)
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
        """Feed `data` if it goes out as it is, with nothing held; whether it did."""
        if not data:
            return True
        if self._held or self._search.hits(data) or self._suffix(data):
            return False
        self._run_is_open = False
        return True

    def feed(self, data: bytes) -> bytes:
        """What can go out now that `data` has come in."""
        return self.feed_pieces([data])[0]

    def feed_pieces(self, pieces: list[bytes]) -> list[bytes]:
        """The same for neighbours at once: what goes out in the place of each, may be nothing.

        A mask goes out where its run begins, and what was held back goes out with the first.
        """
        old = len(self._held)
        text = b"".join([self._held, *pieces])
        found = self._search.hits(text)
        end = len(text) - self._suffix(text)
        if not (found or old) and end == len(text):
            self._run_is_open = self._run_is_open and not text
            return pieces
        hits = (_spans(text, n, max(0, old - len(n) + 1)) for n in found)
        spans = _merged(chain(self._spans, *hits))
        edges = accumulate(map(len, pieces), initial=old)
        next(edges)
        return self._emit(text, spans, edges, end)

    def finish(self) -> bytes:
        """The rest, at the end of the stream; the masker is then as new, but for its count."""
        size = len(self._held)
        (out,) = self._emit(self._held, self._spans, [size], size)
        self._run_is_open = False
        return out

    def _emit(self, text: bytes, spans: list[_Span], edges: Iterable[int], end: int) -> list[bytes]:
        """`text` up to `end`, masked and cut at the edges; what is behind `end` is held."""
        out = []
        at = 0
        following = iter(spans)
        no_more = (len(text) + 1, len(text) + 1)
        start, stop = next(following, no_more)
        for edge in edges:
            parts = []
            while at < min(edge, end):
                if at < start:
                    plain = min(start, edge, end)
                    parts.append(text[at:plain])
                    at, self._run_is_open = plain, False
                else:
                    if not self._run_is_open:
                        parts.append(MASK)
                        self.masked += 1
                    at, self._run_is_open = min(stop, edge, end), True
                if at == stop:
                    start, stop = next(following, no_more)
            out.append(b"".join(parts))
        self._held = text[end:]
        self._spans = [(max(a - end, 0), b - end) for a, b in spans if b > end]
        return out

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

    Bytes that were held back go out with the next entry of their stream.
    """

    def __init__(self, values: Iterable[bytes]) -> None:
        first = Masker(values)
        # Copies share the tables of needles, and nothing that changes.
        self._maskers: dict[Stream, Masker] = {stream: copy(first) for stream in STREAMS}
        self._time = b""

    @property
    def masked(self) -> int:
        """How many runs were replaced in both streams."""
        return sum(masker.masked for masker in self._maskers.values())

    def take(self, entries: list[Entry]) -> bool:
        """Feed the entries if all go out as they are, with nothing held; whether they did.

        When not, the same content has to be fed next.
        """
        self._time = entries[-1].time if entries else self._time
        # One stream may have taken its part already, and takes it again without harm.
        return all(
            masker.take(b"".join(_content(entries, stream)))
            for stream, masker in self._maskers.items()
        )

    def feed(self, entries: list[Entry]) -> list[Entry]:
        """What can go out now; the very same list when nothing in it was touched."""
        if not entries:
            return entries
        self._time = entries[-1].time
        fed = {}
        touched = False
        for stream, masker in self._maskers.items():
            pieces = _content(entries, stream)
            out = masker.feed_pieces(pieces)
            touched = touched or out is not pieces
            fed[stream] = iter(out)
        if not touched:
            return entries
        masked = (Entry(time, stream, next(fed[stream])) for time, stream, _ in entries)
        return [entry for entry in masked if entry.data]

    def finish(self) -> list[Entry]:
        """What was held back, at the end of the log."""
        rest = [Entry(self._time, s, masker.finish()) for s, masker in self._maskers.items()]
        return [entry for entry in rest if entry.data]


def _content(entries: list[Entry], stream: Stream) -> list[bytes]:
    return [entry.data for entry in entries if entry.stream == stream]
