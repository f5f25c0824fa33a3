"""Podman's REST API (libpod), for exactly the calls that agentd makes."""

from .api import Podman, open_podman
from .messages import (
    Bind,
    Container,
    ContainerSpec,
    ContainerState,
    CpuLimit,
    Created,
    HealthConfig,
    Host,
    IdMap,
    IdMappings,
    Image,
    LogConfiguration,
    MemoryLimit,
    MountedSecret,
    Namespace,
    PidsLimit,
    ResourceLimits,
)

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
    "LogConfiguration",
    "MemoryLimit",
    "MountedSecret",
    "Namespace",
    "PidsLimit",
    "Podman",
    "ResourceLimits",
    "open_podman",
]
