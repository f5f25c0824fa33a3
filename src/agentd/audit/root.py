"""The audit root: made when it is missing, and proved usable before a session relies on it."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeAlias

from ..errors import AuditError
from .files import advice

FULL_BYTES: Final = 1024 * 1024
"""With less room than this, output may be lost: conmon drops what it cannot write."""

Place: TypeAlias = tuple[int, int]
"""The device and the inode of a directory."""


def prepare(root: Path) -> None:
    """Make the audit root (0700) and prove that records can be made, sealed and removed there.

    Raises:
        AuditError: it cannot be made, is not ours, or the proof failed; the text says what to do.
    """
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = root.stat()
    except OSError as error:
        raise AuditError(
            f"cannot make the audit root {root}: {error.strerror}",
            remedy="set daemon.audit_root to a directory that the daemon's user may write",
        ) from error
    _check_owner(root, status)
    _probe(root)


def look(root: Path) -> bool:
    """What can be told of the audit root without writing: whether it is there.

    Raises:
        AuditError: it is not fit, or cannot be looked at.
    """
    try:
        status = root.stat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise AuditError(f"cannot look at the audit root {root}: {error.strerror}") from error
    if not stat.S_ISDIR(status.st_mode):
        raise AuditError(f"the audit root {root} is no directory", remedy="move what is there")
    _check_owner(root, status)
    _check_room(root)
    return True


def _check_owner(root: Path, status: os.stat_result) -> None:
    if status.st_uid not in {os.geteuid(), 0}:
        raise AuditError(
            f"the audit root {root} belongs to uid {status.st_uid}: whoever owns it could change"
            " records",
            remedy=f"give it to uid {os.geteuid()}, the daemon's",
        )
    if status.st_mode & 0o022:
        raise AuditError(
            f"the audit root {root} is writable for others",
            remedy="chmod go-w it, so that no other user can change records",
        )


def place(root: Path) -> Place:
    """Which directory the path leads to. Raises `AuditError`."""
    try:
        status = root.stat()
    except OSError as error:
        raise AuditError(
            f"the audit root {root} is gone: {error.strerror}",
            remedy="mount it again, or restart agentd to have it made anew",
        ) from error
    return status.st_dev, status.st_ino


def check(root: Path, expected: Place | None) -> None:
    """Prove that a record can be made now, in the directory that was prepared before.

    Nothing is made in another one: below a mount point there may be a directory that looks as good.

    Raises:
        AuditError: it cannot; the text says what to do.
    """
    if expected is not None and place(root) != expected:
        raise AuditError(
            f"the audit root {root} is another directory than when agentd started: its file system"
            " is not mounted, or another one is",
            remedy="mount it again, or restart agentd if that is meant",
        )
    prepare(root)
    _check_room(root)


def _check_room(root: Path) -> None:
    if is_full(root):
        raise AuditError(
            f"the file system of the audit root {root} has less than {FULL_BYTES // 1024} KiB left",
            remedy="free space, or move daemon.audit_root",
        )


def is_full(root: Path) -> bool:
    """Whether output that is written now may be lost; no, when that cannot be told."""
    try:
        system = os.statvfs(root)
    except OSError:
        return False
    # What is reserved for root is room for root alone.
    blocks = system.f_bfree if os.geteuid() == 0 else system.f_bavail
    return blocks * system.f_frsize < FULL_BYTES


def _probe(root: Path) -> None:
    directory = root / f".agentd-audit-root-probe-{secrets.token_hex(8)}"
    file = directory / "probe-file"
    try:
        directory.mkdir(mode=0o755)
        try:
            file.write_bytes(b"")
            _chmod(file, 0o444)
            _chmod(directory, 0o555)
            _chmod(directory, 0o755)
            _chmod(file, 0o644)
        finally:
            with suppress(OSError):
                directory.chmod(0o755)
            file.unlink(missing_ok=True)
            directory.rmdir()
    except OSError as error:
        raise AuditError(
            f"audit root {root} failed the daemon-local create/chmod/remove probe:"
            f" {error.strerror}",
            remedy=advice(error)
            or "keep records on a local file system that the daemon's user may write",
        ) from error


def _chmod(path: Path, mode: int) -> None:
    path.chmod(mode)
    kept = stat.S_IMODE(path.stat().st_mode)
    if kept != mode:
        # vfat and some network file systems say yes and change nothing.
        raise OSError(errno.ENOTSUP, f"mode {mode:04o} of {path.name} became {kept:04o}")
