"""What the configuration declares, as clients see it: agents, and when their schedules fire."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Final

import trio

from .. import audit, cron, wire
from ..config import Agent
from ..current import Current
from ..errors import NoSchedule, UsageError
from ..session.disk import DISK_SECONDS, on_disk
from ..supervisor import Supervisor
from .history import Past, past_session
from .scheduler import Scheduler

FIRST_YEAR: Final = 1970
"""From when on the instants of a schedule are told; `cron.LAST_YEAR` is the other end."""


class Declared:
    """The agents of one daemon."""

    def __init__(
        self,
        current: Current,
        supervisor: Supervisor,
        audit_root: Path,
        scheduler: Scheduler,
    ) -> None:
        self._current = current
        self._supervisor = supervisor
        self._audit_root = audit_root
        self._scheduler = scheduler

    async def agents(self) -> wire.Agents:
        """All of them, in the order of the configuration.

        Raises:
            AuditError, DiskTimeout: the audit root cannot be read.
        """
        live = Counter(info.agent for info in self._supervisor.known.infos)
        root, zone, fires = self._audit_root, self._scheduler.zone, self._scheduler.next_fires()
        told = [
            self._info(
                agent,
                live[agent.name],
                fires.get(agent.name),
                await on_disk(DISK_SECONDS, str(root), audit.last_ended, root, agent.name),
            )
            for agent in self._current.config.agents
        ]
        return wire.Agents(zone=str(zone), agents=tuple(told))

    def _info(
        self, agent: Agent, live: int, fire: datetime | None, last: Past | None
    ) -> wire.AgentInfo:
        return wire.AgentInfo(
            name=agent.name,
            base_image=agent.base_image,
            repo=agent.repo,
            schedule=agent.schedule,
            next_fire=None if fire is None else fire.astimezone(self._scheduler.zone),
            live=live,
            last=None if last is None else past_session(*last),
        )

    async def instants(self, request: wire.GetSchedule) -> wire.Instants:
        """When an agent fires next; fewer times than asked for where the calendar ends.

        Raises:
            UnknownAgent: there is no such agent.
            NoSchedule: it has no schedule.
            UsageError: the years of this search are not told of.
        """
        agent = self._current.config.agent(request.agent)
        if agent.schedule is None:
            raise NoSchedule(
                f"agent '{agent.name}' has no schedule: it runs when 'agentd run' asks for it"
            )
        after = request.after or datetime.now(UTC)
        if not FIRST_YEAR <= after.year <= cron.LAST_YEAR:
            raise UsageError(
                f"no schedule is followed from {after.isoformat()} on: the year must lie between"
                f" {FIRST_YEAR} and {cron.LAST_YEAR}"
            )
        zone = self._scheduler.zone
        schedule = cron.parse(agent.schedule)
        found = []
        with suppress(OverflowError):
            for at in islice(cron.fires(schedule, after, zone), request.count):
                note = cron.note(schedule, at, zone)
                found.append(wire.Instant(at=at.astimezone(zone), note=note))
                await trio.lowlevel.checkpoint()
        return wire.Instants(schedule=agent.schedule, zone=str(zone), instants=tuple(found))
