"""`agentd audit prune`."""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Literal

import msgspec

from .. import audit
from ..errors import AuditError, UsageError
from .audit_root import chosen_root
from .duration import duration
from .printable import printable
from .tables import amount, json_line


def prune(
    *,
    older_than: str | None = None,
    keep: int | None = None,
    dry_run: bool = False,
    config: Path | None = None,
    audit_root: Path | None = None,
    json: bool = False,
) -> int:
    """Remove old records.

    Only closed records go: one whose session lives, that was never closed or cannot be read is left
    alone and told on standard error. What an interrupted pruning left is finished first. The daemon
    may be running, and is not asked.

    For example:

        agentd audit prune --older-than 30d --dry-run
        agentd audit prune --older-than 30d --keep 10
        agentd audit prune --keep 100

    Args:
        older_than: Remove records of sessions that ended longer ago than this, such as 30d or 12h.
        keep: Keep the newest so many of each agent, whatever their age; without --older-than, all
            others go.
        dry_run: Only say what would go.
        config: The daemon's configuration, which names the audit root; /etc/agentd/agentd.toml
            unless given.
        audit_root: The audit root, instead of the configuration's.
        json: A JSON object a line, for programs.
    """
    before = cutoff(older_than, keep, datetime.datetime.now(datetime.UTC))
    root = chosen_root(config, audit_root, os.environ)
    with nullcontext() if dry_run else audit.alone(root):
        found = audit.survey(root)
        jobs: list[audit.Begun | audit.Closed] = [*found.begun]
        jobs += audit.chosen(found.closed, before, keep)
        gone: list[Gone] = []
        for job in jobs:
            try:
                gone.append(_go(job, dry_run=dry_run))
            except AuditError as error:
                _say(error.message)
            else:
                print(json_line(gone[-1]) if json else line(gone[-1]), flush=True)
    for sentence in left_alone(found):
        _say(sentence)
    if not json:
        print(total(gone, dry_run=dry_run))
    return 0 if len(gone) == len(jobs) else AuditError.exit_code


def cutoff(
    older_than: str | None, keep: int | None, now: datetime.datetime
) -> datetime.datetime | None:
    """The instant before which sessions ended whose records may go; None for any.

    Raises:
        UsageError: neither option is there, or one makes no sense.
    """
    if older_than is None and keep is None:
        raise UsageError("say what is to go: --older-than 30d, --keep 10, or both")
    if keep is not None and keep < 1:
        raise UsageError("--keep must be 1 at least: leave it out to keep none for its newness")
    if older_than is None:
        return None
    return now - datetime.timedelta(seconds=duration(older_than, "--older-than"))


class Gone(msgspec.Struct, frozen=True, omit_defaults=True):
    """A record that was removed, or would be; one without a time was half gone before."""

    action: Literal["removed", "would_remove"]
    session_id: str
    agent: str
    bytes: int
    end_timestamp: datetime.datetime | None = None


def _go(job: audit.Closed | audit.Begun, *, dry_run: bool) -> Gone:
    ended = job.ended if isinstance(job, audit.Closed) else None
    if dry_run:
        freed = audit.size(job, _go_on)
    elif isinstance(job, audit.Closed):
        freed = audit.prune(job, _go_on)
    else:
        freed = audit.finish(job, _go_on)
    action: Literal["removed", "would_remove"] = "would_remove" if dry_run else "removed"
    return Gone(action, job.session_id, job.agent, freed, ended)


def _go_on() -> None:
    """The check of work that ends with its process."""


def line(gone: Gone) -> str:
    """A record that went, for people."""
    action = gone.action.replace("_", " ")
    ended = gone.end_timestamp
    when = "begun by an earlier pruning" if ended is None else f"ended {ended:%Y-%m-%d %H:%M:%SZ}"
    return f"{action}  {gone.session_id}  {gone.agent}  {when}  {amount(gone.bytes)}"


def total(gone: Sequence[Gone], *, dry_run: bool) -> str:
    """How much went, in a line."""
    freed = amount(sum(each.bytes for each in gone))
    records = "1 record" if len(gone) == 1 else f"{len(gone)} records"
    return f"{records}, {freed} {'would be ' if dry_run else ''}freed"


def left_alone(found: audit.Survey) -> list[str]:
    """What is said of records that no pruning removes."""
    told = []
    if found.incomplete:
        told.append(
            f"left alone: {len(found.incomplete)} not closed, since their sessions live or could"
            " not be cleaned up"
        )
    if found.unusable:
        told.append(f"left alone: {len(found.unusable)} that cannot be judged")
    return [*told, *found.unusable]


def _say(text: str) -> None:
    for each in text.splitlines():
        print(f"agentd: {printable(each)}", file=sys.stderr, flush=True)
