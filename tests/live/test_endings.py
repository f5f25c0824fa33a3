"""Sessions that do not end by themselves, or whose container somebody else ends."""

from __future__ import annotations

import datetime
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from agentd.session.spec import TIMEOUT_MARGIN_SECONDS
from testbed.agentd_client import HOLD, Client, Ended, Record
from testbed.agentd_process import Agentd, Table
from testbed.podman_service import PodmanService
from testbed.processes import command_lines, wait_until
from testbed.slow_proxy import SlowProxy, slow_proxy
from tests.conftest import LONG

pytestmark = pytest.mark.live

TIMEOUT = 3.0
STUBBORN = "trap '' TERM INT HUP QUIT; echo ready; while :; do sleep 1000; done"
BEATING = "trap '' TERM INT; echo ready; while :; do date +%s.%N >>.runa/beats; sleep 0.05; done"


@pytest.fixture(scope="module")
def agentd(start_agentd: Callable[..., Agentd], declare: Callable[..., Table]) -> Agentd:
    return start_agentd(
        declare(),
        declare("hasty", timeout=f"{TIMEOUT:g}s"),
        declare("patient", timeout="5m"),
        declare("initless", isolation={"init": False}),
    )


@pytest.fixture(scope="module")
def timed_out(agentd: Agentd) -> Ended:
    """The end of an agent that ignores every signal it can."""
    return agentd.script(STUBBORN, "hasty").wait()


@pytest.mark.contract("CLI-22", "SES-23", "SES-38")
def test_a_timeout_exits_124_and_says_so(timed_out: Ended) -> None:
    assert (timed_out.code, timed_out.stderr.splitlines()[-1]) == (124, "session timed out")


@pytest.mark.contract("AUD-12", "SES-23", "SES-38")
def test_the_record_of_a_timeout_has_no_exit_code(timed_out: Ended) -> None:
    facts = timed_out.record.facts
    shown = (facts["outcome"], facts["ended_by"], "exit_code" in facts, "error" in facts)
    assert shown == ("timed_out", "timeout", False, False)


@pytest.mark.contract("SES-25", "F-06")
def test_a_timeout_takes_effect_within_a_second(timed_out: Ended) -> None:
    duration = timed_out.record.facts["duration_seconds"]
    assert TIMEOUT <= duration < TIMEOUT + 1


@pytest.mark.contract("SES-28")
def test_nothing_is_left_after_a_timeout(agentd: Agentd, timed_out: Ended) -> None:
    assert timed_out.code == 124
    agentd.assert_nothing_left()


@pytest.mark.contract("SES-23")
def test_what_was_written_before_a_timeout_is_kept(timed_out: Ended) -> None:
    log = timed_out.record.directory / "agentd/output.log"
    assert ("ready\n" in timed_out.stdout, b"ready\n" in log.read_bytes()) == (True, True)


@pytest.mark.contract("SES-24")
def test_a_session_that_ends_in_time_is_not_timed_out(agentd: Agentd) -> None:
    assert agentd.script("exit 23", "patient").wait().code == 23


def test_the_record_says_when_time_would_be_up(agentd: Agentd) -> None:
    facts = agentd.script("exit 0", "patient").wait().record.facts
    assert facts["start_timestamp"] < facts["deadline"]


def test_a_container_that_somebody_removes_is_never_a_success(
    agentd: Agentd, podman: PodmanService
) -> None:
    client = agentd.script(HOLD)
    client.wait_for_line("ready")
    podman.podman("rm", "--force", "--time", "0", *agentd.containers())
    client.wait()
    facts = client.record.facts
    # Podman kills before it removes: the daemon may see the one or only the other.
    end = (facts["outcome"], facts.get("exit_code"), facts.get("error_code"))
    assert end in {
        ("error", None, "container_vanished"),
        ("terminated_by_signal", 137, None),
    }


def test_a_container_that_somebody_kills_is_an_end_by_signal(
    agentd: Agentd, podman: PodmanService
) -> None:
    client = agentd.script(HOLD)
    client.wait_for_line("ready")
    podman.podman("kill", "--signal", "KILL", *agentd.containers())
    assert client.wait().code == 137


