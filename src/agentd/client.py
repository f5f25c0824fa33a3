"""The daemon's client: what `agentd`'s commands do, for Trio programs."""

from __future__ import annotations

import datetime
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final, TypeAlias, TypeVar, Unpack

import trio

from . import paths, wire
from .cri import Stream
from .errors import DaemonUnreachable
from .exchange import Events, exchange
from .outcome import Outcome

REPLY_SECONDS: Final = 10.0
"""The bound of questions that the daemon answers at once."""

SessionEvent: TypeAlias = (
    wire.Progress | wire.Queued | wire.Accepted | wire.StateChanged | wire.Output
)
"""What a run tells before its end, in this order: what it waits for, which session it became, and
what that writes, between its states."""

_SESSION_EVENTS: Final[tuple[type[SessionEvent], ...]] = (
    wire.Progress,
    wire.Queued,
    wire.Accepted,
    wire.StateChanged,
    wire.Output,
)
_NO_EVENTS: Final[tuple[type[wire.Event], ...]] = ()

_Last = TypeVar("_Last", bound=wire.Event)


class RemoteSession:
    """A session that a client has asked for, and its events, to iterate over until it ends.

    A loop over it may be left and taken up again, also by a cancellation: no event is lost.
    """

    def __init__(self, events: Events[SessionEvent, wire.Finished]) -> None:
        self._events = events
        self.id: str | None = None
        """Its id, once it has one: with `Accepted`, or `Queued` before."""
        self.record: Path | None = None
        """Its record on the daemon's host, once it exists: with `Accepted`."""

    def __aiter__(self) -> RemoteSession:
        return self

    async def __anext__(self) -> SessionEvent:
        """The next event.

        Raises:
            ConnectionLost: the daemon went away; its successor takes the session up.
            AgentdError: the run was refused, or its session ended without an outcome; the class is
                the one that the daemon raised.
        """
        event = await anext(self._events)
        if isinstance(event, wire.Queued | wire.Accepted):
            self.id = event.session_id
        if isinstance(event, wire.Accepted):
            self.record = Path(event.record)
        return event

    @property
    def finished(self) -> wire.Finished | None:
        """Its end, once the iteration has come to it."""
        return self._events.last

    @property
    def outcome(self) -> Outcome | None:
        """How it ended, once the iteration has come to it."""
        return None if self.finished is None else self.finished.outcome

    async def wait(self) -> wire.Finished:
        """Pass over the events that are left; gives the end. Raises as iterating does."""
        async for _ in self:
            pass
        assert self.finished is not None
        return self.finished


class Client:
    """One daemon. Each call makes a connection of its own, so calls may overlap. Each raises
    `DaemonUnreachable` when nobody answers, and `WireError` when what answers is not an agentd of
    this protocol.
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
        kinds = (wire.PastSessions,)
        async with exchange(self._socket_path, request, kinds, wire.Sessions) as told:
            past = tuple([session async for some in told for session in some.sessions])
            return past, (await told.end()).sessions

    async def inspect(self, session: str) -> wire.Inspected:
        """What is known of a session, live or past, by its id or the beginning of it.

        Raises:
            UnknownSession: there is none, or more than one.
            AuditError: its record cannot be read.
        """
        return await self._ask(wire.Inspect(session=session), wire.Inspected)

    async def agents(self) -> wire.Agents:
        """The declared agents."""
        return await self._ask(wire.ListAgents(), wire.Agents)

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
            self._socket_path, request, (wire.MetricsPart,), wire.Metrics
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
        async with exchange(self._socket_path, request, _SESSION_EVENTS, wire.Finished) as events:
            yield RemoteSession(events)

    async def dispatch(
        self, agent: str, **options: Unpack[wire.RunOptions]
    ) -> wire.Accepted | wire.Queued:
        """Start a session and leave it to the daemon; says whether it waits for its place.

        Raises:
            AgentdError: the run was refused.
        """
        request = wire.run_request(agent, **options, detach=True)
        async with exchange(
            self._socket_path, request, (wire.Progress, wire.Queued), wire.Accepted
        ) as events:
            async for event in events:
                if isinstance(event, wire.Queued):
                    return event
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
        async with exchange(self._socket_path, request, (wire.Accepted,), wire.Finished) as events:
            async for event in events:
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
        async with exchange(self._socket_path, wire.Reload(), _NO_EVENTS, wire.Reloaded) as events:
            return await events.end()

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
            self._socket_path, request, (wire.ShutdownStarted,), wire.ShutdownComplete
        ) as events:
            async for event in events:
                if started is not None:
                    started(event)

    async def _ask(self, request: wire.Request, kind: type[_Last]) -> _Last:
        """The answer to a request that is answered at once."""
        with trio.move_on_after(REPLY_SECONDS):
            async with exchange(self._socket_path, request, _NO_EVENTS, kind) as events:
                return await events.end()
        raise DaemonUnreachable(f"agentd at {self._socket_path} does not answer")


@asynccontextmanager
async def connect(socket_path: str | os.PathLike[str] | None = None) -> AsyncIterator[Client]:
    """A client of the daemon at `socket_path`, or where `agentd`'s commands look for it.

    Nothing is sent yet.

    Raises:
        RuntimePathError: there is no path, and XDG_RUNTIME_DIR gives none.
    """
    flag = None if socket_path is None else Path(socket_path)
    yield Client(paths.client_socket_path(flag, os.environ))
