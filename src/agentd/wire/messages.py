"""Messages: one closed union each way, MessagePack in a frame.

A connection carries one request and then a stream of events, of which exactly the last is
terminal: `Pong`, `Status`, `Sessions`, `EndOfOutput`, `ShutdownComplete`, `Finished`, `Failed`, or
`Accepted` where the client asked for no more.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from .. import errors
from ..errors import AgentdError
from ..outcome import Outcome

PROTOCOL: Final = 2
"""Grows with every change that an older peer would misread."""

STOP_GRACE_SECONDS: Final = 30.0
"""How long a session that is asked to stop has, unless the client says otherwise."""

MAX_STOP_GRACE_SECONDS: Final = 86_400.0

MAX_OUTPUT_BYTES: Final = 256 * 1024
"""The most that one `Output` carries."""

MAX_NAME: Final = 1024
"""Characters of a name or an id that a client gives. Each is shorter by its own rule, whose refusal
repeats it: into a reply, which is one frame, and into the log."""

MAX_ARGUMENT: Final = 256 * 1024
"""Characters of a word that becomes a program's argument; Linux takes 128 KiB, execve(2)."""

Name: TypeAlias = Annotated[str, Meta(max_length=MAX_NAME)]
Argument: TypeAlias = Annotated[str, Meta(max_length=MAX_ARGUMENT)]


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


class _Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=_snake):
    """Base of all messages: strict, and tagged by a `type` field."""


SessionState: TypeAlias = Literal["queued", "starting", "running", "stopping", "closing"]
"""Where a session stands: it waits for its place; its container is made; it runs; it was asked to
end; it has ended and its record is being closed."""


class TextInput(_Message, frozen=True):
    """Words from the operator; they become the artifact `request/operator-input`."""

    description: str


class ArtifactInput(_Message, frozen=True):
    """A JSON document that becomes an artifact; it travels as the bytes of its file."""

    artifact_type: Name
    artifact_id: Name
    document: bytes


class Ping(_Message, frozen=True):
    """Are you there? Answered by `Pong`."""

    protocol: int = PROTOCOL


class GetStatus(_Message, frozen=True):
    """How do you do? Answered by `Status`."""

    protocol: int = PROTOCOL


class Run(_Message, frozen=True):
    """Start a session of `agent`; its events follow until it ends.

    With `detach` the stream ends with `Accepted`. A client that goes away detaches too: its
    session goes on.
    """

    agent: Name
    repo_url: Argument | None = None
    work_unit: Argument | None = None
    input: TextInput | ArtifactInput | None = None
    trigger: Literal["manual", "schedule"] = "manual"
    detach: bool = False
    protocol: int = PROTOCOL


class ListSessions(_Message, frozen=True):
    """Which sessions live? Answered by `Sessions`."""

    protocol: int = PROTOCOL


class Logs(_Message, frozen=True):
    """The output of a session, live or past; `Output` follows, and at last `EndOfOutput`.

    `session` is an id or the beginning of one. With `follow` the end of the output is that of the
    session, else it is what there is now.
    """

    session: Name
    follow: bool = False
    protocol: int = PROTOCOL


class Stop(_Message, frozen=True):
    """End a live session: SIGINT now, SIGKILL after the grace; with a grace of 0, at once.

    Answered by `Accepted` when it is asked to end, and by `Finished` or `Failed` when it has, with
    its container gone. `session` is an id or the beginning of one.
    """

    session: Name
    grace_seconds: Annotated[float, Meta(ge=0, le=MAX_STOP_GRACE_SECONDS)] = STOP_GRACE_SECONDS
    protocol: int = PROTOCOL


class Shutdown(_Message, frozen=True):
    """End the daemon as SIGTERM does: nothing new is taken in, and the live sessions go on to their
    ends. With `leave`, as SIGUSR1 does: they are left to the next daemon.

    Answered by `ShutdownStarted` at once, and by `ShutdownComplete` when no session is left.
    """

    leave: bool = False
    protocol: int = PROTOCOL


class Pong(_Message, frozen=True):
    """The daemon answers, and says its version. Terminal."""

    version: str
    protocol: int = PROTOCOL


class Status(_Message, frozen=True):
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


class Progress(_Message, frozen=True):
    """What a run waits for before its session exists, in words: the pull of its image."""

    text: str


class Queued(_Message, frozen=True):
    """The run waits for its place, at this position from 1; its session will have this id.

    Sent again whenever the position changes. A client may go: the run keeps its place.
    """

    session_id: str
    position: int


class Accepted(_Message, frozen=True):
    """The session exists: its id, and the absolute path of its record on the daemon's host."""

    session_id: str
    record: str


class Output(_Message, frozen=True):
    """A piece of the container's output, credentials masked; at most `MAX_OUTPUT_BYTES`."""

    stream: Literal["stdout", "stderr"]
    data: bytes


class EndOfOutput(_Message, frozen=True):
    """That was all of the output, or all that there is so far. Terminal."""


class ShutdownStarted(_Message, frozen=True):
    """The daemon takes nothing in any more; it has so many sessions."""

    sessions: int


class ShutdownComplete(_Message, frozen=True):
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


class Sessions(_Message, frozen=True):
    """The live sessions, oldest first, and then those that wait for their place. Terminal."""

    sessions: tuple[SessionInfo, ...]


class Finished(_Message, frozen=True):
    """The session ended with an outcome. Terminal.

    `teardown_error` says that something of the session could not be removed: whoever reads the
    outcome must not take the session for gone.
    """

    session_id: str
    outcome: Outcome
    teardown_error: str | None = None


class Failed(_Message, frozen=True):
    """The run was refused, or its session ended without an outcome. Terminal."""

    code: str
    message: str
    session_id: str | None = None

    def error(self) -> AgentdError:
        """The error that the daemon raised, of the class that has this code."""
        return errors.from_code(self.code, self.message)


Request: TypeAlias = Ping | GetStatus | Run | ListSessions | Logs | Stop | Shutdown
Event: TypeAlias = (
    Progress
    | Queued
    | Accepted
    | Output
    | EndOfOutput
    | Pong
    | Status
    | Sessions
    | ShutdownStarted
    | ShutdownComplete
    | Finished
    | Failed
)
