"""`agentd audit`: the commands about records, which need no daemon."""

from __future__ import annotations

from cyclopts import App

from . import VERSION_LINE
from .audit_prune import prune
from .audit_verify import verify

audit = App(
    name="audit",
    help="Verify the records of past sessions, and prune them.",
    version=VERSION_LINE,
    version_flags=["--version", "-V"],
)
audit.command(verify)
audit.command(prune)
