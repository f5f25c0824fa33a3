"""The life of one session, in the order in which it happens.

A session holds its parts as a stack of contexts inside one cancel scope: secrets, container, the
watch on its output. Success, failure, time-out and a daemon that is forced down are the same
unwinding. The record is closed after the stack has unwound, and only if it did so cleanly.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import trio

from .. import audit, names
from ..errors import AgentdError, NeverStarted
from ..outcome import TIMED_OUT
from ..watch import CLOSED
from . import masks, report
from .closing import close_record
from .conclusion import concluded, forced_down
from .container import adopted_container, session_container
from .disk import DISK_SECONDS, check_wanted, on_disk
from .engine import Engine
from .facts import end_facts
from .secret_files import secret_files
from .session import Session
from .setup import session_secrets
from .spec import Admitted, container_spec
from .teardown import Teardown
from .verdict import Ended


async def run_session(
    session: Session,
    admitted: Admitted,
    engine: Engine,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run an admitted session to its end; `session.ended` then says how it ended.

    It counts as started once its record exists. Cancellation leaves the session to the next daemon
    or, when all are to be forced down, kills its container, and the next daemon closes the record.

    Raises:
        AuditError, DiskTimeout: the record cannot be made, and so there is no session.
    """
    with session.bound_to_log():
        where = str(session.record.directory)
        try:
            await on_disk(DISK_SECONDS, where, _allocate, session, admitted, engine)
        except AgentdError as error:
            report.log_unmade(error)
            raise
        report.log_started(session)
        task_status.started()
        await _to_its_end(session, engine, partial(_live, session, admitted, engine))


async def adopt_session(session: Session, engine: Engine) -> None:
    """Go on with a session whose container an earlier daemon has made, to the same end."""
    with session.bound_to_log():
        report.log_adopted(session)
        await _to_its_end(session, engine, partial(_resumed, session, engine))


async def _to_its_end(
    session: Session, engine: Engine, live: Callable[[Teardown], Awaitable[Ended]]
) -> None:
    """Whatever brings a session to its end, its record is closed if nothing else is left of it.

    A bug costs this session alone: what is left of it is settled later.
    """
    teardown = Teardown()
    engine.metrics.session_began(session.start.agent)
    try:
        ended = await _ended(session, engine, live, teardown)
        report.log_end(ended, teardown.stage)
        session.complete_output(ended)
        session.unclosed = end_facts(session.start, ended)
        if not (teardown.failures or session.container_kept):
            await close_record(session, engine, session.unclosed)
        report.log_teardown(session, teardown)
    except Exception as bug:  # noqa: BLE001
        report.log_panic(bug)
    finally:
        session.finish(teardown.error)
        report.measure_end(session, engine.metrics)


async def _ended(
    session: Session,
    engine: Engine,
    live: Callable[[Teardown], Awaitable[Ended]],
    teardown: Teardown,
) -> Ended:
    """How the session ended, once nothing is left of it in Podman."""
    try:
        return await live(teardown)
    except trio.Cancelled:
        if engine.forced.is_set() or session.ended is not None:
            # Shields, within a bound.
            ended = await forced_down(session)  # noqa: ASYNC102
            report.log_end(ended, teardown.stage)
            report.log_teardown(session, teardown)
        raise
    except Exception as bug:  # noqa: BLE001
        return Ended(report.log_panic(bug))


def _allocate(session: Session, admitted: Admitted, engine: Engine) -> None:
    """Make the record and the file of values to mask; neither once nobody waits for them."""
    document = admitted.document
    masks.keep(engine.masks_dir, session.id, session.needles or ())
    try:
        audit.create(
            session.record,
            session.start,
            owner=engine.abilities.session_owner,
            document=None if document is None else document.content,
            check=check_wanted,
        )
    except BaseException:
        masks.forget(engine.masks_dir, session.id)
        raise


async def _live(session: Session, admitted: Admitted, engine: Engine, teardown: Teardown) -> Ended:
    """From the record to the last trace of the container; gives how the session ended."""
    whose = names.Identity(engine.instance, session.id)
    spec = container_spec(
        admitted,
        whose,
        session.record,
        engine.abilities,
        started_at=session.start.start_timestamp,
        grace_seconds=admitted.invocation.shutdown_grace,
    )
    wanted = session_secrets(admitted.invocation, whose)
    try:
        with (
            trio.CancelScope(deadline=session.clock_deadline),
            engine.watcher.watch(session.record.output_raw, CLOSED, session.hint),
        ):
            async with (
                secret_files(engine.podman, wanted, teardown) as secrets,
                session_container(session, engine, spec, teardown) as container,
                concluded(session, engine, container, teardown),
            ):
                session.check_wanted()
                await container.start()
                session.phase.value = "running"
                await secrets.release()
                await container.wait_ended()
    except AgentdError as error:
        return Ended(error)
    # Without a word of the container, its time was up before it was started.
    return session.ended or Ended(TIMED_OUT)


async def _resumed(session: Session, engine: Engine, teardown: Teardown) -> Ended:
    """From a container that is there already to the last trace of it."""
    try:
        async with (
            adopted_container(session, engine, teardown) as container,
            concluded(session, engine, container, teardown),
        ):
            await container.look_at_adopted()
            if not container.started:
                raise NeverStarted("the daemon was gone before it had started the session")
            if not container.ended:
                session.phase.value = "running"
            if session.intent is None or session.intent.cause != "forced":
                with (
                    trio.CancelScope(deadline=session.clock_deadline),
                    engine.watcher.watch(session.record.output_raw, CLOSED, session.hint),
                ):
                    await container.wait_ended()
    except AgentdError as error:
        return Ended(error)
    assert session.ended is not None
    return session.ended
