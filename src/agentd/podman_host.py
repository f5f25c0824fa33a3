"""Finding the Podman service at startup, and learning what it and its host can give."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import trio

from . import paths
from .errors import HostUnsupported, PodmanError, PodmanUnreachable
from .peer_credentials import peer_uid
from .podman import Host, open_podman

ABSENT_SECONDS: Final = 10.0
"""How long a Podman that does not answer is waited for: at boot both start together."""

RETRY_SECONDS: Final = 0.25
OLDEST: Final = (4, 3)


async def find_podman(configured: Path | None, environ: Mapping[str, str]) -> tuple[Path, Host]:
    """The service's socket, and what the service tells about its host.

    Raises:
        PodmanUnreachable: nothing answered for ten seconds.
        HostUnsupported: what answers is too old, or is somebody else's.
    """
    candidates = podman_places(configured, environ)
    last: PodmanError = PodmanUnreachable("")
    with trio.move_on_after(ABSENT_SECONDS):
        while True:
            socket_path = first_socket(candidates)
            try:
                return socket_path, await _ask(socket_path)
            except PodmanError as error:
                last = error
            await trio.sleep(RETRY_SECONDS)
    if not str(last):
        places = " or ".join(map(str, candidates))
        last = PodmanUnreachable(f"Podman at {places} has not answered for {ABSENT_SECONDS:g} s")
    raise last


def podman_places(configured: Path | None, environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Where this user's Podman service may be. Raises `HostUnsupported`."""
    return paths.podman_sockets(configured, environ, os.geteuid())


def first_socket(candidates: Sequence[Path]) -> Path:
    """The first that is a socket, else the last."""
    return next((path for path in candidates if _is_socket(path)), candidates[-1])


async def _ask(socket_path: Path) -> Host:
    async with open_podman(socket_path) as podman:
        host = await podman.info()
    check_version(host.podman_version)
    await _check_owner(socket_path)
    return host


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        return False


def check_version(version: str) -> None:
    """Refuse a Podman whose API lacks what sessions need.

    Raises:
        HostUnsupported: `version` is below 4.3 or is no version.
    """
    match = re.match(r"(\d+)\.(\d+)", version)
    if match is None or (int(match[1]), int(match[2])) < OLDEST:
        raise HostUnsupported(f"Podman is {version} and agentd needs 4.3 or newer: upgrade Podman")


async def _check_owner(socket_path: Path) -> None:
    """Refuse a service of another user: what sessions write must belong to the daemon's own.

    Raises:
        HostUnsupported: it is somebody else's.
        PodmanUnreachable: it is gone, though it has just answered.
    """
    try:
        stream = await trio.open_unix_socket(str(socket_path))
    except OSError as error:
        raise PodmanUnreachable(
            f"no Podman service answers at {socket_path}: {error.strerror or error}"
        ) from error
    async with stream:
        uid = peer_uid(stream.socket)
    if uid != os.geteuid():
        raise HostUnsupported(
            f"the Podman service at {socket_path} belongs to uid {uid} and this daemon runs as uid"
            f" {os.geteuid()}: sessions' files would not be the daemon's; use the service of the"
            " daemon's own user"
        )