# --- an agent that hides -------------------------------------------------------------------------


@pytest.mark.contract("SES-23", "SES-28")
@pytest.mark.parametrize("agent", ["worker", "initless"])
def test_an_agent_that_closes_its_output_lives_on(agentd: Agentd, agent: str) -> None:
    """Without an init process nobody else holds it open either: its end is not the session's."""
    client = agentd.script(f"exec >&- 2>&-; {HOLD} 2>.runa/closed; exit 23", agent)
    client.record.release()
    assert client.wait().code == 23


@pytest.mark.contract("SES-28")
def test_a_process_that_left_its_agent_ends_with_the_session(agentd: Agentd) -> None:
    """It has another session and parent, no terminal, and closed its descriptors."""
    spirit = "98765.4321"
    leave = f"(setsid sleep {spirit} <&- >&- 2>&- &)"
    client = agentd.script(f"{leave}; {HOLD}; exit 7")
    client.wait_for_line("ready")
    wait_until("it haunts", lambda: any(spirit in line for line in sleepers()))
    client.record.release()
    assert client.wait().code == 7
    assert not [line for line in sleepers() if spirit in line]


def sleepers() -> list[str]:
    return [line for line in command_lines() if line.startswith("sleep\0")]


# --- a Podman that is late -----------------------------------------------------------------------


@dataclass(frozen=True)
class Late:
    """The end of a session by its time-out, when Podman was late."""

    ended: Ended
    last_beat: float
    """When the agent was last seen alive, by its own word; seconds since the epoch."""

    @property
    def deadline(self) -> float:
        text: str = self.ended.record.facts["deadline"]
        return datetime.datetime.fromisoformat(text).timestamp()


def last_beat(record: Record) -> float:
    *_, last, _torn = record.read("beats").split("\n")
    return float(last)


@pytest.fixture
def proxy(podman: PodmanService) -> Iterator[SlowProxy]:
    with slow_proxy(podman.socket) as proxy:
        yield proxy


@pytest.mark.contract("SES-23", "SES-25", "F-06", "F-34")
def test_a_timeout_is_on_time_though_podman_answers_late(
    own_agentd: Agentd, declare: Callable[..., Table], proxy: SlowProxy
) -> None:
    own_agentd.configure(declare(timeout=f"{TIMEOUT:g}s"), podman_socket=str(proxy.path))
    own_agentd.start()
    client = own_agentd.script(BEATING)
    client.wait_for_line("ready")
    proxy.delay_seconds = 1.2
    late = Late(client.wait(), last_beat(client.record))
    assert late.ended.code == 124, late.ended
    assert late.last_beat < late.deadline + 1
    own_agentd.assert_nothing_left()


def outliving(
    agentd: Agentd, table: Table, service: PodmanService, wait: Callable[[Client], None]
) -> Client:
    """The client of a session whose deadline passes while the service stands still."""
    agentd.configure(table, podman_socket=str(service.socket), shutdown_grace="1s")
    agentd.start()
    client = agentd.script(BEATING)
    client.wait_for_line("ready")
    service.signal(signal.SIGSTOP)
    wait(client)
    service.signal(signal.SIGCONT)
    return client


@pytest.mark.contract("SES-23", "SES-25", "F-34")
def test_a_timeout_takes_effect_as_soon_as_a_stopped_podman_goes_on(
    own_agentd: Agentd, declare: Callable[..., Table], second_podman: PodmanService
) -> None:
    """agentd ends containers through Podman alone, so nothing happens before."""

    def intend(client: Client) -> None:
        intent = client.record.directory / "agentd/intent.json"
        wait_until("the daemon is about to kill", intent.exists)

    table = declare(timeout=f"{TIMEOUT:g}s")
    client = outliving(own_agentd, table, second_podman, intend)
    resumed = time.time()
    late = Late(client.wait(), last_beat(client.record))
    assert late.ended.code == 124, late.ended
    assert late.last_beat < resumed + 1
    own_agentd.assert_nothing_left()


