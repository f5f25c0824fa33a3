"""What the host and its Podman must be like. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from ..errors import HostUnsupported, RuntimePathError
from ..podman import Host
from ..podman_host import check_version
from ..session.spec import SESSION_ID, HostAbilities
from .finding import Finding, fail, ok, warn

LIMITABLE: Final = ("memory", "cpu", "pids")
"""The cgroup controllers behind `memory`, `cpus` and `pids` of `[agents.limits]`."""


class Place(NamedTuple):
    """A directory that agentd is to use, or the nearest one above it that exists."""

    wanted: Path
    existing: Path
    writable: bool
    """Whether this process may make files in `existing`."""
    fault: RuntimePathError | None = None
    """What else is wrong with `existing`, when it is the wanted one."""


class Listener(NamedTuple):
    """The process that listens at Podman's socket; its id is 0 when it cannot be seen."""

    pid: int
    uid: int
    words: tuple[str, ...] = ()
    """Its command line; none when it may not be read."""


class Linger(NamedTuple):
    """Whether systemd keeps the services of a user who is not logged in."""

    user: str
    systemd: bool
    lingers: bool


def podman_findings(socket_path: Path, host: Host) -> list[Finding]:
    """What Podman says of itself and of its host."""
    mode = "rootless" if host.rootless else "rootful"
    reachable = ok("podman", f"{socket_path} answers: Podman {host.podman_version}, {mode}")
    return [reachable, _version(host.podman_version), _ids(host), _cgroup(host)]


def _version(version: str) -> Finding:
    try:
        check_version(version)
    except HostUnsupported:
        text = f"Podman is {version}, and agentd needs 4.3 or newer"
        return fail("podman-version", text, "upgrade Podman")
    return ok("podman-version", f"{version} is 4.3 or newer")


def _ids(host: Host) -> Finding:
    if not host.rootless:
        return ok("id-mapping", f"sessions work as uid {SESSION_ID} of the host itself")
    if host.mapped_ids > SESSION_ID:
        return ok("id-mapping", f"{host.mapped_ids} ids are mapped: uid {SESSION_ID} is among them")
    return fail(
        "id-mapping",
        f"{host.mapped_ids} ids are mapped, and sessions need {SESSION_ID + 1}",
        "give the user 65536 ids in /etc/subuid and /etc/subgid, then run 'podman system migrate'",
    )


def abilities(host: Host) -> HostAbilities | None:
    """What sessions can be given, or None when there can be no session."""
    try:
        return HostAbilities.of(host)
    except HostUnsupported:
        return None


def _cgroup(host: Host) -> Finding:
    version = "cgroup v1" if host.cgroup_v1 else "cgroup v2"
    limited = not (host.rootless and host.cgroup_v1)
    able = [each for each in LIMITABLE if limited and each in host.controllers]
    unable = [each for each in LIMITABLE if each not in able]
    if not unable:
        return ok("cgroup", f"{version}: sessions can be limited in {', '.join(able)}")
    remedy = (
        "none is needed unless an agent declares such a limit; delegate them to the user with"
        " Delegate=cpu memory pids in a drop-in of user@.service"
    )
    if not limited:
        version += " and rootless"
        remedy = (
            "none is needed unless an agent declares limits; boot with cgroup v2"
            " (systemd.unified_cgroup_hierarchy=1) to have them"
        )
    return warn("cgroup", f"{version}: sessions cannot be limited in {', '.join(unable)}", remedy)


def owner_finding(listener: Listener, euid: int) -> Finding:
    """Whose the service is: what sessions write must belong to the daemon's user."""
    if listener.uid == euid:
        return ok("podman-owner", f"the service belongs to uid {euid}, as this command does")
    return fail(
        "podman-owner",
        f"the service belongs to uid {listener.uid}, and this command runs as uid {euid}",
        "run agentd and this check as the user of the Podman service, or use this user's service",
    )


def idle_finding(listener: Listener) -> Finding:
    """Whether the service ends when it is idle, with nobody to start it again."""
    program = Path(listener.words[0]).name if listener.words else "a process that cannot be seen"
    if program == "systemd":
        return ok("podman-idle", "systemd holds the socket, and starts Podman when it is asked")
    if program != "podman":
        return ok("podman-idle", f"{program} holds the socket, and is to keep Podman there")
    seconds = _idle_seconds(listener.words)
    if seconds in {"0", "0s"}:
        return ok("podman-idle", "the service runs for good, idle or not")
    return warn(
        "podman-idle",
        f"the service ends after {seconds} seconds without a request, and nothing starts it again",
        "use the unit podman.socket, or start the service with --time=0",
    )


def _idle_seconds(words: Sequence[str]) -> str:
    """What `podman system service` was told; 5 is its default, podman-system-service(1)."""
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if word in {"--time", "-t"}:
            return after
        if word.startswith(("--time=", "-t")):
            return word.removeprefix("--time=").removeprefix("-t")
    return "5"


def linger_finding(linger: Linger | None) -> Finding:
    """Whether a log-out ends sessions; None for a rootful service, which no log-out ends."""
    if linger is None:
        return ok("linger", "not needed: the service is root's")
    if not linger.systemd:
        return ok("linger", "not needed: no systemd runs here, so no log-out ends services")
    if linger.lingers:
        return ok("linger", f"the services of {linger.user} outlive the log-out")
    return warn(
        "linger",
        f"systemd ends daemon and sessions when {linger.user} logs out",
        f"run 'loginctl enable-linger {linger.user}'",
    )


def place_finding(name: str, place: Place) -> Finding:
    """A directory that the daemon makes when it is missing."""
    if place.fault is not None:
        return fail(name, place.fault.fault, place.fault.remedy)
    there = place.wanted == place.existing
    if not place.writable:
        what = "is not writable" if there else f"is missing, and {place.existing} is not writable"
        remedy = "make it, as the daemon's user, or configure another place"
        return fail(name, f"{place.wanted} {what} for this user", remedy)
    return ok(name, f"{place.wanted} {'is usable' if there else 'is missing: agentd makes it'}")


def space_finding(root: Path, free: int, wanted: int) -> Finding:
    """Whether the output of one session has room; both are bytes."""
    text = f"{free // 2**20} MiB are free below {root}"
    if free >= wanted:
        return ok("audit-space", text)
    return warn(
        "audit-space",
        f"{text}, and the output of one session may take {wanted // 2**20} MiB (limits.output)",
        "free space, run 'agentd audit prune', or move daemon.audit_root",
    )
