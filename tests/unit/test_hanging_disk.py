"""Who asks for what lies on a disk that hangs can go away, and is told after a while.

The disk is a stand-in: a real one cannot be told when to hang.
"""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import trio

from agentd import audit, config, known
from agentd.current import Current
from agentd.errors import DiskTimeout
from agentd.session import follow
from agentd.session.choice import EVERYTHING
from agentd.session.follow import past_output
from agentd.supervisor import Supervisor
from tests.unit import builders
from tests.unit.session.fake_podman import FakePodman

SECONDS: Final = 10.0
"""The bound of a wait for a thread."""


class Hang:
    """A step of file work that hangs in its thread until it is released."""

    def __init__(self, work: Callable[..., Any]) -> None:
        self._work = work
        self._begun, self._released, self._ended = (threading.Event() for _ in range(3))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._begun.set()
        assert self._released.wait(SECONDS)
        try:
            return self._work(*args, **kwargs)
        finally:
            self._ended.set()

    async def begun(self) -> None:
        """It hangs now."""
        assert await trio.to_thread.run_sync(self._begun.wait, SECONDS)

    async def ended(self) -> None:
        """It has come to its end, whoever waits for it."""
        assert await trio.to_thread.run_sync(self._ended.wait, SECONDS)

    def release(self) -> None:
        """The disk answers."""
        self._released.set()


@pytest.fixture
def hang(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Hang]]:
    """Lets a function of a module hang, until the end of the test at most."""
    hanging: list[Hang] = []

    def hang(where: object, name: str) -> Hang:
        hanging.append(Hang(getattr(where, name)))
        monkeypatch.setattr(where, name, hanging[-1])
        return hanging[-1]

    yield hang
    for each in hanging:
        each.release()


@pytest.fixture
def record(tmp_path: Path) -> audit.Record:
    """One whose output is closed."""
    record = builders.record(tmp_path)
    record.agentd.mkdir(parents=True)
    record.output_log.write_bytes(b"2026-08-20T10:11:12.123456789+02:00 stdout F a line\n")
    return record


@pytest.fixture
async def sessions(tmp_path: Path) -> AsyncIterator[Supervisor]:
    engine = msgspec.structs.replace(FakePodman().engine(), audit_root=tmp_path)
    current = Current(config.Config(config.Daemon(), (builders.SOUND_AGENT,)))
    async with trio.open_nursery() as nursery:
        yield Supervisor(current, engine, nursery, nursery)
        nursery.cancel_scope.cancel()


async def drop(_pieces: object) -> None:
    """A client that takes all and keeps nothing."""
    await trio.lowlevel.checkpoint()


def descriptors_of(path: Path) -> list[str]:
    """This process's open descriptors of a file."""
    links = Path("/proc/self/fd").iterdir()
    return [link.name for link in links if os.path.realpath(link) == str(path)]


@pytest.mark.parametrize(("where", "name"), [(audit, "by_id"), (follow, "LogReader")])
async def test_a_reader_of_logs_can_go_away_from_a_disk_that_hangs(
    sessions: Supervisor, record: audit.Record, hang: Callable[..., Hang], where: object, name: str
) -> None:
    step = hang(where, name)
    async with trio.open_nursery() as nursery:
        logs = sessions.logs
        nursery.start_soon(lambda: logs(builders.SESSION, drop, EVERYTHING, follow=True))
        await step.begun()
        nursery.cancel_scope.cancel()


async def test_a_reader_of_logs_is_told_of_a_disk_that_hangs(
    sessions: Supervisor, hang: Callable[..., Hang], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "DISK_SECONDS", 0.01)
    hang(audit, "by_id")
    with pytest.raises(DiskTimeout):
        await sessions.logs(builders.SESSION, drop, follow=True)


async def test_a_log_that_opens_when_nobody_waits_any_more_is_closed_again(
    record: audit.Record, hang: Callable[..., Hang]
) -> None:
    whole, step = hang(follow, "_open_past"), hang(follow, "LogReader")
    whole.release()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(past_output, record, drop)
        await step.begun()
        nursery.cancel_scope.cancel()
    step.release()
    await whole.ended()
    assert descriptors_of(record.output_log) == []


async def test_a_log_is_closed_after_a_read_that_hangs_and_not_under_it(
    record: audit.Record, hang: Callable[..., Hang]
) -> None:
    whole, step = hang(follow, "_next"), hang(os, "pread")
    whole.release()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(past_output, record, drop)
        await step.begun()
        nursery.cancel_scope.cancel()
    during = len(descriptors_of(record.output_log))
    step.release()
    await whole.ended()
    assert (during, descriptors_of(record.output_log)) == (1, [])
