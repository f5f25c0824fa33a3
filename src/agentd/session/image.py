"""The image that an agent's sessions start from: on the host already, or pulled as its policy says.

A pull is tried a few times within a bound, and only as long as another attempt may help.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

import trio

from ..config import Agent
from ..errors import ImageUnavailable, PodmanError, PodmanTimeout
from ..logs import log
from ..podman import Image, Podman

PULL_PAUSES: Final = (2.0, 5.0)
"""Seconds before the second and the third attempt: a registry that restarts is back by then.

Podman itself tries a refused connection for 3 s in each attempt.
"""

PULL_ATTEMPT_SECONDS: Final = 1800.0
PULL_SECONDS: Final = 3600.0
"""The bound of all attempts together: one that hangs leaves time for another."""

Progress = Callable[[str], None]


# --- the reference -------------------------------------------------------------------------------

# The grammar of the distribution project's reference package, which Podman uses. It takes image ids
# too. ASCII only, and `fullmatch`: `$` would pass a newline at the end.
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_WORD = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_DIGEST = r"[a-zA-Z][a-zA-Z0-9]*(?:[-_+.][a-zA-Z][a-zA-Z0-9]*)*:[0-9a-fA-F]{32,}"
_REFERENCE = re.compile(
    rf"(?:{_HOST}/)?{_WORD}(?:/{_WORD})*(?::[a-zA-Z0-9_][a-zA-Z0-9_.-]{{0,127}})?(?:@{_DIGEST})?"
)


def check_reference(agent: Agent) -> None:
    """Refuse a `base_image` of which the text alone says that no image can have that name.

    Raises:
        ImageUnavailable: with what is wrong and the form that is wanted.
    """
    reference = agent.base_image
    if _REFERENCE.fullmatch(reference):
        return
    transport = ", without a transport such as docker://" if "://" in reference else ""
    raise ImageUnavailable(
        f"base_image {reference!r} of agent '{agent.name}' is no image reference: write it as"
        f" [registry[:port]/]name[:tag][@digest], the name in lower case{transport}"
    )


# --- the image -----------------------------------------------------------------------------------


async def obtain_image(podman: Podman, agent: Agent, progress: Progress) -> Image:
    """The local image that the agent's sessions start from; `progress` gets lines of its pull.

    Raises:
        ImageUnavailable: it is not here and must not or cannot be pulled.
        PodmanError: Podman does not say what it has.
    """
    local = await local_image(podman, agent)
    if local is not None and not asks_registry(agent):
        return local
    image_id = await _pull(podman, agent, progress)
    pulled = await podman.image(image_id)
    if pulled is None:
        raise ImageUnavailable(f"image '{agent.base_image}' was pulled and is gone again")
    return pulled


async def local_image(podman: Podman, agent: Agent) -> Image | None:
    """The agent's image as it lies on this host now, or None when it is to be pulled.

    Raises:
        ImageUnavailable: it is not here and must not be pulled.
        PodmanError: Podman does not say what it has.
    """
    local = await podman.image(agent.base_image)
    if local is None and agent.pull == "never":
        raise ImageUnavailable(
            f"image '{agent.base_image}' is not on this host and agent '{agent.name}' has"
            ' pull = "never": pull or build it first, as the user of the Podman service'
        )
    return local


def asks_registry(agent: Agent) -> bool:
    """Whether the agent's image is asked for though it is here already."""
    return agent.pull in {"always", "newer"}


async def _pull(podman: Podman, agent: Agent, progress: Progress) -> str:
    """The id of the pulled image."""
    reason = ""
    with trio.move_on_after(PULL_SECONDS):
        for number, pause in enumerate((*PULL_PAUSES, None), start=1):
            facts = {"agent": agent.name, "image": agent.base_image, "attempt": number}
            log.info("agentd.image_pull_started", **facts)
            try:
                return await _attempt(podman, agent, progress)
            except PodmanError as error:
                reason = error.message
            log.warning("agentd.image_pull_failed", **facts, error=reason)
            if pause is None or explain(reason).final:
                break
            progress(f"the pull failed: {reason}; trying again in {pause:g} s")
            await trio.sleep(pause)
    advice = explain(reason).advice
    raise ImageUnavailable(f"image '{agent.base_image}' cannot be pulled: {reason}; {advice}")


async def _attempt(podman: Podman, agent: Agent, progress: Progress) -> str:
    with trio.move_on_after(PULL_ATTEMPT_SECONDS):
        return await podman.pull(agent.base_image, agent.pull, progress)
    raise PodmanTimeout(f"the pull was not done within {PULL_ATTEMPT_SECONDS:g} s")


class Explanation(NamedTuple):
    """What to do about a failed pull, and whether another attempt is of no use."""

    advice: str
    final: bool


_LOGIN = "log in with 'podman login' as the user of the Podman service"
_NAME = "check the image's name and tag"

# Parts of Podman's texts, seen on 4.3.1 and 5.4.2. None fits into a reference, which the texts
# quote: a reference holds no space.
_FINAL: Final = {
    ": unauthorized": _LOGIN,
    "authentication required": _LOGIN,
    ": denied": _LOGIN,
    " is denied": _LOGIN,
    ": manifest unknown": _NAME,
    ": name unknown": _NAME,
    "invalid reference format": _NAME,
    "name must be lowercase": _NAME,
    "did not resolve to an alias": "write the registry's host before the image's name",
    "referred to by ID": 'an image id needs pull = "missing" or "never"',
    "server gave HTTP response to HTTPS client": (
        "serve the registry over TLS, or mark it as insecure in the registries.conf of Podman"
    ),
    ": x509: ": "give Podman the certificate of the registry's authority, below certs.d",
}


def explain(reason: str) -> Explanation:
    """Read the text of a failed pull; one that is not known may pass by itself."""
    for part, advice in _FINAL.items():
        if part in reason:
            return Explanation(advice, final=True)
    return Explanation("check that this host can reach the registry", final=False)
