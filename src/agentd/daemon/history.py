"""Sessions by their records, as clients see them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec
import trio

from .. import audit, wire
from ..audit import Record, SessionJson
from ..errors import AuditError
from ..logs import log
from ..supervisor import Supervisor

BATCH: Final = 500
"""Records that are read at a time, and told in one message."""

Past: TypeAlias = tuple[Record, SessionJson]


class History:
    """The records below one audit root."""

    def __init__(self, supervisor: Supervisor, audit_root: Path) -> None:
        self._supervisor = supervisor
        self._audit_root = audit_root

    async def past(
        self, agent: str | None, tell: Callable[[wire.PastSessions], Awaitable[None]]
    ) -> None:
        """Tell of the sessions that do not live any more, oldest first, as often as it takes.

        Raises:
            AuditError: the audit root cannot be read.
        """
        live = {session.record for session in self._supervisor.sessions}
        found = await trio.to_thread.run_sync(audit.records, self._audit_root, agent)
        for at in range(0, len(found), BATCH):
            past = await trio.to_thread.run_sync(_read, found[at : at + BATCH], live)
            await tell(wire.PastSessions(sessions=tuple(past_session(*each) for each in past)))

    async def inspect(self, wanted: str) -> wire.Inspected:
        """What the record of a session says, live or past.

        Raises:
            UnknownSession: there is none, or more than one.
            AuditError: its record cannot be read.
        """
        record = await trio.to_thread.run_sync(audit.find, self._audit_root, wanted)
        facts = await trio.to_thread.run_sync(audit.read_session_json, record.session_json)
        live = next((each for each in self._supervisor.sessions if each.record == record), None)
        closed: Literal["closed", "incomplete"] = "incomplete" if facts.end is None else "closed"
        return wire.Inspected(
            record=str(record.directory),
            state=closed if live is None else live.info.state,
            facts=msgspec.json.decode(audit.session_json(facts.start, facts.end)),
        )


def _read(found: Sequence[Record], live: Collection[Record]) -> list[Past]:
    """The facts of those that do not live. Blocking. One that cannot be used is logged."""
    past = []
    for record in found:
        if record in live:
            continue
        try:
            past.append((record, audit.read_session_json(record.session_json)))
        except AuditError as error:
            log.warning("agentd.record_unusable", record=str(record.directory), error=str(error))
    return past


def past_session(record: Record, facts: SessionJson) -> wire.PastSession:
    """What clients are told of it."""
    start, end = facts.start, facts.end
    told = wire.PastSession(
        session_id=start.session_id,
        agent=start.agent,
        started_at=start.start_timestamp,
        record=str(record.directory),
        trigger=start.trigger,
        work_unit=start.work_unit,
    )
    if end is None:
        return told
    return msgspec.structs.replace(
        told,
        ended_at=end.end_timestamp,
        outcome=end.outcome,
        exit_code=end.exit_code,
        signal=end.signal,
        error_code=end.error_code,
    )
