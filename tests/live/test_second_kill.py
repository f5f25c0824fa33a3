"""A daemon that is killed while it takes up what another left: a third one settles all of it."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

import pytest

from testbed.agentd_client import HOLD, Record
from testbed.agentd_process import Agentd, Table
from testbed.processes import wait_until
from tests.conftest import LONG

pytestmark = [pytest.mark.live, pytest.mark.contract("F-36", "F-37", "DMN-15", "AUD-22")]

SECRET = "kept-s3cret-4712"
WORK = "for i in 1 2 3; do echo line $i; done; printf '%s\\n' \"$KEY\"; exit 7"
PRINTED = "line 1\nline 2\nline 3\n***\n"
EARNED = ("generic_failure", 7, None)
NEVER_STARTED = ("error", None, "never_started")
VANISHED = ("error", None, "container_vanished")
OWN_FILES = {"session.json", "output.log", "manifest.json"}

PODMAN = "agentd.podman.api:Podman"
LISTING = (
    f"{PODMAN}.containers:after",
    "agentd.session.left_behind:_open_records:after",
    "agentd.adoption:look_behind:after",
)
SECRETS = tuple(f"{PODMAN}.remove_secret:{when}" for when in ("before", "during", "after"))
TAKING_UP = (
    "agentd.audit:discard_halves:before",
    "agentd.session.report:log_adopted:after",
    "agentd.session.container:SessionContainer.look_at_adopted:after",
)
REMOVING = tuple(f"{PODMAN}.remove:{when}" for when in ("before", "during", "after"))
NOTING = (
    "os:fchmod:before",  # with a draft that has not taken its name yet
    "agentd.audit:write_next:before",
    "agentd.audit:write_next:after",
)
COLLECTING = ("agentd.session.conclusion:judge:after",)
CLOSING = (
    "agentd.session.output_log:finish:before",
    "agentd.session.output_log:finish:after",
    "agentd.audit.closing:_close:before",
    "agentd.audit.closing:seal_tree:after",
    "agentd.audit.closing:seal_top:after",
    "agentd.audit.closing:_close:after",
    "agentd.audit:close:after",
    "agentd.session.masks:forget:after",
)
FORGETTING = ("agentd.session.masks:forget:before", "agentd.session.masks:forget:after")


def product(
    everyday: Iterable[tuple[str, str]], states: dict[str, tuple[tuple[str, ...], ...]]
) -> list[Any]:
    """Each state with each of its steps as parameters, few of them for every day."""
    always = set(everyday)
    pairs = [(state, step) for state, groups in states.items() for step in chain(*groups)]
    skip = pytest.mark.skipif(not LONG, reason="too many for every day")
    return [
        pytest.param(*pair, marks=() if pair in always else skip, id="-".join(pair))
        for pair in pairs
    ]


@pytest.fixture
def agentd(own_agentd: Agentd, declare: Callable[..., Table]) -> Agentd:
    own_agentd.environ["SECOND_KEY"] = SECRET
    keyed = declare(credentials=[{"name": "KEY", "source": "SECOND_KEY"}])
    own_agentd.configure(keyed, declare("hasty", timeout="4s"))
    return own_agentd


def killed(agentd: Agentd) -> None:
    assert agentd.ended() == -signal.SIGKILL


def killed_in_a_run(agentd: Agentd, step: str, script: str) -> None:
    """The first daemon of a test, and its end."""
    agentd.start_killed_at(step)
    agentd.script(script)
    killed(agentd)


def left_running(agentd: Agentd) -> Record:
    """A session waits at `HOLD`; its secrets are still in Podman's store."""
    killed_in_a_run(agentd, f"{PODMAN}.start:after", f"{HOLD}; {WORK}")
    (record,) = agentd.session_records()
    return record


def left_ended(agentd: Agentd) -> None:
    """Its container ended while no daemon was there."""
    left_running(agentd).release()
    wait_until("the container has ended", lambda: not agentd.processes())


def left_out_of_the_records(agentd: Agentd) -> None:
    """A container that was never started and of whose session no record is left."""
    killed_in_a_run(agentd, f"{PODMAN}.start:before", WORK)
    (record,) = agentd.session_records()
    shutil.rmtree(record.directory)


