"""What Podman answers, field by field as its REST API names them.

Only the fields that agentd uses are here; Podman ignores what it does not know, and so do the
decoders. Every fact was seen on Podman 4.3.1 and 5.4.2 with the prefix `/v4.0.0/libpod`.
"""

from __future__ import annotations

import datetime

import msgspec
from msgspec import field

from .container_spec import IdMap

# --- POST /containers/create ---------------------------------------------------------------------


class Created(msgspec.Struct, frozen=True, rename="pascal"):
    """The reply to a create. Any warning means that something asked for will not be enforced."""

    id: str
    warnings: list[str] | None = None


# --- GET /containers/{id}/json -------------------------------------------------------------------


class ContainerState(msgspec.Struct, frozen=True, rename="pascal"):
    """A container's state; times are null only on no version seen, but cost nothing to allow."""

    status: str
    exit_code: int
    started_at: datetime.datetime | None = None
    finished_at: datetime.datetime | None = None
    oom_killed: bool = field(name="OOMKilled", default=False)
    """True is a fact; false is none before Podman 5, which looks for conmon's note elsewhere."""
    conmon_pid: int = 0
    """In the service's PID namespace; 0 if there is none."""
    cgroup_path: str = ""
    """Below the root of the host's control groups."""

    @property
    def started(self) -> bool:
        """Whether it was ever started: never is the year 1 in Podman's words."""
        return _is_set(self.started_at)

    @property
    def finished(self) -> bool:
        """Whether it ended and its exit code is recorded.

        The status alone does not say it: after a host's reboot it is `exited` with code 0 and no
        end time.
        """
        return self.status in {"exited", "stopped"} and _is_set(self.finished_at)

    @property
    def lost(self) -> bool:
        """Whether it was started, runs no more, and its end was never seen: a host's reboot."""
        resting = self.status in {"created", "configured", "exited", "stopped"}
        return resting and self.started and not _is_set(self.finished_at)


def _is_set(time: datetime.datetime | None) -> bool:
    return time is not None and time.year > 1


class Container(msgspec.Struct, frozen=True, rename="pascal"):
    """What inspect says of a container."""

    id: str
    name: str
    state: ContainerState


class ListedContainer(msgspec.Struct, frozen=True, rename="pascal"):
    """A row of `GET /containers/json`; the state is `storage` for what is no container at all."""

    names: list[str]
    state: str
    labels: dict[str, str] | None = None

    @property
    def name(self) -> str:
        """Its name; Podman gives a container exactly one."""
        return self.names[0] if self.names else ""


# --- GET /secrets/json ---------------------------------------------------------------------------


class _SecretSpec(msgspec.Struct, frozen=True, rename="pascal"):
    name: str


class ListedSecret(msgspec.Struct, frozen=True, rename="pascal"):
    """A row of `GET /secrets/json`; never its value."""

    spec: _SecretSpec


# --- GET /images/{name}/json ---------------------------------------------------------------------


class Image(msgspec.Struct, frozen=True, rename="pascal"):
    """A local image: its id (64 hex digits) and the digest of its manifest."""

    id: str
    digest: str = ""


# --- GET /info -----------------------------------------------------------------------------------


class _Security(msgspec.Struct, frozen=True):
    rootless: bool


class _HostIdMappings(msgspec.Struct, frozen=True):
    uidmap: list[IdMap] | None = None
    gidmap: list[IdMap] | None = None


class _HostInfo(msgspec.Struct, frozen=True, rename="camel"):
    security: _Security
    cgroup_version: str
    cgroup_controllers: list[str] | None = None
    id_mappings: _HostIdMappings | None = None


class _VersionInfo(msgspec.Struct, frozen=True, rename="pascal"):
    version: str


class Host(msgspec.Struct, frozen=True):
    """What `info` tells about the service and its host."""

    host: _HostInfo
    version: _VersionInfo

    @property
    def podman_version(self) -> str:
        """Podman's version, such as `4.3.1`."""
        return self.version.version

    @property
    def rootless(self) -> bool:
        """Whether the service runs as an ordinary user."""
        return self.host.security.rootless

    @property
    def cgroup_v1(self) -> bool:
        """Whether the host still has the first version of control groups."""
        return self.host.cgroup_version == "v1"

    @property
    def controllers(self) -> frozenset[str]:
        """The cgroup controllers that this service may use."""
        return frozenset(self.host.cgroup_controllers or ())

    @property
    def mapped_ids(self) -> int:
        """How many uids and gids a container of this service can have; 0 without a mapping."""
        maps = self.host.id_mappings
        if maps is None:
            return 0
        return min(_size(maps.uidmap), _size(maps.gidmap))


def _size(maps: list[IdMap] | None) -> int:
    return sum(part.size for part in maps or ())


# --- lines of streams ----------------------------------------------------------------------------


class _Actor(msgspec.Struct, frozen=True, rename="pascal"):
    id: str = field(name="ID", default="")
    attributes: dict[str, str] = {}


class ContainerEvent(msgspec.Struct, frozen=True, rename="pascal"):
    """A line of `GET /events`: something happened to a container."""

    actor: _Actor
    action: str = ""

    @property
    def container_name(self) -> str:
        """The container's name, or nothing when the line is about something else."""
        return self.actor.attributes.get("name", "")


class PullLine(msgspec.Struct, frozen=True):
    """A line of `POST /images/pull`, whose status is 200 whatever happens."""

    stream: str = ""
    error: str = ""
    id: str = ""


class ErrorReply(msgspec.Struct, frozen=True):
    """The body of an error: `cause` is stable, `message` is for people."""

    cause: str = ""
    message: str = ""
