"""The container that a session gets, as data. Pure.

Everything that a careless operator or a hostile agent could bend is decided here and in the
setup: mounts, capabilities, namespaces, limits.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from .. import names, podman
from ..audit import Record
from ..config import Agent
from ..errors import HostUnsupported
from ..methodology import Document
from ..podman import Bind, ContainerSpec, IdMap, IdMappings, Image, MountedSecret, Namespace
from .invocation import Invocation
from .setup import session_secrets, setup_arguments, setup_script

SESSION_ID: Final = 10001
"""The uid and gid of every session user; the host maps them to the user of the daemon."""

SETUP_CAPABILITIES: Final = ("CHOWN", "DAC_OVERRIDE", "KILL", "SETGID", "SETUID")
"""What setup and init need as root; without any one of them something fails. The agent has none.

CHOWN gives home to the session user. DAC_OVERRIDE goes into homes that are private to a user of
the image, and empties the read-only files of credentials. KILL is for init: without it, it could
not pass a stop signal on to the session user's process. SETGID and SETUID are gosu's.
"""

DEFAULT_PIDS: Final = 2048
CPU_PERIOD: Final = 100_000
"""Microseconds; the kernel's own default for CPU quotas."""

STOP_SIGNAL: Final = 2
"""SIGINT: runa answers it by finishing the current protocol; SIGTERM it does not handle."""

METHODOLOGY: Final = "/agentd/methodology"
INVOCATION_INPUT: Final = "/agentd/invocation-input"

TIMEOUT_MARGIN_SECONDS: Final = 60
"""Beyond deadline and grace, after which conmon kills a container that no daemon looks after."""


class HostAbilities(msgspec.Struct, frozen=True, kw_only=True):
    """What this Podman and this host can give, asked once at startup."""

    rootless: bool
    podman_version: str = ""
    mapped_ids: int = 0
    """How many ids a container can have; 0 when Podman maps none, as root."""
    controllers: frozenset[str] = frozenset()

    @property
    def session_owner(self) -> tuple[int, int] | None:
        """The host's uid and gid for what the session user writes; None means the daemon's own."""
        return None if self.rootless else (SESSION_ID, SESSION_ID)

    @classmethod
    def of(cls, host: podman.Host) -> HostAbilities:
        """Read them from Podman's own account.

        Rootless on cgroup v1 no limit is enforced, whatever the list of controllers says.

        Raises:
            HostUnsupported: too few ids are mapped to give sessions a user of their own.
        """
        mapped = host.mapped_ids
        if host.rootless and mapped <= SESSION_ID:
            raise HostUnsupported(
                f"rootless Podman maps {mapped} ids and sessions need {SESSION_ID + 1}: give the"
                " user 65536 ids in /etc/subuid and /etc/subgid, then run 'podman system migrate'"
            )
        limited = not (host.rootless and host.cgroup_v1)
        return cls(
            rootless=host.rootless,
            podman_version=host.podman_version,
            mapped_ids=mapped,
            controllers=host.controllers if limited else frozenset(),
        )


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """An invocation that passed every check, with what the checks found."""

    invocation: Invocation
    document: Document | None
    mount_sources: tuple[str, ...]
    """The agent's mount sources, symlinks resolved, in the order of their declaration."""
    image: Image


def container_spec(
    admitted: Admitted,
    whose: names.Identity,
    record: Record,
    abilities: HostAbilities,
    *,
    started_at: datetime.datetime,
    grace_seconds: float,
) -> ContainerSpec:
    """The whole specification of a session's container.

    Raises:
        HostUnsupported: the operator wrote a limit that this host cannot enforce.
    """
    invocation, agent = admitted.invocation, admitted.invocation.agent
    netns, networks = _network(agent.network)
    arguments = setup_arguments(invocation, admitted.document)
    return ContainerSpec(
        name=names.container_name(whose, agent.name),
        image=admitted.image.id,
        entrypoint=("/bin/sh",),
        command=("-c", setup_script(), "agentd", *arguments),
        labels=_labels(agent, whose, record, started_at),
        mounts=_mounts(admitted, record),
        secrets=tuple(
            MountedSecret(source=secret.name, target=secret.target)
            for secret in session_secrets(invocation, whose)
        ),
        env=_proxies(agent),
        cap_add=SETUP_CAPABILITIES,
        no_new_privileges=agent.isolation.no_new_privileges,
        init=agent.isolation.init,
        stop_signal=STOP_SIGNAL,
        log_configuration=podman.LogConfiguration("k8s-file", str(record.output_raw)),
        netns=netns,
        networks=networks,
        userns=Namespace("private") if abilities.rootless else UNSET,
        idmappings=_id_mappings(abilities.mapped_ids) if abilities.rootless else UNSET,
        resource_limits=_resource_limits(agent, abilities),
        timeout=_backstop(agent.timeout, grace_seconds),
    )


PROXIES: Final = frozenset({"http_proxy", "https_proxy", "all_proxy", "no_proxy"})
"""In either case of letters; what git and curl(1) read."""


def _proxies(agent: Agent) -> dict[str, str]:
    """The one part of the agent's environment that the clone needs too; all of it comes later."""
    return {name: value for name, value in agent.environment.items() if name.lower() in PROXIES}


# --- mounts --------------------------------------------------------------------------------------


def _mounts(admitted: Admitted, record: Record) -> tuple[Bind, ...]:
    """Ours first, relabelled for SELinux; then the operator's, whose labels are not ours."""
    agent = admitted.invocation.agent
    audit_leaf = f"/home/{agent.name}/.agentd/audit/runa"
    ours = [
        _bind(agent.methodology_dir, METHODOLOGY, "ro", "z"),
        _bind(record.runa, audit_leaf, "rw", "z"),
    ]
    if admitted.document is not None:
        ours.append(_bind(record.invocation_input, INVOCATION_INPUT, "ro", "z"))
    theirs = (
        _bind(source, mount.target, "ro" if mount.read_only else "rw")
        for mount, source in zip(agent.mounts, admitted.mount_sources, strict=True)
    )
    return (*ours, *theirs)


def _bind(source: Path | str, target: str, access: Literal["ro", "rw"], *options: str) -> Bind:
    # `ro` says nothing of what is mounted below the source: read-only binds leave it out.
    reach = "bind" if access == "ro" else "rbind"
    return Bind(source=str(source), destination=target, options=(reach, access, *options))


# --- identity, network, limits -------------------------------------------------------------------


def _labels(
    agent: Agent, whose: names.Identity, record: Record, started_at: datetime.datetime
) -> dict[str, str]:
    labels = {
        names.Label.INSTANCE: whose.instance,
        names.Label.SESSION: whose.session,
        names.Label.AGENT: agent.name,
        names.Label.RECORD: str(record.directory),
        names.Label.STARTED: started_at.isoformat(),
    }
    if agent.timeout is not None:
        deadline = started_at + datetime.timedelta(seconds=agent.timeout)
        labels[names.Label.DEADLINE] = deadline.isoformat()
    return labels


NETWORK_MODES: Final = ("default", "host", "none")
"""What `network` may say beside the name of a Podman network."""


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
            " cgroup controller is not delegated to Podman, or Podman is rootless on cgroup v1",
            remedy="delegate it, or remove the limit",
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
