"""What the configuration declares, as clients see it: agents, and when their schedules fire."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import trio

from .. import audit, cron, cron_notes, wire
from ..config import Agent
from ..current import Current
from ..errors import InvalidInvocation, NoSchedule
from ..supervisor import Supervisor
from .history import Past, past_session
from .scheduler import Scheduler


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
        """All of them, in the order of the configuration."""
        live = Counter(info.agent for info in self._supervisor.infos)
        zone, fires = self._scheduler.zone, self._scheduler.next_fires()
        told = [
            self._info(
                agent,
                live[agent.name],
                fires.get(agent.name),
                await trio.to_thread.run_sync(audit.last_ended, self._audit_root, agent.name),
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
        """When an agent fires next.

        Raises:
            UnknownAgent: there is no such agent.
            NoSchedule: it has no schedule.
            InvalidInvocation: it is asked for instants before the year 1 or after 9999.
        """
        agent = self._current.config.agent(request.agent)
        if agent.schedule is None:
            raise NoSchedule(
                f"agent '{agent.name}' has no schedule: it runs when 'agentd run' asks for it"
            )
        zone = self._scheduler.zone
        schedule, at = cron.parse(agent.schedule), request.after or datetime.now(UTC)
        found = []
        for _ in range(request.count):
            try:
                at = cron.next_fire(schedule, at, zone)
                note = cron_notes.note(schedule, at, zone)
                found.append(wire.Instant(at=at.astimezone(zone), note=note))
            except OverflowError:
                raise InvalidInvocation(
                    f"no calendar here has the instants that follow {at}: ask for those after a"
                    " year between 2 and 9990"
                ) from None
            await trio.lowlevel.checkpoint()
        return wire.Instants(schedule=agent.schedule, zone=str(zone), instants=tuple(found))
