"""What sessions need, claimed: Podman is found, the audit root prepared, the PID file locked.

The daemon and a program that embeds a supervisor both begin here, so of one configuration only one
of them runs at a time, and either takes up what the other has left.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from . import audit, config, names
from .errors import ConfigError
from .logs import log
from .metrics import Metrics
from .podman import open_podman
from .podman_host import find_podman
from .runtime import claimed_pid_file
from .session.engine import STARTING_AT_ONCE, Engine
from .session.spec import HostAbilities
from .watch import open_watcher


@asynccontextmanager
async def claimed_engine(
    daemon: config.Daemon, environ: Mapping[str, str], forced: trio.Event
) -> AsyncIterator[Engine]:
    """All that sessions need, with the PID file locked: nothing is claimed that cannot work.

    Whoever sets `forced` has sessions killed that are cancelled then.

    Raises:
        ConfigError, RuntimePathError, AuditError: a path cannot be known or used.
        PodmanUnreachable, HostUnsupported: Podman does not answer, or cannot be used.
        AlreadyRunning: a daemon of this configuration runs, or a program that embeds one.
    """
    daemon = config.with_runtime_paths(daemon, environ)
    assert daemon.pid_file is not None
    audit_root = config.resolve_audit_root(daemon, environ)
    instance = _instance(daemon, audit_root)
    podman_socket, abilities = await _found_podman(daemon, environ)
    await trio.to_thread.run_sync(audit.prepare, audit_root)
    audit_place = await trio.to_thread.run_sync(audit.place, audit_root)
    with claimed_pid_file(daemon.pid_file):
        metrics = Metrics()
        async with (
            open_podman(podman_socket, metrics.podman_called) as podman,
            open_watcher() as watcher,
        ):
            yield Engine(
                podman=podman,
                watcher=watcher,
                abilities=abilities,
                instance=instance,
                audit_root=audit_root,
                audit_place=audit_place,
                masks_dir=daemon.pid_file.parent / "masks" / instance,
                starting=trio.CapacityLimiter(STARTING_AT_ONCE),
                metrics=metrics,
                forced=forced,
            )


def _instance(daemon: config.Daemon, audit_root: Path) -> str:
    try:
        return names.instance_id(str(daemon.socket_path), str(daemon.pid_file), str(audit_root))
    except ValueError as error:
        # Only a configuration that comes from no file can have such paths.
        raise ConfigError([str(error)]) from None


async def _found_podman(
    daemon: config.Daemon, environ: Mapping[str, str]
) -> tuple[Path, HostAbilities]:
    podman_socket, host = await find_podman(daemon.podman_socket, environ)
    abilities = HostAbilities.of(host)
    log.info(
        "agentd.podman_found",
        podman_socket=str(podman_socket),
        podman_version=host.podman_version,
        rootless=abilities.rootless,
        controllers=sorted(abilities.controllers),
    )
    if "pids" not in abilities.controllers:
        log.warning(
            "agentd.default_limits_unavailable",
            reason="no cgroup controller is delegated to this Podman",
            consequence="sessions run without the default limit of processes",
        )
    return podman_socket, abilities
