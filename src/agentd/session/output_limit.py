"""Keeping a live session's raw log within `limits.output`.

conmon appends, so cutting the file's end off is safe at any moment; the container is neither
blocked nor killed for talking too much. The bound is a soft one: between two looks the file may
grow beyond it, as fast as the agent talks.
"""

from __future__ import annotations

from typing import Final

import trio

from ..errors import HostUnsupported
from ..watch import MODIFIED, Hint
from .engine import Engine
from .output_log import trim
from .session import Session
from .teardown import log_failure

LOOK_SECONDS: Final = 0.25
"""Between two looks at a file that grows; a file that does not grow is never looked at."""


async def bound_output(session: Session, engine: Engine) -> None:
    """Cut the session's raw log back whenever it has grown too large, until it is complete.

    What was cut is counted in `session.dropped_bytes`. A failure is logged once, and it is tried
    again: a disk that is out of sight may come back.
    """
    told = False
    raw, limit = session.record.output_raw, session.start.limits.output
    hint = Hint()
    with session.bound_to_log(), session.waking(hint):
        while not session.output_complete:
            try:
                # Watched for one change at a time, so a chatty agent costs four looks a second; and
                # looked at once it is watched, for what came while it was not.
                with engine.watcher.watch(raw, MODIFIED, hint):
                    session.dropped_bytes += await trio.to_thread.run_sync(
                        trim, raw, limit, abandon_on_cancel=True
                    )
                    await hint.wait()
            except (HostUnsupported, OSError) as error:
                # A log that was finished while a look was under way has its other name.
                if not (told or session.output_complete):
                    log_failure("session execution", "output limit", str(error))
                    told = True
            await trio.sleep(LOOK_SECONDS)
