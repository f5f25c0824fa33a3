"""What is left of ended sessions, and goes as soon as it can. The Podman is a fake."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from agentd import audit
from agentd.errors import AuditError, PodmanError
from agentd.outcome import from_exit_code
from agentd.session import unsettled
from agentd.session.engine import Engine
from agentd.session.session import Session
from agentd.session.unsettled import SETTLE_SECONDS, Unsettled
from agentd.session.verdict import Ended
from tests.unit.builders import SESSION, WHOSE, admitted, end_facts
from tests.unit.session.fake_podman import FakePodman


class Disk:
    """Stands for the closing of records, which needs threads: no clock may jump over those."""

    full = True
    tries = 0

    async def close(self, session: Session, _engine: Engine, end: audit.End) -> None:
        await trio.lowlevel.checkpoint()
        self.tries += 1
        session.unclosed = end if self.full else None

    async def write(self, _seconds: float, _where: str, _work: object, *_args: object) -> None:
        await trio.lowlevel.checkpoint()
        if self.full:
            raise AuditError("no space left")


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(unsettled, "close_record", disk.close)
    monkeypatch.setattr(unsettled, "on_disk", disk.write)
    return disk


@pytest.fixture
def podman() -> FakePodman:
    return FakePodman()


@pytest.fixture
async def left(podman: FakePodman, nursery: trio.Nursery) -> AsyncIterator[Unsettled]:
    left = Unsettled(podman.engine())
    nursery.start_soon(left.run)
    yield left
    nursery.cancel_scope.cancel()


async def ended(unclosed: audit.End | None, teardown_error: str | None = None) -> Session:
    await trio.lowlevel.checkpoint()
    engine = FakePodman().engine()
    session = Session.of(admitted(), WHOSE, engine.audit_root)
    session.complete_output(Ended(from_exit_code(0)))
    session.finish(teardown_error)
    session.unclosed = unclosed
    return session


@pytest.mark.contract("AUD-22")
async def test_a_record_that_could_not_be_closed_is_closed_within_a_minute(
    left: Unsettled, disk: Disk, autojump_clock: trio.testing.MockClock
) -> None:
    session = await ended(end_facts())
    left.take(session)
    disk.full = False
    await trio.sleep(SETTLE_SECONDS + 1)
    assert session.unclosed is None


async def test_one_that_still_cannot_be_closed_is_kept(
    left: Unsettled, disk: Disk, autojump_clock: trio.testing.MockClock
) -> None:
    session = await ended(end_facts())
    left.take(session)
    await trio.sleep(SETTLE_SECONDS + 1)
    disk.full = False
    await trio.sleep(2 * SETTLE_SECONDS)
    assert session.unclosed is None


async def test_what_never_goes_is_tried_less_and_less_often(
    left: Unsettled, disk: Disk, autojump_clock: trio.testing.MockClock
) -> None:
    left.take(await ended(end_facts()))
    tries = []
    for _ in range(24):
        disk.tries = 0
        for _ in range(60):
            await trio.sleep(60)
            left.take(await ended(None))
        tries.append(disk.tries)
    assert (tries[0] <= 12, set(tries[2:])) == (True, {1})


async def test_a_session_that_ends_well_says_that_it_works_again(
    left: Unsettled, disk: Disk, autojump_clock: trio.testing.MockClock
) -> None:
    session = await ended(end_facts())
    left.take(session)
    disk.full = False
    left.take(await ended(None))
    await trio.testing.wait_all_tasks_blocked()
    assert (session.unclosed, trio.current_time()) == (None, 0.0)


@pytest.mark.contract("AUD-11", "SES-29")
async def test_nothing_is_closed_while_podman_holds_something(
    left: Unsettled, disk: Disk, podman: FakePodman, autojump_clock: trio.testing.MockClock
) -> None:
    disk.full = False
    podman.failures["remove"] = [PodmanError("busy")]
    session = await ended(end_facts(), "container removal: busy")
    left.take(session)
    await trio.sleep(SETTLE_SECONDS + 1)
    before = session.unclosed
    assert before is not None
    await trio.sleep(2 * SETTLE_SECONDS)
    assert session.unclosed is None
    assert session.teardown_error is None


async def test_the_secrets_of_the_session_go_with_its_container(
    left: Unsettled, disk: Disk, podman: FakePodman, autojump_clock: trio.testing.MockClock
) -> None:
    disk.full = False
    podman.secrets = {f"agentd-{WHOSE.instance}-{SESSION}-0": b"", "another": b""}
    left.take(await ended(end_facts(), "secret removal: busy"))
    await trio.sleep(SETTLE_SECONDS + 1)
    assert list(podman.secrets) == ["another"]


@pytest.mark.contract("AUD-11", "AUD-22")
async def test_a_container_that_is_the_only_proof_of_its_end_stays_until_that_is_written_down(
    left: Unsettled, disk: Disk, podman: FakePodman, autojump_clock: trio.testing.MockClock
) -> None:
    session = await ended(end_facts())
    session.container_kept = True
    left.take(session)
    await trio.sleep(SETTLE_SECONDS + 1)
    assert podman.calls == []
    disk.full = False
    await trio.sleep(2 * SETTLE_SECONDS)
    assert ("remove" in podman.calls, session.unclosed) == (True, None)
