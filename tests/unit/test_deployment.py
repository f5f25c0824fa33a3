"""What the image is made from, and the units that run it, fit the project and each other."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from agentd import __version__

PROJECT = Path(__file__).parents[2]
UNITS = PROJECT / "examples/quadlet"
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
        "examples/quadlet/agentd.container",
        "examples/quadlet/agentd-prune.container",
        "examples/quadlet/agentd-metrics.container",
    ],
)
def test_the_version_of_the_image_is_the_program_s(file: str) -> None:
    tags = re.findall(r"localhost/agentd:([0-9.]+)", (PROJECT / file).read_text())
    assert set(tags) == {__version__}


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
    options = ("--sdnotify=container", "--tz local", "--stop-timeout 60", "--cap-drop all")
    assert [option for option in options if option not in start] == []
    # One path in the container and on the host, for what is mounted into sessions.
    records = "-v %h/.local/state/tesserine/audit:%h/.local/state/tesserine/audit"
    assert [records in line for line in starts if "--format prometheus" not in line] == [True, True]
    assert generated.count("Type=oneshot") == 2


def test_what_writes_the_metrics_writes_where_the_page_tells_node_exporter_to_look() -> None:
    unit = (UNITS / "agentd-metrics.container").read_text()
    page = (PROJECT / "docs/metrics.md").read_text()
    (source, target) = re.findall(r"^Volume=(/\S+):(\S+)$", unit, re.MULTILINE)[0]
    (words,) = re.findall(r"^Exec=(.*)$", unit, re.MULTILINE)
    assert words.endswith(f"--format prometheus --output {target}/agentd.prom")
    assert f"--collector.textfile.directory={source}" in page
