"""Choosing from a session's output, against an oracle that puts all lines together first."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.cri import STREAMS, Entry, Stream
from agentd.session.choice import EVERYTHING, Choice, Chooser, Piece, TailSearch


def moment(second: int) -> datetime.datetime:
    return datetime.datetime(2026, 8, 20, 10, 11, second, tzinfo=datetime.UTC)


ENTRIES = st.lists(
    st.builds(
        lambda second, zone, stream, data: Entry(at(second, zone), stream, data),
        st.integers(0, 9),
        st.sampled_from([0, 2]),
        st.sampled_from(STREAMS),
        # As one line of a log, as several that were joined, and with what splits text.
        st.sampled_from([b"a", b"b\n", b"\n", b"c\r\x0b\n", b"d\ne\n", b"\nf"]),
    ),
    max_size=12,
)
CHOICES = st.builds(
    Choice,
    streams=st.sampled_from([STREAMS, ("stdout",), ("stderr",)]),
    since=st.none() | st.integers(0, 9).map(moment),
    tail=st.none() | st.integers(0, 9),
    timestamps=st.booleans(),
)


class Line(NamedTuple):
    stream: Stream
    time: bytes
    data: bytes


def at(second: int, zone: int = 0) -> bytes:
    """A time as conmon writes it, in the zone of that offset."""
    return b"2026-08-20T%02d:11:%02d.000000000+%02d:00" % (10 + zone, second, zone)


def lines(entries: Sequence[Entry]) -> list[Line]:
    """All lines of both streams, by where they begin."""
    found: list[Line] = []
    unfinished: dict[Stream, int] = {}
    for time, stream, data in entries:
        for part in data.replace(b"\n", b"\n\0").split(b"\0"):
            if not part:
                continue
            if stream not in unfinished:
                unfinished[stream] = len(found)
                found.append(Line(stream, time, b""))
            number = unfinished[stream]
            found[number] = found[number]._replace(data=found[number].data + part)
            if part.endswith(b"\n"):
                del unfinished[stream]
    return found


def oracle(choice: Choice, before: Sequence[Entry], after: Sequence[Entry] = ()) -> list[Line]:
    """What is chosen of the lines that were there, and of those that came then."""

    def wanted(line: Line) -> bool:
        since = choice.since
        time = datetime.datetime.fromisoformat(line.time.decode())
        return line.stream in choice.streams and (since is None or time >= since)

    everything = lines([*before, *after])
    there = len(lines(before))
    old = [line for line in everything[:there] if wanted(line)]
    old = old if choice.tail is None else old[max(0, len(old) - choice.tail) :]
    return old + [line for line in everything[there:] if wanted(line)]


def chosen(
    choice: Choice, before: Sequence[Entry], after: Sequence[Entry] = (), *, read: int = 2
) -> list[Piece]:
    """What a reader gets who takes so many entries with each read; offsets are their numbers."""
    everything = [*before, *after]
    chooser = Chooser(choice)
    begin = 0
    if choice.tail is not None:
        search = TailSearch(choice)
        for offset in range(0, len(before), read):
            search.feed(offset, before[offset : min(offset + read, len(before))])
        begin = search.start.offset
        chooser = Chooser(choice, search.start)
    reads = [everything[i : i + read] for i in range(begin, len(everything), read)]
    return [piece for entries in reads for piece in chooser.feed(entries)]


def of(stream: Stream, pieces: Sequence[Piece] | Sequence[Line]) -> bytes:
    return b"".join(each.data for each in pieces if each.stream == stream)


@pytest.mark.contract("F-53")
@given(ENTRIES, ENTRIES, CHOICES, st.integers(1, 4))
def test_exactly_the_chosen_lines_are_shown_and_all_that_come_later(
    before: list[Entry], after: list[Entry], choice: Choice, read: int
) -> None:
    pieces, expected = chosen(choice, before, after, read=read), oracle(choice, before, after)
    for stream in STREAMS:
        assert of(stream, pieces) == of(stream, expected)


@pytest.mark.contract("F-53")
@given(ENTRIES, CHOICES)
def test_each_line_bears_the_time_at_which_it_began_once(
    entries: list[Entry], choice: Choice
) -> None:
    choice = choice._replace(timestamps=True)
    told = [
        (piece.stream, piece.time.encode())
        for piece in chosen(choice, entries)
        if piece.time is not None
    ]
    assert told == [(line.stream, line.time) for line in oracle(choice, entries)]


@given(ENTRIES, CHOICES)
def test_with_times_no_piece_goes_past_the_end_of_its_line(
    entries: list[Entry], choice: Choice
) -> None:
    for piece in chosen(choice._replace(timestamps=True), entries):
        assert piece.data.find(b"\n") in {-1, len(piece.data) - 1}


@given(ENTRIES)
def test_without_a_choice_the_order_of_all_bytes_stays(entries: list[Entry]) -> None:
    pieces = chosen(EVERYTHING, entries)
    assert b"".join(p.data for p in pieces) == b"".join(e.data for e in entries)
    assert all(piece.time is None for piece in pieces)


def test_neighbours_of_one_stream_are_one_piece() -> None:
    entries = [Entry(at(0), "stdout", b"a\n"), Entry(at(1), "stdout", b"b")]
    assert Chooser(EVERYTHING).feed(entries) == [Piece("stdout", b"a\nb")]


def test_a_tail_is_read_from_near_its_beginning() -> None:
    search = TailSearch(Choice(tail=3))
    for offset in range(1000):
        search.feed(offset, [Entry(at(0), "stdout", b"line\n")])
    assert search.start == (997, 0, frozenset())
    assert len(search._marks) <= 4


@pytest.mark.parametrize("time", [b"2026-08-20T10:11:60Z", b"2026-13-20T10:11:12Z"])
def test_a_line_whose_time_is_none_is_shown(time: bytes) -> None:
    entries = [Entry(time, "stdout", b"x\n")]
    assert chosen(Choice(since=moment(9)), entries) == [Piece("stdout", b"x\n")]


@given(st.integers(0, 999_999), st.integers(0, 999_999_999))
def test_an_instant_is_compared_with_all_its_digits(micro: int, nano: int) -> None:
    time = b"2026-08-20T12:11:09.%09d+02:00" % nano
    since = moment(9).replace(microsecond=micro)
    shown = chosen(Choice(since=since), [Entry(time, "stdout", b"x\n")])
    assert bool(shown) == (nano >= micro * 1000)
