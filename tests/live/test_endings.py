"""Sessions that do not end by themselves, or whose container somebody else ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from testbed.agentd_client import HOLD, Client, Ended
from testbed.agentd_process import Agentd, Table
from testbed.podman_service import PodmanService

pytestmark = pytest.mark.live

TIMEOUT = 3.0
STUBBORN = "trap '' TERM INT HUP QUIT; echo ready; while :; do sleep 1000; done"


@pytest.fixture(scope="module")
def agentd(start_agentd: Callable[..., Agentd], declare: Callable[..., Table]) -> Agentd:
    return start_agentd(declare(), declare("hasty", timeout=f"{TIMEOUT:g}s"))


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
    assert agentd.script("exit 23", "hasty").wait().code == 23


def test_the_record_says_when_time_would_be_up(agentd: Agentd) -> None:
    facts = agentd.script("exit 0", "hasty").wait().record.facts
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
