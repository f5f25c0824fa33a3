"""The life of one session, in the order in which it happens.

A session holds its parts as a stack of contexts inside one cancel scope: secrets, container, the
watch on its output. Success, failure, time-out and a daemon that is forced down are the same
unwinding. The record is closed after the stack has unwound, and only if it did so cleanly.
"""

from __future__ import annotations

import datetime
from typing import Final

import trio

from .. import audit
from ..errors import AgentdError, ForcedShutdown
from ..logs import log, session_bound
from ..outcome import TIMED_OUT
from ..watch import CLOSED
from . import masks, output_log, report
from .container import SessionContainer, session_container
from .engine import Engine
from .secret_files import secret_files
from .session import Session, SessionEnd
from .spec import container_spec, secrets
from .teardown import Teardown
from .threads import in_slices, within
from .verdict import Ended, Interruption, judge

INTENT_SECONDS: Final = 2.0
"""How long a stuck disk may hold up the kill of a container whose time is up."""


async def run_session(
    session: Session,
    engine: Engine,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run an admitted session to its end; `session.end` then says how it ended.

    It counts as started once its record exists. Cancellation kills the container and removes what
    can be removed; the record then stays incomplete.

    Raises:
        AuditError: the record cannot be made, and so there is no session.
    """
    with session_bound(session.id, session.agent.name):
        await in_slices(_make_record, session, engine)
        report.log_started(session)
        task_status.started()
        teardown = Teardown()
        try:
            ended = await _live(session, engine, teardown)
            await _close(session, engine, ended, teardown)
            session.finish(SessionEnd(ended.result, teardown.error))
        finally:
            if session.end is None:
                forced = ForcedShutdown("agentd was forced down and killed the session")
                session.finish(SessionEnd(forced, teardown.error))


def _make_record(session: Session, engine: Engine) -> None:
    places = session.places
    audit.create(
        places.record,
        report.start_facts(session),
        owner=engine.session_owner,
        document=session.admitted.document,
    )
    masks.keep(engine.masks_dir, session.id, session.needles)


async def _live(session: Session, engine: Engine, teardown: Teardown) -> Ended:
    """From the record to the last trace of the container; gives how the session ended."""
    spec = container_spec(
        session.admitted, session.places, engine.abilities, grace_seconds=engine.grace_seconds
    )
    ended = None
    try:
        with trio.CancelScope(deadline=session.clock_deadline):
            async with (
                secret_files(engine.podman, secrets(session.invocation, session.places), teardown) as files,
                session_container(engine, spec, session.hint, teardown) as container,
            ):
                with engine.watcher.watch(session.places.output_raw, CLOSED, session.hint):
                    try:
                        await container.start()
                        session.enter("running")
                        await files.release()
                        await container.wait_ended()
                    finally:
                        session.enter("ending")
                        with teardown.step("session execution"):
                            ended = await _conclude(session, container)
    except AgentdError as error:
        return Ended(error)
    return ended or Ended(TIMED_OUT)
