"""Looking at the audit root. Blocking."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from .. import audit
from ..errors import AuditError
from .finding import Finding, ok, refused
from .host_rules import place_finding, space_finding
from .look import look_at_place


class Root(NamedTuple):
    """What was found, and where a record can be tried; None when there is no such place."""

    findings: tuple[Finding, ...]
    trial_place: Path | None


def look_at_root(root: Path, wanted_bytes: int) -> Root:
    """The audit root as the daemon would find it; one that is missing is not made."""
    place = look_at_place(root)
    if place.existing != root:
        finding = place_finding("audit-root", place)
        return Root((finding,), place.existing if finding.status == "ok" else None)
    try:
        audit.check(root, None)
    except AuditError as error:
        remedy = f"give {root} to the daemon's user alone, or set daemon.audit_root"
        return Root((refused("audit-root", error, remedy),), None)
    usable = ok("audit-root", f"{root}: records can be made, sealed and removed")
    system = os.statvfs(root)
    free = system.f_bavail * system.f_frsize
    return Root((usable, space_finding(root, free, wanted_bytes)), root)
