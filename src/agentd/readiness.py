"""Waiting for a daemon that starts, or whose Podman is away."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

import trio

from . import wire
from .client import Client
from .errors import (
    ConnectionLost,
    DaemonUnreachable,
    HostUnsupported,
    InfrastructureError,
    ShuttingDown,
    TooManyConnections,
)
from .watch import APPEARED, Hint, Watcher, open_watcher

RETRY_SECONDS: Final = 1.0
"""Between two questions while nothing appears: of Podman's return, and of the end of a daemon whose
socket stays, no file tells."""


async def wait_ready(socket_path: Path, seconds: float) -> wire.Status:
    """The daemon's status, as soon as it answers and its Podman does; after `seconds` the last one.

    Raises:
        DaemonUnreachable: the daemon did not answer in all that time.
        WireError: what answers is not an agentd of this protocol. Alone or in a group.
        HostUnsupported: no file can be watched.
    """
    last: wire.Status | InfrastructureError = DaemonUnreachable(f"no answer at {socket_path}")
    with trio.move_on_after(seconds):
        async with open_watcher() as watcher:
            hint = Hint()
            while True:
                with _watched(watcher, socket_path, hint):
                    last = await _status(socket_path)
                    if isinstance(last, wire.Status) and last.podman_error is None:
                        return last
                    with trio.move_on_after(RETRY_SECONDS):
                        await hint.wait()
    if isinstance(last, wire.Status):
        return last
    raise DaemonUnreachable(f"not ready after {seconds:g} s: {last.message}")


async def _status(socket_path: Path) -> wire.Status | InfrastructureError:
    try:
        return await Client(socket_path).status()
    except (DaemonUnreachable, ConnectionLost, ShuttingDown, TooManyConnections) as error:
        # One that ends may leave its place to another, as in a hand-over; a crowd goes away.
        return error


def _watched(watcher: Watcher, socket_path: Path, hint: Hint) -> ExitStack:
    """Give `hint` when the socket, or the next directory on the way to it, appears.

    A directory that goes away again, or must not be read, is left to the next question.
    """
    # Unlike Path.is_dir this says no, and raises nothing, of what must not be looked into.
    ways = socket_path.absolute().parents
    nearest = next(each for each in ways if os.path.isdir(each))  # noqa: PTH112
    with ExitStack() as stack, suppress(HostUnsupported):
        stack.enter_context(watcher.watch(nearest, APPEARED, hint))
        return stack.pop_all()
    return ExitStack()
