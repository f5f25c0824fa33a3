"""What an earlier daemon of this instance has left behind: in Podman, and in the audit root.

Looking changes nothing. What has a container and a record is a session that can be taken up; all
else is a remainder.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from .. import audit, names
from ..audit import Record
from ..errors import AuditError
from ..logs import log
from ..podman import ListedContainer
from . import masks
from .disk import DISK_SECONDS, on_disk
from .engine import Engine
from .session import Session

_T = TypeVar("_T")


class LeftBehind(NamedTuple):
    """What was found."""

    sessions: tuple[Session, ...]
    """With a container, in whatever state, and without a word of their end."""
    ended: tuple[tuple[Session, audit.End], ...]
    """Their end was written down: it stands, whatever is left of the container, or goes just now.
    """
    lost: tuple[Session, ...]
    """With neither, for whatever reason: a create may still be under way in Podman."""
    containers: tuple[str, ...]
    """Without a record that is still open; names that no container has are among them."""
    secrets: tuple[str, ...]
    masks: tuple[str, ...]
    """Ids of sessions whose values to mask are kept and of which nothing else is left."""


async def look_behind(engine: Engine) -> LeftBehind:
    """Find all that belongs to this instance; for a daemon that has no session yet.

    Raises:
        PodmanError, AuditError, DiskTimeout: it cannot be found out, or a container runs of which
            there is no record.
    """
    podman, prefix = engine.podman, names.instance_prefix(engine.instance)
    listed = await podman.containers(names.Label.INSTANCE, engine.instance)
    containers = {row.name for row in listed} | set(await podman.ghosts(prefix))
    secrets = await podman.secret_names(prefix)
    left = await on_disk(DISK_SECONDS, f"the audit root {engine.audit_root}", _open_records, engine)
    known = {record.start.container_name: _session(record) for record in left}
    _refuse_running([row for row in listed if row.name not in known])
    ends = {record.start.container_name: record.end for record in left if record.end is not None}
    silent = known.keys() - ends.keys()
    kept = await on_disk(DISK_SECONDS, str(engine.masks_dir), masks.sessions, engine.masks_dir)
    ids = {session.id for session in known.values()}
    return LeftBehind(
        sessions=tuple(known[name] for name in sorted(silent & containers)),
        ended=tuple((known[name], ends[name]) for name in sorted(ends)),
        lost=tuple(known[name] for name in sorted(silent - containers)),
        containers=tuple(sorted(containers - known.keys())),
        secrets=tuple(sorted(name for name in secrets if names.parse_secret_name(name))),
        masks=tuple(sorted(set(kept) - ids)),
    )


def _refuse_running(unknown: list[ListedContainer]) -> None:
    """A session that runs is not killed because its record is out of sight for the moment.

    Raises:
        AuditError: there is one.
    """
    for row in unknown:
        if row.state in {"running", "paused", "stopping"}:
            record = (row.labels or {}).get(names.Label.RECORD, "of no known place")
            raise AuditError(
                f"the container {row.name} runs, and its record {record} cannot be used: mount the"
                f" audit root, or end the session with 'podman rm --force {row.name}'"
            )


class _OpenRecord(NamedTuple):
    """All that the disk knows of a session."""

    record: Record
    start: audit.Start
    needles: tuple[bytes, ...] | None
    intent: audit.Intent | None
    end: audit.End | None


def _open_records(engine: Engine) -> list[_OpenRecord]:
    prefix = names.instance_prefix(engine.instance)
    return [
        _OpenRecord(
            record=record,
            start=start,
            needles=masks.recall(engine.masks_dir, start.session_id),
            intent=_usable(record, audit.read_intent),
            end=_usable(record, audit.read_next),
        )
        for record, start in audit.unfinished(engine.audit_root, prefix)
    ]


def _usable(record: Record, read: Callable[[Record], _T]) -> _T | None:
    """What `read` gives, or None when it cannot be used, as after a disk that was full."""
    try:
        return read(record)
    except AuditError as error:
        log.warning("agentd.record_unusable", record=str(record.directory), error=str(error))
        return None


def _session(found: _OpenRecord) -> Session:
    session = Session(found.start, found.record, found.needles)
    session.intent = found.intent
    return session
