"""The set of live sessions: taking runs in, finding sessions, waiting for the last to end.

Usable without the daemon: a program that embeds agentd opens a supervisor of its own.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import trio
from trio_util import AsyncValue

from . import names, wire
from .adoption import (
    clear_remainders,
    close_left_record,
    remove_stranger,
    settle_late,
    taken_up,
)
from .audit import Record
from .current import Current
from .errors import AgentdError, ShuttingDown, StoppedBeforeStart
from .known import Known
from .logs import log
from .panics import unfailing
from .places import Places, Tell, Waiting
from .session import report
from .session.admission import admit
from .session.choice import EVERYTHING, Choice
from .session.engine import Engine
from .session.follow import Sink, follow_output, past_output
from .session.invocation import Invocation, resolve_invocation
from .session.lifecycle import adopt_session, run_session
from .session.output_limit import bound_output
from .session.session import Session
from .session.space import watch_space
from .session.spec import Admitted
from .session.stopping import resume_stop, stop_session
from .session.unsettled import Unsettled
from .watching import watch_containers
from .wire import Run

LEAVE_SECONDS: Final = 30.0
"""How long a daemon that hands over waits for sessions that are neither running nor over."""


class Supervisor:
    """The live sessions of one daemon.

    They run in one nursery of `open_supervisor`, and what only serves them in another, which ends
    when the last session has.
    """

    def __init__(
        self, current: Current, engine: Engine, sessions: trio.Nursery, services: trio.Nursery
    ) -> None:
        self._current = current
        self._engine = engine
        self._nursery = sessions
        self._services = services
        self._places = Places(current)
        self.known = Known(engine.audit_root, self._places)
        """What has the id of a session."""
        self._sessions = self.known.sessions
        self._busy = AsyncValue(0)
        """Runs taken in and not ended yet, those still being admitted included."""
        self._admissions: set[trio.CancelScope] = set()
        self._draining = False
        self._left = Unsettled(engine)
        self.metrics = engine.metrics
        self.metrics.declare(lambda: current.config.agents, lambda: len(self._places.waiting))
        services.start_soon(unfailing, self._left.run)
        services.start_soon(unfailing, self._places.follow_bound)
        services.start_soon(unfailing, watch_space, engine, self._sessions, self._busy)

    @property
    def sessions(self) -> tuple[Session, ...]:
        """The live sessions, oldest first."""
        return tuple(self._sessions.values())

    async def start(self, request: Run, tell: Tell) -> Session:
        """Take a run in; gives its session as soon as the record exists.

        The run goes on when the caller goes away. `tell` gets what it waits for: the pull of its
        image, then its place.

        Raises:
            ShuttingDown: no run is taken any more.
            AgentdError: the run is refused, and nothing of it is left.
        """
        self._check_open()
        self._busy.value += 1
        try:
            invocation = resolve_invocation(self._current.config, request, os.environb)
            run = Waiting(names.new_session_id(), invocation)
            with self._places.admitting(run):
                admitted = await self._admit(invocation, tell)
                self._check_open()
            with self.known.beginning(run):
                await self._places.take(run, tell)
                whose = names.Identity(self._engine.instance, run.session_id)
                session = Session.of(admitted, whose, self._engine.audit_root)
                await self._nursery.start(self._run, session, admitted)
                run.become(session)
            self._services.start_soon(unfailing, bound_output, session, self._engine)
        except AgentdError as error:
            report.tell_rejected(request, error, self.metrics)
            raise
        finally:
            self._busy.value -= 1
        return session

    async def _admit(self, invocation: Invocation, tell: Tell) -> Admitted:
        """Admit a run, unless the drain begins meanwhile: it would be refused after its pull."""
        with trio.CancelScope() as admission:
            self._admissions.add(admission)
            try:
                return await admit(
                    invocation, self._engine, lambda line: tell(wire.Progress(text=line))
                )
            finally:
                self._admissions.discard(admission)
        raise ShuttingDown

    async def adopt(self) -> None:
        """Take up the sessions that an earlier daemon left, before any new one is taken in.

        Returns when those whose containers have ended have none any more. Their records are
        closed meanwhile and after it, like those of sessions that go on.

        Raises:
            ReconciliationFailed: what is left cannot be listed or removed, or Podman does not say
                how far it has come. Sessions are left as they are.
        """
        found = await clear_remainders(self._engine)
        for session in found.sessions:
            self._sessions[session.start.container_name] = session
            self._nursery.start_soon(self._run_adopted, session)
            self._services.start_soon(unfailing, bound_output, session, self._engine)
        for session, end in found.ended:
            self._nursery.start_soon(
                unfailing, close_left_record, session, self._engine, end, self._left.take
            )
        await taken_up([*found.sessions, *(session for session, _ in found.ended)])
        self._services.start_soon(
            unfailing, settle_late, self._engine, self._knows, found.lost, self._left.take
        )

    def _knows(self, container_name: str) -> bool:
        """Whether a session has this container, though it may have ended."""
        return container_name in self._sessions or self._left.holds(container_name)

    async def _run_adopted(self, session: Session) -> None:
        self._places.hold(session.start.agent)
        with self._counted(session):
            if session.intent is not None and session.intent.cause == "stop":
                self._services.start_soon(unfailing, resume_stop, session, self._engine.podman)
            await adopt_session(session, self._engine)

    @contextmanager
    def _counted(self, session: Session) -> Iterator[None]:
        """The session is live while inside."""
        self._busy.value += 1
        self._sessions[session.start.container_name] = session
        try:
            yield
        finally:
            del self._sessions[session.start.container_name]
            self._busy.value -= 1
            self._places.release(session.start.agent)
            self._left.take(session)
            report.log_completed(session)

    def _check_open(self) -> None:
        if self._draining:
            raise ShuttingDown

    async def _run(
        self, session: Session, admitted: Admitted, *, task_status: trio.TaskStatus[None]
    ) -> None:
        with self._counted(session):
            await run_session(session, admitted, self._engine, task_status=task_status)

    async def follow(self, session: Session, sink: Sink) -> None:
        """Give `sink` the output of a session until it is complete; see `follow_output`."""
        await follow_output(session, self._engine, sink)

    async def stop(self, found: Session | Waiting, grace_seconds: float) -> Session:
        """Ask a session to stop, as `stop_session` does; gives it when nothing takes that back any
        more. A run that has no place yet is turned away.

        Raises:
            StoppedBeforeStart: it was such a run.
            AgentdError: it was a run, of which no session has come meanwhile.
        """
        if isinstance(found, Waiting):
            if found in self._places.waiting:
                stopped = f"session {found.session_id} was stopped in the queue"
                self._places.turn_away(found, StoppedBeforeStart(stopped))
                raise StoppedBeforeStart(stopped)
            found = await found.session()
        # A task of nobody's connection: who has asked may go.
        await self._services.start(stop_session, found, self._engine.podman, grace_seconds)
        return found

    async def logs(
        self, wanted: str, sink: Sink, choice: Choice = EVERYTHING, *, follow: bool
    ) -> None:
        """Give `sink` the chosen output of a session, live or past, by its id or the beginning of
        it. What has not begun yet has none; with `follow` it is waited for.

        Raises:
            UnknownSession: there is none, or more than one.
            AuditError, DiskTimeout: its output cannot be read.
            AgentdError: no session has come of the run that was waited for.
        """
        found = await self.known.find(wanted)
        if isinstance(found, Record):
            await past_output(found, sink, choice)
            return
        if isinstance(found, Waiting):
            if not follow:
                return
            found = await found.session()
        if follow:
            await found.phase.wait_value(lambda phase: phase != "starting")
        if found.phase.value != "starting":
            await follow_output(found, self._engine, sink, choice, follow=follow)

    def drain(self) -> None:
        """Take no run in any more; sessions go on, and whatever is none yet is turned away."""
        self._draining = True
        self._places.close()
        for admission in self._admissions:
            admission.cancel()

    async def leave(self) -> None:
        """End all sessions' tasks and leave the containers that run to the next daemon.

        Those that are being started come up first, and those that have ended are closed, within a
        bound: what is not done by then, the next daemon does.
        """
        self.drain()
        with trio.move_on_after(LEAVE_SECONDS):
            await self._busy.wait_value(lambda busy: busy == len(self._sessions))
            for session in self.sessions:
                await session.phase.wait_value(lambda phase: phase in {"running", "ended"})
        log.info("agentd.sessions_left", session_ids=[session.id for session in self.sessions])
        self._nursery.cancel_scope.cancel()

    def counts(self) -> AsyncIterator[int]:
        """How many runs are taken in and not ended: now, and whenever that has changed."""
        counts: AsyncIterator[int] = self._busy.eventual_values()
        return counts

    async def wait_empty(self) -> None:
        """Wait until no run is left."""
        await self._busy.wait_value(0)

    def wake(self, container_name: str, action: str) -> None:
        """Podman says that something happened to a container of this instance."""
        if session := self._sessions.get(container_name):
            session.hint.give()
        elif action == "create":
            self._services.start_soon(unfailing, remove_stranger, self._engine, container_name)

    def wake_all(self) -> None:
        """Something may have happened to any of them."""
        for session in self._sessions.values():
            session.hint.give()


@asynccontextmanager
async def open_supervisor(current: Current, engine: Engine) -> AsyncIterator[Supervisor]:
    """A supervisor whose sessions live inside the context.

    Leaving it waits for the live sessions. Cancelling it, or an error in it, kills them when the
    engine is forced, and leaves them to the next supervisor else.
    """
    async with trio.open_nursery() as sessions, trio.open_nursery() as services:
        supervisor = Supervisor(current, engine, sessions, services)
        services.start_soon(
            unfailing, watch_containers, engine, supervisor.wake, supervisor.wake_all
        )
        yield supervisor
        supervisor.drain()
        await supervisor.wait_empty()
        services.cancel_scope.cancel()
