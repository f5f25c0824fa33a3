"""How a session's container came to its end: killed if it lives, judged, written down.

This is the last thing to happen before the container, and with it the proof, is removed.
"""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

from .. import audit
from ..errors import AgentdError
from .container import SessionContainer
from .disk import on_disk
from .engine import Engine
from .facts import end_facts
from .session import Session
from .teardown import Teardown, log_failure
from .verdict import Ended, judge

INTENT_SECONDS: Final = 0.5
"""How long a stuck disk may hold up the end of a container that agentd is about to end."""

NOTE_SECONDS: Final = 30.0
"""How long it may hold up the removal of a container whose end is known."""


@asynccontextmanager
async def concluded(
    session: Session, engine: Engine, container: SessionContainer, teardown: Teardown
) -> AsyncIterator[None]:
    """Settle on the exit, whatever brought it about, how a container that was started has ended.

    `session.ended` then says so. A container that has not ended by then is killed: the session's
    time is up, or the daemon is forced down. Why one was never started is written down as well.
    """
    teardown.stage = "session execution"
    try:
        yield
    except AgentdError as error:
        if not container.started and not engine.leaves(session.clock_deadline):
            await _note_end(session, Ended(error))  # noqa: ASYNC120
        raise
    finally:  # what awaits here shields itself, within a bound
        if container.started and not engine.leaves(session.clock_deadline):
            if not container.ended:
                await _kill(session, container, teardown)  # noqa: ASYNC102
            session.ended = judge(container.state, session.intent, session.start.deadline)
            # Where its end cannot be written down, the container is the only proof of it.
            noted = await _note_end(session, session.ended)  # noqa: ASYNC102
            container.kept = session.container_kept = not noted


async def forced_down(session: Session) -> Ended:
    """How a session ended that was killed with the daemon; written down for the next one."""
    if session.ended is None:
        await declare_intent(session, "forced")
        session.ended = judge(None, session.intent, session.start.deadline)
        await _note_end(session, session.ended)
    return session.ended


async def _kill(session: Session, container: SessionContainer, teardown: Teardown) -> None:
    """End a container that has not ended by itself; a failure is noted."""
    # One that was only asked to stop is ended for another reason now. Any other intent is that of
    # an earlier daemon, which may have acted on it.
    if session.intent is None or session.intent.cause == "stop":
        expired = trio.current_time() >= session.clock_deadline
        await declare_intent(session, "timeout" if expired else "forced")
    await teardown.insist("container kill", container.kill)


async def declare_intent(session: Session, cause: audit.Cause) -> None:
    """agentd lays hands on the container from now on; written down before it does.

    Shielded, within a bound.
    """
    session.intent = audit.Intent(cause, datetime.datetime.now(datetime.UTC))
    when = session.intent.when
    await _write(session, INTENT_SECONDS, audit.write_intent, session.record, cause, when)


async def _note_end(session: Session, ended: Ended) -> bool:
    """Write down how the session ended, before the container, and with it the proof, is removed;
    whether that could be done."""
    end = end_facts(session.start, ended)
    return await _write(session, NOTE_SECONDS, audit.write_next, session.record, session.start, end)


async def _write(
    session: Session, seconds: float, write: Callable[..., None], *args: object
) -> bool:
    """Write to the record, within a bound; a failure is logged, told, and holds up nothing."""
    try:
        with trio.CancelScope(shield=True):
            await on_disk(seconds, "the disk of the record", _write_in_time, session, write, *args)
    except AgentdError as error:
        log_failure("session execution", "session record", str(error))
        return False
    return True


def _write_in_time(session: Session, write: Callable[..., None], *args: object) -> None:
    """Write, unless it is too late: the thread of a write that was given up goes on. Blocking."""
    with session.writing:
        if not session.output_complete:
            write(*args)
