"""The container that a session gets, as data. Pure.

Everything an operator or a hostile image could bend is decided here and in `setup.sh`: mounts,
capabilities, limits, and the arguments of the setup.
"""

from __future__ import annotations

import datetime
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from .. import names, podman
from ..config import Agent
from ..errors import HostUnsupported
from ..methodology import Document
from ..podman import Bind, ContainerSpec, IdMap, IdMappings, MountedSecret, Namespace
from .invocation import Invocation

SESSION_ID: Final = 10001
"""The uid and gid of every session user; the host maps them to the user of the daemon."""

SETUP_CAPABILITIES: Final = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID")
"""What the setup needs as root; after gosu the agent has no capability at all."""

DEFAULT_PIDS: Final = 2048
CPU_PERIOD: Final = 100_000
"""Microseconds; the kernel's own default for CPU quotas."""

STOP_SIGNAL: Final = 2
"""SIGINT: runa answers it by finishing the current protocol; SIGTERM it does not handle."""

METHODOLOGY: Final = "/agentd/methodology"
INVOCATION_INPUT: Final = "/agentd/invocation-input"
CREDENTIALS: Final = "/agentd/credentials"
REPO_TOKEN: Final = "repo-token"

TIMEOUT_MARGIN_SECONDS: Final = 60
"""Beyond deadline and grace, after which conmon kills a container that no daemon looks after."""


class HostAbilities(msgspec.Struct, frozen=True, kw_only=True):
    """What this Podman and this host can give, asked once at startup."""

    rootless: bool
    mapped_ids: int = 0
    controllers: frozenset[str] = frozenset()

    @classmethod
    def of(cls, host: podman.Host) -> HostAbilities:
        """Read them from Podman's own account.

        Rootless on cgroup v1 no limit is enforced, whatever the list of controllers says.

        Raises:
            HostUnsupported: too few ids are mapped to give sessions a user of their own.
        """
        mapped = min(host.mapped_uids, host.mapped_gids)
        if host.rootless and mapped <= SESSION_ID:
            raise HostUnsupported(
                f"rootless Podman maps {mapped} ids and sessions need {SESSION_ID + 1}: give the"
                " user 65536 ids in /etc/subuid and /etc/subgid, then run 'podman system migrate'"
            )
        limited = not (host.rootless and host.cgroup_v1)
        return cls(
            rootless=host.rootless,
            mapped_ids=mapped,
            controllers=host.controllers if limited else frozenset(),
        )


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """The host paths and the names that one session's container is tied to."""

    instance: str
    session_id: str
    record: Path
    runa: Path
    output_raw: Path
    invocation_input: Path
    mount_sources: tuple[str, ...]
    """The agent's mount sources with their symlinks resolved, in the order of declaration."""


def container_spec(
    invocation: Invocation,
    places: Places,
    abilities: HostAbilities,
    *,
    image_id: str,
    document: Document | None,
    started: datetime.datetime,
    grace_seconds: float,
) -> ContainerSpec:
    """The whole specification of a session's container.

    Raises:
        HostUnsupported: the operator wrote a limit that this host cannot enforce.
    """
    agent = invocation.agent
    netns, networks = _network(agent.network)
    return ContainerSpec(
        name=names.container_name(places.instance, agent.name, places.session_id),
        image=image_id,
        entrypoint=("/bin/sh",),
        command=("-c", setup_script(), "agentd", *setup_arguments(invocation, document)),
        labels=_labels(invocation, places, started),
        mounts=_mounts(invocation, places, document is not None),
        secrets=tuple(_secret(name, target) for name, target, _ in secrets(invocation, places)),
        cap_add=SETUP_CAPABILITIES,
        no_new_privileges=agent.isolation.no_new_privileges,
        init=agent.isolation.init,
        stop_signal=STOP_SIGNAL,
        log_configuration=podman.LogConfiguration("k8s-file", str(places.output_raw)),
        netns=netns,
        networks=networks,
        userns=Namespace("private") if abilities.rootless else UNSET,
        idmappings=_id_mappings(abilities.mapped_ids) if abilities.rootless else UNSET,
        resource_limits=_resource_limits(agent, abilities),
        timeout=_backstop(agent.timeout, grace_seconds),
    )


# --- the setup's arguments -----------------------------------------------------------------------


@cache
def setup_script() -> str:
    """The text of `setup.sh`: the same bytes for every session."""
    return (resources.files(__package__) / "setup.sh").read_text(encoding="utf-8")


def setup_arguments(invocation: Invocation, document: Document | None) -> list[str]:
    """The arguments of `setup.sh`, in the order that its head comment gives."""
    agent, token = invocation.agent, invocation.repo_token
    placed = (document.artifact_type, document.artifact_id) if document else ("", "")
    authentication = (token.scheme, token.username, token.origin) if token else ("", "", "")
    home = f"/home/{agent.name}/"
    below_home = [mount.target for mount in agent.mounts if mount.target.startswith(home)]
    variables = [*_plain_variables(agent), *_credential_variables(invocation)]
    return [
        agent.name,
        invocation.repo_url,
        invocation.work_unit or "",
        *placed,
        *authentication,
        str(len(below_home)),
        *below_home,
        str(len(variables)),
        *(word for variable in variables for word in variable),
        *agent.command.argv,
    ]


def _plain_variables(agent: Agent) -> list[tuple[str, str, str]]:
    return [(name, "value", value) for name, value in agent.environment.items()]


