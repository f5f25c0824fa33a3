"""A daemon that is killed at any step of a session: the next one brings it to one true record."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agentd import cri
from testbed.agentd_client import HOLD, SESSION, Client
from testbed.agentd_process import Agentd, Table, agentd_process
from testbed.podman_service import PodmanService
from tests.conftest import LONG

pytestmark = pytest.mark.live

SECRET = "kept-s3cret-4711"
WORK = "for i in 1 2 3; do echo line $i; done; printf '%s\\n' \"$KEY\"; exit 7"
EXPECTED = "line 1\nline 2\nline 3\n***\n"


def steps(always: tuple[str, ...], long: tuple[str, ...]) -> list[Any]:
    """Steps as parameters, the second ones only when there is time."""
    skip = pytest.mark.skipif(not LONG, reason="the other steps are enough for every day")
    return [pytest.param(step) for step in always] + [
        pytest.param(step, marks=skip) for step in long
    ]


# Steps before the agent runs: it is never started, or nobody can say that it was.
EARLY = steps(
    (
        "agentd.session.masks:keep:after",
        "agentd.podman.api:Podman.create:during",
        "agentd.podman.api:Podman.start:before",
    ),
    (
        "agentd.audit:create:before",
        "agentd.audit.record:_fill:after",
        "agentd.session.secret_files:SecretFiles.store:after",
        "agentd.session.secret_files:SecretFiles.store:before",
        "agentd.podman.api:Podman.create_secret:during",
        "agentd.podman.api:Podman.create:before",
        "agentd.podman.api:Podman.create:after",
        "agentd.podman.api:Podman.has_path:after",
    ),
)
# Steps after that: the session has the end that it earned.
LATE = steps(
    (
        "agentd.podman.api:Podman.start:after",
        "agentd.audit:write_next:after",
        "agentd.podman.api:Podman.remove:during",
        "agentd.session.output_log:finish:after",
        "agentd.audit:close:after",
    ),
    (
        "agentd.session.secret_files:SecretFiles.release:before",
        "agentd.session.secret_files:SecretFiles.release:after",
        "agentd.podman.api:Podman.remove_secret:during",
        "agentd.session.container:SessionContainer.wait_ended:after",
        "agentd.audit:write_next:before",
        "agentd.podman.api:Podman.remove:before",
        "agentd.podman.api:Podman.remove:after",
        "agentd.session.output_log:finish:before",
        "agentd.audit.closing:_close:before",
        "agentd.audit.closing:_close:after",
        "agentd.session.masks:forget:before",
    ),
)


@pytest.fixture
def agentd(own_agentd: Agentd, declare: Callable[..., Table]) -> Agentd:
    own_agentd.environ["ADOPTION_KEY"] = SECRET
    keyed = declare(credentials=[{"name": "KEY", "source": "ADOPTION_KEY"}])
    hasty = declare("hasty", timeout="4s")
    own_agentd.configure(keyed, hasty)
    return own_agentd


def killed_at(agentd: Agentd, step: str) -> None:
    """Run a session in a daemon that is killed at this step."""
    agentd.start_killed_at(step)
    agentd.script(WORK)
    assert agentd.ended() == -signal.SIGKILL


@pytest.mark.contract("F-36", "DMN-15", "AUD-22", "F-01")
@pytest.mark.parametrize("step", EARLY)
def test_a_session_that_never_ran_is_an_error_or_nothing(
    agentd: Agentd, step: str, record_property: Callable[[str, object], None]
) -> None:
    killed_at(agentd, step)
    agentd.settle()
    found = [record.facts.get("error_code") for record in agentd.session_records()]
    record_property("found", found)
    assert found in ([], ["never_started"], ["container_vanished"])
    agentd.assert_nothing_left()


@pytest.mark.contract("F-36", "DMN-15", "AUD-22", "F-01")
@pytest.mark.parametrize("step", LATE)
def test_a_session_that_ran_has_the_end_that_it_earned(
    agentd: Agentd, step: str, record_property: Callable[[str, object], None]
) -> None:
    killed_at(agentd, step)
    agentd.settle()
    (record,) = agentd.session_records()
    facts = record.facts
    shown = (facts["outcome"], facts["exit_code"], facts["output"]["masked"])
    record_property("found", shown)
    assert shown == ("generic_failure", 7, "masked")
    agentd.assert_nothing_left()
    told = agentd.command("logs", record.directory.name).wait().stdout
    assert told.partition(" protocols\n")[2] == EXPECTED


@pytest.mark.contract("F-36", "DMN-15", "AUD-22")
def test_a_session_whose_start_was_under_way_ran_or_never_did(
    agentd: Agentd, record_property: Callable[[str, object], None]
) -> None:
    killed_at(agentd, "agentd.podman.api:Podman.start:during")
    agentd.settle()
    (record,) = agentd.session_records()
    facts = record.facts
    shown = (facts.get("exit_code"), facts.get("error_code"))
    record_property("found", shown)
    assert shown in ((7, None), (None, "never_started"))
    assert bool(facts["output"]["bytes"]) == (shown[0] == 7)
    agentd.assert_nothing_left()


# --- a daemon that is at fault -------------------------------------------------------------------


@pytest.mark.contract("DMN-33")
def test_a_bug_costs_its_session_and_no_other(agentd: Agentd) -> None:
    agentd.start_killed_at("agentd.session.container:SessionContainer.wait_ended:raising")
    ended = agentd.script("sleep 1000").wait()
    assert (ended.code, ended.record.facts["error_code"]) == (1, "internal_error")
    agentd.assert_nothing_left()


@pytest.mark.contract("DMN-33", "F-36")
def test_a_daemon_that_fails_leaves_its_sessions_to_the_next_one(agentd: Agentd) -> None:
    agentd.start()
    client = agentd.script(f"{HOLD}; {WORK}")
    client.wait_for_line("ready")
    agentd.signal(signal.SIGKILL)
    agentd.ended()
    agentd.spawn_killed_at("agentd.daemon.main:claimed_socket:raising")
    assert agentd.ended() == 1
    agentd.start()
    assert f"{client.session_id}  worker  running" in agentd.command("ps").wait().stdout
    client.record.release()
    agentd.wait_for("runner.session_teardown", session_id=client.session_id)
    assert client.record.facts["exit_code"] == 7
    agentd.assert_nothing_left()


# --- sessions that run on ------------------------------------------------------------------------


@pytest.fixture(params=["killed", "handed over"])
def restarted(request: pytest.FixtureRequest, agentd: Agentd) -> Callable[[], None]:
    """Ends the daemon without its sessions, and starts the next one."""

    def restart() -> None:
        handed_over = request.param == "handed over"
        agentd.signal(signal.SIGUSR1 if handed_over else signal.SIGKILL)
        assert agentd.ended() == (0 if handed_over else -signal.SIGKILL)
        agentd.start()

    return restart


@pytest.fixture
def held(agentd: Agentd, restarted: Callable[[], None]) -> Client:
    """The client of a session whose daemon was exchanged while it ran."""
    agentd.start()
    client = agentd.script(f"echo before; {HOLD}; echo after; printf '%s\\n' \"$KEY\"; exit 7")
    client.wait_for_line("ready")
    restarted()
    return client


@pytest.mark.contract("F-36", "DMN-18")
def test_a_session_that_runs_is_taken_up(agentd: Agentd, held: Client) -> None:
    assert f"{held.session_id}  worker  running" in agentd.command("ps").wait().stdout
    following = agentd.command("logs", "-f", held.session_id)
    following.wait_for_line("ready")
    held.record.release()
    assert following.wait().stdout.endswith("before\nready\nafter\n***\n")
    agentd.wait_for("runner.session_teardown", session_id=held.session_id)
    facts = held.record.facts
    assert (facts["outcome"], facts["exit_code"], facts.get("ended_by")) == (
        "generic_failure",
        7,
        None,
    )
    agentd.assert_nothing_left()


@pytest.mark.contract("F-54")
def test_the_client_hears_that_its_session_goes_on(held: Client) -> None:
    ended = held.wait()
    assert ended.code == 6
    assert "session" in ended.stderr.splitlines()[-1]
    held.record.release()


@pytest.mark.skipif(not LONG, reason="the two ways to be exchanged are enough for every day")
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_daemon_that_is_killed_while_it_hands_over_loses_nothing(
    agentd: Agentd, when: str
) -> None:
    agentd.start_killed_at(f"agentd.supervisor:Supervisor.leave:{when}")
    client = agentd.script(f"{HOLD}; exit 7")
    client.wait_for_line("ready")
    agentd.signal(signal.SIGUSR1)
    assert agentd.ended() == -signal.SIGKILL
    agentd.start()
    client.record.release()
    agentd.wait_for("runner.session_teardown", session_id=client.session_id)
    assert client.record.facts["exit_code"] == 7
    agentd.assert_nothing_left()


def test_a_client_may_ask_for_the_hand_over(agentd: Agentd) -> None:
    agentd.start()
    client = agentd.script(HOLD)
    client.wait_for_line("ready")
    asked = agentd.command("shutdown", "--leave").wait()
    assert (asked.code, agentd.ended(), client.wait().code) == (0, 0, 6)
    agentd.start()
    client.record.release()
    agentd.wait_for("runner.session_teardown", session_id=client.session_id)
    assert client.record.facts["outcome"] == "success"


def test_an_adopted_session_can_be_stopped(agentd: Agentd, held: Client) -> None:
    assert agentd.command("stop", held.session_id).wait().code == 0
    facts = held.record.facts
    assert (facts["outcome"], facts["ended_by"]) == ("terminated_by_signal", "stop")


@pytest.mark.contract("SES-23")
def test_an_adopted_session_keeps_its_deadline(
    agentd: Agentd, restarted: Callable[[], None]
) -> None:
    agentd.start()
    client = agentd.script("echo ready; sleep 1000", "hasty")
    client.wait_for_line("ready")
    restarted()
    adopted = agentd.wait_for("runner.session_adopted", session_id=client.session_id)
    agentd.wait_for("runner.session_teardown", session_id=client.session_id)
    facts = client.record.facts
    assert (facts["outcome"], facts["ended_by"]) == ("timed_out", "timeout")
    anew = datetime.fromisoformat(adopted["timestamp"]) + timedelta(seconds=4)
    assert facts["deadline"] <= facts["end_timestamp"]
    assert datetime.fromisoformat(facts["end_timestamp"]) < anew


def test_output_of_which_the_values_to_mask_are_lost_is_withheld(agentd: Agentd) -> None:
    agentd.start()
    client = agentd.script(f"printf '%s\\n' \"$KEY\"; {HOLD}; exit 7")
    client.wait_for_line("ready")
    agentd.signal(signal.SIGKILL)
    agentd.ended()
    for kept in agentd.masks():
        kept.unlink()
    agentd.start()
    refused = agentd.command("logs", client.session_id).wait()
    client.record.release()
    agentd.wait_for("runner.session_teardown", session_id=client.session_id)
    assert (refused.code, refused.stdout) == (6, "")
    facts = client.record.facts
    assert (facts["exit_code"], facts["output"]["masked"]) == (7, "withheld")
    assert not (client.record.directory / "agentd/output.log").exists()


@pytest.mark.contract("DMN-11", "DMN-12", "DMN-18")
def test_a_session_whose_record_is_out_of_sight_is_not_killed(agentd: Agentd) -> None:
    agentd.start()
    client = agentd.script(HOLD)
    client.wait_for_line("ready")
    agentd.signal(signal.SIGKILL)
    agentd.ended()
    aside = agentd.audit_root.rename(agentd.base / "unmounted")
    code, told = agentd.refusal()
    assert (code, "mount the audit root" in told) == (6, True)
    shutil.rmtree(agentd.audit_root)
    aside.rename(agentd.audit_root)
    agentd.start()
    client.record.release()
    agentd.wait_for("runner.session_teardown", session_id=client.session_id)
    assert client.record.facts["outcome"] == "success"


# --- ends that a daemon brought about and did not see --------------------------------------------

HANG = "echo ready; trap '' INT; while :; do sleep 0.1; done"


@pytest.mark.contract("SES-23", "AUD-22")
@pytest.mark.parametrize(
    "step",
    steps(
        ("agentd.podman.api:Podman.kill:before",),
        (
            "agentd.audit:write_intent:before",
            "agentd.audit:write_intent:after",
            "agentd.podman.api:Podman.kill:during",
            "agentd.podman.api:Podman.kill:after",
        ),
    ),
)
def test_a_timeout_that_a_daemon_did_not_see_through_is_one(agentd: Agentd, step: str) -> None:
    agentd.start_killed_at(step)
    client = agentd.script(HANG, "hasty")
    assert agentd.ended() == -signal.SIGKILL
    agentd.settle()
    facts = client.record.facts
    assert (facts["outcome"], facts["ended_by"]) == ("timed_out", "timeout")
    agentd.assert_nothing_left()


@pytest.mark.parametrize("step", ["before", "during"])
def test_a_stop_that_a_daemon_did_not_see_through_is_one(agentd: Agentd, step: str) -> None:
    agentd.start_killed_at(f"agentd.podman.api:Podman.stop:{step}")
    client = agentd.script("trap 'exit 9' INT; echo ready; while :; do sleep 0.1; done")
    client.wait_for_line("ready")
    agentd.command("stop", client.session_id)
    assert agentd.ended() == -signal.SIGKILL
    agentd.settle()
    facts = client.record.facts
    assert (facts["exit_code"], facts["ended_by"]) == (9, "stop")
    agentd.assert_nothing_left()


@pytest.mark.contract("DMN-25")
@pytest.mark.parametrize("step", steps(("before",), ("during", "after")))
def test_a_session_that_was_to_be_forced_down_is_killed(agentd: Agentd, step: str) -> None:
    agentd.start_killed_at(f"agentd.podman.api:Podman.kill:{step}")
    client = agentd.script(HANG)
    client.wait_for_line("ready")
    agentd.signal(signal.SIGTERM)
    agentd.wait_for("agentd.shutdown_started")
    agentd.signal(signal.SIGINT)
    assert agentd.ended() == -signal.SIGKILL
    agentd.settle()
    facts = client.record.facts
    assert (facts["error_code"], facts["ended_by"]) == ("forced_shutdown", "forced")
    agentd.assert_nothing_left()


@pytest.mark.contract("DMN-14", "F-38")
def test_what_belongs_to_another_daemon_is_left_alone(
    agentd: Agentd, podman: PodmanService, declare: Callable[..., Table], tmp_path: Path
) -> None:
    with agentd_process(podman, tmp_path / "other") as other:
        other.configure(declare())
        other.start()
        client = other.script(HOLD)
        client.wait_for_line("ready")
        agentd.start()
        assert len(other.containers()) == 1
        client.record.release()
        assert client.wait().code == 0


@pytest.mark.contract("DMN-14", "DMN-16", "F-38")
def test_what_a_killed_daemon_with_other_paths_left_is_left_to_its_own_successor(
    agentd: Agentd, podman: PodmanService, declare: Callable[..., Table], tmp_path: Path
) -> None:
    """They share an audit root: only the socket and the PID file tell whose a session is."""
    with agentd_process(podman, tmp_path / "other") as other:
        other.environ["ADOPTION_KEY"] = SECRET
        keyed = declare(credentials=[{"name": "KEY", "source": "ADOPTION_KEY"}])
        other.configure(keyed, audit_root=str(agentd.audit_root))
        # It dies before it has let the secrets go, so that container, secrets and record are left.
        other.start_killed_at("agentd.session.secret_files:SecretFiles.release:before")
        other.script(HOLD)
        assert other.ended() == -signal.SIGKILL
        (record,) = other.session_records()
        left = (other.containers(), other.secrets(), other.masks(), record.facts)
        agentd.start()
        agentd.drained()
        seen = (other.containers(), other.secrets(), other.masks(), record.facts)
        assert (seen, [len(each) for each in left[:3]]) == (left, [1, 1, 1])
        other.start()
        other.wait_for("runner.session_adopted")
        record.release()
        other.wait_for("agentd.run_completed", outcome="success")


# --- kills at random, under load -----------------------------------------------------------------

SECONDS_OF_KILLS = 120.0
WORKERS = 4


@pytest.mark.skipif(not LONG, reason="two minutes of kills")
@pytest.mark.timeout(400)
@pytest.mark.contract("F-36", "F-37", "AUD-22")
def test_random_kills_under_load_lose_nothing(
    agentd: Agentd, record_property: Callable[[str, object], None]
) -> None:
    chance = random.Random(4711)
    end = time.monotonic() + SECONDS_OF_KILLS
    number = kills = 0
    clients = []
    while time.monotonic() < end:
        agentd.start()
        for _ in range(WORKERS):
            number += 1
            code = number % 100 + 1
            lines = f"for i in $(seq {code}); do echo line $i of {number}; done"
            clients.append(agentd.script(f"{lines}; printf '%s\\n' \"$KEY\"; exit {code}"))
        # Not an event that could be waited for: the moment is to be any.
        time.sleep(chance.uniform(0.0, 2.5))
        agentd.signal(signal.SIGKILL)
        assert agentd.ended() == -signal.SIGKILL
        kills += 1
    agentd.settle()
    agentd.assert_nothing_left()
    found = agentd.session_records()
    heard = [client.wait() for client in clients]
    promised = {ended.session_id for ended in heard if SESSION.search(ended.stderr)}
    assert promised <= {record.directory.name for record in found}
    for record in found:
        facts = record.facts
        if facts["outcome"] == "error":
            assert facts["error_code"] in {"never_started", "container_vanished"}, facts
            assert facts["output"]["bytes"] == 0, facts
            continue
        code = int(facts["work_unit"].rpartition(" ")[2])
        number = facts["work_unit"].partition(" of ")[2].partition(";")[0]
        assert facts["exit_code"] == code, facts
        entries = cri.Parser().feed((record.directory / "agentd/output.log").read_bytes())
        told = b"".join(each.data for each in entries if each.stream == "stdout").decode()
        said = "".join(f"line {i} of {number}\n" for i in range(1, code + 1))
        assert told.partition(" protocols\n")[2] == f"{said}***\n", facts
    earned = sum(record.facts["outcome"] != "error" for record in found)
    record_property("found", f"{kills=} runs={kills * WORKERS} records={len(found)} {earned=}")
    assert earned > len(found) / 2
