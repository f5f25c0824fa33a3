"""Sessions inside a program that embeds a supervisor, without daemon and socket."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

import agentd
from agentd import errors
from agentd.outcome import Outcome
from testbed.agentd_client import HOLD, Record
from testbed.agentd_process import Agentd, Table
from testbed.example import example
from testbed.processes import wait_until
from tests.conftest import LONG

pytestmark = pytest.mark.live

SELDOM = pytest.mark.skipif(not LONG, reason="seconds, and shown elsewhere; AGENTD_TESTS_LONG=1")


@pytest.fixture
def configured(own_agentd: Agentd, declare: Callable[..., Table], faithful: Table) -> Agentd:
    """A configuration with paths of its own; its daemon is not started."""
    holder = declare("holder", command={"argv": ["/bin/sh", "-c", HOLD]})
    own_agentd.configure(declare(), holder, faithful, podman_socket=str(own_agentd.podman.socket))
    return own_agentd


@pytest.fixture
def config(configured: Agentd) -> agentd.Config:
    return agentd.load_config(configured.config, configured.environ)


async def ready(session: agentd.EmbeddedSession) -> None:
    async with session.output() as output:
        async for event in output:
            if b"ready\n" in event.data:
                return


async def released(record: Path) -> None:
    await trio.to_thread.run_sync(Record(record).release)


# --- a session -----------------------------------------------------------------------------------


async def test_an_embedded_session_has_output_outcome_and_record(
    configured: Agentd, config: agentd.Config
) -> None:
    async with agentd.open_supervisor(config) as supervisor:
        session = await supervisor.start("worker", work_unit="echo out; echo err >&2; exit 5")
        assert supervisor.find(session.id[:6]).id == session.id
        finished = await session.wait()
        written = {"stdout": b"", "stderr": b""}
        async with session.output() as output:
            async for event in output:
                written[event.stream] += event.data
        assert await session.stop() == finished
    assert written["stdout"].endswith(b"\nout\n")
    assert written["stderr"].endswith(b"err\n")
    assert (str(finished.outcome), finished.teardown_error) == ("work_failed (exit code 5)", None)
    facts = Record(session.record).facts
    assert (facts["exit_code"], facts["session_id"]) == (5, session.id)
    assert session.outcome == finished.outcome
    configured.assert_nothing_left()


@pytest.mark.contract("F-61")
async def test_an_embedded_supervisor_counts_its_sessions(config: agentd.Config) -> None:
    async with agentd.open_supervisor(config) as supervisor:
        session = await supervisor.start("worker", work_unit="exit 3")
        assert str((await session.wait()).outcome) == "blocked"
        text = await supervisor.metrics()
        older = await supervisor.metrics("prometheus")
    ended = 'agentd_sessions_total{agent="worker",outcome="blocked"} 1.0'
    assert [ended in each for each in (text, older)] == [True, True]
    assert text.endswith("# EOF\n")


@SELDOM
async def test_leaving_the_supervisor_waits_for_its_sessions(config: agentd.Config) -> None:
    async with agentd.open_supervisor(config) as supervisor:
        session = await supervisor.start("worker", work_unit="exit 3")
        assert session.outcome is None
    assert str(session.outcome) == "blocked"
    assert Record(session.record).facts["outcome"] == "blocked"


async def test_an_embedded_session_is_stopped_and_its_output_left_early(
    config: agentd.Config,
) -> None:
    async with agentd.open_supervisor(config) as supervisor:
        session = await supervisor.start("worker", work_unit=HOLD)
        await ready(session)
        with trio.move_on_after(0.01):
            await session.wait()
        assert supervisor.sessions[0].info.state == "running"
        finished = await session.stop(grace=0)
    assert finished.outcome == Outcome(agentd.Label.TERMINATED_BY_SIGNAL, exit_code=137, signal=9)


async def test_a_start_that_is_cancelled_in_the_queue_is_taken_back(
    configured: Agentd, declare: Callable[..., Table]
) -> None:
    configured.configure(declare(), podman_socket=str(configured.podman.socket), max_sessions=1)
    config = agentd.load_config(configured.config, configured.environ)
    told: list[agentd.Progress | agentd.Queued] = []
    async with agentd.open_supervisor(config) as supervisor:
        first = await supervisor.start("worker", work_unit=HOLD)
        await ready(first)
        with trio.CancelScope() as scope:

            def queued(event: agentd.Progress | agentd.Queued) -> None:
                told.append(event)
                scope.cancel()

            await supervisor.start("worker", work_unit="exit 0", progress=queued)
        await released(first.record)
    assert [event.position for event in told if isinstance(event, agentd.Queued)] == [1]
    assert configured.records() == {first.record}


@pytest.mark.contract("CLI-24")
async def test_a_refusal_has_its_class(config: agentd.Config) -> None:
    async with agentd.open_supervisor(config) as supervisor:
        with pytest.raises(errors.UnknownAgent):
            await supervisor.start("nobody")
        with pytest.raises(errors.InvalidInvocation):
            await supervisor.start("worker", timeout=-1)
        with pytest.raises(errors.UnknownSession):
            supervisor.find("ffff")


# --- leaving in a hurry --------------------------------------------------------------------------


class Left(Exception):
    """Why a test leaves."""


@SELDOM
async def test_an_error_kills_the_sessions_and_leaves_as_it_came(
    configured: Agentd, config: agentd.Config
) -> None:
    sessions = []
    with pytest.raises(Left):
        async with agentd.open_supervisor(config) as supervisor:
            sessions.append(await supervisor.start("worker", work_unit=HOLD))
            await ready(sessions[0])
            raise Left
    with pytest.raises(errors.ForcedShutdown):
        await sessions[0].wait()
    configured.assert_nothing_left_in_podman()


async def test_a_cancellation_kills_the_sessions_and_leaves_nothing(
    configured: Agentd, config: agentd.Config
) -> None:
    with trio.CancelScope() as scope:
        async with agentd.open_supervisor(config) as supervisor:
            running = await supervisor.start("worker", work_unit=HOLD)
            await ready(running)
            # Another is cut off wherever its start has come to.
            await supervisor.start("worker", work_unit=HOLD)
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    configured.assert_nothing_left_in_podman()
    async with agentd.open_supervisor(config):
        # It closes the record, as the next daemon would.
        pass
    facts = Record(running.record).facts
    assert (facts["outcome"], facts["ended_by"]) == ("error", "forced")


# --- one at a time, and one after the other ------------------------------------------------------


@pytest.mark.contract("DMN-04")
async def test_an_embedder_and_a_daemon_of_one_configuration_exclude_each_other(
    configured: Agentd, config: agentd.Config
) -> None:
    async with agentd.open_supervisor(config):
        code, written = await trio.to_thread.run_sync(configured.refusal)
        assert (code, f"already running (pid {os.getpid()})" in written) == (1, True), written
    await trio.to_thread.run_sync(configured.start)
    with pytest.raises(errors.AlreadyRunning):
        async with agentd.open_supervisor(config):
            pass


@pytest.mark.parametrize("by", ["embedder", pytest.param("daemon", marks=SELDOM)])
async def test_what_a_killed_embedder_left_is_taken_up(
    configured: Agentd, config: agentd.Config, by: str
) -> None:
    words = (str(configured.config), "holder", "600", "words")
    with example("embed.py", *words, environ=configured.environ) as program:
        record = await trio.to_thread.run_sync(program.record, program.stdout)
        raw = record.directory / "agentd/output.raw"
        await trio.to_thread.run_sync(
            wait_until, "the agent is ready", lambda: b"ready\n" in raw.read_bytes()
        )
        program.kill()
    if by == "daemon":
        await trio.to_thread.run_sync(configured.start)
        await released(record.directory)
        await trio.to_thread.run_sync(configured.wait_settled)
    else:
        async with agentd.open_supervisor(config) as supervisor:
            (session,) = supervisor.sessions
            await released(session.record)
            assert str((await session.wait()).outcome) == "success"
    assert (record.facts["outcome"], record.facts["exit_code"]) == ("success", 0)
    configured.assert_nothing_left()


# --- the example ---------------------------------------------------------------------------------


def test_the_third_example_runs_two_sessions_at_once(configured: Agentd) -> None:
    words = (str(configured.config), "site-builder", "60", "Add a page", "Mend the footer")
    with example("embed.py", *words, environ=configured.environ) as program:
        ended = program.wait()
    assert (ended.code, ended.stdout.count(": success\n")) == (0, 2), ended
    outcomes = [record.facts["outcome"] for record in configured.session_records()]
    assert outcomes == ["success", "success"]
    configured.assert_nothing_left()


@SELDOM
def test_the_third_example_kills_what_lives_when_time_is_up(configured: Agentd) -> None:
    words = (str(configured.config), "holder", "1.5", "one", "two")
    with example("embed.py", *words, environ=configured.environ) as program:
        ended = program.wait()
    assert (ended.code, ended.stdout.splitlines()[-1]) == (0, "time is up"), ended
    configured.assert_nothing_left_in_podman()
