"""Log lines about a session say which, also those of tasks and threads that only serve it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import trio
from trio.testing import MockClock

from agentd.audit.files import sync_name
from agentd.errors import HostUnsupported, PodmanUnreachable
from agentd.logs import log
from agentd.outcome import TIMED_OUT
from agentd.session import report, stopping
from agentd.session.disk import on_disk
from agentd.session.output_limit import bound_output
from agentd.session.session import Session
from agentd.session.stopping import stop_session
from agentd.session.verdict import Ended
from agentd.watch import Watcher
from tests.unit import builders
from tests.unit.conftest import LogLines
from tests.unit.session.fake_podman import FakePodman

pytestmark = pytest.mark.contract("LOG-16", "LOG-20")


@pytest.fixture
async def session(tmp_path: Path) -> Session:
    """A session that runs."""
    session = Session.of(builders.admitted(), builders.WHOSE, tmp_path)
    session.record.agentd.mkdir(parents=True)
    session.phase.value = "running"
    return session


def about(session: Session, logged: LogLines) -> list[str]:
    """The events so far, all of which carry the session."""
    whose = {
        "session_id": session.id,
        "agent": session.start.agent,
        "container_name": session.start.container_name,
    }
    lines: list[dict[str, Any]] = list(logged)
    assert all(whose.items() <= line.items() for line in lines), lines
    return [line["event"] for line in lines]


async def test_a_stop_that_somebody_else_asks_for(
    session: Session, logged: LogLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "RETRY_SECONDS", 0)
    podman = FakePodman()
    podman.failures["stop 30"] = [PodmanUnreachable("away")]
    await stop_session(session, podman.as_podman, 30)
    assert about(session, logged) == ["runner.session_stopping", "runner.stop_failed"]


async def test_a_limit_of_the_output_that_cannot_be_kept_is_told_once(
    session: Session, logged: LogLines, autojump_clock: MockClock
) -> None:
    class Blind:
        @contextmanager
        def watch(self, *_: object) -> Iterator[None]:
            raise HostUnsupported("no inotify instance is free")
            yield

    engine = msgspec.structs.replace(FakePodman().engine(), watcher=cast(Watcher, Blind()))
    with trio.move_on_after(2):
        await bound_output(session, engine)
    assert about(session, logged) == ["runner.lifecycle_failure"]


async def test_work_in_a_thread(session: Session, logged: LogLines, tmp_path: Path) -> None:
    with session.bound_to_log():
        await on_disk(10, "here", sync_name, tmp_path / "gone" / "file")
    assert about(session, logged) == ["runner.audit_warning"]


async def test_nothing_of_it_sticks_to_who_asked(session: Session, logged: LogLines) -> None:
    await stop_session(session, FakePodman().as_podman, 30)
    log.info("other")
    assert "session_id" not in list(logged)[-1]


@pytest.mark.contract("LOG-11")
@pytest.mark.parametrize(("asked", "told"), [(None, ("", False)), ("issue 7", ("issue 7", True))])
async def test_the_end_of_a_run_tells_its_work_unit(
    session: Session, logged: LogLines, asked: str | None, told: tuple[str, bool]
) -> None:
    session.start = msgspec.structs.replace(session.start, work_unit=asked)
    session.ended = Ended(TIMED_OUT)
    report.log_completed(session)
    (line,) = logged
    assert (line["work_unit"], line["work_unit_present"]) == told
