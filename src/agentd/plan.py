"""What a session would get: found out with what sessions are made with, and without making any.

`make_plan` asks Podman and the disk and changes neither; `described` is pure. What would refuse a
run raises here what it raises there, but for what only the daemon can know: its environment, and
whether the audit root takes a record.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, NamedTuple

from msgspec import Struct, UnsetType

from . import audit, config, names
from .methodology import Document
from .podman import ContainerSpec, IdMap, Image, ResourceLimits, open_podman
from .podman_host import find_podman
from .session.admission import Examined, examine
from .session.image import asks_registry, local_image
from .session.invocation import Invocation, resolve_invocation
from .session.setup import input_place, runa_command, variable_names
from .session.spec import DEFAULT_PIDS, SESSION_ID, Admitted, HostAbilities, container_spec
from .wire import Run

SESSION: Final = "<session>"
"""Where the session's id will stand in names and paths."""

_ASSUMED: Final = b"?"
"""The value of a variable that is not set here; no plan shows any value."""


class PlannedImage(Struct, frozen=True, kw_only=True):
    """The image's name; id and digest of what this host has of it; what becomes of that."""

    reference: str
    id: str | None
    digest: str | None
    policy: str
    action: Literal["use", "pull", "pull_if_newer"]


class Clone(Struct, frozen=True, kw_only=True):
    """The repository, and how git shows who it is; the token goes to no other origin."""

    url: str
    authentication: Literal["none", "basic", "bearer"]
    username: str | None = None
    origin: str | None = None


class PlannedInput(Struct, frozen=True, kw_only=True):
    """The input's artifact, and the file in the container that it becomes."""

    artifact_type: str
    artifact_id: str
    path: str


class PlannedMount(Struct, frozen=True, kw_only=True):
    """A host's path and where it is in the container."""

    source: str
    target: str
    read_only: bool


class PlannedIsolation(Struct, frozen=True, kw_only=True):
    """What the container may not do, and the capabilities of its setup; the agent has none."""

    no_new_privileges: bool
    init: bool
    setup_capabilities: tuple[str, ...]


class PlannedUser(Struct, frozen=True, kw_only=True):
    """The session user's uid, here and on the host.

    `id_map` tells which ids of the service's own the container's are; rootful it is empty, and
    they are the same.
    """

    uid: int
    host_uid: int
    id_map: tuple[IdMap, ...]


class Plan(Struct, frozen=True, kw_only=True):
    """A session that nobody has started. Times are seconds."""

    agent: str
    image: PlannedImage
    clone: Clone
    work_unit: str | None
    input: PlannedInput | None
    mounts: tuple[PlannedMount, ...]
    credentials: tuple[str, ...]
    environment: tuple[str, ...]
    limits: audit.Limits
    """Those in force."""
    network: str
    isolation: PlannedIsolation
    command: tuple[str, ...]
    """What runs as the session user: runa, and the agent's own command after `--`."""
    timeout: float | None
    backstop: int | None
    """When Podman itself ends the container, should no daemon be there to do it."""
    user: PlannedUser
    container: str
    record: str
    podman_version: str
    podman_socket: str
    rootless: bool
    remarks: tuple[str, ...]


class Findings(NamedTuple):
    """What was found out about a run that would be admitted."""

    invocation: Invocation
    examined: Examined
    image: Image | None
    abilities: HostAbilities
    podman_socket: Path


async def make_plan(settings: config.Config, request: Run, environ: Mapping[str, str]) -> Plan:
    """What the daemon of these settings, as a process of this user, would make of `request`.

    Raises:
        AgentdError: such a run would be refused; or there is no Podman, or none that fits.
    """
    audit_root = config.resolve_audit_root(settings.daemon, environ)
    variables, remarks = assumed(settings.agent(request.agent), environ)
    invocation = resolve_invocation(settings, request, variables)
    podman_socket, host = await find_podman(settings.daemon.podman_socket, environ)
    abilities = HostAbilities.of(host)
    missing = []

    def look() -> None:
        if not audit.look(audit_root):
            missing.append(f"the audit root {audit_root} is not there yet; the daemon makes it")

    async with open_podman(podman_socket) as podman:
        examined = await examine(invocation, podman, abilities, look)
        image = await local_image(podman, invocation.agent)
    findings = Findings(invocation, examined, image, abilities, podman_socket)
    return described(settings.daemon, audit_root, findings, (*remarks, *missing))


