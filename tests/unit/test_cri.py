"""The CRI log format: any bytes survive it, and damage is counted and stepped over."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from agentd.cri import MAX_LINE, PIECE, STREAMS, Entry, Parser, Stream, encode, runs

T1 = b"2026-08-20T10:11:12.123456789+02:00"
T2 = b"2026-08-20T10:11:13.000000000+02:00"

CONTENT = st.lists(st.sampled_from([b"\n", b"\r", b"\0", b" ", b"F ", b"\xff", b"text"])).map(
    b"".join
)
DATA = st.one_of(st.binary(), CONTENT)
WRITES = st.lists(st.tuples(st.sampled_from(STREAMS), DATA), max_size=8)
GARBAGE = st.sampled_from(
    [
        b"\n",
        b"\r\n",
        T1,
        T1[:20],
        T1 + b" stdout ",
        T1 + b" stdin F x\n",
        b"rest of a line\n",
        b"\xff",
    ]
)


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def parse(chunks: list[bytes]) -> tuple[list[Entry], Parser]:
    parser = Parser()
    return [entry for chunk in chunks for entry in parser.feed(chunk)], parser


def content(entries: list[Entry], stream: Stream) -> bytes:
    return b"".join(entry.data for entry in entries if entry.stream == stream)


def test_an_entry_is_time_stream_and_data_with_the_newline_that_was_its_own() -> None:
    log = T1 + b" stdout F one\n" + T2 + b" stderr P two\n" + T2 + b" stdout F \n"

    entries, parser = parse([log])

    assert entries == [(T1, "stdout", b"one\n"), (T2, "stderr", b"two"), (T2, "stdout", b"\n")]
    assert (parser.torn, parser.pending, parser.consumed) == (0, 0, len(log))


@pytest.mark.parametrize("time", [b"2026-08-20T10:11:12Z", b"2026-08-20T10:11:12.5-11:30"])
def test_any_rfc_3339_time_is_kept_as_written(time: bytes) -> None:
    assert Parser().feed(time + b" stderr F x\n") == [Entry(time, "stderr", b"x\n")]


@pytest.mark.contract("F-60")
@given(WRITES, st.lists(st.integers(0), max_size=6))
@example([("stdout", b"x" * (PIECE * 2 + 1) + b"\n"), ("stdout", b"\xc3")], [7])
def test_what_was_encoded_parses_back_to_the_byte_wherever_it_is_cut(
    writes: list[tuple[Stream, bytes]], cuts: list[int]
) -> None:
    log = b"".join(encode(T1, stream, data) for stream, data in writes)

    entries, parser = parse(in_pieces(log, cuts))

    for stream in STREAMS:
        assert content(entries, stream) == b"".join(data for s, data in writes if s == stream)
    assert (parser.torn, parser.pending, parser.consumed) == (0, 0, len(log))


@given(DATA)
def test_encoding_gives_a_line_for_each_line(data: bytes) -> None:
    entries = Parser().feed(encode(T1, "stdout", data))

    assert all(b"\n" not in entry.data[:-1] and entry.time == T1 for entry in entries)
    assert len(entries) == data.count(b"\n") + (not data.endswith(b"\n") and data != b"")


@given(
    st.lists(st.one_of(GARBAGE, CONTENT.map(lambda data: encode(T2, "stdout", data)))),
    st.lists(st.integers(0), max_size=6),
)
def test_garbage_gives_the_same_entries_and_the_same_count_wherever_it_is_cut(
    parts: list[bytes], cuts: list[int]
) -> None:
    log = b"".join(parts)
    whole, one = parse([log])

    entries, parser = parse(in_pieces(log, cuts))

    assert entries == whole
    assert (parser.torn, parser.pending) == (one.torn, one.pending)
    assert parser.consumed == one.consumed == log.rfind(b"\n") + 1


@pytest.mark.parametrize(
    "torn",
    [
        T1[:20],
        T1 + b" std",
        T1 + b" stdout",
        T1 + b" stdout F",
        b"rest of a line\n",
        b"\n",
        b"\0\0\n",
    ],
)
def test_the_entry_behind_a_torn_header_is_found(torn: bytes) -> None:
    entries, parser = parse([torn + T2 + b" stderr F next\n" + T2 + b" stdout F last\n"])

    assert entries == [(T2, "stderr", b"next\n"), (T2, "stdout", b"last\n")]
    assert parser.torn == 1


def test_a_line_torn_in_its_content_is_kept_as_it_stands_and_counted() -> None:
    glued = b"begin" + T2 + b" stderr F next\n"

    entries, parser = parse([T1 + b" stdout F " + glued])

    assert entries == [(T1, "stdout", glued)]
    assert parser.torn == 1


@pytest.mark.parametrize(
    "time",
    [
        b"2026-08-20T10:11:11.999999999+02:00",
        b"2026-08-20T10:11:12.123456788+02:00",
        b"2027-01-01T00:00:00Z",
    ],
)
def test_output_that_quotes_an_older_log_is_not_damaged(time: bytes) -> None:
    entries, parser = parse([T1 + b" stdout F " + time + b" stderr F quoted\n"])

    assert entries[0].data == time + b" stderr F quoted\n"
    assert parser.torn == 0


@pytest.mark.parametrize("size", [PIECE, 300_000, 5 * MAX_LINE])
def test_a_line_without_end_is_dropped_once_and_takes_no_memory(size: int) -> None:
    parser = Parser()
    after = T1 + b" stdout F after\n"
    held = 0
    for _ in range(4 * MAX_LINE // size + 1):
        assert parser.feed(b"x" * size) == []
        held = max(held, sum(map(len, parser._partial)))

    assert held <= MAX_LINE
    assert parser.torn == 1
    assert parser.pending > MAX_LINE
    assert parser.feed(b"\n" + after) == [Entry(T1, "stdout", b"after\n")]
    assert (parser.torn, parser.pending) == (1, 0)


@pytest.mark.parametrize("step", [1000, 262_144, 4 * MAX_LINE])
@pytest.mark.parametrize("excess", [0, 1])
def test_the_bound_of_a_line_does_not_depend_on_cuts(step: int, excess: int) -> None:
    header = T1 + b" stdout F "
    line = header + b"x" * (MAX_LINE - len(header) + excess) + b"\n"
    log = line + header + b"after\n"

    entries, parser = parse([log[at : at + step] for at in range(0, len(log), step)])

    assert parser.torn == excess
    assert entries[-1].data == b"after\n"
    assert len(entries) == 2 - excess


def joined(entries: list[Entry]) -> list[tuple[Stream, bytes]]:
    groups = itertools.groupby(entries, key=lambda entry: entry.stream)
    return [(stream, b"".join(entry.data for entry in group)) for stream, group in groups]


CONMON_LINES = st.lists(st.tuples(st.sampled_from(STREAMS), DATA)).map(
    lambda writes: b"".join(encode(T1, stream, data) for stream, data in writes)
)


@given(st.lists(st.one_of(CONMON_LINES, GARBAGE)).map(b"".join))
@example(T1 + b" stdout F " + T2 + b" stderr F joint\n")
@example(T1 + b" stdout P a\n" + T1 + b" stdout F \n" + T2 + b" stderr P b\n")
@example(encode(T1, "stdout", b"a\n" * 100) + T1[:-6] + b"Z stdout F b\n")
def test_runs_are_the_entries_with_neighbours_joined_or_there_are_none(log: bytes) -> None:
    lines = Parser().lines(log)
    parser = Parser()
    entries = parser.entries(lines)
    found = runs(lines)

    if found is not None:
        assert parser.torn == 0
        assert joined(found) == joined(entries)
        assert not entries or found[-1].time == entries[-1].time


@given(CONMON_LINES)
def test_what_conmon_writes_has_runs_if_its_content_has_no_word_of_a_header(log: bytes) -> None:
    assume(not any(b"std" in entry.data for entry in Parser().feed(log)))
    assume(log.count(b"\n") < 32)  # else the streams may alternate too often

    assert runs(log) is not None


def test_many_lines_of_one_stream_are_one_run_that_ends_with_a_fragment() -> None:
    log = encode(T1, "stdout", b"line\n" * 1000 + b"rest") + encode(T2, "stdout", b"more\n")

    assert runs(log) == [(T1, "stdout", b"line\n" * 1000 + b"rest"), (T2, "stdout", b"more\n")]


def test_streams_that_alternate_with_each_line_have_no_runs() -> None:
    assert runs(b"".join(encode(T1, STREAMS[i % 2], b"x\n") for i in range(100))) is None


@given(st.lists(st.one_of(CONMON_LINES, GARBAGE)).map(b"".join), st.lists(st.integers(0)))
def test_lines_are_the_log_up_to_its_last_newline_wherever_it_is_cut(
    log: bytes, cuts: list[int]
) -> None:
    parser = Parser()

    assert b"".join(map(parser.lines, in_pieces(log, cuts))) == log[: log.rfind(b"\n") + 1]


@pytest.mark.parametrize("cut", range(120))
def test_after_a_line_torn_anywhere_nothing_of_later_lines_is_lost(cut: int) -> None:
    first, second = encode(T1, "stdout", b"x" * 80 + b"\n"), encode(T2, "stderr", b"next\n")
    entries, parser = parse([first[:cut] + second + encode(T2, "stdout", b"last\n")])

    assert entries[-1] == (T2, "stdout", b"last\n")
    assert b"next\n" in entries[-2].data
    assert parser.torn == (cut > 0)
