"""Claiming the runtime paths: the PID file's lock first, then the socket."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import trio

from .errors import AgentdError, AlreadyRunning, RuntimePathError
from .logs import log
from .paths import socket_path_fault

BACKLOG: Final = 128


CLAIM_SECONDS: Final = 5.0
"""How long another daemon may take to claim a socket in the same directory: it takes a moment."""

_RETRY_SECONDS: Final = 0.01


def tell_unremoved(error: OSError) -> None:
    """Log that a file of the daemon's stays. It means nothing to the next one, which replaces it:
    but people and programs look for it."""
    log.warning(
        "agentd.daemon_shutdown_cleanup_failed", path=str(error.filename), error=error.strerror
    )


@contextmanager
def claimed_pid_file(path: Path) -> Iterator[None]:
    """Hold the PID file: locked for the life of the process, and holding its PID in decimal.

    The lock is what counts; the file alone, left by a daemon that was killed, means nothing.

    Raises:
        AlreadyRunning: another process holds the lock.
        RuntimePathError: the file cannot be made or written.
    """
    _make_directory(path.parent)
    descriptor = _lock(path)
    try:
        with _explained(f"cannot write PID file {path}"):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            os.fsync(descriptor)
        yield
    finally:
        # Removed while locked: whoever opens it meanwhile finds it gone after taking the lock.
        if error := _remove(path, os.fstat(descriptor)):
            tell_unremoved(error)
        os.close(descriptor)


def _lock(path: Path) -> int:
    """An open, locked descriptor of the file that is at `path` now."""
    while True:
        descriptor = _open_file(path)
        try:
            if not _try_lock(descriptor, path):
                raise AlreadyRunning(f"agentd is already running{_known_holder(descriptor)}")
            if _lies_at(path, os.fstat(descriptor)):
                return descriptor
        except AgentdError:
            os.close(descriptor)
            raise
        # The holder removed it between our open and our lock.
        os.close(descriptor)


def _known_holder(descriptor: int) -> str:
    """The holder's PID for people, unless it is still that of one that was killed."""
    holder = os.pread(descriptor, 32, 0)
    alive = holder.isdigit() and Path(f"/proc/{holder.decode()}").exists()
    return f" (pid {holder.decode()})" if alive else ""


def _open_file(path: Path) -> int:
    """The file at `path`, made if there is none; nothing else, and nobody else's."""
    with _explained(f"cannot open PID file {path}"):
        if path.is_symlink():
            raise RuntimePathError(f"pid_file is a symlink, not a regular file: {path}; remove it")
        # Without O_NONBLOCK, opening a device could wait for whatever is behind it.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(path, flags, 0o600)
    status = os.fstat(descriptor)
    fault = None
    if not stat.S_ISREG(status.st_mode):
        fault = f"pid_file exists but is not a regular file: {path}"
    elif status.st_uid != os.geteuid():
        fault = f"pid_file belongs to uid {status.st_uid}, not to the daemon's: {path}; remove it"
    if fault:
        os.close(descriptor)
        raise RuntimePathError(fault)
    return descriptor


