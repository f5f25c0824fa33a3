"""The masker: no byte of a value gets out, wherever the stream is cut."""

from __future__ import annotations

import itertools
import random
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentd.cri import STREAMS, Entry
from agentd.masking import MANY, MASK, SAMPLED, EntryMasker, Masker, needles

LETTERS = st.text("ab", max_size=40).map(str.encode)
SOME_VALUES = st.lists(st.text("ab", min_size=4, max_size=9).map(str.encode), max_size=4)
LONG_VALUES = st.lists(st.text("ab", min_size=15, max_size=40).map(str.encode), max_size=3)
CUTS = st.lists(st.integers(0), max_size=8)


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def covered(text: bytes, wanted: tuple[bytes, ...]) -> list[bool]:
    marks = [False] * len(text)
    for needle in wanted:
        for at in range(len(text) - len(needle) + 1):
            if text[at : at + len(needle)] == needle:
                marks[at : at + len(needle)] = [True] * len(needle)
    return marks


def masked(text: bytes, wanted: tuple[bytes, ...]) -> bytes:
    """The definition, byte by byte."""
    runs = itertools.groupby(
        zip(covered(text, wanted), text, strict=True), key=lambda pair: pair[0]
    )
    return b"".join(MASK if mark else bytes(b for _, b in run) for mark, run in runs)


def overlap(text: bytes, wanted: tuple[bytes, ...]) -> int:
    """The longest suffix that is a proper prefix of a needle."""
    return max((k for n in wanted for k in range(1, len(n)) if text.endswith(n[:k])), default=0)


def mask(chunks: list[bytes], values: list[bytes]) -> bytes:
    masker = Masker(values)
    return b"".join([*map(masker.feed, chunks), masker.finish()])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([b"secret"], (b"secret",)),
        ([b"abc", b""], ()),
        ([b"line one\nxyz\nline two\n"], (b"line one", b"line two")),
        ([b"dos line\r\nabc\r\n"], (b"dos line\r", b"dos line")),
        ([b"same", b"same"], (b"same",)),
    ],
)
def test_needles_are_the_lines_that_are_long_enough(
    values: list[bytes], expected: tuple[bytes, ...]
) -> None:
    assert needles(values) == expected
    assert needles(expected) == expected


@pytest.mark.parametrize(
    ("values", "text", "expected"),
    [
        ([b"secret"], b"a secret.", b"a ***."),
        ([b"secret"], b"secretsecret", b"***"),
        ([b"secret", b"public"], b"publicsecret", b"***"),
        ([b"abcd", b"cdef"], b"-abcdef-", b"-***-"),
        ([b"abcdef", b"abcd"], b"abcde", b"***e"),
        ([b"abcdef", b"bcde"], b"abcde", b"a***"),
        ([b"abab"], b"xabababy", b"x***y"),
        ([b"aaaa"], b"baaaaaab", b"b***b"),
        ([b"one1\ntwo2"], b"<one1\ntwo2>", b"<***\n***>"),
        ([b"line\r\n"], b"line\r\nline\n", b"***\n***\n"),
        ([b"tiny", b"abc"], b"abc", b"abc"),
        ([], b"anything", b"anything"),
    ],
)
def test_each_run_of_covered_bytes_becomes_one_mask(
    values: list[bytes], text: bytes, expected: bytes
) -> None:
    assert mask([text], values) == expected
    assert mask([text[i : i + 1] for i in range(len(text))], values) == expected


@pytest.mark.contract("F-60")
@given(st.one_of(SOME_VALUES, LONG_VALUES), st.lists(LETTERS, max_size=6), CUTS)
@example([b"abab"], [b"abababab"], [3, 5])
@example([b"abcdefgh", b"cdef"], [b"abcdefgX", b"abcdefgh"], [6, 7, 14])
def test_the_output_is_the_definition_applied_to_the_whole_wherever_it_is_cut(
    values: list[bytes], parts: list[bytes], cuts: list[int]
) -> None:
    # Values stand in the text too, or long ones would hardly ever be hit.
    mixed = itertools.zip_longest(parts, values, fillvalue=b"")
    text = b"".join(itertools.chain.from_iterable(mixed))
    wanted = needles(values)
    masker = Masker(values)
    out = bytearray()
    fed = b""
    for chunk in in_pieces(text, cuts):
        out += masker.feed(chunk)
        fed += chunk
        assert masker.holds == overlap(fed, wanted)
    out += masker.finish()

    assert out == masked(text, wanted)
    marks = covered(text, wanted)
    assert masker.masked == sum(1 for mark, _ in itertools.groupby(marks) if mark)


