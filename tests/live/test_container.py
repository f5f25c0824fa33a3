"""The daemon from its image, in a container as the units of examples/systemd run it.

tests/unit/test_deployment.py shows that the units of examples/quadlet say the same.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentd import __version__
from testbed.agentd_client import HOLD
from testbed.agentd_process import Table
from testbed.contained_agentd import ContainedAgentd, contained_agentd
from testbed.daemon_image import REVISION, build_daemon_image
from testbed.metrics_text import older_families
from testbed.notify_socket import listening_systemd
from testbed.podman_service import PodmanService
from testbed.podman_tree import ON_PODMAN_5
from testbed.processes import wait_until
from testbed.session_image import derive_image
from testbed.units import EXAMPLES
from tests.conftest import LONG

PROGRAM = "/usr/local/bin/agentd"

# The build downloads and takes longest of all: once in CI is enough, the way operators run it.
pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        os.geteuid() == 0 and not (LONG or ON_PODMAN_5),
        reason="as root in ./dev tests-long",
    ),
]


# What the default base brings, in the places where it has it.
WITH_PIP = """
    mkdir -p /usr/local/lib/python3.13/site-packages/pip
    touch /usr/local/bin/pip /usr/local/bin/pip3
    chmod a+x /usr/local/bin/pip*
"""


@pytest.fixture(scope="module")
def base(podman: PodmanService, session_image: str) -> str:
    """An image with Python, as the default base is one that only a registry has."""
    return derive_image(podman, "with-pip", session_image, WITH_PIP)


@pytest.fixture(scope="module")
def image(podman: PodmanService, base: str) -> str:
    return build_daemon_image(podman, base)


@pytest.fixture(scope="module")
def image_facts(podman: PodmanService, image: str) -> dict[str, Any]:
    facts: list[dict[str, Any]] = json.loads(podman.podman("image", "inspect", image))
    return facts[0]


@pytest.fixture(scope="module")
def serving(
    podman: PodmanService,
    image: str,
    declare: Callable[..., Table],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ContainedAgentd]:
    """A daemon in a container that takes requests."""
    with contained_agentd(podman, tmp_path_factory.mktemp("agentd"), image) as agentd:
        agentd.configure(declare())
        agentd.start()
        yield agentd
        assert agentd.drained() == 0, agentd.written()


@pytest.fixture(scope="module")
def scheduled(
    podman: PodmanService,
    image: str,
    declare: Callable[..., Table],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ContainedAgentd]:
    """A daemon in another time zone than the machine's, whose agent begins a session each minute.

    The first to ask for it makes the minute begin that the last waits for.
    """
    with contained_agentd(podman, tmp_path_factory.mktemp("agentd"), image) as agentd:
        agentd.configure(declare(schedule="* * * * *"))
        agentd.options = ("--tz=Asia/Kathmandu",)
        agentd.start()
        yield agentd
        assert agentd.drained() == 0, agentd.written()


@pytest.fixture
def agentd(
    podman: PodmanService, image: str, declare: Callable[..., Table], tmp_path: Path
) -> Iterator[ContainedAgentd]:
    """A daemon in a container; configured, and not started."""
    with contained_agentd(podman, tmp_path / "agentd", image) as agentd:
        agentd.configure(declare())
        yield agentd


@pytest.mark.contract("DEP-02", "DEP-03", "DEP-07")
def test_the_image_says_its_version(podman: PodmanService, image: str) -> None:
    shown = podman.podman("run", "--rm", "--entrypoint", PROGRAM, image, "--version")
    assert __version__ in shown


@pytest.mark.contract("DEP-03", "DEP-05", "DEP-06")
def test_the_image_starts_the_daemon_and_is_stopped_by_a_hand_over(
    image_facts: dict[str, Any],
) -> None:
    config = image_facts["Config"]
    assert config["Entrypoint"] == [PROGRAM]
    assert config["Cmd"] == ["daemon", "--config", "/etc/agentd/agentd.toml"]
    assert config["StopSignal"] == "SIGUSR1"
    assert {
        "CONTAINER_HOST=unix:///run/podman/podman.sock",
        "TMPDIR=/var/lib/agentd/tmp",
    } <= set(config["Env"])


def test_the_image_says_what_it_is_made_of(image_facts: dict[str, Any], base: str) -> None:
    prefix = "org.opencontainers.image."
    labels = {
        name.removeprefix(prefix): text
        for name, text in image_facts["Config"]["Labels"].items()
        if name.startswith(prefix)
    }
    told = {"version": __version__, "revision": REVISION, "base.name": base, "licenses": "MIT"}
    assert told.items() <= labels.items()
    assert labels.keys() - told.keys() == {"title", "description", "source", "documentation"}


@pytest.mark.contract("SCH-02")
def test_schedules_mean_the_time_of_the_container(scheduled: ContainedAgentd) -> None:
    """Podman 4 lays the zone's rules over the file of another, so no name can be told."""
    heading, instant, *_ = scheduled.command("schedule", "worker").wait().stdout.splitlines()
    assert heading in {f"'* * * * *' in {zone}" for zone in ("Asia/Kathmandu", "/etc/localtime")}
    assert instant.endswith(" +0545")


