"""When which agent is due: a heap of next fires. Pure; the clock is the caller's."""

from __future__ import annotations

import heapq
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from .. import cron

MOST_COUNTED: Final = 500
"""Missed fires that are counted one by one, which takes some 3 µs each and lets nobody else do
anything; after more, counting costs more than it tells."""

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
        self._next: list[datetime | None] = []
        """None for an agent that was dropped."""
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
        pairs = zip(self._agents, self._next, strict=True)
        return {each: at for each, at in pairs if at is not None}

    def next_fires(self) -> dict[str, datetime]:
        """When each agent is due next."""
        pairs = zip(self._agents, self._next, strict=True)
        return {name: at for (name, _), at in pairs if at is not None}

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
        search = cron.fires(schedule, at, self._zone)
        while (following := next(search)) <= now:
            missed, at = missed + 1, following
            if missed == MOST_COUNTED:
                at, following = _around(schedule, now, self._zone)
                break
        self._set(position, following)
        return Fire(agent, at, missed)

    def drop_first(self) -> Fire:
        """Take the agent out that is due next, because its search fails; gives what it misses."""
        at, position = self._heap[0]
        self._next[position] = None
        return Fire(self._agents[position][0], at, 0)

    def set_back(self, position: int, now: datetime, step: timedelta) -> None:
        """The clock was set back to `now`, by `step`: look again when an agent is due next.

        Rhythms follow the new time at once, times of day after a large step only.
        """
        schedule = self._agents[position][1]
        if self._next[position] is not None and (not schedule.fixed or step > LARGE_STEP):
            self._set(position, cron.next_fire(schedule, now, self._zone))

    def _set(self, position: int, at: datetime) -> None:
        self._next[position] = at
        heapq.heappush(self._heap, _Due(at, position))


def _around(schedule: cron.Schedule, now: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The last fire that is not after `now`, of which there is one, and the first that is."""
    back = timedelta(minutes=1)
    while (last := cron.next_fire(schedule, now - back, zone)) > now:
        back *= 2
    search = cron.fires(schedule, last, zone)
    while (following := next(search)) <= now:
        last = following
    return last, following
