"""Messages: one closed union each way, MessagePack in a frame.

A connection carries one request and then a stream of events, of which exactly the last is
terminal: `Pong`, `Finished`, `Failed`, or `Accepted` where the client asked for no more. Each
request carries the protocol's number, which is read leniently first: peers of different builds
then part with a sentence instead of a decoding error.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from .. import errors
from ..errors import AgentdError, ProtocolMismatch, WireError
from ..outcome import Outcome

PROTOCOL: Final = 1
"""Grows with every change that an older peer would misread."""


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


class _Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=_snake):
    """Base of all messages: strict, and tagged by a `type` field."""


class TextInput(_Message, frozen=True):
    """Words from the operator; they become the artifact `request/operator-input`."""

    description: str


class ArtifactInput(_Message, frozen=True):
    """A JSON document that becomes an artifact; it travels as the bytes of its file."""

    artifact_type: str
    artifact_id: str
    document: bytes


class Ping(_Message, frozen=True):
    """Are you there? Answered by `Pong`."""

    protocol: int = PROTOCOL


class Run(_Message, frozen=True):
    """Start a session of `agent`; its events follow until it ends.

    With `detach` the stream ends with `Accepted`. A client that goes away detaches too: its
    session goes on.
    """

    agent: str
    repo_url: str | None = None
    work_unit: str | None = None
    input: TextInput | ArtifactInput | None = None
    trigger: Literal["manual", "schedule"] = "manual"
    detach: bool = False
    protocol: int = PROTOCOL


class Pong(_Message, frozen=True):
    """The daemon answers, and says its version. Terminal."""

    version: str
    protocol: int = PROTOCOL


class Accepted(_Message, frozen=True):
    """The session exists: its id, and the absolute path of its record on the daemon's host."""

    session_id: str
    record: str


class Output(_Message, frozen=True):
    """A piece of the container's output, credentials masked; at most 256 KiB."""

    stream: Literal["stdout", "stderr"]
    data: bytes


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


Request: TypeAlias = Ping | Run
Event: TypeAlias = Accepted | Output | Pong | Finished | Failed


class _Header(msgspec.Struct):
    """What every version of a request has."""

    protocol: int


_encoder: Final = msgspec.msgpack.Encoder()
_header: Final = msgspec.msgpack.Decoder(_Header)
_request: Final[msgspec.msgpack.Decoder[Request]] = msgspec.msgpack.Decoder(Request)
_event: Final[msgspec.msgpack.Decoder[Event]] = msgspec.msgpack.Decoder(Event)


def encode(message: Request | Event) -> bytes:
    """The body of the frame that carries `message`."""
    return _encoder.encode(message)


def decode_request(body: bytes) -> Request:
    """The request in a frame's body.

    Raises:
        ProtocolMismatch: the client was built for another version of the protocol.
        WireError: anything else that is not a request; the text names the field.
    """
    try:
        theirs = _header.decode(body).protocol
        if theirs != PROTOCOL:
            raise ProtocolMismatch(
                f"this client speaks protocol {theirs} and the daemon speaks {PROTOCOL}:"
                " use the agentd command of the daemon's build, and restart the daemon after"
                " an upgrade"
            )
        return _request.decode(body)
    except _UNDECODABLE as error:
        raise WireError(f"invalid request: {_reason(error)}") from None


def decode_event(body: bytes) -> Event:
    """The event in a frame's body. Raises `WireError` for anything that is none."""
    try:
        return _event.decode(body)
    except _UNDECODABLE as error:
        raise WireError(f"the daemon sent something else than an event: {_reason(error)}") from None


_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""msgspec raises the second for a string that is not UTF-8, and the third for deep nesting."""


def _reason(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)
