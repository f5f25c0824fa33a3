"""What a configuration says, as frozen values. No rules, no text, no I/O.

The same Structs serve a configuration file and a program that declares its agents in Python.
Building one checks nothing: `agent_problems` holds the rules, and a run applies them again.
Optional values are None when the operator wrote nothing; durations are seconds, sizes bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from msgspec import Struct, field

from ..errors import UnknownAgent

Overlap = Literal["allow", "skip", "queue"]
Pull = Literal["always", "missing", "newer", "never"]
TokenScheme = Literal["basic", "bearer"]

DEFAULT_OUTPUT_LIMIT: Final = 256 * 2**20
DEFAULT_RECORD_LIMIT: Final = 2 * 2**30


class Command(Struct, frozen=True):
    """The agent's own command, exactly as it is executed: no shell reads it."""

    argv: tuple[str, ...]


class Mount(Struct, frozen=True):
    """One host path that the operator gives to every session of an agent."""

    source: str
    target: str
    read_only: bool


class Credential(Struct, frozen=True):
    """A variable `name` of the session, filled from `source` in the daemon's environment."""

    name: str
    source: str


class Limits(Struct, frozen=True):
    """What one session may use; None asks for the default, if the host can give it at all."""

    memory: int | None = None
    cpus: float | None = None
    pids: int | None = None
    output: int = DEFAULT_OUTPUT_LIMIT
    record: int = DEFAULT_RECORD_LIMIT


class Isolation(Struct, frozen=True):
    """Protections that an image may force an operator to give up, one key for each."""

    no_new_privileges: bool = True
    init: bool = True


class RepoToken(Struct, frozen=True):
    """How the clone token is presented, and the one origin that may ever see it."""

    scheme: TokenScheme = "basic"
    username: str = "x-access-token"
    origin: str | None = None


class Agent(Struct, frozen=True, kw_only=True):
    """One declared agent; `name` is what operators call it by and its user in the container."""

    name: str
    base_image: str
    methodology_dir: Path
    command: Command
    repo: str | None = None
    schedule: str | None = None
    repo_token_source: str | None = None
    mounts: tuple[Mount, ...] = ()
    credentials: tuple[Credential, ...] = ()
    timeout: float | None = None
    overlap: Overlap = "allow"
    scheduled_request: str | None = None
    pull: Pull = "missing"
    network: str = "default"
    environment: dict[str, str] = field(default_factory=dict)
    limits: Limits = Limits()
    isolation: Isolation = Isolation()
    repo_token: RepoToken = RepoToken()


class Daemon(Struct, frozen=True, kw_only=True):
    """The daemon's own settings; `max_sessions` 0 is no bound, `shutdown_grace` is seconds."""

    socket_path: Path | None = None
    pid_file: Path | None = None
    audit_root: Path | None = None
    podman_socket: Path | None = None
    max_sessions: int = 0
    shutdown_grace: float = 5.0


class Config(Struct, frozen=True):
    """A whole configuration: the daemon and its agents, in the order of the file."""

    daemon: Daemon
    agents: tuple[Agent, ...]

    def agent(self, name: str) -> Agent:
        """The agent of that name.

        Raises:
            UnknownAgent: none is declared.
        """
        for agent in self.agents:
            if agent.name == name:
                return agent
        known = ", ".join(agent.name for agent in self.agents)
        raise UnknownAgent(f"unknown agent '{name}'; declared are: {known}")