def left_by(step: str) -> Callable[[Agentd], None]:
    """What a kill at this step of a session leaves."""
    return lambda agentd: killed_in_a_run(agentd, step, WORK)


LEFT: dict[str, tuple[Callable[[Agentd], object], list[tuple[object, ...]]]] = {
    "ended": (left_ended, [EARNED]),
    "judged": (left_by(f"{PODMAN}.remove:before"), [EARNED]),
    "closing": (left_by("agentd.audit.closing:_close:before"), [EARNED]),
    "half made": (left_by(f"{PODMAN}.start:before"), [NEVER_STARTED]),
    "uncreated": (left_by("agentd.session.secret_files:SecretFiles.store:after"), [VANISHED]),
    "half a record": (left_by("agentd.audit.record:_fill:after"), []),
    "no record": (left_out_of_the_records, []),
}


def ends(agentd: Agentd) -> list[tuple[object, ...]]:
    """How the records say that the sessions have ended."""
    found = [record.facts for record in agentd.session_records()]
    return [(each["outcome"], each.get("exit_code"), each.get("error_code")) for each in found]


def assert_true(agentd: Agentd, expected: list[tuple[object, ...]], printed: str) -> None:
    """Nothing is left but the records, and they say what is true."""
    assert ends(agentd) == expected
    agentd.assert_nothing_left()
    for record in agentd.session_records():
        assert {path.name for path in (record.directory / "agentd").iterdir()} == OWN_FILES
    if EARNED in expected:
        told = agentd.command("logs", record.directory.name).wait().stdout
        assert told.partition(" protocols\n")[2] == printed


@pytest.mark.parametrize(
    ("state", "step"),
    product(
        [("half made", f"{PODMAN}.remove:after")],
        {
            "ended": (LISTING, SECRETS, TAKING_UP, COLLECTING, NOTING, REMOVING, CLOSING),
            "judged": (LISTING, REMOVING, CLOSING),
            "closing": (LISTING, CLOSING),
            "half made": (LISTING, SECRETS, TAKING_UP, NOTING, REMOVING, CLOSING),
            "uncreated": (LISTING, SECRETS, CLOSING),
            "half a record": (LISTING, TAKING_UP[:1], FORGETTING),
            "no record": (LISTING, REMOVING, SECRETS, FORGETTING),
        },
    ),
)
def test_what_two_daemons_left_is_settled_by_the_third(
    agentd: Agentd, state: str, step: str, record_property: Callable[[str, object], None]
) -> None:
    leave, expected = LEFT[state]
    leave(agentd)
    agentd.spawn_killed_at(step)
    killed(agentd)
    agentd.settle()
    record_property("found", ends(agentd))
    assert_true(agentd, expected, f"ready\n{PRINTED}" if state == "ended" else PRINTED)


@pytest.mark.parametrize(
    ("state", "step"),
    product(
        [],
        {"running": (LISTING, SECRETS, TAKING_UP, ("agentd.daemon.main:claimed_socket:before",))},
    ),
)
def test_a_session_that_runs_is_taken_up_by_the_third(
    agentd: Agentd, state: str, step: str, record_property: Callable[[str, object], None]
) -> None:
    record = left_running(agentd)
    agentd.spawn_killed_at(step)
    killed(agentd)
    agentd.start()
    assert f"{record.directory.name}  worker  {state}" in agentd.command("ps").wait().stdout
    record.release()
    agentd.wait_for("runner.session_teardown", session_id=record.directory.name)
    record_property("found", ends(agentd))
    assert_true(agentd, [EARNED], f"ready\n{PRINTED}")


@pytest.mark.parametrize(
    ("state", "step"),
    product([], {"running": (COLLECTING, NOTING, REMOVING, CLOSING)}),
)
def test_a_session_that_ended_under_the_second_is_closed_by_the_third(
    agentd: Agentd, state: str, step: str, record_property: Callable[[str, object], None]
) -> None:
    record = left_running(agentd)
    agentd.start_killed_at(step)
    assert f"{record.directory.name}  worker  {state}" in agentd.command("ps").wait().stdout
    record.release()
    killed(agentd)
    agentd.settle()
    record_property("found", ends(agentd))
    assert_true(agentd, [EARNED], f"ready\n{PRINTED}")


