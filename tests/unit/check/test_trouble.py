"""What the doctor makes of a host that fails while it looks: findings, and it goes on.

The faults are injected: using up the machine's inotify instances or hanging its disk would meet
everything else that runs there.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import cast

import pytest

from agentd import watch
from agentd.check import agent_examination, examination, trial_record
from agentd.check.agent_examination import Machine, examine_agent
from agentd.check.agent_rules import Surroundings
from agentd.check.audit_look import Root
from agentd.check.finding import Finding
from agentd.config import Agent
from agentd.errors import DiskTimeout
from agentd.podman import Image, Podman
from tests.unit.builders import IMAGE, ROOTFUL, agent


class FakePodman:
    """Has every image and network."""

    async def image(self, _reference: str) -> Image:
        return IMAGE


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    async def check_network(_podman: Podman, _agent: Agent) -> None:
        pass

    monkeypatch.setattr(agent_examination, "check_network", check_network)
    surroundings = Surroundings({}, "nobody's environment", certain=True)
    return Machine(surroundings, cast(Podman, FakePodman()), ROOTFUL, Root((), tmp_path))


async def test_inotify_instances_that_are_used_up_are_a_finding(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def used_up() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(watch, "INotify", used_up)
    found: list[Finding] = []
    assert not await examine_agent(agent(), machine, found.append)
    (trial,) = (each for each in found if each.name == "image-trial")
    assert (trial.status, trial.text) == ("fail", "cannot watch files: Too many open files")
    assert "fs.inotify.max_user_instances" in str(trial.remedy)


async def test_a_disk_that_hangs_with_what_was_left_behind_is_a_finding(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hangs(_place: Path) -> None:
        raise DiskTimeout("the file system of the audit root has not answered for 30 s")

    monkeypatch.setattr(trial_record, "_left", hangs)
    found: list[Finding] = []
    assert machine.podman is not None
    await examination._remove_left(tmp_path, machine.podman, found.append)
    (finding,) = found
    assert (finding.name, finding.status) == ("left-behind", "warn")
    assert "has not answered for 30 s" in finding.text
