"""Removing closed records that nobody needs any more: which they are, and how they go.

A record that goes gets another name first, so that it is either a whole record or none, and what
an interruption leaves is known by that name and finished by the next pruning.
"""

from __future__ import annotations

import datetime
import fcntl
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Final, NamedTuple

from .. import names
from ..errors import AuditError
from .files import explained
from .lookup import records
from .record import Record, read_session_json
from .removal import remove_tree, tree_size
from .tree import Check

_BEGUN: Final = ".agentd-pruned-"


class Closed(NamedTuple):
    """A closed record, and when its session ended; the time is aware."""

    record: Record
    ended: datetime.datetime

    @property
    def directory(self) -> Path:
        """Where it is."""
        return self.record.directory

    @property
    def agent(self) -> str:
        """The agent whose session it was, as the record's place says."""
        return self.directory.parent.name

    @property
    def session_id(self) -> str:
        """The session."""
        return self.directory.name


class Begun(NamedTuple):
    """What remains of a record whose removal was interrupted."""

    directory: Path

    @property
    def agent(self) -> str:
        """The agent whose session it was."""
        return self.directory.parent.name

    @property
    def session_id(self) -> str:
        """The session."""
        return self.directory.name.removeprefix(_BEGUN)


class Survey(NamedTuple):
    """What there is below an audit root."""

    closed: tuple[Closed, ...]
    incomplete: tuple[Record, ...]
    """Their sessions live, or they were never closed."""
    unusable: tuple[str, ...]
    """For each record that cannot be judged a sentence that names it."""
    begun: tuple[Begun, ...]


def survey(audit_root: Path) -> Survey:
    """Read the facts of every record. Blocking.

    Raises:
        AuditError: the audit root is not there or cannot be read.
    """
    closed: list[Closed] = []
    incomplete: list[Record] = []
    unusable: list[str] = []
    for record in records(audit_root):
        try:
            ended = _end(record)
        except AuditError as error:
            unusable.append(str(error))
        else:
            if ended is None:
                incomplete.append(record)
            else:
                closed.append(Closed(record, ended))
    return Survey(tuple(closed), tuple(incomplete), tuple(unusable), _begun(audit_root))


def _end(record: Record) -> datetime.datetime | None:
    """When the session of a record ended; None when it was not closed.

    Raises:
        AuditError: that cannot be told for certain.
    """
    with explained(f"look at {record.directory}"):
        is_directory = stat.S_ISDIR(record.directory.lstat().st_mode)
    if not is_directory:
        raise AuditError(f"cannot use {record.directory}: it is no directory")
    facts = read_session_json(record.session_json)
    if facts.start.session_id != record.directory.name:
        raise AuditError(
            f"cannot use {record.session_json}: it is of session {facts.start.session_id!r}"
        )
    if facts.end is None:
        return None
    if facts.end.end_timestamp.tzinfo is None:
        raise AuditError(f"cannot use {record.session_json}: its end_timestamp has no zone")
    return facts.end.end_timestamp


def _begun(audit_root: Path) -> tuple[Begun, ...]:
    with explained(f"list the records in {audit_root}"):
        found = [Begun(path) for path in sorted(audit_root.glob(f"[a-z]*/{_BEGUN}*"))]
    return tuple(each for each in found if names.is_session_id(each.session_id))


def chosen(
    closed: Iterable[Closed], before: datetime.datetime | None, keep: int | None
) -> list[Closed]:
    """Those that are to go, oldest first. Pure.

    Each ended before `before`, when that is given, and is none of the `keep` newest of its agent.
    Without either, none goes.
    """
    if before is None and keep is None:
        return []
    ordered = sorted(closed, key=lambda each: (each.agent, each.ended, each.session_id))
    spared = [
        each
        for _, group in groupby(ordered, attrgetter("agent"))
        for each in _all_but_last(list(group), keep or 0)
    ]
    gone = [each for each in spared if before is None or each.ended < before]
    return sorted(gone, key=lambda each: (each.ended, each.session_id))


def _all_but_last(group: list[Closed], count: int) -> list[Closed]:
    return group[: max(0, len(group) - count)]


@contextmanager
def alone(audit_root: Path) -> Iterator[None]:
    """Keep other prunings of this audit root away.

    Raises:
        AuditError: another one is at work, or the audit root cannot be opened.
    """
    with explained(f"lock {audit_root}"):
        descriptor = os.open(audit_root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(descriptor, audit_root)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, audit_root: Path) -> None:
    with explained(f"lock {audit_root}"):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AuditError(
                f"another 'agentd audit prune' is at work in {audit_root}; wait for its end"
            ) from None


def prune(closed: Closed, check: Check) -> int:
    """Remove a closed record; gives the bytes that this freed. Blocking.

    Raises:
        AuditError: it cannot be removed, or not to the end; `finish` can then go on.
    """
    directory = closed.directory
    begun = Begun(directory.with_name(_BEGUN + closed.session_id))
    with explained(f"remove the audit record {directory}"):
        directory.rename(begun.directory)
        _sync(directory.parent)
    return finish(begun, check)


def finish(begun: Begun, check: Check) -> int:
    """Go on with a removal that was interrupted; gives the bytes that this freed. Blocking.

    Raises:
        AuditError: it cannot be removed to the end.
    """
    with explained(f"remove what is left of the audit record {begun.directory}"):
        return remove_tree(begun.directory, check)


def size(found: Closed | Begun, check: Check) -> int:
    """The bytes that removing it would free. Blocking.

    Raises:
        AuditError: it cannot be looked through.
    """
    with explained(f"look through the audit record {found.directory}"):
        return tree_size(found.directory, check)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
