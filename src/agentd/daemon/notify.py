"""Telling systemd how the daemon does, as sd_notify(3) describes: one datagram a message.

Quadlet's `Notify=true` brings the socket into the daemon's container.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import trio

from ..errors import PodmanTimeout
from ..logs import log
from ..supervisor import Supervisor
from .health import Health

SHARE: Final = 3
"""A sign of life this many times within the time after which systemd would act."""


class Notifier:
    """Messages to whoever started the daemon; they go nowhere when nobody wants them."""

    def __init__(self, environ: Mapping[str, str], nursery: trio.Nursery) -> None:
        self._nursery = nursery
        # A leading @ stands for the null byte of an abstract address, unix(7).
        self._socket_path = re.sub(r"\A@", "\0", environ.get("NOTIFY_SOCKET", ""))
        self._sessions = 0
        self._doing = ""
        self._stopping = False
        self._watchdog_seconds = _watchdog_seconds(environ)

    def ready(self, supervisor: Supervisor, health: Health) -> None:
        """Requests are taken from here on."""
        self._tell("READY=1")
        self._nursery.start_soon(self._show_sessions, supervisor)
        self._nursery.start_soon(self._give_signs_of_life, health)

    def draining(self) -> None:
        """Nothing new is taken in, and sessions go on for as long as they take.

        No `STOPPING=1` yet: it starts `TimeoutStopSec=`, at whose end systemd kills, and a stop
        that is asked for meanwhile would not reach the daemon any more.
        """
        self._doing = "draining, "
        self._show_status()

    def leaving(self) -> None:
        """The daemon ends, and leaves its sessions to the next one."""
        self._doing = "handing over, "
        self._show_status()
        self.stopping()

    def stopping(self) -> None:
        """The daemon ends, within a minute. Told once."""
        if not self._stopping:
            self._stopping = True
            self._tell("STOPPING=1")

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """The configuration is read while inside, and then the daemon is ready again."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            yield
        finally:
            if not self._stopping:
                self._tell("READY=1")

    async def _show_sessions(self, supervisor: Supervisor) -> None:
        """Keep the line that `systemctl status` shows true."""
        async for self._sessions in supervisor.counts():
            self._show_status()

    def _show_status(self) -> None:
        plural = "" if self._sessions == 1 else "s"
        self._tell(f"STATUS={self._doing}{self._sessions} session{plural}")

    async def _give_signs_of_life(self, health: Health) -> None:
        """Feed systemd's watchdog; returns at once when there is none.

        A stuck event loop cannot, and a Podman that hangs is a reason not to. One that is away is
        none: to start the daemon again would not bring it back.
        """
        while self._watchdog_seconds is not None:
            error = await health.podman_error()
            if isinstance(error, PodmanTimeout):
                log.warning("agentd.watchdog_withheld", error=error.message)
            else:
                self._tell("WATCHDOG=1")
            await trio.sleep(self._watchdog_seconds / SHARE)

    def _tell(self, message: str) -> None:
        if not self._socket_path:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
                sender.sendto(message.encode(), self._socket_path)
        except OSError as error:
            log.debug("agentd.notification_lost", error=str(error))


@asynccontextmanager
async def notifying(environ: Mapping[str, str]) -> AsyncIterator[Notifier]:
    """A notifier that keeps systemd informed while inside, from `ready` on."""
    async with trio.open_nursery() as nursery:
        yield Notifier(environ, nursery)
        nursery.cancel_scope.cancel()


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """How long systemd waits for a sign of life; None when it does not, sd_watchdog_enabled(3)."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1_000_000 if microseconds.isdecimal() and int(microseconds) else None
