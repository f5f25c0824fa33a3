"""One connection at the daemon's socket: one request, then events, the last of them terminal."""

from __future__ import annotations

import os
from typing import Final, Literal, assert_never

import trio

from .. import __version__, wire
from ..errors import AgentdError, ShuttingDown, WireError, leaves
from ..logs import log
from ..session.session import Session
from ..supervisor import Supervisor
from .peer import peer_uid

REQUEST_SECONDS: Final = 10.0
"""How long a peer may take to send its request."""

FAREWELL_SECONDS: Final = 5.0
"""How long a daemon that is forced down lets a connection wait for the end of its session."""

MAX_WAITING: Final = 256
"""Peers that have not sent their request yet; one more is closed at once."""

SMALL_REQUEST_BYTES: Final = 64 * 1024
LARGE_AT_ONCE: Final = 4
"""Peers that may have sent more than a small request and not all of it."""

_RECEIVE_BYTES: Final = 64 * 1024


class Intake:
    """Serves connections; what they ask for is the supervisor's."""

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
                await self._converse(_Peer(stream))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                # A peer that goes away has detached; its session goes on.
                return
            except Exception as error:  # noqa: BLE001
                # The boundary at which one connection's bug must not end every session.
                shown = "; ".join(repr(leaf) for leaf in leaves(error))
                log.error("agentd.operator_connection_panicked", error=shown)

    async def _converse(self, peer: _Peer) -> None:
        try:
            check_peer(peer.stream.socket)
            request = await self._receive(peer.stream)
            if request is None:
                return
            if self._draining:
                raise ShuttingDown
            await self._answer(peer, request)
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

    async def _answer(self, peer: _Peer, request: wire.Request) -> None:
        match request:
            case wire.Ping():
                await peer.send(wire.Pong(version=__version__))
            case wire.Run():
                await self._run(peer, request)
            case _:
                assert_never(request)

    async def _run(self, peer: _Peer, request: wire.Run) -> None:
        session = await self._supervisor.start(request, _ignore)
        record = str(session.record.directory)
        await peer.send(wire.Accepted(session_id=session.id, record=record))
        if request.detach:
            return

        async def sink(name: Literal["stdout", "stderr"], data: bytes) -> None:
            await peer.send(wire.Output(stream=name, data=data))

        try:
            try:
                await self._supervisor.follow(session, sink)
            except AgentdError as error:
                # The client misses output, and must still hear how the session ends.
                log.warning("agentd.output_unreadable", session_id=session.id, error=error.message)
            await session.wait_end()
            await peer.send(terminal(session))
        except trio.Cancelled:
            # The daemon is forced down, and the session with it: there is a moment to say so.
            with trio.move_on_after(FAREWELL_SECONDS, shield=True):
                await session.wait_end()
                if peer.in_step:
                    await peer.send(terminal(session))
            raise


class _Peer:
    """The client's end of a connection, as far as it is written to."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.in_step = True
        """Whether every frame was sent whole: a cancelled send may have cut one in two."""

    async def send(self, event: wire.Event) -> None:
        """Send one event. A peer that reads slowly, or has paused its pager, holds up nobody."""
        self.in_step = False
        await self.stream.send_all(wire.frame(wire.encode(event)))
        self.in_step = True


def _ignore(_line: str) -> None:
    """Pull progress, which no client of this protocol version shows."""


def terminal(session: Session) -> wire.Finished | wire.Failed:
    """The last event of a session that has ended."""
    assert session.ended is not None
    outcome, error = session.ended.outcome, session.ended.error
    if outcome is not None:
        return wire.Finished(
            session_id=session.id, outcome=outcome, teardown_error=session.teardown_error
        )
    assert error is not None
    return wire.Failed(code=error.code, message=error.message, session_id=session.id)


def check_peer(peer: trio.socket.SocketType) -> None:
    """Refuse a peer that is neither the daemon's own user nor root.

    Raises:
        WireError: it is somebody else.
    """
    uid = peer_uid(peer)
    if uid not in {os.geteuid(), 0}:
        raise WireError(f"uid {uid} may not use this daemon: it serves uid {os.geteuid()} and root")
