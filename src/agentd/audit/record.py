"""One session's record on disk: its places, its making, and what is written while it is open."""

from __future__ import annotations

import datetime
import os
import shutil
from pathlib import Path
from typing import Final, Literal

import msgspec

from ..errors import AuditError
from .files import explained, opened_file, sync_name, write_atomically
from .metadata import End, SessionJson, Start, session_facts, session_json
from .tree import Check

Cause = Literal["timeout", "stop", "forced"]
"""Why agentd ends a container that has not ended by itself."""


_MAX_JSON: Final = 64 * 2**20
"""Bytes; what a client may ask for, with every character of it escaped, is less."""


class Intent(msgspec.Struct, frozen=True):
    """agentd is about to end a container: why, and since when."""

    cause: Cause
    when: datetime.datetime


class Record(msgspec.Struct, frozen=True):
    """The places of a record; holding one says nothing about what exists."""

    directory: Path

    @classmethod
    def of(cls, root: Path, agent: str, session_id: str) -> Record:
        """The record of a session below the audit root."""
        return cls(root / agent / session_id)

    @property
    def runa(self) -> Path:
        """What runa writes: the one place of the record that the container may change."""
        return self.directory / "runa"

    @property
    def agentd(self) -> Path:
        """What agentd writes."""
        return self.directory / "agentd"

    @property
    def session_json(self) -> Path:
        """The facts; published as the last step of closing."""
        return self.agentd / "session.json"

    @property
    def next_json(self) -> Path:
        """The facts with their end, once it is known and until they are published."""
        return self.agentd / "session.json.next"

    @property
    def intent(self) -> Path:
        """Why agentd is about to end the container, while it does."""
        return self.agentd / "intent.json"

    @property
    def output_raw(self) -> Path:
        """The output as conmon writes it."""
        return self.agentd / "output.raw"

    @property
    def output_log(self) -> Path:
        """The output, masked; there once the session has ended."""
        return self.agentd / "output.log"

    @property
    def manifest(self) -> Path:
        """Every file of the closed record with its digest."""
        return self.agentd / "manifest.json"

    @property
    def invocation_input(self) -> Path:
        """The directory of the input's document; there only when there was input."""
        return self.agentd / "invocation-input"

    @property
    def document(self) -> Path:
        """The input's document."""
        return self.invocation_input / "document.json"


def create(
    record: Record,
    start: Start,
    *,
    owner: tuple[int, int] | None,
    document: bytes | None,
    check: Check = lambda: None,
) -> None:
    """Make a record that must not exist yet, and sync it. Blocking.

    `owner` is the uid and gid of the session user on the host, when that is not the daemon's own
    user. `check` raises once nobody waits for the record any more: nothing of it is then left.

    Raises:
        AuditError: it exists already, or cannot be made; nothing of it is then left.
    """
    with explained(f"make the audit record {record.directory}"):
        record.directory.parent.mkdir(mode=0o700, exist_ok=True)
        # Under another name, so that a daemon that is killed meanwhile leaves no half of a record.
        making = Record(record.directory.with_name(f".{start.container_name}"))
        making.directory.mkdir(mode=0o755)
        try:
            _fill(making, start, owner, document)
            check()
            _publish(making, record, check)
        except BaseException:
            shutil.rmtree(making.directory, ignore_errors=True)
            raise


def _publish(making: Record, record: Record, check: Check) -> None:
    """Give a record its name; one that is there already keeps it."""
    if record.directory.exists():
        raise AuditError(f"the audit record {record.directory} exists already; nothing was changed")
    making.directory.rename(record.directory)
    try:
        sync_name(record.directory)
        sync_name(record.directory.parent)
        check()
    except BaseException:
        record.directory.rename(making.directory)
        raise


def discard_halves(audit_root: Path, container_prefix: str) -> None:
    """Remove records that a daemon was making when it was killed. Blocking.

    Raises:
        AuditError: the audit root cannot be read, or one cannot be removed.
    """
    with explained(f"remove unfinished records from {audit_root}"):
        for half in audit_root.glob(f"[a-z]*/.{container_prefix}*"):
            shutil.rmtree(half)


def _fill(
    record: Record, start: Start, owner: tuple[int, int] | None, document: bytes | None
) -> None:
    # chmod, because the modes of mkdir pass through the umask.
    record.directory.chmod(0o755)
    record.agentd.mkdir()
    record.agentd.chmod(0o755)
    record.runa.mkdir(mode=0o700)
    if owner is not None:
        os.chown(record.runa, *owner)
    if document is not None:
        record.invocation_input.mkdir()
        record.invocation_input.chmod(0o755)
        write_atomically(record.document, document, 0o644)
    write_atomically(record.output_raw, b"", 0o600)
    write_atomically(record.session_json, session_json(start, None), 0o644)
    sync_name(record.agentd)


def write_intent(record: Record, cause: Cause, when: datetime.datetime) -> None:
    """Write down why the container is about to be ended, before it is. Blocking.

    Raises:
        AuditError: it cannot be written.
    """
    intent = msgspec.json.encode(Intent(cause, when))
    with explained(f"write {record.intent}"):
        write_atomically(record.intent, intent + b"\n", 0o644)


def read_intent(record: Record) -> Intent | None:
    """Why the container was about to be ended, or None when nobody had begun to. Blocking.

    Raises:
        AuditError: it cannot be read, or is not what this agentd writes.
    """
    with explained(f"read {record.intent}"):
        try:
            return msgspec.json.decode(record.intent.read_bytes(), type=Intent)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise AuditError(f"cannot use {record.intent}: {error}") from error


def write_next(record: Record, start: Start, end: End) -> None:
    """Write down how the session ended, beside the facts that still say it runs. Blocking.

    Raises:
        AuditError: it cannot be written.
    """
    with explained(f"write {record.next_json}"):
        write_atomically(record.next_json, session_json(start, end), 0o644)


def read_next(record: Record) -> End | None:
    """What was written down of the end, or None when it had not come yet. Blocking.

    Raises:
        AuditError: it cannot be read, or is not what this agentd writes.
    """
    if not record.next_json.exists():
        return None
    return read_session_json(record.next_json).end


def read_session_json(path: Path) -> SessionJson:
    """The facts in a `session.json`, or in the draft beside it. Blocking.

    Raises:
        AuditError: it cannot be read, or is not what this agentd writes; the text names the file.
    """
    with explained(f"read {path}"), opened_file(path) as file:
        data = file.read(_MAX_JSON + 1)
    if len(data) > _MAX_JSON:
        raise AuditError(f"cannot use {path}: it is larger than any that agentd writes")
    try:
        return session_facts(data)
    except (ValueError, RecursionError, AuditError) as error:
        raise AuditError(f"cannot use {path}: {error}") from error
