"""Scheduled runs: a client of the daemon's own socket that sleeps until an agent is due."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol, Unpack
from zoneinfo import ZoneInfo

import trio

from .. import cron, wire
from ..config import Config
from ..current import Current
from ..errors import AgentdError, OverlapSkipped, ShuttingDown, UnknownAgent, leaves
from ..logs import log
from ..metrics import Metrics
from .timetable import Fire, Timetable

LONGEST_SLEEP_SECONDS: Final = 30.0
"""Trio's clock knows nothing of suspends and of steps of the wall clock: look again that often."""

STEP_SECONDS: Final = 1.0
"""A wall clock that goes back by less was adjusted, not set."""

INSTANT: Final = timedelta(microseconds=1)
"""From one instant of the clock to the next."""

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
        current: Current,
        find_zone: Callable[[], ZoneInfo],
        dispatch: Dispatch,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        metrics: Metrics | None = None,
    ) -> None:
        self._current = current
        self._find_zone = find_zone
        self.zone = ZoneInfo("UTC")
        """Local time, in which schedules are meant; UTC as long as there are none."""
        self._zone_found = False
        self._table = Timetable(self.zone)
        self._dispatch = dispatch
        self._now = now
        self._metrics = metrics or Metrics()

    def prepare(self, config: Config) -> None:
        """Be able to follow `config`: the local time zone matters once something is scheduled.

        Raises:
            HostUnsupported: something is, and the zone is unknown.
        """
        if not self._zone_found and any(agent.schedule is not None for agent in config.agents):
            self.zone = self._find_zone()
            self._zone_found = True

    def next_fires(self) -> dict[str, datetime]:
        """When each agent with a schedule is due next, in UTC."""
        return self._table.next_fires()

    async def run(self) -> None:
        """Start what is due, until cancelled. Sleeps while nothing is scheduled.

        A bug of ours costs the fires of a moment, and no session.
        """
        while True:
            try:
                await self._run()
            except Exception as error:  # noqa: BLE001
                _tell_panic(error)
            await trio.sleep(PANIC_SECONDS)

    async def _run(self) -> None:
        config, seen = self._current.config, self._now()
        self._table = await self._timetable(config, {}, seen)
        async with trio.open_nursery() as dispatches:
            while True:
                now = self._now()
                await self._notice_step(seen, now)
                seen = now
                while fire := self._table.take_due(now):
                    dispatches.start_soon(self._fire, fire)
                    await trio.lowlevel.checkpoint()
                if config is self._current.config:
                    with trio.move_on_after(self._pause()):
                        await self._current.other_than(config)
                else:
                    # What was due up to now has been the business of the table of before.
                    config = self._current.config
                    known = self._table.entries()
                    self._table = await self._timetable(config, known, now + INSTANT)

    async def _timetable(
        self, config: Config, known: dict[tuple[str, cron.Schedule], datetime], start: datetime
    ) -> Timetable:
        """What `config` schedules from `start` on; next fires that are known stay as they are."""
        table = Timetable(self.zone)
        for agent in config.agents:
            if agent.schedule is None:
                continue
            schedule = cron.parse(agent.schedule)
            if (at := known.get((agent.name, schedule))) is None:
                table.add(agent.name, schedule, start)
            else:
                table.keep(agent.name, schedule, at)
            await trio.lowlevel.checkpoint()
        return table

    def _pause(self) -> float:
        if self._table.next_at is None:
            return math.inf
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
            self._tell(fire, "missed", count=fire.missed)
        try:
            agent = self._current.config.agent(fire.agent)
            taken = await self._dispatch(
                agent.name, repo=agent.repo, request=agent.scheduled_request, trigger="schedule"
            )
        except UnknownAgent:
            # A reload has removed it since it was due.
            self._tell(fire, "skipped_removed")
        except OverlapSkipped as error:
            self._tell(fire, "skipped_overlap", error=error.message)
        except ShuttingDown:
            self._tell(fire, "skipped_draining")
        except AgentdError as error:
            self._tell(fire, "failed", error_code=error.code, error=error.message)
        except Exception as error:  # noqa: BLE001
            _tell_panic(error)
            self._tell(
                fire, "failed", error_code=AgentdError.code, error="a bug, see the line before"
            )
        else:
            queued = isinstance(taken, wire.Queued)
            self._tell(fire, "queued" if queued else "started", session_id=taken.session_id)

    def _tell(self, fire: Fire, disposition: str, **fields: object) -> None:
        count = fire.missed if disposition == "missed" else 1
        self._metrics.schedule_fired(fire.agent, disposition, count)
        tell = log.warning if disposition in {"missed", "failed"} else log.info
        tell(
            "agentd.schedule_fired",
            agent=fire.agent,
            due=fire.at.isoformat(),
            disposition=disposition,
            **fields,
        )


def _tell_panic(error: Exception) -> None:
    """A fault that nobody foresaw is logged when it happens."""
    log.error("agentd.scheduler_panicked", error="; ".join(repr(leaf) for leaf in leaves(error)))
