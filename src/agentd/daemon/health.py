"""How the daemon does: for `agentd status`, and for whoever watches over it."""

from __future__ import annotations

import datetime

from .. import __version__, wire
from ..errors import PodmanError
from ..session.engine import Engine
from ..supervisor import Supervisor


class Health:
    """The state of one daemon, from the moment at which it is made."""

    def __init__(self, supervisor: Supervisor, engine: Engine) -> None:
        self._supervisor = supervisor
        self._engine = engine
        self._started_at = datetime.datetime.now(datetime.UTC)

    async def podman_error(self) -> PodmanError | None:
        """Why Podman gives no sign of life; None when it does. Takes seconds when it is stuck."""
        try:
            await self._engine.podman.answer()
        except PodmanError as error:
            return error
        return None

    async def status(self) -> wire.Status:
        """All that a client is told."""
        error = await self.podman_error()
        live = len(self._supervisor.sessions)
        return wire.Status(
            version=__version__,
            started_at=self._started_at,
            sessions=live,
            queued=len(self._supervisor.known.infos) - live,
            podman_socket=str(self._engine.podman.socket_path),
            podman_version=self._engine.abilities.podman_version,
            rootless=self._engine.abilities.rootless,
            podman_error=None if error is None else error.message,
        )
