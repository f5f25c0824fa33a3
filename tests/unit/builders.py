"""Sound values for tests to start from; each test changes what it is about."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import msgspec

from agentd import audit, config, names, wire
from agentd.methodology import Document
from agentd.podman import Container, ContainerState, Image
from agentd.session.invocation import Invocation, RepoToken, Variable
from agentd.session.session import Session
from agentd.session.spec import Admitted, HostAbilities

URL = "https://git.example.org/a/b"
SESSION = "0123456789abcdef"
INSTANCE = "58e3c8db"
WHOSE = names.Identity(INSTANCE, SESSION)
NOON = datetime.datetime(2026, 8, 20, 12, 0, tzinfo=datetime.UTC)
TOKEN = RepoToken(b"t0ken-value", "basic", "x-access-token", "https://git.example.org")

SOUND_AGENT = config.Agent(
    name="builder",
    base_image="localhost/builder",
    methodology_dir=Path("/srv/methodology"),
    command=config.Command(("work", "-v")),
    repo=URL,
)
IMAGE = Image("ab" * 32, "sha256:" + "cd" * 32)
DOCUMENT = Document("request", "operator-input", b"{}")
ROOTFUL = HostAbilities(rootless=False, controllers=frozenset({"cpu", "memory", "pids"}))
ROOTLESS = HostAbilities(rootless=True, mapped_ids=65537)
SESSION_INFO = wire.SessionInfo(
    session_id=SESSION,
    agent="builder",
    state="running",
    started_at=NOON,
    record="/r",
    trigger="manual",
)


def agent(**changes: Any) -> config.Agent:
    return msgspec.structs.replace(SOUND_AGENT, **changes)


def invocation(**changes: Any) -> Invocation:
    return msgspec.structs.replace(
        Invocation(agent=SOUND_AGENT, repo_url=URL, credentials=()), **changes
    )


def credentials(**values: bytes) -> tuple[Variable, ...]:
    return tuple(Variable(name, value) for name, value in values.items())


def admitted(invoked: Invocation | None = None, **changes: Any) -> Admitted:
    whole = Admitted(
        invocation=invoked or invocation(),
        document=None,
        mount_sources=(),
        image=IMAGE,
    )
    return msgspec.structs.replace(whole, **changes)


def record(root: Path) -> audit.Record:
    return audit.Record.of(root, "builder", SESSION)


def start_facts(**changes: Any) -> audit.Start:
    facts = audit.Start(
        session_id=SESSION,
        agent="builder",
        repo_url=URL,
        start_timestamp=NOON,
        trigger="manual",
        base_image="localhost/builder",
        image_id="ab" * 32,
        container_name=names.container_name(WHOSE, "builder"),
        limits=audit.Limits(output=1, record=2),
    )
    return msgspec.structs.replace(facts, **changes)


def session(root: Path = Path("/nowhere"), **changes: Any) -> Session:
    """A live one, whose record is below `root`."""
    return Session(start_facts(**changes), record(root), ())


def end_facts(**changes: Any) -> audit.End:
    facts = audit.End(
        end_timestamp=NOON + datetime.timedelta(seconds=5),
        outcome="success",
        exit_code=0,
        duration_seconds=5.0,
    )
    return msgspec.structs.replace(facts, **changes)


def state(
    status: str = "running", exit_code: int = 0, ended: float | None = None
) -> ContainerState:
    """A container's state; it was started at noon, and `ended` so many seconds later."""
    finished = None if ended is None else NOON + datetime.timedelta(seconds=ended)
    return ContainerState(status=status, exit_code=exit_code, started_at=NOON, finished_at=finished)


def never_started() -> ContainerState:
    year_one = datetime.datetime(1, 1, 1, tzinfo=datetime.UTC)
    return ContainerState("created", 0, started_at=year_one, finished_at=year_one)


def container(of: ContainerState) -> Container:
    return Container("c" * 64, "name", of)
