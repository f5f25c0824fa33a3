"""The daemon in a container of its image, with what docs/deployment.md tells to mount."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from testbed.agentd_process import Agentd, Table
from testbed.podman_service import PodmanService
from testbed.processes import Lines

RUNTIME = Path("/run/agentd")
_ROOTFUL_CAPABILITIES = "CHOWN,DAC_OVERRIDE,FOWNER"


class ContainedAgentd(Agentd):
    """A daemon whose `process` is the attached `podman run`, which passes signals on."""

    def __init__(self, podman: PodmanService, base: Path, runtime: Path, image: str) -> None:
        """The daemon runs from `image`; clients run on the host."""
        super().__init__(podman, base, runtime)
        self.image = image
        self.name = f"daemon-{runtime.name}"
        self.shared = {self.audit_root}
        """What daemon and Podman must find under one path."""
        self.options: tuple[str, ...] = ()
        """More options of `podman run`."""
        self.config = base / "etc/agentd.toml"
        self.config.parent.mkdir()
        self.socket.parent.mkdir(mode=0o700)
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
        """The words of the command, as little as a daemon needs."""
        mounts = {
            self.config.parent: "/etc/agentd:ro",
            self.podman.socket: "/run/podman/podman.sock",
            self.socket.parent: str(RUNTIME),
            **{path: str(path) for path in self.shared},
        }
        capabilities = [] if self.podman.rootless else [f"--cap-add={_ROOTFUL_CAPABILITIES}"]
        return [
            *("run", "--rm", "--name", self.name, "--network", "none", "--tz", "local"),
            *("--read-only", "--tmpfs", "/var/lib/agentd/tmp", "--cap-drop", "all"),
            *("--security-opt", "no-new-privileges", *capabilities),
            *(f"--volume={source}:{target}" for source, target in mounts.items()),
            # Without systemd there is nobody who would ask each minute.
            *("--health-cmd", "/usr/local/bin/agentd status", "--health-interval", "disable"),
            *self.options,
            self.image,
        ]

    def replaced(self) -> str:
        """Do what Quadlet's unit does at a restart; what the daemon wrote until it ended."""
        self.podman.podman("rm", "--volumes", "--force", "--ignore", self.name)
        assert self.ended() == 0, self.written()
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
