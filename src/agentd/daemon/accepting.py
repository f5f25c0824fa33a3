"""Taking connections from a listening socket, also when no descriptor is left for one."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from ..errors import AgentdError, IntakeFailed
from ..logs import log
from .seldom import Seldom

SHORT_OF: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
"""With these accept(2) says that the process or the host has no room for a connection now."""

RETRY_SECONDS: Final = 0.1
"""Nothing tells when there is room again."""

SILENT_SECONDS: Final = 60.0
"""How long it is not said again that connections wait."""


async def accept_connections(
    listener: trio.abc.Listener[trio.SocketStream],
    handle: Callable[[trio.SocketStream], Awaitable[object]],
    handlers: trio.Nursery,
    fail: Callable[[AgentdError], None],
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    """Start a `handle` in `handlers` for each connection, until cancelled.

    As `trio.serve_listeners` does, which however writes a traceback at each attempt of those ten
    a second. Connections wait in the socket's queue meanwhile; sessions go on.
    A socket that does not work any more is told to `fail`, once. Who made the listener closes it:
    not before its file is gone, or another daemon would take the file for a stale one.
    """
    task_status.started()
    seldom = Seldom(SILENT_SECONDS)
    while True:
        try:
            stream = await listener.accept()
        except OSError as error:
            if error.errno not in SHORT_OF:
                fail(IntakeFailed(f"the daemon's socket takes no connections: {error}"))
                return
            if seldom.take():
                log.warning(
                    "agentd.connections_wait",
                    error=os.strerror(error.errno),
                    remedy="raise the daemon's limit of open files (LimitNOFILE=)",
                )
            await trio.sleep(RETRY_SECONDS)
        else:
            handlers.start_soon(handle, stream)
