"""How parts of a session are given back: shielded, within a bound, and without raising.

A failure to clean up must not replace the end of the session, nor the cancellation in flight, so
it is noted here. A session with a note keeps its record incomplete: the sign for the operator that
something of it may still be there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, Literal, TypeAlias

import trio

from ..errors import AgentdError, PodmanError
from ..logs import log

TEARDOWN_SECONDS: Final = 60.0
"""The bound of each step; a daemon that is forced down does not wait for it."""

INSIST_SECONDS: Final = 10.0
"""How long a Podman that refuses, or is away, is asked again: a service restarts in less."""

RETRY_SECONDS: Final = 1.0
"""Between two requests to it."""


Stage: TypeAlias = Literal[
    "session resource allocation",
    "container creation",
    "session execution",
    "secret release",
    "session audit finalization",
]
"""How far a session had come when something went wrong."""


class Teardown:
    """The notes of one session's clean-up."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.stage: Stage = "session resource allocation"
        """How far the session has come; what is given back later does not change it."""

    @property
    def error(self) -> str | None:
        """All that went wrong, in one sentence each, or None when everything is gone."""
        return "; ".join(self.failures) or None

    @contextmanager
    def step(self, step: str) -> Iterator[None]:
        """Await what is to be done inside; whatever goes wrong is noted under its name, `step`."""
        with trio.move_on_after(TEARDOWN_SECONDS, shield=True) as scope:
            try:
                yield
            except AgentdError as error:
                self.note(step, str(error))
        if scope.cancelled_caught:
            self.note(step, f"not done within {TEARDOWN_SECONDS:g} s")

    async def insist(self, step: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work`, which may be repeated, as a step; again while Podman fails it."""
        with self.step(step):
            give_up = trio.current_time() + INSIST_SECONDS
            while True:
                try:
                    return await work()
                except PodmanError as error:
                    if trio.current_time() >= give_up:
                        raise
                    log.debug("runner.podman_unavailable", error=str(error))
                await trio.sleep(RETRY_SECONDS)

    def note(self, step: str, error: str) -> None:
        """Record a failure."""
        self.failures.append(f"{step}: {error}")
        log_failure(self.stage, step, error)


def log_failure(stage: Stage, step: str, error: str) -> None:
    """Log that something of a session's work failed; how the session ended stands all the same."""
    log.warning(
        "runner.lifecycle_failure", lifecycle_kind="cleanup", stage=stage, step=step, error=error
    )
