"""The daemon's client: what `agentd`'s commands do, for Trio programs."""

from __future__ import annotations

import datetime
import math
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar, Unpack

from . import paths, wire
from .cri import Stream
from .exchange import exchange
from .remote_session import SESSION_EVENTS, RemoteSession

REPLY_SECONDS: Final = 10.0
"""The bound of what the daemon answers at once."""

DISK_REPLY_SECONDS: Final = 45.0
"""The bound of what it reads from a disk first, for which it takes 30 s at most itself."""

_DISPATCH_EVENTS: Final[tuple[type[wire.Progress | wire.Queued], ...]] = (
    wire.Progress,
    wire.Queued,
)
_NO_EVENTS: Final[tuple[type[wire.Event], ...]] = ()

_Last = TypeVar("_Last", bound=wire.Event)


class Client:
    """One daemon. Each call makes a connection of its own, so calls may overlap.

    Each raises `DaemonUnreachable` when nobody answers, within a bound where the answer does not
    wait for a session; `InvalidInvocation` when a value is none that can be asked for; and
    `WireError` when what answers is not an agentd of this protocol.
    """

    def __init__(self, socket_path: Path) -> None:
        self._socket_path = socket_path

    async def ping(self) -> wire.Pong:
        """Ask the daemon for its version."""
        return await self._ask(wire.Ping(), wire.Pong)

    async def status(self) -> wire.Status:
        """How the daemon does."""
        return await self._ask(wire.GetStatus(), wire.Status)

    async def sessions(self, agent: str | None = None) -> tuple[wire.SessionInfo, ...]:
        """The live sessions, of one agent or of all, oldest first."""
        return (await self._ask(wire.ListSessions(agent=agent), wire.Sessions)).sessions

    async def past_sessions(self, agent: str | None = None) -> tuple[wire.PastSession, ...]:
        """The past ones of `all_sessions`."""
        return (await self.all_sessions(agent))[0]

    async def all_sessions(
        self, agent: str | None = None
    ) -> tuple[tuple[wire.PastSession, ...], tuple[wire.SessionInfo, ...]]:
        """Those that have ended and those that live, at one moment: each is in one of the two.

        Raises:
            AuditError: the records cannot be listed.
        """
        request = wire.ListSessions(past=True, agent=agent)
        async with exchange(
            self._socket_path,
            request,
            (wire.PastSessions,),
            wire.Sessions,
            silence=DISK_REPLY_SECONDS,
        ) as told:
            past = tuple([session async for some in told for session in some.sessions])
            return past, (await told.end()).sessions

    async def inspect(self, session: str) -> wire.Inspected:
        """What is known of a session, live or past, by its id or the beginning of it.

        Raises:
            UnknownSession: there is none, or more than one.
            AuditError: its record cannot be read.
        """
        return await self._ask(wire.Inspect(session=session), wire.Inspected, DISK_REPLY_SECONDS)

    async def agents(self) -> wire.Agents:
        """The declared agents."""
        return await self._ask(wire.ListAgents(), wire.Agents, DISK_REPLY_SECONDS)

    async def schedule(
        self, agent: str, *, count: int = 10, after: datetime.datetime | None = None
    ) -> wire.Instants:
        """When an agent fires next, `count` times, after now or after another aware time.

        Raises:
            UnknownAgent: there is no such agent.
            NoSchedule: it has no schedule.
        """
        return await self._ask(
            wire.GetSchedule(agent=agent, count=count, after=after), wire.Instants
        )

    async def metrics(self, form: wire.MetricsFormat = "openmetrics") -> str:
        """What the daemon has counted and measured since its start, for Prometheus."""
        request = wire.GetMetrics(format=form)
        async with exchange(
            self._socket_path,
            request,
            (wire.MetricsPart,),
            wire.Metrics,
            silence=REPLY_SECONDS,
        ) as events:
            parts = [part.text async for part in events]
            return "".join([*parts, (await events.end()).text])

    @asynccontextmanager
    async def run(
        self, agent: str, **options: Unpack[wire.RunOptions]
    ) -> AsyncIterator[RemoteSession]:
        """Start a session of `agent`; gives the session, to iterate over its events.

        Leaving the context in any way detaches: the session goes on.

        Raises:
            InvalidInvocation: the options contradict each other.
        """
        request = wire.run_request(agent, **options)
        async with exchange(self._socket_path, request, SESSION_EVENTS, wire.Finished) as events:
            yield RemoteSession(events)

    async def dispatch(
        self,
        agent: str,
        *,
        progress: Callable[[wire.Progress], object] | None = None,
        **options: Unpack[wire.RunOptions],
    ) -> wire.Accepted | wire.Queued:
        """Start a session and leave it to the daemon; says whether it waits for its place.

        `progress` is called with what it waits for until then: the pull of its image. Cancelling
        the call takes nothing back.

        Raises:
            AgentdError: the run was refused.
        """
        request = wire.run_request(agent, **options, detach=True)
        async with exchange(self._socket_path, request, _DISPATCH_EVENTS, wire.Accepted) as events:
            async for event in events:
                if isinstance(event, wire.Queued):
                    return event
                if progress is not None:
                    progress(event)
            return await events.end()

    def logs(
        self,
        session: str,
        *,
        follow: bool = False,
        stream: Stream | None = None,
        since: datetime.datetime | None = None,
        tail: int | None = None,
        timestamps: bool = False,
    ) -> AbstractAsyncContextManager[AsyncIterator[wire.Output]]:
        """The output of a session, live or past, to iterate over; with `follow`, until it ends.

        `session` is an id or the beginning of one. Wanted may be one stream, the lines that began
        at an aware time or later, so many of the last of them, and the time of each line.

        Iterating raises:
            UnknownSession: there is no such session, or more than one.
            AgentdError: its output cannot be read.
        """
        request = wire.Logs(
            session=session,
            follow=follow,
            stream=stream,
            since=since,
            tail=tail,
            timestamps=timestamps,
        )
        return exchange(self._socket_path, request, (wire.Output,), wire.EndOfOutput)

    async def stop(
        self,
        session: str,
        *,
        grace: float = wire.STOP_GRACE_SECONDS,
        accepted: Callable[[wire.Accepted], object] | None = None,
    ) -> wire.Finished:
        """Ask a session to stop, and wait for its end: SIGINT now, SIGKILL after `grace` seconds.

        `accepted` is called as soon as it has been asked. Cancelling the call takes nothing back.

        Raises:
            UnknownSession: there is no such live session, or more than one.
            StoppedBeforeStart: it had not begun.
            AgentdError: it ended without an outcome.
        """
        request = wire.Stop(session=session, grace_seconds=grace)
        async with exchange(
            self._socket_path, request, (wire.Accepted,), wire.Finished, silence=REPLY_SECONDS
        ) as events:
            async for event in events:
                events.silence = math.inf
                if accepted is not None:
                    accepted(event)
            return await events.end()

    async def reload(self) -> wire.Reloaded:
        """Have the daemon read its configuration again; says what has changed.

        Raises:
            ConfigError, RuntimePathError, RestartNeeded, HostUnsupported, DiskTimeout: it cannot be
                used, and nothing has changed.
            ShuttingDown: the daemon ends.
        """
        return await self._ask(wire.Reload(), wire.Reloaded, DISK_REPLY_SECONDS)

    async def shutdown(
        self,
        *,
        leave: bool = False,
        started: Callable[[wire.ShutdownStarted], object] | None = None,
    ) -> None:
        """End the daemon as its signals do; returns when it has no session any more.

        With `leave`, live sessions are left to the next daemon. `started` is called at once.
        Cancelling the call takes nothing back.

        Raises:
            ConnectionLost: it was forced down meanwhile.
        """
        request = wire.Shutdown(leave=leave)
        async with exchange(
            self._socket_path,
            request,
            (wire.ShutdownStarted,),
            wire.ShutdownComplete,
            silence=REPLY_SECONDS,
        ) as events:
            async for event in events:
                events.silence = math.inf
                if started is not None:
                    started(event)

    async def _ask(
        self, request: wire.Request, kind: type[_Last], seconds: float = REPLY_SECONDS
    ) -> _Last:
        """The answer to a request that is answered by one event, within so many seconds."""
        async with exchange(
            self._socket_path, request, _NO_EVENTS, kind, silence=seconds
        ) as events:
            return await events.end()


@asynccontextmanager
async def connect(socket_path: str | os.PathLike[str] | None = None) -> AsyncIterator[Client]:
    """A client of the daemon at `socket_path`, or where `agentd`'s commands look for it.

    Nothing is sent yet.

    Raises:
        RuntimePathError: there is no path, and XDG_RUNTIME_DIR gives none.
    """
    flag = None if socket_path is None else Path(socket_path)
    yield Client(paths.client_socket_path(flag, os.environ))
