"""A Podman service of our own, which never touches the Podman of the machine's user.

It has its own storage, state, configuration and network definitions, works alike as root and as an
unprivileged user, and is gone without a trace when its context ends.
"""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from testbed.podman_tree import chosen_programs

READY_SECONDS = 30.0
STOP_SECONDS = 10.0
COMMAND_SECONDS = 300.0

# What a client's environment says about Podman is about another service than ours.
_FOREIGN_VARIABLES = (
    "CONTAINER_CONNECTION",
    "CONTAINER_HOST",
    "CONTAINER_SSHKEY",
    "CONTAINERS_CONF_OVERRIDE",
    "CONTAINERS_STORAGE_CONF",
    "NOTIFY_SOCKET",
    "REGISTRY_AUTH_FILE",
)

# The limits: Podman's defaults need CAP_SYS_RESOURCE and a controller of process ids, which a
# container or a VM may lack.
# The runtime: crun refuses hybrid cgroups, runc takes every layout.
# Events and cgroups: neither journald nor a systemd session need exist.
# The locks: by default all services of a user share one segment of 2048 locks in memory.
_CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
pids_limit = 0
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime = "runc"
tmp_dir = "{runtime}/libpod"
[network]
network_config_dir = "{networks}"
default_subnet = "{subnet}"
"""

# Rootless Podman 4 takes the second path of the store, and the run root from XDG_RUNTIME_DIR.
_STORAGE_CONF = """\
[storage]
driver = "overlay"
graphroot = "{store}"
rootless_storage_path = "{store}"
runroot = "{runtime}/containers"
"""

# Registries of the tests speak plain HTTP. The service reads this once, so it names no port.
_REGISTRIES_CONF = """\
[[registry]]
location = "127.0.0.1"
insecure = true
"""

# Podman takes its listening socket as descriptor 3, if LISTEN_PID is its own process id.
_ACTIVATE = 'LISTEN_PID=$$ exec "$@" 3<&0 </dev/null'

_REMOVE_LAYERS = 'umount -l "$1/overlay"; rm -rf -- "$1"'


class PodmanError(RuntimeError):
    """A podman command failed; the message holds what it wrote to its standard error."""


@dataclass
class PodmanService:
    """A Podman service and the command line that works on the same store.

    `process` is None for a service that somebody else runs.
    """

    socket: Path
    command: tuple[str, ...]
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    process: subprocess.Popen[bytes] | None = None
    entering: tuple[str, ...] = ()
    """What stands before a command that is to see the mounts that the service sees."""

    @property
    def rootless(self) -> bool:
        """Whether containers live in the user namespace of an unprivileged user."""
        return os.geteuid() != 0

    def run(
        self, *args: str, stdin: str | None = None, seconds: float = COMMAND_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Run one podman command to its end, whatever its exit code."""
        return subprocess.run(
            [*self.command, *args],
            check=False,
            env=self.environ,
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=seconds,
        )

    def podman(self, *args: str, stdin: str | None = None) -> str:
        """Return what one podman command printed; raise `PodmanError` if it failed."""
        done = self.run(*args, stdin=stdin)
        if done.returncode != 0:
            raise PodmanError(f"podman {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout

    def start(self, log: Path) -> None:
        """Start serving; returns when the service has answered a ping.

        The socket listens before the service exists, as under systemd: a client that comes early
        waits in its queue, so there is no moment at which a connection is refused.
        """
        self.socket.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener, log.open("ab") as output:
            listener.bind(str(self.socket))
            self.socket.chmod(0o600)
            listener.listen(128)
            self.process = spawn_with_listener(
                [*self.command, "system", "service", "--time", "0"],
                listener,
                output.fileno(),
                self.environ,
                self.socket.parent,
            )
        if not answers(self.socket, READY_SECONDS):
            raise PodmanError(f"the Podman service did not come up: {log.read_text()[-2000:]}")

    def stop(self) -> None:
        """End the service; its containers run on."""
        if self.process is None:
            return
        self.signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS)
        # A rootless service is two processes; the second can outlive the first.
        self.signal(signal.SIGKILL)
        self.process.wait()

    def restart(self, log: Path) -> None:
        """End the service and start it again on the same socket path and store."""
        self.stop()
        self.start(log)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the service's own session; its containers are not in it."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)


