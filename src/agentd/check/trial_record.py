"""A record beside the real ones, in which is tried what a session's needs, and then it is gone.

Its directory's name begins with a dot, so that look-ups of records pass over it. It is removed
whatever happens; what a killed check has left, the next one removes.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

import trio

from .. import audit
from ..audit import Record
from ..errors import AgentdError, AuditError
from ..outcome import from_exit_code
from ..podman import Podman
from ..session.disk import DISK_SECONDS, on_disk
from ..session.facts import end_facts
from ..session.spec import HostAbilities
from ..session.verdict import Ended
from .finding import Tell, fail

PREFIX: Final = "agentd-check-"
"""How the names of the container and, after a dot, of the directory begin; a session's id follows.
"""

LEFT_SECONDS: Final = 60.0
"""A directory that is younger may be one that another check is just making."""

_T = TypeVar("_T")
_P = ParamSpec("_P")


@asynccontextmanager
async def trial_record(
    place: Path, start: audit.Start, owner: tuple[int, int] | None, tell: Tell
) -> AsyncIterator[Record]:
    """A record in a directory of its own below `place`; gone after the exit, or `tell` hears of it.

    `owner` is as for `audit.create`.

    Raises:
        AuditError, DiskTimeout: it cannot be made.
    """
    top = place / f".{start.container_name}"
    record = Record.of(top, start.agent, start.session_id)
    lock = -1
    try:
        lock = await _on_disk(_make, top, record, start, owner)
        yield record
    finally:
        # Shields, within a bound.
        await _discard(top, tell)  # noqa: ASYNC102
        if lock >= 0:
            os.close(lock)


def _make(top: Path, record: Record, start: audit.Start, owner: tuple[int, int] | None) -> int:
    """Make the record; gives a descriptor whose lock says that somebody uses it."""
    try:
        top.mkdir(mode=0o700)
        lock = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise AuditError(f"cannot make {top}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        audit.create(record, start, owner=owner, document=None)
    except BaseException:
        os.close(lock)
        raise
    return lock


async def sealed(record: Record, start: audit.Start, abilities: HostAbilities) -> str:
    """Close the record and verify it; gives what was seen, in words.

    Raises:
        AuditError: it cannot be closed, or what the session user wrote is not the daemon's.
        DiskTimeout: the disk does not answer.
    """
    return await _on_disk(_seal, record, start, abilities)


def _seal(record: Record, start: audit.Start, abilities: HostAbilities) -> str:
    file = record.runa / "by-the-session-user/file"
    wanted = (abilities.session_owner or (os.geteuid(), 0))[0]
    try:
        uid = file.lstat().st_uid
        record.output_raw.rename(record.output_log)
    except OSError as error:
        raise AuditError(f"cannot use {record.directory}: {error.strerror}") from error
    if uid != wanted:
        raise AuditError(
            f"what the session user writes belongs to uid {uid} on the host, and should to"
            f" uid {wanted}; run daemon and Podman service as one user"
        )
    end = end_facts(start, Ended(from_exit_code(0)))
    audit.close(record, start, end, audit.RecordLimits(start.limits.record), _go_on)
    verdict = audit.verify(record, _go_on)
    if verdict.state != "verified":
        raise AuditError(f"a sealed record does not verify: it is {verdict.state}")
    count = verdict.entries
    return f"a record with files of the session user was sealed and verified: {count} entries"


def _go_on() -> None:
    """The check of work that is short."""


async def _discard(top: Path, tell: Tell) -> None:
    try:
        await _on_disk(_remove, top)
    except AgentdError as error:
        tell(fail("left-behind", error.message, f"remove {top}"))


def _remove(top: Path) -> None:
    try:
        audit.remove_tree(top, _go_on)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise AuditError(f"cannot remove {top}: {error.strerror}") from error


async def _on_disk(work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Work that is waited for also by who is cancelled: a thread would go on beside the removal."""
    with trio.CancelScope(shield=True):
        where = "the file system of the audit root"
        return await on_disk(DISK_SECONDS, where, work, *args, **kwargs)
    raise AssertionError("nobody cancels this scope")


# --- what killed checks have left ----------------------------------------------------------------


async def remove_left(place: Path, podman: Podman) -> None:
    """Remove what checks have left that were killed; what resists is left to the next."""
    for top, lock in await _on_disk(_left, place):
        try:
            with suppress(AgentdError):
                await podman.remove(top.name.removeprefix("."))
                await _on_disk(_remove, top)
        finally:
            os.close(lock)


def _left(place: Path) -> list[tuple[Path, int]]:
    """The directories that nobody uses any more, locked."""
    found = []
    for top in place.glob(f".{PREFIX}*"):
        with suppress(OSError):
            lock = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if time.time() - os.fstat(lock).st_mtime > LEFT_SECONDS:
                    found.append((top, lock))
                    continue
            except BlockingIOError:
                pass
            os.close(lock)
    return found