@pytest.mark.contract("DEP-04", "DEP-06")
def test_the_image_has_a_place_for_temporary_files_and_nothing_that_built_it(
    podman: PodmanService, image: str
) -> None:
    script = """
        stat -c %a /var/lib/agentd/tmp
        cd /opt/agentd/lib/python3*/site-packages && ls -d pip hatchling */tests */_tests
        ls -d /build /root/.cache /run/secrets /etc/pip.conf
        ls -d /usr/local/bin/pip* /usr/local/lib/python3*/site-packages/pip*
        command -v podman gcc pip
    """
    run = podman.run("run", "--rm", "--entrypoint", "sh", image, "-c", script)
    assert run.stdout == "1777\n"


@pytest.mark.contract("DEP-05", "DEP-08", "DEP-09", "DEP-10", "DEP-11", "DEP-12", "DEP-13")
def test_a_session_of_a_daemon_in_a_container_is_asked_for_on_the_host_and_sealed(
    serving: ContainedAgentd,
) -> None:
    ended = serving.script("echo hello; echo page >.runa/page; exit 5").wait()
    assert (ended.code, "hello" in ended.stdout) == (5, True), ended
    assert ended.record.directory.is_relative_to(serving.audit_root)
    assert (ended.record.facts["outcome"], ended.record.read("page")) == ("work_failed", "page\n")
    assert (ended.record.runa / "page").stat().st_mode & 0o777 == 0o444
    serving.assert_nothing_left_in_podman()


@pytest.mark.contract("F-61")
def test_the_health_check_finds_the_daemon(serving: ContainedAgentd) -> None:
    assert serving.podman.run("healthcheck", "run", serving.name).returncode == 0


@pytest.mark.contract("F-61")
def test_another_container_writes_the_metrics_for_node_exporter(
    serving: ContainedAgentd, tmp_path: Path
) -> None:
    unit = EXAMPLES / "systemd/agentd-metrics.service"
    told = serving.unit_words(unit, "ExecStart")
    there = [word.replace("/var/lib/node_exporter/agentd", str(tmp_path)) for word in told]
    serving.podman.podman(*there)
    (file,) = tmp_path.iterdir()
    (requests,) = (each for each in older_families(file.read_text()) if "requests" in each.name)
    assert {"request": "get_metrics"} in [sample.labels for sample in requests.samples]
    assert file.stat().st_mode & 0o777 == 0o644


@pytest.mark.contract("F-61")
def test_systemd_hears_from_the_container_that_it_is_ready_and_lives(
    agentd: ContainedAgentd,
) -> None:
    with listening_systemd(str(agentd.runtime / "notify")) as systemd:
        agentd.options = ("--env=WATCHDOG_USEC=300000",)
        agentd.start({"NOTIFY_SOCKET": systemd.address})
        heard = systemd.hears("WATCHDOG=1")
    # Podman tells of the container's monitor; whether that passes the rest on depends on its age.
    assert [each for each in heard if not each.startswith(("MAINPID=", "STATUS="))] == [
        *("READY=1", "WATCHDOG=1")
    ]


