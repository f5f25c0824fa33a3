"""The client's end of the daemon's socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import trio

from . import wire
from .errors import DaemonUnreachable, WireError

PING_SECONDS: Final = 10.0
_RECEIVE_BYTES: Final = 256 * 1024


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
        with trio.move_on_after(PING_SECONDS):
            async with self._exchange(wire.Ping()) as events:
                event = await events.next()
            if isinstance(event, wire.Pong):
                return event
            raise _unexpected(event)
        raise DaemonUnreachable(f"agentd at {self._socket_path} does not answer")

    async def run(
        self, request: wire.Run, handle: Callable[[wire.Event], Awaitable[None]]
    ) -> wire.Finished:
        """Start a session and give `handle` its events until it ends.

        Cancelling the call detaches: the session goes on.

        Raises:
            AgentdError: the run was refused or its session ended without an outcome; the class is
                the one that the daemon raised.
        """
        async with self._exchange(request) as events:
            while True:
                event = await events.next()
                match event:
                    case wire.Finished():
                        return event
                    case wire.Failed():
                        raise event.error()
                    case wire.Pong():
                        raise _unexpected(event)
                    case _:
                        await handle(event)

    @asynccontextmanager
    async def _exchange(self, request: wire.Request) -> AsyncIterator[_Events]:
        try:
            stream = await trio.open_unix_socket(str(self._socket_path))
        except OSError as error:
            raise DaemonUnreachable(
                f"agentd is not running (socket {self._socket_path}):"
                f" {error.strerror or error}; start it with 'agentd daemon'"
            ) from error
        async with stream:
            # A daemon that refuses before it has read everything can still say why.
            with suppress(trio.BrokenResourceError):
                await stream.send_all(wire.frame(wire.encode(request)))
            yield _Events(stream)


class _Events:
    """The events of one connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._buffer = wire.FrameBuffer()

    async def next(self) -> wire.Event:
        """The next event. Raises `WireError` when the connection ends without one."""
        while (body := self._buffer.next_body()) is None:
            try:
                data = await self._stream.receive_some(_RECEIVE_BYTES)
            except trio.BrokenResourceError:
                data = b""
            if not data:
                self._buffer.end()
                raise WireError(
                    "the daemon closed the connection before the end; the session may still run:"
                    " see the daemon's log"
                )
            self._buffer.feed(data)
        return wire.decode_event(body)


def _unexpected(event: wire.Event) -> WireError:
    if isinstance(event, wire.Failed):
        return WireError(event.message)
    return WireError(f"the daemon sent an unexpected {type(event).__name__}")


@asynccontextmanager
async def connect(socket_path: Path) -> AsyncIterator[Client]:
    """A client of the daemon at `socket_path`; nothing is sent yet."""
    yield Client(socket_path)
