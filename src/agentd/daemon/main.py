"""The daemon's life: claim, serve, drain."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

import trio

from .. import config
from ..claim import claimed_engine
from ..client import Client
from ..current import Current
from ..logs import log
from ..panics import unfailing
from ..runtime import claimed_socket, clear_stale_socket, tell_unremoved
from ..session.engine import Engine
from ..supervisor import Supervisor, open_supervisor
from .accepting import accept_connections
from .answers import Answers
from .declared import Declared
from .health import Health
from .history import History
from .intake import Intake
from .notify import Notifier, notifying
from .reloading import Reloading
from .scheduler import Scheduler
from .signals import Shutdown, obeying_signals, receiving_hangups
from .zone import local_zone

FAREWELL_SECONDS: Final = 5.0
"""After the last session has ended, how long its clients may take to read how."""


async def run_daemon(settings: config.Config, path: Path, environ: Mapping[str, str]) -> None:
    """Run until a first SIGINT or SIGTERM, and on until the last session has ended.

    `settings` is what `config.load` read from `path`, which is absolute: it is read again there.

    Raises:
        AgentdError: it could not start, or not go on. Alone or in a group.
        ShutdownForced: a second signal ended it before its sessions had ended.
    """
    current = Current(settings)
    with receiving_hangups() as hangups, ExitStack() as at_last:
        async with (
            obeying_signals(lambda: current.config.daemon.shutdown_grace) as shutdown,
            claimed_engine(settings.daemon, environ, shutdown.forced) as engine,
        ):
            await _serve(
                current, engine, shutdown, environ, path=path, hangups=hangups, at_last=at_last
            )
    log.info("agentd.daemon_stopped")
    if shutdown.fault is not None:
        raise shutdown.fault


async def _serve(
    current: Current,
    engine: Engine,
    shutdown: Shutdown,
    environ: Mapping[str, str],
    *,
    path: Path,
    hangups: AsyncIterator[int],
    at_last: ExitStack,
) -> None:
    """Take requests in until the first signal, then wait for the last session and its client.

    `at_last` is left when nothing goes on any more.
    """
    daemon = current.config.daemon
    socket_path = daemon.socket_path
    assert socket_path is not None
    clear_stale_socket(socket_path)
    scheduler = Scheduler(
        current,
        partial(local_zone, environ),
        Client(socket_path).dispatch,
        metrics=engine.metrics,
    )
    scheduler.prepare(current.config)
    async with trio.open_nursery() as handlers:
        async with (
            notifying(environ) as notifier,
            open_supervisor(current, engine) as supervisor,
        ):
            shutdown.serving = True
            health = Health(supervisor, engine)
            await supervisor.adopt()
            reloading = Reloading(
                path,
                environ,
                current,
                podman_socket=engine.podman.socket_path,
                scheduler=scheduler,
                notifier=notifier,
                shutdown=shutdown,
            )
            declared = Declared(current, supervisor, engine.audit_root, scheduler)
            history = History(supervisor, engine.audit_root)
            answers = Answers(supervisor, declared, history, health, shutdown, reloading=reloading)
            intake = Intake(answers.give)
            with claimed_socket(
                socket_path, lambda error: at_last.callback(tell_unremoved, error)
            ) as listener:
                async with trio.open_nursery() as accepting:
                    await accepting.start(
                        accept_connections, listener, intake.serve, handlers, shutdown.fail
                    )
                    log.info(
                        "agentd.daemon_started",
                        socket_path=str(socket_path),
                        pid_file=str(daemon.pid_file),
                    )
                    notifier.ready(supervisor, health)
                    handlers.start_soon(scheduler.run)
                    handlers.start_soon(unfailing, reloading.obey, hangups)
                    await shutdown.draining.wait()
                    # Before the socket goes: what it has asked for is refused, and told so.
                    scheduler.drain()
                    accepting.cancel_scope.cancel()
            intake.drain()
            await _drain(supervisor, shutdown, notifier)
        shutdown.complete.set()
        handlers.cancel_scope.deadline = trio.current_time() + FAREWELL_SECONDS


async def _drain(supervisor: Supervisor, shutdown: Shutdown, notifier: Notifier) -> None:
    """Wait for the last session, or until asked to leave those that live."""
    notifier.draining()
    supervisor.drain()
    async with trio.open_nursery() as waiting:
        waiting.start_soon(_leave_when_asked, supervisor, shutdown, notifier)
        await supervisor.wait_empty()
        waiting.cancel_scope.cancel()
    notifier.stopping()


async def _leave_when_asked(supervisor: Supervisor, shutdown: Shutdown, notifier: Notifier) -> None:
    await shutdown.leaving.wait()
    notifier.leaving()
    await supervisor.leave()
