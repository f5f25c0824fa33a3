"""Writing a file so that it is either there whole, and on the disk, or not at all."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from ..errors import AuditError
from ..logs import log

_ADVICE: Final = {
    errno.ENOSPC: "free space, or move daemon.audit_root",
    errno.EDQUOT: "raise the quota, or move daemon.audit_root",
    errno.EROFS: "remount it writable, or move daemon.audit_root",
    errno.EIO: "the disk is failing; check it before more sessions run",
    errno.EACCES: "it must belong to the daemon's user",
    errno.EPERM: "it must belong to the daemon's user, without chattr flags",
}

_DRAFT: Final = ".tmp"


def refused(doing: str, error: OSError) -> AuditError:
    """The error that says what could not be done, why, and what to do about it."""
    # The name of a descriptor tells the reader nothing.
    name = error.filename if isinstance(error.filename, str) else ""
    where = f" ({name})" if name and not name.startswith("/proc/") else ""
    return AuditError(f"cannot {doing}: {error.strerror or error}{where}", remedy=advice(error))


def advice(error: OSError) -> str:
    """What to do about it, or nothing."""
    return _ADVICE.get(error.errno or 0, "")


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turn an `OSError` into an `AuditError` that says what was being done."""
    try:
        yield
    except OSError as error:
        raise refused(doing, error) from error


@contextmanager
def opened_file(path: Path) -> Iterator[BinaryIO]:
    """Read the regular file at `path`: no link is followed, and nothing else is ever opened.

    Raises:
        AuditError: it is no regular file.
        OSError: it cannot be opened.
    """
    place = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            raise AuditError(f"{path} is no regular file")
        descriptor = os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(place)
    with os.fdopen(descriptor, "rb") as file:
        yield file


def write_atomically(path: Path, data: bytes, mode: int) -> None:
    """Put `data` at `path` with `mode`, in place of what is there. Raises `OSError`."""
    with draft(path, mode) as file:
        file.write(data)


def discard_drafts(directory: Path) -> None:
    """Remove the drafts that a killed daemon left behind. Raises `OSError`."""
    for left in directory.glob(f"*{_DRAFT}"):
        left.unlink()


@contextmanager
def draft(path: Path, mode: int) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` on a clean exit, synced; else it is gone.

    Raises:
        OSError: it cannot be written, synced or renamed.
    """
    temporary = path.with_name(path.name + _DRAFT)
    # One that a killed daemon left behind.
    temporary.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_name(path)


def sync_name(path: Path) -> None:
    """Make the name of `path` last. A failure is only logged: the rename itself stands."""
    try:
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        log.warning(
            "runner.audit_warning",
            warning_kind="post_rename_parent_sync",
            metadata_path=str(path),
            parent_dir=str(path.parent),
            error=str(error),
        )
