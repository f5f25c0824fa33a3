"""The daemon's life: claim, serve, drain."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import trio

from .. import audit, config, names
from ..client import Client
from ..logs import log
from ..podman import open_podman
from ..session.engine import STARTING_AT_ONCE, Engine
from ..session.spec import HostAbilities
from ..supervisor import Supervisor, open_supervisor
from ..watch import open_watcher
from .accepting import accept_connections
from .answers import Answers
from .declared import Declared
from .health import Health
from .history import History
from .intake import Intake
from .notify import notifying
from .podman_host import find_podman
from .runtime import claimed_pid_file, claimed_socket
from .scheduler import Scheduler
from .signals import Shutdown, obeying_signals
from .zone import local_zone

FAREWELL_SECONDS: Final = 5.0
"""After the last session has ended, how long its clients may take to read how."""


async def run_daemon(settings: config.Config, environ: Mapping[str, str]) -> None:
    """Run until a first SIGINT or SIGTERM, and on until the last session has ended.

    `settings` has its runtime paths resolved, as `config.load` leaves it.

    Raises:
        AgentdError: it could not start, or not go on. Alone or in a group.
        ShutdownForced: a second signal ended it before its sessions had ended.
    """
    async with (
        obeying_signals(settings.daemon.shutdown_grace) as shutdown,
        _claimed_engine(settings, environ) as engine,
    ):
        await _serve(settings, engine, shutdown, environ)
    log.info("agentd.daemon_stopped")
    if shutdown.fault is not None:
        raise shutdown.fault


@asynccontextmanager
async def _claimed_engine(
    settings: config.Config, environ: Mapping[str, str]
) -> AsyncIterator[Engine]:
    """All that sessions need, with the PID file locked: nothing is claimed that cannot work."""
    daemon = settings.daemon
    assert daemon.socket_path is not None
    assert daemon.pid_file is not None
    audit_root = config.resolve_audit_root(daemon, environ)
    instance = names.instance_id(str(daemon.socket_path), str(daemon.pid_file), str(audit_root))
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
    await trio.to_thread.run_sync(audit.prepare, audit_root)
    audit_place = await trio.to_thread.run_sync(audit.place, audit_root)
    with claimed_pid_file(daemon.pid_file):
        async with open_podman(podman_socket) as podman, open_watcher() as watcher:
            yield Engine(
                podman=podman,
                watcher=watcher,
                abilities=abilities,
                instance=instance,
                audit_root=audit_root,
                audit_place=audit_place,
                masks_dir=daemon.pid_file.parent / "masks" / instance,
                grace_seconds=daemon.shutdown_grace,
                starting=trio.CapacityLimiter(STARTING_AT_ONCE),
            )


async def _serve(
    settings: config.Config, engine: Engine, shutdown: Shutdown, environ: Mapping[str, str]
) -> None:
    """Take requests in until the first signal, then wait for the last session and its client."""
    socket_path = settings.daemon.socket_path
    assert socket_path is not None
    scheduler = _scheduler(settings, environ, socket_path)
    async with trio.open_nursery() as handlers:
        async with (
            notifying(environ) as notifier,
            open_supervisor(settings, engine) as supervisor,
        ):
            shutdown.serving = True
            health = Health(supervisor, engine)
            await supervisor.adopt()
            answers = Answers(
                supervisor,
                Declared(settings, supervisor, engine.audit_root, scheduler),
                History(supervisor, engine.audit_root),
                health,
                shutdown,
            )
            intake = Intake(answers.give)
            with claimed_socket(socket_path) as listener:
                async with trio.open_nursery() as accepting:
                    await accepting.start(
                        accept_connections, listener, intake.serve, handlers, shutdown.fail
                    )
                    log.info(
                        "agentd.daemon_started",
                        socket_path=str(socket_path),
                        pid_file=str(settings.daemon.pid_file),
                    )
                    notifier.ready(supervisor, health)
                    accepting.start_soon(scheduler.run)
                    await shutdown.draining.wait()
                    accepting.cancel_scope.cancel()
            notifier.stopping()
            intake.drain()
            supervisor.drain()
            async with trio.open_nursery() as waiting:
                waiting.start_soon(_leave_when_asked, shutdown, supervisor)
                await supervisor.wait_empty()
                waiting.cancel_scope.cancel()
        shutdown.complete.set()
        handlers.cancel_scope.deadline = trio.current_time() + FAREWELL_SECONDS


async def _leave_when_asked(shutdown: Shutdown, supervisor: Supervisor) -> None:
    await shutdown.leaving.wait()
    await supervisor.leave()


def _scheduler(settings: config.Config, environ: Mapping[str, str], socket_path: Path) -> Scheduler:
    """A client of this daemon's own socket; the zone matters only where something is scheduled."""
    scheduled = any(agent.schedule is not None for agent in settings.agents)
    zone = local_zone(environ) if scheduled else ZoneInfo("UTC")
    return Scheduler(settings.agents, zone, Client(socket_path).dispatch)
