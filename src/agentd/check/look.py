"""Looking at the machine: files, sockets and the processes behind them. Nothing is changed."""

from __future__ import annotations

import os
import pwd
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from ..errors import RuntimePathError
from ..peer_credentials import peer_process
from ..runtime import check_directory
from .host_rules import Linger, Listener, Place

CONNECT_SECONDS: Final = 5.0


def look_at_place(wanted: Path, *, private: bool = False) -> Place:
    """A directory, or the nearest one above it that exists. Blocking.

    With `private` it is one for sockets and PID files: nobody else may be able to replace them.
    """
    existing = next(each for each in (wanted, *wanted.parents) if os.path.lexists(each))
    fault = None
    if private and existing == wanted:
        try:
            check_directory(wanted, wanted.stat(follow_symlinks=False))
        except RuntimePathError as error:
            fault = error
        except OSError:
            pass
    return Place(wanted, existing, os.access(existing, os.W_OK | os.X_OK), fault)


def is_file(path: Path) -> bool:
    """Whether it is a file, as far as this user can see. Blocking."""
    with suppress(OSError):
        return path.is_file()
    return False


def is_directory(path: Path) -> bool:
    """Whether it is a directory, as far as this user can see. Blocking."""
    with suppress(OSError):
        return path.is_dir()
    return False


def look_at_linger(user: str | None = None) -> Linger:
    """What systemd does at the log-out of a user, of this one unless told. Blocking."""
    name = user or _user_name()
    return Linger(
        user=name,
        systemd=Path("/run/systemd/system").is_dir(),
        lingers=Path("/var/lib/systemd/linger", name).exists(),
    )


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


async def look_at_listener(socket_path: Path) -> Listener | None:
    """Who listens at a socket; None when nobody does. Nothing is said to it."""
    with trio.move_on_after(CONNECT_SECONDS):
        try:
            stream = await trio.open_unix_socket(str(socket_path))
        except OSError:
            return None
        async with stream:
            pid, uid = peer_process(stream.socket)
        return Listener(pid, uid, _command_line(pid))
    return None


def _command_line(pid: int) -> tuple[str, ...]:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
    except OSError:
        return ()
    return tuple(map(os.fsdecode, words))


def process_environment(pid: int) -> dict[bytes, bytes] | None:
    """What a process was started with; None when it may not be seen."""
    if not pid:
        return None
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    pairs = (entry.partition(b"=") for entry in entries if b"=" in entry)
    return {name: value for name, _, value in pairs}
