"""The daemon's life: claim, serve, drain."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import trio

from .. import config
from ..claim import claimed_engine
from ..client import Client
from ..logs import log
from ..metrics import Metrics
from ..runtime import claimed_socket
from ..session.engine import Engine
from ..supervisor import Supervisor, open_supervisor
from .accepting import accept_connections
from .answers import Answers
from .declared import Declared
from .health import Health
from .history import History
from .intake import Intake
from .notify import notifying
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
        claimed_engine(settings.daemon, environ) as engine,
    ):
        await _serve(settings, engine, shutdown, environ)
    log.info("agentd.daemon_stopped")
    if shutdown.fault is not None:
        raise shutdown.fault


async def _serve(
    settings: config.Config, engine: Engine, shutdown: Shutdown, environ: Mapping[str, str]
) -> None:
    """Take requests in until the first signal, then wait for the last session and its client."""
    socket_path = settings.daemon.socket_path
    assert socket_path is not None
    scheduler = _scheduler(settings, environ, socket_path, engine.metrics)
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


def _scheduler(
    settings: config.Config, environ: Mapping[str, str], socket_path: Path, metrics: Metrics
) -> Scheduler:
    """A client of this daemon's own socket; the zone matters only where something is scheduled."""
    scheduled = any(agent.schedule is not None for agent in settings.agents)
    zone = local_zone(environ) if scheduled else ZoneInfo("UTC")
    return Scheduler(settings.agents, zone, Client(socket_path).dispatch, metrics=metrics)
