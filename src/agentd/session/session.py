"""A live session as others see it: what it is, where it stands, and how it ended."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from .. import masking, names
from ..audit import Record
from ..errors import ForcedShutdown
from ..watch import Hint
from .spec import Admitted
from .verdict import Ended


class Session:
    """One session from the moment at which its record is about to be made."""

    def __init__(self, admitted: Admitted, instance: str, audit_root: Path) -> None:
        self.admitted = admitted
        self.invocation = admitted.invocation
        self.agent = admitted.invocation.agent
        self.id = names.new_session_id()
        self.whose = names.Identity(instance, self.id)
        self.container_name = names.container_name(self.whose, self.agent.name)
        self.record = Record.of(audit_root, self.agent.name, self.id)
        self.started_at = datetime.datetime.now(datetime.UTC)
        self.clock_started_at = trio.current_time()
        self.needles = masking.needles(self.invocation.sensitive_values)
        self.hint = Hint()
        """Wakes the session when its container may have ended."""
        self.ended: Ended | None = None
        """How it ended, once that is known; clean-up and sealing come after it."""
        self.teardown_error: str | None = None
        """What of it could not be removed; None means that nothing is left but the record."""
        self.output_complete = False
        self.dropped_bytes = 0
        """What was cut off the raw log already, because it had outgrown the limit."""
        self._finished = trio.Event()
        self._followers: set[Hint] = set()

    @property
    def deadline(self) -> datetime.datetime | None:
        """The instant at which its time is up, or None without a time-out."""
        if self.agent.timeout is None:
            return None
        return self.started_at + datetime.timedelta(seconds=self.agent.timeout)

    @property
    def clock_deadline(self) -> float:
        """The same instant on Trio's clock, which no change of the wall clock moves."""
        return self.clock_started_at + (self.agent.timeout or float("inf"))

    @contextmanager
    def waking(self, follower: Hint) -> Iterator[None]:
        """Give `follower` a hint, while inside, when it ends."""
        self._followers.add(follower)
        try:
            yield
        finally:
            self._followers.discard(follower)

    def complete_output(self, ended: Ended) -> None:
        """Say how it ended, and that nothing will be added to the output any more."""
        self.ended = ended
        self.output_complete = True
        self._wake_followers()

    def finish(self, teardown_error: str | None) -> None:
        """Say that nothing of it goes on any more; the last thing that happens to a session."""
        forced = ForcedShutdown("agentd was forced down and killed the session")
        self.complete_output(self.ended or Ended(forced))
        self.teardown_error = teardown_error
        self._finished.set()

    async def wait_end(self) -> Ended:
        """Wait for the end of all of it, teardown and sealing included; gives how it ended."""
        await self._finished.wait()
        assert self.ended is not None
        return self.ended

    def _wake_followers(self) -> None:
        for follower in self._followers:
            follower.give()
