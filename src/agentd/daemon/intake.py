"""One connection at the daemon's socket: one request, then events, the last of them terminal."""

from __future__ import annotations

import os
import resource
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from .. import wire
from ..errors import AgentdError, ShuttingDown, TooManyConnections, WireError
from ..logs import log
from ..panics import told
from ..peer_credentials import peer_uid
from .answers import failed
from .peer import Peer
from .seldom import Seldom

REQUEST_SECONDS: Final = 10.0
"""How long a peer may take to send its request."""

MAX_WAITING: Final = 256
"""Peers that have not sent their request yet. For one more the oldest gives way, and first one that
has sent nothing: a crowd of silent peers must not lock out who has something to say."""

MAX_CONNECTIONS: Final = 1024
"""A follower that does not read holds two thirds of a megabyte."""

DESCRIPTOR_SHARE: Final = 4
"""Connections may be this part of the descriptors that the process may have. One that follows a
session costs three, and what is left is for the sessions."""

SMALL_REQUEST_BYTES: Final = 64 * 1024
LARGE_AT_ONCE: Final = 4
"""Peers that may have sent more than a small request and not all of it."""

LARGE_SECONDS: Final = 1.0
"""How long one of these may take while others wait for its place."""

FAILURE_SECONDS: Final = 1.0
"""Between two warnings of peers that do not speak the protocol: one of them may loop."""

_RECEIVE_BYTES: Final = 64 * 1024


class Intake:
    """Serves connections: takes their requests in, and lets `answer` say what they get."""

    def __init__(self, answer: Callable[[Peer, wire.Request], Awaitable[None]]) -> None:
        self._answer = answer
        self._waiting: dict[trio.CancelScope, wire.FrameBuffer] = {}
        """Who has not sent its request yet, oldest first, and what it has sent."""
        self._open = 0
        self._most = most_connections()
        self._large = trio.CapacityLimiter(LARGE_AT_ONCE)
        self._draining = False
        self._failures = Seldom(FAILURE_SECONDS)

    def drain(self) -> None:
        """Refuse whoever has not sent a request; nobody can hold up the drain by silence."""
        self._draining = True
        for scope in self._waiting:
            scope.cancel()

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one connection to its end. Raises nothing but cancellation."""
        self._open += 1
        try:
            async with stream:
                await self._serve(Peer(stream))
        finally:
            self._open -= 1

    async def _serve(self, peer: Peer) -> None:
        try:
            await self._converse(peer)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # A peer that goes away has detached; its session goes on.
            return
        except Exception as error:  # noqa: BLE001
            # The boundary at which one connection's bug must not end every session.
            log.error("agentd.operator_connection_panicked", error=told(error))

    async def _converse(self, peer: Peer) -> None:
        try:
            check_peer(peer.stream.socket)
            self._make_room()
            request = await self._receive(peer.stream)
            if request is None:
                return
            if self._draining:
                raise ShuttingDown
            await self._answer(peer, request)
        except AgentdError as error:
            refusal = failed(error)
            log.debug("agentd.request_refused", error_code=refusal.code, error=refusal.message)
            if isinstance(error, WireError) and (count := self._failures.take()):
                log.warning("agentd.operator_connection_failed", error=refusal.message, count=count)
            await peer.send(refusal)

    def _make_room(self) -> None:
        """Let another peer give way to a new one when there are too many.

        Raises:
            TooManyConnections: all the others are being served.
        """
        if self._open <= self._most and len(self._waiting) < MAX_WAITING:
            return
        if not self._waiting:
            raise TooManyConnections(
                f"{self._open - 1} connections are open, and that is all: {MAX_CONNECTIONS}, or a"
                f" part in {DESCRIPTOR_SHARE} of the daemon's limit of open files (LimitNOFILE=)"
            )
        silent = (scope for scope, sent in self._waiting.items() if not sent.pending)
        scope = next(silent, None) or next(iter(self._waiting))
        del self._waiting[scope]
        scope.cancel()

    async def _receive(self, stream: trio.SocketStream) -> wire.Request | None:
        """The peer's request, or None when it went away without one."""
        buffer = wire.FrameBuffer()
        with trio.move_on_after(REQUEST_SECONDS) as scope:
            self._waiting[scope] = buffer
            try:
                body = await self._receive_body(stream, buffer)
            finally:
                gave_way = self._waiting.pop(scope, None) is None
            return None if body is None else wire.decode_request(body)
        if self._draining:
            raise ShuttingDown
        if gave_way:
            raise TooManyConnections("no request yet, and newer connections need the place")
        raise WireError(f"no request within {REQUEST_SECONDS:g} s")

    async def _receive_body(
        self, stream: trio.SocketStream, buffer: wire.FrameBuffer
    ) -> bytes | None:
        body = await _fill(stream, buffer, SMALL_REQUEST_BYTES)
        if body is not None or not buffer.pending:
            return body
        async with self._large:
            while True:
                with trio.move_on_after(LARGE_SECONDS):
                    return await _fill(stream, buffer, wire.MAX_FRAME_BYTES + 4)
                if self._large.statistics().tasks_waiting:
                    raise TooManyConnections(
                        f"not all of a large request within {LARGE_SECONDS:g} s, and others wait"
                    )


async def _fill(stream: trio.SocketStream, buffer: wire.FrameBuffer, most: int) -> bytes | None:
    """Receive until there is a body, the end, or `most` bytes without one."""
    while (body := buffer.next_body()) is None and buffer.pending < most:
        data = await stream.receive_some(_RECEIVE_BYTES)
        if not data:
            buffer.end()
            return None
        buffer.feed(data)
    return body


def most_connections() -> int:
    """How many connections leave the sessions enough memory and descriptors."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return min(max(soft // DESCRIPTOR_SHARE, 1), MAX_CONNECTIONS)


def check_peer(peer: trio.socket.SocketType) -> None:
    """Refuse a peer that is neither the daemon's own user nor root.

    Raises:
        WireError: it is somebody else.
    """
    uid = peer_uid(peer)
    if uid not in {os.geteuid(), 0}:
        raise WireError(f"uid {uid} may not use this daemon: it serves uid {os.geteuid()} and root")
