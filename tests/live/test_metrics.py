"""`agentd metrics` of a daemon that has run sessions on real Podman."""

from __future__ import annotations

import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from testbed.agentd_client import HOLD, Ended
from testbed.agentd_process import Agentd, Table
from testbed.metrics_text import counted, older_families
from testbed.podman_service import PodmanService
from testbed.processes import wait_until
from tests.conftest import LONG

pytestmark = pytest.mark.live


def text(agentd: Agentd) -> str:
    told = agentd.command("metrics").wait()
    assert (told.code, told.stderr) == (0, "")
    return told.stdout


@pytest.fixture(scope="module")
def agentd(start_agentd: Callable[..., Agentd], declare: Callable[..., Table]) -> Agentd:
    return start_agentd(declare(), declare("other", schedule="@yearly"), max_sessions=2)


@pytest.fixture(scope="module")
def ended(agentd: Agentd) -> list[Ended]:
    """Sessions that have ended in several ways; two live at the same time."""
    scripts = [("echo out; echo err >&2", "worker"), ("exit 5", "worker"), ("kill -9 $$", "other")]
    return [client.wait() for client in [agentd.script(*script) for script in scripts]]


@pytest.fixture(scope="module")
def refused(agentd: Agentd) -> list[int]:
    asked = (("run", "nobody"), ("run", "other", "no://url"))
    return [agentd.command(*words).wait().code for words in asked]


@pytest.fixture(scope="module")
def after(agentd: Agentd, ended: list[Ended], refused: list[int]) -> str:
    return text(agentd)


def test_each_session_counts_with_the_outcome_of_its_record(after: str, ended: list[Ended]) -> None:
    assert [each.record.facts["outcome"] for each in ended] == [
        *("success", "work_failed", "terminated_by_signal")
    ]
    assert counted(after, "agentd_sessions_total", "agent", "outcome") == {
        ("worker", "success"): 1,
        ("worker", "work_failed"): 1,
        ("other", "terminated_by_signal"): 1,
    }


def test_durations_and_output_add_up_to_what_the_records_say(
    after: str, ended: list[Ended]
) -> None:
    facts = [each.record.facts for each in ended]
    seconds: dict[tuple[str, ...], float] = {}
    size: dict[tuple[str, ...], float] = {}
    for each in facts:
        agent = (each["agent"],)
        seconds[agent] = seconds.get(agent, 0) + each["duration_seconds"]
        size[agent] = size.get(agent, 0) + each["output"]["bytes"]
    told = counted(after, "agentd_session_duration_seconds_sum", "agent")
    assert told == pytest.approx(seconds)
    assert counted(after, "agentd_output_bytes_total", "agent") == size


def test_refused_runs_count_by_their_errors(after: str, refused: list[int]) -> None:
    assert refused == [2, 2]
    assert counted(after, "agentd_runs_refused_total", "agent", "error_code") == {
        ("", "unknown_agent"): 1,
        ("other", "repository_refused"): 1,
    }


def test_calls_of_podman_count_by_their_kinds_and_none_has_failed(after: str) -> None:
    """Also not those that end a container which has ended already."""
    calls = counted(after, "agentd_podman_call_duration_seconds_count", "call")
    assert {
        ("POST /containers/create",): 3,
        ("POST /containers/*/start",): 3,
        ("DELETE /containers/*",): 3,
    }.items() <= calls.items()
    assert counted(after, "agentd_podman_errors_total") == {}


def test_what_lives_and_what_waits_is_told_until_it_has_ended(
    agentd: Agentd, ended: list[Ended]
) -> None:
    held = [agentd.script(HOLD) for _ in range(2)]
    for client in held:
        client.wait_for_line("ready")
    waiting = agentd.script("exit 0", "other")
    waiting.stderr.wait_for("position", lambda line: "in the queue" in line)
    during = text(agentd)
    for client in held:
        client.record.release()
    for client in (*held, waiting):
        assert client.wait().code == 0
    later = text(agentd)
    told = [
        (counted(each, "agentd_live_sessions", "agent"), counted(each, "agentd_queued_runs"))
        for each in (during, later)
    ]
    assert told == [({("worker",): 2}, {(): 1}), ({}, {})]


def test_a_file_for_node_exporter_is_written_whole_and_readable(
    agentd: Agentd, tmp_path: Path
) -> None:
    path = tmp_path / "agentd.prom"
    done = agentd.command("metrics", "--format", "prometheus", "--output", str(path)).wait()
    assert (done.code, done.stdout, [each.name for each in tmp_path.iterdir()]) == (
        *(0, ""),
        ["agentd.prom"],
    )
    assert "agentd_sessions" in {family.name for family in older_families(path.read_text())}
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


# --- trouble -------------------------------------------------------------------------------------


def test_a_podman_that_is_away_counts_as_an_error(
    own_agentd: Agentd, declare: Callable[..., Table], second_podman: PodmanService
) -> None:
    own_agentd.configure(declare(), podman_socket=str(second_podman.socket))
    own_agentd.start()
    before = counted(text(own_agentd), "agentd_podman_errors_total", "error_code")
    second_podman.stop()
    assert own_agentd.command("status").wait().code == 6
    after = counted(text(own_agentd), "agentd_podman_errors_total", "error_code")
    assert (before, set(after)) == ({}, {("podman_unreachable",)})


@pytest.mark.contract("DMN-18")
def test_an_adopted_session_counts_once_when_it_ends(
    own_agentd: Agentd, declare: Callable[..., Table]
) -> None:
    own_agentd.configure(declare())
    own_agentd.start()
    client = own_agentd.script(f"{HOLD}; exit 4")
    client.wait_for_line("ready")
    own_agentd.signal(signal.SIGKILL)
    own_agentd.ended()
    own_agentd.start()
    adopted = text(own_agentd)
    client.record.release()
    own_agentd.wait_for("agentd.run_completed", session_id=client.session_id)
    later = text(own_agentd)
    name = "agentd_sessions_total"
    assert counted(adopted, "agentd_live_sessions") == {(): 1}
    assert counted(adopted, name) == {}
    assert counted(later, name, "outcome") == {("nothing_ready",): 1}
    assert counted(later, "agentd_live_sessions") == {}
    assert list(counted(later, "agentd_session_duration_seconds_sum").values()) == [
        client.record.facts["duration_seconds"]
    ]


@pytest.mark.skipif(not LONG, reason="takes up to a minute: the shortest schedule there is")
@pytest.mark.contract("SCH-01")
def test_a_fire_of_a_schedule_is_counted(own_agentd: Agentd, declare: Callable[..., Table]) -> None:
    own_agentd.configure(declare(schedule="* * * * *"))
    own_agentd.start()
    wait_until("the schedule has begun a session", lambda: bool(own_agentd.records()), 90)
    own_agentd.wait_for("agentd.run_completed", trigger="schedule")
    told = counted(text(own_agentd), "agentd_schedule_fires_total", "agent", "disposition")
    assert told[("worker", "started")] >= 1
