"""More runs than may live at once, and scheduled runs, in a daemon on real Podman."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable

import pytest
import trio

from agentd import connect, wire
from agentd.errors import OverlapSkipped
from testbed.agentd_client import HOLD, Client
from testbed.agentd_process import Agentd, Table
from tests.conftest import LONG

pytestmark = pytest.mark.live


@pytest.fixture
def agentd(own_agentd: Agentd, declare: Callable[..., Table]) -> Agentd:
    """A daemon in which one session may live at a time."""
    own_agentd.configure(declare(), max_sessions=1)
    own_agentd.start()
    return own_agentd


@pytest.fixture
def held(agentd: Agentd) -> Client:
    client = agentd.script(HOLD)
    client.wait_for_line("ready")
    return client


def queued(agentd: Agentd, script: str) -> tuple[Client, str]:
    """A run that waits, and the id that its session will have."""
    client = agentd.script(script)
    line = client.stderr.wait_for("position", lambda line: "in the queue" in line)
    return client, line.split()[2]


@pytest.mark.contract("F-55", "DSP-21")
def test_a_run_beyond_the_bound_begins_when_another_has_ended(agentd: Agentd, held: Client) -> None:
    client, name = queued(agentd, "echo begun")
    assert f"{name}  worker  queued (1)" in agentd.command("ps").wait().stdout
    assert len(agentd.containers()) == 1
    held.record.release()
    ended = client.wait()
    assert (ended.code, ended.session_id, "begun\n" in ended.stdout) == (0, name, True)


def test_a_run_that_waits_can_be_stopped(agentd: Agentd, held: Client) -> None:
    client, name = queued(agentd, "echo begun")
    stopped = agentd.command("stop", name).wait()
    assert (stopped.code, stopped.stdout) == (0, f"session {name} was stopped in the queue\n")
    assert client.wait().code == 130
    held.record.release()
    held.wait()
    assert [record.name for record in agentd.records()] == [held.session_id]


@pytest.mark.contract("F-53")
def test_the_logs_of_a_run_that_waits_begin_with_its_session(agentd: Agentd, held: Client) -> None:
    _, name = queued(agentd, "echo begun")
    following = agentd.command("logs", "-f", name[:12])
    now = agentd.command("logs", name).wait()
    assert (now.code, now.stdout, now.stderr) == (0, "", "")
    held.record.release()
    ended = following.wait()
    assert (ended.code, ended.stdout.endswith("begun\n")) == (0, True)


@pytest.mark.contract("F-53")
def test_the_logs_of_a_run_that_never_begins_end_as_it_does(agentd: Agentd, held: Client) -> None:
    _, name = queued(agentd, "echo begun")
    following = agentd.command("logs", "-f", name)
    # Answered after it, so that the daemon has taken it in.
    agentd.command("logs", name).wait()
    agentd.command("stop", name).wait()
    ended = following.wait()
    assert (ended.code, f"session {name} was stopped in the queue" in ended.stderr) == (130, True)
    held.record.release()


@pytest.mark.contract("F-53")
def test_a_run_that_waits_is_shown_with_what_is_known_of_it(agentd: Agentd, held: Client) -> None:
    _, name = queued(agentd, "echo begun")
    told = json.loads(agentd.command("inspect", name[:12]).wait().stdout)
    assert (told["session_id"], told["state"], told["position"]) == (name, "queued", 1)
    (listed,) = (
        each
        for each in json.loads(agentd.command("ps", "--json").wait().stdout)
        if each["session_id"] == name
    )
    assert listed["work_unit"] == told["work_unit"] == "echo begun"
    held.record.release()


def test_a_drain_turns_away_what_waits_and_waits_for_what_lives(
    agentd: Agentd, held: Client
) -> None:
    client, _ = queued(agentd, "echo begun")
    agentd.signal(signal.SIGTERM)
    refused = client.wait()
    assert (refused.code, "agentd is shutting down" in refused.stderr) == (6, True)
    held.record.release()
    assert (held.wait().code, agentd.ended()) == (0, 0)


@pytest.mark.contract("DMN-18", "DSP-21")
def test_a_hand_over_turns_away_what_waits_and_leaves_what_lives_to_the_next_daemon(
    agentd: Agentd, held: Client
) -> None:
    client, name = queued(agentd, "echo begun")
    agentd.signal(signal.SIGUSR1)
    refused = client.wait()
    assert agentd.ended() == 0, agentd.written()
    agentd.start()
    agentd.wait_for("runner.session_adopted", session_id=held.session_id)
    held.record.release()
    agentd.wait_for("agentd.run_completed", session_id=held.session_id, outcome="success")
    assert (refused.code, "agentd is shutting down" in refused.stderr) == (6, True)
    assert name not in [record.name for record in agentd.records()]


# --- scheduled runs ------------------------------------------------------------------------------


@pytest.mark.skipif(not LONG, reason="takes up to a minute: the shortest schedule there is")
@pytest.mark.contract("SCH-01", "SCH-02", "SCH-08")
def test_an_agent_runs_when_it_is_due(own_agentd: Agentd, declare: Callable[..., Table]) -> None:
    own_agentd.configure(declare(schedule="* * * * *"))
    own_agentd.start()
    fired = own_agentd.wait_for("agentd.schedule_fired", disposition="started")
    completed = own_agentd.wait_for("agentd.run_completed", session_id=fired["session_id"])
    assert completed["trigger"] == "schedule"


@pytest.fixture
def scheduled(own_agentd: Agentd, declare: Callable[..., Table]) -> Agentd:
    """A daemon with an agent of each overlap policy."""
    own_agentd.configure(
        *(declare(policy, overlap=policy) for policy in ("allow", "skip", "queue"))
    )
    own_agentd.start()
    return own_agentd


def fire(agentd: Agentd, agent: str) -> wire.Accepted | wire.Queued:
    """What the scheduler does when an agent is due."""

    async def dispatch() -> wire.Accepted | wire.Queued:
        async with connect(agentd.socket) as client:
            return await client.dispatch(agent, trigger="schedule")

    return trio.run(dispatch)


def live(agentd: Agentd, agent: str) -> Client:
    """A session of the agent that an operator has started."""
    client = agentd.script(HOLD, agent)
    client.wait_for_line("ready")
    return client


@pytest.mark.contract("SCH-07", "SCH-16", "SOC-01")
def test_runs_of_an_agent_may_overlap(scheduled: Agentd) -> None:
    client = live(scheduled, "allow")
    taken = fire(scheduled, "allow")
    assert isinstance(taken, wire.Accepted)
    scheduled.wait_for("agentd.run_completed", session_id=taken.session_id)
    client.record.release()
    client.wait()


def test_a_scheduled_run_can_be_left_out_while_a_session_lives(scheduled: Agentd) -> None:
    client = live(scheduled, "skip")
    with pytest.raises(OverlapSkipped):
        fire(scheduled, "skip")
    client.record.release()
    client.wait()
    assert isinstance(fire(scheduled, "skip"), wire.Accepted)


def test_a_scheduled_run_can_wait_for_the_end_of_a_session_but_no_second(
    scheduled: Agentd,
) -> None:
    client = live(scheduled, "queue")
    taken = fire(scheduled, "queue")
    assert isinstance(taken, wire.Queued)
    with pytest.raises(OverlapSkipped, match="waits already"):
        fire(scheduled, "queue")
    client.record.release()
    client.wait()
    completed = scheduled.wait_for("agentd.run_completed", session_id=taken.session_id)
    assert (completed["trigger"], completed["agent"]) == ("schedule", "queue")
