"""The daemon in a container of its image, as the units of examples/systemd start and end it."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from agentd import __version__
from testbed.agentd_process import Agentd, Table
from testbed.podman_service import PodmanService
from testbed.processes import Lines
from testbed.units import AUDIT_ROOT, EXAMPLES, options, values, words

RUNTIME = Path("/run/agentd")
UNIT = EXAMPLES / "systemd/agentd.service"

_IMAGE = f"localhost/agentd:{__version__}"
_ROOTFUL_CAPABILITIES = "CHOWN,DAC_OVERRIDE,FOWNER"


class ContainedAgentd(Agentd):
    """A daemon whose `process` is the attached `podman run`, which passes signals on."""

    def __init__(self, podman: PodmanService, base: Path, runtime: Path, image: str) -> None:
        """The daemon runs from `image`; clients run on the host."""
        super().__init__(podman, base, runtime)
        self.image = image
        self.name = f"daemon-{runtime.name}"
        self.shared: set[Path] = set()
        """What else daemon and Podman must find under one path."""
        self.options: tuple[str, ...] = ()
        """More options of `podman run`."""
        self.config = base / ".config/agentd/agentd.toml"
        self.config.parent.mkdir(parents=True)
        (base / "agentd/methodologies").mkdir(parents=True)
        self.socket.parent.mkdir(mode=0o700)
        (runtime / "podman").symlink_to(podman.socket.parent)
        self.audit_root.mkdir(mode=0o700)

    @property
    def prefix(self) -> str:
        """How the names of all that this daemon makes in Podman begin."""
        text = f"socket={RUNTIME}/agentd.sock\npid={RUNTIME}/agentd.pid\naudit={self.audit_root}\n"
        return f"agentd-{hashlib.sha256(text.encode()).hexdigest()[:8]}-"

    def configure(self, *agents: Table, **daemon: object) -> None:
        """Write the configuration; methodologies get a mount."""
        super().configure(*agents, **daemon)
        self.shared |= {Path(str(agent["methodology_dir"])) for agent in agents}

    def spawn(self, environ: Mapping[str, str | bytes] | None = None) -> None:
        """Start the container without waiting for anything; `environ` is that of `podman run`."""
        self.process = subprocess.Popen(
            [*self.podman.command, *self._run()],
            env={**self.podman.environ, **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stderr is not None
        self.log = Lines(self.process.stderr)

    def _run(self) -> list[str]:
        """The unit's `ExecStart=`, with what this daemon needs beside it."""
        command, *given, image = options(self.unit_words(UNIT, "ExecStart"))
        capabilities = [] if self.podman.rootless else [f"--cap-add={_ROOTFUL_CAPABILITIES}"]
        return [
            command,
            *given,
            *capabilities,
            *(f"--volume={path}:{path}" for path in self.shared),
            *self.options,
            image,
        ]

    def unit_words(self, unit: Path, key: str) -> list[str]:
        """A command of `podman` as a unit has it, with this daemon's names and places."""
        places = {
            "%t": str(self.runtime),
            "%h": str(self.base),
            AUDIT_ROOT: str(self.audit_root),
            _IMAGE: self.image,
        }
        told = words(unit, key)
        for name, place in places.items():
            told = [word.replace(name, place) for word in told]
        return [self.name if word == "agentd" else word for word in told]

    def unit_does(self, key: str) -> None:
        """Do what the unit does at its end: `ExecStop`, then `ExecStopPost`, which may fail."""
        (command,) = values(UNIT, key)
        podman = self.podman.run if command.startswith("-") else self.podman.podman
        podman(*self.unit_words(UNIT, key))

    def replaced(self) -> str:
        """Do what the unit does at a restart; what the daemon wrote until it ended."""
        self.unit_does("ExecStop")
        assert self.ended() == 0, self.written()
        self.unit_does("ExecStopPost")
        written = self.written()
        self.start()
        return written

    def stop(self) -> None:
        """Make sure that nothing runs any more, the container included."""
        super().stop()
        self.podman.run("rm", "--force", "--ignore", "--time", "0", self.name)


@contextmanager
def contained_agentd(podman: PodmanService, base: Path, image: str) -> Iterator[ContainedAgentd]:
    """A daemon in a container that is stopped at the end, whatever state it is in then."""
    base.mkdir(parents=True, exist_ok=True)
    runtime = Path(tempfile.mkdtemp(prefix="agentd-"))
    agentd = ContainedAgentd(podman, base, runtime, image)
    try:
        yield agentd
    finally:
        agentd.stop()
        shutil.rmtree(runtime, ignore_errors=True)
