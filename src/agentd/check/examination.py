"""The order of the checks: configuration, daemon, Podman, audit root, then agent by agent."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import trio

from .. import config
from ..config import Agent, Config
from ..daemon.zone import local_zone
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
from ..session.admission import check_network, resolved_source
from ..session.disk import DISK_SECONDS, on_disk
from ..session.image import check_reference
from ..session.spec import HostAbilities
from ..watch import open_watcher
from . import agent_rules, host_rules
from .agent_rules import Surroundings
from .audit_look import Root, look_at_root
from .finding import Tell, fail, ok, refused, warn
from .look import is_file, look_at_linger, look_at_listener, look_at_place, process_environment
from .methodology_look import methodology_findings, scheduled_request_finding
from .throwaway import Bench, try_session
from .trial_record import remove_left

CONFIG_REMEDY: Final = "correct it; examples/agentd.toml documents every key"


class Machine(NamedTuple):
    """What is known of the host when the agents' turn comes."""

    surroundings: Surroundings
    podman: Podman | None
    """None when it does not answer."""
    abilities: HostAbilities | None
    """None when it cannot run sessions."""
    root: Root


async def examine(
    path: Path, environ: Mapping[str, str], agent_name: str | None, tell: Tell
) -> None:
    """Look at everything that a daemon with the configuration at `path` relies on.

    `tell` gets each finding as soon as it is there. With `agent_name` only that agent is looked at.

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
            await _agent(agent, Machine(surroundings, None, None, root), tell)
        return
    async with open_podman(socket_path) as podman:
        machine = Machine(surroundings, podman, host_rules.abilities(host), root)
        if root.trial_place is not None:
            await remove_left(root.trial_place, podman)
        for agent in agents:
            await _agent(agent, machine, tell)


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


# --- an agent ------------------------------------------------------------------------------------


async def _agent(agent: Agent, machine: Machine, tell: Tell) -> None:
    sound = await _methodology(agent, tell)
    sources = await _mounts(agent, tell)
    _text(agent, machine.surroundings, tell)
    if machine.abilities is not None:
        tell(agent_rules.limits_finding(agent, machine.abilities))
    await _image(agent, machine, sources, tell, methodology_sound=sound)


async def _methodology(agent: Agent, tell: Tell) -> bool:
    directory, name = agent.methodology_dir, agent.name
    try:
        found = await on_disk(DISK_SECONDS, str(directory), methodology_findings, directory, name)
        if agent.scheduled_request is not None and found[0].status == "ok":
            found.append(
                await on_disk(
                    DISK_SECONDS,
                    str(directory),
                    scheduled_request_finding,
                    directory,
                    agent.scheduled_request,
                    name,
                )
            )
    except AgentdError as error:
        found = [refused("methodology", error, "look at its file system", name)]
    for finding in found:
        tell(finding)
    return found[0].status == "ok"


async def _mounts(agent: Agent, tell: Tell) -> tuple[str | None, ...]:
    """The sources that are there, None for the others."""
    sources: list[str | None] = []
    for mount in agent.mounts:
        try:
            source = await on_disk(DISK_SECONDS, mount.source, resolved_source, mount.source)
        except AgentdError as error:
            remedy = f"make {mount.source}, or correct the mounts of agent '{agent.name}'"
            tell(refused("mount", error, remedy, agent.name))
            sources.append(None)
        else:
            tell(ok("mount", f"{mount.source} is there, for {mount.target}", agent.name))
            sources.append(source)
    return tuple(sources)


def _text(agent: Agent, surroundings: Surroundings, tell: Tell) -> None:
    for finding in agent_rules.credential_findings(agent, surroundings):
        tell(finding)
    if token := agent_rules.repo_token_finding(agent, surroundings):
        tell(token)
    try:
        variables = surroundings.variables
        zone = local_zone({"TZ": os.fsdecode(variables[b"TZ"])} if b"TZ" in variables else {})
    except HostUnsupported as error:
        tell(refused("schedule", error, "correct TZ, or /etc/localtime", agent.name))
    else:
        if fire := agent_rules.schedule_finding(agent, datetime.now(UTC), zone):
            tell(fire)


async def _image(
    agent: Agent,
    machine: Machine,
    sources: tuple[str | None, ...],
    tell: Tell,
    *,
    methodology_sound: bool,
) -> None:
    podman, abilities = machine.podman, machine.abilities
    if podman is None or abilities is None:
        text = f"{agent.base_image} was not looked at: Podman cannot run sessions"
        tell(warn("image", text, "see the failed checks of Podman above", agent.name))
        return
    await _network(agent, podman, tell)
    try:
        check_reference(agent)
        image = await podman.image(agent.base_image)
    except AgentdError as error:
        tell(refused("image", error, "correct base_image", agent.name))
        return
    tell(agent_rules.image_finding(agent, image))
    if image is None:
        return
    async with open_watcher() as watcher:
        place = machine.root.trial_place
        bench = Bench(
            podman=podman,
            watcher=watcher,
            abilities=abilities,
            place=place or Path(tempfile.gettempdir()),
            is_root=place is not None,
        )
        await try_session(bench, agent, image, sources, tell, methodology_sound=methodology_sound)


async def _network(agent: Agent, podman: Podman, tell: Tell) -> None:
    try:
        await check_network(podman, agent)
    except HostUnsupported:
        text = f"there is no network '{agent.network}'"
        remedy = f"run 'podman network create {agent.network}' as the user of the Podman service"
        tell(fail("network", text, remedy, agent.name))
    except PodmanError as error:
        tell(refused("network", error, "see what Podman says of it", agent.name))
    else:
        tell(ok("network", f"'{agent.network}' can be had", agent.name))