def _credential_variables(invocation: Invocation) -> list[tuple[str, str, str]]:
    # Podman refuses a secret of no bytes: an empty credential is an argument.
    return [
        (variable.name, "file", f"{CREDENTIALS}/{index}")
        if variable.value
        else (variable.name, "value", "")
        for index, variable in enumerate(invocation.credentials)
    ]


# --- secrets and mounts --------------------------------------------------------------------------


def secrets(invocation: Invocation, places: Places) -> list[tuple[str, str, bytes]]:
    """The session's secrets: name in Podman's store, file in the container, value."""
    whose = (places.instance, places.session_id)
    found = [
        (names.secret_name(*whose, index), f"{CREDENTIALS}/{index}", variable.value)
        for index, variable in enumerate(invocation.credentials)
        if variable.value
    ]
    if invocation.repo_token is not None:
        name = names.repo_token_secret_name(*whose)
        found.append((name, f"{CREDENTIALS}/{REPO_TOKEN}", invocation.repo_token.value))
    return found


def _secret(name: str, target: str) -> MountedSecret:
    return MountedSecret(source=name, target=target)


def _mounts(invocation: Invocation, places: Places, with_input: bool) -> tuple[Bind, ...]:
    """Ours first, relabelled for SELinux; then the operator's, whose labels are not ours."""
    agent = invocation.agent
    audit_leaf = f"/home/{agent.name}/.agentd/audit/runa"
    ours = [
        _bind(agent.methodology_dir, METHODOLOGY, "ro", "z"),
        _bind(places.runa, audit_leaf, "rw", "z"),
    ]
    if with_input:
        ours.append(_bind(places.invocation_input, INVOCATION_INPUT, "ro", "z"))
    theirs = (
        _bind(source, mount.target, "ro" if mount.read_only else "rw")
        for mount, source in zip(agent.mounts, places.mount_sources, strict=True)
    )
    return (*ours, *theirs)


def _bind(source: Path | str, target: str, *options: str) -> Bind:
    return Bind(source=str(source), destination=target, options=("rbind", *options))


# --- identity, network, limits -------------------------------------------------------------------


def _labels(
    invocation: Invocation, places: Places, started: datetime.datetime
) -> dict[str, str]:
    labels = {
        names.Label.INSTANCE: places.instance,
        names.Label.SESSION: places.session_id,
        names.Label.AGENT: invocation.agent.name,
        names.Label.RECORD: str(places.record),
        names.Label.STARTED: started.isoformat(),
    }
    if invocation.agent.timeout is not None:
        deadline = started + datetime.timedelta(seconds=invocation.agent.timeout)
        labels[names.Label.DEADLINE] = deadline.isoformat()
    return labels


def _network(name: str) -> tuple[Namespace | UnsetType, dict[str, dict[str, str]] | UnsetType]:
    if name == "default":
        return UNSET, UNSET
    if name in {"host", "none"}:
        return Namespace(name), UNSET
    return Namespace("bridge"), {name: {}}


def _id_mappings(size: int) -> IdMappings:
    """What `keep-id:uid=10001,gid=10001` means, for a service that maps `size` ids.

    `host_id` 0 is the user of the service itself, which so owns what the session user writes.
    """
    rest = size - SESSION_ID - 1
    maps = (
        IdMap(container_id=0, host_id=1, size=SESSION_ID),
        IdMap(container_id=SESSION_ID, host_id=0, size=1),
        IdMap(container_id=SESSION_ID + 1, host_id=SESSION_ID + 1, size=rest),
    )
    used = maps if rest > 0 else maps[:2]
    return IdMappings(uid_map=used, gid_map=used)


def check_limits(agent: Agent, abilities: HostAbilities) -> None:
    """Refuse a limit that the operator wrote and this host cannot enforce.

    Raises:
        HostUnsupported: the text names the limits.
    """
    limits = agent.limits
    written = {"memory": limits.memory, "cpu": limits.cpus, "pids": limits.pids}
    unable = [
        f"limits.{'cpus' if controller == 'cpu' else controller}"
        for controller, value in written.items()
        if value and controller not in abilities.controllers
    ]
    if unable:
        raise HostUnsupported(
            f"agent '{agent.name}' sets {', '.join(unable)}, which this host cannot enforce: the"
            " cgroup controller is not delegated to Podman, or Podman is rootless on cgroup v1;"
            " delegate it, or remove the limit"
        )


def _resource_limits(agent: Agent, abilities: HostAbilities) -> podman.ResourceLimits | UnsetType:
    check_limits(agent, abilities)
    limits = agent.limits
    pids = limits.pids or (DEFAULT_PIDS if "pids" in abilities.controllers else None)
    if not (limits.memory or limits.cpus or pids):
        return UNSET
    return podman.ResourceLimits(
        memory=podman.MemoryLimit(limits.memory, limits.memory) if limits.memory else UNSET,
        cpu=podman.CpuLimit(round(limits.cpus * CPU_PERIOD), CPU_PERIOD) if limits.cpus else UNSET,
        pids=podman.PidsLimit(pids) if pids else UNSET,
    )


def _backstop(timeout: float | None, grace_seconds: float) -> int | UnsetType:
    if timeout is None:
        return UNSET
    return round(timeout + grace_seconds) + TIMEOUT_MARGIN_SECONDS
