"""Who may begin, and who waits: the bound on sessions at once, and agents that must be alone."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias

import trio

from . import wire
from .audit import Record
from .current import Current
from .errors import AgentdError, OverlapSkipped, ShuttingDown
from .logs import log

Tell: TypeAlias = Callable[[wire.Progress | wire.Queued], None]
"""Takes what a run waits for before its session exists."""


def _nobody(_event: wire.Progress | wire.Queued) -> None:
    """For runs that nobody waits for yet."""


class Waiting:
    """A run that has been admitted and waits for its place."""

    def __init__(
        self,
        session_id: str,
        agent: str,
        trigger: Literal["manual", "schedule"],
        *,
        alone: bool,
    ) -> None:
        self.session_id = session_id
        """The id that its session will have."""
        self.agent = agent
        self.trigger = trigger
        self.alone = alone
        """Whether no other session of its agent may live when it begins."""
        self.since = datetime.datetime.now(datetime.UTC)
        self.tell: Tell = _nobody
        self.refusal: AgentdError | None = None
        self.settled = trio.Event()

    def moved(self, position: int) -> None:
        """Tell whoever waits for it where it stands."""
        self.tell(wire.Queued(session_id=self.session_id, position=position))

    def info(self, audit_root: Path, position: int) -> wire.SessionInfo:
        """What clients are told of it while it waits."""
        record = Record.of(audit_root, self.agent, self.session_id)
        return wire.SessionInfo(
            session_id=self.session_id,
            agent=self.agent,
            state="queued",
            started_at=self.since,
            record=str(record.directory),
            trigger=self.trigger,
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

    def check_overlap(self, agent: str, *, may_wait: bool) -> None:
        """Refuse a scheduled run of an agent of which a session lives or a run waits.

        Raises:
            OverlapSkipped: it must not wait, or another waits already.
        """
        if any(each.agent == agent for each in self._waiting):
            raise OverlapSkipped(f"a run of agent '{agent}' waits already")
        if self._held[agent] and not may_wait:
            raise OverlapSkipped(f"a session of agent '{agent}' lives")

    async def take(self, run: Waiting, tell: Tell) -> None:
        """Return when `run` holds a place; `tell` gets its position while it waits.

        Raises:
            AgentdError: it was turned away meanwhile.
        """
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
