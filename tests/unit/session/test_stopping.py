"""Asking a session to stop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from agentd import audit
from agentd.errors import PodmanUnreachable, StoppedBeforeStart, UnknownSession
from agentd.session import stopping
from agentd.session.conclusion import declare_intent
from agentd.session.session import Session
from agentd.session.stopping import stop_session
from tests.unit import builders
from tests.unit.session.fake_podman import FakePodman


@pytest.fixture
async def session(tmp_path: Path) -> Session:
    """A session whose record exists; its container is not started yet."""
    session = Session.of(builders.admitted(), builders.WHOSE, tmp_path)
    session.record.agentd.mkdir(parents=True)
    return session


@pytest.fixture
def podman() -> FakePodman:
    return FakePodman()


async def test_the_intent_is_written_before_podman_is_asked(
    session: Session, podman: FakePodman
) -> None:
    session.phase.value = "running"
    podman.failures["stop 3"] = [PodmanUnreachable("away")]
    with trio.CancelScope() as scope:
        podman.scope, podman.cancel_at = scope, 1
        await stop_session(session, podman.as_podman, 2.5)
    assert json.loads(session.record.intent.read_bytes())["cause"] == "stop"
    assert podman.calls == ["stop 3"]


@pytest.mark.contract("AUD-16")
@pytest.mark.parametrize("phase", ["closing", "ended"])
async def test_a_session_that_has_ended_is_asked_nothing_and_its_record_left_alone(
    session: Session, podman: FakePodman, phase: str
) -> None:
    session.phase.value = phase
    await stop_session(session, podman.as_podman, 30)
    assert (podman.calls, session.intent, session.record.intent.exists()) == ([], None, False)


@pytest.mark.contract("AUD-16")
async def test_an_intent_whose_turn_comes_after_the_end_is_not_written(session: Session) -> None:
    session.phase.value = "closing"
    await declare_intent(session, "stop")
    assert not session.record.intent.exists()


async def test_a_session_that_was_not_started_is_never_started(
    session: Session, podman: FakePodman
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop_session, session, podman.as_podman, 30)
        await wait_all_tasks_blocked()
        with pytest.raises(StoppedBeforeStart):
            session.check_wanted()
        session.finish(None)
    assert podman.calls == []


async def test_a_session_that_was_just_being_started_is_stopped_once_it_runs(
    session: Session, podman: FakePodman
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop_session, session, podman.as_podman, 30)
        await wait_all_tasks_blocked()
        assert podman.calls == []
        session.phase.value = "running"
    assert podman.calls == ["stop 30"]


@pytest.fixture
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests on a clock that jumps: it would not wait for a thread."""

    async def declared(session: Session, cause: audit.Cause) -> None:
        session.intent = audit.Intent(cause, builders.NOON)
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(stopping, "declare_intent", declared)


@pytest.mark.usefixtures("no_disk")
async def test_a_podman_that_is_away_is_asked_again(
    session: Session, podman: FakePodman, autojump_clock: MockClock
) -> None:
    session.phase.value = "running"
    podman.failures["stop 30"] = [PodmanUnreachable("away"), PodmanUnreachable("away")]
    await stop_session(session, podman.as_podman, 30)
    assert podman.calls == ["stop 30"] * 3


@pytest.mark.usefixtures("no_disk")
async def test_nobody_asks_on_for_a_session_that_has_ended(
    session: Session, podman: FakePodman, autojump_clock: MockClock
) -> None:
    session.phase.value = "running"
    podman.failures["stop 30"] = [PodmanUnreachable("away")] * 1000
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop_session, session, podman.as_podman, 30)
        await trio.sleep(2.5)
        session.finish(None)
    assert podman.calls == ["stop 30"] * 3


async def test_a_second_request_changes_nothing(session: Session, podman: FakePodman) -> None:
    session.phase.value = "running"
    await stop_session(session, podman.as_podman, 30)
    asked = session.intent
    await stop_session(session, podman.as_podman, 5)
    assert (podman.calls, session.intent) == (["stop 30"], asked)


async def test_a_second_request_without_a_grace_kills(session: Session, podman: FakePodman) -> None:
    session.phase.value = "running"
    await stop_session(session, podman.as_podman, 30)
    await stop_session(session, podman.as_podman, 0)
    assert podman.calls == ["stop 30", "kill"]


async def test_a_session_that_stops_says_so(session: Session) -> None:
    session.phase.value = "running"
    await stop_session(session, FakePodman().as_podman, 30)
    assert session.info.state == "stopping"


@pytest.mark.parametrize(
    ("phase", "state"),
    [
        ("starting", "starting"),
        ("running", "running"),
        ("closing", "closing"),
        ("ended", "closing"),
    ],
)
async def test_a_session_says_where_it_stands(session: Session, phase: str, state: str) -> None:
    session.phase.value = phase
    assert session.info.state == state


def test_the_record_of_a_session_is_found_by_the_beginning_of_its_id(tmp_path: Path) -> None:
    wanted = builders.record(tmp_path)
    wanted.directory.mkdir(parents=True)
    (tmp_path / "builder/fedcba9876543210").mkdir()
    (tmp_path / "builder/0123-no-session").mkdir()
    assert audit.find(tmp_path, builders.SESSION[:4]) == wanted


@pytest.mark.contract("F-53")
def test_what_lies_in_a_probe_of_the_audit_root_is_no_record(tmp_path: Path) -> None:
    (tmp_path / ".agentd-audit-root-probe-0" / builders.SESSION).mkdir(parents=True)
    with pytest.raises(UnknownSession):
        audit.find(tmp_path, builders.SESSION)
