"""From what Podman recorded of a container's end to what the session's end is called. Pure."""

from __future__ import annotations

import datetime
from typing import Final, Literal

import msgspec

from ..errors import AgentdError, ContainerVanished, ExitCodeLost, ForcedShutdown, HostRebooted
from ..outcome import TIMED_OUT, Outcome, from_exit_code
from ..podman import ContainerState

Cause = Literal["timeout", "stop", "forced"]
"""Why agentd ended a container that had not ended by itself."""

_LOST: Final = -1
"""Podman's exit code where it has none: conmon was killed, or enforced its own time-out."""


class Interruption(msgspec.Struct, frozen=True):
    """agentd is about to end the container: why, and since when."""

    cause: Cause
    when: datetime.datetime


class Ended(msgspec.Struct, frozen=True):
    """A session's end: what it is called, and the facts that say so."""

    result: Outcome | AgentdError
    state: ContainerState | None = None
    interruption: Interruption | None = None

    @property
    def outcome(self) -> Outcome | None:
        """The labelled end, or None when there is only an error."""
        return self.result if isinstance(self.result, Outcome) else None

    @property
    def error(self) -> AgentdError | None:
        """Why there is no outcome, or None when there is one."""
        return self.result if isinstance(self.result, AgentdError) else None


def judge(
    state: ContainerState | None,
    interruption: Interruption | None,
    deadline: datetime.datetime | None,
) -> Ended:
    """Name a session's end, from the container's state and agentd's own deeds.

    A container that ended by itself before agentd laid hands on it has the end that it earned,
    also when a deadline passed while that became known. One that was asked to stop has the end
    that it made of it. `state` is None when Podman knows no such container; a state that is not
    finished means that Podman could not end it in time.
    """
    if interruption is not None and state is not None and _ended_before(state, interruption.when):
        interruption = None
    cause = None if interruption is None else interruption.cause
    result: Outcome | AgentdError
    if cause == "timeout":
        result = TIMED_OUT
    elif cause == "forced":
        result = ForcedShutdown("agentd was forced down and killed the session")
    else:
        result = _earned(state, deadline)
    return Ended(result, state, interruption)


def _earned(
    state: ContainerState | None, deadline: datetime.datetime | None
) -> Outcome | AgentdError:
    if state is None:
        return ContainerVanished("the session's container was removed by somebody else")
    if state.lost:
        return HostRebooted("the host went down while the session ran")
    if not state.finished:
        return ExitCodeLost(
            f"Podman says '{state.status}' of a container that is over, and has no exit code;"
            " its monitor, conmon, may have been killed"
        )
    if state.exit_code == _LOST:
        if deadline is not None and not _ended_before(state, deadline):
            return TIMED_OUT
        return ExitCodeLost("the session's container ended and Podman lost its exit code")
    return from_exit_code(state.exit_code)


def _ended_before(state: ContainerState, when: datetime.datetime) -> bool:
    return state.finished and state.finished_at is not None and state.finished_at < when
