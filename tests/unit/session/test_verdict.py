"""What a session's end is called, from the container's state and agentd's own deeds."""

from __future__ import annotations

import datetime

import pytest

from agentd import errors
from agentd.audit import Intent
from agentd.outcome import TIMED_OUT, from_exit_code
from agentd.podman import ContainerState
from agentd.session.verdict import Ended, judge
from tests.unit.builders import NOON, never_started, state


def after(seconds: float) -> datetime.datetime:
    return NOON + datetime.timedelta(seconds=seconds)


def timeout(at: float) -> Intent:
    return Intent("timeout", after(at))


def stop(at: float) -> Intent:
    return Intent("stop", after(at))


def forced(at: float) -> Intent:
    return Intent("forced", after(at))


KILLED = state("exited", 137, ended=10.5)
REBOOTED_V4 = state("created")
REBOOTED_V5 = state("exited")
YEAR_ONE = datetime.datetime(1, 1, 1, tzinfo=datetime.UTC)


@pytest.mark.contract("SES-32", "SES-34", "SES-36")
@pytest.mark.parametrize("status", ["exited", "stopped"])
@pytest.mark.parametrize("code", [0, 3, 23, 125, 126, 137, 255])
def test_a_container_that_ended_by_itself_has_the_end_it_earned(status: str, code: int) -> None:
    assert judge(state(status, code, ended=5), None, None).result == from_exit_code(code)


@pytest.mark.contract("SES-23", "F-07")
@pytest.mark.parametrize(
    "last",
    [KILLED, state("running"), state("stopping"), None, REBOOTED_V5, state("exited", -1, ended=11)],
    ids=["killed", "runs on", "stopping", "vanished", "rebooted", "code lost"],
)
def test_what_agentd_ended_at_the_deadline_timed_out(last: ContainerState | None) -> None:
    assert judge(last, timeout(10), after(10)).result == TIMED_OUT


@pytest.mark.contract("SES-24")
@pytest.mark.parametrize("code", [0, 5, 137])
def test_an_end_before_the_kill_wins_over_the_timeout(code: int) -> None:
    ended = judge(state("exited", code, ended=9.999), timeout(10), after(9.9))
    assert ended.result == from_exit_code(code)


@pytest.mark.contract("SES-23")
def test_an_end_at_the_very_instant_of_the_kill_is_the_kills() -> None:
    assert judge(state("exited", 137, ended=10), timeout(10), after(10)).result == TIMED_OUT


@pytest.mark.contract("DMN-25")
@pytest.mark.parametrize("last", [KILLED, state("running"), None])
def test_what_a_forced_shutdown_killed_is_an_error_of_that_name(
    last: ContainerState | None,
) -> None:
    ended = judge(last, forced(10), None)
    assert isinstance(ended.error, errors.ForcedShutdown)
    assert ended.outcome is None


@pytest.mark.contract("SES-24")
def test_an_end_before_the_forced_shutdown_is_kept() -> None:
    assert judge(state("exited", 0, ended=9), forced(10), None).result == from_exit_code(0)


@pytest.mark.parametrize("code", [0, 130, 137])
def test_a_stopped_session_has_the_end_it_earned(code: int) -> None:
    assert judge(state("exited", code, ended=11), stop(10), None).result == from_exit_code(code)


@pytest.mark.contract("SES-37")
def test_a_stop_that_podman_could_not_finish_is_no_outcome() -> None:
    ended = judge(state("stopping"), stop(10), None)
    assert isinstance(ended.error, errors.ExitCodeLost)
    assert "'stopping'" in ended.error.message


@pytest.mark.contract("SES-37")
@pytest.mark.parametrize("last", [REBOOTED_V4, REBOOTED_V5], ids=["Podman 4", "Podman 5"])
def test_a_reboot_is_never_a_guessed_zero(last: ContainerState) -> None:
    assert isinstance(judge(last, None, None).error, errors.HostRebooted)


@pytest.mark.contract("SES-37")
def test_a_container_that_somebody_removed_has_vanished() -> None:
    assert isinstance(judge(None, None, after(10)).error, errors.ContainerVanished)


@pytest.mark.contract("SES-37")
@pytest.mark.parametrize("deadline", [None, after(20)])
def test_a_lost_exit_code_is_an_error(deadline: datetime.datetime | None) -> None:
    ended = judge(state("exited", -1, ended=11), None, deadline)
    assert isinstance(ended.error, errors.ExitCodeLost)


@pytest.mark.contract("SES-23")
@pytest.mark.parametrize("ended_at", [10, 75])
def test_a_lost_exit_code_past_the_deadline_is_conmons_timeout(ended_at: float) -> None:
    last = state("exited", -1, ended=ended_at)
    assert judge(last, None, after(10)).result == TIMED_OUT


@pytest.mark.contract("SES-23")
def test_an_earned_code_past_the_deadline_is_kept_where_nobody_interrupted() -> None:
    assert judge(state("exited", 0, ended=11), None, after(10)).result == from_exit_code(0)


@pytest.mark.contract("SES-37")
def test_an_end_that_nobody_recorded_is_an_error_and_no_guess() -> None:
    ended = judge(state("running"), None, None)
    assert isinstance(ended.error, errors.ExitCodeLost)
    assert "conmon" in ended.error.message


@pytest.mark.contract("SES-37")
def test_a_container_that_never_started_is_no_outcome() -> None:
    assert isinstance(judge(never_started(), None, None).error, errors.ExitCodeLost)


def test_the_facts_stand_beside_the_name() -> None:
    ended = judge(KILLED, timeout(10), after(10))
    assert ended == Ended(TIMED_OUT, KILLED, timeout(10))
    assert ended.outcome == TIMED_OUT
    assert ended.error is None


@pytest.mark.parametrize("time", [None, YEAR_ONE])
@pytest.mark.parametrize("status", ["created", "running", "exited"])
def test_a_state_without_an_end_time_is_not_finished(
    status: str, time: datetime.datetime | None
) -> None:
    assert not ContainerState(status, 0, started_at=NOON, finished_at=time).finished


@pytest.mark.parametrize("status", ["running", "paused", "stopping", "initialized", "removing"])
def test_a_container_that_is_not_at_rest_is_not_lost(status: str) -> None:
    assert not state(status).lost