def assumed(
    agent: config.Agent, environ: Mapping[str, str]
) -> tuple[dict[bytes, bytes], tuple[str, ...]]:
    """The variables of `environ` and those that the daemon has to have, and remarks on the latter.

    Whether they are set for the daemon, only the daemon knows.
    """
    variables = {os.fsencode(name): os.fsencode(value) for name, value in environ.items()}
    remarks = []
    for credential in agent.credentials:
        if credential.source not in environ:
            remarks.append(
                f"{credential.source} is not set here: if it is not for the daemon either, the run"
                f" is refused for its credential {credential.name}"
            )
            variables[credential.source.encode()] = _ASSUMED
    token = agent.repo_token_source
    if token is not None and token not in environ:
        remarks.append(
            f"{token} is not set here: if it is not for the daemon either, the clone goes without"
        )
        variables[token.encode()] = _ASSUMED
    return variables, tuple(remarks)


def described(
    daemon: config.Daemon, audit_root: Path, findings: Findings, remarks: tuple[str, ...] = ()
) -> Plan:
    """The plan of a run of which all this was found out. Pure, but for the uid of the process."""
    invocation, examined, image, abilities, podman_socket = findings
    agent = invocation.agent
    instance = names.instance_id(str(daemon.socket_path), str(daemon.pid_file), str(audit_root))
    record = audit.Record.of(audit_root, agent.name, SESSION)
    spec = container_spec(
        Admitted(
            invocation=invocation,
            document=examined.document,
            mount_sources=examined.mount_sources,
            image=image or Image(""),
        ),
        names.Identity(instance, SESSION),
        record,
        abilities,
        started_at=datetime.datetime.now(datetime.UTC),
        grace_seconds=daemon.shutdown_grace,
    )
    limits = _limits(agent, spec.resource_limits)
    if limits.pids is None:
        remarks += (
            f"this host cannot limit processes, so the default of {DEFAULT_PIDS} is not in force:"
            " delegate the pids controller to the user of the Podman service",
        )
    return Plan(
        agent=agent.name,
        image=_image(agent, image),
        clone=_clone(invocation),
        work_unit=invocation.work_unit,
        input=_input(agent, examined.document),
        mounts=_mounts(spec),
        credentials=tuple(variable.name for variable in invocation.credentials),
        environment=variable_names(invocation),
        limits=limits,
        network=agent.network,
        isolation=PlannedIsolation(
            no_new_privileges=spec.no_new_privileges,
            init=spec.init,
            setup_capabilities=spec.cap_add,
        ),
        command=runa_command(invocation),
        timeout=agent.timeout,
        backstop=None if isinstance(spec.timeout, UnsetType) else spec.timeout,
        user=_user(spec, abilities),
        container=spec.name,
        record=str(record.directory),
        podman_version=abilities.podman_version,
        podman_socket=str(podman_socket),
        rootless=abilities.rootless,
        remarks=remarks,
    )


def _image(agent: config.Agent, image: Image | None) -> PlannedImage:
    action: Literal["use", "pull", "pull_if_newer"] = "use"
    if image is None or agent.pull == "always":
        action = "pull"
    elif asks_registry(agent):
        action = "pull_if_newer"
    return PlannedImage(
        reference=agent.base_image,
        id=image.id if image else None,
        digest=(image.digest or None) if image else None,
        policy=agent.pull,
        action=action,
    )


def _clone(invocation: Invocation) -> Clone:
    token = invocation.repo_token
    if token is None:
        return Clone(url=invocation.repo_url, authentication="none")
    return Clone(
        url=invocation.repo_url,
        authentication=token.scheme,
        username=token.username if token.scheme == "basic" else None,
        origin=token.origin,
    )


def _input(agent: config.Agent, document: Document | None) -> PlannedInput | None:
    if document is None:
        return None
    return PlannedInput(
        artifact_type=document.artifact_type,
        artifact_id=document.artifact_id,
        path=input_place(agent, document),
    )


def _mounts(spec: ContainerSpec) -> tuple[PlannedMount, ...]:
    return tuple(
        PlannedMount(source=bind.source, target=bind.destination, read_only="ro" in bind.options)
        for bind in spec.mounts
    )


def _limits(agent: config.Agent, sent: ResourceLimits | UnsetType) -> audit.Limits:
    """The agent's own limits, and the default of processes if it is sent."""
    pids = None if isinstance(sent, UnsetType) or isinstance(sent.pids, UnsetType) else sent.pids
    return audit.Limits(
        memory=agent.limits.memory,
        cpus=agent.limits.cpus,
        pids=None if pids is None else pids.limit,
        output=agent.limits.output,
        record=agent.limits.record,
    )


def _user(spec: ContainerSpec, abilities: HostAbilities) -> PlannedUser:
    maps = () if isinstance(spec.idmappings, UnsetType) else spec.idmappings.uid_map
    host_uid, _ = abilities.session_owner or (os.geteuid(), os.getegid())
    return PlannedUser(uid=SESSION_ID, host_uid=host_uid, id_map=maps)
