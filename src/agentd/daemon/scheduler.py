"""Scheduled runs: a client of the daemon's own socket that sleeps until an agent is due."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol, Unpack
from zoneinfo import ZoneInfo

import trio

from .. import cron, wire
from ..config import Config
from ..current import Current
from ..errors import (
    AgentdError,
    ConnectionLost,
    DaemonUnreachable,
    OverlapSkipped,
    ShuttingDown,
    UnknownAgent,
)
from ..logs import log
from ..metrics import Metrics
from ..panics import PANIC_SECONDS, told
from .timetable import Fire, Timetable

LONGEST_SLEEP_SECONDS: Final = 30.0
"""Trio's clock knows nothing of suspends and of steps of the wall clock: look again that often."""

STEP_SECONDS: Final = 1.0
"""A wall clock that goes back by less was adjusted, not set."""

INSTANT: Final = timedelta(microseconds=1)
"""From one instant of the clock to the next."""

BUG: Final = "a bug, see the line before"


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
        self._looking = trio.CancelScope()
        self._draining = False
        self._left_out = False
        """Whether an agent is missing in the table, for a bug of ours."""

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
        """Start what is due, until drained. Sleeps while nothing is scheduled.

        Returns when each run that was asked for has its line in the log. A bug of ours costs the
        fires of a moment, and no session.
        """
        async with trio.open_nursery() as dispatches:
            with self._looking:
                while True:
                    try:
                        await self._look(dispatches)
                    except Exception as error:  # noqa: BLE001
                        _tell_panic(error)
                    await trio.sleep(PANIC_SECONDS)

    def drain(self) -> None:
        """Start nothing any more: the daemon takes nothing in, and says so to who has asked."""
        self._draining = True
        self._looking.cancel()

    async def _look(self, dispatches: trio.Nursery) -> None:
        config, seen = self._current.config, self._now()
        self._table = await self._timetable(config, {}, seen)
        again = False
        while True:
            now = self._now()
            await self._notice_step(seen, now)
            seen = now
            for fire in self._due(now):
                dispatches.start_soon(self._fire, fire)
                await trio.lowlevel.checkpoint()
            if config is self._current.config and not again:
                again = self._left_out
                with trio.move_on_after(self._pause()):
                    await self._current.other_than(config)
            else:
                # What was due up to now has been the business of the table of before.
                config, again = self._current.config, False
                known = self._table.entries()
                self._table = await self._timetable(config, known, now + INSTANT)

    def _due(self, now: datetime) -> Iterator[Fire]:
        """The agents that are due; one whose search fails costs no other its fire."""
        while True:
            try:
                fire = self._table.take_due(now)
            except Exception as error:  # noqa: BLE001
                lost = self._table.drop_first()
                self._leave_out(lost.agent, error)
                self._tell_failed(lost, AgentdError(BUG))
            else:
                if fire is None:
                    return
                yield fire

    def _leave_out(self, agent: str, error: Exception) -> None:
        """One agent is not in the table, for a bug of ours, until the next one is made."""
        self._left_out = True
        _tell_panic(error, agent=agent)

    async def _timetable(
        self, config: Config, known: dict[tuple[str, cron.Schedule], datetime], start: datetime
    ) -> Timetable:
        """What `config` schedules from `start` on; next fires that are known stay as they are."""
        self._left_out = False
        table = Timetable(self.zone)
        for agent in config.agents:
            if agent.schedule is None:
                continue
            try:
                schedule = cron.parse(agent.schedule)
                if (at := known.get((agent.name, schedule))) is None:
                    table.add(agent.name, schedule, start)
                else:
                    table.keep(agent.name, schedule, at)
            except Exception as error:  # noqa: BLE001
                self._leave_out(agent.name, error)
            await trio.lowlevel.checkpoint()
        return table

    def _pause(self) -> float:
        if self._table.next_at is None:
            return PANIC_SECONDS if self._left_out else math.inf
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
        except (DaemonUnreachable, ConnectionLost) as error:
            # A daemon that drains closes its socket, also to who was about to ask.
            if self._draining:
                self._tell(fire, "skipped_draining")
            else:
                self._tell_failed(fire, error)
        except AgentdError as error:
            self._tell_failed(fire, error)
        except Exception as error:  # noqa: BLE001
            _tell_panic(error, agent=fire.agent)
            self._tell_failed(fire, AgentdError(BUG))
        except trio.Cancelled:
            self._tell_failed(fire, ConnectionLost("the daemon ended before it had answered"))
            raise
        else:
            queued = isinstance(taken, wire.Queued)
            self._tell(fire, "queued" if queued else "started", session_id=taken.session_id)

    def _tell_failed(self, fire: Fire, error: AgentdError) -> None:
        self._tell(fire, "failed", error_code=error.code, error=error.message)

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


def _tell_panic(error: Exception, **fields: object) -> None:
    """A fault that nobody foresaw is logged when it happens."""
    log.error("agentd.scheduler_panicked", error=told(error), **fields)
