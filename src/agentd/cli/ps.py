"""`agentd ps`."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from pathlib import Path

import trio

from .. import paths, wire
from ..client import connect

HEADINGS = ("SESSION", "AGENT", "STATE", "AGE", "TIME LEFT", "TRIGGER")


def ps(*, socket_path: Path | None = None) -> int:
    """Show the live sessions, oldest first.

    The state is starting, running, stopping, or closing: the session has ended, and its record
    is being sealed.

    Args:
        socket_path: The daemon's socket, instead of $XDG_RUNTIME_DIR/agentd/agentd.sock.
    """
    daemon_socket = paths.client_socket_path(socket_path, os.environ)
    sessions = trio.run(_sessions, daemon_socket)
    now = datetime.datetime.now(datetime.UTC)
    print(table([HEADINGS, *(row(session, now) for session in sessions)]))
    return 0


async def _sessions(socket_path: Path) -> Sequence[wire.SessionInfo]:
    async with connect(socket_path) as client:
        return await client.sessions()


def row(session: wire.SessionInfo, now: datetime.datetime) -> tuple[str, ...]:
    """The words of one session's line, in the order of `HEADINGS`."""
    return (
        session.session_id,
        session.agent,
        session.state if session.position is None else f"{session.state} ({session.position})",
        span(now - session.started_at),
        "-" if session.deadline is None else span(session.deadline - now),
        session.trigger,
    )


def span(time: datetime.timedelta) -> str:
    """A length of time as people say it, in its two largest units; below zero it is `0s`."""
    seconds = max(0, round(time.total_seconds()))
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count or parts:
            parts.append(f"{count}{unit}")
    return "".join(parts[:2]) or "0s"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Lines with their words in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip()
        for line in rows
    )
