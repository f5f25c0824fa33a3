"""The daemon as a unit of examples/ runs it, under a systemd of the user's."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from testbed.agentd_client import AGENTD
from testbed.agentd_process import Agentd, Table
from testbed.processes import wait_until
from testbed.systemd_user import LOG, SystemdUser, write_unit
from testbed.units import AUDIT_ROOT, EXAMPLES, values

_UNIT = "agentd.service"

# As docs/deployment.md has it: where they are in the container.
_INSIDE = {"socket_path": "/run/agentd/agentd.sock", "pid_file": "/run/agentd/agentd.pid"}

# What docs/deployment.md says of a daemon of root's.
_FOR_ROOT = {
    "DropCapability=all": "DropCapability=all\nAddCapability=CHOWN DAC_OVERRIDE FOWNER",
    "--cap-drop all": "--cap-drop all --cap-add CHOWN,DAC_OVERRIDE,FOWNER",
}

# No test waits for the five seconds of the unit, and who looks at one that failed sees more.
_DROP_IN = f"""\
[Unit]
StartLimitIntervalSec=0
[Service]
RestartSec=100ms
StandardError=append:%h/{LOG}
"""


class UnitAgentd(Agentd):
    """A daemon that systemd starts, watches and ends: see `does`."""

    def __init__(self, systemd: SystemdUser, unit: str) -> None:
        """By this unit file of examples/, with its name, image and paths as they are there."""
        super().__init__(systemd.podman, systemd.home, systemd.runtime)
        self.systemd = systemd
        self.unit = unit
        self.contained = "process" not in unit
        self.config = self.base / ".config/agentd/agentd.toml"
        self.config.parent.mkdir(parents=True)
        self.methodologies = self.base / "agentd/methodologies"
        self.methodologies.mkdir(parents=True)
        self.audit_root.mkdir(mode=0o700)
        # Where the unit of a process looks for a virtual environment.
        program = self.base / ".local/lib/agentd"
        program.mkdir(parents=True)
        (program / "bin").symlink_to(AGENTD.parent)
        self.install(unit)
        write_unit(self.base / f".config/systemd/user/{_UNIT}.d/tests.conf", _DROP_IN)
        systemd.do("daemon-reload")
        systemd.do("start", "podman.socket")

    def install(self, unit: str, instead: dict[str, str] | None = None) -> None:
        """Install a unit file of examples/, with other words where the tests need them."""
        text = (EXAMPLES / unit).read_text().replace(AUDIT_ROOT, str(self.audit_root))
        others = (instead or {}) | ({} if self.podman.rootless else _FOR_ROOT)
        for words, other in others.items():
            text = text.replace(words, other)
        quadlet = unit.endswith(".container")
        name = Path(unit).name.replace("-process", "")
        directory = ".config/containers/systemd" if quadlet else ".config/systemd/user"
        write_unit(self.base / directory / name, text)

    def configure(self, *agents: Table, **daemon: object) -> None:
        """Write the configuration; methodologies go where the unit of a container mounts them."""
        moved = []
        for agent in agents:
            source = Path(str(agent["methodology_dir"]))
            shutil.copytree(source, self.methodologies / source.name, dirs_exist_ok=True)
            moved.append(agent | {"methodology_dir": str(self.methodologies / source.name)})
        super().configure(*moved, **(_INSIDE if self.contained else {}), **daemon)

    def stop(self) -> None:
        """Let nobody wait for a session of a failed test: its container goes when Podman does."""
        for client in self._clients:
            client.process.kill()
        super().stop()

    def does(self, verb: str) -> str:
        """`systemctl --user VERB agentd`, which must succeed."""
        return self.systemd.do(verb, _UNIT)

    def show(self, key: str) -> str:
        """A property of the unit."""
        return self.systemd.show(_UNIT, key)

    def wait_started_again(self) -> None:
        """Wait until systemd has started the daemon again by itself, and it takes requests."""
        wait_until(
            "systemd starts it again",
            lambda: (self.show("NRestarts") != "0", self.show("ActiveState")) == (True, "active"),
        )

    def watch(self, seconds: int) -> None:
        """Let systemd miss a sign of life after so long, from the next start on."""
        (usual,) = values(EXAMPLES / self.unit, "WatchdogSec")
        instead = {
            f"WatchdogSec={usual}": f"WatchdogSec={seconds}",
            f"WATCHDOG_USEC={usual}000000": f"WATCHDOG_USEC={seconds}000000",
        }
        self.install(self.unit, instead)
        self.systemd.do("daemon-reload")

    @property
    def pid(self) -> int:
        """The daemon's process, which in a container is not what systemd watches."""
        if self.contained:
            told = json.loads(self.podman.podman("inspect", "agentd"))
            return int(told[0]["State"]["Pid"])
        return int(self.show("MainPID"))

    def signal(self, number: int) -> None:
        """Send the daemon's process a signal, behind the back of systemd and Podman."""
        os.kill(self.pid, number)
