"""How every client command is told where the daemon is: two options, declared once."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio
from cyclopts import Parameter

from .. import paths
from ..errors import UsageError


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DaemonSocket:
    """The options of a command that speaks with the daemon."""

    socket_path: Path | None = None
    """The daemon's socket, instead of $XDG_RUNTIME_DIR/agentd/agentd.sock."""

    discover: bool = False
    """Take the first usual place where a daemon answers: $XDG_RUNTIME_DIR/agentd,
    /tmp/agentd-$UID, /run/agentd."""

    def path(self) -> Path:
        """The socket. With --discover, which waits for answers, its path is told on standard error.

        Raises:
            UsageError: both options are there.
            RuntimePathError: neither is, and the default cannot be known.
            DaemonUnreachable: no daemon was found.
        """
        if not self.discover:
            return paths.client_socket_path(self.socket_path, os.environ)
        if self.socket_path is not None:
            raise UsageError("--discover and --socket-path cannot be used together")
        from ..discovery import discover  # noqa: PLC0415 - seldom asked for

        found = trio.run(discover, os.environ)
        print(f"agentd: the daemon answers at {found}", file=sys.stderr, flush=True)
        return found


USUAL: Final = DaemonSocket()
"""Where a command looks that is told nothing."""
