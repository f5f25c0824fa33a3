"""Closing a record: sealed, listed, and published with its end. May be repeated at any point."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import msgspec

from ..errors import AuditError
from .files import discard_drafts, draft, explained, sync_name, write_atomically
from .manifest import ManifestWriter
from .metadata import End, Start, session_facts, session_json
from .record import Record
from .seal import (
    SEALED_DIRECTORY,
    SEALED_FILE,
    RecordLimits,
    check_tree,
    reopen_top,
    seal_top,
    seal_tree,
)
from .tree import Check, Entry


def close(record: Record, start: Start, end: End, limits: RecordLimits, check: Check) -> None:
    """Seal everything, write the manifest, and publish `session.json` as the last step.

    Blocking, and long when the record is large: `check` is called between slices, and raises to
    end the closing; the record can then be closed again. `output.log` must be finished before. A
    record that is published already is left as it is.

    Raises:
        AuditError: the record cannot be closed and stays incomplete, with `runa/` open; the text
            says why. Directories below it that could not be entered may have become `u+rwx`.
    """
    with explained(f"close the audit record {record.directory}"):
        if _is_published(record):
            return
        try:
            _close(record, start, end, limits, check)
        except BaseException:
            reopen_top(record.runa)
            raise
        sync_name(record.session_json)


def _close(record: Record, start: Start, end: End, limits: RecordLimits, check: Check) -> None:
    known = check_tree(record.runa, check)
    discard_drafts(record.agentd)
    with draft(record.manifest, SEALED_FILE) as file:
        manifest = ManifestWriter(file, limits.bytes, limits.entries)
        seal_tree(record.runa, known, manifest, check)
        for own in (record.output_log, record.invocation_input, record.document):
            if own.exists():
                _seal_own(record, own, manifest, check)
        digest = manifest.finish()
    # After the sealing, so that no power cut leaves a published record with old modes.
    _sync_file_system(record.directory)
    final = msgspec.structs.replace(end, manifest_sha256=digest)
    write_atomically(record.next_json, session_json(start, final), SEALED_FILE)
    record.intent.unlink(missing_ok=True)
    seal_top(record.runa)
    record.next_json.rename(record.session_json)


def _is_published(record: Record) -> bool:
    try:
        return session_facts(record.session_json.read_bytes()).end is not None
    except (FileNotFoundError, ValueError, RecursionError):
        # Closing writes it anew.
        return False
    except AuditError as error:
        raise AuditError(f"cannot close {record.session_json}: {error}") from error


def _seal_own(record: Record, path: Path, manifest: ManifestWriter, check: Check) -> None:
    """Seal a file or directory of agentd's own."""
    place = {"path": str(path.relative_to(record.directory))}
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        entry = Entry(os.fsencode(path.name), 0, 0, status, descriptor)
        mode = SEALED_DIRECTORY if entry.is_directory else SEALED_FILE
        entry.chmod(mode)
        manifest.add(entry, place, mode, check)
    finally:
        os.close(descriptor)


def _sync_file_system(directory: Path) -> None:
    """Bring what the session wrote to the disk: syncfs(2), one call for any number of files."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if libc.syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(descriptor)
