"""All that has the id of a session: runs that are to become one, live sessions, and records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from . import audit, names, wire
from .audit import Record
from .errors import AgentdError, StoppedBeforeStart
from .places import Places, Waiting
from .session.disk import DISK_SECONDS, on_disk
from .session.session import Session

Found: TypeAlias = Session | Waiting | Record


class Known:
    """What one daemon knows by an id. A session that ends, or begins, is never in between."""

    def __init__(self, audit_root: Path, places: Places) -> None:
        self._audit_root = audit_root
        self._places = places
        self._runs: dict[str, Waiting] = {}
        self.sessions: dict[str, Session] = {}
        """Those that live, oldest first, by the names of their containers."""

    @contextmanager
    def beginning(self, run: Waiting) -> Iterator[None]:
        """A run asks for its place while inside, and becomes a session, or is turned away."""
        self._runs[run.session_id] = run
        try:
            yield
        except AgentdError as error:
            run.become(error)
            raise
        finally:
            del self._runs[run.session_id]
            run.become(StoppedBeforeStart(f"session {run.session_id} was taken back"))

    @property
    def infos(self) -> tuple[wire.SessionInfo, ...]:
        """What clients are told of the live sessions, and then of the runs that become ones."""
        sessions = tuple(self.sessions.values())
        live = {session.id for session in sessions}
        positions = {run: at for at, run in enumerate(self._places.waiting, start=1)}
        return tuple(session.info for session in sessions) + tuple(
            run.info(self._audit_root, positions.get(run))
            for run in self._runs.values()
            if run.session_id not in live
        )

    def run_info(self, run: Waiting) -> wire.SessionInfo:
        """The same of one of the runs, also when it is none any more."""
        waiting = self._places.waiting
        position = waiting.index(run) + 1 if run in waiting else None
        return run.info(self._audit_root, position)

    def choose(self, wanted: str) -> Session | Waiting:
        """The live session, or the run that becomes one, whose id is `wanted` or begins so.

        Raises:
            UnknownSession: there is none, or more than one.
        """
        living = self._living()
        return living[names.chosen_session(wanted, living)]

    async def find(self, wanted: str) -> Found:
        """The same, or the record of a session that is past.

        Raises:
            UnknownSession: there is none, or more than one.
            AuditError, DiskTimeout: the audit root cannot be read.
        """
        before, root = self._living(), self._audit_root
        records = await on_disk(DISK_SECONDS, str(root), audit.by_id, root)
        # What ends while the records are listed may be in no list of now.
        found: dict[str, Found] = {**records, **before, **self._living()}
        return found[names.chosen_session(wanted, found)]

    def _living(self) -> dict[str, Session | Waiting]:
        return {**self._runs, **{session.id: session for session in self.sessions.values()}}