@given(st.lists(st.binary(min_size=4), max_size=5), st.binary(), CUTS)
def test_any_bytes_at_all(values: list[bytes], filler: bytes, cuts: list[int]) -> None:
    text = filler.join([b"", *values, *values[::-1], b""])

    assert mask(in_pieces(text, cuts), values) == masked(text, needles(values))


@given(st.integers(0, 2**32), CUTS)
def test_long_values_that_repeat_and_overlap(seed: int, cuts: list[int]) -> None:
    rng = random.Random(seed)
    period = bytes(rng.choices(b"ab", k=rng.randint(1, 5)))
    values = [period * rng.randint(4, 12) + rng.choice([b"", b"a", period[:1]]) for _ in range(3)]
    parts = [period * rng.randint(0, 30), rng.choice(values), b"b", rng.choice(values)[1:], b"\n"]
    text = b"".join(rng.choices(parts, k=6))

    assert mask(in_pieces(text, cuts), values) == masked(text, needles(values))


@given(st.integers(0, 2**32), CUTS)
def test_many_long_values_are_found_like_few(seed: int, cuts: list[int]) -> None:
    rng = random.Random(seed)
    values = [bytes(rng.choices(b"abc", k=rng.randint(SAMPLED - 3, 40))) for _ in range(2 * MANY)]
    # Whole values, values without an end, and what runs over from one into the next.
    parts = [value[rng.choice([0, 0, 1]) :] for value in rng.choices(values, k=4)]
    text = b"".join(bytes(rng.choices(b"abc\n", k=rng.randint(0, 9))) + part for part in parts)

    assert mask(in_pieces(text, cuts), values) == masked(text, needles(values))


@pytest.mark.parametrize("at", range(17))
@pytest.mark.parametrize("size", [SAMPLED - 1, SAMPLED, SAMPLED + 1])
def test_one_of_many_values_is_found_at_any_place(at: int, size: int) -> None:
    values = [b"%0*d" % (size, number) for number in range(MANY + 1)]

    assert mask([b"-" * at + values[7] + b"-"], values) == b"-" * at + b"***-"


@given(st.one_of(SOME_VALUES, LONG_VALUES), st.lists(LETTERS, max_size=8), CUTS)
def test_pieces_fed_at_once_give_what_they_give_one_by_one(
    values: list[bytes], parts: list[bytes], cuts: list[int]
) -> None:
    pieces = in_pieces(b"".join([*parts, *values]), cuts)
    masker = Masker(values)
    out = [*masker.feed_pieces(pieces), masker.finish()]

    assert len(out) == len(pieces) + 1
    assert b"".join(out) == masked(b"".join(pieces), needles(values))


def test_a_mask_stands_where_its_run_begins() -> None:
    masker = Masker([b"secret"])

    assert masker.feed_pieces([b"a sec", b"re", b"t b", b"", b" se"]) == [
        b"a ***",
        b"",
        b" b",
        b"",
        b" ",
    ]
    assert masker.feed_pieces([b"c", b"ret"]) == [b"***", b""]


def test_without_needles_the_data_itself_goes_out() -> None:
    data = bytes(1000)

    assert Masker([b"abc"]).feed(data) is data


def test_nothing_is_held_behind_a_newline() -> None:
    masker = Masker([b"secret"])

    assert masker.feed(b"secre\n") == b"secre\n"
    assert masker.feed(b"secre") == b""
    assert (masker.holds, masker.finish(), masker.masked) == (5, b"secre", 0)


def test_after_finish_a_new_run_gets_its_own_mask() -> None:
    masker = Masker([b"secret"])
    first = masker.feed(b"secret") + masker.finish()

    assert first + masker.feed(b"secret") == b"******"


