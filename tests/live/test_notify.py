"""What systemd hears of a daemon that it started, from its drain to its end.

Here the daemon is a process; tests/live/test_container.py has one whose monitor passes it on.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest

from testbed.agentd_client import HOLD, Client
from testbed.agentd_process import Agentd, Table
from testbed.notify_socket import Systemd, listening_systemd
from testbed.podman_service import PodmanService

pytestmark = [pytest.mark.live, pytest.mark.contract("F-61")]


@pytest.fixture
def systemd(own_agentd: Agentd) -> Iterator[Systemd]:
    with listening_systemd(str(own_agentd.runtime / "notify")) as systemd:
        yield systemd


@pytest.fixture
def agentd(own_agentd: Agentd, declare: Callable[..., Table], systemd: Systemd) -> Agentd:
    own_agentd.configure(declare())
    own_agentd.start({"NOTIFY_SOCKET": systemd.address})
    return own_agentd


def draining(agentd: Agentd, systemd: Systemd) -> Client:
    """The client of a session in a daemon that drains; systemd has heard so, and no more."""
    client = agentd.script(f"{HOLD}; exit 7")
    client.wait_for_line("ready")
    agentd.signal(signal.SIGTERM)
    heard = systemd.hears("STATUS=draining, 1 session")
    # Whatever the beginning of the drain tells was told before this is answered.
    agentd.signal(signal.SIGHUP)
    agentd.wait_for("agentd.config_reload_failed")
    heard += systemd.heard()
    assert "STOPPING=1" not in heard, heard
    return client


@pytest.mark.contract("DMN-24")
def test_a_daemon_that_drains_stops_when_its_last_session_has_ended(
    agentd: Agentd, systemd: Systemd
) -> None:
    """Told before, systemd would kill it with its session after `TimeoutStopSec=`."""
    client = draining(agentd, systemd)
    client.record.release()
    systemd.hears("STOPPING=1")
    assert (client.wait().code, client.record.facts["exit_code"], agentd.ended()) == (7, 7, 0)


@pytest.mark.contract("DMN-25")
def test_a_hand_over_ends_a_drain(agentd: Agentd, systemd: Systemd) -> None:
    """It is what `systemctl stop` does meanwhile."""
    client = draining(agentd, systemd)
    agentd.signal(signal.SIGUSR1)
    assert systemd.hears("STOPPING=1")[-2:] == ["STATUS=handing over, 1 session", "STOPPING=1"]
    assert agentd.ended() == 0, agentd.written()
    agentd.start({"NOTIFY_SOCKET": systemd.address})
    systemd.hears("STATUS=1 session")
    client.record.release()
    agentd.wait_for("runner.session_outcome", exit_code=7)


def test_the_watchdog_is_not_fed_while_podman_stands_still(
    own_agentd: Agentd,
    declare: Callable[..., Table],
    systemd: Systemd,
    second_podman: PodmanService,
) -> None:
    own_agentd.configure(declare(), podman_socket=str(second_podman.socket))
    own_agentd.start({"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "300000"})
    systemd.hears("WATCHDOG=1")
    second_podman.signal(signal.SIGSTOP)
    own_agentd.wait_for("agentd.watchdog_withheld")
    # In seconds, at ten a second; the answer to one question may have been on its way.
    assert systemd.heard().count("WATCHDOG=1") <= 1
    second_podman.signal(signal.SIGCONT)
    systemd.hears("WATCHDOG=1")
