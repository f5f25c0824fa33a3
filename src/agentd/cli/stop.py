"""`agentd stop`."""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from .. import wire
from ..client import connect
from ..errors import StoppedBeforeStart, TeardownFailed, UsageError
from ..quantities import parse_duration
from .daemon_socket import USUAL, DaemonSocket

NOTHING = ("0", "0s")


def stop(session: str, /, *, grace: str = "30s", daemon: DaemonSocket = USUAL) -> int:
    """Ask a live session to stop, and wait until its container is gone.

    It gets SIGINT, which runa answers by finishing the protocol that it is at, and SIGKILL when
    the grace has passed. The session goes on stopping when this command is interrupted.

    For example:

        agentd stop 3f9c
        agentd stop 3f9c --grace 10m
        agentd stop 3f9c --grace 0s

    Args:
        session: The session's id, or the beginning of it.
        grace: How long the session may take, such as 90s or 10m; 0s kills it at once.
    """
    seconds = grace_seconds(grace)
    return trio.run(_stop, daemon.path(), session, seconds)


def grace_seconds(text: str) -> float:
    """The grace in seconds.

    Raises:
        UsageError: it is no duration, or longer than a day.
    """
    try:
        seconds = 0.0 if text in NOTHING else parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--grace: {error}") from None
    if seconds > wire.MAX_STOP_GRACE_SECONDS:
        raise UsageError("--grace may be a day at most: set the agent's timeout instead")
    return seconds


async def _stop(socket_path: Path, session: str, grace: float) -> int:
    async with connect(socket_path) as client:
        try:
            finished = await client.stop(session, grace=grace, accepted=_accepted)
        except StoppedBeforeStart as error:
            print(error.message)
            return 0
    if finished.teardown_error is not None:
        print(
            f"agentd: session {finished.session_id} ended ({finished.outcome}), but could not be"
            f" cleaned up: {finished.teardown_error}",
            file=sys.stderr,
        )
        return TeardownFailed.exit_code
    print(f"session {finished.session_id} has ended: {finished.outcome}")
    return 0


def _accepted(event: wire.Accepted) -> None:
    print(f"agentd: session {event.session_id} is asked to stop", file=sys.stderr, flush=True)
