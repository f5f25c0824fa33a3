"""The values to mask in a session's output, kept in a file while the session lives.

A daemon that takes a session up again cannot ask the environment of the one that started it; and
without the values no output may be shown or sealed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ..errors import AuditError


def keep(directory: Path, session_id: str, values: Sequence[bytes]) -> None:
    """Write the values, readable for the daemon's user alone. Blocking.

    Raises:
        AuditError: they cannot be written; then the session must not start.
    """
    path = directory / session_id
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.msgpack.encode(list(values)))
    except OSError as error:
        raise AuditError(f"cannot keep the values to mask in {path}: {error.strerror}") from error


def recall(directory: Path, session_id: str) -> tuple[bytes, ...] | None:
    """The values that were kept, or None when they cannot be had any more. Blocking."""
    try:
        kept = (directory / session_id).read_bytes()
        return msgspec.msgpack.decode(kept, type=tuple[bytes, ...])
    except (OSError, msgspec.DecodeError):
        return None


def sessions(directory: Path) -> list[str]:
    """The sessions whose values are kept. Blocking. Raises `AuditError`."""
    try:
        return [path.name for path in directory.iterdir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise AuditError(f"cannot list {directory}: {error.strerror}") from error


def forget(directory: Path, session_id: str) -> None:
    """Remove the values; already gone is fine. Blocking. Raises `AuditError`."""
    path = directory / session_id
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise AuditError(f"cannot remove {path}: {error.strerror}") from error
