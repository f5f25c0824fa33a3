"""Closing and following a session's output: files in a temporary directory, no container."""

from __future__ import annotations

import itertools
import os
import re
import stat
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentd.cri import STREAMS, Entry, Parser, Stream, encode
from agentd.masking import Masker
from agentd.session import output_log
from agentd.session.choice import EVERYTHING, Chooser
from agentd.session.output_log import (
    NO_LIMIT,
    SLICE,
    Interrupted,
    Summary,
    finish,
    marker,
    trim,
)
from agentd.session.output_reader import LogReader
from agentd.watch import CLOSED, MODIFIED, Hint, open_watcher

SECONDS = 10.0

T1 = b"2026-08-20T10:11:12.123456789+02:00"
T2 = b"2026-08-20T10:11:13.000000000+02:00"
SHA1, SHA256 = "0123456789abcdef0123" * 2, "0123456789abcdef" * 4

WRITES = st.lists(
    st.tuples(
        st.sampled_from(STREAMS),
        st.lists(st.sampled_from([b"sec", b"ret", b"secret", b"\n", b"\xff", b"x" * 50])).map(
            b"".join
        ),
    ),
    max_size=10,
)


def never() -> bool:
    return False


def on_call(number: int) -> Callable[[], bool]:
    calls = itertools.count(1)
    return lambda: next(calls) >= number


