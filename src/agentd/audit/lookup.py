"""Finding records: one by its session's id, and those that were never closed."""

from __future__ import annotations

import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from .. import names
from ..errors import AuditError
from ..logs import log
from .files import explained
from .metadata import SessionJson, Start
from .record import Record, read_session_json
from .seal import SEALED_FILE

_RECORDS: Final = "[a-z]*/*"
"""Not below names with a dot: the directory of a probe may be gone before it is listed."""


def unfinished(audit_root: Path, container_prefix: str) -> list[tuple[Record, Start]]:
    """The records that were never closed and whose containers have names that begin so. Blocking.

    A record that cannot be used is logged and left alone.

    Raises:
        AuditError: the audit root cannot be read.
    """
    found = []
    with explained(f"list the records in {audit_root}"):
        candidates = [
            Record(path) for path in audit_root.glob(_RECORDS) if names.is_session_id(path.name)
        ]
        left = [record for record in candidates if _is_open(record)]
    for record in left:
        try:
            start = read_session_json(record.session_json).start
        except AuditError as error:
            log.warning("agentd.record_unusable", record=str(record.directory), error=str(error))
        else:
            if start.container_name.startswith(container_prefix):
                found.append((record, start))
    return found


def records(audit_root: Path, agent: str | None = None) -> list[Record]:
    """All records, or those of one agent; newest last. Blocking.

    Raises:
        AuditError: the audit root is not there or cannot be read.
    """
    found: list[tuple[int, Path]] = []
    with explained(f"list the records in {audit_root}"):
        # A glob of what is not there is merely empty.
        audit_root.stat()
        for path in audit_root.glob(_RECORDS if agent is None else f"{agent}/*"):
            if names.is_session_id(path.name):
                # It may be pruned meanwhile.
                with suppress(FileNotFoundError):
                    found.append((_made_ns(path), path))
    return [Record(path) for _, path in sorted(found)]


def _made_ns(record: Path) -> int:
    """Nothing is added to a record's directory once it has its name: its time is the session's."""
    return record.stat(follow_symlinks=False).st_mtime_ns


def last_ended(audit_root: Path, agent: str) -> tuple[Record, SessionJson] | None:
    """The newest record of an agent that was closed, and its facts. Blocking.

    Raises:
        AuditError: the audit root cannot be read.
    """
    for record in reversed(records(audit_root, agent)):
        with suppress(AuditError):
            facts = read_session_json(record.session_json)
            if facts.end is not None:
                return record, facts
    return None


def _is_open(record: Record) -> bool:
    """Told by the mode of its metadata, which closing publishes read-only: no file is opened."""
    try:
        return stat.S_IMODE(record.session_json.lstat().st_mode) != SEALED_FILE
    except FileNotFoundError:
        return False


def by_id(audit_root: Path) -> dict[str, Record]:
    """All records, by the ids of their sessions. Blocking.

    Raises:
        AuditError: the audit root cannot be read.
    """
    with explained(f"list the records in {audit_root}"):
        found = {path.name: path for path in audit_root.glob(_RECORDS)}
    return {name: Record(path) for name, path in found.items() if names.is_session_id(name)}


def find(audit_root: Path, wanted: str) -> Record:
    """The record of the session whose id is `wanted`, or the only one that begins so. Blocking.

    Raises:
        UnknownSession: there is none, or more than one.
        AuditError: the audit root cannot be read.
    """
    found = by_id(audit_root)
    return found[names.chosen_session(wanted, found)]
