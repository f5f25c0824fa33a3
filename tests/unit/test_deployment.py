"""What the image is made from, and the units that run it, fit the project and each other."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from agentd import __version__
from agentd.supervisor import LEAVE_SECONDS
from testbed.units import EXAMPLES, entries, options, values, words

PROJECT = Path(__file__).parents[2]
CONTAINERFILE = PROJECT / "Containerfile"
UNITS = EXAMPLES / "quadlet"
CONTAINERS = "agentd", "agentd-metrics", "agentd-prune"
GENERATOR = PROJECT / ".dev/podman5/usr/libexec/podman/quadlet"
"""Debian 13's, which `./dev tests-long` unpacks."""


@pytest.mark.parametrize(
    ("group", "lock"), [("", "requirements.lock"), ("build", "requirements-build.lock")]
)
def test_the_lock_has_every_dependency_in_a_version_that_the_project_takes(
    group: str, lock: str
) -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    wanted = project["dependency-groups"][group] if group else project["project"]["dependencies"]
    locked = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (PROJECT / lock).read_text(), re.MULTILINE))
    requirements = [Requirement(text) for text in wanted]
    faults = [
        each.name for each in requirements if locked.get(each.name, "0") not in each.specifier
    ]
    assert faults == [], "run ./dev lock"


def test_the_image_is_built_with_what_the_project_says_it_is_built_with() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    assert project["dependency-groups"]["build"] == project["build-system"]["requires"]


@pytest.mark.contract("DEP-02")
@pytest.mark.parametrize(
    "file",
    [
        "Containerfile",
        "docs/deployment.md",
        *(f"examples/quadlet/{name}.container" for name in CONTAINERS),
        *(f"examples/systemd/{name}.service" for name in CONTAINERS),
    ],
)
def test_the_version_of_the_image_is_the_program_s(file: str) -> None:
    tags = re.findall(r"localhost/agentd:([0-9.]+)", (PROJECT / file).read_text())
    assert set(tags) == {__version__}


@pytest.mark.contract("F-61")
def test_the_image_and_the_unit_ask_for_health_by_the_same_command() -> None:
    """Podman's default image format drops that of the Containerfile."""
    (line,) = re.findall(r"^HEALTHCHECK .* CMD (.*)$", CONTAINERFILE.read_text(), re.MULTILINE)
    assert json.loads(line) == ["/usr/local/bin/agentd", "status"]
    assert values(UNITS / "agentd.container", "HealthCmd") == [" ".join(json.loads(line))]


@pytest.mark.contract("F-61")
@pytest.mark.parametrize("unit", ["quadlet/agentd.container", "systemd/agentd.service"])
def test_a_unit_tells_the_daemon_of_the_watchdog_that_systemd_has(unit: str) -> None:
    (seconds,) = values(EXAMPLES / unit, "WatchdogSec")
    told = re.findall(r"^[^#\n]*WATCHDOG_USEC=(\d+)", (EXAMPLES / unit).read_text(), re.MULTILINE)
    assert [int(each) for each in told] == [int(seconds) * 1_000_000]


@pytest.mark.parametrize("unit", ["quadlet/agentd.container", "systemd/agentd.service"])
def test_systemd_waits_longer_than_podman_for_a_daemon_that_is_to_stop(unit: str) -> None:
    (systemd,) = values(EXAMPLES / unit, "TimeoutStopSec")
    (podman,) = re.findall(r"(?:StopTimeout=|--stop-timeout )(\d+)", (EXAMPLES / unit).read_text())
    assert int(systemd) > int(podman) > LEAVE_SECONDS


OPTIONS = {
    "ContainerName": "--name",
    "DropCapability": "--cap-drop",
    "Environment": "--env",
    "HealthCmd": "--health-cmd",
    "HealthTimeout": "--health-timeout",
    "LogDriver": "--log-driver",
    "Network": "--network",
    "NoNewPrivileges": "--security-opt=no-new-privileges",
    "Notify": "--sdnotify=container",
    "Pull": "--pull",
    "ReadOnly": "--read-only",
    "SecurityLabelDisable": "--security-opt=label=disable",
    "StopTimeout": "--stop-timeout",
    "Timezone": "--tz",
    "Tmpfs": "--tmpfs",
    "Volume": "--volume",
}
"""The options of `podman run` that stand for the keys of Quadlet, podman-systemd.unit(5)."""

