"""Claiming the runtime paths: the PID file's lock first, then the socket."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import trio

from ..errors import AlreadyRunning, RuntimePathError
from ..paths import socket_path_fault

BACKLOG: Final = 128


@contextmanager
def claimed_pid_file(path: Path) -> Iterator[None]:
    """Hold the PID file: locked for the life of the process, and holding its PID in decimal.

    The lock is what counts; the file alone, left by a daemon that was killed, means nothing.

    Raises:
        AlreadyRunning: another process holds the lock.
        RuntimePathError: the file cannot be made.
    """
    _make_directory(path.parent)
    descriptor = _lock(path)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        os.fsync(descriptor)
        yield
    finally:
        # Removed while locked: whoever opens it meanwhile finds it gone after taking the lock.
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _lock(path: Path) -> int:
    """An open, locked descriptor of the file that is at `path` now."""
    while True:
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            raise RuntimePathError(f"cannot open PID file {path}: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise RuntimePathError(f"pid_file exists but is not a regular file: {path}")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace")
            os.close(descriptor)
            known = f" (pid {holder})" if holder.isdigit() else ""
            raise AlreadyRunning(f"agentd is already running{known}") from None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat(follow_symlinks=False)):
                return descriptor
        # The holder removed it between our open and our lock.
        os.close(descriptor)


def _make_directory(directory: Path) -> None:
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
        status = directory.stat(follow_symlinks=False)
    except OSError as error:
        raise RuntimePathError(f"cannot make {directory}: {error.strerror}") from error
    if not stat.S_ISDIR(status.st_mode):
        raise RuntimePathError(f"{directory} is a symlink or no directory; remove it")
    if status.st_uid not in {os.geteuid(), 0}:
        raise RuntimePathError(
            f"{directory} belongs to uid {status.st_uid}, who could replace the daemon's socket;"
            " choose a directory of your own"
        )


@contextmanager
def claimed_socket(path: Path) -> Iterator[trio.SocketListener]:
    """Listen at `path`, with mode 0600 before anybody can connect; gone after the exit.

    A socket that nobody serves any more is replaced.

    Raises:
        AlreadyRunning: somebody serves the socket.
        RuntimePathError: something else lies there, or the socket cannot be made.
    """
    if fault := socket_path_fault(path):
        raise RuntimePathError(fault)
    _make_directory(path.parent)
    with _claiming(path):
        _clear_stale(path)
        listener = _listen(path)
    made = path.stat().st_ino
    trio_socket = trio.socket.from_stdlib_socket(listener)
    try:
        yield trio.SocketListener(trio_socket)
    finally:
        trio_socket.close()
        with contextlib.suppress(FileNotFoundError):
            if path.stat(follow_symlinks=False).st_ino == made:
                path.unlink()


@contextmanager
def _claiming(path: Path) -> Iterator[None]:
    """Keep others from the socket's directory while we look, remove and bind.

    Two daemons with different PID files may share a socket path; without this, one could remove
    as stale what the other has bound since. What is done inside takes a moment, so others wait.

    Raises:
        RuntimePathError: the directory cannot be opened.
    """
    try:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise RuntimePathError(f"cannot open {path.parent}: {error.strerror}") from error
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # Nobody can connect before listen(2), so there is no window between bind and chmod.
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise RuntimePathError(f"cannot listen at {path}: {error.strerror}") from error
    return listener


def _clear_stale(path: Path) -> None:
    try:
        status = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise RuntimePathError(f"socket_path exists but is not a Unix socket: {path}")
    with socket.socket(socket.AF_UNIX) as probe:
        # A daemon that hangs may have a full queue, which a blocking connect would wait for.
        probe.setblocking(False)
        refused = probe.connect_ex(str(path))
    if refused == errno.ECONNREFUSED:
        path.unlink(missing_ok=True)
    elif refused != errno.ENOENT:
        raise AlreadyRunning(f"another process serves {path}; stop it, or set daemon.socket_path")
