"""The doors to the rules: for agents one by one and together, and for the daemon.

Everything here works on Structs alone, so a program that builds its agents in Python is held to
the same rules as a file: `agent_problems` is applied again at the start of every run.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec

from .. import paths
from .agent_rules import declaration_problems, image_problems
from .problems import Problem
from .schema import Agent, Daemon
from .wording import path_fault


def agent_problems(agent: Agent) -> list[Problem]:
    """Every rule that `agent` breaks, places relative to it, wherever the agent came from.

    More than a file is refused for: also wrong types, and an image name that no run can use.
    """
    wrong_type = _type_problem(agent)
    if wrong_type:
        return [wrong_type]
    return [*declaration_problems(agent), *image_problems(agent)]


def duplicate_problems(agents: tuple[Agent, ...]) -> list[Problem]:
    """One problem for each agent whose name an earlier one has, places relative to the list."""
    found = []
    first_by_name: dict[str, int] = {}
    for index, agent in enumerate(agents):
        first = first_by_name.setdefault(agent.name, index)
        if first != index:
            text = f"duplicate agent name: {agent.name!r}; every agent needs a name of its own"
            found.append(Problem((index, "name"), text, ((first, "name"),)))
    return found


def daemon_problems(daemon: Daemon) -> list[Problem]:
    """Every rule that the daemon's settings break, places relative to them."""
    return [*_daemon_path_problems(daemon), *_daemon_number_problems(daemon)]


def _daemon_path_problems(daemon: Daemon) -> list[Problem]:
    found = []
    for key in ("socket_path", "pid_file", "audit_root", "podman_socket"):
        path: Path | None = getattr(daemon, key)
        if path is None:
            continue
        fault = path_fault(f"daemon.{key}", path)
        is_socket = key.endswith(("socket_path", "socket"))
        if fault is None and is_socket and (fault := paths.socket_path_fault(path)):
            fault += "; choose a shorter one"
        if fault:
            found.append(Problem((key,), fault))
    if daemon.socket_path is not None and daemon.socket_path == daemon.pid_file:
        text = "fields 'daemon.socket_path' and 'daemon.pid_file' must be two different files"
        found.append(Problem(("pid_file",), text, (("socket_path",),)))
    return found


def _daemon_number_problems(daemon: Daemon) -> list[Problem]:
    found = []
    if daemon.max_sessions < 0:
        text = "field 'daemon.max_sessions' must not be negative; 0 sets no bound"
        found.append(Problem(("max_sessions",), text))
    if not (math.isfinite(daemon.shutdown_grace) and daemon.shutdown_grace > 0):
        text = "field 'daemon.shutdown_grace' must be above zero"
        found.append(Problem(("shutdown_grace",), text))
    return found


def _type_problem(agent: Agent) -> Problem | None:
    """The first value without its declared type: msgspec checks none when a Struct is made."""
    try:
        plain = msgspec.to_builtins(agent, enc_hook=_plain)
        msgspec.convert(plain, Agent, dec_hook=_revive)
    except (TypeError, ValueError, NotImplementedError) as error:
        return Problem((), f"agent {agent.name!r} is not a valid Agent: {error}")
    return None


def _plain(value: object) -> str:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(f"a value of type {type(value).__name__} stands in it")


def _revive(_type: type, value: Any) -> Path:
    return Path(value)
