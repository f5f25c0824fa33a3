"""What clients are told of past sessions, while others begin and end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import msgspec
import pytest
import trio
import trio.testing

from agentd import audit, config, names, wire
from agentd.audit import Record
from agentd.current import Current
from agentd.daemon.history import History
from agentd.known import Known
from agentd.places import Places, Waiting
from agentd.session.session import Session
from agentd.supervisor import Supervisor
from tests.unit import builders
from tests.unit.builders import SESSION

OTHER = "fedcba9876543210"


class Engine:
    """Sessions that begin and end, without any container; only what has ids of a supervisor."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.places = Places(Current(config.Config(config.Daemon(max_sessions=1), ())))
        self.known = Known(root, self.places)
        self.history = History(cast(Supervisor, self), root)

    def begin(self, session_id: str) -> Session:
        whose = names.Identity(builders.INSTANCE, session_id)
        session = Session.of(builders.admitted(), whose, self.root)
        audit.create(session.record, session.start, owner=None, document=None)
        self.known.sessions[session.start.container_name] = session
        return session

    def end(self, session: Session) -> None:
        del self.known.sessions[session.start.container_name]
        session.phase.value = "ended"
        facts = audit.session_json(session.start, builders.end_facts())
        session.record.session_json.write_bytes(facts)

    async def told(self) -> tuple[list[tuple[str, str | None]], list[str]]:
        """Past sessions and their outcomes, and live ones."""
        past: list[wire.PastSession] = []

        async def take(some: wire.PastSessions) -> None:
            await trio.lowlevel.checkpoint()
            past.extend(some.sessions)

        live = await self.history.past(None, take)
        return [(each.session_id, each.outcome) for each in past], [
            each.session_id for each in live
        ]


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(tmp_path)


@pytest.fixture
def at_the_listing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Has something happen right after the records were listed, and before anybody knows it."""
    real = audit.records

    def happen(what: Callable[[], object]) -> None:
        def listing(root: Path, agent: str | None = None) -> list[Record]:
            found = real(root, agent)
            what()
            return found

        monkeypatch.setattr(audit, "records", listing)

    return happen


@pytest.mark.contract("F-53")
async def test_a_session_that_ends_meanwhile_is_told_of_once(
    engine: Engine, at_the_listing: Callable[[Callable[[], object]], None]
) -> None:
    session = engine.begin(SESSION)
    at_the_listing(lambda: engine.end(session))
    assert await engine.told() == ([(SESSION, "success")], [])


@pytest.mark.contract("F-53")
async def test_a_session_that_begins_meanwhile_is_no_past_one(
    engine: Engine, at_the_listing: Callable[[Callable[[], object]], None]
) -> None:
    engine.begin(SESSION)
    at_the_listing(lambda: engine.begin(OTHER))
    assert await engine.told() == ([], [SESSION, OTHER])


@pytest.mark.contract("F-53")
async def test_a_session_that_begins_before_the_listing_is_seen_by_it_is_no_past_one(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = audit.records

    def listing(root: Path, agent: str | None = None) -> list[Record]:
        engine.begin(SESSION)
        return real(root, agent)

    monkeypatch.setattr(audit, "records", listing)
    assert await engine.told() == ([], [SESSION])


# --- one session ---------------------------------------------------------------------------------


@pytest.mark.contract("F-53")
async def test_all_that_is_known_of_a_run_that_waits_is_shown(engine: Engine) -> None:
    run = Waiting(SESSION, builders.invocation(work_unit="42", trigger="schedule"))
    engine.places.hold("builder")
    async with trio.open_nursery() as nursery:
        with engine.known.beginning(run):
            nursery.start_soon(engine.places.take, run, lambda _event: None)
            await trio.testing.wait_all_tasks_blocked()
            told = await engine.history.inspect(SESSION[:4])
        nursery.cancel_scope.cancel()
    assert (told.state, told.record) == ("queued", str(builders.record(engine.root).directory))
    since = told.facts.pop("queued_timestamp")
    assert msgspec.convert(since, type(run.since)) == run.since
    assert told.facts == {
        "session_id": SESSION,
        "agent": "builder",
        "repo_url": builders.URL,
        "work_unit": "42",
        "trigger": "schedule",
        "position": 1,
    }


@pytest.mark.contract("F-53")
async def test_a_session_that_lives_is_shown_by_the_facts_of_its_start(engine: Engine) -> None:
    session = engine.begin(SESSION)
    told = await engine.history.inspect(SESSION)
    assert told.state == "starting"
    assert told.facts["container_name"] == session.start.container_name


@pytest.mark.contract("F-53")
async def test_a_session_that_has_ended_is_shown_with_its_end(engine: Engine) -> None:
    engine.end(engine.begin(SESSION))
    told = await engine.history.inspect(SESSION)
    assert (told.state, told.facts["outcome"]) == ("closed", "success")
