"""Everything that can refuse a run, before anything of it exists.

After `admit` only the host can fail a session: Podman, the disk, the image's own tools.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from .. import audit, methodology
from ..config import Agent
from ..errors import HostUnsupported, MountUnusable
from ..methodology import Document
from ..podman import Podman
from .disk import DISK_SECONDS, on_disk
from .engine import Engine
from .image import check_reference, obtain_image
from .invocation import Invocation
from .spec import NETWORK_MODES, Admitted, HostAbilities, check_limits


class Examined(NamedTuple):
    """What the checks found on disk."""

    document: Document | None
    mount_sources: tuple[str, ...]


async def admit(
    invocation: Invocation, engine: Engine, progress: Callable[[str], None]
) -> Admitted:
    """Check what lies on disk and in Podman; `progress` gets lines of an image pull.

    Raises:
        AuditError, DiskTimeout, MethodologyUnusable, InputRefused, MountUnusable, HostUnsupported,
        ImageUnavailable, PodmanError: why there will be no session.
    """
    found = await examine(
        invocation,
        engine.podman,
        engine.abilities,
        partial(audit.check, engine.audit_root, engine.audit_place),
    )
    image = await obtain_image(engine.podman, invocation.agent, progress)
    return Admitted(
        invocation=invocation,
        document=found.document,
        mount_sources=found.mount_sources,
        image=image,
    )


async def examine(
    invocation: Invocation,
    podman: Podman,
    abilities: HostAbilities,
    check_audit_root: Callable[[], None],
) -> Examined:
    """All of admission but the image. Changes nothing, if `check_audit_root` does not.

    Raises what `admit` raises, but for `ImageUnavailable` of a pull.
    """
    agent = invocation.agent
    check_reference(agent)
    check_limits(agent, abilities)
    found = await on_disk(
        DISK_SECONDS,
        f"the file system of the audit root, the methodology or a mount of agent '{agent.name}'",
        _check_disk,
        invocation,
        check_audit_root,
    )
    await check_network(podman, agent)
    return found


def _check_disk(invocation: Invocation, check_audit_root: Callable[[], None]) -> Examined:
    agent = invocation.agent
    check_audit_root()
    methodology.check(agent.methodology_dir)
    document = (
        None
        if invocation.input is None
        else methodology.resolve_input(agent.methodology_dir, invocation.input)
    )
    return Examined(document, tuple(resolved_source(mount.source) for mount in agent.mounts))


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
