"""`agentd stop`."""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path

import trio

from .. import wire
from ..client import Client, connect
from ..errors import AgentdError, StoppedBeforeStart, TeardownFailed, UsageError, from_code
from .daemon_socket import USUAL, DaemonSocket
from .duration import duration
from .printable import printable

NOTHING = ("0", "0s")


def stop(session: str, /, *more: str, grace: str = "30s", daemon: DaemonSocket = USUAL) -> int:
    """Ask live sessions to stop, and wait until their containers are gone.

    They get SIGINT, which runa answers by finishing the protocol that it is at, and SIGKILL when
    the grace has passed. They go on stopping when this command is interrupted. A run that waits for
    its place is turned away.

    For example:

        agentd stop 3f9c
        agentd stop 3f9c 77a0 --grace 10m
        agentd stop 3f9c --grace 0s

    Args:
        session: A session's id, or the beginning of it.
        more: Those of others that are to stop at the same time.
        grace: How long a session may take, such as 90s or 10m; 0s kills it at once.
    """
    seconds = grace_seconds(grace)
    return trio.run(_stop_all, daemon.path(), dict.fromkeys([session, *more]), seconds)


def grace_seconds(text: str) -> float:
    """The grace in seconds.

    Raises:
        UsageError: it is no duration, or longer than a day.
    """
    seconds = 0.0 if text in NOTHING else duration(text, "--grace")
    if seconds > wire.MAX_STOP_GRACE_SECONDS:
        raise UsageError("--grace may be a day at most: set the agent's timeout instead")
    return seconds


async def _stop_all(socket_path: Path, wanted: Collection[str], grace: float) -> int:
    """Stop these; what goes wrong with one of them holds up none of the others.

    Gives the largest exit status of those that ended.

    Raises:
        ExceptionGroup: of an `AgentdError` for each of those that could not be stopped.
    """
    statuses: list[int] = []
    errors: list[AgentdError] = []

    async def stop_one(client: Client, session: str) -> None:
        try:
            statuses.append(await _stop(client, session, grace))
        except AgentdError as error:
            whose = f"{session}: " if len(wanted) > 1 else ""
            errors.append(from_code(error.code, f"{whose}{error.message}"))

    async with connect(socket_path) as client, trio.open_nursery() as nursery:
        for session in wanted:
            nursery.start_soon(stop_one, client, session)
    if errors:
        raise ExceptionGroup("could not be stopped", errors)
    return max(statuses)


async def _stop(client: Client, session: str, grace: float) -> int:
    try:
        finished = await client.stop(session, grace=grace, accepted=_accepted)
    except StoppedBeforeStart as error:
        print(printable(error.message))
        return 0
    if finished.teardown_error is not None:
        print(
            f"agentd: session {finished.session_id} ended ({finished.outcome}), but could not be"
            f" cleaned up: {printable(finished.teardown_error)}",
            file=sys.stderr,
        )
        return TeardownFailed.exit_code
    print(f"session {finished.session_id} has ended: {finished.outcome}")
    return 0


def _accepted(event: wire.Accepted) -> None:
    print(f"agentd: session {event.session_id} is asked to stop", file=sys.stderr, flush=True)
