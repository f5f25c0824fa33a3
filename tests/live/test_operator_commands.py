"""`agentd ps`, `logs` and `stop`: what an operator sees of sessions, and how one is ended."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator

import pytest

from agentd import wire
from testbed.agentd_client import HOLD, Client, Ended
from testbed.agentd_process import Agentd, Table
from testbed.processes import wait_until

pytestmark = pytest.mark.live

SECRET = "k9-s3cret-value"
ANSWERS_SIGINT = "trap 'echo stopping; exit 0' INT; echo ready; while :; do sleep 0.1; done"
STUBBORN = "trap '' INT TERM; echo ready; while :; do sleep 1; done"


@pytest.fixture(scope="module")
def agentd(start_agentd: Callable[..., Agentd], declare: Callable[..., Table]) -> Agentd:
    keyed = declare("keyed", credentials=[{"name": "KEY", "source": "OPERATOR_KEY"}])
    return start_agentd(
        declare(),
        declare("hasty", timeout="1h"),
        keyed,
        declare("yearly", schedule="@yearly"),
        environ={"OPERATOR_KEY": SECRET},
    )


@pytest.fixture
def held(agentd: Agentd) -> Iterator[Client]:
    """A session that waits."""
    client = agentd.script(HOLD, "hasty")
    client.wait_for_line("ready")
    yield client
    agentd.command("stop", client.session_id, "--grace", "0s").wait()
    client.wait()


def ready(agentd: Agentd, script: str) -> Client:
    client = agentd.script(script)
    client.wait_for_line("ready")
    return client


def ps(agentd: Agentd) -> str:
    return agentd.command("ps").wait().stdout


# --- run ---


@pytest.mark.contract("F-54", "F-52")
def test_a_detached_run_goes_on_without_its_client_and_ends_at_its_own_time(
    agentd: Agentd,
) -> None:
    started = agentd.client("worker", "-d", "--timeout", "1s", "--work-unit", "sleep 60").wait()
    session_id = started.stdout.strip()
    agentd.wait_for("agentd.run_completed", session_id=session_id)
    told = json.loads(agentd.command("inspect", session_id).wait().stdout)
    assert (told["outcome"], told["ended_by"]) == ("timed_out", "timeout")


# --- ps ------------------------------------------------------------------------------------------


@pytest.mark.contract("F-53")
def test_ps_shows_a_live_session(agentd: Agentd, held: Client) -> None:
    heading, *lines = ps(agentd).splitlines()
    assert heading.split() == ["SESSION", "AGENT", "STATE", "AGE", "TIME", "LEFT", "TRIGGER"]
    (line,) = (line.split() for line in lines if held.session_id in line)
    assert (line[:3], line[5]) == ([held.session_id, "hasty", "running"], "manual")
    # An hour less what has passed, rounded.
    assert line[4].startswith(("1h0m", "59m"))


@pytest.mark.contract("F-53")
def test_ps_shows_no_session_that_has_ended(agentd: Agentd) -> None:
    ended = agentd.script("exit 0").wait()
    assert ended.session_id not in ps(agentd)


@pytest.mark.contract("F-53")
def test_ps_shows_past_sessions_when_asked(agentd: Agentd, past: Ended, held: Client) -> None:
    shown = agentd.command("ps", "-a", "--json").wait().stdout
    told = {each["session_id"]: each for each in json.loads(shown)}
    ended, live = told[past.session_id], told[held.session_id]
    assert (ended["state"], ended["outcome"], ended["agent"]) == ("closed", "success", "keyed")
    assert live["state"] == "running"
    only = agentd.command("ps", "-a", "--agent", "keyed").wait().stdout
    assert (past.session_id in only, held.session_id in only) == (True, False)


@pytest.mark.contract("F-53")
def test_inspect_shows_the_facts_of_a_session_live_or_past(
    agentd: Agentd, past: Ended, held: Client
) -> None:
    live, ended = (
        json.loads(agentd.command("inspect", each).wait().stdout)
        for each in (held.session_id[:8], past.session_id)
    )
    assert (live["state"], "outcome" in live) == ("running", False)
    assert {"state": "closed", "record": str(past.record.directory), **past.record.facts} == ended


@pytest.mark.contract("F-53")
def test_agents_shows_what_is_declared_and_how_it_last_ended(agentd: Agentd, past: Ended) -> None:
    told = json.loads(agentd.command("agents", "--json").wait().stdout)
    by_name = {each["name"]: each for each in told["agents"]}
    assert list(by_name) == ["worker", "hasty", "keyed", "yearly"]
    assert by_name["keyed"]["last"]["session_id"] == past.session_id
    assert by_name["yearly"]["next_fire"].startswith(("20", "21"))
    assert "@yearly" in agentd.command("agents").wait().stdout


@pytest.mark.contract("F-53", "SCH-02")
def test_schedule_shows_the_next_instants(agentd: Agentd) -> None:
    words = ("schedule", "yearly", "--next", "2", "--from", "2026-06-01T00:00Z")
    first, second = agentd.command(*words).wait().stdout.splitlines()[1:]
    assert (first[4:14], second[4:14]) == ("2027-01-01", "2028-01-01")


@pytest.mark.contract("F-53")
def test_an_agent_without_a_schedule_has_no_instants(agentd: Agentd) -> None:
    ended = agentd.command("schedule", "worker").wait()
    assert (ended.code, "has no schedule" in ended.stderr) == (2, True)


# --- logs ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def past(agentd: Agentd) -> Ended:
    return agentd.script("echo out; echo err >&2; printf '%s\\n' \"$KEY\"", "keyed").wait()


@pytest.mark.contract("F-53")
def test_logs_of_a_past_session_are_what_its_client_saw(agentd: Agentd, past: Ended) -> None:
    shown = agentd.command("logs", past.session_id).wait()
    assert shown.code == 0
    assert (shown.stdout + "session success\n", "err\n" in shown.stderr) == (past.stdout, True)


@pytest.mark.contract("F-53")
def test_logs_show_no_credential(agentd: Agentd, past: Ended) -> None:
    shown = agentd.command("logs", past.session_id).wait()
    assert "out\n" in shown.stdout
    assert SECRET not in shown.stdout + shown.stderr


@pytest.mark.contract("F-53")
def test_logs_of_a_live_session_end_with_what_there_is(agentd: Agentd, held: Client) -> None:
    assert agentd.command("logs", held.session_id).wait().stdout.endswith("ready\n")


@pytest.mark.contract("F-53")
def test_following_logs_end_with_the_session(agentd: Agentd, held: Client) -> None:
    following = agentd.command("logs", "-f", held.session_id)
    following.wait_for_line("ready")
    assert following.process.poll() is None
    held.record.release()
    assert following.wait().code == 0


def test_the_beginning_of_an_id_is_enough(agentd: Agentd, past: Ended) -> None:
    assert agentd.command("logs", past.session_id[:12]).wait().code == 0


@pytest.mark.parametrize("command", ["logs", "stop"])
def test_a_session_that_nobody_knows_is_an_error_of_use(agentd: Agentd, command: str) -> None:
    ended = agentd.command(command, "0123456789abcdef").wait()
    assert (ended.code, ended.stdout) == (2, "")
    assert ended.stderr.startswith("agentd: there is no session '0123456789abcdef'")


def test_a_session_that_has_ended_cannot_be_stopped(agentd: Agentd, past: Ended) -> None:
    assert agentd.command("stop", past.session_id).wait().code == 2


# --- stop ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def obedient(agentd: Agentd) -> tuple[Ended, Ended]:
    """A session that answers SIGINT, and the command that stopped it."""
    client = ready(agentd, ANSWERS_SIGINT)
    stopped = agentd.command("stop", client.session_id).wait()
    return client.wait(), stopped


@pytest.mark.contract("F-53", "B-21")
def test_a_stopped_session_ends_with_the_outcome_that_it_earned(
    obedient: tuple[Ended, Ended],
) -> None:
    session, _ = obedient
    assert (session.code, session.stdout.splitlines()[-2:]) == (0, ["stopping", "session success"])


@pytest.mark.contract("F-53")
def test_stop_says_that_it_asked_and_how_the_session_ended(obedient: tuple[Ended, Ended]) -> None:
    session, stopped = obedient
    name = session.session_id
    assert stopped == Ended(
        0, f"session {name} has ended: success\n", f"agentd: session {name} is asked to stop\n"
    )


def test_the_record_says_that_a_session_was_stopped(obedient: tuple[Ended, Ended]) -> None:
    facts = obedient[0].record.facts
    assert (facts["outcome"], facts["ended_by"]) == ("success", "stop")


def test_no_trace_of_the_request_is_left_in_the_record(obedient: tuple[Ended, Ended]) -> None:
    assert not (obedient[0].record.directory / "agentd/intent.json").exists()


def test_a_session_that_ignores_the_request_is_killed_after_the_grace(agentd: Agentd) -> None:
    client = ready(agentd, STUBBORN)
    stopped = agentd.command("stop", client.session_id, "--grace", "1s").wait()
    facts = client.wait().record.facts
    assert (stopped.code, facts["outcome"], facts["exit_code"], facts["ended_by"]) == (
        0,
        "terminated_by_signal",
        137,
        "stop",
    )


def test_without_a_grace_a_session_is_killed_at_once(agentd: Agentd) -> None:
    client = ready(agentd, ANSWERS_SIGINT)
    agentd.command("stop", client.session_id, "--grace", "0s").wait()
    assert client.wait().code == 137


@pytest.mark.contract("F-53")
def test_several_sessions_stop_at_once_and_an_unknown_one_holds_up_none(agentd: Agentd) -> None:
    clients = [ready(agentd, ANSWERS_SIGINT) for _ in range(2)]
    ids = [client.session_id for client in clients]
    stopped = agentd.command("stop", ids[0], "ffffffffffffffff", ids[1]).wait()
    for client in clients:
        client.wait()
    assert (stopped.code, sorted(stopped.stdout.splitlines())) == (
        2,
        sorted(f"session {name} has ended: success" for name in ids),
    )
    assert "ffffffffffffffff" in stopped.stderr


def test_who_loses_patience_with_a_stop_can_kill(agentd: Agentd) -> None:
    client = ready(agentd, STUBBORN)
    patient = agentd.command("stop", client.session_id, "--grace", "1h")
    agentd.wait_for("runner.session_stopping", session_id=client.session_id)
    assert "stopping" in ps(agentd)
    agentd.command("stop", client.session_id, "--grace", "0s").wait()
    assert (client.wait().code, patient.wait().code) == (137, 0)


def test_the_stop_goes_on_when_the_command_is_interrupted(agentd: Agentd) -> None:
    client = ready(agentd, STUBBORN)
    command = agentd.command("stop", client.session_id, "--grace", "2s")
    agentd.wait_for("runner.session_stopping", session_id=client.session_id)
    command.process.kill()
    assert client.wait().code == 137


def test_a_stop_whose_client_has_gone_is_not_lost(agentd: Agentd) -> None:
    client = ready(agentd, STUBBORN)
    request = wire.Stop(session=client.session_id, grace_seconds=1)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(agentd.socket))
        connection.sendall(wire.frame(wire.encode(request)))
    assert client.wait().code == 137


@pytest.fixture
def silent_server() -> Iterator[str]:
    """The clone URL of a server that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"git://127.0.0.1:{listener.getsockname()[1]}/home.git"


def test_a_session_can_be_stopped_while_it_clones(agentd: Agentd, silent_server: str) -> None:
    client = agentd.client("worker", silent_server)
    name = client.session_id
    wait_until("the clone hangs", lambda: f"{name}  worker  running" in ps(agentd))
    agentd.command("stop", name).wait()
    facts = client.wait().record.facts
    assert (facts["outcome"], facts["exit_code"], facts["ended_by"]) == (
        "terminated_by_signal",
        130,
        "stop",
    )


@pytest.mark.contract("SES-28")
def test_nothing_is_left_of_sessions_that_were_stopped(agentd: Agentd) -> None:
    client = ready(agentd, ANSWERS_SIGINT)
    assert agentd.command("stop", client.session_id).wait().code == 0
    client.wait()
    assert client.session_id not in " ".join(agentd.containers())


# --- where the daemon is ---


@pytest.mark.contract("RTP-09")
def test_a_daemon_at_a_usual_place_is_found_when_asked_for(agentd: Agentd) -> None:
    shown = agentd.command("status", "--discover").wait()
    assert (shown.code, shown.stderr) == (0, f"agentd: the daemon answers at {agentd.socket}\n")
