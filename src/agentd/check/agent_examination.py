"""What is looked at of one agent: its methodology, mounts, credentials, limits and image."""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from ..config import Agent
from ..daemon.zone import local_zone
from ..errors import AgentdError, HostUnsupported, PodmanError
from ..podman import Podman
from ..session.admission import check_network, resolved_source
from ..session.disk import DISK_SECONDS, on_disk
from ..session.image import check_reference
from ..session.spec import HostAbilities
from ..watch import open_watcher
from . import agent_rules
from .agent_rules import Surroundings
from .audit_look import Root
from .finding import Tell, fail, ok, refused, warn
from .methodology_look import methodology_findings, scheduled_request_finding
from .throwaway import Bench, try_session


class Machine(NamedTuple):
    """What is known of the host when the agents' turn comes."""

    surroundings: Surroundings
    podman: Podman | None
    """None when it does not answer."""
    abilities: HostAbilities | None
    """None when it cannot run sessions."""
    root: Root


async def examine_agent(agent: Agent, machine: Machine, tell: Tell) -> bool:
    """Look at an agent; whether a record was tried for it."""
    sound = await _methodology(agent, tell)
    sources = await _mounts(agent, tell)
    _text(agent, machine.surroundings, tell)
    if machine.abilities is not None:
        tell(agent_rules.limits_finding(agent, machine.abilities))
    return await _image(agent, machine, sources, tell, methodology_sound=sound)


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
) -> bool:
    """Look at the agent's image, from the inside if it is here; whether a record was tried."""
    podman, abilities = machine.podman, machine.abilities
    if podman is None or abilities is None:
        text = f"{agent.base_image} was not looked at: Podman cannot run sessions"
        tell(warn("image", text, "see the failed checks of Podman above", agent.name))
        return False
    await _network(agent, podman, tell)
    try:
        check_reference(agent)
        image = await podman.image(agent.base_image)
    except AgentdError as error:
        tell(refused("image", error, "correct base_image", agent.name))
        return False
    tell(agent_rules.image_finding(agent, image))
    if image is None:
        return False
    place = machine.root.trial_place
    try:
        async with open_watcher() as watcher:
            bench = Bench(
                podman=podman,
                watcher=watcher,
                abilities=abilities,
                place=place or Path(tempfile.gettempdir()),
                is_root=place is not None,
            )
            return await try_session(
                bench, agent, image, sources, tell, methodology_sound=methodology_sound
            )
    except HostUnsupported as error:
        tell(refused("image-trial", error, "see what the host says of it", agent.name))
        return False


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
