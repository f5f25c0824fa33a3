"""Where things are by default: runtime paths, audit root, Podman's socket. No I/O.

Every function takes the environment as a mapping, so that what it decides depends on its
arguments alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from .errors import AuditError, HostUnsupported, RuntimePathError

MAX_SOCKET_PATH: Final = 107
"""Bytes a Unix socket's path may have: `sun_path` is 108 with its NUL, unix(7)."""


def is_utf8(path: str) -> bool:
    """Whether a path of the system is text: neither JSON nor Podman can hold another."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def runtime_dir(environ: Mapping[str, str]) -> Path:
    """`$XDG_RUNTIME_DIR/agentd`, where daemon and clients meet unless told otherwise.

    Raises:
        RuntimePathError: the variable is unset, empty, relative or not UTF-8.
    """
    value = environ.get("XDG_RUNTIME_DIR", "")
    if not value:
        raise RuntimePathError(
            "XDG_RUNTIME_DIR is not set",
            remedy="set XDG_RUNTIME_DIR or configure explicit daemon runtime paths",
        )
    if not value.startswith("/"):
        raise RuntimePathError(f"XDG_RUNTIME_DIR must be an absolute path, but is '{value}'")
    if not is_utf8(value):
        raise RuntimePathError(f"XDG_RUNTIME_DIR must be UTF-8, but is {value!r}")
    return Path(value) / "agentd"


def default_socket_path(environ: Mapping[str, str]) -> Path:
    """The daemon's socket when the configuration names none. Raises as `runtime_dir`."""
    return runtime_dir(environ) / "agentd.sock"


def default_pid_file(environ: Mapping[str, str]) -> Path:
    """The daemon's PID file when the configuration names none. Raises as `runtime_dir`."""
    return runtime_dir(environ) / "agentd.pid"


def client_socket_path(flag: Path | None, environ: Mapping[str, str]) -> Path:
    """The one socket a client talks to: `--socket-path` as typed, else the XDG default.

    Raises:
        RuntimePathError: there is no flag and the default cannot be known.
    """
    if flag is not None:
        return flag
    try:
        return default_socket_path(environ)
    except RuntimePathError:
        value = environ.get("XDG_RUNTIME_DIR")
        state = "is not set" if not value else f"is not an absolute path in UTF-8 ({value!r})"
        raise RuntimePathError(
            f"cannot tell where the daemon's socket is: XDG_RUNTIME_DIR {state};"
            " set it, or pass --socket-path"
        ) from None


def well_known_sockets(environ: Mapping[str, str], uid: int) -> tuple[Path, ...]:
    """Where the daemon's socket is by custom, the likeliest first; a client looks there if told to.

    The first place is left out when `XDG_RUNTIME_DIR` names none.
    """
    xdg = environ.get("XDG_RUNTIME_DIR", "")
    directories = [Path(xdg) / "agentd"] if xdg.startswith("/") else []
    # The second is looked into only when nobody else can have put anything there.
    directories += [Path(f"/tmp/agentd-{uid}"), Path("/run/agentd")]  # noqa: S108
    return tuple(directory / "agentd.sock" for directory in directories)


def socket_path_fault(path: Path) -> str | None:
    """Why no Unix socket can have this path, as a sentence, or None."""
    size = len(bytes(path))
    if size > MAX_SOCKET_PATH:
        return f"the socket path is {size} bytes long and Linux allows {MAX_SOCKET_PATH}: {path}"
    return None


def default_audit_root(environ: Mapping[str, str]) -> Path:
    """`tesserine/audit` below the XDG state directory; variables that are empty, relative or not
    UTF-8 do not count.

    Raises:
        AuditError: neither `XDG_STATE_HOME` nor `HOME` is usable.
    """
    state_home, home = environ.get("XDG_STATE_HOME", ""), environ.get("HOME", "")
    if state_home.startswith("/") and is_utf8(state_home):
        return Path(state_home) / "tesserine/audit"
    if home.startswith("/") and is_utf8(home):
        return Path(home) / ".local/state/tesserine/audit"
    raise AuditError(
        "no default audit root: set an absolute XDG_STATE_HOME, an absolute HOME,"
        " or daemon.audit_root"
    )


def podman_sockets(
    configured: Path | None, environ: Mapping[str, str], euid: int
) -> tuple[Path, ...]:
    """Where Podman's service socket may be, best first; never empty.

    `daemon.podman_socket` and `CONTAINER_HOST` stand alone. Otherwise the places of Podman's own
    units: below `XDG_RUNTIME_DIR`, and `/run` for root, whose login sessions have the variable
    too though Podman does not use it for them; the caller takes the first that exists.

    Raises:
        HostUnsupported: `CONTAINER_HOST` is no `unix://` address, or there is no place to look.
    """
    if configured is not None:
        return (configured,)
    host = environ.get("CONTAINER_HOST", "")
    if host:
        if not host.startswith("unix:///"):
            raise HostUnsupported(
                f"CONTAINER_HOST is '{host}', and agentd talks to a local Podman only:"
                " use unix:///path/to/podman.sock, or set daemon.podman_socket"
            )
        return (Path(host.removeprefix("unix://")),)
    xdg = environ.get("XDG_RUNTIME_DIR", "")
    user = (Path(xdg) / "podman/podman.sock",) if xdg.startswith("/") else ()
    system = (Path("/run/podman/podman.sock"),) if euid == 0 else ()
    if not user + system:
        raise HostUnsupported(
            "cannot tell where Podman's socket is: XDG_RUNTIME_DIR is not an absolute path;"
            " set it, CONTAINER_HOST, or daemon.podman_socket"
        )
    return user + system
