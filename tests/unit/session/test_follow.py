"""Following a log that grows, or has its last form: files and inotify, no container."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import cast

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from agentd.cri import STREAMS, Entry, Stream, encode
from agentd.errors import AuditError
from agentd.session.choice import EVERYTHING, Choice, Piece
from agentd.session.engine import Engine
from agentd.session.follow import follow_output
from agentd.session.output_reader import LogReader
from agentd.session.session import Session
from agentd.watch import Hint, Watcher, open_watcher

T = b"2026-08-20T10:11:12.123456789+02:00"


class Live:
    """As much of a session as its followers see."""

    def __init__(self, directory: Path) -> None:
        raw, log = directory / "output.raw", directory / "output.log"
        self.record = SimpleNamespace(output_raw=raw, output_log=log)
        self.needles = (b"secret",)
        self.start = SimpleNamespace(limits=SimpleNamespace(output=0))
        self.output_complete = False
        self.offered = trio.Event()
        self.followers: set[Hint] = set()
        raw.touch()

    @contextmanager
    def waking(self, follower: Hint) -> Iterator[None]:
        self.followers.add(follower)
        yield
        self.followers.discard(follower)

    def write(self, data: bytes, stream: Stream = "stdout") -> None:
        with self.record.output_raw.open("ab", buffering=0) as conmon:
            conmon.write(encode(T, stream, data))

    def complete(self) -> None:
        self.output_complete = True
        for follower in self.followers:
            follower.give()

    async def follow(
        self,
        watcher: Watcher,
        sink: trio.MemorySendChannel[bytes],
        choice: Choice = EVERYTHING,
    ) -> None:
        async def send(pieces: Sequence[Piece]) -> None:
            self.offered.set()
            for _, data, _ in pieces:
                await sink.send(data)

        engine = cast(Engine, SimpleNamespace(watcher=watcher))
        async with sink:
            await follow_output(cast(Session, self), engine, send, choice)


@pytest.fixture
def live(tmp_path: Path) -> Live:
    return Live(tmp_path)


@pytest.mark.contract("F-60")
async def test_what_comes_before_and_while_it_is_followed_arrives_to_the_end(live: Live) -> None:
    live.write(b"before\n")
    send, receive = trio.open_memory_channel[bytes](0)
    async with open_watcher() as watcher, trio.open_nursery() as nursery:
        nursery.start_soon(live.follow, watcher, send)
        assert await receive.receive() == b"before\n"
        for number in range(10):
            live.write(b"line %d, a secret\n" % number)
            assert await receive.receive() == b"line %d, a ***\n" % number
        live.write(b"end: sec")
        live.complete()
        assert b"".join([data async for data in receive]) == b"end: sec"


async def test_streams_that_alternate_are_passed_on_together(live: Live) -> None:
    for number in range(1000):
        live.write(b"%d\n" % number, "stderr" if number % 2 else "stdout")
    live.complete()
    taken: list[Sequence[Piece]] = []

    async def take(pieces: Sequence[Piece]) -> None:
        taken.append(pieces)
        await trio.lowlevel.checkpoint()

    async with open_watcher() as watcher:
        engine = cast(Engine, SimpleNamespace(watcher=watcher))
        await follow_output(cast(Session, live), engine, take)

    assert [len(pieces) for pieces in taken] == [1000]
    assert b"".join(data for _, data, _ in taken[0]) == b"".join(b"%d\n" % n for n in range(1000))


async def test_a_client_that_does_not_take_its_output_costs_no_events(live: Live) -> None:
    live.write(b"first\n")
    send, receive = trio.open_memory_channel[bytes](0)
    async with open_watcher() as watcher, trio.open_nursery() as nursery:
        nursery.start_soon(live.follow, watcher, send)
        await live.offered.wait()
        assert watcher._watches == {}
        live.complete()
        assert [data async for data in receive] == [b"first\n"]


async def test_a_session_that_ends_during_a_read_is_not_watched_any_more(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = LogReader.read

    def closing(reader: LogReader) -> list[Entry]:
        entries = read(reader)
        if not live.output_complete:
            live.write(b"last\n")
            live.record.output_raw.rename(live.record.output_log)
            live.output_complete = True
        return entries

    monkeypatch.setattr(LogReader, "read", closing)
    send, receive = trio.open_memory_channel[bytes](1)
    async with open_watcher() as watcher:
        await live.follow(watcher, send)

    assert [data async for data in receive] == [b"last\n"]


async def test_a_closed_log_is_read_like_one_that_grows(live: Live) -> None:
    live.write(b"all of it\n")
    live.record.output_raw.rename(live.record.output_log)
    live.complete()
    send, receive = trio.open_memory_channel[bytes](1)
    async with open_watcher() as watcher:
        await live.follow(watcher, send)

    assert [data async for data in receive] == [b"all of it\n"]


async def test_a_log_that_cannot_be_read_is_an_error_that_names_it(live: Live) -> None:
    live.record.output_raw.unlink()
    send, _receive = trio.open_memory_channel[bytes](1)
    async with open_watcher() as watcher:
        with pytest.raises(AuditError, match=r"cannot read .*output\.log"):
            await live.follow(watcher, send)


# --- choices -------------------------------------------------------------------------------------


async def shown(live: Live, choice: Choice, *, follow: bool = True) -> list[bytes]:
    """What a reader gets to see, piece by piece."""
    taken: list[bytes] = []

    async def take(pieces: Sequence[Piece]) -> None:
        taken.extend(data for _, data, _ in pieces)
        await trio.lowlevel.checkpoint()

    async with open_watcher() as watcher:
        engine = cast(Engine, SimpleNamespace(watcher=watcher))
        await follow_output(cast(Session, live), engine, take, choice, follow=follow)
    return taken


@pytest.mark.contract("F-53")
async def test_a_tail_goes_on_with_what_comes_and_repeats_nothing(live: Live) -> None:
    for number in range(20):
        live.write(b"%d\n" % number)
    live.write(b"half")
    send, receive = trio.open_memory_channel[bytes](0)
    async with open_watcher() as watcher, trio.open_nursery() as nursery:
        nursery.start_soon(live.follow, watcher, send, Choice(tail=2))
        assert await receive.receive() == b"19\nhalf"
        live.write(b" and half\n")
        assert await receive.receive() == b" and half\n"
        live.write(b"new\n")
        live.complete()
        assert b"".join([data async for data in receive]) == b"new\n"


@pytest.mark.contract("F-53")
async def test_a_tail_of_nothing_is_what_comes(live: Live) -> None:
    live.write(b"old\nhalf of")
    send, receive = trio.open_memory_channel[bytes](0)
    async with open_watcher() as watcher, trio.open_nursery() as nursery:
        nursery.start_soon(live.follow, watcher, send, Choice(tail=0))
        await trio.testing.wait_all_tasks_blocked()
        while not watcher._watches:
            await trio.testing.wait_all_tasks_blocked()
        live.write(b" an old line\nnew\n")
        assert await receive.receive() == b"new\n"
        live.complete()


@pytest.mark.contract("F-53")
async def test_without_following_a_tail_ends_where_the_log_ended_when_it_was_asked(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    live.write(b"1\n2\n3\n")
    seek = LogReader.seek

    def growing(reader: LogReader, offset: int) -> None:
        live.write(b"later\n")
        seek(reader, offset)

    monkeypatch.setattr(LogReader, "seek", growing)
    assert await shown(live, Choice(tail=2), follow=False) == [b"2\n3\n"]


@pytest.mark.contract("F-53")
async def test_the_marker_of_a_cut_log_is_its_last_line(live: Live) -> None:
    live.start.limits.output = 200
    for number in range(20):
        live.write(b"%d\n" % number)
    told = b"".join(await shown(live, Choice(tail=1), follow=False))
    assert told.startswith(b"agentd: output limit of 200 bytes reached")


@pytest.mark.contract("F-53")
@given(
    cuts=st.lists(st.integers(1, 40), max_size=10),
    streams=st.lists(st.sampled_from(STREAMS), min_size=11, max_size=11),
    tail=st.none() | st.integers(0, 6),
    timestamps=st.booleans(),
)
def test_no_choice_shows_any_part_of_a_credential(
    cuts: list[int], streams: list[Stream], tail: int | None, timestamps: bool
) -> None:
    """Whatever writes it came in; the letters of the credential occur nowhere else."""
    text = b"1\n2 secret 3\n4 secretsecret\nsecret\n5 secret"
    edges = [0, *sorted(cuts), len(text)]
    with TemporaryDirectory() as directory:
        live = Live(Path(directory))
        for (a, b), stream in zip(pairwise(edges), streams, strict=False):
            # Between two writes of a line, the other stream may have its say.
            live.write(text[a:b], "stdout")
            if stream == "stderr":
                live.write(b"0\n", "stderr")
        live.complete()
        told = b"".join(trio.run(shown, live, Choice(tail=tail, timestamps=timestamps)))
    assert not set(told) & set(b"secret")
