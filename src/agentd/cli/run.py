"""`agentd run`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import trio
from cyclopts import Parameter

from .. import wire
from ..client import connect
from ..errors import TeardownFailed
from ..outcome import FINE
from .daemon_socket import USUAL, DaemonSocket
from .printable import printable
from .run_flags import NO_FLAGS, RunFlags
from .show import Show, show_run


def run(
    agent: str,
    repo: str | None = None,
    /,
    *,
    flags: RunFlags = NO_FLAGS,
    detach: Annotated[bool, Parameter(alias="-d")] = False,
    quiet: bool = False,
    daemon: DaemonSocket = USUAL,
) -> int:
    """Run a session of an agent and show its output until it ends.

    The exit status is 0 when the session's outcome is success, blocked or nothing_ready, 124
    after a time-out, and else the session's own exit code. Errors of use exit 2, of the host 6.
    The session goes on when this command is interrupted. Its output is passed on as it is, control
    sequences included.

    For example:

        agentd run site-builder
        agentd run site-builder --request "Add a status page"
        agentd run site-builder --detach --timeout 2h
        agentd run site-builder https://example.org/site.git --work-unit 42

    Args:
        agent: The agent's name, as the daemon's configuration declares it.
        repo: The repository to clone, instead of the agent's own.
        detach: Print the session's id and leave it to the daemon.
        quiet: Show only how the session ended.
    """
    daemon_socket = daemon.path()
    options = flags.options(agent, repo)
    return trio.run(_start if detach else _run, daemon_socket, agent, options, quiet)


async def _run(socket_path: Path, agent: str, options: wire.RunOptions, quiet: bool) -> int:
    show = show_run(quiet=quiet)
    try:
        async with (
            connect(socket_path) as client,
            client.run(agent, **options) as session,
            show.alive(),
        ):
            async for event in session:
                show.event(event)
            finished = await session.wait()
    except KeyboardInterrupt:
        _say_detached(show.session_id)
        raise
    return _conclude(finished)


async def _start(socket_path: Path, agent: str, options: wire.RunOptions, quiet: bool) -> int:
    """Start a session and show which one it is; its id alone goes to standard output."""
    show = show_run(quiet=quiet)
    try:
        async with connect(socket_path) as client, show.alive():
            taken = await client.dispatch(agent, progress=show.event, **options)
    except KeyboardInterrupt:
        _say_detached(None)
        raise
    print(taken.session_id)
    Show(quiet=quiet).event(taken)
    return 0


def _say_detached(session_id: str | None) -> None:
    goes_on = (
        "if the daemon has taken the run in, it goes on, and 'agentd ps' shows its session"
        if session_id is None
        else f"session {session_id} goes on: 'agentd logs -f {session_id}' shows it,"
        f" 'agentd stop {session_id}' ends it"
    )
    print(f"agentd: detached; {goes_on}", file=sys.stderr)


def _conclude(finished: wire.Finished) -> int:
    outcome = finished.outcome
    if finished.teardown_error is not None:
        print(
            f"agentd: session {outcome}, but it could not be cleaned up:"
            f" {printable(finished.teardown_error)}",
            file=sys.stderr,
        )
        return TeardownFailed.exit_code
    print(f"session {outcome}", file=sys.stdout if outcome.label in FINE else sys.stderr)
    return outcome.process_exit_code
