"""Finding a session's record by its id."""

from __future__ import annotations

from pathlib import Path

from .. import names
from .files import explained
from .record import Record


def find(audit_root: Path, wanted: str) -> Record:
    """The record of the session whose id is `wanted`, or the only one that begins so. Blocking.

    Raises:
        UnknownSession: there is none, or more than one.
        AuditError: the audit root cannot be read.
    """
    with explained(f"list the records in {audit_root}"):
        found = {path.name: path for path in audit_root.glob("*/*")}
    ids = [name for name in found if names.is_session_id(name)]
    return Record(found[names.chosen_session(wanted, ids)])
