"""Everything that can refuse a run, before anything of it exists.

After `admit` only the host can fail a session: Podman, the disk, the image's own tools.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio

from .. import audit, methodology
from ..config import Agent
from ..errors import HostUnsupported, ImageUnavailable, MountUnusable, PodmanError
from ..methodology import Document
from ..podman import Image, Podman
from .engine import Engine
from .invocation import Invocation
from .spec import Admitted, check_limits

PULL_ATTEMPTS: Final = 3
PULL_ATTEMPT_SECONDS: Final = 1800.0
PULL_PAUSE_SECONDS: Final = 2.0
DISK_SECONDS: Final = 30.0
"""The bound of the checks on disk, which take milliseconds on one that works."""


async def admit(
    invocation: Invocation, engine: Engine, progress: Callable[[str], None]
) -> Admitted:
    """Check what lies on disk and in Podman; `progress` gets the lines of an image pull.

    Raises:
        AuditError, MethodologyUnusable, InputRefused, MountUnusable, HostUnsupported,
        ImageUnavailable, PodmanError: why there will be no session.
    """
    agent = invocation.agent
    check_limits(agent, engine.abilities)
    with trio.move_on_after(DISK_SECONDS) as scope:
        document, mount_sources = await trio.to_thread.run_sync(
            _check_disk, invocation, engine.audit_root, abandon_on_cancel=True
        )
    if scope.cancelled_caught:
        raise HostUnsupported(
            f"the file system of the audit root, the methodology or a mount of agent"
            f" '{agent.name}' has not answered for {DISK_SECONDS:g} s"
        )
    image = await _image(engine.podman, agent, progress)
    return Admitted(
        invocation=invocation, document=document, mount_sources=mount_sources, image=image
    )


def _check_disk(
    invocation: Invocation, audit_root: Path
) -> tuple[Document | None, tuple[str, ...]]:
    agent = invocation.agent
    audit.prepare(audit_root)
    methodology.check(agent.methodology_dir)
    document = (
        None
        if invocation.input is None
        else methodology.resolve_input(agent.methodology_dir, invocation.input)
    )
    return document, tuple(_resolved(mount.source) for mount in agent.mounts)


def _resolved(source: str) -> str:
    try:
        return str(Path(source).resolve(strict=True))
    except FileNotFoundError:
        raise MountUnusable(f"mount source path does not exist: {source}") from None
    except (OSError, RuntimeError) as error:
        raise MountUnusable(f"mount source cannot be resolved: {source}: {error}") from error


async def _image(podman: Podman, agent: Agent, progress: Callable[[str], None]) -> Image:
    """The local image that the agent's sessions start from, pulled as its policy says."""
    local = await podman.image(agent.base_image)
    if agent.pull == "never" or (agent.pull == "missing" and local is not None):
        if local is None:
            raise ImageUnavailable(
                f"image '{agent.base_image}' is not on this host and agent '{agent.name}' has"
                ' pull = "never": pull or build it first'
            )
        return local
    image_id = await _pull(podman, agent, progress)
    pulled = await podman.image(image_id)
    if pulled is None:
        raise ImageUnavailable(f"image '{agent.base_image}' was pulled and is gone again")
    return pulled


async def _pull(podman: Podman, agent: Agent, progress: Callable[[str], None]) -> str:
    reason = f"not done within {PULL_ATTEMPT_SECONDS:g} s"
    for attempt in range(PULL_ATTEMPTS):
        if attempt:
            progress(f"pulling again: {reason}")
            await trio.sleep(PULL_PAUSE_SECONDS * attempt)
        with trio.move_on_after(PULL_ATTEMPT_SECONDS):
            try:
                return await podman.pull(agent.base_image, agent.pull, progress)
            except PodmanError as error:
                reason = str(error)
    raise ImageUnavailable(f"image '{agent.base_image}' cannot be pulled: {reason}")
