"""Closing a session's record: its output masked, its tree sealed, its metadata published.

Everything here may be done again after an interruption, with the same result.
"""

from __future__ import annotations

import msgspec
import trio

from .. import audit
from ..errors import AgentdError, AuditError
from . import masks, output_log
from .disk import check_wanted
from .engine import Engine
from .facts import WITHHELD, output_facts
from .session import Session
from .teardown import log_failure


async def close_record(session: Session, engine: Engine, end: audit.End) -> None:
    """Seal the record of a session of which nothing else is left.

    A failure is logged and leaves the record incomplete, and `session.unclosed` set: the session's
    outcome stands all the same.
    """
    session.unclosed = end
    try:
        size = await trio.to_thread.run_sync(_close, session, engine, end)
    except AgentdError as error:
        log_failure("session audit finalization", "record closing", str(error))
    else:
        session.unclosed = None
        engine.metrics.output_kept(session.start.agent, size)


def _close(session: Session, engine: Engine, end: audit.End) -> int:
    """Gives how many bytes of output the record has. Blocking."""
    with session.writing:
        pass  # What is being written of it still comes before; nothing new is begun.
    limits = audit.RecordLimits(session.start.limits.record)
    if session.needles is None:
        end = msgspec.structs.replace(end, output=WITHHELD)
    else:
        # Kept for the next attempt: the disk may have room again by then.
        session.output_doubtful |= audit.is_full(engine.audit_root)
        output = _finish_output(session, session.needles)
        facts = output_facts(output, doubtful=session.output_doubtful)
        end = msgspec.structs.replace(end, commit=output.commit, output=facts)
    audit.close(session.record, session.start, end, limits, check_wanted)
    masks.forget(engine.masks_dir, session.id)
    assert end.output is not None
    return end.output.bytes


def _finish_output(session: Session, needles: tuple[bytes, ...]) -> output_log.Summary:
    record = session.record
    try:
        return output_log.finish(
            record.output_raw,
            record.output_log,
            needles,
            session.start.limits.output,
            _is_cancelled,
            trimmed=session.dropped_bytes,
        )
    except OSError as error:
        raise AuditError(f"cannot finish {record.output_log}: {error}") from error


def _is_cancelled() -> bool:
    check_wanted()
    return False
