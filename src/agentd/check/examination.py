"""The order of the checks: configuration, daemon, Podman, audit root, then agent by agent."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import trio

from .. import config
from ..config import Agent, Config
from ..errors import (
    AgentdError,
    ConfigError,
    HostUnsupported,
    PodmanError,
    PodmanTimeout,
    RuntimePathError,
)
from ..paths import socket_path_fault
from ..podman import Host, Podman, open_podman
from ..podman_host import ABSENT_SECONDS, first_socket, podman_places
from ..session.disk import DISK_SECONDS, on_disk
from . import agent_rules, host_rules
from .agent_examination import Machine, examine_agent
from .agent_rules import Surroundings
from .audit_look import Root, look_at_root
from .finding import Tell, fail, ok, refused, warn
from .look import is_file, look_at_linger, look_at_listener, look_at_place, process_environment
from .trial_record import remove_left

CONFIG_REMEDY: Final = "correct it; examples/agentd.toml documents every key"


async def examine(
    path: Path, environ: Mapping[str, str], agent_name: str | None, tell: Tell
) -> None:
    """Look at everything that a daemon with the configuration at `path` relies on.

    `tell` gets each finding as soon as it is there. With `agent_name` only that agent is looked at.
    What goes wrong with a look is a finding too.

    Raises:
        UnknownAgent: none of that name is declared.
    """
    settings = _settings(path, environ, tell)
    if settings is None:
        return
    agents = settings.agents if agent_name is None else (settings.agent(agent_name),)
    surroundings = await _daemon(settings, environ, tell)
    candidates = _podman_places(settings, environ, tell)
    socket_path = first_socket(candidates) if candidates else None
    host = None if socket_path is None else await _host(socket_path, tell)
    root = await _audit_root(settings, agents, environ, tell)
    if socket_path is None or host is None:
        for agent in agents:
            await examine_agent(agent, Machine(surroundings, None, None, root), tell)
        return
    async with open_podman(socket_path) as podman:
        machine = Machine(surroundings, podman, host_rules.abilities(host), root)
        if root.trial_place is not None:
            await _remove_left(root.trial_place, podman, tell)
        tried = [await examine_agent(agent, machine, tell) for agent in agents]
    if root.trial_place is not None and machine.abilities is not None and not any(tried):
        tell(
            warn(
                "record",
                f"no record was tried below {root.trial_place}: that takes a session image that is"
                " on this host and sound",
                "get the image of one of the agents, then run this check again",
            )
        )


# --- the configuration and the daemon ------------------------------------------------------------


def _settings(path: Path, environ: Mapping[str, str], tell: Tell) -> Config | None:
    try:
        settings = config.load(path, environ)
    except ConfigError as error:
        remedy = CONFIG_REMEDY if is_file(path) else "name the daemon's with --config"
        for problem in error.problems:
            tell(fail("config", problem, remedy))
        return None
    except RuntimePathError as error:
        tell(refused("config", error, "set XDG_RUNTIME_DIR, or name the paths in [daemon]"))
        return None
    names = ", ".join(agent.name for agent in settings.agents)
    tell(ok("config", f"{path} has no problem; it declares {names}"))
    return settings


async def _daemon(settings: Config, environ: Mapping[str, str], tell: Tell) -> Surroundings:
    socket_path, pid_file = settings.daemon.socket_path, settings.daemon.pid_file
    assert socket_path is not None
    assert pid_file is not None
    if fault := socket_path_fault(socket_path):
        tell(refused("socket", RuntimePathError(fault), "choose a shorter daemon.socket_path"))
    else:
        tell(ok("socket", f"{socket_path}: {len(bytes(socket_path))} of 107 bytes"))
    for directory in dict.fromkeys((socket_path.parent, pid_file.parent)):
        place = look_at_place(directory, private=True)
        tell(host_rules.place_finding("runtime", place))
    surroundings = await _surroundings(socket_path, environ, tell)
    tell(agent_rules.surroundings_finding(surroundings))
    return surroundings


async def _surroundings(socket_path: Path, environ: Mapping[str, str], tell: Tell) -> Surroundings:
    own = {os.fsencode(name): os.fsencode(value) for name, value in environ.items()}
    daemon = await look_at_listener(socket_path)
    if daemon is None:
        tell(ok("daemon", f"none runs at {socket_path}"))
        return Surroundings(own, "the environment of this command, as no daemon runs", certain=True)
    which = f"process {daemon.pid}" if daemon.pid else "in a PID namespace that is not seen here"
    tell(ok("daemon", f"one runs at {socket_path}, {which}"))
    seen = process_environment(daemon.pid)
    if seen is None:
        return Surroundings(own, "the environment of this command", certain=False)
    return Surroundings(seen, f"the environment of the daemon, process {daemon.pid}", certain=True)


# --- the host ------------------------------------------------------------------------------------


def _podman_places(settings: Config, environ: Mapping[str, str], tell: Tell) -> tuple[Path, ...]:
    try:
        return podman_places(settings.daemon.podman_socket, environ)
    except HostUnsupported as error:
        tell(refused("podman", error, "set daemon.podman_socket"))
        return ()


async def _host(socket_path: Path, tell: Tell) -> Host | None:
    try:
        host = await _asked(socket_path)
    except PodmanError as error:
        tell(refused("podman", error, "start it: 'systemctl [--user] start podman.socket'"))
        return None
    for finding in host_rules.podman_findings(socket_path, host):
        tell(finding)
    listener = await look_at_listener(socket_path)
    if listener is not None:
        tell(host_rules.owner_finding(listener, os.geteuid()))
        tell(host_rules.idle_finding(listener))
    tell(host_rules.linger_finding(look_at_linger() if host.rootless else None))
    return host


async def _asked(socket_path: Path) -> Host:
    with trio.move_on_after(ABSENT_SECONDS):
        async with open_podman(socket_path) as podman:
            return await podman.info()
    raise PodmanTimeout(f"Podman at {socket_path} has not answered for {ABSENT_SECONDS:g} s")


async def _audit_root(
    settings: Config, agents: tuple[Agent, ...], environ: Mapping[str, str], tell: Tell
) -> Root:
    try:
        path = config.resolve_audit_root(settings.daemon, environ)
        wanted = max(agent.limits.output for agent in agents)
        root = await on_disk(DISK_SECONDS, f"the audit root {path}", look_at_root, path, wanted)
    except AgentdError as error:
        root = Root((refused("audit-root", error, "set daemon.audit_root"),), None)
    for finding in root.findings:
        tell(finding)
    return root


async def _remove_left(place: Path, podman: Podman, tell: Tell) -> None:
    try:
        await remove_left(place, podman)
    except AgentdError as error:
        text = f"what killed checks may have left below {place} was not removed: {error.fault}"
        tell(warn("left-behind", text, error.remedy or "look at the disk, run this check again"))