class Record:
    """The two files of one session."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.raw = directory / "output.raw"
        self.log = directory / "output.log"

    def finish(
        self, *values: bytes, limit: int = NO_LIMIT, cancelled: Callable[[], bool] = never
    ) -> Summary:
        return finish(self.raw, self.log, values, limit, cancelled)

    def content(self, stream: Stream) -> bytes:
        entries = Parser().feed(self.log.read_bytes())
        return b"".join(entry.data for entry in entries if entry.stream == stream)

    def names(self) -> list[str]:
        return sorted(path.name for path in self.directory.iterdir())


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record(tmp_path)


def lines(count: int, size: int = 100) -> bytes:
    return b"".join(encode(T1, STREAMS[i % 2], b"%0*d\n" % (size, i)) for i in range(count))


def drained(reader: LogReader, max_bytes: int = SLICE) -> dict[Stream, bytes]:
    out: dict[Stream, bytes] = {"stdout": b"", "stderr": b""}
    while entries := reader.read(max_bytes):
        for _, stream, data in entries:
            out[stream] += data
    for _, stream, data in reader.finish():
        out[stream] += data
    return out


def joined(entries: list[Entry]) -> list[tuple[Stream, bytes]]:
    return [(stream, data) for stream, data, _ in Chooser(EVERYTHING).feed(entries)]


# --- finish --------------------------------------------------------------------------------------


@pytest.mark.contract("F-60")
def test_a_log_without_a_value_in_it_moves_as_it_is(record: Record) -> None:
    raw = lines(10_000)
    record.raw.write_bytes(raw)
    inode = record.raw.stat().st_ino

    summary = record.finish(b"secret")

    assert summary == Summary(10_000 * 101, 0, complete=True, masked="none", commit=None)
    assert record.log.read_bytes() == raw
    assert record.log.stat().st_ino == inode
    assert record.names() == ["output.log"]


def test_an_empty_log_is_complete(record: Record) -> None:
    record.raw.touch()

    assert record.finish(b"secret") == Summary(0, 0, complete=True, masked="none", commit=None)


@pytest.mark.contract("F-43")
def test_a_value_split_over_fragments_and_blocks_is_not_in_the_log(record: Record) -> None:
    before = lines(SLICE // 140)
    split = (
        encode(T2, "stdout", b"sec") + encode(T2, "stderr", b"ret\n") + encode(T2, "stdout", b"ret")
    )
    after = lines(10_000)
    record.raw.write_bytes(before + split + after)

    summary = record.finish(b"secret")

    whole = Parser().feed(before + split + after)
    stdout = b"".join(e.data for e in whole if e.stream == "stdout")
    assert record.content("stdout") == stdout.replace(b"secret", b"***")
    assert record.content("stderr") == b"".join(e.data for e in whole if e.stream == "stderr")
    assert (summary.masked, summary.complete) == ("masked", True)
    assert stat.S_IMODE(record.log.stat().st_mode) == 0o600
    assert record.names() == ["output.log"]
    # What has nothing to mask keeps every byte, times included.
    assert record.log.read_bytes().startswith(before[: SLICE // 2])
    assert record.log.read_bytes().endswith(after[-SLICE:])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(WRITES, st.integers(0, 1500))
def test_log_and_reader_agree_with_each_other_and_with_the_masker(
    record: Record, writes: list[tuple[Stream, bytes]], limit: int
) -> None:
    raw = b"".join(encode(T1, stream, data) for stream, data in writes)
    record.raw.write_bytes(raw)
    with LogReader(record.raw, [b"secret"], limit) as reader:
        seen = drained(reader, 64)

    summary = record.finish(b"secret", limit=limit)

    kept = raw[: raw.rfind(b"\n", 0, limit) + 1] if limit else raw
    expected = {}
    for stream in STREAMS:
        masker = Masker([b"secret"])
        data = b"".join(e.data for e in Parser().feed(kept) if e.stream == stream)
        expected[stream] = masker.feed(data) + masker.finish()
    if 0 < limit < len(raw):
        last = marker(limit, len(raw) - len(kept))
        assert record.log.read_bytes().endswith(b" stderr F " + last)
        assert summary.dropped_bytes == len(raw) - len(kept)
        plain = seen["stderr"].removesuffix(last)
        assert plain in (expected["stderr"], expected["stderr"] + b"\n")
        assert record.content("stderr").removesuffix(last) in (plain, plain + b"\n")
        assert seen["stdout"] == expected["stdout"] == record.content("stdout")
    else:
        assert seen == expected == {s: record.content(s) for s in STREAMS}
    assert summary.complete is (not 0 < limit < len(raw))
    assert record.finish(b"secret", limit=limit) == Summary(
        summary.bytes,
        summary.dropped_bytes,
        summary.complete,
        "masked" if b"***" in record.log.read_bytes() else "none",
        None,
    )


def test_a_cut_log_ends_at_a_whole_line_and_says_so(record: Record) -> None:
    raw = lines(1000)
    line = len(raw) // 1000
    record.raw.write_bytes(raw)

    summary = record.finish(limit=10 * line + 7)

    dropped = 990 * line
    assert summary == Summary(1010, dropped, complete=False, masked="none", commit=None)
    assert record.log.read_bytes() == raw[: 10 * line] + (
        T1 + b" stderr F agentd: output limit of %d bytes reached;"
        b" at least %d bytes were dropped\n" % (10 * line + 7, dropped)
    )
    assert record.finish(limit=10 * line + 7) == summary


def test_a_file_of_exactly_the_limit_is_not_cut(record: Record) -> None:
    record.raw.write_bytes(raw := lines(100))

    assert record.finish(limit=len(raw)).complete


def test_the_marker_stands_on_a_line_of_its_own(record: Record) -> None:
    raw = encode(T1, "stdout", b"no newline")
    record.raw.write_bytes(raw + lines(3))

    record.finish(limit=len(raw))

    assert record.content("stderr").startswith(b"\nagentd: output limit")


def test_what_was_trimmed_is_counted_and_the_limit_stays_visible(record: Record) -> None:
    raw = lines(1000)
    limit = len(raw) // 2
    record.raw.write_bytes(raw)

    gone = trim(record.raw, limit) + trim(record.raw, limit)
    summary = finish(record.raw, record.log, [], limit, never, trimmed=gone)

    assert gone == len(raw) - limit - 1
    assert summary.dropped_bytes == len(raw) - limit
    assert not summary.complete


def test_a_file_within_the_limit_is_not_trimmed(record: Record) -> None:
    record.raw.write_bytes(b"x" * 11)

    assert trim(record.raw, 10) == trim(record.raw, 100) == 0
    assert record.raw.stat().st_size == 11


@pytest.mark.contract("F-33")
async def test_a_look_at_a_file_within_the_limit_does_not_pass_for_the_end_of_its_writer(
    record: Record,
) -> None:
    record.raw.write_bytes(b"x" * 11)
    closed, modified = Hint(), Hint()
    async with open_watcher() as watcher:
        with (
            watcher.watch(record.raw, CLOSED, closed),
            watcher.watch(record.raw, MODIFIED, modified),
        ):
            trim(record.raw, 10)
            # What the kernel tells next is told after whatever the look did.
            with trio.fail_after(SECONDS), record.raw.open("ab", buffering=0) as conmon:
                conmon.write(b"x")
                await modified.wait()
                assert not closed._event.is_set()


@pytest.mark.parametrize(
    "damage",
    [
        T1 + b" stdout F torn",
        T1[:10],
        b"headerless secret\n",
        T1 + b" stdout F a" + encode(T2, "stderr", b"b\n"),
    ],
)
@pytest.mark.parametrize("at_end", [True, False])
def test_a_damaged_log_is_never_moved_as_it_is_and_never_called_complete(
    record: Record, damage: bytes, at_end: bool
) -> None:
    record.raw.write_bytes(lines(5000) + damage + (b"" if at_end else lines(5000)))

    summary = record.finish(b"secret")

    assert not summary.complete
    assert b"secret" not in record.log.read_bytes()
    assert record.finish(b"secret") == summary


def test_the_rest_of_an_endless_line_is_not_taken_for_a_block_to_copy(record: Record) -> None:
    endless = b"z" * (3 * 1024 * 1024) + b"secret\n"
    record.raw.write_bytes(lines(10) + endless + lines(10))

    summary = record.finish(b"secret")

    assert (summary.complete, summary.bytes) == (False, 20 * 101)
    assert record.log.stat().st_size < 10_000


@pytest.mark.parametrize("commit", [SHA1, SHA256])
def test_the_commit_is_the_first_exact_line_on_standard_output(record: Record, commit: str) -> None:
    cloned = b"agentd: cloned %b\n"
    record.raw.write_bytes(
        encode(T1, "stderr", cloned % b"1".rjust(40, b"1"))
        + encode(T1, "stdout", b"x" + cloned % SHA1[::-1].encode())
        + encode(T1, "stdout", cloned % b"abc" + cloned % (SHA1.encode() + b" "))
        + lines(SLICE // 50)
        + encode(T1, "stdout", b"agentd: clo")
        + encode(T1, "stdout", b"ned " + commit.encode() + b"\n")
        + encode(T1, "stdout", cloned % SHA1[::-1].encode())
    )

    assert record.finish().commit == commit


def test_an_unfinished_line_names_no_commit(record: Record) -> None:
    record.raw.write_bytes(encode(T1, "stdout", b"agentd: cloned " + SHA1.encode()))

    assert record.finish().commit is None


@pytest.mark.parametrize("call", [1, 2, 3, 5, 9])
def test_an_interrupted_finish_can_be_repeated(record: Record, call: int) -> None:
    raw = lines(8000) + encode(T2, "stdout", b"secret\n")
    record.raw.write_bytes(raw)
    with pytest.raises(Interrupted):
        record.finish(b"secret", cancelled=on_call(call))

    summary = record.finish(b"secret")

    assert summary.masked == "masked"
    assert record.names() == ["output.log"]
    assert record.content("stdout").endswith(b"\n***\n")


@pytest.mark.parametrize("limit", [NO_LIMIT, 50_000])
@pytest.mark.parametrize("secret", [b"secret\n", b"plain\n"])
@pytest.mark.parametrize("failing", ["fsync", "unlink", "rename", "sync_name"])
def test_a_finish_that_breaks_at_a_step_of_the_file_system_ends_the_same_when_repeated(
    record: Record, monkeypatch: pytest.MonkeyPatch, failing: str, secret: bytes, limit: int
) -> None:
    record.raw.write_bytes(raw := encode(T2, "stdout", secret) + lines(1000))
    expected = record.finish(b"secret", limit=limit)
    log = record.log.read_bytes()
    record.log.unlink()
    record.raw.write_bytes(raw)
    (record.directory / "output.log.tmp").write_bytes(b"stale")

    def fail(*_: object, **__: object) -> None:
        raise OSError("broken")

    with monkeypatch.context() as patch:
        where: object = {"fsync": os, "sync_name": output_log}.get(failing, Path)
        patch.setattr(where, failing, fail)
        with suppress(OSError):
            record.finish(b"secret", limit=limit)

    assert record.finish(b"secret", limit=limit) == expected
    assert record.log.read_bytes() == log


def test_raw_and_log_both_there_means_that_the_log_is_made_again(record: Record) -> None:
    record.raw.write_bytes(encode(T1, "stdout", b"secret\n"))
    record.log.write_bytes(b"half made")

    assert record.finish(b"secret").masked == "masked"
    assert record.content("stdout") == b"***\n"


@pytest.mark.parametrize("plant", ["link", "fifo", "directory"])
def test_only_a_regular_file_is_read(record: Record, plant: str) -> None:
    if plant == "link":
        (record.directory / "other").touch()
        record.raw.symlink_to("other")
    elif plant == "fifo":
        os.mkfifo(record.raw)
    else:
        record.raw.mkdir()

    with pytest.raises(OSError, match=r"regular|symbolic|Is a directory"):
        record.finish()
    with pytest.raises(OSError, match=r"regular|symbolic|Is a directory"):
        LogReader(record.raw, (), NO_LIMIT)


def test_without_any_file_there_is_nothing_to_sum_up(record: Record) -> None:
    with pytest.raises(FileNotFoundError):
        record.finish()


BIG = 8 * 1024 * 1024


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(lines(1000), id="lines"),
        pytest.param(lines(999) + encode(T1, "stdout", b"a secret\n"), id="values"),
        pytest.param((T1 + b" stdout P " + b"x" * 8000 + b"secret\n") * 10, id="a line in pieces"),
        pytest.param(b"secret" * 20_000, id="no line at all"),
    ],
)
def test_closing_takes_no_memory_in_proportion_and_asks_at_each_slice(
    record: Record, block: bytes
) -> None:
    record.raw.write_bytes(block * (BIG // len(block)))
    calls = itertools.count()
    tracemalloc.start()
    try:
        record.finish(b"secret", cancelled=lambda: next(calls) < 0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < BIG // 2
    assert next(calls) >= BIG // SLICE


def test_lines_around_a_value_keep_every_byte(record: Record) -> None:
    before, after = lines(3000), lines(2000)
    record.raw.write_bytes(before + encode(T2, "stderr", b"a secret\n") + after)

    record.finish(b"secret")

    masked = encode(T2, "stderr", b"a ***\n")
    assert record.log.read_bytes() == before + masked + after


# --- LogReader -----------------------------------------------------------------------------------


def test_a_reader_gives_what_is_new(record: Record) -> None:
    with (
        record.raw.open("ab", buffering=0) as conmon,
        LogReader(record.raw, (), NO_LIMIT) as reader,
    ):
        assert reader.read() == []
        for stream, data in (("stdout", b"a\n"), ("stdout", b"b"), ("stderr", b"c\n")):
            conmon.write(encode(T1, stream, data))
        assert joined(reader.read()) == [("stdout", b"a\nb"), ("stderr", b"c\n")]
        assert reader.read() == []
        conmon.write(T1 + b" stdout F half a li")
        assert reader.read() == []
        record.raw.rename(record.log)
        conmon.write(b"ne\n")
        assert joined(reader.read()) == [("stdout", b"half a line\n")]
        assert reader.finish() == []
        assert reader.read() == []


def test_a_reader_has_more_until_it_has_read_all_and_told_of_a_cut(record: Record) -> None:
    line = encode(T1, "stdout", b"0123456789\n")
    with (
        record.raw.open("ab", buffering=0) as conmon,
        LogReader(record.raw, (), len(line)) as reader,
    ):
        assert not reader.has_more()
        conmon.write(line)
        assert reader.has_more()
        assert reader.read()
        assert not reader.has_more()
        conmon.write(line)
        assert reader.has_more()
        assert reader.read()
        assert not reader.has_more()


def test_a_reader_holds_back_what_could_begin_a_value(record: Record) -> None:
    with record.raw.open("ab", buffering=0) as conmon:
        conmon.write(encode(T1, "stdout", b"a sec"))
        with LogReader(os.open(record.raw, os.O_RDONLY), [b"secret"], NO_LIMIT) as reader:
            assert joined(reader.read()) == [("stdout", b"a ")]
            conmon.write(encode(T1, "stdout", b"ret sec"))
            assert joined(reader.read()) == [("stdout", b"*** ")]
            assert reader.read() == []
            assert joined(reader.finish()) == [("stdout", b"sec")]


def test_an_empty_answer_means_that_there_is_nothing_more(record: Record) -> None:
    record.raw.write_bytes(b"garbage\n" * 100 + encode(T1, "stdout", b"found\n"))

    with LogReader(record.raw, (), NO_LIMIT) as reader:
        assert joined(reader.read(16)) == [("stdout", b"found\n")]


def test_the_marker_comes_once_when_the_limit_is_passed_while_the_session_lives(
    record: Record,
) -> None:
    line = encode(T1, "stdout", b"0123456789\n")
    limit = 2 * len(line) + 5
    with record.raw.open("ab", buffering=0) as conmon, LogReader(record.raw, (), limit) as reader:
        conmon.write(line * 2)
        assert joined(reader.read()) == [("stdout", b"0123456789\n" * 2)]
        conmon.write(line)
        assert joined(reader.read()) == [("stderr", marker(limit, len(line)))]
        conmon.write(line)
        trim(record.raw, limit)
        assert reader.read() == []
        assert reader.finish() == []


def test_a_late_reader_of_a_trimmed_file_sees_the_marker(record: Record) -> None:
    record.raw.write_bytes(raw := lines(100))
    limit = len(raw) // 2
    trim(record.raw, limit)

    with LogReader(record.raw, (), limit) as reader:
        seen = drained(reader)

    assert re.search(rb"reached; at least 1 bytes were dropped\n\Z", seen["stderr"])


def test_closing_a_reader_twice_is_fine(record: Record) -> None:
    record.raw.touch()
    reader = LogReader(record.raw, (), NO_LIMIT)
    reader.close()
    reader.close()


def test_a_reader_that_nobody_got_keeps_no_descriptor(record: Record) -> None:
    record.raw.touch()
    descriptor = os.open(record.raw, os.O_RDONLY)
    LogReader(descriptor, (), NO_LIMIT)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
