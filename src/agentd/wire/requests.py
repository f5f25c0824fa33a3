"""What a client may ask: one request a connection. Each carries the protocol's number."""

from __future__ import annotations

import datetime
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from ..quantities import MAX_DURATION
from .base import (
    MAX_INSTANTS,
    MAX_STOP_GRACE_SECONDS,
    PROTOCOL,
    STOP_GRACE_SECONDS,
    Argument,
    Message,
    MetricsFormat,
    Name,
)


class TextInput(Message, frozen=True):
    """Words from the operator; they become the artifact `request/operator-input`."""

    description: str


class ArtifactInput(Message, frozen=True):
    """A JSON document that becomes an artifact; it travels as the bytes of its file."""

    artifact_type: Name
    artifact_id: Name
    document: bytes


class Ping(Message, frozen=True):
    """Are you there? Answered by `Pong`."""

    protocol: int = PROTOCOL


class GetStatus(Message, frozen=True):
    """How do you do? Answered by `Status`."""

    protocol: int = PROTOCOL


class Run(Message, frozen=True):
    """Start a session of `agent`; its events follow until it ends.

    With `detach` the stream ends with `Accepted`. A client that goes away detaches too: its
    session goes on.
    """

    agent: Name
    repo_url: Argument | None = None
    work_unit: Argument | None = None
    input: TextInput | ArtifactInput | None = None
    timeout: Annotated[float, Meta(gt=0, le=MAX_DURATION)] | None = None
    """Seconds, in place of the agent's own."""
    trigger: Literal["manual", "schedule"] = "manual"
    detach: bool = False
    protocol: int = PROTOCOL


class ListSessions(Message, frozen=True):
    """Which sessions are there? Answered by `Sessions`, the live ones.

    With `past`, `PastSessions` come before, as often as it takes; each session is told of once, as
    it was at one moment. With `agent`, only its own.
    """

    past: bool = False
    agent: Name | None = None
    protocol: int = PROTOCOL


class Inspect(Message, frozen=True):
    """What is known of a session, queued, live or past? Answered by `Inspected`.

    `session` is an id or the beginning of one.
    """

    session: Name
    protocol: int = PROTOCOL


class ListAgents(Message, frozen=True):
    """Which agents are declared? Answered by `Agents`."""

    protocol: int = PROTOCOL


class GetSchedule(Message, frozen=True):
    """When does an agent fire next, strictly after `after` or else after now? Answered by
    `Instants`."""

    agent: Name
    count: Annotated[int, Meta(ge=1, le=MAX_INSTANTS)] = 10
    after: Annotated[datetime.datetime, Meta(tz=True)] | None = None
    protocol: int = PROTOCOL


class GetMetrics(Message, frozen=True):
    """What was counted and measured? Answered by `MetricsPart`, as often as it takes, and at last
    by `Metrics`."""

    format: MetricsFormat = "openmetrics"
    protocol: int = PROTOCOL


class Logs(Message, frozen=True):
    """The output of a session, live or past; `Output` follows, and at last `EndOfOutput`.

    `session` is an id or the beginning of one. With `follow` the end of the output is that of the
    session, else it is what there is now. A run that waits for its place has none now; with
    `follow` its session is waited for, and `Failed` says why there is none.
    """

    session: Name
    follow: bool = False
    stream: Literal["stdout", "stderr"] | None = None
    """The one that is wanted; both unless given."""
    since: Annotated[datetime.datetime, Meta(tz=True)] | None = None
    """Lines that began at this instant or later."""
    tail: Annotated[int, Meta(ge=0)] | None = None
    """So many of the last of those lines, and with `follow` all that come."""
    timestamps: bool = False
    """Each line with its time."""
    protocol: int = PROTOCOL


class Stop(Message, frozen=True):
    """End a live session: SIGINT now, SIGKILL after the grace; with a grace of 0, at once.

    Answered by `Accepted` when it was asked to end, which nothing takes back any more, and by
    `Finished` or `Failed` when it has, with its container gone. `session` is an id or the beginning
    of one.
    """

    session: Name
    grace_seconds: Annotated[float, Meta(ge=0, le=MAX_STOP_GRACE_SECONDS)] = STOP_GRACE_SECONDS
    protocol: int = PROTOCOL


class Reload(Message, frozen=True):
    """Read the configuration again, as SIGHUP does. Answered by `Reloaded`."""

    protocol: int = PROTOCOL


class Shutdown(Message, frozen=True):
    """End the daemon as SIGTERM does: nothing new is taken in, and the live sessions go on to their
    ends. With `leave`, as SIGUSR1 does: they are left to the next daemon.

    Answered by `ShutdownStarted` at once, and by `ShutdownComplete` when no session is left.
    """

    leave: bool = False
    protocol: int = PROTOCOL


Question: TypeAlias = Ping | GetStatus | Inspect | ListAgents | GetSchedule | Reload
"""What is answered by one event."""

Request: TypeAlias = Question | Run | ListSessions | GetMetrics | Logs | Stop | Shutdown
