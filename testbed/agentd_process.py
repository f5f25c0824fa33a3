"""`agentd daemon` as a process with paths of its own, and what it leaves behind in Podman."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

from testbed.agentd_client import AGENTD, Client, Ended, Record
from testbed.podman_service import PodmanService
from testbed.processes import SECONDS, Lines, WaitError, command_lines, wait_until

Event: TypeAlias = dict[str, Any]
Table: TypeAlias = dict[str, object]

_STRIPPED = ("CONTAINER_HOST", "AGENTD_LOG", "AGENTD_LOG_FORMAT", "XDG_STATE_HOME")


class Agentd:
    """A daemon with paths of its own. Not started: configure, then `start`."""

    def __init__(self, podman: PodmanService, base: Path, runtime: Path) -> None:
        """Files go below `base`; sockets, whose paths are short, below `runtime`."""
        self.podman = podman
        self.base = base
        self.runtime = runtime
        self.audit_root = base / "audit"
        self.config = base / "agentd.toml"
        self.socket = runtime / "agentd/agentd.sock"
        self.pid_file = runtime / "agentd/agentd.pid"
        self.program: tuple[str | Path, ...] = (AGENTD,)
        """What is started with the daemon's arguments."""
        self.process: subprocess.Popen[bytes] | None = None
        self.log: Lines | None = None
        self.temporary = base / "tmp"
        self.temporary.mkdir()
        self._clients: list[Client] = []
        inherited = {name: text for name, text in os.environ.items() if name not in _STRIPPED}
        self.environ = inherited | {
            "XDG_RUNTIME_DIR": str(runtime),
            "TMPDIR": str(self.temporary),
            "CONTAINER_HOST": f"unix://{podman.socket}",
        }

    @property
    def prefix(self) -> str:
        """How the names of all that this daemon makes in Podman begin."""
        text = f"socket={self.socket}\npid={self.pid_file}\naudit={self.audit_root}\n"
        return f"agentd-{hashlib.sha256(text.encode()).hexdigest()[:8]}-"

    def configure(self, *agents: Table, **daemon: object) -> None:
        """Write the configuration: its agents, and more keys for the daemon."""
        self.audit_root = Path(str(daemon.get("audit_root", self.audit_root)))
        self.config.write_text(_document({"audit_root": str(self.audit_root), **daemon}, agents))

    def spawn(self, environ: Mapping[str, str | bytes] | None = None) -> None:
        """Start the daemon without waiting for anything."""
        self.process = subprocess.Popen(
            [*self.program, "daemon", "--config", self.config],
            env={**self.environ, **(environ or {})},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stderr is not None
        self.log = Lines(self.process.stderr)

    def start(self, environ: Mapping[str, str | bytes] | None = None) -> None:
        """Start the daemon; returns when it takes requests."""
        self.spawn(environ)
        self.wait_for("agentd.daemon_started")

    def wait_for(self, event: str, **fields: object) -> Event:
        """Wait until the daemon has logged such an event, and return it."""
        assert self.log is not None
        found: list[Event] = []

        def matches(line: str) -> bool:
            with suppress(ValueError):
                logged = json.loads(line)
                if logged["event"] == event and fields.items() <= logged.items():
                    found.append(logged)
            return bool(found)

        self.log.wait_for(f"event {event} with {fields}", matches)
        return found[0]

    def events(self, **fields: object) -> list[Event]:
        """What the daemon has logged so far with these fields."""
        assert self.log is not None
        logged = [json.loads(line) for line in self.log.text.splitlines()]
        return [event for event in logged if fields.items() <= event.items()]

    def spawn_killed_at(self, step: str) -> None:
        """Start a daemon that dies at this step, see `testbed.killed_agentd`."""
        self.program = (sys.executable, "-m", "testbed.killed_agentd", step)
        self.spawn()
        self.program = (AGENTD,)

    def start_killed_at(self, step: str) -> None:
        """Start a daemon that dies at this step of its first session."""
        self.spawn_killed_at(step)
        self.wait_for("agentd.daemon_started")

    def settle(self) -> None:
        """Start the next daemon, and wait until it has closed what another one left."""
        self.start()
        self.wait_settled()

    def wait_settled(self) -> None:
        """Wait until every record is closed, and nothing is kept for its closing."""
        wait_until(
            "every record is closed",
            lambda: all("outcome" in record.facts for record in self.session_records()),
        )
        wait_until("nothing is kept for masking", lambda: not self.masks())

    def refusal(self, environ: Mapping[str, str | bytes] | None = None) -> tuple[int, str]:
        """Start a daemon that ends by itself; its exit status and what it wrote."""
        self.spawn(environ)
        return self.ended(), self.written()

    def written(self) -> str:
        """All that the daemon wrote until its end."""
        assert self.log is not None
        return self.log.complete()

    def signal(self, number: signal.Signals) -> None:
        """Send the daemon's process a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for the daemon's end; its exit status."""
        assert self.process is not None
        try:
            return self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            assert self.log is not None
            raise WaitError(f"the daemon does not end: {self.log.text}") from None

    def drained(self) -> int:
        """Ask the daemon to end once, and wait until it has; its exit status."""
        self.signal(signal.SIGTERM)
        return self.ended()

    def stop(self) -> None:
        """Make sure that nothing runs any more, neither daemon nor client."""
        if self.process is not None and self.process.poll() is None:
            with suppress(WaitError):
                self._force_down()
                self.ended()
            self.process.kill()
            self.process.wait()
        if self.log is not None:
            self.log.complete()
        for client in self._clients:
            client.wait()

    def _force_down(self) -> None:
        """The second signal makes the daemon kill its sessions; a third would leave them."""
        assert self.log is not None
        if '"agentd.shutdown_started"' not in self.log.text:
            self.signal(signal.SIGTERM)
            self.wait_for("agentd.shutdown_started")
        self.signal(signal.SIGINT)

    def command(self, *words: str) -> Client:
        """Start a client command, such as `ps`."""
        client = Client(words, self.environ)
        self._clients.append(client)
        return client

    def client(self, *args: str) -> Client:
        """Start `agentd run`."""
        return self.command("run", *args)

    def run(self, *args: str) -> Ended:
        """Let `agentd run` come to its end."""
        return self.client(*args).wait()

    def script(self, script: str, agent: str = "worker") -> Client:
        """Start `agentd run` of an agent whose command is `SCRIPTED`."""
        return self.client(agent, "--work-unit", script)

    def containers(self) -> list[str]:
        """The containers of this daemon that Podman knows."""
        names = self.podman.podman("ps", "--all", "--format", "{{.Names}}").split()
        return [name for name in names if name.startswith(self.prefix)]

    def secrets(self) -> list[str]:
        """The secrets of this daemon that Podman knows."""
        names = self.podman.podman("secret", "ls", "--format", "{{.Name}}").split()
        return [name for name in names if name.startswith(self.prefix)]

    def processes(self) -> list[str]:
        """The command lines of what runs for a container of this daemon: its monitor."""
        return [line for line in command_lines() if self.prefix in line]

    def records(self) -> set[Path]:
        """The directories of all records, and anything else that lies where records do."""
        return set(self.audit_root.glob("*/*")) | set(self.audit_root.glob(".*"))

    def session_records(self) -> list[Record]:
        """The records, one for each session."""
        return [Record(path) for path in self.records()]

    def masks(self) -> list[Path]:
        """What is kept of credentials for masking."""
        return list((self.runtime / "agentd/masks").glob("*/*"))

    def assert_nothing_left(self) -> None:
        """Nothing of this daemon's sessions is left but their records."""
        assert (self.masks(), list(self.temporary.iterdir())) == ([], [])
        self.assert_nothing_left_in_podman()

    def assert_nothing_left_in_podman(self) -> None:
        """Podman holds nothing of this daemon, and no monitor of its containers lives."""
        assert (self.containers(), self.secrets()) == ([], [])
        wait_until("no conmon of the daemon lives", lambda: not self.processes())


@contextmanager
def agentd_process(podman: PodmanService, base: Path) -> Iterator[Agentd]:
    """A daemon that is stopped at the end, whatever state it is in then."""
    base.mkdir(parents=True, exist_ok=True)
    runtime = Path(tempfile.mkdtemp(prefix="agentd-"))
    agentd = Agentd(podman, base, runtime)
    try:
        yield agentd
    finally:
        agentd.stop()
        shutil.rmtree(runtime, ignore_errors=True)


def _document(daemon: Table, agents: tuple[Table, ...]) -> str:
    tables = [("[daemon]", daemon), *(("[[agents]]", agent) for agent in agents)]
    return "\n".join(
        line
        for heading, table in tables
        for line in (heading, *(f"{key} = {_toml(value)}" for key, value in table.items()))
    )


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    # JSON's strings, numbers and booleans are TOML's too.
    return json.dumps(value, ensure_ascii=False)