@pytest.mark.contract("DEP-18")
def test_a_session_can_be_tried_from_inside_the_container(serving: ContainedAgentd) -> None:
    told = serving.podman.podman("exec", serving.name, PROGRAM, "check", "--agent", "worker")
    assert (" 0 fail\n" in told, "was sealed and verified" in told) == (True, True), told


@pytest.mark.contract("F-57")
def test_a_configuration_that_is_replaced_is_read_by_what_the_unit_calls(
    serving: ContainedAgentd, declare: Callable[..., Table]
) -> None:
    serving.config.unlink()
    serving.configure(declare(), declare("second"))
    told = serving.podman.podman("exec", serving.name, PROGRAM, "reload")
    assert "added  second" in told


@pytest.mark.contract("DMN-18")
def test_a_new_container_takes_over_what_the_old_one_was_at(
    agentd: ContainedAgentd, declare: Callable[..., Table]
) -> None:
    key = {"name": "API_KEY", "source": "WORKER_KEY"}
    agentd.configure(declare(), declare("keeper", credentials=[key]))
    agentd.options = ("--env=WORKER_KEY=t0p-s3cret",)
    agentd.start()
    clients = [
        agentd.script(f"echo before; {HOLD}; echo after; exit 3"),
        agentd.script(f"{HOLD}; echo after with $API_KEY; exit 4", agent="keeper"),
    ]
    for client in clients:
        client.wait_for_line("ready")
    assert '"agentd.sessions_left"' in agentd.replaced()
    assert [client.wait().code for client in clients] == [6, 6]
    followers = [agentd.command("logs", "--follow", client.session_id) for client in clients]
    for client, follower in zip(clients, followers, strict=True):
        follower.wait_for_line("ready")
        client.record.release()
    lines = [follower.wait().stdout.splitlines() for follower in followers]
    assert lines[0][-3:] == ["before", "ready", "after"]
    assert lines[1][-2:] == ["ready", "after with ***"]
    assert agentd.drained() == 0
    facts = [client.record.facts for client in clients]
    assert [each["exit_code"] for each in facts] == [3, 4]


@pytest.mark.contract("DMN-18")
def test_what_quadlet_calls_at_the_end_hands_over_too(agentd: ContainedAgentd) -> None:
    agentd.start()
    agentd.podman.podman("rm", "--volumes", "--force", "--ignore", agentd.name)
    assert agentd.ended() == 0, agentd.written()


@pytest.mark.contract("DMN-18", "F-61")
def test_a_daemon_that_is_stuck_is_removed_when_the_watchdog_has_killed_its_monitor(
    agentd: ContainedAgentd,
) -> None:
    agentd.start()
    client = agentd.script(f"{HOLD}; exit 3")
    client.wait_for_line("ready")
    container = json.loads(agentd.podman.podman("inspect", agentd.name))[0]
    os.kill(container["State"]["Pid"], signal.SIGSTOP)
    os.kill(container["State"]["ConmonPid"], signal.SIGKILL)
    agentd.unit_does("ExecStopPost")
    agentd.ended()
    assert not Path("/proc", str(container["State"]["Pid"])).exists()
    agentd.start()
    client.record.release()
    agentd.wait_for("runner.session_outcome", exit_code=3)
    assert agentd.drained() == 0


def test_old_records_are_removed_by_what_the_unit_calls(serving: ContainedAgentd) -> None:
    record = serving.script("echo page >.runa/page").wait().record
    unit = EXAMPLES / "systemd/agentd-prune.service"
    command, *words = serving.unit_words(unit, "ExecStart")
    # What the unit's comment says for root.
    rights = [] if serving.podman.rootless else ["--cap-add=DAC_OVERRIDE,FOWNER"]
    now = ["1ms" if word == "90d" else word for word in words]
    serving.podman.podman(command, *rights, *now)
    assert not record.directory.exists()


@pytest.mark.contract("DEP-05", "SCH-06")
def test_a_schedule_is_kept_in_a_container(scheduled: ContainedAgentd) -> None:
    wait_until("the schedule has begun a session", lambda: bool(scheduled.records()), 90)
    scheduled.wait_for("agentd.run_completed", trigger="schedule")
