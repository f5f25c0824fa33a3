"""Finding a daemon whose socket nobody has named: a walk through the places that custom knows.

One of them lies below `/tmp`, where anybody can lay a trap for who sends a request with a secret
in it. So a place counts only when none but root and the user of this process can have made it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import trio

from . import paths
from .client import Client
from .errors import AgentdError, DaemonUnreachable

PING_SECONDS: Final = 3.0
"""How long a daemon may take that is to be found; the next place is tried then."""

_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


async def discover(environ: Mapping[str, str]) -> Path:
    """The first of `paths.well_known_sockets` at which a daemon answers.

    Raises:
        DaemonUnreachable: none does; the text says of each place why.
    """
    return await first_answering(paths.well_known_sockets(environ, os.geteuid()))


async def first_answering(places: Sequence[Path]) -> Path:
    """The first of these sockets at which a daemon answers. Raises as `discover`."""
    reasons = []
    for place in places:
        fault = trap(place, os.geteuid()) or await _silence(place)
        if fault is None:
            return place
        reasons.append(f"\n  {place}: {fault}")
    raise DaemonUnreachable(
        "agentd is not running at any of its usual places; name its socket with --socket-path"
        + "".join(reasons)
    )


def trap(place: Path, uid: int) -> str | None:
    """Why the socket at `place` may be somebody else's, or cannot be looked at; None if it is fine.

    Its directory must be a true one, of `uid` or root, in which nobody else can write. What lies in
    there can then be exchanged by nobody, between this look and the use of it either.
    """
    try:
        directory, socket = place.parent.lstat(), place.lstat()
    except OSError as error:
        return os.strerror(error.errno or 0)
    if not stat.S_ISDIR(directory.st_mode):
        return "its directory is not trusted: it is a link or a file"
    if not stat.S_ISSOCK(socket.st_mode):
        return "it is no socket"
    for name, found in (("its directory", directory), ("it", socket)):
        if found.st_uid not in {uid, 0}:
            return f"{name} is not trusted: it belongs to uid {found.st_uid}"
    if directory.st_mode & _OTHERS_WRITE:
        return "its directory is not trusted: others can write there"
    return None


async def _silence(place: Path) -> str | None:
    """Why no daemon answers there, or None when one does."""
    try:
        with trio.move_on_after(PING_SECONDS):
            await Client(place).ping()
            return None
    except AgentdError as error:
        return error.message
    return f"no answer within {PING_SECONDS:g} s"
