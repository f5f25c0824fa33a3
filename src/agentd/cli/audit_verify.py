"""`agentd audit verify`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from .. import audit
from ..errors import EXIT_FAILURE, UsageError
from ..names import chosen_session
from .audit_root import chosen_root
from .tables import json_line


def verify(
    *sessions: str,
    every: Annotated[bool, Parameter(name="--all")] = False,
    config: Path | None = None,
    audit_root: Path | None = None,
    json: bool = False,
) -> int:
    """Compare records with their manifests.

    A record is verified when nothing in it was changed, removed or added; damaged, with the
    differences; or incomplete: its session lives, or it was never closed. No daemon is needed.

    The exit status is 0 when all that were named are verified, 1 when one is not, 2 for errors of
    use. With --all, incomplete records do not matter.

    For example:

        agentd audit verify 3f9c
        agentd audit verify --all --audit-root /mnt/backup/audit

    Args:
        sessions: The sessions' ids, or the beginnings of them.
        every: All records below the audit root.
        config: The daemon's configuration, which names the audit root; /etc/agentd/agentd.toml
            unless given.
        audit_root: The audit root, instead of the configuration's.
        json: A JSON object a line, for programs.
    """
    if every == bool(sessions):
        raise UsageError("name the sessions to verify, or use --all for every one, not both")
    root = chosen_root(config, audit_root, os.environ)
    records = audit.records(root)
    if not every:
        records = named(records, sessions)
    status = 0
    for record in records:
        verdict = audit.verify(record, _go_on)
        print(as_json(record, verdict) if json else "\n".join(lines(record, verdict)), flush=True)
        if is_failure(verdict, every=every):
            status = EXIT_FAILURE
    return status


def named(records: Sequence[audit.Record], sessions: Sequence[str]) -> list[audit.Record]:
    """The records of the sessions with these ids, or whose ids begin so; each once.

    Raises:
        UnknownSession: one fits none, or more than one.
    """
    by_id = {record.directory.name: record for record in records}
    return [by_id[found] for found in dict.fromkeys(chosen_session(s, by_id) for s in sessions)]


def _go_on() -> None:
    """The check of work that ends with its process."""


def is_failure(verdict: audit.Verdict, *, every: bool) -> bool:
    """Whether the command fails because of this record; who names a record wants it verified."""
    return verdict.state == "damaged" or not (every or verdict.state == "verified")


def lines(record: audit.Record, verdict: audit.Verdict) -> list[str]:
    """What is shown of a record: a line, and one for each difference."""
    directory = record.directory
    words = f"{directory.name}  {directory.parent.name}  {verdict.state}"
    return [f"{words}{_tail(verdict)}", *_differences(verdict)]


def _tail(verdict: audit.Verdict) -> str:
    match verdict.state:
        case "verified":
            known = f": {verdict.entries} entries"
            without = verdict.without_digest
            return f"{known}, {without} of them by their size alone" if without else known
        case "damaged":
            return ""
        case "incomplete":
            return ": its session lives, or it was never closed"
        case "gone":
            return ": it was removed meanwhile"


def _differences(verdict: audit.Verdict) -> list[str]:
    shown = [f"  {finding.entry} {finding.problem}" for finding in verdict.findings]
    more = verdict.findings_total - len(shown)
    return [*shown, f"  and {more} more differences"] if more else shown


def as_json(record: audit.Record, verdict: audit.Verdict) -> str:
    """The same for programs."""
    whose = {
        "session_id": record.directory.name,
        "agent": record.directory.parent.name,
        "record": os.fsencode(record.directory).decode(errors="replace"),
    }
    return json_line({**whose, **msgspec.to_builtins(verdict)})