@pytest.mark.skipif(not LONG, reason="too long for every day")
def test_a_stop_that_was_half_written_down_leaves_no_trace(agentd: Agentd) -> None:
    record = left_running(agentd)
    agentd.start_killed_at("os:fchmod:before")
    agentd.command("stop", record.directory.name)
    killed(agentd)
    agentd.start()
    record.release()
    agentd.wait_for("runner.session_teardown", session_id=record.directory.name)
    assert_true(agentd, [EARNED], f"ready\n{PRINTED}")


def test_an_end_that_was_written_down_stands_though_its_container_goes_meanwhile(
    agentd: Agentd,
) -> None:
    # As when Podman is still at the removal that the first daemon had asked for.
    killed_in_a_run(agentd, f"{PODMAN}.remove:before", WORK)
    agentd.spawn_killed_at("agentd.adoption:look_behind:paused")
    assert agentd.process is not None
    os.waitid(os.P_PID, agentd.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    agentd.podman.podman("rm", "--force", *agentd.containers())
    agentd.signal(signal.SIGCONT)
    agentd.wait_for("agentd.daemon_started")
    agentd.wait_settled()
    assert_true(agentd, [EARNED], PRINTED)


# --- why a session was ended ---------------------------------------------------------------------

HANG = "echo ready; trap '' INT; while :; do sleep 0.1; done"
BEFORE_AND_AFTER = [
    pytest.param(when, marks=pytest.mark.skipif(not LONG, reason="too many for every day"))
    for when in ("before", "during", "after")
]


def left_hanging(agentd: Agentd, agent: str = "worker") -> Record:
    """A session that no signal but SIGKILL ends; its daemon was killed."""
    agentd.start()
    client = agentd.script(HANG, agent)
    client.wait_for_line("ready")
    agentd.signal(signal.SIGKILL)
    killed(agentd)
    return client.record


@pytest.mark.contract("SES-23")
@pytest.mark.parametrize("when", BEFORE_AND_AFTER)
def test_a_timeout_is_one_though_it_outlived_two_daemons(agentd: Agentd, when: str) -> None:
    record = left_hanging(agentd, "hasty")
    agentd.spawn_killed_at(f"{PODMAN}.kill:{when}")
    killed(agentd)
    agentd.settle()
    facts = record.facts
    assert (facts["outcome"], facts["ended_by"]) == ("timed_out", "timeout")
    agentd.assert_nothing_left()


@pytest.mark.contract("DMN-25")
@pytest.mark.parametrize("when", BEFORE_AND_AFTER)
def test_a_session_that_the_second_forced_down_stays_forced(agentd: Agentd, when: str) -> None:
    record = left_hanging(agentd)
    agentd.start_killed_at(f"{PODMAN}.kill:{when}")
    agentd.signal(signal.SIGTERM)
    agentd.wait_for("agentd.shutdown_started")
    agentd.signal(signal.SIGINT)
    killed(agentd)
    agentd.settle()
    facts = record.facts
    assert (facts["error_code"], facts["ended_by"]) == ("forced_shutdown", "forced")
    agentd.assert_nothing_left()


@pytest.mark.parametrize("when", BEFORE_AND_AFTER[:2])
def test_a_stop_that_was_asked_of_the_second_is_seen_through(agentd: Agentd, when: str) -> None:
    agentd.start()
    client = agentd.script("trap 'exit 9' INT; echo ready; while :; do sleep 0.1; done")
    client.wait_for_line("ready")
    agentd.signal(signal.SIGKILL)
    killed(agentd)
    agentd.start_killed_at(f"{PODMAN}.stop:{when}")
    agentd.command("stop", client.session_id)
    killed(agentd)
    agentd.settle()
    facts = client.record.facts
    assert (facts["exit_code"], facts["ended_by"]) == (9, "stop")
    agentd.assert_nothing_left()
