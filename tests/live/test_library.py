"""The Trio client against a real daemon, and the example programs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import trio

import agentd
from agentd import errors
from testbed.agentd_client import HOLD, Record
from testbed.agentd_process import Agentd, Table
from testbed.example import example
from testbed.processes import wait_until
from tests.conftest import LONG

pytestmark = pytest.mark.live

CALLS = 100

SELDOM = pytest.mark.skipif(not LONG, reason="seconds, and shown elsewhere; AGENTD_TESTS_LONG=1")


@pytest.fixture(scope="module")
def daemon(
    start_agentd: Callable[..., Agentd], declare: Callable[..., Table], faithful: Table
) -> Agentd:
    holder = declare("holder", command={"argv": ["/bin/sh", "-c", HOLD]})
    return start_agentd(declare(), holder, faithful)


@pytest.fixture
async def client(daemon: Agentd) -> AsyncIterator[agentd.Client]:
    async with agentd.connect(daemon.socket) as client:
        yield client


async def released(record: Path | None) -> None:
    assert record is not None
    await trio.to_thread.run_sync(Record(record).release)


# --- leaving early -------------------------------------------------------------------------------


class Left(Exception):
    """Why a test leaves."""


async def until_ready(output: AsyncIterator[agentd.Output]) -> None:
    async for event in output:
        if b"ready\n" in event.data:
            return


@pytest.mark.filterwarnings("error")
@pytest.mark.contract("SOC-14")
async def test_a_session_goes_on_however_its_streams_are_left(client: agentd.Client) -> None:
    async with client.run("worker", work_unit=f"{HOLD}; echo after; exit 4") as session:
        async for event in session:
            if isinstance(event, agentd.Output):
                break
    assert session.id is not None
    follow = partial(client.logs, session.id, follow=True)
    with suppress(Left):
        async with follow() as output:
            await until_ready(output)
            raise Left
    with trio.CancelScope() as scope:
        async with follow() as output:
            await until_ready(output)
            scope.cancel()
            await anext(output)
    with pytest.raises(trio.TooSlowError), trio.fail_after(0.05):
        async with follow() as output:
            async for _ in output:
                pass
    (info,) = [each for each in await client.sessions() if each.session_id == session.id]
    assert info.state == "running"
    async with follow() as output:
        await until_ready(output)
        await released(session.record)
        assert b"".join([event.data async for event in output]) == b"after\n"
    with pytest.raises(errors.UnknownSession):
        # It ends by itself, now or in a moment: stopping it tells how, or that it is gone.
        while True:
            await client.stop(session.id)
    assert (await client.inspect(session.id)).facts["outcome"] == "nothing_ready"


# --- calls ---------------------------------------------------------------------------------------


async def test_calls_of_one_client_overlap_while_a_session_runs(client: agentd.Client) -> None:
    answers: list[object] = []

    async def ask(call: Callable[[], Awaitable[object]]) -> None:
        answers.append(type(await call()))

    async with client.run("holder") as session:
        async for event in session:
            if isinstance(event, agentd.Output) and b"ready\n" in event.data:
                break
        assert session.id is not None
        inspect = partial(client.inspect, session.id)
        calls: list[Callable[[], Awaitable[object]]]
        calls = [client.ping, client.status, client.agents, inspect]
        async with trio.open_nursery() as nursery:
            for call in calls * 3:
                nursery.start_soon(ask, call)
        await released(session.record)
        assert str((await session.wait()).outcome) == "success"
    expected = [agentd.Pong, agentd.Status, agentd.Agents, agentd.Inspected] * 3
    assert sorted(map(str, answers)) == sorted(map(str, expected))


REFUSED: dict[
    str, tuple[type[agentd.AgentdError], Callable[[agentd.Client], Awaitable[object]]]
] = {
    "run": (errors.UnknownAgent, lambda client: client.dispatch("nobody")),
    "two purposes": (
        errors.InvalidInvocation,
        lambda client: client.dispatch("worker", work_unit="7", request="words"),
    ),
    "no schedule": (errors.NoSchedule, lambda client: client.schedule("worker")),
    "inspect": (errors.UnknownSession, lambda client: client.inspect("ffff")),
    "stop": (errors.UnknownSession, lambda client: client.stop("ffff")),
}


@pytest.mark.contract("CLI-24", "SOC-09")
@pytest.mark.parametrize("what", REFUSED)
async def test_an_error_has_the_class_that_the_daemon_raised(
    client: agentd.Client, what: str
) -> None:
    expected, call = REFUSED[what]
    with pytest.raises(expected) as caught:
        await call(client)
    assert type(caught.value) is expected


@pytest.mark.contract("SOC-14")
async def test_cancelled_calls_cost_no_descriptor_at_either_end(
    daemon: Agentd, client: agentd.Client
) -> None:
    assert daemon.process is not None
    ours, theirs = Path("/proc/self/fd"), Path(f"/proc/{daemon.process.pid}/fd")
    await client.ping()

    def count(of: Path) -> int:
        return len(os.listdir(of))  # noqa: PTH208

    before = count(ours), count(theirs)
    for number in range(CALLS):
        async with trio.open_nursery() as calls:
            calls.start_soon(client.ping)
            calls.start_soon(client.past_sessions)
            for _ in range(number % 10):
                await trio.lowlevel.checkpoint()
            calls.cancel_scope.cancel()
    assert count(ours) == before[0]
    wait_until("the daemon has closed its ends", lambda: count(theirs) <= before[1])


@SELDOM
@pytest.mark.contract("SCH-07")
async def test_a_dispatched_run_is_left_to_the_daemon(
    daemon: Agentd, client: agentd.Client
) -> None:
    taken = await client.dispatch("worker", work_unit="exit 5", timeout=60)
    ended = partial(daemon.wait_for, "agentd.run_completed", session_id=taken.session_id)
    await trio.to_thread.run_sync(ended)
    (past,) = [
        each for each in await client.past_sessions("worker") if each.session_id == taken.session_id
    ]
    assert (past.outcome, past.exit_code) == ("work_failed", 5)


# --- the examples --------------------------------------------------------------------------------


def test_the_first_example_runs_a_session(daemon: Agentd) -> None:
    with example("run_session.py", "site-builder", "Add a page", environ=daemon.environ) as program:
        ended = program.wait()
    record = program.record(program.stderr)
    assert (ended.code, record.facts["outcome"]) == (0, "success"), ended
    assert ended.stdout.endswith(f"session {record.directory.name}: success\n")


@pytest.mark.contract("SOC-14")
def test_the_first_example_detaches_on_control_c(daemon: Agentd) -> None:
    with example("run_session.py", "holder", environ=daemon.environ) as program:
        program.wait_for_line("ready")
        program.interrupt()
        ended = program.wait()
    record = program.record(program.stderr)
    assert (ended.code, "outcome" in record.facts) == (130, False), ended
    assert "detached from session" in ended.stderr
    record.release()
    daemon.wait_for("agentd.run_completed", session_id=record.directory.name)
    assert record.facts["outcome"] == "success"


def test_the_first_example_says_why_a_run_is_refused(daemon: Agentd) -> None:
    with example("run_session.py", "nobody", environ=daemon.environ) as program:
        ended = program.wait()
    assert (ended.code, ended.stdout) == (2, "")
    assert ended.stderr.startswith("unknown_agent: unknown agent 'nobody'")


def test_the_second_example_shows_what_live_sessions_write(daemon: Agentd) -> None:
    held = daemon.script(f"{HOLD}; echo after")
    name = f"worker {held.session_id[:8]}"
    with example("watch_sessions.py", environ=daemon.environ) as program:
        program.wait_for_line(f"{name} | ready")
        held.record.release()
        program.wait_for_line(f"{name} | after")
        program.wait_for_line(f"{name}: has ended")
        program.interrupt()
        assert program.wait().code == 0
    held.wait()
