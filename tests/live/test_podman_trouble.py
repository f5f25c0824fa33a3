"""A Podman service that stands still, dies or comes back while a session lives."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from agentd.client import Client
from agentd.wire import Pong
from testbed.agentd_client import HOLD
from testbed.agentd_process import Agentd, Table
from testbed.podman_activator import Activator, activated
from testbed.podman_service import PodmanService, answers
from tests.conftest import LONG

pytestmark = pytest.mark.live


GRACE = 2.0
STANDSTILL_SECONDS = 30.0 if LONG else 1.5
IDLE_SECONDS = 5 if LONG else 1
"""After so much time without a connection Podman ends: 5 in the packaged units."""


@pytest.fixture
def agentd(
    own_agentd: Agentd, declare: Callable[..., Table], second_podman: PodmanService
) -> Agentd:
    """A daemon on a Podman service of its own."""
    podman_socket = str(second_podman.socket)
    own_agentd.configure(declare(), podman_socket=podman_socket, shutdown_grace=f"{GRACE:g}s")
    own_agentd.start()
    return own_agentd


@pytest.mark.contract("DMN-25", "F-34")
def test_a_second_signal_ends_the_daemon_though_podman_stands_still(
    agentd: Agentd, second_podman: PodmanService
) -> None:
    client = agentd.script(HOLD)
    client.wait_for_line("ready")
    second_podman.signal(signal.SIGSTOP)
    agentd.signal(signal.SIGTERM)
    agentd.wait_for("agentd.shutdown_started")
    forced = time.monotonic()
    agentd.signal(signal.SIGINT)
    code = agentd.ended()
    # What is beyond the grace is a bound of the process's own end.
    assert (code, time.monotonic() - forced < GRACE + 3) == (1, True)
    second_podman.signal(signal.SIGCONT)
    agentd.start()
    agentd.wait_for("runner.session_teardown", session_id=client.session_id)
    facts = client.record.facts
    assert (facts["error_code"], facts["ended_by"]) == ("forced_shutdown", "forced")
    agentd.assert_nothing_left()


@pytest.mark.contract("F-34")
def test_a_session_that_ends_while_podman_stands_still_has_its_outcome(
    agentd: Agentd, second_podman: PodmanService
) -> None:
    client = agentd.script(f"{HOLD}; echo after; exit 7")
    client.wait_for_line("ready")
    second_podman.signal(signal.SIGSTOP)
    client.record.release()
    client.wait_for_line("after")
    second_podman.signal(signal.SIGCONT)
    assert client.wait().code == 7
    agentd.assert_nothing_left()


@pytest.mark.contract("F-34")
def test_sessions_run_end_and_start_though_podman_stands_still(
    agentd: Agentd, second_podman: PodmanService
) -> None:
    ending, lasting = (agentd.script(f"{HOLD}; echo after; exit {code}") for code in (7, 5))
    for client in (ending, lasting):
        client.wait_for_line("ready")
    second_podman.signal(signal.SIGSTOP)
    goes_on = time.monotonic() + STANDSTILL_SECONDS
    ending.record.release()
    ending.wait_for_line("after")
    starting = agentd.script("exit 3")
    answered = []
    while time.monotonic() < goes_on:
        listed = agentd.command("ps").wait()
        pong = trio.run(Client(agentd.socket).ping)
        answered.append((listed.code, lasting.session_id in listed.stdout, type(pong)))
    second_podman.signal(signal.SIGCONT)
    assert set(answered) == {(0, True, Pong)}
    lasting.record.release()
    ended = {client: client.wait() for client in (ending, lasting, starting)}
    assert [each.record.facts["exit_code"] for each in ended.values()] == [7, 5, 3]
    agentd.assert_nothing_left()


@pytest.fixture
def activator(podman: PodmanService, tmp_path: Path) -> Iterator[Activator]:
    with activated(podman, IDLE_SECONDS, tmp_path / "service.log") as activator:
        yield activator


@pytest.fixture
def on_demand(
    own_agentd: Agentd, declare: Callable[..., Table], activator: Activator
) -> Iterator[Agentd]:
    """A daemon on a Podman that is started by its socket, and has ended for want of work once."""
    assert answers(activator.path)
    activator.wait_until_idle()
    own_agentd.configure(declare(), podman_socket=str(activator.path))
    own_agentd.start()
    yield own_agentd
    own_agentd.stop()


@pytest.mark.skipif(not LONG, reason="waits for its end twice; AGENTD_TESTS_LONG=1")
def test_a_podman_that_ends_when_idle_is_there_for_every_session(on_demand: Agentd) -> None:
    quiet = on_demand.script(f"sleep {IDLE_SECONDS + 0.5}; exit 7").wait()
    # Nothing tells of the time in which nothing happens.
    time.sleep(IDLE_SECONDS + 0.5)
    assert (quiet.code, on_demand.script("exit 0").wait().code) == (7, 0)
    on_demand.assert_nothing_left()


@pytest.mark.skipif(not LONG, reason="what systemd adds to a restart; AGENTD_TESTS_LONG=1")
def test_a_podman_that_dies_is_started_again_by_the_daemons_next_word(
    on_demand: Agentd, activator: Activator
) -> None:
    client = on_demand.script(f"{HOLD}; exit 7")
    client.wait_for_line("ready")
    activator.kill()
    client.record.release()
    assert client.wait().code == 7
    assert on_demand.script("exit 0").wait().code == 0
    # Ours, the daemon's first, and at least one more.
    assert activator.starts >= 3
    on_demand.assert_nothing_left()


def test_a_session_outlives_its_podman_service(
    agentd: Agentd, second_podman: PodmanService, tmp_path: Path
) -> None:
    client = agentd.script(f"{HOLD}; echo after; exit 7")
    client.wait_for_line("ready")
    second_podman.stop()
    client.record.release()
    client.wait_for_line("after")
    second_podman.start(tmp_path / "again.log")
    assert client.wait().code == 7
    agentd.assert_nothing_left()


def test_a_run_without_podman_is_refused_and_the_next_one_is_not(
    agentd: Agentd, second_podman: PodmanService, tmp_path: Path
) -> None:
    second_podman.stop()
    before = agentd.records()
    refused = agentd.script("exit 0").wait()
    assert (refused.code, "Podman" in refused.stderr, agentd.records()) == (6, True, before)
    second_podman.start(tmp_path / "again.log")
    assert agentd.script("exit 0").wait().code == 0