ADDED = {"--rm", "--replace", "--cgroups=no-conmon", "--health-interval=disable"}
"""What Quadlet adds by itself, or its like, and what Podman 4.3 does not do well."""

OURS_ALONE = {"Type", "NotifyAccess", "KillMode", "ExecStart", "ExecStop"}
"""Keys of a service that Quadlet writes itself."""


@pytest.mark.contract("DEP-01")
@pytest.mark.parametrize("name", CONTAINERS)
def test_a_unit_for_a_podman_without_quadlet_says_what_quadlets_says(name: str) -> None:
    quadlet, service = UNITS / f"{name}.container", EXAMPLES / f"systemd/{name}.service"
    of_container = [each for each in entries(quadlet) if each.section == "Container"]
    keys = [each for each in of_container if each.key not in {"Image", "Exec", "HealthInterval"}]
    wanted = {
        OPTIONS[each.key] + ("" if each.value == "true" else f"={each.value}") for each in keys
    }
    command, *given = options(words(service, "ExecStart"))
    (image,), executed = values(quadlet, "Image"), " ".join(values(quadlet, "Exec")).split()
    position = given.index(image)
    assert (command, set(given[:position]) - ADDED, given[position + 1 :]) == (
        *("run", wanted),
        options(executed),
    )
    around = [each for each in entries(quadlet) if each.section != "Container"]
    others = [each for each in entries(service) if each.key not in OURS_ALONE]
    assert sorted(others) == sorted(each for each in around if each.key not in OURS_ALONE)


@pytest.mark.contract("DEP-01")
@pytest.mark.skipif(
    None in {shutil.which("systemd-analyze"), shutil.which("podman")},
    reason="./dev installs systemd and podman",
)
@pytest.mark.parametrize(
    "unit",
    [*sorted(EXAMPLES.glob("systemd/*")), *sorted(EXAMPLES.glob("quadlet/*.timer"))],
    ids=lambda path: path.name,
)
def test_systemd_finds_no_fault_in_a_unit(unit: Path, tmp_path: Path) -> None:
    program = tmp_path / ".local/lib/agentd/bin/agentd"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", "--recursive-errors=no", unit],
        check=False,
        env={**os.environ, "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.contract("DEP-01")
@pytest.mark.skipif(not GENERATOR.exists(), reason="./dev tests-long unpacks Podman 5 for it")
def test_podman_makes_services_of_the_units() -> None:
    done = subprocess.run(
        [GENERATOR, "-dryrun", "-user"],
        check=False,
        env={**os.environ, "QUADLET_UNIT_DIRS": str(UNITS)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    generated = done.stdout.splitlines()
    assert {"Type=notify", "KillMode=mixed", "TimeoutStopSec=90", "WatchdogSec=120"} <= {*generated}
    # This generator knows neither Type=notify-reload nor keys of its own for a reload.
    assert "ExecReload=/usr/bin/podman exec agentd /usr/local/bin/agentd reload" in generated
    starts = [line for line in generated if line.startswith("ExecStart=")]
    (start,) = (line for line in starts if "--name agentd " in line)
    wanted = ("--sdnotify=container", "--tz local", "--stop-timeout 60", "--cap-drop all")
    assert [option for option in wanted if option not in start] == []
    # By which a daemon goes whose monitor the watchdog has killed: ours, before Quadlet's.
    ours = "ExecStopPost=-/usr/bin/podman rm --force --ignore --time 5 --volumes agentd"
    theirs = "ExecStopPost=-/usr/bin/podman rm -v -f -i --cidfile=%t/%N.cid"
    assert theirs in generated[generated.index(ours) :]
    # One path in the container and on the host, for what is mounted into sessions.
    records = "-v /var/lib/tesserine/audit:/var/lib/tesserine/audit"
    assert [records in line for line in starts if "--format prometheus" not in line] == [True, True]
    assert generated.count("Type=oneshot") == 2


def test_what_writes_the_metrics_writes_where_the_page_tells_node_exporter_to_look() -> None:
    unit = (UNITS / "agentd-metrics.container").read_text()
    page = (PROJECT / "docs/metrics.md").read_text()
    (source, target) = re.findall(r"^Volume=(/\S+):(\S+)$", unit, re.MULTILINE)[0]
    (words,) = re.findall(r"^Exec=(.*)$", unit, re.MULTILINE)
    assert words.endswith(f"--format prometheus --output {target}/agentd.prom")
    assert f"--collector.textfile.directory={source}" in page
