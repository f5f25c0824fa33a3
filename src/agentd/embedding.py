"""Sessions inside a program of one's own: a supervisor without daemon and socket."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Unpack

import trio

from . import supervisor, wire
from .claim import claimed_engine
from .config import Config
from .current import Current
from .errors import AgentdError, UnknownSession, from_code, leaves
from .outcome import Outcome
from .session.choice import Piece
from .session.session import Session


class EmbeddedSession:
    """A session of this program's supervisor. It goes on whatever becomes of this object."""

    def __init__(
        self, session: Session, sessions: supervisor.Supervisor, helpers: trio.Nursery
    ) -> None:
        self._session = session
        self._sessions = sessions
        self._helpers = helpers

    @property
    def id(self) -> str:
        """16 lowercase hex digits, its name everywhere."""
        return self._session.id

    @property
    def record(self) -> Path:
        """The directory of its record."""
        return self._session.record.directory

    @property
    def info(self) -> wire.SessionInfo:
        """Its agent, its state, its deadline and more, as they are now."""
        return self._session.info

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None while that is not known, and when it ended without an outcome."""
        ended = self._session.ended
        return None if ended is None else ended.outcome

    @asynccontextmanager
    async def output(self) -> AsyncIterator[AsyncIterator[wire.Output]]:
        """Its output from the start, credentials masked, to iterate over until it ends.

        To be entered while the supervisor is open, also after the session's end. Who reads slowly,
        or leaves early, holds nothing up. Iterating raises:
            AuditError: the output cannot be read.
        """
        output = _Output()
        self._helpers.start_soon(output.follow, self._sessions, self._session)
        try:
            yield output
        finally:
            output.leave()

    async def wait(self) -> wire.Finished:
        """Wait for the end of all of it, clean-up and sealing included. Cancelling it ends nothing.

        Raises:
            AgentdError: it ended without an outcome; the class says why.
        """
        ended = await self._session.wait_end()
        if ended.outcome is None:
            assert ended.error is not None
            # Each who waits gets an exception of its own.
            raise from_code(ended.error.code, ended.error.message)
        return wire.Finished(
            session_id=self.id,
            outcome=ended.outcome,
            teardown_error=self._session.teardown_error,
        )

    async def stop(self, *, grace: float = wire.STOP_GRACE_SECONDS) -> wire.Finished:
        """Ask it to stop, and wait for its end: SIGINT now, SIGKILL after `grace` seconds.

        Cancelling the call takes nothing back. Raises as `wait`: `StoppedBeforeStart` when its
        container had not been started. And:
            InvalidInvocation: there is no such grace.
        """
        wire.checked(wire.Stop(session=self.id, grace_seconds=grace))
        if self._session.phase.value != "ended":
            self._helpers.start_soon(self._sessions.stop, self._session, grace)
        return await self.wait()


class _Output:
    """Takes a session's output from the task that follows it, one piece at a time."""

    def __init__(self) -> None:
        self._taken, self._given = trio.open_memory_channel[wire.Output](0)
        self._following = trio.CancelScope()
        self._error: AgentdError | None = None

    def __aiter__(self) -> _Output:
        return self

    async def __anext__(self) -> wire.Output:
        try:
            return await self._given.receive()
        except trio.EndOfChannel:
            if self._error is not None:
                raise self._error from None
            raise StopAsyncIteration from None

    async def follow(self, sessions: supervisor.Supervisor, session: Session) -> None:
        with self._following, self._taken:
            try:
                await sessions.follow(session, self._take)
            except AgentdError as error:
                self._error = error

    async def _take(self, pieces: Sequence[Piece]) -> None:
        for stream, data, _ in pieces:
            await self._taken.send(wire.Output(stream=stream, data=data))

    def leave(self) -> None:
        self._following.cancel()
        self._given.close()


class EmbeddedSupervisor:
    """The live sessions of this program."""

    def __init__(self, sessions: supervisor.Supervisor, helpers: trio.Nursery) -> None:
        self._sessions = sessions
        self._helpers = helpers

    @property
    def sessions(self) -> tuple[EmbeddedSession, ...]:
        """The live sessions, oldest first; those taken up from an earlier program included."""
        return tuple(self._handle(session) for session in self._sessions.sessions)

    async def metrics(self, form: wire.MetricsFormat = "openmetrics") -> str:
        """What was counted and measured since the start of this supervisor, for Prometheus."""
        return await self._sessions.metrics.text(form)

    def find(self, session: str) -> EmbeddedSession:
        """The live session whose id is `session`, or the only one that begins so.

        Raises:
            UnknownSession: there is none, or more than one.
        """
        found = self._sessions.known.choose(session)
        if not isinstance(found, Session):
            raise UnknownSession(f"there is no session '{found.session_id}' yet: it has no place")
        return self._handle(found)

    async def start(
        self,
        agent: str,
        *,
        progress: Callable[[wire.Progress | wire.Queued], None] | None = None,
        **options: Unpack[wire.RunOptions],
    ) -> EmbeddedSession:
        """Start a session of `agent`; gives it as soon as its record exists.

        `progress` is called with what the run waits for until then: the pull of its image, its
        place. Cancelling the call takes the run back.

        Raises:
            InvalidInvocation: the options contradict each other.
            AgentdError: the run was refused, and nothing of it is left.
        """
        request = wire.run_request(agent, **options)
        return self._handle(await self._sessions.start(request, progress or _nobody))

    def _handle(self, session: Session) -> EmbeddedSession:
        return EmbeddedSession(session, self._sessions, self._helpers)


def _nobody(_event: wire.Progress | wire.Queued) -> None:
    """For callers who do not care what a run waits for."""


@asynccontextmanager
async def open_supervisor(config: Config) -> AsyncIterator[EmbeddedSupervisor]:
    """A supervisor of the agents in `config`, whose sessions run inside the context.

    It takes up what a killed program, or daemon, of the same configuration has left. Leaving the
    context waits for the live sessions, and for who still reads what they wrote; an exception or a
    cancellation kills them. Credentials are
    read from this program's environment.

    Raises:
        AlreadyRunning: a daemon of this configuration runs, or another program that embeds one.
        AgentdError: what sessions need is not there, as at the daemon's start.
    """
    error: BaseException | None = None
    alone, forced = False, trio.Event()
    try:
        async with (
            claimed_engine(config.daemon, os.environ, forced) as engine,
            trio.open_nursery() as helpers,
            supervisor.open_supervisor(Current(config), engine) as sessions,
        ):
            try:
                await sessions.adopt()
                # From here on who leaves the context otherwise than by its end kills them.
                forced.set()
                yield EmbeddedSupervisor(sessions, helpers)
            except BaseException as raised:
                error = raised
                raise
    except BaseExceptionGroup as group:
        alone = error is not None and _is_only(error, group)
        if not alone:
            raise
    if error is not None and alone:
        # The nurseries are our own affair: an error of the caller's leaves as it came.
        raise error


def _is_only(error: BaseException, group: BaseExceptionGroup) -> bool:
    """Whether `group` holds nothing else than `error`, which may be a group itself."""
    known = {id(leaf) for leaf in leaves(error)}
    return all(id(leaf) in known for leaf in leaves(group))
