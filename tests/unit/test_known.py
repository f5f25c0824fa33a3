"""Which session an id means, while sessions begin and end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from agentd import audit, config, names
from agentd.audit import Record
from agentd.current import Current
from agentd.errors import ImageUnavailable, StoppedBeforeStart, UnknownSession
from agentd.known import Known
from agentd.places import Places, Waiting
from agentd.session.session import Session
from tests.unit import builders

WAITS = "aa00000000000000"
LIVES = "ab00000000000000"
PAST = "b000000000000000"


class Ids:
    """Runs, sessions and records that have ids."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.places = Places(Current(config.Config(config.Daemon(max_sessions=1), ())))
        self.known = Known(root, self.places)

    def live(self, session_id: str) -> Session:
        whose = names.Identity(builders.INSTANCE, session_id)
        session = Session.of(builders.admitted(), whose, self.root)
        self.known.sessions[session.start.container_name] = session
        return session

    def record(self, session_id: str) -> Record:
        record = Record.of(self.root, "builder", session_id)
        record.directory.mkdir(parents=True)
        return record

    @contextmanager
    def run(self, session_id: str) -> Iterator[Waiting]:
        run = Waiting(session_id, builders.invocation(work_unit="42"))
        with self.known.beginning(run):
            yield run


@pytest.fixture
def ids(tmp_path: Path) -> Ids:
    return Ids(tmp_path)


async def test_the_beginning_of_an_id_means_a_run_a_session_or_a_record(ids: Ids) -> None:
    session, record = ids.live(LIVES), ids.record(PAST)
    with ids.run(WAITS) as run:
        assert await ids.known.find("aa") is run
        assert await ids.known.find("ab") is session
        assert await ids.known.find("b") == record


async def test_what_fits_a_run_and_a_session_means_neither(ids: Ids) -> None:
    ids.live(LIVES)
    with ids.run(WAITS), pytest.raises(UnknownSession, match=f"2 sessions: {WAITS}, {LIVES}"):
        ids.known.choose("a")


async def test_only_what_lives_or_is_going_to_is_chosen(ids: Ids) -> None:
    ids.record("ac00000000000000")
    with ids.run(WAITS) as run:
        assert ids.known.choose("a") is run
    with pytest.raises(UnknownSession):
        ids.known.choose("a")


async def test_a_session_that_ends_while_the_records_are_listed_is_found(
    ids: Ids, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = ids.live(LIVES)

    def ending(root: Path) -> dict[str, Record]:
        ids.known.sessions.clear()
        return {}

    monkeypatch.setattr(audit, "by_id", ending)
    assert await ids.known.find(LIVES) is session


async def test_a_run_that_has_become_a_session_is_told_of_once(ids: Ids) -> None:
    with ids.run(WAITS):
        (begins,) = ids.known.infos
        ids.live(WAITS)
        (lives,) = ids.known.infos
    assert (begins.state, begins.work_unit) == ("starting", "42")
    assert (lives.session_id, lives.state) == (WAITS, "starting")


async def test_who_waits_for_the_session_of_a_run_gets_it(ids: Ids) -> None:
    with ids.run(WAITS) as run:
        session = ids.live(WAITS)
        run.become(session)
    assert await run.session() is session


async def test_who_waits_for_the_session_of_a_run_that_is_turned_away_hears_why(
    ids: Ids,
) -> None:
    with pytest.raises(ImageUnavailable), ids.run(WAITS) as run:
        raise ImageUnavailable("no such image")
    for _ in range(2):
        with pytest.raises(ImageUnavailable, match="no such image"):
            await run.session()


async def test_who_waits_for_the_session_of_a_run_that_is_taken_back_hears_it(ids: Ids) -> None:
    with trio.CancelScope() as scope, ids.run(WAITS) as run:
        scope.cancel()
        await trio.lowlevel.checkpoint()
    with pytest.raises(StoppedBeforeStart, match="was taken back"):
        await run.session()
