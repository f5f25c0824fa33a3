"""A client at the other end of the daemon's socket, and what it is sent."""

from __future__ import annotations

import select
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

import trio

from .. import wire
from ..errors import AgentdError

PROGRESS_LINES: Final = 16
"""Lines of progress that wait for a slow peer; what is more is dropped."""


class Peer:
    """A client, as far as it is written to."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.in_step = True
        """Whether every frame was sent whole: a cancelled send may have cut one in two."""
        self.gone = False
        """Whether it was seen to go away."""

    async def send(self, *events: wire.Event) -> None:
        """Send events, as one piece. A peer that reads slowly, or has paused its pager, holds up
        nobody.

        Raises:
            trio.BrokenResourceError: it went away.
        """
        self.in_step = False
        await self.stream.send_all(b"".join([wire.frame(wire.encode(event)) for event in events]))
        self.in_step = True

    @asynccontextmanager
    async def present(self) -> AsyncIterator[None]:
        """The body is left when the peer goes away, without an error; `gone` says so then.

        A peer that only has nothing more to say, shutdown(2), is still there. Without this, who
        follows a silent session and goes away would cost two descriptors until it ends.
        """
        refused: AgentdError | trio.BrokenResourceError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._leave_when_gone, nursery.cancel_scope)
            try:
                yield
            except (AgentdError, trio.BrokenResourceError) as error:
                # Raised again below: a nursery would make a group of it.
                refused = error
            nursery.cancel_scope.cancel()
        if refused is not None:
            raise refused

    async def _leave_when_gone(self, body: trio.CancelScope) -> None:
        try:
            hangup = select.epoll()
        except OSError:
            # No descriptor is left for it: the next send will notice.
            return
        with hangup:
            # Of no events, that is: EPOLLHUP is told unasked, and for both directions only.
            hangup.register(self.stream.socket, 0)
            await trio.lowlevel.wait_readable(hangup.fileno())
        self.gone = True
        body.cancel()

    @asynccontextmanager
    async def progress(self) -> AsyncIterator[Callable[[wire.Event], None]]:
        """Takes events while inside, and sends them as the peer reads them.

        A peer that goes away meanwhile loses them and ends nothing.
        """
        lines, sent = trio.open_memory_channel[wire.Event](PROGRESS_LINES)
        refused: AgentdError | None = None

        def take(event: wire.Event) -> None:
            with suppress(trio.WouldBlock):
                lines.send_nowait(event)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_progress, sent)
            with lines:
                try:
                    yield take
                except AgentdError as error:
                    # Raised again below: a nursery would make a group of it.
                    refused = error
        if refused is not None:
            raise refused

    async def _send_progress(self, lines: trio.MemoryReceiveChannel[wire.Event]) -> None:
        with suppress(trio.BrokenResourceError):
            async for event in lines:
                await self.send(event)
