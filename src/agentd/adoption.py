"""Settling what an earlier daemon left behind, before and after the new one takes requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import trio

from . import audit, names
from .errors import AgentdError, ContainerVanished, PodmanError, ReconciliationFailed
from .logs import log
from .outcome import FINE
from .session import masks
from .session.closing import close_record
from .session.container import adopted_container
from .session.disk import DISK_SECONDS, on_disk
from .session.engine import Engine
from .session.facts import end_facts
from .session.left_behind import LeftBehind, look_behind
from .session.session import Session
from .session.teardown import Teardown
from .session.verdict import Ended

LATE_CREATE_SECONDS: Final = 10.0
"""A create that was under way in Podman when the earlier daemon ended shows by then."""

TAKE_UP_SECONDS: Final = 60.0
"""How long Podman may take to tell of the containers that are there, and to remove the ended."""


async def clear_remainders(engine: Engine) -> LeftBehind:
    """Remove what no session can be made of; gives what was found, the sessions among it.

    Raises:
        ReconciliationFailed: something cannot be listed or removed.
    """
    try:
        found = await look_behind(engine)
        for container in found.containers:
            await engine.podman.remove(container)
        # A container that runs has its copies; one that does not will never be started.
        for secret in found.secrets:
            await engine.podman.remove_secret(secret)
        prefix = names.instance_prefix(engine.instance)
        where = str(engine.audit_root)
        await on_disk(DISK_SECONDS, where, audit.discard_halves, engine.audit_root, prefix)
        for session_id in found.masks:
            await on_disk(
                DISK_SECONDS, str(engine.masks_dir), masks.forget, engine.masks_dir, session_id
            )
    except AgentdError as error:
        log.error("agentd.startup_reconciliation_failed", error=str(error))
        raise ReconciliationFailed(f"startup reconciliation failed: {error}") from error
    log.info(
        "agentd.startup_reconciliation_completed",
        removed_container_count=len(found.containers),
        removed_secret_count=len(found.secrets),
        adopted_session_count=len(found.sessions),
        open_record_count=len(found.ended) + len(found.lost),
    )
    return found


async def taken_up(sessions: Sequence[Session]) -> None:
    """Wait until it is known of each of these how far it has come.

    Raises:
        ReconciliationFailed: Podman does not say so in time.
    """
    with trio.move_on_after(TAKE_UP_SECONDS):
        for session in sessions:
            await session.phase.wait_value(lambda phase: phase != "starting")
        return
    silent = [each.start.container_name for each in sessions if each.phase.value == "starting"]
    text = f"Podman does not tell, or do, in {TAKE_UP_SECONDS:g} s what {', '.join(silent)} needs"
    log.error("agentd.startup_reconciliation_failed", error=text)
    raise ReconciliationFailed(f"startup reconciliation failed: {text}")


async def remove_stranger(engine: Engine, container: str) -> None:
    """Remove a container of this instance that no session knows: the create of a daemon that is
    gone took effect late."""
    log.warning("agentd.unknown_container_removed", container_name=container)
    try:
        await engine.podman.remove(container)
    except PodmanError as error:
        log.warning("agentd.unknown_container_left", container_name=container, error=str(error))


async def remove_strangers(engine: Engine, knows: Callable[[str], bool]) -> None:
    """Remove all containers of this instance whose names nobody knows; a failure is logged."""
    try:
        listed = await engine.podman.containers(names.Label.INSTANCE, engine.instance)
    except PodmanError as error:
        log.warning("agentd.unknown_containers_unseen", error=str(error))
        return
    for row in listed:
        if not knows(row.name):
            await remove_stranger(engine, row.name)


async def settle_late(
    engine: Engine,
    knows: Callable[[str], bool],
    lost: Sequence[Session],
    take: Callable[[Session], None],
) -> None:
    """Close records that no container is left of, once a create under way would have shown."""
    await trio.sleep(LATE_CREATE_SECONDS)
    await remove_strangers(engine, knows)
    for session in lost:
        await close_left_record(session, engine, None, take)


async def close_left_record(
    session: Session, engine: Engine, end: audit.End | None, take: Callable[[Session], None]
) -> None:
    """Close the record of a session that is over; without a word of its end, as an error.

    What is left of its container goes first; the phase is closing from then on. `take` gets the
    session at last, its record closed or not.
    """
    if end is None:
        vanished = ContainerVanished("no container of the session was left when agentd came back")
        end = end_facts(session.start, Ended(vanished))
        # All other ends were counted, or are going to be, with the session that came to them.
        engine.metrics.session_ended(session.start.agent, end.outcome, end.duration_seconds)
    with session.bound_to_log():
        where = str(session.record.directory)
        tell = log.info if end.outcome in FINE else log.warning
        tell("runner.record_adopted", record=where, outcome=end.outcome)
        teardown = Teardown()
        async with adopted_container(session, engine, teardown):
            pass
        session.phase.value = "closing"
        session.unclosed, session.teardown_error = end, teardown.error
        if not teardown.failures:
            await close_record(session, engine, end)
    take(session)
