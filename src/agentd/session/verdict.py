"""From what Podman recorded of a container's end to what the session's end is called. Pure."""

from __future__ import annotations

import datetime
from typing import Final

import msgspec

from ..audit import Intent
from ..errors import AgentdError, ContainerVanished, ExitCodeLost, ForcedShutdown, HostRebooted
from ..outcome import TIMED_OUT, Outcome, from_exit_code
from ..podman import ContainerState

_LOST: Final = -1
"""Podman's exit code where it has none: conmon was killed, or enforced its own time-out."""

_KILLED: Final = (128 + 9, _LOST)
"""What a container's exit code is after SIGKILL, with a monitor and without."""


class Ended(msgspec.Struct, frozen=True):
    """A session's end: what it is called, and the facts that say so."""

    result: Outcome | AgentdError
    state: ContainerState | None = None
    intent: Intent | None = None

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
    intent: Intent | None,
    deadline: datetime.datetime | None,
) -> Ended:
    """Name a session's end, from the container's state and agentd's own deeds.

    A container that ended by itself before agentd laid hands on it has the end that it earned,
    also when a deadline passed while that became known. One that was asked to stop has the end
    that it made of it. `state` is None when Podman knows no such container; a state that is not
    finished means that Podman could not end it in time.
    """
    if intent is not None and state is not None and _ended_by_itself(state, intent):
        intent = None
    cause = None if intent is None else intent.cause
    result: Outcome | AgentdError
    if cause == "timeout":
        result = TIMED_OUT
    elif cause == "forced":
        result = ForcedShutdown("agentd was forced down and killed the session")
    else:
        result = _earned(state, deadline)
    return Ended(result, state, intent)


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


def _ended_by_itself(state: ContainerState, intent: Intent) -> bool:
    """Whether the intent came too late, or was never acted on by a daemon that was killed then."""
    if _ended_before(state, intent.when):
        return True
    return intent.cause != "stop" and state.finished and state.exit_code not in _KILLED


def _ended_before(state: ContainerState, when: datetime.datetime) -> bool:
    return state.finished and state.finished_at is not None and state.finished_at < when
