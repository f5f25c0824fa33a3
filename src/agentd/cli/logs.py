"""`agentd logs`."""

from __future__ import annotations

import datetime
from typing import Annotated, Final

import trio
from cyclopts import Parameter

from ..client import connect
from ..errors import UsageError
from ..quantities import parse_duration
from .daemon_socket import USUAL, DaemonSocket
from .schedule import instant
from .show import Show

MAX_TAIL: Final = 2**63 - 1
"""What fits a message."""


def logs(
    session: str,
    /,
    *,
    follow: Annotated[bool, Parameter(alias="-f")] = False,
    tail: int | None = None,
    since: str | None = None,
    timestamps: bool = False,
    stdout: bool = False,
    stderr: bool = False,
    daemon: DaemonSocket = USUAL,
) -> int:
    """Show the output of a session, live or past.

    The agent's standard output goes to standard output, its standard error to standard error;
    values of credentials are masked. Nothing else in it is changed: control sequences reach the
    terminal, as with 'podman logs', and 'agentd logs 3f9c 2>&1 | cat -v' makes them visible.
    A run that waits for its place has no output yet, so there is none to show; --follow waits for
    its session, and ends as the run does when it is turned away.

    For example:

        agentd logs 3f9c
        agentd logs -f --tail 20 3f9c2b6a41d07e58
        agentd logs --since 10m --timestamps --stderr 3f9c
        agentd logs --since 2026-03-28T00:00+01:00 3f9c

    Args:
        session: The session's id, or the beginning of it.
        follow: Go on until the session has ended.
        tail: Only so many lines from the end, and with --follow what comes then.
        since: Only lines that began at this instant, ISO 8601 with an offset, or so long ago at
            most, such as 10m or 1h30m.
        timestamps: Begin each line with the time at which it began.
        stdout: Only standard output, unless --stderr is there too.
        stderr: Only standard error, unless --stdout is there too.
    """
    if tail is not None and not 0 <= tail <= MAX_TAIL:
        raise UsageError(f"--tail: {tail} is not between 0 and {MAX_TAIL}")
    oldest = _instant(since, datetime.datetime.now(datetime.UTC))
    socket_path = daemon.path()

    async def show_output() -> None:
        show = Show()
        async with (
            connect(socket_path) as client,
            client.logs(
                session,
                follow=follow,
                stream=None if stdout == stderr else "stdout" if stdout else "stderr",
                since=oldest,
                tail=tail,
                timestamps=timestamps,
            ) as output,
        ):
            async for event in output:
                show.event(event)

    trio.run(show_output)
    return 0


def _instant(text: str | None, now: datetime.datetime) -> datetime.datetime | None:
    """The instant that `--since` names.

    Raises:
        UsageError: it is neither an instant nor a duration.
    """
    if text is None:
        return None
    try:
        return now - datetime.timedelta(seconds=parse_duration(text))
    except ValueError:
        pass
    try:
        return instant(text, "--since")
    except UsageError as error:
        raise UsageError(f"{error.message}, or as a duration such as 10m") from None
