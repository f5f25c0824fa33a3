"""A live session as others see it: what it is, where it stands, and how it ended."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import trio

from .. import masking, names
from ..audit import Record
from ..errors import AgentdError
from ..outcome import Outcome
from ..watch import Hint
from .spec import Admitted


class SessionEnd(msgspec.Struct, frozen=True):
    """How a session ended: its outcome, or the error that left it without one.

    `teardown_error` says what of it could not be removed; None means that nothing is left but the
    record.
    """

    outcome: Outcome | None = None
    error: AgentdError | None = None
    teardown_error: str | None = None


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
        self.phase = "allocating"
        self.hint = Hint()
        """Wakes the session when its container may have ended."""
        self.output_complete = False
        self.end: SessionEnd | None = None
        self._ended = trio.Event()
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
        """Give `follower` a hint, while inside, whenever phase, output's end or end change."""
        self._followers.add(follower)
        try:
            yield
        finally:
            self._followers.discard(follower)

    def enter(self, phase: str) -> None:
        """Say what the session does now."""
        self.phase = phase
        self._wake_followers()

    def complete_output(self) -> None:
        """Say that nothing will be added to the output any more."""
        self.output_complete = True
        self._wake_followers()

    def finish(self, end: SessionEnd) -> None:
        """Say how it ended; the last thing that happens to a session."""
        self.end = end
        self._ended.set()
        self._wake_followers()

    async def wait_end(self) -> SessionEnd:
        """Wait for the end of the session, its teardown and the sealing of its record included."""
        await self._ended.wait()
        assert self.end is not None
        return self.end

    def _wake_followers(self) -> None:
        for follower in self._followers:
            follower.give()
