"""Sessions by their records, as clients see them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

from .. import audit, wire
from ..audit import Record, SessionJson
from ..errors import AuditError
from ..logs import log
from ..places import Waiting
from ..session.disk import DISK_SECONDS, on_disk
from ..session.session import Session
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
    ) -> tuple[wire.SessionInfo, ...]:
        """Tell of the sessions that do not live any more, oldest first, as often as it takes; gives
        all others, as they were when the records were listed: each session is told of once.

        Raises:
            AuditError, DiskTimeout: the audit root cannot be read.
        """
        root = self._audit_root
        found = await on_disk(DISK_SECONDS, str(root), audit.records, root, agent)
        infos = self._supervisor.known.infos
        live = {info.record for info in infos}
        past = [record for record in found if str(record.directory) not in live]
        for at in range(0, len(past), BATCH):
            batch = await on_disk(DISK_SECONDS, str(root), _read, past[at : at + BATCH])
            await tell(wire.PastSessions(sessions=tuple(past_session(*each) for each in batch)))
        return infos

    async def inspect(self, wanted: str) -> wire.Inspected:
        """What is known of a session, live or past, or of a run that waits for its place.

        Raises:
            UnknownSession: there is none, or more than one.
            AuditError, DiskTimeout: its record cannot be read.
        """
        found = await self._supervisor.known.find(wanted)
        if isinstance(found, Waiting):
            return _inspected_run(self._supervisor.known.run_info(found), found.invocation.repo_url)
        if isinstance(found, Session) and found.phase.value != "ended":
            record, state = found.record, found.info.state
            return _inspected(record, state, SessionJson(found.start, None))
        record = found if isinstance(found, Record) else found.record
        where = str(record.directory)
        facts = await on_disk(DISK_SECONDS, where, audit.read_session_json, record.session_json)
        return _inspected(record, "incomplete" if facts.end is None else "closed", facts)


def _inspected_run(info: wire.SessionInfo, repo_url: str) -> wire.Inspected:
    """What is known of a run, by the names that `session.json` is going to have."""
    facts = {
        "session_id": info.session_id,
        "agent": info.agent,
        "repo_url": repo_url,
        "work_unit": info.work_unit,
        "trigger": info.trigger,
        "queued_timestamp": info.started_at,
        "position": info.position,
    }
    known = {name: value for name, value in facts.items() if value is not None}
    return wire.Inspected(record=info.record, state=info.state, facts=msgspec.to_builtins(known))


def _inspected(
    record: Record,
    state: wire.SessionState | Literal["closed", "incomplete"],
    facts: SessionJson,
) -> wire.Inspected:
    return wire.Inspected(
        record=str(record.directory),
        state=state,
        facts=msgspec.json.decode(audit.session_json(facts.start, facts.end)),
    )


def _read(found: Sequence[Record]) -> list[Past]:
    """Their facts. Blocking. One that cannot be used is logged."""
    past = []
    for record in found:
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
