"""`agentd ps`."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import trio
from cyclopts import Parameter

from .. import wire
from ..client import connect
from .daemon_socket import USUAL, DaemonSocket
from .tables import columns, print_json, span

HEADINGS = ("SESSION", "AGENT", "STATE", "AGE", "TIME LEFT", "TRIGGER")


def ps(
    *,
    all_: Annotated[bool, Parameter(name=("--all", "-a"))] = False,
    agent: str | None = None,
    json: bool = False,
    daemon: DaemonSocket = USUAL,
) -> int:
    """Show the live sessions, oldest first; with --all the past ones before them.

    The state of a live session is queued, starting, running, stopping, or closing: it has ended,
    and its record is being sealed. That of a past one is its outcome; or incomplete, when it could
    not be cleaned up or its record not be closed.

    For example:

        agentd ps
        agentd ps -a --agent site-builder
        agentd ps -a --json

    Args:
        all_: Show past sessions too, by their records.
        agent: Only the sessions of this agent.
        json: A JSON array, an object a session.
    """
    daemon_socket = daemon.path()
    past, live = trio.run(_sessions, daemon_socket, agent, all_)
    if json:
        print_json([*map(past_facts, past), *map(msgspec.to_builtins, live)])
        return 0
    now = datetime.datetime.now(datetime.UTC)
    rows = [past_row(each, now) for each in past] + [row(each, now) for each in live]
    print(columns([HEADINGS, *rows]))
    return 0


async def _sessions(
    socket_path: Path, agent: str | None, all_: bool
) -> tuple[tuple[wire.PastSession, ...], tuple[wire.SessionInfo, ...]]:
    async with connect(socket_path) as client:
        return await client.all_sessions(agent) if all_ else ((), await client.sessions(agent))


def row(session: wire.SessionInfo, now: datetime.datetime) -> tuple[str, ...]:
    """The words of a live session's line, in the order of `HEADINGS`."""
    return (
        session.session_id,
        session.agent,
        session.state if session.position is None else f"{session.state} ({session.position})",
        span(now - session.started_at),
        "-" if session.deadline is None else span(session.deadline - now),
        session.trigger,
    )


def past_row(session: wire.PastSession, now: datetime.datetime) -> tuple[str, ...]:
    """The words of a past session's line."""
    age = span(now - session.started_at)
    return (session.session_id, session.agent, ending(session), age, "-", session.trigger)


def ending(session: wire.PastSession) -> str:
    """How a past session ended, in a few words."""
    if session.outcome is None:
        return "incomplete"
    detail = session.error_code
    if session.outcome in {"generic_failure", "terminated_by_signal"}:
        detail = f"signal {session.signal}" if session.signal else f"exit code {session.exit_code}"
    return session.outcome if detail is None else f"{session.outcome} ({detail})"


def past_facts(session: wire.PastSession) -> dict[str, Any]:
    """The same as JSON, with the key that tells past sessions from live ones."""
    state = "incomplete" if session.outcome is None else "closed"
    facts: dict[str, Any] = msgspec.to_builtins(session)
    return facts | {"state": state}
