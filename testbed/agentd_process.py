"""`agentd daemon` and `agentd run` as processes of their own, and what they leave behind."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

from testbed.podman_service import PodmanService

AGENTD = Path(sys.executable).with_name("agentd")
SECONDS = 60.0
"""The bound of every wait; what is waited for takes about a second."""

Event: TypeAlias = dict[str, Any]
Table: TypeAlias = dict[str, object]

SCRIPTED = ["/bin/sh", "-c", 'eval "$AGENTD_WORK_UNIT"']
"""The command of an agent that does what each run's work unit says, in the words of sh."""

HOLD = "mkfifo .runa/hold; echo ready; read -r _ <.runa/hold; rm .runa/hold"
"""For such an agent: says that it is ready, and waits for `Record.release`."""

_SESSION = re.compile(r"^agentd: session ([0-9a-f]{16}), record (/.*)$", re.MULTILINE)
_STRIPPED = ("CONTAINER_HOST", "AGENTD_LOG", "AGENTD_LOG_FORMAT", "XDG_STATE_HOME")


class WaitError(AssertionError):
    """What was waited for did not come; the message holds what came instead."""


def wait_until(what: str, true: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Wait for a state of the machine that nothing announces."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise WaitError(f"not within {seconds:g} s: {what}")
        time.sleep(0.01)


class Lines:
    """The lines that a process writes to one of its streams, kept as they come."""

    def __init__(self, stream: IO[bytes]) -> None:
        """Read until the stream ends."""
        self._lines: list[str] = []
        self._ended = False
        self._changed = threading.Condition()
        self._stream = stream
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._stream:
            for line in self._stream:
                self._add(line.decode(errors="surrogateescape"))
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _add(self, line: str) -> None:
        with self._changed:
            self._lines.append(line)
            self._changed.notify_all()

    @property
    def text(self) -> str:
        """All of it so far."""
        with self._changed:
            return "".join(self._lines)

    def wait_for(self, what: str, found: Callable[[str], bool], seconds: float = SECONDS) -> str:
        """Return the first line, from the very beginning on, for which `found` is true."""
        deadline = time.monotonic() + seconds
        position = 0
        with self._changed:
            while True:
                while position < len(self._lines):
                    if found(self._lines[position]):
                        return self._lines[position]
                    position += 1
                left = deadline - time.monotonic()
                if self._ended or not self._changed.wait(max(left, 0)):
                    raise WaitError(f"no {what} in:\n{''.join(self._lines)}")

    def complete(self) -> str:
        """Wait for the end of the stream and return all of it."""
        self._thread.join(SECONDS)
        return self.text


@dataclass(frozen=True)
class Ended:
    """How a client ended, and what it wrote."""

    code: int
    stdout: str
    stderr: str

    @property
    def session_id(self) -> str:
        """The id that the client was told."""
        return _session(self.stderr)[1]

    @property
    def record(self) -> Record:
        """The record of the client's session."""
        return Record(Path(_session(self.stderr)[2]))


def _session(text: str) -> re.Match[str]:
    match = _SESSION.search(text)
    if match is None:
        raise AssertionError(f"there is no session in: {text}")
    return match


@dataclass(frozen=True)
class Record:
    """One session's record on disk."""

    directory: Path

    @property
    def facts(self) -> Event:
        """What `session.json` says."""
        facts: Event = json.loads((self.directory / "agentd/session.json").read_bytes())
        return facts

    @property
    def runa(self) -> Path:
        """What the session wrote."""
        return self.directory / "runa"

    def read(self, name: str) -> str:
        """A file that the session wrote below `.runa`."""
        return (self.runa / name).read_text(errors="surrogateescape")

    def release(self) -> None:
        """Let an agent go on that waits at `HOLD`."""
        descriptors: list[int] = []

        def reader_is_there() -> bool:
            with suppress(OSError):
                descriptors.append(os.open(self.runa / "hold", os.O_WRONLY | os.O_NONBLOCK))
            return bool(descriptors)

        wait_until("the agent reads its FIFO", reader_is_there)
        os.write(descriptors[0], b"\n")
        os.close(descriptors[0])


class Client:
    """A running `agentd run`."""

    def __init__(self, args: tuple[str, ...], environ: Mapping[str, str]) -> None:
        """Start it."""
        self.process = subprocess.Popen(
            [AGENTD, "run", *args],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.stdout = Lines(self.process.stdout)
        self.stderr = Lines(self.process.stderr)

    def wait_for_line(self, text: str) -> None:
        """Wait until the session has written this line to its standard output."""
        self.stdout.wait_for(f"line '{text}'", lambda line: line == f"{text}\n")

    @property
    def session_id(self) -> str:
        """The session's id, once the client knows it."""
        return _session(self.stderr.wait_for("session", lambda line: bool(_SESSION.match(line))))[1]

    @property
    def record(self) -> Record:
        """The session's record, once the client knows it."""
        self.stderr.wait_for("session", lambda line: bool(_SESSION.match(line)))
        return Record(Path(_session(self.stderr.text)[2]))

    def wait(self) -> Ended:
        """Wait for the client's end."""
        try:
            code = self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise WaitError(f"the client does not end: {self.stderr.complete()}") from None
        return Ended(code, self.stdout.complete(), self.stderr.complete())


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
        self.process: subprocess.Popen[bytes] | None = None
        self.log: Lines | None = None
        self._clients: list[Client] = []
        inherited = {name: text for name, text in os.environ.items() if name not in _STRIPPED}
        self.environ = inherited | {
            "XDG_RUNTIME_DIR": str(runtime),
            "CONTAINER_HOST": f"unix://{podman.socket}",
        }

    @property
    def prefix(self) -> str:
        """How the names of all that this daemon makes in Podman begin."""
        text = f"socket={self.socket}\npid={self.pid_file}\naudit={self.audit_root}\n"
        return f"agentd-{hashlib.sha256(text.encode()).hexdigest()[:8]}-"

    def configure(self, *agents: Table, **daemon: object) -> None:
        """Write the configuration: its agents, and more keys for the daemon."""
        self.config.write_text(_document({"audit_root": str(self.audit_root), **daemon}, agents))

    def spawn(self, environ: Mapping[str, str | bytes] | None = None) -> None:
        """Start the daemon without waiting for anything."""
        self.process = subprocess.Popen(
            [AGENTD, "daemon", "--config", self.config],
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
            # Two signals, because the same one twice may arrive as one.
            self.signal(signal.SIGTERM)
            self.signal(signal.SIGINT)
            with suppress(WaitError):
                self.ended()
            self.process.kill()
            self.process.wait()
        if self.log is not None:
            self.log.complete()
        for client in self._clients:
            client.wait()

    def client(self, *args: str) -> Client:
        """Start `agentd run`."""
        client = Client(args, self.environ)
        self._clients.append(client)
        return client

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

    def masks(self) -> list[Path]:
        """What is kept of credentials for masking."""
        return list((self.runtime / "agentd/masks").glob("*"))

    def assert_nothing_left(self) -> None:
        """Podman holds nothing of this daemon, and none of its containers' processes lives."""
        left = (self.containers(), self.secrets(), self.masks())
        assert left == ([], [], [])
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


def command_lines() -> list[str]:
    """What is running on this machine; an ended process that nobody reaped has no command line."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            lines.append(path.read_bytes().decode(errors="replace"))
    return lines


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
