"""When which agent is due: a heap of next fires. Pure; the clock is the caller's."""

from __future__ import annotations

import heapq
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from .. import cron

MOST_COUNTED: Final = 1000
"""Missed fires that are counted one by one; after more, counting costs more than it tells."""

LARGE_STEP: Final = timedelta(hours=3)
"""A clock set back by more than this was wrong before, and what it said counts for nothing; after
a smaller step, times of day that it shows again do not fire again. As in cron(8)."""


class Fire(NamedTuple):
    """An agent is due."""

    agent: str
    at: datetime
    """The instant for which the agent fires, in UTC: the last one that is not in the future."""
    missed: int
    """Earlier instants that passed while nobody looked; `MOST_COUNTED` is "at least"."""


class _Due(NamedTuple):
    """An entry of the heap. Agents that are due together keep the order of the configuration."""

    at: datetime
    position: int


class Timetable:
    """The next fire of each agent that has a schedule, in local time of `zone`."""

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._agents: list[tuple[str, cron.Schedule]] = []
        self._next: list[datetime] = []
        self._heap: list[_Due] = []
        """One entry for each agent is true; others were overtaken by `set_back`."""

    def __len__(self) -> int:
        return len(self._agents)

    def add(self, agent: str, schedule: cron.Schedule, start: datetime) -> None:
        """Schedule an agent from `start` on; an instant that is `start` itself is due."""
        # Searches are strict, and schedules have whole minutes.
        at = cron.next_fire(schedule, start - timedelta(microseconds=1), self._zone)
        self.keep(agent, schedule, at)

    def keep(self, agent: str, schedule: cron.Schedule, at: datetime) -> None:
        """Schedule an agent whose next fire is known."""
        self._agents.append((agent, schedule))
        self._next.append(at)
        heapq.heappush(self._heap, _Due(at, len(self._agents) - 1))

    def entries(self) -> dict[tuple[str, cron.Schedule], datetime]:
        """When each agent is due next, by its name and its schedule."""
        return dict(zip(self._agents, self._next, strict=True))

    def next_fires(self) -> dict[str, datetime]:
        """When each agent is due next."""
        return {name: at for (name, _), at in self.entries().items()}

    @property
    def next_at(self) -> datetime | None:
        """The earliest next fire of all, or None without any schedule."""
        while self._heap and self._heap[0].at != self._next[self._heap[0].position]:
            heapq.heappop(self._heap)
        return self._heap[0].at if self._heap else None

    def take_due(self, now: datetime) -> Fire | None:
        """The next agent that is due at `now`, whose next fire then lies after `now`.

        A late look makes up for nothing: an agent fires once, however many instants have passed.
        """
        at = self.next_at
        if at is None or at > now:
            return None
        position = self._heap[0].position
        agent, schedule = self._agents[position]
        missed = 0
        following = cron.next_fire(schedule, at, self._zone)
        while following <= now and missed < MOST_COUNTED:
            missed += 1
            at, following = following, cron.next_fire(schedule, following, self._zone)
        if following <= now:
            following = cron.next_fire(schedule, now, self._zone)
        self._set(position, following)
        return Fire(agent, at, missed)

    def set_back(self, position: int, now: datetime, step: timedelta) -> None:
        """The clock was set back to `now`, by `step`: look again when an agent is due next.

        Rhythms follow the new time at once, times of day after a large step only.
        """
        schedule = self._agents[position][1]
        if not schedule.fixed or step > LARGE_STEP:
            self._set(position, cron.next_fire(schedule, now, self._zone))

    def _set(self, position: int, at: datetime) -> None:
        self._next[position] = at
        heapq.heappush(self._heap, _Due(at, position))
