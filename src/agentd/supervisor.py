"""The set of live sessions: taking runs in, finding sessions, waiting for the last to end.

Usable without the daemon: a program that embeds agentd opens a supervisor of its own.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import trio
from trio_util import AsyncValue, periodic

from . import audit, names
from .adoption import (
    LATE_CREATE_SECONDS,
    clear_remainders,
    close_left_record,
    remove_stranger,
    remove_strangers,
)
from .config import Config
from .errors import AgentdError, PodmanError, ShuttingDown
from .logs import log
from .outcome import FINE
from .session.admission import admit
from .session.engine import Engine
from .session.follow import Sink, follow_output, past_output
from .session.invocation import resolve_invocation
from .session.lifecycle import adopt_session, run_session
from .session.output_limit import bound_output
from .session.session import Session
from .session.spec import Admitted
from .session.stopping import resume_stop, stop_session
from .wire import Run

SWEEP_SECONDS: Final = 45.0
"""How often every session looks at its container without having been woken."""

EVENTS_RETRY_SECONDS: Final = 1.0

LEAVE_SECONDS: Final = 30.0
"""How long a daemon that hands over waits for sessions that are neither running nor over."""


class Supervisor:
    """The live sessions of one daemon.

    They run in one nursery of `open_supervisor`, and what only serves them in another, which ends
    when the last session has.
    """

    def __init__(
        self, config: Config, engine: Engine, sessions: trio.Nursery, services: trio.Nursery
    ) -> None:
        self._config = config
        self._engine = engine
        self._nursery = sessions
        self._services = services
        self._sessions: dict[str, Session] = {}
        self._busy = AsyncValue(0)
        """Runs taken in and not ended yet, those still being admitted included."""
        self._admissions: set[trio.CancelScope] = set()
        self._draining = False

    @property
    def sessions(self) -> tuple[Session, ...]:
        """The live sessions, oldest first."""
        return tuple(self._sessions.values())

    async def start(self, request: Run, progress: Callable[[str], None]) -> Session:
        """Take a run in; gives its session as soon as the record exists.

        The session runs on when the caller goes away. `progress` gets lines for people while an
        image is pulled.

        Raises:
            ShuttingDown: no run is taken any more.
            AgentdError: the run is refused, and nothing of it is left.
        """
        self._check_open()
        self._busy.value += 1
        try:
            admitted = await self._admit(request, progress)
            self._check_open()
            whose = names.Identity(self._engine.instance, names.new_session_id())
            session = Session.of(admitted, whose, self._engine.audit_root)
            await self._nursery.start(self._run, session, admitted)
            self._services.start_soon(bound_output, session, self._engine)
        except AgentdError as error:
            log.warning(
                "agentd.run_rejected",
                agent=request.agent,
                trigger=request.trigger,
                error_code=error.code,
                error=error.message,
            )
            raise
        finally:
            self._busy.value -= 1
        return session

    async def _admit(self, request: Run, progress: Callable[[str], None]) -> Admitted:
        """Admit a run, unless the drain begins meanwhile: it would be refused after its pull."""
        invocation = resolve_invocation(self._config, request, os.environb)
        with trio.CancelScope() as admission:
            self._admissions.add(admission)
            try:
                return await admit(invocation, self._engine, progress)
            finally:
                self._admissions.discard(admission)
        raise ShuttingDown

    async def adopt(self) -> None:
        """Take up the sessions that an earlier daemon left, before any new one is taken in.

        Returns when those whose containers have ended have none any more. Their records are
        closed meanwhile and after it, like those of sessions that go on.

        Raises:
            ReconciliationFailed: what is left cannot be listed or removed.
        """
        found = await clear_remainders(self._engine)
        for session in found.sessions:
            self._sessions[session.start.container_name] = session
            self._nursery.start_soon(self._run_adopted, session)
            self._services.start_soon(bound_output, session, self._engine)
        for session in found.sessions:
            await session.phase.wait_value(lambda phase: phase != "starting")
        for session, end in found.ended:
            self._nursery.start_soon(close_left_record, session, self._engine, end)
        self._services.start_soon(self._settle_late, found.lost)

    async def _run_adopted(self, session: Session) -> None:
        with self._counted(session):
            if session.intent is not None and session.intent.cause == "stop":
                self._services.start_soon(resume_stop, session, self._engine.podman)
            await adopt_session(session, self._engine)
        _log_completed(session)

    async def _settle_late(self, lost: Sequence[Session]) -> None:
        """Close records that no container is left of, once a create under way would have shown."""
        await trio.sleep(LATE_CREATE_SECONDS)
        await remove_strangers(self._engine, self._sessions)
        for session in lost:
            await close_left_record(session, self._engine, None)

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

    def _check_open(self) -> None:
        if self._draining:
            raise ShuttingDown

    async def _run(
        self, session: Session, admitted: Admitted, *, task_status: trio.TaskStatus[None]
    ) -> None:
        with self._counted(session):
            await run_session(session, admitted, self._engine, task_status=task_status)
        _log_completed(session)

    async def follow(self, session: Session, sink: Sink) -> None:
        """Give `sink` the output of a session until it is complete; see `follow_output`."""
        await follow_output(session, self._engine, sink)

    def find(self, wanted: str) -> Session:
        """The live session whose id is `wanted`, or the only one that begins so.

        Raises:
            UnknownSession: there is none, or more than one.
        """
        live = {session.id: session for session in self.sessions}
        return live[names.chosen_session(wanted, live)]

    async def stop(self, session: Session, grace_seconds: float) -> None:
        """Ask a session to stop, and wait until its container has; see `stop_session`."""
        await stop_session(session, self._engine.podman, grace_seconds)

    async def logs(self, wanted: str, sink: Sink, *, follow: bool) -> None:
        """Give `sink` the output of a session, live or past, by its id or the beginning of it.

        Raises:
            UnknownSession: there is none, or more than one.
            AuditError: its output cannot be read.
        """
        record = await trio.to_thread.run_sync(audit.find, self._engine.audit_root, wanted)
        live = next((each for each in self.sessions if each.record == record), None)
        if live is None:
            await past_output(record, sink)
        else:
            await follow_output(live, self._engine, sink, follow=follow)

    def drain(self) -> None:
        """Take no run in any more; sessions go on, and a pull for one that is none yet ends."""
        self._draining = True
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
        self._engine.leaving.set()
        self._nursery.cancel_scope.cancel()

    async def wait_empty(self) -> None:
        """Wait until no run is left."""
        await self._busy.wait_value(0)

    async def watch_containers(self) -> None:
        """Wake sessions when Podman says that something happened to their containers, for ever.

        inotify wakes a session first; this stream covers what it missed, and a slow sweep covers
        what both missed.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow_events)
            async for _ in periodic(SWEEP_SECONDS):
                self._wake_all()

    async def _follow_events(self) -> None:
        podman, instance = self._engine.podman, self._engine.instance
        while True:
            try:
                await podman.each_container_event(names.Label.INSTANCE, instance, self._wake)
            except PodmanError as error:
                log.debug("agentd.podman_events_interrupted", error=str(error))
            await trio.sleep(EVENTS_RETRY_SECONDS)
            # Whatever happened while nobody listened.
            self._wake_all()

    def _wake(self, container_name: str, action: str) -> None:
        if session := self._sessions.get(container_name):
            session.hint.give()
        elif action == "create":
            self._services.start_soon(remove_stranger, self._engine, container_name)

    def _wake_all(self) -> None:
        for session in self._sessions.values():
            session.hint.give()


def _log_completed(session: Session) -> None:
    """One line an operator can alert on, whoever asked for the run."""
    if session.ended is None:
        return
    outcome, error = session.ended.outcome, session.ended.error
    fine = outcome is not None and outcome.label in FINE and session.teardown_error is None
    tell = log.info if fine else log.warning
    tell(
        "agentd.run_completed",
        agent=session.start.agent,
        session_id=session.id,
        trigger=session.start.trigger,
        work_unit=session.start.work_unit,
        outcome=outcome.label.value if outcome else "error",
        exit_code=outcome.exit_code if outcome else None,
        signal=outcome.signal if outcome else None,
        error_code=error.code if error else None,
    )


@asynccontextmanager
async def open_supervisor(config: Config, engine: Engine) -> AsyncIterator[Supervisor]:
    """A supervisor whose sessions live inside the context.

    Leaving it waits for the live sessions; cancelling it kills them.
    """
    async with trio.open_nursery() as sessions, trio.open_nursery() as services:
        supervisor = Supervisor(config, engine, sessions, services)
        services.start_soon(supervisor.watch_containers)
        yield supervisor
        supervisor.drain()
        await supervisor.wait_empty()
        services.cancel_scope.cancel()