BIG = 120 * 1024
RANDOM = random.Random(1).randbytes(BIG).replace(b"\n", b"-")


@pytest.mark.parametrize("value", [RANDOM, b"x" * BIG, b"xy" * (BIG // 2), b"x" * (BIG - 1) + b"y"])
def test_values_as_long_as_an_environment_entry_take_no_quadratic_time(value: bytes) -> None:
    text = b"<" + value + b"\n" + value + value[:70_000] + b">\n" + value[1:] + b"\n"
    began = time.process_time()
    out = mask([text[at : at + 8192] for at in range(0, len(text), 8192)], [value, value[:-7]])

    assert time.process_time() - began < 5
    assert out.startswith(b"<***\n***")
    assert value[:-7] not in out


def test_entries_are_masked_across_fragments_and_streams_are_apart() -> None:
    masker = EntryMasker([b"secret"])
    entries = [
        Entry(b"t1", "stdout", b"a sec"),
        Entry(b"t2", "stderr", b"ret\n"),
        Entry(b"t3", "stdout", b"ret b\n"),
        Entry(b"t4", "stderr", b"secre"),
    ]

    assert masker.feed(entries) == [
        (b"t1", "stdout", b"a ***"),
        (b"t2", "stderr", b"ret\n"),
        (b"t3", "stdout", b" b\n"),
    ]
    assert masker.finish() == [(b"t4", "stderr", b"secre")]
    assert masker.masked == 1


def test_entries_with_nothing_to_mask_are_the_same_list() -> None:
    masker = EntryMasker([b"secret"])
    clean = [Entry(b"t", "stdout", b"line %d\n" % i) for i in range(1000)]
    mixed = [*clean, Entry(b"t", "stdout", b"secret\n"), *clean]

    assert masker.feed(clean) is clean
    assert masker.feed(mixed) == [*clean, Entry(b"t", "stdout", b"***\n"), *clean]


@given(SOME_VALUES, st.lists(st.tuples(st.sampled_from(STREAMS), LETTERS), max_size=12), CUTS)
def test_entries_joined_are_each_stream_masked(
    values: list[bytes], writes: list[tuple[str, bytes]], cuts: list[int]
) -> None:
    entries = [Entry(b"t", stream, data) for stream, data in writes]  # type: ignore[arg-type]
    masker = EntryMasker(values)
    edges = [0, *sorted(cut % (len(entries) + 1) for cut in cuts), len(entries)]
    out = [e for a, b in itertools.pairwise(edges) for e in masker.feed(entries[a:b])]
    out += masker.finish()

    for stream in STREAMS:
        whole = b"".join(data for s, data in writes if s == stream)
        assert b"".join(e.data for e in out if e.stream == stream) == masked(whole, needles(values))


@given(
    SOME_VALUES,
    st.lists(
        st.tuples(
            st.booleans(), st.lists(st.tuples(st.sampled_from(STREAMS), LETTERS), max_size=4)
        ),
        max_size=8,
    ),
)
def test_it_makes_no_difference_whether_entries_were_offered_before_they_were_fed(
    values: list[bytes], batches: list[tuple[bool, list[tuple[str, bytes]]]]
) -> None:
    masker = EntryMasker(values)
    out: list[Entry] = []
    for offered, writes in batches:
        entries = [Entry(b"t", stream, data) for stream, data in writes]  # type: ignore[arg-type]
        out += entries if offered and masker.take(entries) else masker.feed(entries)
    out += masker.finish()

    for stream in STREAMS:
        whole = b"".join(data for _, writes in batches for s, data in writes if s == stream)
        assert b"".join(e.data for e in out if e.stream == stream) == masked(whole, needles(values))


@given(st.lists(st.text("ab\n\r", min_size=4, max_size=20).map(str.encode), max_size=4), CUTS)
def test_no_line_of_a_value_is_in_the_output(values: list[bytes], cuts: list[int]) -> None:
    text = b"<" + b">\n<".join(values) + b">"
    out = mask(in_pieces(text, cuts), values)

    assert [needle for needle in needles(values) if needle in out] == []
