"""A live session as others see it: what it is, where it stands, and how it ended."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal, TypeAlias

import trio
from trio_util import AsyncValue

from .. import audit, masking, names, wire
from ..audit import Record
from ..errors import HandedOver, StoppedBeforeStart
from ..logs import session_bound
from ..watch import Hint
from .facts import start_facts
from .spec import Admitted
from .verdict import Ended

Phase: TypeAlias = Literal["starting", "running", "closing", "ended"]


class Session:
    """One session from the moment at which its record is about to be made."""

    def __init__(
        self, start: audit.Start, record: Record, needles: tuple[bytes, ...] | None
    ) -> None:
        self.start = start
        self.record = record
        self.needles = needles
        """What is masked in its output; None when that is not known, and none is to be shown."""
        self.clock_deadline = _on_trios_clock(start.deadline)
        """The deadline on Trio's clock, which no change of the wall clock moves."""
        self.hint = Hint()
        """Wakes the session when its container may have ended."""
        self.ended: Ended | None = None
        """How it ended, once that is known; clean-up and sealing come after it."""
        self.teardown_error: str | None = None
        """What of it could not be removed; None means that nothing is left but the record."""
        self.phase: AsyncValue[Phase] = AsyncValue("starting")
        """Closing means that it has ended and its record has not; ended, that nothing goes on."""
        self.intent: audit.Intent | None = None
        """Why agentd lays hands on its container, and since when; None while it does not."""
        self.unclosed: audit.End | None = None
        """Its end, from when that is known until its record is closed with it."""
        self.container_kept = False
        """Whether its container stays, because its end could not be written down."""
        self.output_doubtful = False
        """Whether the disk was full meanwhile: conmon drops then what it cannot write."""
        self.writing = threading.Lock()
        """Held by a thread that writes into its record what must not come after the closing."""
        self.dropped_bytes = 0
        """What was cut off the raw log already, because it had outgrown the limit."""
        self._followers: set[Hint] = set()

    @classmethod
    def of(cls, admitted: Admitted, whose: names.Identity, audit_root: Path) -> Session:
        """A session that begins now; its record is not made yet."""
        start = start_facts(admitted, whose, datetime.datetime.now(datetime.UTC))
        record = Record.of(audit_root, start.agent, start.session_id)
        return cls(start, record, masking.needles(admitted.invocation.sensitive_values))

    @property
    def id(self) -> str:
        """16 lowercase hex digits, its name everywhere."""
        return self.start.session_id

    @property
    def output_complete(self) -> bool:
        """Whether nothing will be added to its output any more."""
        return self.phase.value in {"closing", "ended"}

    @property
    def info(self) -> wire.SessionInfo:
        """What clients are told of it while it lives."""
        return wire.SessionInfo(
            session_id=self.id,
            agent=self.start.agent,
            state=self._state,
            started_at=self.start.start_timestamp,
            record=str(self.record.directory),
            trigger=self.start.trigger,
            deadline=self.start.deadline,
            work_unit=self.start.work_unit,
        )

    @property
    def _state(self) -> wire.SessionState:
        if self.output_complete:
            return "closing"
        if self.intent is not None:
            return "stopping"
        return "running" if self.phase.value == "running" else "starting"

    def bound_to_log(self) -> AbstractContextManager[None]:
        """Every line logged inside says that it is about this session."""
        return session_bound(self.id, self.start.agent, self.start.container_name)

    @contextmanager
    def waking(self, follower: Hint) -> Iterator[None]:
        """Give `follower` a hint, while inside, when it ends."""
        self._followers.add(follower)
        try:
            yield
        finally:
            self._followers.discard(follower)

    def check_wanted(self) -> None:
        """Raise `StoppedBeforeStart` when it was asked to stop already."""
        if self.intent is not None:
            raise StoppedBeforeStart("the session was stopped before its container was started")

    def complete_output(self, ended: Ended) -> None:
        """Say how it ended, and that nothing will be added to the output any more."""
        self.ended = ended
        self.phase.value = "closing"
        self._wake_followers()

    def finish(self, teardown_error: str | None) -> None:
        """Say that nothing of it goes on any more; the last thing that happens to a session.

        One that has not ended goes on with the next daemon.
        """
        left = HandedOver(
            f"agentd has left session {self.id} to its successor:"
            f" 'agentd logs -f {self.id}' shows it once that runs"
        )
        self.complete_output(self.ended or Ended(left))
        self.teardown_error = teardown_error
        self.phase.value = "ended"

    async def wait_end(self) -> Ended:
        """Wait for the end of all of it, teardown and sealing included; gives how it ended."""
        await self.phase.wait_value("ended")
        assert self.ended is not None
        return self.ended

    def _wake_followers(self) -> None:
        for follower in self._followers:
            follower.give()


def _on_trios_clock(deadline: datetime.datetime | None) -> float:
    if deadline is None:
        return float("inf")
    left = deadline - datetime.datetime.now(datetime.UTC)
    return trio.current_time() + left.total_seconds()