def _make_directory(directory: Path) -> None:
    """Make sure of a directory in which nobody else can replace what the daemon puts there."""
    with _explained(f"cannot make {directory}"):
        # Not by `parents=True`, which leaves the modes of all but the last to the umask.
        for missing in reversed([each for each in directory.parents if not each.exists()]):
            missing.mkdir(mode=0o755, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
        status = directory.stat(follow_symlinks=False)
    check_directory(directory, status)


def check_directory(directory: Path, status: os.stat_result) -> None:
    """Refuse a directory in which somebody else could replace what the daemon puts there.

    Raises:
        RuntimePathError: it is such a one, or none.
    """
    if not stat.S_ISDIR(status.st_mode):
        raise RuntimePathError(f"{directory} is a symlink or no directory", remedy="remove it")
    if status.st_uid not in {os.geteuid(), 0}:
        raise RuntimePathError(
            f"{directory} belongs to uid {status.st_uid}, who could replace the daemon's socket",
            remedy="choose a directory of your own",
        )
    # In a sticky directory, such as /tmp, a file is removed by its owner only.
    if status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
        raise RuntimePathError(
            f"{directory} is writable for others, who could replace the daemon's socket",
            remedy="chmod go-w it, or choose another directory",
        )


def clear_stale_socket(path: Path) -> None:
    """Remove what a killed daemon has left at `path`, and see that a socket can be there.

    For a daemon that has much to do before it listens: meanwhile there is no socket. Whoever binds
    one then, `claimed_socket` finds. Raises as that does.
    """
    with _cleared(path):
        pass


@contextmanager
def claimed_socket(
    path: Path, unremoved: Callable[[OSError], object] = tell_unremoved
) -> Iterator[trio.SocketListener]:
    """Listen at `path`, with mode 0600 before anybody can connect; gone after the exit.

    A socket that nobody serves any more is replaced. `unremoved` gets what kept it from going.

    Raises:
        AlreadyRunning: somebody serves the socket.
        RuntimePathError: something else lies there, or the socket cannot be made.
    """
    with _cleared(path):
        listener, made = _listen(path)
    trio_socket = trio.socket.from_stdlib_socket(listener)
    try:
        yield trio.SocketListener(trio_socket)
    finally:
        # Before it is closed: nobody takes it for stale while it listens, so what lies there then
        # is ours, or was put there by force and has another inode as long as ours lives.
        if error := _remove(path, made):
            unremoved(error)
        trio_socket.close()


@contextmanager
def _cleared(path: Path) -> Iterator[None]:
    """Nothing lies at the path of a socket, and nothing comes there, while inside."""
    if fault := socket_path_fault(path):
        raise RuntimePathError(fault, remedy="choose a shorter one")
    _make_directory(path.parent)
    with _claiming(path):
        _clear_stale(path)
        yield


@contextmanager
def _claiming(path: Path) -> Iterator[None]:
    """Keep others from the socket's directory while we look, remove and bind.

    Two daemons with different PID files may share a socket path; without this, one could remove
    as stale what the other has bound since. What is done inside takes a moment, so others wait.

    Raises:
        RuntimePathError: the directory cannot be opened or locked.
    """
    with _explained(f"cannot open {path.parent}"):
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock_directory(directory, path.parent)
        yield
    finally:
        os.close(directory)


def _lock_directory(descriptor: int, directory: Path) -> None:
    """Lock it within a bound: whoever may read a directory can hold a lock on it."""
    deadline = time.monotonic() + CLAIM_SECONDS
    while not _try_lock(descriptor, directory):
        if time.monotonic() > deadline:
            raise RuntimePathError(
                f"another process has had {directory} locked for {CLAIM_SECONDS:g} s; see"
                " /proc/locks for which, or choose another directory"
            )
        time.sleep(_RETRY_SECONDS)


def _try_lock(descriptor: int, path: Path) -> bool:
    """Lock what lies at `path` for the life of the descriptor; false when somebody else has."""
    with _explained(f"cannot lock {path}"):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _listen(path: Path) -> tuple[socket.socket, os.stat_result]:
    """A socket that listens at `path`, and what then lies there."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with _explained(f"cannot listen at {path}"):
            # Nobody can connect before listen(2), so there is no window between bind and chmod.
            listener.bind(str(path))
            made = path.stat(follow_symlinks=False)
            try:
                path.chmod(0o600)
                listener.listen(BACKLOG)
            except OSError:
                _remove(path, made)
                raise
    except RuntimePathError:
        listener.close()
        raise
    return listener, made


def _clear_stale(path: Path) -> None:
    with _explained(f"cannot look at {path}"):
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
        with _explained(f"cannot remove the stale socket {path}"):
            path.unlink(missing_ok=True)
    elif refused != errno.ENOENT:
        raise AlreadyRunning(f"another process serves {path}; stop it, or set daemon.socket_path")


def _lies_at(path: Path, made: os.stat_result) -> bool:
    try:
        return os.path.samestat(made, path.stat(follow_symlinks=False))
    except OSError:
        return False


def _remove(path: Path, made: os.stat_result) -> OSError | None:
    """Remove what we made, if it still lies there; gives what kept it from going."""
    try:
        if os.path.samestat(made, path.stat(follow_symlinks=False)):
            path.unlink()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return error
    return None


@contextmanager
def _explained(doing: str) -> Iterator[None]:
    """Turn an `OSError` into a `RuntimePathError` that says what was being done."""
    try:
        yield
    except OSError as error:
        raise RuntimePathError(f"{doing}: {error.strerror}") from error
