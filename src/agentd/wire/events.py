"""What a client is told: a stream of events, of which exactly the last is terminal.

Terminal are `Pong`, `Status`, `Sessions`, `Inspected`, `Agents`, `Instants`, `Metrics`,
`EndOfOutput`, `Reloaded`, `ShutdownComplete`, `Finished`, `Failed`, and `Accepted` where the client
asked for no more.
"""

from __future__ import annotations

import datetime
from typing import Any, Literal, TypeAlias

import msgspec

from .. import errors
from ..errors import AgentdError
from ..outcome import Outcome
from .base import PROTOCOL, Message

SessionState: TypeAlias = Literal["queued", "starting", "running", "stopping", "closing"]
"""Where a session stands: it waits for its place; its container is made; it runs; it was asked to
end; it has ended and its record is being closed."""


class Pong(Message, frozen=True):
    """The daemon answers, and says its version. Terminal."""

    version: str
    protocol: int = PROTOCOL


class Status(Message, frozen=True):
    """How the daemon does; that it answers at all means that it takes requests. Terminal."""

    version: str
    started_at: datetime.datetime
    sessions: int
    """Live ones, those that are being closed included."""
    queued: int
    """Runs that wait for their place."""
    podman_socket: str
    podman_version: str
    """As it was at the daemon's start."""
    rootless: bool
    podman_error: str | None = None
    """Why Podman does not answer at the moment, in words; None means that it does."""


class Progress(Message, frozen=True):
    """What a run waits for before its session exists, in words: the pull of its image."""

    text: str


class Queued(Message, frozen=True):
    """The run waits for its place, at this position from 1; its session will have this id.

    Sent again whenever the position changes. A client may go: the run keeps its place.
    """

    session_id: str
    position: int


class Accepted(Message, frozen=True):
    """The session exists: its id, and the absolute path of its record on the daemon's host."""

    session_id: str
    record: str


class StateChanged(Message, frozen=True):
    """Where the session of a run stands now: it runs, or it is being closed."""

    state: SessionState


class Output(Message, frozen=True):
    """A piece of the container's output, credentials masked; at most `MAX_OUTPUT_BYTES`."""

    stream: Literal["stdout", "stderr"]
    data: bytes
    time: str | None = None
    """When the line began that `data` begins with, where `Logs` asked for timestamps: RFC 3339, as
    Podman gave it. `data` then ends with the line at the latest."""


class EndOfOutput(Message, frozen=True):
    """That was all of the output, or all that there is so far. Terminal."""


class Reloaded(Message, frozen=True):
    """Another configuration counts now, with these changes, by name. Terminal."""

    config: str
    """The file's path."""
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: dict[str, tuple[str, ...]]
    """Keys by agents."""
    daemon: tuple[str, ...]
    """Keys of `[daemon]`."""


class ShutdownStarted(Message, frozen=True):
    """The daemon takes nothing in any more; it has so many sessions."""

    sessions: int


class ShutdownComplete(Message, frozen=True):
    """No session is left, and the daemon ends at once. Terminal."""


class SessionInfo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A session as `Sessions` tells of it; `record` is a path on the daemon's host.

    One that is queued has not started: `started_at` is when it began to wait.
    """

    session_id: str
    agent: str
    state: SessionState
    started_at: datetime.datetime
    record: str
    trigger: Literal["manual", "schedule"]
    deadline: datetime.datetime | None = None
    work_unit: str | None = None
    position: int | None = None
    """In the queue, from 1."""


class Sessions(Message, frozen=True):
    """The live sessions, oldest first, and then those that wait for their place. Terminal."""

    sessions: tuple[SessionInfo, ...]


class PastSession(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A session by its record. Without an `outcome` the record was never closed."""

    session_id: str
    agent: str
    started_at: datetime.datetime
    record: str
    trigger: Literal["manual", "schedule"]
    work_unit: str | None = None
    ended_at: datetime.datetime | None = None
    outcome: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    error_code: str | None = None


class PastSessions(Message, frozen=True):
    """Some of the sessions that do not live any more; more may follow."""

    sessions: tuple[PastSession, ...]


class Inspected(Message, frozen=True):
    """What is known of a session. Terminal."""

    record: str
    state: SessionState | Literal["closed", "incomplete"]
    """Closed: nothing of it is left but its record. Incomplete: nor does it live, and its record
    was never closed."""
    facts: dict[str, Any]
    """What the record's `session.json` says; of a queued run, as much of it as is known, since when
    it waits, and its position."""


class AgentInfo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A declared agent."""

    name: str
    base_image: str
    repo: str | None = None
    schedule: str | None = None
    next_fire: datetime.datetime | None = None
    """In the daemon's local time."""
    live: int = 0
    """Its live sessions, those that wait for their place included."""
    last: PastSession | None = None
    """Its last session that has ended."""


class Agents(Message, frozen=True):
    """The declared agents, in the order of the configuration; `zone` is that of the schedules.
    Terminal."""

    zone: str
    agents: tuple[AgentInfo, ...]


class Instant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a schedule fires, in the daemon's local time."""

    at: datetime.datetime
    note: str | None = None
    """What a change of the clocks has to do with it."""


class Instants(Message, frozen=True):
    """The next instants of an agent's schedule. Terminal."""

    schedule: str
    zone: str
    instants: tuple[Instant, ...]


class MetricsPart(Message, frozen=True):
    """The beginning of a text, or more of it."""

    text: str


class Metrics(Message, frozen=True):
    """The text of all metrics, or what is left of it. Terminal."""

    text: str


class Finished(Message, frozen=True):
    """The session ended with an outcome. Terminal.

    `teardown_error` says that something of the session could not be removed: whoever reads the
    outcome must not take the session for gone.
    """

    session_id: str
    outcome: Outcome
    teardown_error: str | None = None


class Failed(Message, frozen=True):
    """The run was refused, or its session ended without an outcome. Terminal."""

    code: str
    message: str
    session_id: str | None = None

    def error(self) -> AgentdError:
        """The error that the daemon raised, of the class that has this code."""
        return errors.from_code(self.code, self.message)


Event: TypeAlias = (
    Progress
    | Queued
    | Accepted
    | StateChanged
    | Output
    | EndOfOutput
    | Pong
    | Status
    | Sessions
    | PastSessions
    | Inspected
    | Agents
    | Instants
    | MetricsPart
    | Metrics
    | Reloaded
    | ShutdownStarted
    | ShutdownComplete
    | Finished
    | Failed
)
