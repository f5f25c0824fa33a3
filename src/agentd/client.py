"""The client's end of the daemon's socket."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

import trio

from . import wire
from .errors import ConnectionLost, DaemonUnreachable, WireError

REPLY_SECONDS: Final = 10.0
"""The bound of questions that the daemon answers at once."""

CONNECT_SECONDS: Final = 10.0
"""How long a place in the queue of the daemon's socket is waited for."""

QUEUE_SECONDS: Final = 0.02
"""Between two attempts to get one."""

Handler: TypeAlias = Callable[[wire.Event], Awaitable[None]]

_RECEIVE_BYTES: Final = 256 * 1024
_TERMINAL: Final = (
    wire.Pong,
    wire.Status,
    wire.Sessions,
    wire.Inspected,
    wire.Agents,
    wire.Instants,
    wire.EndOfOutput,
    wire.Finished,
    wire.ShutdownComplete,
)
_Last = TypeVar("_Last", bound=wire.Event)


class Client:
    """One daemon. Each call makes a connection of its own, so calls may overlap."""

    def __init__(self, socket_path: Path) -> None:
        self._socket_path = socket_path

    async def ping(self) -> wire.Pong:
        """Ask the daemon for its version.

        Raises:
            DaemonUnreachable: nobody answers.
            WireError: what answers is not an agentd of this protocol.
        """
        return await self._ask(wire.Ping(), wire.Pong)

    async def status(self) -> wire.Status:
        """How the daemon does. Raises what `ping` raises."""
        return await self._ask(wire.GetStatus(), wire.Status)

    async def sessions(self, agent: str | None = None) -> tuple[wire.SessionInfo, ...]:
        """The live sessions, of one agent or of all, oldest first. Raises what `ping` raises."""
        return (await self._ask(wire.ListSessions(agent=agent), wire.Sessions)).sessions

    async def past_sessions(self, agent: str | None = None) -> list[wire.PastSession]:
        """The sessions that have ended, by their records, oldest first.

        Raises:
            AuditError: the records cannot be listed.
            DaemonUnreachable, WireError: as `ping`.
        """
        past: list[wire.PastSession] = []

        async def take(event: wire.Event) -> None:
            if isinstance(event, wire.PastSessions):
                past.extend(event.sessions)

        await self._follow(wire.ListSessions(past=True, agent=agent), wire.Sessions, take)
        return past

    async def inspect(self, session: str) -> wire.Inspected:
        """What is known of a session, live or past, by its id or the beginning of it.

        Raises:
            UnknownSession: there is none, or more than one.
            AuditError: its record cannot be read.
        """
        return await self._ask(wire.Inspect(session=session), wire.Inspected)

    async def agents(self) -> wire.Agents:
        """The declared agents. Raises what `ping` raises."""
        return await self._ask(wire.ListAgents(), wire.Agents)

    async def schedule(self, request: wire.GetSchedule) -> wire.Instants:
        """When an agent fires next.

        Raises:
            UnknownAgent: there is no such agent.
            NoSchedule: it has no schedule.
        """
        return await self._ask(request, wire.Instants)

    async def run(self, request: wire.Run, handle: Handler) -> wire.Finished:
        """Start a session and give `handle` its events until it ends.

        Cancelling the call detaches: the session goes on.

        Raises:
            ConnectionLost: the daemon went away; its successor takes the session up.
            AgentdError: the run was refused or its session ended without an outcome; the class is
                the one that the daemon raised.
        """
        return await self._follow(request, wire.Finished, handle)

    async def dispatch(self, request: wire.Run) -> wire.Accepted | wire.Queued:
        """Have a run taken in, and leave it to the daemon; says whether it waits for its place.

        Raises:
            AgentdError: the run was refused.
        """
        async with self._exchange(request) as events:
            while True:
                match await events.next():
                    case wire.Accepted() | wire.Queued() as event:
                        return event
                    case wire.Failed() as failed:
                        raise failed.error()
                    case wire.Progress():
                        pass
                    case unexpected:
                        raise _unexpected(unexpected)

    async def logs(self, session: str, handle: Handler, *, follow: bool = False) -> None:
        """Give `handle` the output of a session, live or past; with `follow`, until it has ended.

        `session` is an id or the beginning of one.

        Raises:
            UnknownSession: there is no such session, or more than one.
            AgentdError: its output cannot be read.
        """
        request = wire.Logs(session=session, follow=follow)
        await self._follow(request, wire.EndOfOutput, handle)

    async def stop(self, request: wire.Stop, handle: Handler) -> wire.Finished:
        """Ask a session to stop; `handle` gets `Accepted` at once, and the call gives its end.

        Cancelling the call takes nothing back.

        Raises:
            UnknownSession: there is no such live session, or more than one.
            StoppedBeforeStart: it had not begun.
            AgentdError: it ended without an outcome.
        """
        return await self._follow(request, wire.Finished, handle)

    async def shutdown(self, request: wire.Shutdown, handle: Handler) -> None:
        """End the daemon as its signals do; returns when it has no session any more.

        `handle` gets `ShutdownStarted` at once. Cancelling the call takes nothing back.

        Raises:
            DaemonUnreachable: nobody answers.
            ConnectionLost: it was forced down meanwhile.
        """
        await self._follow(request, wire.ShutdownComplete, handle)

    async def _ask(self, request: wire.Request, kind: type[_Last]) -> _Last:
        """The answer to a request that is answered at once."""
        with trio.move_on_after(REPLY_SECONDS):
            return await self._follow(request, kind, _nothing_else)
        raise DaemonUnreachable(f"agentd at {self._socket_path} does not answer")

    async def _follow(self, request: wire.Request, kind: type[_Last], handle: Handler) -> _Last:
        """Give `handle` the events of a request until the terminal one, which must be a `kind`."""
        async with self._exchange(request) as events:
            while True:
                event = await events.next()
                if isinstance(event, kind):
                    return event
                if isinstance(event, wire.Failed):
                    raise event.error()
                if isinstance(event, _TERMINAL):
                    raise _unexpected(event)
                await handle(event)

    @asynccontextmanager
    async def _exchange(self, request: wire.Request) -> AsyncIterator[_Events]:
        sent = wire.frame(wire.encode(request))
        async with await self._connected() as stream:
            # A daemon that refuses before it has read everything can still say why.
            with suppress(trio.BrokenResourceError):
                await stream.send_all(sent)
            yield _Events(stream)

    async def _connected(self) -> trio.SocketStream:
        try:
            with trio.move_on_after(CONNECT_SECONDS):
                return await _open(str(self._socket_path))
        except OSError as error:
            raise DaemonUnreachable(
                f"agentd is not running (socket {self._socket_path}):"
                f" {error.strerror or error}; start it with 'agentd daemon'"
            ) from error
        raise DaemonUnreachable(
            f"agentd at {self._socket_path} takes no connections: it hangs, or is overrun"
        )


