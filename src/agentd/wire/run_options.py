"""A run as a program asks for it: keyword arguments, and the request that they become."""

from __future__ import annotations

from typing import Literal, TypedDict

from ..errors import InvalidInvocation
from .coding import checked
from .requests import ArtifactInput, Run, TextInput


class RunOptions(TypedDict, total=False):
    """What may be said of a run beside its agent. What is left out is None."""

    repo: str | None
    """The URL of the repository to clone, instead of the agent's own."""

    work_unit: str | None
    """Queued work that the session is to take up."""

    request: str | None
    """What is wanted, in words."""

    artifact: ArtifactInput | None
    """A JSON document that becomes an artifact."""

    timeout: float | None
    """Seconds that the session may take, in place of the agent's own."""

    trigger: Literal["manual", "schedule"]
    """Manual, unless the program is a scheduler: the agent's `overlap` then applies."""


def run_request(
    agent: str,
    *,
    repo: str | None = None,
    work_unit: str | None = None,
    request: str | None = None,
    artifact: ArtifactInput | None = None,
    timeout: float | None = None,
    trigger: Literal["manual", "schedule"] = "manual",
    detach: bool = False,
) -> Run:
    """The request for a run of `agent`, from `RunOptions`.

    Raises:
        InvalidInvocation: a value is none that a run can have, or they contradict each other.
    """
    if request is not None and artifact is not None:
        raise InvalidInvocation("request and artifact cannot be used together: a run has one input")
    return checked(
        Run(
            agent=agent,
            repo_url=repo,
            work_unit=work_unit,
            input=artifact if request is None else TextInput(description=request),
            timeout=timeout,
            trigger=trigger,
            detach=detach,
        )
    )
