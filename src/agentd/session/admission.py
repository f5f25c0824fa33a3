"""Everything that can refuse a run, before anything of it exists.

After `admit` only the host can fail a session: Podman, the disk, the image's own tools.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio

from .. import audit, methodology
from ..errors import HostUnsupported, MountUnusable
from ..methodology import Document
from .engine import Engine
from .image import check_reference, obtain_image
from .invocation import Invocation
from .spec import Admitted, check_limits

DISK_SECONDS: Final = 30.0
"""The bound of the checks on disk, which take milliseconds on one that works."""


async def admit(
    invocation: Invocation, engine: Engine, progress: Callable[[str], None]
) -> Admitted:
    """Check what lies on disk and in Podman; `progress` gets lines of an image pull.

    Raises:
        AuditError, MethodologyUnusable, InputRefused, MountUnusable, HostUnsupported,
        ImageUnavailable, PodmanError: why there will be no session.
    """
    agent = invocation.agent
    check_reference(agent)
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
    image = await obtain_image(engine.podman, agent, progress)
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