async def _open(path: str) -> trio.SocketStream:
    """A connection to the socket at `path`, waiting for a place in its queue.

    While the queue is full, connect(2) of a socket that does not block says EAGAIN. Trio takes
    that for a connection on its way, which it is not, and nothing announces a free place.

    Raises:
        OSError: nobody listens there.
    """
    while True:
        connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connecting.setblocking(False)
            connecting.connect(path)
        except BlockingIOError:
            connecting.close()
            await trio.sleep(QUEUE_SECONDS)
        except BaseException:
            connecting.close()
            raise
        else:
            return trio.SocketStream(trio.socket.from_stdlib_socket(connecting))


class _Events:
    """The events of one connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._buffer = wire.FrameBuffer()

    async def next(self) -> wire.Event:
        """The next event.

        Raises:
            ConnectionLost: the connection ends without one.
            WireError: what comes is none.
        """
        while (body := self._buffer.next_body()) is None:
            try:
                data = await self._stream.receive_some(_RECEIVE_BYTES)
            except trio.BrokenResourceError:
                data = b""
            if not data:
                raise ConnectionLost(
                    "the daemon went away before the end; sessions may still run, and 'agentd ps'"
                    " shows them when it is back"
                )
            self._buffer.feed(data)
        return wire.decode_event(body)


async def _nothing_else(event: wire.Event) -> None:
    raise _unexpected(event)


def _unexpected(event: wire.Event) -> WireError:
    return WireError(f"the daemon sent an unexpected {type(event).__name__}")


@asynccontextmanager
async def connect(socket_path: Path) -> AsyncIterator[Client]:
    """A client of the daemon at `socket_path`; nothing is sent yet."""
    yield Client(socket_path)
