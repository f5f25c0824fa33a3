"""Podman's REST API (libpod), for exactly the calls that agentd makes."""

from .api import Podman, open_podman
from .container_spec import (
    Bind,
    ContainerSpec,
    CpuLimit,
    HealthConfig,
    IdMap,
    IdMappings,
    LogConfiguration,
    MemoryLimit,
    MountedSecret,
    Namespace,
    PidsLimit,
    ResourceLimits,
)
from .messages import Container, ContainerState, Created, Host, Image, ListedContainer

__all__ = [
    "Bind",
    "Container",
    "ContainerSpec",
    "ContainerState",
    "CpuLimit",
    "Created",
    "HealthConfig",
    "Host",
    "IdMap",
    "IdMappings",
    "Image",
    "ListedContainer",
    "LogConfiguration",
    "MemoryLimit",
    "MountedSecret",
    "Namespace",
    "PidsLimit",
    "Podman",
    "ResourceLimits",
    "open_podman",
]
