"""What a client gets for its request: events, the last of them terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, assert_never

import trio

from .. import __version__, wire
from ..errors import AgentdError
from ..logs import log
from ..session.follow import Piece
from ..session.session import Session
from ..supervisor import Supervisor
from .peer import Peer

FAREWELL_SECONDS: Final = 5.0
"""How long a daemon that is forced down lets a connection wait for the end of its session."""

MAX_MESSAGE: Final = 64 * 1024
"""Characters of an error's sentence that a client is told."""


async def answer(peer: Peer, request: wire.Request, supervisor: Supervisor) -> None:
    """Do what `request` asks, and tell `peer`.

    Raises:
        AgentdError: it is refused; nothing terminal was sent.
        trio.BrokenResourceError: the peer went away.
    """
    match request:
        case wire.Ping():
            await peer.send(wire.Pong(version=__version__))
        case wire.ListSessions():
            await peer.send(wire.Sessions(sessions=supervisor.infos))
        case wire.Run():
            await _run(peer, request, supervisor)
        case wire.Logs():
            async with peer.present():
                await supervisor.logs(request.session, _Sink(peer), follow=request.follow)
                await peer.send(wire.EndOfOutput())
        case wire.Stop():
            await _stop(peer, request, supervisor)
        case _:
            assert_never(request)


async def _run(peer: Peer, request: wire.Run, supervisor: Supervisor) -> None:
    async with peer.progress() as progress:
        session = await supervisor.start(request, progress)
    await peer.send(accepted(session))
    if request.detach:
        return
    async with peer.present():
        try:
            await _follow(peer, session, supervisor)
        except trio.Cancelled:
            with trio.move_on_after(FAREWELL_SECONDS, shield=True):
                await _say_farewell(peer, session)
            raise


async def _follow(peer: Peer, session: Session, supervisor: Supervisor) -> None:
    try:
        await supervisor.follow(session, _Sink(peer))
    except AgentdError as error:
        # The client misses output, and must still hear how the session ends.
        log.warning(
            "agentd.output_unreadable",
            session_id=session.id,
            agent=session.start.agent,
            error=error.message,
        )
    await session.wait_end()
    await peer.send(terminal(session))


async def _say_farewell(peer: Peer, session: Session) -> None:
    """Unless it is gone, the daemon is forced down, and the session with it: there is a moment."""
    if not peer.gone:
        await session.wait_end()
        if peer.in_step:
            await peer.send(terminal(session))


async def _stop(peer: Peer, request: wire.Stop, supervisor: Supervisor) -> None:
    if (stopped := supervisor.stop_waiting(request.session)) is not None:
        raise stopped
    session = supervisor.find(request.session)
    await peer.send(accepted(session))
    await supervisor.stop(session, request.grace_seconds)
    async with peer.present():
        await session.wait_end()
        await peer.send(terminal(session))


class _Sink:
    """Sends a session's output to a peer: what one read gave, with one send."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    async def __call__(self, pieces: Sequence[Piece]) -> None:
        await self._peer.send(
            *[
                wire.Output(stream=stream, data=data[at : at + wire.MAX_OUTPUT_BYTES])
                for stream, data in pieces
                for at in range(0, len(data), wire.MAX_OUTPUT_BYTES)
            ]
        )


def failed(error: AgentdError, session_id: str | None = None) -> wire.Failed:
    """What a client is told of an error: all of it, unless it would not fit a frame."""
    text = error.message
    if len(text) > MAX_MESSAGE:
        text = f"{text[:MAX_MESSAGE]} … ({len(text)} characters)"
    return wire.Failed(code=error.code, message=text, session_id=session_id)


def accepted(session: Session) -> wire.Accepted:
    """Which session a client's request is about."""
    return wire.Accepted(session_id=session.id, record=str(session.record.directory))


def terminal(session: Session) -> wire.Finished | wire.Failed:
    """The last event of a session that has ended."""
    assert session.ended is not None
    outcome, error = session.ended.outcome, session.ended.error
    if outcome is not None:
        return wire.Finished(
            session_id=session.id, outcome=outcome, teardown_error=session.teardown_error
        )
    assert error is not None
    return failed(error, session.id)
