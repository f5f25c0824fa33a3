"""The other end of a Unix socket, unix(7): who it is, and what it is sent."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

import trio

from .. import wire
from ..errors import AgentdError

PROGRESS_LINES: Final = 16
"""Lines of progress that wait for a slow peer; what is more is dropped."""

_UCRED = struct.Struct("3i")


def peer_uid(connected: trio.socket.SocketType) -> int:
    """The uid of the process that connected, or, at a client's end, of the one that listens."""
    raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    _pid, uid, _gid = _UCRED.unpack(raw)
    return int(uid)


class Peer:
    """A client, as far as it is written to."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.in_step = True
        """Whether every frame was sent whole: a cancelled send may have cut one in two."""

    async def send(self, event: wire.Event) -> None:
        """Send one event. A peer that reads slowly, or has paused its pager, holds up nobody.

        Raises:
            trio.BrokenResourceError: it went away.
        """
        self.in_step = False
        await self.stream.send_all(wire.frame(wire.encode(event)))
        self.in_step = True

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
