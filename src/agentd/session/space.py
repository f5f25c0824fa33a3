"""Watching the disk of the audit root while sessions live.

conmon drops without a word what it cannot write, and nothing of that can be seen afterwards: so a
session during which the disk was full, if only for a moment, has output that is not known to be
complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import trio
from trio_util import AsyncValue

from .. import audit
from ..logs import log
from .engine import Engine
from .session import Session

SPACE_SECONDS: Final = 1.0
"""Between two looks; a disk that was full for less may have cost output unseen."""


async def watch_space(engine: Engine, live: Mapping[str, Session], busy: AsyncValue[int]) -> None:
    """Mark the sessions that live while the disk is full, for ever; idle while none is `busy`.

    It looks as soon as one is: those that a daemon takes up may have found the disk full before.
    """
    was_full = False
    while True:
        await busy.wait_value(lambda count: count > 0)
        full = await trio.to_thread.run_sync(
            audit.is_full, engine.audit_root, abandon_on_cancel=True
        )
        for session in live.values() if full else ():
            session.output_doubtful = True
        if full and not was_full:
            log.warning("agentd.audit_root_full", audit_root=str(engine.audit_root))
        was_full = full
        await trio.sleep(SPACE_SECONDS)
