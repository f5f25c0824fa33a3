"""What Podman is asked for when it makes a container, field by field as its REST API names them.

The body of `POST /containers/create`. Podman ignores what it does not know, and says so only of
limits. Every fact was seen on Podman 4.3.1 and 5.4.2 with the prefix `/v4.0.0/libpod`.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType, field


class Bind(msgspec.Struct, frozen=True, kw_only=True):
    """A bind mount. JSON strings need no quoting: commas, colons and newlines work in sources."""

    source: str
    destination: str
    options: tuple[str, ...]
    type: Literal["bind"] = "bind"


class MountedSecret(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """A secret as a file of the container's root alone: absent from inspect, unlike `secret_env`,
    whose values stand in the OCI bundle until the container is removed."""

    source: str
    target: str
    uid: int = field(name="UID", default=0)
    gid: int = field(name="GID", default=0)
    mode: int = 0o400


class Namespace(msgspec.Struct, frozen=True):
    """A namespace mode such as `host` or `private`."""

    nsmode: str


class IdMap(msgspec.Struct, frozen=True):
    """`size` ids from `container_id` are the service's own ids from `host_id`."""

    container_id: int
    host_id: int
    size: int


class IdMappings(msgspec.Struct, frozen=True, kw_only=True):
    """Explicit id maps. `keep-id` would mean the same, but two concurrent creates with it crash
    the whole service (libsubid is not safe for threads)."""

    uid_map: tuple[IdMap, ...] = field(name="UIDMap")
    gid_map: tuple[IdMap, ...] = field(name="GIDMap")
    host_uid_mapping: bool = field(name="HostUIDMapping", default=False)
    host_gid_mapping: bool = field(name="HostGIDMapping", default=False)


class MemoryLimit(msgspec.Struct, frozen=True):
    """Bytes. `swap` counts memory and swap together; left out it would be twice the limit."""

    limit: int
    swap: int


class CpuLimit(msgspec.Struct, frozen=True):
    """`quota` microseconds of processor time in each `period` microseconds."""

    quota: int
    period: int


class PidsLimit(msgspec.Struct, frozen=True):
    """Processes and threads; 0 would mean no limit."""

    limit: int


class ResourceLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits that the host must be able to enforce.

    Rootless on cgroup v1, Podman drops them and says so only in the reply's `Warnings`.
    """

    memory: MemoryLimit | UnsetType = UNSET
    cpu: CpuLimit | UnsetType = UNSET
    pids: PidsLimit | UnsetType = UNSET


class LogConfiguration(msgspec.Struct, frozen=True):
    """Where conmon records the output. `path` is a key of its own: as an option it is ignored."""

    driver: Literal["k8s-file"]
    path: str


class HealthConfig(msgspec.Struct, frozen=True, rename="pascal"):
    """`NONE` switches a health check of the image off."""

    test: tuple[str, ...] = ("NONE",)


class ContainerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The part of Podman's SpecGenerator that a session container needs."""

    name: str
    image: str
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    labels: dict[str, str]
    mounts: tuple[Bind, ...]
    secrets: tuple[MountedSecret, ...]
    cap_add: tuple[str, ...]
    no_new_privileges: bool
    init: bool
    stop_signal: int
    log_configuration: LogConfiguration
    cap_drop: tuple[str, ...] = ("ALL",)
    user: str = "0:0"
    netns: Namespace | UnsetType = UNSET
    networks: dict[str, dict[str, str]] | UnsetType = UNSET
    userns: Namespace | UnsetType = UNSET
    idmappings: IdMappings | UnsetType = UNSET
    resource_limits: ResourceLimits | UnsetType = UNSET
    timeout: int | UnsetType = UNSET
    """Seconds after which conmon kills the container, daemon or not; the exit code is then -1."""
    terminal: bool = False
    stdin: bool = False
    httpproxy: bool = False
    """Whether the service's own proxies are passed on."""
    env: dict[str, str] = {}
    systemd: str = "false"
    image_volume_mode: str = "ignore"
    """The default `anonymous` makes a volume per container, which a plain delete leaks."""
    healthconfig: HealthConfig = HealthConfig()
