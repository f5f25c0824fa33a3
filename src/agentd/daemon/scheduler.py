"""Scheduled runs: a client of the daemon's own socket that sleeps until an agent is due."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol, Unpack
from zoneinfo import ZoneInfo

import trio

from .. import cron, wire
from ..config import Agent
from ..errors import AgentdError, OverlapSkipped, ShuttingDown, leaves
from ..logs import log
from ..metrics import Metrics
from .timetable import Fire, Timetable

LONGEST_SLEEP_SECONDS: Final = 30.0
"""Trio's clock knows nothing of suspends and of steps of the wall clock: look again that often."""

STEP_SECONDS: Final = 1.0
"""A wall clock that goes back by less was adjusted, not set."""


PANIC_SECONDS: Final = 30.0
"""After a bug, how long nothing is scheduled: it may come again at once."""


class Dispatch(Protocol):
    """Has a run taken in; `Client.dispatch`."""

    async def __call__(
        self, agent: str, /, **options: Unpack[wire.RunOptions]
    ) -> wire.Accepted | wire.Queued:
        """Say how the daemon took it; raises what it was refused with."""
        ...


class Scheduler:
    """Starts sessions when they are due, for as long as `run` runs."""

    def __init__(
        self,
        agents: Sequence[Agent],
        zone: ZoneInfo,
        dispatch: Dispatch,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        metrics: Metrics | None = None,
    ) -> None:
        self._agents = {agent.name: agent for agent in agents if agent.schedule is not None}
        self.zone = zone
        """Local time, in which schedules are meant."""
        self._table = Timetable(zone)
        self._dispatch = dispatch
        self._now = now
        self._metrics = metrics or Metrics()

    def next_fires(self) -> dict[str, datetime]:
        """When each agent with a schedule is due next, in UTC."""
        return self._table.next_fires()

    async def run(self) -> None:
        """Start what is due, until cancelled. Returns at once when nothing is scheduled.

        A bug of ours costs the fires of a moment, and no session.
        """
        while True:
            try:
                return await self._run()
            except Exception as error:  # noqa: BLE001
                _tell_panic(error)
            await trio.sleep(PANIC_SECONDS)

    async def _run(self) -> None:
        self._table = Timetable(self.zone)
        start = seen = self._now()
        for agent in self._agents.values():
            assert agent.schedule is not None
            self._table.add(agent.name, cron.parse(agent.schedule), start)
            await trio.lowlevel.checkpoint()
        async with trio.open_nursery() as dispatches:
            while self._table.next_at is not None:
                now = self._now()
                await self._notice_step(seen, now)
                seen = now
                while fire := self._table.take_due(now):
                    dispatches.start_soon(self._fire, fire)
                    await trio.lowlevel.checkpoint()
                await trio.sleep(self._pause())

    def _pause(self) -> float:
        assert self._table.next_at is not None
        left = (self._table.next_at - self._now()).total_seconds()
        return min(max(left, 0.0), LONGEST_SLEEP_SECONDS)

    async def _notice_step(self, seen: datetime, now: datetime) -> None:
        step = seen - now
        if step <= timedelta(seconds=STEP_SECONDS):
            return
        log.warning("agentd.clock_set_back", seconds=round(step.total_seconds(), 3))
        for position in range(len(self._table)):
            self._table.set_back(position, now, step)
            await trio.lowlevel.checkpoint()

    async def _fire(self, fire: Fire) -> None:
        """Ask for a session; every due instant ends as one line of the log."""
        if fire.missed:
            _tell(self._metrics, fire, "missed", count=fire.missed)
        agent = self._agents[fire.agent]
        try:
            taken = await self._dispatch(
                agent.name, repo=agent.repo, request=agent.scheduled_request, trigger="schedule"
            )
        except OverlapSkipped as error:
            _tell(self._metrics, fire, "skipped_overlap", error=error.message)
        except ShuttingDown:
            _tell(self._metrics, fire, "skipped_draining")
        except AgentdError as error:
            _tell(self._metrics, fire, "failed", error_code=error.code, error=error.message)
        except Exception as error:  # noqa: BLE001
            _tell_panic(error)
            _tell(
                self._metrics,
                fire,
                "failed",
                error_code=AgentdError.code,
                error="a bug, see the line before",
            )
        else:
            queued = isinstance(taken, wire.Queued)
            _tell(
                self._metrics, fire, "queued" if queued else "started", session_id=taken.session_id
            )


def _tell_panic(error: Exception) -> None:
    """A fault that nobody foresaw is logged when it happens."""
    log.error("agentd.scheduler_panicked", error="; ".join(repr(leaf) for leaf in leaves(error)))


def _tell(metrics: Metrics, fire: Fire, disposition: str, **fields: object) -> None:
    metrics.schedule_fired(fire.agent, disposition, fire.missed if disposition == "missed" else 1)
    tell = log.warning if disposition in {"missed", "failed"} else log.info
    tell(
        "agentd.schedule_fired",
        agent=fire.agent,
        due=fire.at.isoformat(),
        disposition=disposition,
        **fields,
    )
