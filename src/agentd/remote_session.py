"""A session of a daemon, as a client follows it."""

from __future__ import annotations

from pathlib import Path
from typing import Final, TypeAlias

from . import wire
from .exchange import Events
from .outcome import Outcome

SessionEvent: TypeAlias = (
    wire.Progress | wire.Queued | wire.Accepted | wire.StateChanged | wire.Output
)
"""What a run tells before its end, in this order: what it waits for, which session it became, and
what that writes, between its states."""

SESSION_EVENTS: Final[tuple[type[SessionEvent], ...]] = (
    wire.Progress,
    wire.Queued,
    wire.Accepted,
    wire.StateChanged,
    wire.Output,
)


class RemoteSession:
    """A session that a client has asked for, and its events, to iterate over until it ends.

    A loop over it may be left and taken up again, also by a cancellation: no event is lost.
    """

    def __init__(self, events: Events[SessionEvent, wire.Finished]) -> None:
        self._events = events
        self.id: str | None = None
        """Its id, once it has one: with `Accepted`, or `Queued` before."""
        self.record: Path | None = None
        """Its record on the daemon's host, once it exists: with `Accepted`."""

    def __aiter__(self) -> RemoteSession:
        return self

    async def __anext__(self) -> SessionEvent:
        """The next event.

        Raises:
            ConnectionLost: the daemon went away; its successor takes the session up.
            AgentdError: the run was refused, or its session ended without an outcome; the class is
                the one that the daemon raised.
        """
        event = await anext(self._events)
        if isinstance(event, wire.Queued | wire.Accepted):
            self.id = event.session_id
        if isinstance(event, wire.Accepted):
            self.record = Path(event.record)
        return event

    @property
    def finished(self) -> wire.Finished | None:
        """Its end, once the iteration has come to it."""
        return self._events.last

    @property
    def outcome(self) -> Outcome | None:
        """How it ended, once the iteration has come to it."""
        return None if self.finished is None else self.finished.outcome

    async def wait(self) -> wire.Finished:
        """Pass over the events that are left; gives the end. Raises as iterating does."""
        async for _ in self:
            pass
        assert self.finished is not None
        return self.finished
