"""`agentd/session.json`: what agentd knows of a session, as data. Pure.

A record is complete once it has an end; one that has a start alone is incomplete, whatever the
reason. Absent facts are absent keys.
"""

from __future__ import annotations

import datetime
from typing import Any, Final, Literal

import msgspec

from ..errors import AuditError

SCHEMA_VERSION: Final = 2


class Input(msgspec.Struct, frozen=True):
    """The artifact that the session was given; its document stands in the record."""

    artifact_type: str
    artifact_id: str


class Limits(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The agent's limits: bytes, processors, processes."""

    output: int
    record: int
    memory: int | None = None
    cpus: float | None = None
    pids: int | None = None


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """The output log: bytes of content, what was lost of it, and whether values were masked."""

    bytes: int
    dropped_bytes: int
    complete: bool
    masked: Literal["none", "masked", "withheld"]


class Start(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What is known when the record is made; times are aware."""

    session_id: str
    agent: str
    repo_url: str
    work_unit: str | None = None
    start_timestamp: datetime.datetime
    trigger: Literal["manual", "schedule"]
    input: Input | None = None
    base_image: str
    image_id: str
    image_digest: str | None = None
    container_name: str
    deadline: datetime.datetime | None = None
    limits: Limits


class End(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What is known at the end.

    `outcome` is a label, or `error` with an `error_code` beside it. `exit_code` is the
    container's own; a session that timed out has none.
    """

    end_timestamp: datetime.datetime
    outcome: str
    exit_code: int | None = None
    signal: int | None = None
    error_code: str | None = None
    error: str | None = None
    oom_killed: bool | None = None
    ended_by: Literal["timeout", "stop", "forced"] | None = None
    duration_seconds: float
    commit: str | None = None
    output: Output | None = None
    manifest_sha256: str | None = None


class SessionJson(msgspec.Struct, frozen=True):
    """A whole `session.json`; `end` is None in an incomplete record."""

    start: Start
    end: End | None


def session_json(start: Start, end: End | None) -> bytes:
    """The file's bytes: one object, the start's facts first, then the end's."""
    facts: dict[str, Any] = {"schema_version": SCHEMA_VERSION}
    for part in (start, end):
        if part is not None:
            # By way of JSON: it gives timestamps their `Z` and drops what is absent.
            facts |= msgspec.json.decode(msgspec.json.encode(_in_utc(part)))
    return msgspec.json.format(msgspec.json.encode(facts), indent=2) + b"\n"


def _in_utc(part: Start | End) -> Start | End:
    times = {
        name: value.astimezone(datetime.UTC)
        for name in part.__struct_fields__
        if isinstance(value := getattr(part, name), datetime.datetime)
    }
    return msgspec.structs.replace(part, **times)


class _Schema(msgspec.Struct):
    schema_version: int


def session_facts(data: bytes) -> SessionJson:
    """The facts in the bytes of a `session.json`.

    Raises:
        AuditError: another version of agentd wrote it, with a schema that this one does not know.
        ValueError: it is no `session.json`; a RecursionError when it is nested too deeply.
    """
    version = msgspec.json.decode(data, type=_Schema).schema_version
    if version != SCHEMA_VERSION:
        raise AuditError(
            f"schema_version is {version}, and this agentd knows {SCHEMA_VERSION} alone; use the"
            " agentd that wrote it"
        )
    start = msgspec.json.decode(data, type=Start)
    ended = "end_timestamp" in msgspec.json.decode(data, type=dict[str, Any])
    return SessionJson(start, msgspec.json.decode(data, type=End) if ended else None)
