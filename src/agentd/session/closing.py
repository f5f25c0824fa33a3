"""Closing a session's record: its output masked, its tree sealed, its metadata published.

Everything here may be done again after an interruption, with the same result.
"""

from __future__ import annotations

import trio

from .. import audit
from ..errors import AgentdError, AuditError
from . import masks, output_log, report
from .engine import Engine
from .session import Session
from .teardown import log_failure
from .verdict import Ended


async def close_record(session: Session, engine: Engine, ended: Ended) -> None:
    """Seal the record of a session of which nothing else is left.

    A failure is logged and leaves the record incomplete: the session's outcome stands all the
    same.
    """
    try:
        await trio.to_thread.run_sync(_close, session, engine, ended)
    except AgentdError as error:
        log_failure("session audit finalization", str(error))


def _close(session: Session, engine: Engine, ended: Ended) -> None:
    record, limits = session.record, session.agent.limits
    try:
        output = output_log.finish(
            record.output_raw,
            record.output_log,
            session.needles,
            limits.output,
            _is_cancelled,
            trimmed=session.dropped_bytes,
        )
    except OSError as error:
        raise AuditError(f"cannot finish {record.output_log}: {error}") from error
    audit.close(
        record,
        report.start_facts(session),
        report.end_facts(session, ended, output),
        audit.RecordLimits(limits.record),
        _is_cancelled,
    )
    masks.forget(engine.masks_dir, session.id)


def _is_cancelled() -> bool:
    """In a thread: raise `trio.Cancelled` once the task that waits for it is cancelled.

    A thread does not obey a cancel scope, so long file work asks this between its slices.
    """
    trio.from_thread.check_cancelled()
    return False
