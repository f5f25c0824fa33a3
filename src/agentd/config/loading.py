"""From a configuration file to a `Config` whose paths are ready to use.

The one place below the daemon that reads a file. Nothing that the configuration points at is
looked at: directories, mount sources and variables are checked when a session needs them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from .. import paths
from ..errors import ConfigError, RuntimePathError
from .decode import decode, decode_daemon
from .problems import Problem
from .schema import Config, Daemon


def load(path: str | os.PathLike[str], environ: Mapping[str, str] = os.environ) -> Config:
    """Read the configuration at `path`, once.

    Relative paths in it are joined onto the absolute directory of the file; `..` is kept. The
    daemon's socket and PID file come from `XDG_RUNTIME_DIR` when the file names none; the audit
    root does not, see `resolve_audit_root`.

    Raises:
        ConfigError: the file cannot be read, or breaks a rule; one line for each problem.
        RuntimePathError: a default is needed for the socket or PID file and there is none.
    """
    path = Path(path)
    config, problems = decode(_read(path), path.absolute().parent)
    _refuse(problems, path)
    return Config(with_runtime_paths(config.daemon, environ), config.agents)


def load_daemon(path: Path, environ: Mapping[str, str]) -> Daemon:
    """Read only the `[daemon]` table of the configuration at `path`, whatever `agents` holds.

    Raises as `load`.
    """
    daemon, problems = decode_daemon(_read(path), path.absolute().parent)
    _refuse(problems, path)
    return with_runtime_paths(daemon, environ)


def load_audit_root(path: Path, environ: Mapping[str, str]) -> Path:
    """Where the daemon of the configuration at `path` keeps records; no other key is needed.

    Raises:
        ConfigError: the file cannot be read, or its `[daemon]` table breaks a rule.
        AuditError: as `resolve_audit_root`.
    """
    daemon, problems = decode_daemon(_read(path), path.absolute().parent)
    _refuse(problems, path)
    return resolve_audit_root(daemon, environ)


def parse(text: str) -> Config:
    """Read a configuration that lies in no file: relative paths stay as they are.

    Raises:
        ConfigError: it breaks a rule; one line for each problem.
    """
    config, problems = decode(text, None)
    _refuse(problems, None)
    return config


def resolve_audit_root(daemon: Daemon, environ: Mapping[str, str]) -> Path:
    """Where records go: `daemon.audit_root` with nothing added, else the XDG state directory.

    Raises:
        AuditError: it is not configured and the environment gives no default.
    """
    return daemon.audit_root or paths.default_audit_root(environ)


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except OSError as error:
        reason = error.strerror or os.strerror(error.errno or 0)
        raise ConfigError([f"failed to read config: {path}: {reason}"]) from error
    except UnicodeDecodeError as error:
        text = f"invalid config: {path}: not UTF-8 at byte {error.start}; save it as UTF-8"
        raise ConfigError([text]) from error


def _refuse(problems: list[Problem], path: Path | None) -> None:
    where = "" if path is None else f"{path}: "
    if problems:
        raise ConfigError([f"invalid config: {where}{problem}" for problem in problems])


def with_runtime_paths(daemon: Daemon, environ: Mapping[str, str]) -> Daemon:
    """The same settings with the defaults for socket and PID file, where there is neither.

    Raises:
        RuntimePathError: a default is needed and there is none.
    """
    try:
        return msgspec.structs.replace(
            daemon,
            socket_path=daemon.socket_path or paths.default_socket_path(environ),
            pid_file=daemon.pid_file or paths.default_pid_file(environ),
        )
    except RuntimePathError as error:
        text = f"daemon runtime paths could not be resolved; {error.fault}"
        raise RuntimePathError(text, remedy=error.remedy) from error
