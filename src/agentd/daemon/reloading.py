"""Reading the configuration again, for a signal or a client: all of it counts, or none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import msgspec
import trio
from trio_util import move_on_when

from .. import config, wire
from ..current import Current
from ..errors import AgentdError, RestartNeeded, ShuttingDown
from ..logs import log
from ..podman_host import podman_places
from ..session.disk import DISK_SECONDS, on_disk
from .notify import Notifier
from .scheduler import Scheduler
from .signals import Shutdown


class Reloading:
    """Exchanges the current configuration for what its file says."""

    def __init__(
        self,
        path: Path,
        environ: Mapping[str, str],
        current: Current,
        *,
        podman_socket: Path,
        scheduler: Scheduler,
        notifier: Notifier,
        shutdown: Shutdown,
    ) -> None:
        """`path` is absolute. What is now in the file's place is read, whatever was there.

        `podman_socket` is the one that was found at the start.
        """
        self._path = path
        self._environ = environ
        self._current = current
        self._podman_socket = podman_socket
        self._scheduler = scheduler
        self._notifier = notifier
        self._shutdown = shutdown
        self._one_at_a_time = trio.Lock()

    async def obey(self, hangups: AsyncIterator[int]) -> None:
        """Reload at each SIGHUP, until no session is left. What fails is logged, and no more."""
        async with move_on_when(self._shutdown.complete.wait):
            async for _ in hangups:
                await self._obey_one()

    async def _obey_one(self) -> None:
        try:
            await self.reload("SIGHUP")
        except AgentdError:
            return

    async def reload(self, by: str) -> wire.Reloaded:
        """Read the file, and let it count; says what has changed, and logs it.

        Raises:
            ConfigError, RuntimePathError, AuditError, DiskTimeout: the file cannot be used.
            RestartNeeded: it changes what cannot change while the daemon runs.
            HostUnsupported: it schedules an agent, and the local time zone is unknown; or it names
                no Podman, and nor does the environment.
            ShuttingDown: the daemon ends. After each of these nothing has changed.
        """
        try:
            async with self._one_at_a_time:
                self._check_open()
                with self._notifier.reloading():
                    changes = await self._exchange()
        except AgentdError as error:
            log.error(
                "agentd.config_reload_failed",
                by=by,
                config=str(self._path),
                error_code=error.code,
                error="; ".join(error.message.splitlines()),
            )
            raise
        log.info(
            "agentd.config_reloaded",
            by=by,
            config=str(self._path),
            added=changes.added,
            removed=changes.removed,
            changed=[f"{name}.{key}" for name, keys in changes.changed.items() for key in keys],
            daemon=changes.daemon,
        )
        return wire.Reloaded(
            config=str(self._path),
            added=changes.added,
            removed=changes.removed,
            changed=changes.changed,
            daemon=changes.daemon,
        )

    async def _exchange(self) -> config.Changes:
        where = f"the file system of {self._path}"
        new = await on_disk(DISK_SECONDS, where, config.load, self._path, self._environ)
        changes = config.changes(self._resolved(self._current.config), self._resolved(new))
        if changes.fixed:
            keys = ", ".join(f"daemon.{key}" for key in changes.fixed)
            raise RestartNeeded(
                f"{self._path}: cannot change while agentd runs: {keys}; nothing was changed."
                " Wait for the sessions with 'agentd shutdown', and start agentd again"
            )
        self._scheduler.prepare(new)
        self._check_open()
        self._current.replace(new)
        return changes

    def _resolved(self, settings: config.Config) -> config.Config:
        """The same, with the paths that its keys come to here: to write down what counts already
        changes nothing."""
        daemon = settings.daemon
        places = podman_places(daemon.podman_socket, self._environ)
        there = self._podman_socket in places
        return msgspec.structs.replace(
            settings,
            daemon=msgspec.structs.replace(
                daemon,
                audit_root=config.resolve_audit_root(daemon, self._environ),
                podman_socket=self._podman_socket if there else places[0],
            ),
        )

    def _check_open(self) -> None:
        if self._shutdown.draining.is_set():
            raise ShuttingDown
