"""What a client gets for its request: events, the last of them terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, assert_never

import trio

from .. import __version__, wire
from ..cri import STREAMS
from ..errors import AgentdError
from ..logs import log
from ..session.choice import Choice, Piece
from ..session.session import Session
from ..supervisor import Supervisor
from .declared import Declared
from .health import Health
from .history import History
from .peer import Peer
from .reloading import Reloading
from .signals import Shutdown

FAREWELL_SECONDS: Final = 5.0
"""How long a daemon that is forced down lets a connection wait for the end of its session."""

MAX_MESSAGE: Final = 64 * 1024
"""Characters of an error's sentence that a client is told."""


class Answers:
    """What clients are told, by one daemon."""

    def __init__(
        self,
        supervisor: Supervisor,
        declared: Declared,
        history: History,
        health: Health,
        shutdown: Shutdown,
        *,
        reloading: Reloading,
    ) -> None:
        self._supervisor = supervisor
        self._declared = declared
        self._history = history
        self._health = health
        self._reloading = reloading
        self._shutdown = shutdown

    async def give(self, peer: Peer, request: wire.Request) -> None:
        """Do what `request` asks, and tell `peer`.

        Raises:
            AgentdError: it is refused; nothing terminal was sent.
            trio.BrokenResourceError: the peer went away.
        """
        self._supervisor.metrics.request_taken(wire.kind(request))
        match request:
            case wire.ListSessions():
                await self._list(peer, request)
            case wire.Run():
                await self._run(peer, request)
            case wire.GetMetrics():
                await self._tell_metrics(peer, request)
            case wire.Logs():
                await self._logs(peer, request)
            case wire.Stop():
                await self._stop(peer, request)
            case wire.Shutdown():
                await self._shut_down(peer, request)
            case _:
                await peer.send(await self._reply(request))

    async def _reply(self, request: wire.Question) -> wire.Event:
        """The one event that is the answer to a question."""
        match request:
            case wire.Ping():
                return wire.Pong(version=__version__)
            case wire.GetStatus():
                return await self._health.status()
            case wire.Inspect():
                return await self._history.inspect(request.session)
            case wire.ListAgents():
                return await self._declared.agents()
            case wire.GetSchedule():
                return await self._declared.instants(request)
            case wire.Reload():
                return await self._reloading.reload("client")
            case _:
                assert_never(request)

    async def _logs(self, peer: Peer, request: wire.Logs) -> None:
        choice = Choice(
            streams=STREAMS if request.stream is None else (request.stream,),
            since=request.since,
            tail=request.tail,
            timestamps=request.timestamps,
        )
        async with peer.present():
            sink = _Sink(peer)
            await self._supervisor.logs(request.session, sink, choice, follow=request.follow)
            await peer.send(wire.EndOfOutput())

    async def _list(self, peer: Peer, request: wire.ListSessions) -> None:
        wanted = request.agent
        if request.past:
            infos = await self._history.past(wanted, peer.send)
        else:
            infos = self._supervisor.known.infos
        told = tuple(info for info in infos if wanted is None or info.agent == wanted)
        await peer.send(wire.Sessions(sessions=told))

    async def _tell_metrics(self, peer: Peer, request: wire.GetMetrics) -> None:
        text = await self._supervisor.metrics.text(request.format)
        size = wire.MAX_METRICS_CHARS
        while len(text) > size:
            await peer.send(wire.MetricsPart(text=text[:size]))
            text = text[size:]
        await peer.send(wire.Metrics(text=text))

    async def _run(self, peer: Peer, request: wire.Run) -> None:
        async with peer.progress() as progress:
            session = await self._supervisor.start(request, progress)
        await peer.send(accepted(session))
        if request.detach:
            return
        async with peer.present():
            try:
                await self._follow(peer, session)
            except trio.Cancelled:
                with trio.move_on_after(FAREWELL_SECONDS, shield=True):
                    await _say_farewell(peer, session)
                raise

    async def _follow(self, peer: Peer, session: Session) -> None:
        # No container, no output yet.
        await session.phase.wait_value(lambda phase: phase != "starting")
        if not session.output_complete:
            await peer.send(wire.StateChanged(state=session.info.state))
        try:
            await self._supervisor.follow(session, _Sink(peer))
        except AgentdError as error:
            # The client misses output, and must still hear how the session ends.
            log.warning(
                "agentd.output_unreadable",
                session_id=session.id,
                agent=session.start.agent,
                error=error.message,
            )
        await peer.send(wire.StateChanged(state=session.info.state))
        await session.wait_end()
        await peer.send(terminal(session))

    async def _stop(self, peer: Peer, request: wire.Stop) -> None:
        found = self._supervisor.known.choose(request.session)
        # Asked first and told then: a client that has gone by now has asked all the same.
        session = await self._supervisor.stop(found, request.grace_seconds)
        await peer.send(accepted(session))
        async with peer.present():
            await session.wait_end()
            await peer.send(terminal(session))

    async def _shut_down(self, peer: Peer, request: wire.Shutdown) -> None:
        self._shutdown.begin("client", leave=request.leave)
        await peer.send(wire.ShutdownStarted(sessions=len(self._supervisor.known.infos)))
        async with peer.present():
            await self._shutdown.complete.wait()
            await peer.send(wire.ShutdownComplete())


async def _say_farewell(peer: Peer, session: Session) -> None:
    """Unless it is gone, the daemon is forced down, and the session with it: there is a moment."""
    if not peer.gone:
        await session.wait_end()
        if peer.in_step:
            await peer.send(terminal(session))


class _Sink:
    """Sends a session's output to a peer: what one read gave, with one send."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    async def __call__(self, pieces: Sequence[Piece]) -> None:
        await self._peer.send(
            *[
                wire.Output(
                    stream=stream,
                    data=data[at : at + wire.MAX_OUTPUT_BYTES],
                    time=None if at else time,
                )
                for stream, data, time in pieces
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
