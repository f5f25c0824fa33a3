"""`agentd status`: whether the daemon takes requests, and whether Podman answers it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agentd import __version__
from testbed.agentd_client import HOLD
from testbed.agentd_process import Agentd, Table
from testbed.podman_service import PodmanService

pytestmark = [pytest.mark.live, pytest.mark.contract("F-61")]


@pytest.fixture
def agentd(
    own_agentd: Agentd, declare: Callable[..., Table], second_podman: PodmanService
) -> Agentd:
    """A daemon on a Podman service of its own."""
    own_agentd.configure(declare(), podman_socket=str(second_podman.socket), max_sessions=1)
    own_agentd.start()
    return own_agentd


def test_a_daemon_that_does_well_says_what_it_has(
    agentd: Agentd, second_podman: PodmanService
) -> None:
    live = agentd.script(HOLD)
    live.wait_for_line("ready")
    waiting = agentd.script("exit 0")
    agentd.wait_for("agentd.run_queued")
    shown = agentd.command("status").wait()
    live.record.release()
    daemon, sessions, podman = shown.stdout.splitlines()
    assert shown.code == 0
    assert daemon.startswith(f"agentd    {__version__}, ready, up ")
    assert sessions == "sessions  1 live, 1 in the queue"
    assert podman.endswith(str(second_podman.socket))
    assert (live.wait().code, waiting.wait().code) == (0, 0)


def test_a_daemon_that_is_not_there_yet_can_be_waited_for(
    own_agentd: Agentd, declare: Callable[..., Table]
) -> None:
    own_agentd.configure(declare())
    waiting = own_agentd.command("status", "--wait")
    own_agentd.start()
    shown = waiting.wait()
    assert (shown.code, ", ready, up " in shown.stdout) == (0, True)


def test_without_podman_it_is_not_well(agentd: Agentd, second_podman: PodmanService) -> None:
    second_podman.stop()
    shown = agentd.command("status").wait()
    assert (shown.code, "does not answer: no Podman service answers" in shown.stdout) == (6, True)


def test_without_a_daemon_nobody_is_well(agentd: Agentd) -> None:
    agentd.drained()
    shown = agentd.command("status").wait()
    assert (shown.code, "agentd is not running" in shown.stderr) == (6, True)
