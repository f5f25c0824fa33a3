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
from ..logs import session_bound
from ..outcome import TIMED_OUT
from ..watch import CLOSED
from . import masks, report
from .closing import close_record
from .container import SessionContainer, session_container
from .engine import Engine
from .secret_files import secret_files
from .session import Session, SessionEnd
from .setup import session_secrets
from .spec import container_spec
from .teardown import Teardown
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
        await trio.to_thread.run_sync(_allocate, session, engine)
        report.log_started(session)
        task_status.started()
        teardown = Teardown()
        try:
            ended = await _live(session, engine, teardown)
            report.log_end(session, ended)
            session.complete_output()
            if not teardown.failures:
                await close_record(session, engine, ended)
            report.log_teardown(session, teardown)
            session.finish(SessionEnd(ended.outcome, ended.error, teardown.error))
        finally:
            if session.end is None:
                forced = ForcedShutdown("agentd was forced down and killed the session")
                session.finish(SessionEnd(None, forced, teardown.error))


def _allocate(session: Session, engine: Engine) -> None:
    """Make the record and the file of values to mask, or neither."""
    document = session.admitted.document
    masks.keep(engine.masks_dir, session.id, session.needles)
    try:
        audit.create(
            session.record,
            report.start_facts(session),
            owner=engine.abilities.session_owner,
            document=None if document is None else document.content,
        )
    except BaseException:
        masks.forget(engine.masks_dir, session.id)
        raise


async def _live(session: Session, engine: Engine, teardown: Teardown) -> Ended:
    """From the record to the last trace of the container; gives how the session ended."""
    spec = container_spec(
        session.admitted,
        session.whose,
        session.record,
        engine.abilities,
        started_at=session.started_at,
        grace_seconds=engine.grace_seconds,
    )
    wanted = session_secrets(session.invocation, session.whose)
    ended = Ended(TIMED_OUT)
    try:
        with trio.CancelScope(deadline=session.clock_deadline):
            async with (
                secret_files(engine.podman, wanted, teardown) as secrets,
                session_container(engine, spec, session.hint, teardown) as container,
            ):
                with engine.watcher.watch(session.record.output_raw, CLOSED, session.hint):
                    try:
                        session.enter("starting")
                        await container.start()
                        session.enter("running")
                        await secrets.release()
                        await container.wait_ended()
                    finally:
                        if container.started:
                            session.enter("ending")
                            with teardown.step("session execution"):  # shields, within a bound
                                ended = await _conclude(session, container)  # noqa: ASYNC102
    except AgentdError as error:
        return Ended(error)
    return ended


async def _conclude(session: Session, container: SessionContainer) -> Ended:
    """Tell how the container ended, and end it first if it has not.

    What is known is written down before the container, and with it the proof, is removed.
    """
    interruption = None
    if not container.ended:
        expired = trio.current_time() >= session.clock_deadline
        interruption = Interruption(
            "timeout" if expired else "forced", datetime.datetime.now(datetime.UTC)
        )
        with trio.move_on_after(INTENT_SECONDS):
            await trio.to_thread.run_sync(
                audit.write_intent,
                session.record,
                interruption.cause,
                interruption.when,
                abandon_on_cancel=True,
            )
        await container.kill()
    ended = judge(container.state, interruption, session.deadline)
    facts = report.end_facts(session, ended)
    await trio.to_thread.run_sync(
        audit.write_next, session.record, report.start_facts(session), facts
    )
    return ended