@pytest.mark.skipif(not LONG, reason="takes more than a minute")
@pytest.mark.timeout(200)
@pytest.mark.contract("SES-23", "SES-29", "F-34", "F-36")
def test_the_monitor_ends_a_session_that_nobody_else_can_end(
    own_agentd: Agentd, declare: Callable[..., Table], second_podman: PodmanService
) -> None:
    """A minute after deadline and grace. Its container and an incomplete record are left."""

    def die(client: Client) -> None:
        client.process.wait(200)

    client = outliving(own_agentd, declare(timeout=f"{TIMEOUT:g}s"), second_podman, die)
    beat = last_beat(client.record)
    late = Late(client.wait(), beat)
    assert late.ended.code == 6, late.ended
    assert late.last_beat < late.deadline + 1 + TIMEOUT_MARGIN_SECONDS + 1
    known = json.loads((client.record.directory / "agentd/session.json.next").read_bytes())
    assert (known["outcome"], "outcome" in client.record.facts) == ("timed_out", False)
    second_podman.podman("rm", "--force", "--time", "0", *own_agentd.containers())


# --- a monitor that is killed --------------------------------------------------------------------


@pytest.mark.skipif(not LONG, reason="Podman 4.3 takes 20 s to say that nobody saw the end")
@pytest.mark.contract("SES-37", "SES-28", "F-08")
def test_a_session_whose_monitor_is_killed_is_an_error_and_leaves_nothing(
    agentd: Agentd, podman: PodmanService
) -> None:
    """Its agent ends soon after, because nobody reads its output; with what code, nobody knows."""
    client = agentd.script("echo ready; while echo tick; do sleep 0.1; done")
    client.wait_for_line("ready")
    (container,) = (name for name in agentd.containers() if name.endswith(client.session_id))
    monitor = podman.podman("inspect", "--format", "{{.State.ConmonPid}}", container)
    os.kill(int(monitor), signal.SIGKILL)
    ended = client.wait()
    facts = ended.record.facts
    shown = (ended.code, facts["outcome"], facts["error_code"], "exit_code" in facts)
    assert shown == (6, "error", "exit_code_lost", False)
    agentd.assert_nothing_left()


# --- a record that cannot be sealed --------------------------------------------------------------


@pytest.fixture
def unsealable(own_agentd: Agentd, declare: Callable[..., Table]) -> Client:
    """The client of a session that ended with a name of a file outside in its record."""
    own_agentd.configure(declare())
    own_agentd.start()
    client = own_agentd.script(HOLD)
    client.wait_for_line("ready")
    outside = own_agentd.base / "outside"
    outside.write_text("not the session's\n")
    outside.chmod(0o640)
    (client.record.runa / "planted").hardlink_to(outside)
    client.record.release()
    client.wait()
    return client


@pytest.mark.contract("SES-31", "AUD-22")
def test_a_record_that_cannot_be_sealed_costs_no_outcome(unsealable: Client) -> None:
    ended = unsealable.wait()
    assert (ended.code, ended.stdout.splitlines()[-1]) == (0, "session success")


@pytest.mark.contract("AUD-19", "AUD-23")
def test_a_record_that_cannot_be_sealed_is_in_the_log(
    own_agentd: Agentd, unsealable: Client
) -> None:
    failure = own_agentd.wait_for("runner.lifecycle_failure", session_id=unsealable.session_id)
    shown = (failure["stage"], "multi-linked audit entry 'runa/planted'" in failure["error"])
    assert shown == ("session audit finalization", True)


@pytest.mark.contract("AUD-20", "AUD-21", "AUD-22", "AUD-24")
def test_a_record_that_cannot_be_sealed_stays_incomplete(unsealable: Client) -> None:
    record = unsealable.record
    ends = {"outcome", "end_timestamp", "exit_code"} & set(record.facts)
    assert (ends, record.runa.stat().st_mode & 0o777) == (set(), 0o700)


@pytest.mark.contract("AUD-19", "F-16")
def test_a_file_outside_the_record_keeps_its_mode(own_agentd: Agentd, unsealable: Client) -> None:
    assert unsealable.wait().code == 0
    assert (own_agentd.base / "outside").stat().st_mode & 0o777 == 0o640
