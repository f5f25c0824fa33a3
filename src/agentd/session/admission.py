"""Everything that can refuse a run, before anything of it exists.

After `admit` only the host can fail a session: Podman, the disk, the image's own tools.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .. import audit, methodology
from ..config import Agent
from ..errors import HostUnsupported, MountUnusable
from ..methodology import Document
from ..podman import Podman
from .disk import DISK_SECONDS, on_disk
from .engine import Engine
from .image import check_reference, obtain_image
from .invocation import Invocation
from .spec import NETWORK_MODES, Admitted, check_limits


async def admit(
    invocation: Invocation, engine: Engine, progress: Callable[[str], None]
) -> Admitted:
    """Check what lies on disk and in Podman; `progress` gets lines of an image pull.

    Raises:
        AuditError, DiskTimeout, MethodologyUnusable, InputRefused, MountUnusable, HostUnsupported,
        ImageUnavailable, PodmanError: why there will be no session.
    """
    agent = invocation.agent
    check_reference(agent)
    check_limits(agent, engine.abilities)
    document, mount_sources = await on_disk(
        DISK_SECONDS,
        f"the file system of the audit root, the methodology or a mount of agent '{agent.name}'",
        _check_disk,
        invocation,
        engine,
    )
    await check_network(engine.podman, agent)
    image = await obtain_image(engine.podman, agent, progress)
    return Admitted(
        invocation=invocation, document=document, mount_sources=mount_sources, image=image
    )


def _check_disk(invocation: Invocation, engine: Engine) -> tuple[Document | None, tuple[str, ...]]:
    agent = invocation.agent
    audit.check(engine.audit_root, engine.audit_place)
    methodology.check(agent.methodology_dir)
    document = (
        None
        if invocation.input is None
        else methodology.resolve_input(agent.methodology_dir, invocation.input)
    )
    return document, tuple(resolved_source(mount.source) for mount in agent.mounts)


def resolved_source(source: str) -> str:
    """The path that a mount source leads to. Blocking. Raises `MountUnusable`."""
    try:
        resolved = str(Path(source).resolve(strict=True))
    except FileNotFoundError:
        raise MountUnusable(f"mount source path does not exist: {source}") from None
    except (OSError, RuntimeError) as error:
        raise MountUnusable(f"mount source cannot be resolved: {source}: {error}") from error
    try:
        resolved.encode()
    except UnicodeEncodeError:
        raise MountUnusable(
            f"mount source {source} leads to {resolved!r}, and Podman takes UTF-8 paths only"
        ) from None
    return resolved


async def check_network(podman: Podman, agent: Agent) -> None:
    """Refuse a Podman network that does not exist. Raises `HostUnsupported` or `PodmanError`."""
    name = agent.network
    if name not in NETWORK_MODES and not await podman.has_network(name):
        raise HostUnsupported(
            f"there is no network '{name}', which agent '{agent.name}' wants:"
            f" 'podman network create {name}' makes one, as the user of the Podman service"
        )
