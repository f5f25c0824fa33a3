"""One request and its answer: a connection to the daemon's socket, and the events on it."""

from __future__ import annotations

import math
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, Generic, TypeVar

import trio

from . import wire
from .errors import AgentdError, ConnectionLost, DaemonUnreachable, WireError, from_code

CONNECT_SECONDS: Final = 10.0
"""How long a place in the queue of the daemon's socket is waited for."""

QUEUE_SECONDS: Final = 0.02
"""Between two attempts to get one."""

_RECEIVE_BYTES: Final = 256 * 1024

_Event = TypeVar("_Event", bound=wire.Event)
_Last = TypeVar("_Last", bound=wire.Event)


class Events(Generic[_Event, _Last]):
    """The events of an answer, to iterate over; `last` is the terminal one, once it has come.

    A class and no async generator: whoever leaves a loop over it leaves nothing half-run behind,
    and a cancelled step takes no event along, so that the next one gives it.
    """

    def __init__(
        self,
        stream: trio.SocketStream,
        kinds: tuple[type[_Event], ...],
        last: type[_Last],
        silence: float,
    ) -> None:
        """Events of `kinds` may come, and then a `last`."""
        self._stream = stream
        self._kinds = kinds
        self._kind_of_last = last
        self.silence = silence
        """How many seconds the next of them may take."""
        self._buffer = wire.FrameBuffer()
        self._error: AgentdError | None = None
        self.last: _Last | None = None

    def __aiter__(self) -> Events[_Event, _Last]:
        return self

    async def __anext__(self) -> _Event:
        """The next event before the terminal one. What it has raised it raises again.

        Raises:
            ConnectionLost: the connection ends without a terminal one.
            DaemonUnreachable: nothing has come for longer than it may take.
            WireError: what comes is no event, or one that does not belong here.
            AgentdError: the terminal one is an error; the class is the one that the daemon raised.
        """
        await trio.lowlevel.checkpoint()
        if self._error is not None:
            raise from_code(self._error.code, self._error.message)
        try:
            event = None if self.last is not None else await self._next()
        except AgentdError as error:
            self._error = error
            raise
        if event is None:
            raise StopAsyncIteration
        return event

    async def _next(self) -> _Event | None:
        """The next event, or None for the terminal one."""
        event = await self._received()
        if isinstance(event, self._kinds):
            return event
        if isinstance(event, wire.Failed):
            raise event.error()
        if not isinstance(event, self._kind_of_last):
            raise WireError(f"the daemon sent an unexpected {type(event).__name__}")
        self.last = event
        return None

    async def end(self) -> _Last:
        """Pass over the events that are left; gives the terminal one. Raises as iterating does."""
        async for _ in self:
            pass
        assert self.last is not None
        return self.last

    async def _received(self) -> wire.Event:
        while (body := self._buffer.next_body()) is None:
            data: bytes | None = None
            with trio.move_on_after(self.silence):
                try:
                    data = await self._stream.receive_some(_RECEIVE_BYTES)
                except trio.BrokenResourceError:
                    data = b""
            if data is None:
                raise DaemonUnreachable(
                    f"agentd does not answer: nothing has come for {self.silence:g} s, so it hangs,"
                    " or its disk does; its log may say why"
                )
            if not data:
                raise ConnectionLost(
                    "the daemon went away before the end; sessions may still run, and 'agentd ps'"
                    " shows them when it is back"
                )
            self._buffer.feed(data)
        return wire.decode_event(body)


@asynccontextmanager
async def exchange(
    socket_path: Path,
    request: wire.Request,
    kinds: tuple[type[_Event], ...],
    last: type[_Last],
    *,
    silence: float = math.inf,
) -> AsyncIterator[Events[_Event, _Last]]:
    """Send a request to the daemon at `socket_path`; gives its answer. Leaving closes it.

    The daemon may take `silence` seconds for each event.

    Raises:
        DaemonUnreachable: nobody listens there.
        InvalidInvocation: the request holds a value that it cannot have.
        WireError: it is too large for a frame.
    """
    sent = wire.frame(wire.encode(wire.checked(request)))
    async with await _connected(socket_path) as stream:
        # A daemon that refuses before it has read everything can still say why.
        with suppress(trio.BrokenResourceError):
            await stream.send_all(sent)
        yield Events(stream, kinds, last, silence)


async def _connected(socket_path: Path) -> trio.SocketStream:
    try:
        with trio.move_on_after(CONNECT_SECONDS):
            return await _open(str(socket_path))
    except OSError as error:
        raise DaemonUnreachable(
            f"agentd is not running (socket {socket_path}):"
            f" {error.strerror or error}; start it with 'agentd daemon'"
        ) from error
    raise DaemonUnreachable(
        f"agentd at {socket_path} takes no connections: it hangs, or is overrun"
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
