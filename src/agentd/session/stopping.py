"""Asking a session to stop. It then ends by itself, with the outcome that it earned."""

from __future__ import annotations

import math
from typing import Final

import trio

from ..errors import PodmanError
from ..logs import log
from ..podman import Podman
from ..wire import STOP_GRACE_SECONDS
from .conclusion import declare_intent
from .session import Session

RETRY_SECONDS: Final = 1.0
"""Between two requests to a Podman that does not answer."""


async def stop_session(
    session: Session,
    podman: Podman,
    grace_seconds: float,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Send a session's container SIGINT, and SIGKILL after the grace; wait until it has ended.

    Started when that is written down, so that also the next daemon does it. runa answers its first
    SIGINT by finishing the protocol that it is at. A session whose container was not started yet
    never starts it. Asking again changes nothing, unless the grace is 0: that kills at once. One
    that has ended is asked nothing.
    """
    if session.output_complete:
        task_status.started()
        return
    with session.bound_to_log():
        first = session.intent is None
        if first:
            log.info("runner.session_stopping", grace_seconds=grace_seconds)
            await declare_intent(session, "stop")
        task_status.started()
        await session.phase.wait_value(lambda phase: phase != "starting")
        if first or grace_seconds == 0:
            await _end_container(session, podman, grace_seconds)


async def resume_stop(session: Session, podman: Podman) -> None:
    """Ask an adopted session again that an earlier daemon was asked to stop.

    Not when Podman is still at it: runa takes a second SIGINT for impatience.
    """
    with session.bound_to_log():
        await session.phase.wait_value(lambda phase: phase != "starting")
        if session.phase.value == "running" and not await _is_stopping(session, podman):
            await _end_container(session, podman, STOP_GRACE_SECONDS)


async def _is_stopping(session: Session, podman: Podman) -> bool:
    try:
        container = await podman.inspect(session.start.container_name)
    except PodmanError:
        return False
    return container is not None and container.state.status == "stopping"


async def _end_container(session: Session, podman: Podman, grace_seconds: float) -> None:
    """As often as it takes while Podman is away: a request that was lost is asked again."""
    while session.phase.value == "running":
        try:
            if grace_seconds > 0:
                await podman.stop(session.start.container_name, math.ceil(grace_seconds))
            else:
                await podman.kill(session.start.container_name)
        except PodmanError as error:
            log.warning("runner.stop_failed", error=str(error))
            await trio.sleep(RETRY_SECONDS)
        else:
            return
