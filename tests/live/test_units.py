"""The units of examples/, under a running systemd of the user's, with sessions on real Podman.

What docs/deployment.md promises of starting, restarting, stopping, draining and being stuck.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator

import pytest

from agentd import __version__
from testbed.agentd_client import HOLD, Client
from testbed.agentd_process import Table
from testbed.daemon_image import build_daemon_image
from testbed.podman_service import PodmanService
from testbed.podman_tree import ON_PODMAN_5
from testbed.processes import wait_until
from testbed.systemd_user import systemd_user, why_no_systemd
from testbed.unit_agentd import UnitAgentd
from tests.conftest import LONG

PROCESS = "systemd/agentd-process.service"
CONTAINER = "systemd/agentd.service"
QUADLET = "quadlet/agentd.container"
FORMS = [
    pytest.param(PROCESS, marks=pytest.mark.skipif(ON_PODMAN_5, reason="that tree has no Python")),
    CONTAINER,
    pytest.param(
        QUADLET, marks=pytest.mark.skipif(not ON_PODMAN_5, reason="Podman 4.3 has no Quadlet")
    ),
]

pytestmark = [
    pytest.mark.live,
    pytest.mark.contract("DEP-01"),
    pytest.mark.timeout(600),
    pytest.mark.skipif(why_no_systemd() is not None, reason=str(why_no_systemd())),
    pytest.mark.skipif(
        os.geteuid() == 0 and not (LONG or ON_PODMAN_5), reason="as root in ./dev tests-long"
    ),
]


@pytest.fixture(scope="module")
def image(podman: PodmanService, session_image: str) -> None:
    """The image by the name that the units have for it."""
    built = build_daemon_image(podman, session_image)
    podman.podman("tag", built, f"localhost/agentd:{__version__}")


@pytest.fixture(scope="module", params=FORMS)
def installed(
    request: pytest.FixtureRequest,
    podman: PodmanService,
    image: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[UnitAgentd]:
    """A unit that is installed, in each of its forms.

    At last the daemon runs while systemd ends, as when the host goes down. That must not take long:
    Podman 4.3 waits a minute and a half for the timer of a health check.
    """
    with systemd_user(podman, tmp_path_factory.mktemp("home")) as systemd:
        agentd = UnitAgentd(systemd, request.param)
        yield agentd
        agentd.stop()
        agentd.does("start")


@pytest.fixture
def agentd(installed: UnitAgentd, declare: Callable[..., Table]) -> UnitAgentd:
    """The unit, freshly started."""
    installed.configure(declare())
    installed.does("restart")
    return installed


@pytest.fixture
def watched(agentd: UnitAgentd) -> Iterator[UnitAgentd]:
    """The unit with a watchdog that bites soon."""
    agentd.watch(seconds=5)
    agentd.does("restart")
    yield agentd
    agentd.install(agentd.unit)
    agentd.systemd.do("daemon-reload")


def held(agentd: UnitAgentd, code: int) -> Client:
    """The client of a session that waits, and is to exit with this code."""
    client = agentd.script(f"echo before; {HOLD}; echo after; exit {code}")
    client.wait_for_line("ready")
    return client


def exit_code(agentd: UnitAgentd, client: Client) -> int:
    """Let a session go on whose daemon is another now; how it ended by its record."""
    assert client.wait().code == 6
    follower = agentd.command("logs", "--follow", client.session_id)
    follower.wait_for_line("ready")
    client.record.release()
    assert follower.wait().stdout.splitlines()[-3:] == ["before", "ready", "after"]
    agentd.wait_settled()
    code: int = client.record.facts["exit_code"]
    return code


@pytest.mark.contract("DEP-05", "F-61")
def test_a_unit_that_has_started_takes_requests(
    installed: UnitAgentd, declare: Callable[..., Table]
) -> None:
    installed.configure(declare())
    installed.does("start")
    ended = installed.script("echo hello; exit 5").wait()
    assert (ended.code, ended.record.facts["outcome"]) == (5, "work_failed")


@pytest.mark.contract("DMN-18")
def test_a_restart_costs_no_session(agentd: UnitAgentd) -> None:
    client = held(agentd, 3)
    agentd.does("restart")
    assert exit_code(agentd, client) == 3


@pytest.mark.contract("DMN-18")
def test_sessions_run_on_while_neither_daemon_nor_podman_s_service_is_there(
    agentd: UnitAgentd,
) -> None:
    client = held(agentd, 4)
    agentd.does("stop")
    agentd.systemd.do("stop", "podman.socket", "podman.service")
    assert client.session_id in agentd.podman.podman("ps", "--format", "{{.Names}}")
    agentd.does("start")
    assert exit_code(agentd, client) == 4


def test_podman_may_come_back_with_another_socket(agentd: UnitAgentd) -> None:
    client = held(agentd, 7)
    agentd.systemd.do("stop", "podman.socket", "podman.service")
    agentd.systemd.do("start", "podman.socket")
    client.record.release()
    assert client.wait().code == 7
    assert agentd.script("exit 6").wait().code == 6


@pytest.mark.contract("F-61")
@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=["stuck", "killed"])
def test_a_daemon_that_fails_is_started_again_and_its_sessions_run_on(
    watched: UnitAgentd, number: signal.Signals
) -> None:
    client = held(watched, 3)
    watched.signal(number)
    watched.wait_started_again()
    assert exit_code(watched, client) == 3


@pytest.mark.contract("DMN-24")
def test_a_daemon_that_was_drained_stays_away(agentd: UnitAgentd) -> None:
    client = held(agentd, 7)
    shutdown = agentd.command("shutdown")
    if not agentd.contained or ON_PODMAN_5:  # else Podman's monitor passes no status on
        wait_until("it drains", lambda: agentd.show("StatusText") == "draining, 1 session")
    client.record.release()
    assert (client.wait().code, shutdown.wait().code) == (7, 0)
    wait_until("the unit is down", lambda: agentd.show("ActiveState") == "inactive")
    assert (agentd.show("Result"), agentd.show("NRestarts")) == ("success", "0")


@pytest.mark.contract("F-57")
def test_a_reload_reads_the_configuration_again(
    agentd: UnitAgentd, declare: Callable[..., Table]
) -> None:
    agentd.configure(declare(), declare("second"))
    agentd.does("reload")
    told = json.loads(agentd.command("agents", "--json").wait().stdout)
    assert [agent["name"] for agent in told["agents"]] == ["worker", "second"]


def test_a_configuration_at_fault_lets_the_start_fail(
    installed: UnitAgentd, declare: Callable[..., Table]
) -> None:
    installed.does("stop")
    installed.configure(declare(timeout="soon"))
    assert installed.systemd.systemctl("start", "agentd").returncode != 0
    installed.does("stop")
    installed.configure(declare())
    installed.does("start")


def test_old_records_are_removed_by_the_unit_for_it(agentd: UnitAgentd) -> None:
    if not agentd.contained:
        pytest.skip("the unit for it runs the image, which this form does without")
    record = agentd.script("echo page >.runa/page").wait().record
    agentd.install(agentd.unit.replace("agentd.", "agentd-prune."), {"90d": "1ms"})
    agentd.systemd.do("daemon-reload")
    agentd.systemd.do("start", "agentd-prune")
    assert not record.directory.exists()