def spawn_with_listener(
    command: list[str],
    listener: socket.socket,
    output: int,
    environ: Mapping[str, str],
    directory: Path,
) -> subprocess.Popen[bytes]:
    """Start a program by socket activation; the shell gets the listener as its standard input.

    Its directory is one of its own: Podman 4 leaves a file `oom` there for a container that ran
    out of memory.
    """
    return subprocess.Popen(
        ["sh", "-c", _ACTIVATE, "sh", *command],
        env={**environ, "LISTEN_FDS": "1"},
        cwd=directory,
        stdin=listener.fileno(),
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


def answers(path: Path, seconds: float = 5.0) -> bool:
    """Whether a Podman service answers a ping on this socket."""
    try:
        get(path, "/libpod/_ping", seconds)
    except (OSError, http.client.HTTPException):
        return False
    return True


def get(path: Path, resource: str, seconds: float = COMMAND_SECONDS) -> bytes:
    """What the service at this socket says of a resource; an HTTP error is an `HTTPException`.

    Takes a hundredth of what a podman command takes to start.
    """
    connection = http.client.HTTPConnection("localhost")
    try:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(seconds)
        connection.sock.connect(str(path))
        connection.request("GET", resource)
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise http.client.HTTPException(f"{resource}: {response.status} {response.reason}")
        return response.read()
    finally:
        connection.close()


def reachable_podman_socket() -> Path | None:
    """The socket of a Podman service that already serves this user, if there is one."""
    candidates = []
    host = os.environ.get("CONTAINER_HOST", "")
    if host.startswith("unix://"):
        candidates.append(Path(host.removeprefix("unix://")))
    if runtime_dir := os.environ.get("XDG_RUNTIME_DIR"):
        candidates.append(Path(runtime_dir, "podman/podman.sock"))
    if os.geteuid() == 0:
        candidates.append(Path("/run/podman/podman.sock"))
    return next((path for path in candidates if answers(path)), None)


def reached_podman_service(path: Path) -> PodmanService:
    """The service behind a socket that somebody else serves."""
    return PodmanService(socket=path, command=("podman", "--url", f"unix://{path}"))


@contextmanager
def private_podman_service(base: Path) -> Iterator[PodmanService]:
    """Serve Podman from storage below `base`; leave no process, mount or file behind."""
    store = base / "store"
    store.mkdir(parents=True)
    # Sockets lie in it, and their paths must fit 107 bytes, however long `base` is.
    runtime = Path(tempfile.mkdtemp(prefix="agentd-podman-"))
    with chosen_programs(runtime) as programs:
        files = {
            "CONTAINERS_CONF": _CONTAINERS_CONF.format(
                runtime=runtime, networks=base / "networks", subnet=programs.subnet
            ),
            "CONTAINERS_STORAGE_CONF": _STORAGE_CONF.format(store=store, runtime=runtime),
            "CONTAINERS_REGISTRIES_CONF": _REGISTRIES_CONF,
        }
        service = PodmanService(
            socket=runtime / "podman.sock",
            command=(*programs.entering, "podman"),
            environ={**_private_environment(base, runtime, files), **programs.environ},
            entering=programs.entering,
        )
        try:
            service.start(base / "service.log")
            yield service
        finally:
            service.stop()
            _discard(service, store, runtime)


def _private_environment(base: Path, runtime: Path, files: Mapping[str, str]) -> dict[str, str]:
    """What leads every `podman` to the store and state of ours; `files` are its settings."""
    environ = {name: text for name, text in os.environ.items() if name not in _FOREIGN_VARIABLES}
    for variable, text in files.items():
        file = base / variable.lower()
        file.write_text(text)
        environ[variable] = str(file)
    # Rootless Podman keeps its namespace holder's process id and network state here, and `podman
    # login` what it was told.
    environ["XDG_RUNTIME_DIR"] = str(runtime)
    return environ


def _discard(service: PodmanService, store: Path, runtime: Path) -> None:
    """Remove all containers, then mounts, then files, in the namespace that owns them."""
    service.run("rm", "--all", "--force", "--time", "0")
    if service.rootless:
        # Layers belong to subordinate ids, and the mounts exist in Podman's namespace only.
        service.run("unshare", "sh", "-c", _REMOVE_LAYERS, "sh", str(store))
        _end_namespace_holder(runtime)
    else:
        _unmount_below(store, runtime)
    for directory in (store, runtime):
        shutil.rmtree(directory, ignore_errors=True)


def _end_namespace_holder(runtime: Path) -> None:
    """Kill the process by which rootless Podman keeps its user namespace alive."""
    for pid_file in runtime.rglob("pause.pid"):
        with suppress(ProcessLookupError, ValueError):
            os.kill(int(pid_file.read_text()), signal.SIGKILL)


def _unmount_below(*directories: Path) -> None:
    """Unmount what rootful Podman left mounted, the innermost first."""
    mounts = [
        Path(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines()
    ]
    for mount in reversed(mounts):
        if any(mount.is_relative_to(directory) for directory in directories):
            subprocess.run(["umount", "--lazy", str(mount)], check=False, capture_output=True)
