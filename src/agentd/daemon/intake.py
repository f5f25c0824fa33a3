"""One connection at the daemon's socket: one request, then events, the last of them terminal."""

from __future__ import annotations

import os
from typing import Final

import trio

from .. import wire
from ..errors import AgentdError, ShuttingDown, WireError, leaves
from ..logs import log
from ..supervisor import Supervisor
from .answers import answer
from .peer import Peer, peer_uid

REQUEST_SECONDS: Final = 10.0
"""How long a peer may take to send its request."""

MAX_WAITING: Final = 256
"""Peers that have not sent their request yet; one more is closed at once."""

SMALL_REQUEST_BYTES: Final = 64 * 1024
LARGE_AT_ONCE: Final = 4
"""Peers that may have sent more than a small request and not all of it."""

_RECEIVE_BYTES: Final = 64 * 1024


class Intake:
    """Serves connections: takes their requests in; `answers` says what they get."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._waiting: set[trio.CancelScope] = set()
        self._large = trio.CapacityLimiter(LARGE_AT_ONCE)
        self._draining = False

    def drain(self) -> None:
        """Refuse whoever has not sent a request; nobody can hold up the drain by silence."""
        self._draining = True
        for scope in self._waiting:
            scope.cancel()

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one connection to its end. Raises nothing but cancellation."""
        async with stream:
            try:
                await self._converse(Peer(stream))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                # A peer that goes away has detached; its session goes on.
                return
            except Exception as error:  # noqa: BLE001
                # The boundary at which one connection's bug must not end every session.
                shown = "; ".join(repr(leaf) for leaf in leaves(error))
                log.error("agentd.operator_connection_panicked", error=shown)

    async def _converse(self, peer: Peer) -> None:
        try:
            check_peer(peer.stream.socket)
            request = await self._receive(peer.stream)
            if request is None:
                return
            if self._draining:
                raise ShuttingDown
            await answer(peer, request, self._supervisor)
        except AgentdError as error:
            log.debug("agentd.request_refused", error_code=error.code, error=error.message)
            await peer.send(wire.Failed(code=error.code, message=error.message))

    async def _receive(self, stream: trio.SocketStream) -> wire.Request | None:
        """The peer's request, or None when it went away without one."""
        if len(self._waiting) >= MAX_WAITING:
            raise WireError(f"{MAX_WAITING} connections wait to send their request already")
        with trio.move_on_after(REQUEST_SECONDS) as scope:
            self._waiting.add(scope)
            try:
                return await self._receive_body(stream)
            finally:
                self._waiting.discard(scope)
        if self._draining:
            raise ShuttingDown
        raise WireError(f"no request within {REQUEST_SECONDS:g} s")

    async def _receive_body(self, stream: trio.SocketStream) -> wire.Request | None:
        buffer = wire.FrameBuffer()
        body = await self._fill(stream, buffer, SMALL_REQUEST_BYTES)
        if body is None and buffer.pending:
            async with self._large:
                body = await self._fill(stream, buffer, wire.MAX_FRAME_BYTES + 4)
        return None if body is None else wire.decode_request(body)

    async def _fill(
        self, stream: trio.SocketStream, buffer: wire.FrameBuffer, most: int
    ) -> bytes | None:
        """Receive until there is a body, the end, or `most` bytes without one."""
        while (body := buffer.next_body()) is None and buffer.pending < most:
            data = await stream.receive_some(_RECEIVE_BYTES)
            if not data:
                buffer.end()
                return None
            buffer.feed(data)
        return body


def check_peer(peer: trio.socket.SocketType) -> None:
    """Refuse a peer that is neither the daemon's own user nor root.

    Raises:
        WireError: it is somebody else.
    """
    uid = peer_uid(peer)
    if uid not in {os.geteuid(), 0}:
        raise WireError(f"uid {uid} may not use this daemon: it serves uid {os.geteuid()} and root")
