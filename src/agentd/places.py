"""Who may begin, and who waits: the bound on sessions at once, and agents that must be alone."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import trio

from . import wire
from .audit import Record
from .current import Current
from .errors import AgentdError, OverlapSkipped, ShuttingDown, from_code
from .logs import log
from .session.invocation import Invocation
from .session.session import Session

Tell: TypeAlias = Callable[[wire.Progress | wire.Queued], None]
"""Takes what a run waits for before its session exists."""


def _nobody(_event: wire.Progress | wire.Queued) -> None:
    """For runs that nobody waits for yet."""


class Waiting:
    """A run that was taken in and has no session yet: it is admitted, or waits for a place."""

    def __init__(self, session_id: str, invocation: Invocation) -> None:
        self.session_id = session_id
        """The id that its session will have."""
        self.invocation = invocation
        self.agent = invocation.agent.name
        scheduled = invocation.trigger == "schedule"
        self.overlap = invocation.agent.overlap if scheduled else "allow"
        """What holds it back from other sessions of its agent; a run by hand, nothing."""
        self.since = datetime.datetime.now(datetime.UTC)
        """When it began to wait for its place; until then, when it was taken in."""
        self.tell: Tell = _nobody
        self.refusal: AgentdError | None = None
        self.settled = trio.Event()
        """Set when it has a place, or was turned away."""
        self._session: Session | AgentdError | None = None
        self._decided = trio.Event()

    @property
    def alone(self) -> bool:
        """Whether no other session of its agent may live when it begins."""
        return self.overlap != "allow"

    def moved(self, position: int) -> None:
        """Tell whoever waits for it where it stands."""
        self.tell(wire.Queued(session_id=self.session_id, position=position))

    def become(self, what: Session | AgentdError) -> None:
        """Say which session it is now, or why it will be none. What was said first counts."""
        if not self._decided.is_set():
            self._session = what
            self._decided.set()

    async def session(self) -> Session:
        """Wait for its session.

        Raises:
            AgentdError: it became none.
        """
        await self._decided.wait()
        if isinstance(self._session, AgentdError):
            # Each who waits gets an exception of its own.
            raise from_code(self._session.code, self._session.message)
        assert self._session is not None
        return self._session

    def info(self, audit_root: Path, position: int | None) -> wire.SessionInfo:
        """What clients are told of it; without a position it has a place, and begins."""
        record = Record.of(audit_root, self.agent, self.session_id)
        return wire.SessionInfo(
            session_id=self.session_id,
            agent=self.agent,
            state="starting" if position is None else "queued",
            started_at=self.since,
            record=str(record.directory),
            trigger=self.invocation.trigger,
            work_unit=self.invocation.work_unit,
            position=position,
        )


class Places:
    """At most so many sessions at once; more wait, in the order in which they came.

    One that waits for its own agent's sessions to end lets others pass.
    """

    def __init__(self, current: Current) -> None:
        self._current = current
        self._most = current.config.daemon.max_sessions
        """0 for no bound."""
        self._held: Counter[str] = Counter()
        self._waiting: list[Waiting] = []
        self._admitted: list[Waiting] = []
        """Those that are being admitted."""

    @property
    def waiting(self) -> tuple[Waiting, ...]:
        """Who waits, the next first."""
        return tuple(self._waiting)

    async def follow_bound(self) -> None:
        """Let as many live at once as the configuration says, whenever it changes; ends nobody."""
        config = self._current.config
        while True:
            config = await self._current.other_than(config)
            self._most = config.daemon.max_sessions
            self._fill()

    def hold(self, agent: str) -> None:
        """A session of `agent` has a place, whether or not there was one: it is adopted."""
        self._held[agent] += 1

    def release(self, agent: str) -> None:
        """A session of `agent` has ended."""
        self._held[agent] -= 1
        self._fill()

    @contextmanager
    def admitting(self, run: Waiting) -> Iterator[None]:
        """A run is being admitted while inside: others of its agent know of it, though it neither
        lives nor waits. To be followed by `take` at once.

        Raises:
            OverlapSkipped: it is left out, because of another of its agent.
        """
        self._check_overlap(run)
        self._admitted.append(run)
        try:
            yield
        finally:
            self._admitted.remove(run)

    def _check_overlap(self, run: Waiting) -> None:
        """With `skip` there must be no other. With `queue` one may wait beyond the one that lives,
        or is going to: those that are being admitted get there before it."""
        if not run.alone:
            return
        agent = f"agent '{run.agent}'"
        lives = self._held[run.agent]
        waiting = [each for each in self._waiting if each.agent == run.agent]
        admitted = [each for each in self._admitted if each.agent == run.agent]
        if run.overlap == "skip" and lives:
            raise OverlapSkipped(f"a session of {agent} lives")
        if run.overlap == "skip" and admitted:
            raise OverlapSkipped(f"a run of {agent} is being admitted")
        # Nothing holds a run by hand back. Of the others the first may begin, if nothing lives.
        held_back = sum(each.alone for each in admitted)
        if held_back == len(admitted) > 0 and not (lives or waiting):
            held_back -= 1
        if waiting or held_back:
            raise OverlapSkipped(f"a run of {agent} waits already")

    async def take(self, run: Waiting, tell: Tell) -> None:
        """Return when `run` holds a place; `tell` gets its position while it waits.

        Raises:
            AgentdError: it was turned away meanwhile.
        """
        run.since = datetime.datetime.now(datetime.UTC)
        self._waiting.append(run)
        self._fill()
        if not run.settled.is_set():
            log.info(
                "agentd.run_queued",
                agent=run.agent,
                session_id=run.session_id,
                position=len(self._waiting),
            )
            run.tell = tell
            run.moved(len(self._waiting))
        try:
            await run.settled.wait()
        except trio.Cancelled:
            self._leave(run)
            raise
        if run.refusal is not None:
            raise run.refusal

    def turn_away(self, run: Waiting, refusal: AgentdError) -> None:
        """End the waiting of `run` with an error."""
        run.refusal = refusal
        self._waiting.remove(run)
        run.settled.set()
        self._tell_positions()

    def close(self) -> None:
        """Turn away all who wait: the daemon ends."""
        for run in self.waiting:
            self.turn_away(run, ShuttingDown())

    def _leave(self, run: Waiting) -> None:
        if run in self._waiting:
            self._waiting.remove(run)
            self._tell_positions()
        elif run.refusal is None:
            self.release(run.agent)

    def _fill(self) -> None:
        before = len(self._waiting)
        for run in self.waiting:
            if self._most and self._held.total() >= self._most:
                break
            if not (run.alone and self._held[run.agent]):
                self._waiting.remove(run)
                self._held[run.agent] += 1
                run.settled.set()
        if len(self._waiting) != before:
            self._tell_positions()

    def _tell_positions(self) -> None:
        for position, run in enumerate(self._waiting, start=1):
            run.moved(position)
