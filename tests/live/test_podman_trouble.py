"""A Podman service that stands still, dies or comes back while a session lives."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from testbed.agentd_client import HOLD
from testbed.agentd_process import Agentd, Table
from testbed.podman_service import PodmanService

pytestmark = pytest.mark.live

GRACE = 2.0


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
