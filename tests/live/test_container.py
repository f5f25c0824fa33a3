"""The daemon from its image, in a container as docs/deployment.md tells to run it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agentd import __version__
from testbed.agentd_client import HOLD
from testbed.agentd_process import Table
from testbed.contained_agentd import ContainedAgentd, contained_agentd
from testbed.daemon_image import build_daemon_image
from testbed.metrics_text import older_families
from testbed.podman_service import PodmanService
from testbed.processes import SECONDS, wait_until
from tests.conftest import LONG

PROGRAM = "/usr/local/bin/agentd"

# The build downloads and takes longest of all: once in CI is enough, the way operators run it.
pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() == 0 and not LONG, reason="as root with AGENTD_TESTS_LONG=1"),
]


@pytest.fixture(scope="module")
def image(podman: PodmanService, session_image: str) -> str:
    """Built on the sessions' image, which is there and has Python, as registries may be away."""
    return build_daemon_image(podman, base=session_image)


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
    assert config["Labels"]["org.opencontainers.image.version"] == __version__
    assert {
        "CONTAINER_HOST=unix:///run/podman/podman.sock",
        "TMPDIR=/var/lib/agentd/tmp",
    } <= set(config["Env"])


@pytest.mark.contract("DEP-04", "DEP-06")
def test_the_image_has_a_place_for_temporary_files_and_nothing_that_built_it(
    podman: PodmanService, image: str
) -> None:
    script = """
        stat -c %a /var/lib/agentd/tmp
        cd /opt/agentd/lib/python3*/site-packages && ls -d pip hatchling */tests */_tests
        ls -d /build /root/.cache /run/secrets /etc/pip.conf
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
    """With what `examples/quadlet/agentd-metrics.container` says."""
    serving.podman.podman(
        *("run", "--rm", "--network", "none", "--cap-drop", "all", "--read-only"),
        *("--security-opt", "no-new-privileges"),
        *("--volume", f"{serving.socket.parent}:/run/agentd", "--volume", f"{tmp_path}:/metrics"),
        *(serving.image, "metrics", "--socket-path", "/run/agentd/agentd.sock"),
        *("--format", "prometheus", "--output", "/metrics/agentd.prom"),
    )
    (file,) = tmp_path.iterdir()
    (requests,) = (each for each in older_families(file.read_text()) if "requests" in each.name)
    assert {"request": "get_metrics"} in [sample.labels for sample in requests.samples]
    assert file.stat().st_mode & 0o777 == 0o644


@pytest.mark.contract("F-61")
def test_systemd_hears_from_the_container_that_it_is_ready_and_lives(
    agentd: ContainedAgentd,
) -> None:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as systemd:
        path = agentd.runtime / "notify"
        systemd.bind(str(path))
        systemd.settimeout(SECONDS)
        agentd.options = ("--sdnotify", "container", "--env", "WATCHDOG_USEC=300000")
        agentd.start({"NOTIFY_SOCKET": str(path)})
        heard: list[bytes] = []
        while b"WATCHDOG=1" not in heard:
            heard.append(systemd.recv(4096))
    # Podman tells of the container's monitor; whether that passes the rest on depends on its age.
    assert [each for each in heard if not each.startswith((b"MAINPID=", b"STATUS="))] == [
        *(b"READY=1", b"WATCHDOG=1")
    ]


@pytest.mark.contract("F-57")
def test_a_configuration_that_is_replaced_is_read_by_what_the_unit_calls(
    serving: ContainedAgentd, declare: Callable[..., Table]
) -> None:
    serving.config.unlink()
    serving.configure(declare(), declare("second"))
    told = serving.podman.podman("exec", serving.name, PROGRAM, "reload")
    assert "added  second" in told


@pytest.mark.contract("DMN-18")
def test_a_new_container_takes_over_what_the_old_one_was_at(agentd: ContainedAgentd) -> None:
    agentd.start()
    client = agentd.script(f"echo before; {HOLD}; echo after; exit 3")
    client.wait_for_line("ready")
    assert '"agentd.sessions_left"' in agentd.replaced()
    assert client.wait().code == 6
    follower = agentd.command("logs", "--follow", client.session_id)
    follower.wait_for_line("ready")
    client.record.release()
    lines = follower.wait().stdout.splitlines()
    assert [line for line in lines if line in {"before", "ready", "after"}] == [
        *("before", "ready", "after")
    ]
    assert agentd.drained() == 0
    facts = client.record.facts
    assert (facts["outcome"], facts["exit_code"]) == ("blocked", 3)


@pytest.mark.contract("DEP-05", "SCH-06")
@pytest.mark.skipif(not LONG, reason="takes up to a minute; runs with AGENTD_TESTS_LONG=1")
def test_a_schedule_is_kept_in_a_container(
    agentd: ContainedAgentd, declare: Callable[..., Table]
) -> None:
    agentd.configure(declare(schedule="* * * * *"))
    agentd.start()
    wait_until("the schedule has begun a session", lambda: bool(agentd.records()), 90)
    agentd.wait_for("agentd.run_completed", trigger="schedule")
    assert agentd.drained() == 0
